#include "hmac.h"

#include <string.h>
#include <sys/mman.h>

enum { IPAD = 0x36, OPAD = 0x5c }; /* RFC 2104 2 */

/* A key longer than a block is hashed first (RFC 2104 2), a shorter one filled up with zeros. */
static void fit_to_block(const hp_sha256_impl *impl, const uint8_t *secret, size_t len,
                         uint8_t block[HP_SHA256_BLOCK])
{
    memset(block, 0, HP_SHA256_BLOCK);
    if (len <= HP_SHA256_BLOCK) {
        memcpy(block, secret, len);
        return;
    }
    hp_sha256 sha;
    hp_sha256_init(&sha, impl);
    hp_sha256_update(&sha, secret, len);
    hp_sha256_final(&sha, block);
    explicit_bzero(&sha, sizeof sha);
}

/* The state after the block key ^ pad. */
static void absorb_pad(const hp_sha256_impl *impl, const uint8_t key[HP_SHA256_BLOCK], uint8_t pad,
                       uint32_t state[8])
{
    uint8_t block[HP_SHA256_BLOCK];

    for (size_t i = 0; i < sizeof block; i++)
        block[i] = key[i] ^ pad;
    memcpy(state, hp_sha256_start, sizeof hp_sha256_start);
    impl->compress(state, block, 1);
    explicit_bzero(block, sizeof block);
}

/* A key has pages of its own, to keep it out of swap and core dumps. Where that is not permitted
 * (RLIMIT_MEMLOCK) it works all the same. */
hp_hmac_key *hp_hmac_key_new(const hp_sha256_impl *impl, const uint8_t *secret, size_t len)
{
    uint8_t block[HP_SHA256_BLOCK];
    hp_hmac_key *key = mmap(NULL, sizeof *key, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (key == MAP_FAILED)
        return NULL;
    (void)mlock(key, sizeof *key);
    (void)madvise(key, sizeof *key, MADV_DONTDUMP);

    fit_to_block(impl, secret, len, block);
    key->impl = impl;
    absorb_pad(impl, block, IPAD, key->inner);
    absorb_pad(impl, block, OPAD, key->outer);
    explicit_bzero(block, sizeof block);
    return key;
}

void hp_hmac_key_free(hp_hmac_key *key)
{
    if (key == NULL)
        return;
    explicit_bzero(key, sizeof *key);
    (void)munmap(key, sizeof *key);
}

void hp_hmac_sign(const hp_hmac_key *key, const uint8_t *message, size_t len, uint8_t out[32])
{
    /* The outer message is a pad's block and a digest, always 96 bytes: its padding (FIPS 180-4
     * 5.1.1) is constant. */
    uint8_t block[HP_SHA256_BLOCK] = {[32] = 0x80, [62] = 96 * 8 >> 8, [63] = 96 * 8 & 0xff};
    uint32_t state[8];

    memcpy(state, key->inner, sizeof state);
    hp_sha256_finish(key->impl, state, HP_SHA256_BLOCK, message, len);
    hp_sha256_store(state, block);
    memcpy(state, key->outer, sizeof state);
    key->impl->compress(state, block, 1);
    hp_sha256_store(state, out);
    explicit_bzero(block, sizeof block);
}

static uint8_t hex_digit(uint8_t nibble)
{
    return (uint8_t)(nibble + '0' + (nibble > 9 ? 'a' - '0' - 10 : 0));
}

void hp_hex32(const uint8_t in[32], char out[restrict 64])
{
    for (int i = 0; i < 32; i++) {
        out[2 * i] = (char)hex_digit(in[i] >> 4);
        out[2 * i + 1] = (char)hex_digit(in[i] & 15);
    }
}
