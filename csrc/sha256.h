/* SHA-256 (FIPS 180-4): the streaming form that the rest of the library uses, and what the files
 * that implement the compression function share. */
#ifndef HP_SHA256_H
#define HP_SHA256_H

#include "harpoon.h"

#include <stdalign.h>

#define HP_SHA256_BLOCK 64
#define HP_SHA256_DIGEST 32

/* Compress `blocks` 64-byte blocks into `state`. */
typedef void (*hp_sha256_compress_fn)(uint32_t state[8], const uint8_t *data, size_t blocks);

/* Where the two halves of an HMAC begin (RFC 2104 2): the states after key ^ ipad, with whatever of
 * the message was absorbed before, and after key ^ opad. */
typedef struct hp_mac_states {
    alignas(HP_SHA256_BLOCK) uint32_t inner[8];
    uint32_t outer[8];
} hp_mac_states;

/* One HMAC to finish: the whole blocks of a message, then its rest and padding. */
typedef struct hp_mac_lane {
    const hp_mac_states *states;
    const uint8_t *data;
    size_t blocks;      /* at `data` */
    size_t last_blocks; /* in `last`: 1 or 2 */
    uint8_t *out;       /* 32 bytes */
    uint8_t last[2 * HP_SHA256_BLOCK];
} hp_mac_lane;

static inline size_t hp_mac_blocks(const hp_mac_lane *lane)
{
    return lane->blocks + lane->last_blocks;
}

/* Finish n HMACs, n <= HP_HMAC_BATCH_MAX, those with most blocks first. */
typedef void (*hp_sha256_mac_fn)(const hp_mac_lane *const lane[], size_t n);

/* What is the same for every nonce of a block header. `header` is the state before round 4 of its
 * second block (variable v at place (v + 4) mod 8) and `digest` that before round 1 of the second
 * hash (at (v + 7) mod 8), each with a zero for the one word to come, which then is added to a and
 * e. The *_known are the constant terms of words 16 to 31, the *_kw constant words and K in one. */
typedef struct hp_sha256d_work {
    uint32_t midstate[8]; /* after the header's first block */
    uint32_t w[18];       /* the words of its second block; 0 for the nonce */
    uint32_t header[8];
    uint32_t header_kw[18];
    uint32_t header_known[16];
    uint32_t digest[8];
    uint32_t digest_kw[16];
    uint32_t digest_known[16];
    uint32_t limit; /* the most that the four most significant bytes of a hash may be */
} hp_sha256d_work;

/* The first nonce n, first <= n < first + count, whose hash may be low enough: 1 with *found set,
 * else 0. *found may lie beyond the range by less than 16. */
typedef int (*hp_sha256d_scan_fn)(const hp_sha256d_work *work, uint32_t first, uint64_t count,
                                  uint32_t *found);

struct hp_sha256_impl {
    const char *name;
    hp_sha256_compress_fn compress;
    hp_sha256_mac_fn mac;
    hp_sha256d_scan_fn scan;
    int (*supported)(void); /* does this CPU have the instructions */
};

extern const hp_sha256_impl hp_sha256_portable;
#if defined(__x86_64__)
extern const hp_sha256_impl hp_sha256_shani_avx512; /* the faster one for each */
extern const hp_sha256_impl hp_sha256_shani;
extern const hp_sha256_impl hp_sha256_avx512;
extern const hp_sha256_impl hp_sha256_avx2;
#endif

/* What others are made of. */
void hp_sha256_portable_compress(uint32_t state[8], const uint8_t *data, size_t blocks);
void hp_sha256_portable_mac(const hp_mac_lane *const lane[], size_t n);
void hp_sha256_shani_compress(uint32_t state[8], const uint8_t *data, size_t blocks);
void hp_sha256_shani_mac(const hp_mac_lane *const lane[], size_t n);

extern const uint32_t hp_sha256_start[8]; /* the initial hash value, FIPS 180-4 5.3.3 */
extern alignas(64) const uint32_t hp_sha256_k[64]; /* the round constants, FIPS 180-4 4.2.2 */

typedef struct hp_sha256 {
    const hp_sha256_impl *impl;
    uint64_t bytes; /* absorbed so far */
    uint32_t state[8];
    uint8_t block[HP_SHA256_BLOCK]; /* the incomplete last block */
} hp_sha256;

void hp_sha256_init(hp_sha256 *sha, const hp_sha256_impl *impl);
void hp_sha256_update(hp_sha256 *sha, const void *data, size_t len);
void hp_sha256_final(hp_sha256 *sha, uint8_t out[HP_SHA256_DIGEST]);

/* Absorb the last `len` bytes of a message, and its padding, into the `state` of the `before` bytes
 * (a multiple of 64) ahead of them. Leaves none of them on the stack. */
void hp_sha256_finish(const hp_sha256_impl *impl, uint32_t state[8], uint64_t before,
                      const uint8_t *data, size_t len);
/* A finished state as the digest's bytes. */
void hp_sha256_store(const uint32_t state[8], uint8_t out[HP_SHA256_DIGEST]);

#endif
