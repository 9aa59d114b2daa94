#include "bytes.h"
#include "sha256.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

const uint32_t hp_sha256_start[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

alignas(64) const uint32_t hp_sha256_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static void store_be32(uint8_t *p, uint32_t x)
{
    x = htobe32(x);
    memcpy(p, &x, sizeof x);
}

static const hp_sha256_impl *const implementations[] = { /* the fastest first */
#if defined(__x86_64__)
    &hp_sha256_shani_avx512,
    &hp_sha256_shani,
    &hp_sha256_avx512,
    &hp_sha256_avx2,
#endif
    &hp_sha256_portable,
};
enum { IMPLEMENTATIONS = sizeof implementations / sizeof *implementations };

const hp_sha256_impl *hp_sha256_available(int i)
{
    for (int at = 0; at < IMPLEMENTATIONS; at++)
        if (implementations[at]->supported() && i-- == 0)
            return implementations[at];
    return NULL;
}

const hp_sha256_impl *hp_sha256_choose(const char *name)
{
    if (name == NULL) {
        name = getenv("HARPOON_SHA256");
        if (name == NULL || *name == '\0')
            return hp_sha256_available(0);
    }
    for (int at = 0; at < IMPLEMENTATIONS; at++)
        if (strcmp(implementations[at]->name, name) == 0 && implementations[at]->supported())
            return implementations[at];
    return NULL;
}

const char *hp_sha256_name(const hp_sha256_impl *impl)
{
    return impl->name;
}

void hp_sha256_finish(const hp_sha256_impl *impl, uint32_t state[8], uint64_t before,
                      const uint8_t *data, size_t len)
{
    uint8_t last[2 * HP_SHA256_BLOCK];
    size_t whole = len / HP_SHA256_BLOCK;
    size_t rest = len % HP_SHA256_BLOCK;
    size_t padded = rest < HP_SHA256_BLOCK - 8 ? HP_SHA256_BLOCK : 2 * HP_SHA256_BLOCK;

    /* Padded before the whole blocks are compressed: the CPU then overlaps the two. */
    memcpy(last, data + len - rest, rest);
    memset(last + rest, 0, padded - rest);
    last[rest] = 0x80; /* FIPS 180-4 5.1.1 */
    hp_store_be64(last + padded - 8, (before + len) * 8);

    if (whole > 0)
        impl->compress(state, data, whole);
    impl->compress(state, last, padded / HP_SHA256_BLOCK);
    explicit_bzero(last, sizeof last);
}

void hp_sha256_store(const uint32_t state[8], uint8_t out[HP_SHA256_DIGEST])
{
    for (int i = 0; i < 8; i++)
        store_be32(out + 4 * i, state[i]);
}

void hp_sha256_init(hp_sha256 *sha, const hp_sha256_impl *impl)
{
    sha->impl = impl;
    sha->bytes = 0;
    memcpy(sha->state, hp_sha256_start, sizeof sha->state);
}

void hp_sha256_update(hp_sha256 *sha, const void *data, size_t len)
{
    const uint8_t *p = data;
    size_t used = sha->bytes % HP_SHA256_BLOCK;

    sha->bytes += len;
    if (used > 0) {
        size_t room = HP_SHA256_BLOCK - used;
        size_t n = len < room ? len : room;

        memcpy(sha->block + used, p, n);
        if (n < room)
            return;
        sha->impl->compress(sha->state, sha->block, 1);
        p += n;
        len -= n;
    }
    size_t rest = len % HP_SHA256_BLOCK;
    if (len >= HP_SHA256_BLOCK)
        sha->impl->compress(sha->state, p, len / HP_SHA256_BLOCK);
    memcpy(sha->block, p + len - rest, rest);
}

void hp_sha256_final(hp_sha256 *sha, uint8_t out[HP_SHA256_DIGEST])
{
    size_t used = sha->bytes % HP_SHA256_BLOCK;

    hp_sha256_finish(sha->impl, sha->state, sha->bytes - used, sha->block, used);
    hp_sha256_store(sha->state, out);
}

void hp_sha256_digest(const hp_sha256_impl *impl, const uint8_t *data, size_t len, uint8_t out[32])
{
    uint32_t state[8];

    memcpy(state, hp_sha256_start, sizeof state);
    hp_sha256_finish(impl, state, 0, data, len);
    hp_sha256_store(state, out);
}
