/* scriptPubKey -> owner: the reading side. book.h has the plan. */
#include "book.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define SCRIPT_MIN 4 /* witness v1-16 with a 2-byte program, BIP-141 */
#define LINKED 31u
#define FILTER_SCRIPT_MIN 22u      /* shorter ones, all of them rare, pass the filter */
#define FILTER_RECORD_BITS 64u     /* while they fit: 1.6 % of misses pass */
#define FILTER_LOG_BITS_MIN 12u

/* ---- hashing --------------------------------------------------------------------------------- */

static uint64_t draw(hp_siphash_key sip, uint8_t number)
{
    return hp_siphash13(sip, &number, 1);
}

static hp_u128 draw_wide(hp_siphash_key sip, uint8_t number)
{
    return (hp_u128)draw(sip, number) << 64 | draw(sip, (uint8_t)(number + 1));
}

void hp_book_key_init(hp_book_key *key, const uint64_t seed[2])
{
    hp_siphash_key sip = {seed[0], seed[1]};
    uint8_t number = 0;
    key->spread = draw(sip, number++) | 1;
    for (size_t i = 0; i < sizeof key->offset / sizeof key->offset[0]; i++, number += 2)
        key->offset[i] = draw_wide(sip, number);
    for (size_t i = 0; i < sizeof key->factor / sizeof key->factor[0]; i++, number += 2)
        key->factor[i] = draw_wide(sip, number);
    key->filter = draw(sip, number) | 1;
}

static inline uint32_t form_of(const uint8_t *s, size_t len)
{
    if (len == 22 && hp_le16(s) == 0x1400)
        return HP_BOOK_P2WPKH;
    if (len == 25 && (hp_le32(s) & 0xffffff) == 0x14a976 && hp_le16(s + 23) == 0xac88)
        return HP_BOOK_P2PKH;
    if (len == 23 && hp_le16(s) == 0x14a9 && s[22] == 0x87)
        return HP_BOOK_P2SH;
    return HP_BOOK_OTHER;
}

/* Two Feistel rounds. The first only has to make `rest` differ where the 4 bytes do; in the second
 * the hashes of any two different `rest` are uniform and independent (vector multiply-shift:
 * Thorup, "High Speed Hashing for Integers and Strings", 3), whatever a stranger sends who sees no
 * hash. */
static inline hp_book_place place_program(const hp_book_key *key, uint32_t form, const uint8_t *s)
{
    const uint8_t *program = s + (form == HP_BOOK_P2PKH ? 3 : 2);
    uint32_t word = hp_le32(program);
    uint64_t r0 = hp_le64(program + 4) ^ word * key->spread;
    uint64_t r1 = hp_le64(program + 12);
    hp_u128 sum = key->factor[0] * r0 + key->factor[1] * r1 + key->offset[form];
    return (hp_book_place){{r0, r1}, word ^ (uint32_t)(sum >> 96), form};
}

/* A witness program that is not P2WPKH (BIP-141). */
static inline int is_other(const uint8_t *s, size_t len)
{
    if (len < SCRIPT_MIN || len > HP_SCRIPT_MAX || s[1] + 2u != len)
        return 0;
    return s[0] == 0 ? len == 34 : s[0] >= 0x51 && s[0] <= 0x60;
}

static inline hp_book_place place_other(const hp_book_key *key, const uint8_t *s, size_t len)
{
    hp_u128 sum = key->offset[HP_BOOK_OTHER];
    if (len == 34) { /* P2WSH, P2TR */
        for (size_t i = 0; i < 4; i++)
            sum += key->factor[i] * hp_le64(s + 8 * i);
        sum += key->factor[4] * hp_le16(s + 32);
    } else {
        uint8_t padded[8 * HP_BOOK_SCRIPT_WORDS] = {0};
        memcpy(padded, s, len);
        for (size_t i = 0; i < HP_BOOK_SCRIPT_WORDS; i++)
            sum += key->factor[i] * hp_le64(padded + 8 * i);
    }
    return (hp_book_place){{(uint64_t)(sum >> 64), 0}, (uint32_t)(sum >> 96), HP_BOOK_OTHER};
}

int hp_book_place_of(const hp_book_key *key, const uint8_t *script, size_t len,
                     hp_book_place *place)
{
    uint32_t form = form_of(script, len);
    if (form == HP_BOOK_OTHER && !is_other(script, len))
        return 0;
    *place = form == HP_BOOK_OTHER ? place_other(key, script, len)
                                   : place_program(key, form, script);
    return 1;
}

/* ---- looking up ------------------------------------------------------------------------------ */

/* Bit i: the line's i-th fingerprint is this one. */
static inline uint32_t match(const hp_book_line *line, uint16_t print)
{
#if defined(__SSE2__)
    const __m128i *v = (const __m128i *)line;
    __m128i wanted = _mm_set1_epi16((short)print);
    __m128i low = _mm_packs_epi16(_mm_cmpeq_epi16(_mm_load_si128(v), wanted),
                                  _mm_cmpeq_epi16(_mm_load_si128(v + 1), wanted));
    __m128i high = _mm_packs_epi16(_mm_cmpeq_epi16(_mm_load_si128(v + 2), wanted),
                                   _mm_cmpeq_epi16(_mm_load_si128(v + 3), wanted));
    uint32_t equal = (uint32_t)_mm_movemask_epi8(low) | (uint32_t)_mm_movemask_epi8(high) << 16;
    return equal >> 2; /* the head takes two places */
#else
    uint32_t equal = 0;
    for (uint32_t i = 0; i < HP_BOOK_LINE_PRINTS; i++)
        equal |= (uint32_t)(line->prints[i] == print) << i;
    return equal;
#endif
}

static inline uint64_t upper_rest(const hp_book_record *r)
{
    return r->rest[2] | (uint64_t)r->rest[3] << 32;
}

static int same_script(const hp_book *book, const hp_book_record *r, const uint8_t *script,
                       size_t len)
{
    uint64_t at = upper_rest(r);
    uint64_t bytes = book->header.arena_bytes;
    return len < bytes && at <= bytes - len - 1 && book->arena[at] == len &&
           !memcmp(book->arena + at + 1, script, len);
}

static int is_record(const hp_book *book, const hp_book_record *r, const hp_book_place *place,
                     const uint8_t *script, size_t len)
{
    if (r->word >> book->owner_bits != hp_book_tag(book->owner_bits, place->form, place->hash) ||
        (r->rest[0] | (uint64_t)r->rest[1] << 32) != place->rest[0])
        return 0;
    if (place->form == HP_BOOK_OTHER)
        return same_script(book, r, script, len);
    return upper_rest(r) == place->rest[1];
}

/* Which record of the line is the script's, or HP_BOOK_NONE. A file may say anything: nothing read
 * from it is used as an index unchecked. */
static uint32_t among(const hp_book *book, uint32_t matches, uint32_t first,
                      const hp_book_place *place, const uint8_t *script, size_t len)
{
    for (; matches; matches &= matches - 1) {
        uint32_t i = first + (uint32_t)__builtin_ctz(matches);
        if (i < book->header.records && is_record(book, &book->records[i], place, script, len))
            return i;
    }
    return HP_BOOK_NONE;
}

static uint32_t search(const hp_book *book, const hp_book_place *place, const uint8_t *script,
                       size_t len)
{
    uint32_t at = hp_book_home(book->home_lines, place->hash);
    for (uint32_t steps = 0; steps < HP_BOOK_CHAIN_MAX && at < book->header.lines; steps++) {
        const hp_book_line *line = &book->lines[at];
        uint32_t n = line->head & 31;
        uint32_t here = n == LINKED ? HP_BOOK_LINE_LINKED : n;
        uint32_t matches = match(line, (uint16_t)place->hash) & ((1u << here) - 1);
        uint32_t found = among(book, matches, line->head >> 5, place, script, len);
        if (found != HP_BOOK_NONE || n != LINKED)
            return found;
        at = line->prints[HP_BOOK_LINE_LINKED] |
             (uint32_t)line->prints[HP_BOOK_LINE_LINKED + 1] << 16;
    }
    return HP_BOOK_NONE;
}

int hp_book_lookup(const hp_book *book, const uint8_t *script, size_t len, hp_owner *owner)
{
    hp_book_place place;
    if (!hp_book_place_of(&book->key, script, len, &place))
        return 0;
    uint32_t i = search(book, &place, script, len);
    if (i == HP_BOOK_NONE)
        return 0;
    uint32_t number = book->records[i].word & ((1u << book->owner_bits) - 1);
    if (number >= book->header.owners)
        return 0;
    *owner = book->owners[number];
    return owner->exchange < book->header.exchanges;
}

/* Apart from the others and last in a function, so that a miss saves no registers. */
static __attribute__((noinline)) uint32_t exchange_of(const hp_book *book, const uint8_t *script,
                                                      size_t len)
{
    hp_owner owner;
    return hp_book_lookup(book, script, len, &owner) ? owner.exchange : HP_NOBODY;
}

/* What one line says: a miss, or that it takes a closer look. */
static inline int is_missing(const hp_book *book, uint32_t hash)
{
    const hp_book_line *line = &book->lines[hp_book_home(book->home_lines, hash)];
    uint32_t n = line->head & 31;
    return n != LINKED && !(match(line, (uint16_t)hash) & ((1u << n) - 1));
}

static __attribute__((noinline)) uint32_t find_other(const hp_book *book, const uint8_t *script,
                                                     size_t len)
{
    if (!is_other(script, len) || is_missing(book, place_other(&book->key, script, len).hash))
        return HP_NOBODY;
    return exchange_of(book, script, len);
}

static __attribute__((noinline)) uint32_t find_in_lines(const hp_book *book,
                                                        const uint8_t *script, size_t len)
{
    uint32_t form = form_of(script, len);
    if (form == HP_BOOK_OTHER)
        return find_other(book, script, len);
    if (is_missing(book, place_program(&book->key, form, script).hash))
        return HP_NOBODY;
    return exchange_of(book, script, len);
}

/* ---- the filter ------------------------------------------------------------------------------ */

/* Of a P2PKH, P2SH or P2WPKH script the last 8 bytes of the program, which a record has as they
 * are; of any other as long 8 bytes that are as good. */
static inline uint64_t tail_of(const uint8_t *script, size_t len)
{
    return hp_le64(script + 14 + (len == 25));
}

static inline uint32_t filter_bit(const hp_book *book, uint64_t tail)
{
    return (uint32_t)(tail * book->key.filter >> book->filter_shift);
}

/* A file may say anything: a record whose script is not in the arena is nobody's. */
static void filter_record(hp_book *book, const hp_book_record *r)
{
    uint64_t tail = upper_rest(r);
    if (r->word >> 30 == HP_BOOK_OTHER) {
        uint64_t bytes = book->header.arena_bytes;
        if (tail >= bytes)
            return;
        size_t len = book->arena[tail];
        if (len < FILTER_SCRIPT_MIN || len > bytes - tail - 1)
            return;
        tail = tail_of(book->arena + tail + 1, len);
    }
    uint32_t bit = filter_bit(book, tail);
    book->filter[bit / 64] |= UINT64_C(1) << bit % 64;
}

static void fill_filter(hp_book *book)
{
    uint32_t records = book->header.records;
    if (records > HP_BOOK_FILTERED_MAX)
        return;
    uint32_t log_bits = FILTER_LOG_BITS_MIN;
    while (log_bits < HP_BOOK_FILTER_LOG_BITS_MAX && 1u << log_bits < records * FILTER_RECORD_BITS)
        log_bits++;
    book->filter_shift = 64 - log_bits;
    for (uint32_t i = 0; i < records; i++)
        filter_record(book, &book->records[i]);
}

uint32_t hp_book_find(const hp_book *book, const uint8_t *script, size_t len)
{
    if (book->filter_shift && len >= FILTER_SCRIPT_MIN) {
        uint32_t bit = filter_bit(book, tail_of(script, len));
        if (!(book->filter[bit / 64] >> bit % 64 & 1))
            return HP_NOBODY;
    }
    return find_in_lines(book, script, len);
}

/* ---- the rest -------------------------------------------------------------------------------- */

uint32_t hp_book_owner_bits(uint32_t home_lines)
{
    uint32_t known = 31 - (uint32_t)__builtin_clz(home_lines);
    return known > 16 ? 30 : 14 + known;
}

static size_t after(size_t at, uint64_t count, size_t each)
{
    return (at + (size_t)count * each + 63) & ~(size_t)63;
}

hp_book_layout hp_book_layout_of(const hp_book_header *h)
{
    hp_book_layout l;
    l.lines_at = sizeof *h;
    l.names_at = after(l.lines_at, h->lines, sizeof(hp_book_line));
    l.records_at = after(l.names_at, h->exchanges, sizeof(hp_book_name_text));
    l.owners_at = after(l.records_at, h->records, sizeof(hp_book_record));
    l.labels_at = after(l.owners_at, h->owners, sizeof(hp_owner));
    l.text_at = after(l.labels_at, h->labels, sizeof(uint32_t));
    l.arena_at = after(l.text_at, h->label_bytes, 1);
    l.size = after(l.arena_at, h->arena_bytes, 1);
    return l;
}

void hp_book_bind(hp_book *book, const void *map, const hp_book_header *header,
                  size_t mapped_bytes)
{
    const char *base = map;
    hp_book_layout at = hp_book_layout_of(header);
    book->lines = (const void *)(base + at.lines_at);
    book->names = (const void *)(base + at.names_at);
    book->records = (const void *)(base + at.records_at);
    book->owners = (const void *)(base + at.owners_at);
    book->labels = (const void *)(base + at.labels_at);
    book->text = base + at.text_at;
    book->arena = (const uint8_t *)base + at.arena_at;
    book->home_lines = header->home_lines;
    book->owner_bits = hp_book_owner_bits(header->home_lines);
    hp_book_key_init(&book->key, header->seed);
    book->header = *header;
    book->map = map;
    book->mapped_bytes = mapped_bytes;
    fill_filter(book);
}

void hp_book_free(hp_book *book)
{
    if (!book)
        return;
    hp_book_draft_free(book->draft);
    if (book->map)
        munmap((void *)(uintptr_t)book->map, book->mapped_bytes);
    free(book);
}

const char *hp_book_name(const hp_book *book, uint32_t exchange)
{
    if (book->draft)
        return hp_book_draft_name(book->draft, exchange);
    return exchange < book->header.exchanges ? book->names[exchange] : "";
}

const char *hp_book_label_text(const hp_book *book, uint32_t label)
{
    if (book->draft || label >= book->header.labels ||
        book->labels[label] >= book->header.label_bytes)
        return "";
    return book->text + book->labels[label];
}

uint32_t hp_book_count(const hp_book *book)
{
    return book->draft ? hp_book_draft_count(book->draft) : book->header.records;
}

uint64_t hp_book_bytes(const hp_book *book, uint64_t *index_bytes)
{
    *index_bytes = book->draft ? 0 : (uint64_t)book->header.lines * sizeof(hp_book_line);
    return book->draft ? 0 : book->mapped_bytes;
}
