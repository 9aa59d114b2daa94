#include "hmac.h"

#include "bytes.h"

#include <stdlib.h>
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
static hp_hmac_key *new_page(void)
{
    hp_hmac_key *key = mmap(NULL, sizeof *key, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (key == MAP_FAILED)
        return NULL;
    (void)mlock(key, sizeof *key);
    (void)madvise(key, sizeof *key, MADV_DONTDUMP);
    return key;
}

hp_hmac_key *hp_hmac_key_new(const hp_sha256_impl *impl, const uint8_t *secret, size_t len)
{
    uint8_t block[HP_SHA256_BLOCK];
    hp_hmac_key *key = new_page();

    if (key == NULL)
        return NULL;
    fit_to_block(impl, secret, len, block);
    key->impl = impl;
    key->absorbed = HP_SHA256_BLOCK;
    absorb_pad(impl, block, IPAD, key->states.inner);
    absorb_pad(impl, block, OPAD, key->states.outer);
    explicit_bzero(block, sizeof block);
    return key;
}

hp_hmac_key *hp_hmac_key_continue(const hp_hmac_key *key, const uint8_t *prefix, size_t len,
                                  size_t *absorbed)
{
    hp_hmac_key *continued = new_page();

    if (continued == NULL)
        return NULL;
    *absorbed = len - len % HP_SHA256_BLOCK;
    *continued = *key;
    continued->absorbed += *absorbed;
    key->impl->compress(continued->states.inner, prefix, len / HP_SHA256_BLOCK);
    return continued;
}

void hp_hmac_key_free(hp_hmac_key *key)
{
    if (key == NULL)
        return;
    explicit_bzero(key, sizeof *key);
    (void)munmap(key, sizeof *key);
}

/* Everything but the whole blocks is laid out here: the rest of the message and its padding (FIPS
 * 180-4 5.1.1). */
static void fill_lane(hp_mac_lane *lane, const hp_hmac_key *key, const uint8_t *message,
                      size_t len, uint8_t *out)
{
    size_t rest = len % HP_SHA256_BLOCK;
    size_t last_blocks = rest < HP_SHA256_BLOCK - 8 ? 1 : 2;
    uint8_t *bits = lane->last + last_blocks * HP_SHA256_BLOCK - 8;

    lane->states = &key->states;
    lane->data = message;
    lane->blocks = len / HP_SHA256_BLOCK;
    lane->last_blocks = last_blocks;
    lane->out = out;
    memset(lane->last, 0, HP_SHA256_BLOCK);
    if (last_blocks == 2)
        memset(lane->last + HP_SHA256_BLOCK, 0, HP_SHA256_BLOCK);
    memcpy(lane->last, message + len - rest, rest);
    lane->last[rest] = 0x80;
    hp_store_be64(bits, (key->absorbed + len) * 8);
}

void hp_hmac_sign(const hp_hmac_key *key, const uint8_t *message, size_t len, uint8_t out[32])
{
    hp_mac_lane lane;
    const hp_mac_lane *const lanes[] = {&lane};

    fill_lane(&lane, key, message, len, out);
    key->impl->mac(lanes, 1);
    explicit_bzero(lane.last, sizeof lane.last);
}

void hp_hmac_sign_batch(const hp_hmac_key *const key[], const uint8_t *const message[],
                        const size_t len[], size_t n, uint8_t *out)
{
    hp_mac_lane lane[HP_HMAC_BATCH_MAX];
    const hp_mac_lane *by_blocks[HP_HMAC_BATCH_MAX]; /* most first */

    if (n > HP_HMAC_BATCH_MAX) /* not assert(): Python builds extensions with NDEBUG */
        abort();
    for (size_t j = 0; j < n; j++) {
        fill_lane(&lane[j], key[j], message[j], len[j], out + j * HP_SHA256_DIGEST);
        size_t at = j;
        for (; at > 0 && hp_mac_blocks(by_blocks[at - 1]) < hp_mac_blocks(&lane[j]); at--)
            by_blocks[at] = by_blocks[at - 1];
        by_blocks[at] = &lane[j];
    }
    if (n > 0)
        key[0]->impl->mac(by_blocks, n);
    for (size_t j = 0; j < n; j++) {
        memset(lane[j].last, 0, HP_SHA256_BLOCK);
        if (lane[j].last_blocks == 2)
            memset(lane[j].last + HP_SHA256_BLOCK, 0, HP_SHA256_BLOCK);
    }
    __asm__ volatile("" : : "r"(lane) : "memory"); /* which uses them: no dead stores */
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
