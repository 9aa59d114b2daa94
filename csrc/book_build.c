/* The writing side of a book: a draft takes scripts in any order; building sorts them by hash,
 * which is the order of the lines, and lays them out in one sweep. Nothing here is for the hot
 * thread. */
#include "book.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define OWNER_MASK (HP_BOOK_OWNERS_MAX - 1)
#define FORM_SHIFT 30
#define RADIX_BITS 8
#define SMALL 32 /* entries that insertion sort is best for */
#define HUGE_PAGE_BYTES ((size_t)2 << 20)

typedef struct entry {
    uint32_t hash;
    uint32_t rest[4];
    uint32_t word; /* form << FORM_SHIFT | owner */
} entry;

typedef struct growing {
    void *data;
    size_t used;
    size_t room;
} growing;

struct hp_book_draft {
    entry *entries;
    uint64_t seed[2];
    uint32_t capacity;
    uint32_t count;
    uint32_t exchanges;
    uint32_t padding;
    hp_book_name_text *names;
    growing owners; /* hp_owner */
    growing labels; /* uint32_t: where each starts in text */
    growing text;
    growing arena;
};

/* ---- a draft --------------------------------------------------------------------------------- */

static int append(growing *g, const void *data, size_t bytes)
{
    if (g->used + bytes > g->room) {
        size_t room = 2 * g->room + bytes;
        void *larger = realloc(g->data, room);
        if (!larger)
            return -ENOMEM;
        g->data = larger;
        g->room = room;
    }
    memcpy((char *)g->data + g->used, data, bytes);
    g->used += bytes;
    return 0;
}

hp_book *hp_book_new(uint32_t capacity, const uint8_t seed[16])
{
    static const hp_book_line empty;
    if (capacity == 0 || capacity > HP_BOOK_ENTRIES_MAX)
        return NULL;
    hp_book *book = calloc(1, sizeof *book);
    hp_book_draft *draft = calloc(1, sizeof *draft);
    if (!book || !draft) {
        free(book);
        free(draft);
        return NULL;
    }
    book->draft = draft;
    book->lines = &empty; /* a draft knows nobody yet */
    book->home_lines = 1;
    draft->capacity = capacity;
    memcpy(draft->seed, seed, sizeof draft->seed);
    hp_book_key_init(&book->key, draft->seed);
    draft->entries = malloc(capacity * sizeof *draft->entries);
    draft->names = calloc(HP_EXCHANGES_MAX, sizeof *draft->names);
    if (!draft->entries || !draft->names || hp_book_label(book, "") != 0) {
        hp_book_free(book);
        return NULL;
    }
    return book;
}

void hp_book_draft_free(hp_book_draft *draft)
{
    if (!draft)
        return;
    free(draft->entries);
    free(draft->names);
    free(draft->owners.data);
    free(draft->labels.data);
    free(draft->text.data);
    free(draft->arena.data);
    free(draft);
}

const char *hp_book_draft_name(const hp_book_draft *draft, uint32_t exchange)
{
    return exchange < draft->exchanges ? draft->names[exchange] : "";
}

uint32_t hp_book_draft_count(const hp_book_draft *draft)
{
    return draft->count;
}

int hp_book_exchange(hp_book *book, const char *name)
{
    hp_book_draft *draft = book->draft;
    size_t len = strlen(name);
    if (!draft || len == 0 || len > HP_EXCHANGE_NAME_MAX)
        return -HP_ECONFIG;
    for (uint32_t i = 0; i < draft->exchanges; i++)
        if (!strcmp(draft->names[i], name))
            return (int)i;
    if (draft->exchanges == HP_EXCHANGES_MAX)
        return -HP_EBOOK_FULL;
    memcpy(draft->names[draft->exchanges], name, len + 1);
    return (int)draft->exchanges++;
}

int hp_book_label(hp_book *book, const char *label)
{
    hp_book_draft *draft = book->draft;
    size_t len = strlen(label);
    if (!draft || len > HP_LABEL_MAX)
        return -HP_ECONFIG;
    if (draft->text.used + len >= UINT32_MAX)
        return -HP_EBOOK_FULL;
    uint32_t at = (uint32_t)draft->text.used;
    if (append(&draft->text, label, len + 1) < 0 || append(&draft->labels, &at, sizeof at) < 0)
        return -ENOMEM;
    return (int)(draft->labels.used / sizeof at) - 1;
}

int hp_book_owner(hp_book *book, const hp_owner *owner)
{
    hp_book_draft *draft = book->draft;
    if (!draft || owner->exchange >= draft->exchanges || owner->kind > HP_WALLET_LEARNED ||
        owner->label >= draft->labels.used / sizeof(uint32_t))
        return -HP_ECONFIG;
    if (draft->owners.used / sizeof *owner == HP_BOOK_OWNERS_MAX)
        return -HP_EBOOK_FULL;
    hp_owner clean = *owner;
    clean.pad = 0;
    int rc = append(&draft->owners, &clean, sizeof clean);
    return rc < 0 ? rc : (int)(draft->owners.used / sizeof clean) - 1;
}

/* A script without a 20-byte program goes to the arena whole, behind its length. */
static int keep_script(hp_book_draft *draft, const uint8_t *script, size_t len, uint64_t *at)
{
    uint8_t bytes = (uint8_t)len;
    *at = draft->arena.used;
    int rc = append(&draft->arena, &bytes, 1);
    return rc < 0 ? rc : append(&draft->arena, script, len);
}

int hp_book_add(hp_book *book, const uint8_t *script, size_t len, uint32_t owner)
{
    hp_book_draft *draft = book->draft;
    hp_book_place place;
    if (!draft || owner >= draft->owners.used / sizeof(hp_owner))
        return -HP_ECONFIG;
    if (!hp_book_place_of(&book->key, script, len, &place))
        return -HP_EBOOK_SCRIPT;
    if (draft->count == draft->capacity)
        return -HP_EBOOK_FULL;
    if (place.form == HP_BOOK_OTHER) {
        int rc = keep_script(draft, script, len, &place.rest[1]);
        if (rc < 0)
            return rc;
    }
    draft->entries[draft->count++] = (entry){
        place.hash,
        {(uint32_t)place.rest[0], (uint32_t)(place.rest[0] >> 32), (uint32_t)place.rest[1],
         (uint32_t)(place.rest[1] >> 32)},
        place.form << FORM_SHIFT | owner,
    };
    return 0;
}

/* ---- sorting --------------------------------------------------------------------------------- */

/* Equal scripts come to lie side by side, the first registered owner first. */
static int compare(const void *left, const void *right)
{
    const uint32_t *a = left;
    const uint32_t *b = right;
    for (size_t i = 0; i < sizeof(entry) / sizeof *a; i++)
        if (a[i] != b[i])
            return a[i] < b[i] ? -1 : 1;
    return 0;
}

static void insertion_sort(entry *e, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        entry moving = e[i];
        size_t j = i;
        for (; j > 0 && compare(&e[j - 1], &moving) > 0; j--)
            e[j] = e[j - 1];
        e[j] = moving;
    }
}

/* In place, by the hash's bytes from the highest (McIlroy, Bostic, McIlroy, "Engineering Radix
 * Sort"). */
static void sort(entry *e, size_t n, int shift)
{
    if (n <= SMALL) {
        insertion_sort(e, n);
        return;
    }
    if (shift < 0) { /* one script many times over */
        qsort(e, n, sizeof *e, compare);
        return;
    }
    size_t next[1 << RADIX_BITS] = {0};
    size_t end[1 << RADIX_BITS];
    for (size_t i = 0; i < n; i++)
        next[e[i].hash >> shift & 0xff]++;
    size_t total = 0;
    for (int b = 0; b < 1 << RADIX_BITS; b++) {
        size_t count = next[b];
        next[b] = total;
        total += count;
        end[b] = total;
    }
    for (int b = 0; b < 1 << RADIX_BITS; b++) {
        while (next[b] < end[b]) {
            entry moving = e[next[b]];
            uint32_t home;
            while ((home = moving.hash >> shift & 0xff) != (uint32_t)b) {
                entry other = e[next[home]];
                e[next[home]++] = moving;
                moving = other;
            }
            e[next[b]++] = moving;
        }
    }
    size_t start = 0;
    for (int b = 0; b < 1 << RADIX_BITS; b++) {
        sort(e + start, end[b] - start, shift - RADIX_BITS);
        start = end[b];
    }
}

static int is_same(const hp_book_draft *draft, const entry *a, const entry *b)
{
    if (a->hash != b->hash || a->word >> FORM_SHIFT != b->word >> FORM_SHIFT ||
        a->rest[0] != b->rest[0] || a->rest[1] != b->rest[1])
        return 0;
    if (a->word >> FORM_SHIFT != HP_BOOK_OTHER)
        return a->rest[2] == b->rest[2] && a->rest[3] == b->rest[3];
    const uint8_t *one = draft->arena.data;
    const uint8_t *two = one + (b->rest[2] | (uint64_t)b->rest[3] << 32);
    one += a->rest[2] | (uint64_t)a->rest[3] << 32;
    return *one == *two && !memcmp(one, two, 1 + (size_t)*one);
}

/* Of the same script several times the first stays. */
static int drop_repeated(hp_book_draft *draft)
{
    const hp_owner *owners = draft->owners.data;
    entry *e = draft->entries;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < draft->count; i++) {
        if (kept && is_same(draft, &e[kept - 1], &e[i])) {
            if (owners[e[kept - 1].word & OWNER_MASK].exchange !=
                owners[e[i].word & OWNER_MASK].exchange)
                return -HP_EBOOK_CONFLICT;
            continue;
        }
        e[kept++] = e[i];
    }
    draft->count = kept;
    return 0;
}

/* ---- laying out ------------------------------------------------------------------------------ */

/* The entries from `i` on that share its line. */
static uint32_t run_length(const hp_book_draft *draft, uint32_t home_lines, uint32_t i)
{
    uint32_t home = hp_book_home(home_lines, draft->entries[i].hash);
    uint32_t n = 1;
    while (i + n < draft->count &&
           hp_book_home(home_lines, draft->entries[i + n].hash) == home)
        n++;
    return n;
}

static uint32_t lines_for(uint32_t records)
{
    uint32_t lines = 1;
    for (; records > HP_BOOK_LINE_PRINTS; records -= HP_BOOK_LINE_LINKED)
        lines++;
    return lines;
}

static int count_lines(const hp_book_draft *draft, hp_book_header *h)
{
    uint32_t owners = (uint32_t)(draft->owners.used / sizeof(hp_owner));
    h->home_lines = draft->count / HP_BOOK_LINE_LOAD + 1;
    while (owners > 1u << hp_book_owner_bits(h->home_lines))
        h->home_lines *= 2;
    h->lines = h->home_lines;
    for (uint32_t i = 0; i < draft->count;) {
        uint32_t n = run_length(draft, h->home_lines, i);
        uint32_t lines = lines_for(n);
        if (lines > HP_BOOK_CHAIN_MAX)
            return -HP_EBOOK_CROWDED;
        h->lines += lines - 1;
        i += n;
    }
    return 0;
}

static void write_records(const hp_book_draft *draft, uint32_t owner_bits, hp_book_record *records)
{
    for (uint32_t i = 0; i < draft->count; i++) {
        const entry *e = &draft->entries[i];
        memcpy(records[i].rest, e->rest, sizeof e->rest);
        records[i].word = hp_book_tag(owner_bits, e->word >> FORM_SHIFT, e->hash) << owner_bits |
                          (e->word & OWNER_MASK);
    }
}

/* The fingerprints of entries [i, i + n), which share the line `at`; further lines come from
 * *spare. */
static void write_chain(const hp_book_draft *draft, hp_book_line *lines, uint32_t at, uint32_t i,
                        uint32_t n, uint32_t *spare)
{
    while (n) {
        hp_book_line *line = &lines[at];
        int linked = n > HP_BOOK_LINE_PRINTS;
        uint32_t here = linked ? HP_BOOK_LINE_LINKED : n;
        line->head = i << 5 | (linked ? HP_BOOK_LINE_PRINTS + 1 : here);
        for (uint32_t k = 0; k < here; k++)
            line->prints[k] = (uint16_t)draft->entries[i + k].hash;
        if (linked) {
            at = (*spare)++;
            line->prints[HP_BOOK_LINE_LINKED] = (uint16_t)at;
            line->prints[HP_BOOK_LINE_LINKED + 1] = (uint16_t)(at >> 16);
        }
        i += here;
        n -= here;
    }
}

static void copy(char *to, const growing *from)
{
    if (from->used)
        memcpy(to, from->data, from->used);
}

static void write_parts(const hp_book_draft *draft, const hp_book_header *h, char *base)
{
    hp_book_layout at = hp_book_layout_of(h);
    hp_book_line *lines = (void *)(base + at.lines_at);
    memcpy(base, h, sizeof *h);
    memcpy(base + at.names_at, draft->names, draft->exchanges * sizeof *draft->names);
    write_records(draft, hp_book_owner_bits(h->home_lines), (void *)(base + at.records_at));
    uint32_t spare = h->home_lines;
    for (uint32_t i = 0; i < draft->count;) {
        uint32_t n = run_length(draft, h->home_lines, i);
        uint32_t home = hp_book_home(h->home_lines, draft->entries[i].hash);
        write_chain(draft, lines, home, i, n, &spare);
        i += n;
    }
    copy(base + at.owners_at, &draft->owners);
    copy(base + at.labels_at, &draft->labels);
    copy(base + at.text_at, &draft->text);
    copy(base + at.arena_at, &draft->arena);
}

/* Zeroed pages; large ones where the kernel has them, which saves a TLB miss a lookup. */
void *hp_book_map_pages(size_t bytes)
{
    size_t align = bytes >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : 0;
    char *p = mmap(NULL, bytes + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    if (!align)
        return p;
    size_t before = (size_t)(-(uintptr_t)p & (align - 1));
    size_t behind = align - before;
    size_t kept = (bytes + 4095) & ~(size_t)4095;
    if (before)
        munmap(p, before);
    if (behind > kept - bytes)
        munmap(p + before + kept, align + bytes - before - kept);
    madvise(p + before, bytes, MADV_HUGEPAGE);
    return p + before;
}

int hp_book_build(hp_book *book)
{
    hp_book_draft *draft = book->draft;
    if (!draft)
        return -HP_ECONFIG;
    sort(draft->entries, draft->count, 32 - RADIX_BITS);
    hp_book_header h = {
        .magic = HP_BOOK_MAGIC,
        .seed = {draft->seed[0], draft->seed[1]},
        .arena_bytes = draft->arena.used,
        .label_bytes = draft->text.used,
        .owners = (uint32_t)(draft->owners.used / sizeof(hp_owner)),
        .exchanges = draft->exchanges,
        .labels = (uint32_t)(draft->labels.used / sizeof(uint32_t)),
    };
    int rc;
    if ((rc = drop_repeated(draft)) < 0 || (rc = count_lines(draft, &h)) < 0)
        return rc;
    h.records = draft->count;
    size_t bytes = hp_book_layout_of(&h).size;
    char *base = hp_book_map_pages(bytes);
    if (!base)
        return -ENOMEM;
    write_parts(draft, &h, base);
    hp_book_draft_free(draft);
    book->draft = NULL;
    hp_book_bind(book, base, &h, bytes);
    return 0;
}
