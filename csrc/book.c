/* scriptPubKey -> exchange: open addressing with linear probes over 16-byte slots, four to a cache
 * line, at most half full. A slot whose 64-bit hash agrees is compared byte for byte, so a match is
 * exact. Scripts lie back to back in one arena. */
#include "harpoon.h"
#include "siphash.h"

#include <stdlib.h>
#include <string.h>

#define SCRIPT_MIN 4 /* witness v1-16 with a 2-byte program, BIP-141 */
#define CAPACITY_MAX (1u << 26)

_Static_assert((uint64_t)CAPACITY_MAX * HP_SCRIPT_MAX <= UINT32_MAX, "arena offsets are 32 bits");

typedef struct slot {
    uint64_t hash;
    uint32_t script_at; /* in the arena */
    uint16_t exchange;
    uint16_t script_len; /* 0: the slot is free */
} slot;

_Static_assert(sizeof(slot) == 16, "four slots to a cache line");

struct hp_book {
    slot *slots;
    uint8_t *arena;
    char (*names)[HP_EXCHANGE_NAME_MAX + 1];
    hp_siphash_key key;
    uint32_t mask; /* slots - 1 */
    uint32_t capacity;
    uint32_t count;
    uint32_t arena_used;
    uint32_t exchanges;
};

hp_book *hp_book_new(uint32_t capacity, const uint8_t seed[16])
{
    if (capacity == 0 || capacity > CAPACITY_MAX)
        return NULL;
    uint32_t slots = 8;
    while (slots < 2 * capacity)
        slots *= 2;
    hp_book *book = calloc(1, sizeof *book);
    if (!book)
        return NULL;
    book->slots = aligned_alloc(64, slots * sizeof *book->slots);
    book->arena = malloc((size_t)capacity * HP_SCRIPT_MAX);
    book->names = calloc(HP_EXCHANGES_MAX, sizeof *book->names);
    if (!book->slots || !book->arena || !book->names) {
        hp_book_free(book);
        return NULL;
    }
    memset(book->slots, 0, slots * sizeof *book->slots);
    book->key = (hp_siphash_key){hp_le64(seed), hp_le64(seed + 8)};
    book->mask = slots - 1;
    book->capacity = capacity;
    return book;
}

void hp_book_free(hp_book *book)
{
    if (!book)
        return;
    free(book->slots);
    free(book->arena);
    free(book->names);
    free(book);
}

int hp_book_exchange(hp_book *book, const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len > HP_EXCHANGE_NAME_MAX)
        return -HP_ECONFIG;
    for (uint32_t i = 0; i < book->exchanges; i++)
        if (!strcmp(book->names[i], name))
            return (int)i;
    if (book->exchanges == HP_EXCHANGES_MAX)
        return -HP_EBOOK_FULL;
    memcpy(book->names[book->exchanges], name, len + 1);
    return (int)book->exchanges++;
}

const char *hp_book_name(const hp_book *book, uint32_t exchange)
{
    return exchange < book->exchanges ? book->names[exchange] : "";
}

/* A script that an address stands for: P2PKH, P2SH, or a witness program (BIP-141). */
static int has_address(const uint8_t *s, size_t len)
{
    if (len == 25 && s[0] == 0x76)
        return s[1] == 0xa9 && s[2] == 20 && s[23] == 0x88 && s[24] == 0xac;
    if (len == 23 && s[0] == 0xa9)
        return s[1] == 20 && s[22] == 0x87;
    if (len < SCRIPT_MIN || len > HP_SCRIPT_MAX || s[1] + 2u != len)
        return 0;
    return (s[0] == 0 && (len == 22 || len == 34)) || (s[0] >= 0x51 && s[0] <= 0x60);
}

/* The slot that holds the script, or the free one where it would go. */
static slot *probe(const hp_book *book, uint64_t hash, const uint8_t *script, size_t len)
{
    for (uint32_t i = (uint32_t)hash & book->mask;; i = (i + 1) & book->mask) {
        slot *s = &book->slots[i];
        if (s->script_len == 0)
            return s;
        if (s->hash == hash && s->script_len == len &&
            !memcmp(book->arena + s->script_at, script, len))
            return s;
    }
}

int hp_book_add(hp_book *book, const uint8_t *script, size_t len, uint32_t exchange)
{
    if (exchange >= book->exchanges)
        return -HP_ECONFIG;
    if (!has_address(script, len))
        return -HP_EBOOK_SCRIPT;
    uint64_t hash = hp_siphash13(book->key, script, len);
    slot *s = probe(book, hash, script, len);
    if (s->script_len)
        return s->exchange == exchange ? 0 : -HP_EBOOK_CONFLICT;
    if (book->count == book->capacity)
        return -HP_EBOOK_FULL;
    *s = (slot){hash, book->arena_used, (uint16_t)exchange, (uint16_t)len};
    memcpy(book->arena + book->arena_used, script, len);
    book->arena_used += (uint32_t)len;
    book->count++;
    return 1;
}

uint32_t hp_book_find(const hp_book *book, const uint8_t *script, size_t len)
{
    if (len < SCRIPT_MIN || len > HP_SCRIPT_MAX)
        return HP_NOBODY;
    const slot *s = probe(book, hp_siphash13(book->key, script, len), script, len);
    return s->script_len ? s->exchange : HP_NOBODY;
}

uint32_t hp_book_count(const hp_book *book)
{
    return book->count;
}
