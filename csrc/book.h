/* What a finished book is made of; book_build.c writes it, book_file.c maps it, book.c reads it.
 *
 * A script becomes a 32-bit hash, two 64-bit words `rest` and a form. The upper part of the hash
 * chooses a 64-byte line, its lower 16 bits are the fingerprint kept there. A line holds the
 * fingerprints of its records and where these start, so a miss reads one line and nothing else.
 * For a 20-byte program (hash, rest) is a keyed permutation of the program's bytes: line and
 * fingerprint stand for 4 of the 20 bytes, and an equal record means an equal script.
 *
 * The hashes are pairwise independent: how likely two scripts meet is bounded, how full the fullest
 * line gets is not. Of 20,000 programs that only count up one seed in some two thousand crowds a
 * line: build with another seed then.
 *
 * In front of a small book is a bitmap over the last 8 bytes of the program, made when the book is
 * bound and in no file: a bit that is clear is a miss, one that is set leads to the lines. Who
 * copies those bytes from a known address reaches the lines, and gains nothing by it. */
#ifndef HP_BOOK_H
#define HP_BOOK_H

#include "harpoon.h"
#include "siphash.h"

#define HP_BOOK_LINE_PRINTS 30u
#define HP_BOOK_LINE_LINKED 28u /* with two of the places taken by a link */
#define HP_BOOK_LINE_LOAD 20u   /* records a line is laid out for: one in 75 then needs a second */
#define HP_BOOK_CHAIN_MAX 8u    /* lines that one hash may lead through */
#define HP_BOOK_RECORDS_MAX (1u << 27)
#define HP_BOOK_OWNERS_MAX (1u << 24)
#define HP_BOOK_SCRIPT_WORDS 6u /* 64-bit words of the longest script */
#define HP_BOOK_FILTER_LOG_BITS_MAX 18u /* 32 KiB: more would not stay in the L1 cache */
#define HP_BOOK_FILTERED_MAX ((1u << HP_BOOK_FILTER_LOG_BITS_MAX) / 16) /* records */
#define HP_BOOK_NONE UINT32_MAX
#define HP_BOOK_MAGIC UINT64_C(0x316b6f6f62706168) /* "hapbook1" on a little-endian CPU */

_Static_assert(HP_BOOK_ENTRIES_MAX <= HP_BOOK_RECORDS_MAX, "a line's start has 27 bits");

__extension__ typedef unsigned __int128 hp_u128;

typedef struct hp_book_line {
    _Alignas(64) uint32_t head; /* first record << 5 | records here; 31 records: 28 and a link */
    uint16_t prints[HP_BOOK_LINE_PRINTS];
} hp_book_line;

typedef struct hp_book_record {
    uint32_t rest[4];
    uint32_t word; /* form (2 bits), what the line leaves of the hash (0-16 bits), owner */
} hp_book_record;

typedef struct hp_book_header { /* of a file too: fixed widths, native byte order */
    uint64_t magic;
    uint64_t seed[2];
    uint64_t body_sum;
    uint64_t arena_bytes; /* scripts without a 20-byte program, whole */
    uint64_t label_bytes;
    uint32_t home_lines; /* the ones a hash chooses among */
    uint32_t lines;      /* these and the ones linked to */
    uint32_t records;
    uint32_t owners;
    uint32_t exchanges;
    uint32_t labels;
    uint8_t unused[48];
    uint64_t header_sum; /* of the bytes before */
} hp_book_header;

_Static_assert(8 * HP_BOOK_SCRIPT_WORDS >= HP_SCRIPT_MAX, "every byte of a script is hashed");
_Static_assert(sizeof(size_t) >= 8, "a book may be larger than 4 GiB");
_Static_assert(sizeof(hp_book_line) == 64, "a cache line");
_Static_assert(sizeof(hp_book_record) == 20, "packed without holes");
_Static_assert(sizeof(hp_owner) == 16, "part of the file format");
_Static_assert(sizeof(hp_book_header) == 128, "lines stay aligned behind it");

typedef char hp_book_name_text[HP_EXCHANGE_NAME_MAX + 1];

typedef struct hp_book_layout { /* offsets from the header; every part starts on a cache line */
    size_t lines_at, names_at, records_at, owners_at, labels_at, text_at, arena_at, size;
} hp_book_layout;

typedef struct hp_book_key {
    uint64_t filter;
    uint64_t spread;
    hp_u128 offset[4]; /* by form */
    hp_u128 factor[HP_BOOK_SCRIPT_WORDS];
} hp_book_key;

typedef struct hp_book_draft hp_book_draft;

struct hp_book { /* what a miss reads comes first: it lies in two or three cache lines */
    const hp_book_line *lines;
    uint32_t home_lines;
    uint32_t owner_bits;
    uint32_t filter_shift; /* 0: no filter */
    hp_book_key key;
    const hp_book_record *records;
    const hp_owner *owners;
    const uint8_t *arena;
    const hp_book_name_text *names;
    const uint32_t *labels; /* where each starts in text */
    const char *text;
    hp_book_header header; /* a copy: whoever writes to a mapped file later changes no bound */
    const void *map;       /* header and parts; NULL while the book is a draft */
    size_t mapped_bytes;
    hp_book_draft *draft;
    uint64_t filter[(1u << HP_BOOK_FILTER_LOG_BITS_MAX) / 64];
};

enum hp_book_form { HP_BOOK_P2PKH, HP_BOOK_P2SH, HP_BOOK_P2WPKH, HP_BOOK_OTHER };

typedef struct hp_book_place { /* a script as the book knows it */
    uint64_t rest[2];
    uint32_t hash;
    uint32_t form;
} hp_book_place;

/* 1, or 0 when no address stands for the script. For HP_BOOK_OTHER rest[1] is 0: the script itself
 * is in the arena, at the offset that a record has there. */
int hp_book_place_of(const hp_book_key *key, const uint8_t *script, size_t len,
                     hp_book_place *place);
void hp_book_key_init(hp_book_key *key, const uint64_t seed[2]);
hp_book_layout hp_book_layout_of(const hp_book_header *header);
/* Bits of a record's word that are the owner's. */
uint32_t hp_book_owner_bits(uint32_t home_lines);
/* Zeroed pages for munmap(), or NULL. */
void *hp_book_map_pages(size_t bytes);
/* Point the book at the parts of a mapping, and fill its filter; `header` is a checked copy of the
 * mapping's start. */
void hp_book_bind(hp_book *book, const void *map, const hp_book_header *header,
                  size_t mapped_bytes);
void hp_book_draft_free(hp_book_draft *draft);
const char *hp_book_draft_name(const hp_book_draft *draft, uint32_t exchange);
uint32_t hp_book_draft_count(const hp_book_draft *draft);

static inline uint32_t hp_book_home(uint32_t home_lines, uint32_t hash)
{
    return (uint32_t)((uint64_t)hash * home_lines >> 32);
}

/* The part of a record's word above the owner. A line's hashes share their upper bits: at least as
 * many as the number of home lines has, less one. The 16 lower ones are the fingerprint. */
static inline uint32_t hp_book_tag(uint32_t owner_bits, uint32_t form, uint32_t hash)
{
    uint32_t left = 30 - owner_bits;
    return form << left | (hash >> 16 & ((1u << left) - 1));
}

#endif
