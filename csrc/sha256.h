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

struct hp_sha256_impl {
    const char *name;
    hp_sha256_compress_fn compress;
    int (*supported)(void); /* does this CPU have the instructions */
};

extern const hp_sha256_impl hp_sha256_shani; /* only in x86-64 builds */

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
