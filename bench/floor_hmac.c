/* HMAC-SHA256 as OpenSSL offers it, from the most convenient way to the fastest, and the loops that
 * time anybody's. */
#define OPENSSL_SUPPRESS_DEPRECATED /* SHA256_CTX and HMAC_CTX: deprecated, but the fastest */

#include "floor.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/params.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { BLOCK = 64, DIGEST = 32 };

struct hp_floor_key {
    uint8_t secret[BLOCK];
    int secret_len;
    EVP_MAC_CTX *mac;
    HMAC_CTX *hmac;
    SHA256_CTX inner; /* after the block key ^ ipad, RFC 2104 2 */
    SHA256_CTX outer;
};

static void absorb_pad(SHA256_CTX *sha, const uint8_t key[BLOCK], uint8_t pad)
{
    uint8_t block[BLOCK];

    for (int i = 0; i < BLOCK; i++)
        block[i] = key[i] ^ pad;
    SHA256_Init(sha);
    SHA256_Update(sha, block, sizeof block);
}

void hp_floor_key_free(hp_floor_key *key)
{
    if (key == NULL)
        return;
    EVP_MAC_CTX_free(key->mac);
    HMAC_CTX_free(key->hmac);
    free(key);
}

hp_floor_key *hp_floor_key_new(const uint8_t *secret, size_t len)
{
    char name[] = OSSL_DIGEST_NAME_SHA2_256;
    OSSL_PARAM digest[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0),
        OSSL_PARAM_construct_end(),
    };
    hp_floor_key *key = calloc(1, sizeof *key);
    EVP_MAC *mac = EVP_MAC_fetch(NULL, OSSL_MAC_NAME_HMAC, NULL);

    if (key == NULL || mac == NULL || len > BLOCK)
        goto fail;
    memcpy(key->secret, secret, len);
    key->secret_len = (int)len;
    key->mac = EVP_MAC_CTX_new(mac);
    key->hmac = HMAC_CTX_new();
    if (key->mac == NULL || key->hmac == NULL || !EVP_MAC_init(key->mac, secret, len, digest) ||
        !HMAC_Init_ex(key->hmac, secret, (int)len, EVP_sha256(), NULL))
        goto fail;
    EVP_MAC_free(mac);
    absorb_pad(&key->inner, key->secret, 0x36);
    absorb_pad(&key->outer, key->secret, 0x5c);
    return key;
fail:
    EVP_MAC_free(mac);
    hp_floor_key_free(key);
    return NULL;
}

void hp_floor_one_shot(const void *with, const uint8_t *message, size_t len, uint8_t *out)
{
    const hp_floor_key *key = with;

    HMAC(EVP_sha256(), key->secret, key->secret_len, message, len, out, NULL);
}

void hp_floor_evp_mac(const void *with, const uint8_t *message, size_t len, uint8_t *out)
{
    const hp_floor_key *key = with;

    EVP_MAC_init(key->mac, NULL, 0, NULL);
    EVP_MAC_update(key->mac, message, len);
    EVP_MAC_final(key->mac, out, NULL, DIGEST);
}

void hp_floor_hmac_ctx(const void *with, const uint8_t *message, size_t len, uint8_t *out)
{
    const hp_floor_key *key = with;

    HMAC_Init_ex(key->hmac, NULL, 0, NULL, NULL);
    HMAC_Update(key->hmac, message, len);
    HMAC_Final(key->hmac, out, NULL);
}

void hp_floor_midstates(const void *with, const uint8_t *message, size_t len, uint8_t *out)
{
    const hp_floor_key *key = with;
    SHA256_CTX sha = key->inner;
    uint8_t digest[DIGEST];

    SHA256_Update(&sha, message, len);
    SHA256_Final(digest, &sha);
    sha = key->outer;
    SHA256_Update(&sha, digest, sizeof digest);
    SHA256_Final(out, &sha);
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t hp_floor_sign_ns(hp_floor_sign sign, const void *key, uint8_t *message, size_t len,
                         size_t chained, uint32_t times)
{
    uint8_t out[DIGEST];
    int64_t before_ns = now_ns();

    for (uint32_t i = 0; i < times; i++) {
        sign(key, message, len, out);
        memcpy(message, out, chained);
    }
    return now_ns() - before_ns;
}

int64_t hp_floor_batch_ns(hp_floor_batch batch, const void *const *key,
                          const uint8_t *const *message, const size_t *len, size_t n, uint8_t *out,
                          uint32_t times)
{
    int64_t before_ns = now_ns();

    for (uint32_t i = 0; i < times; i++)
        batch(key, message, len, n, out);
    return now_ns() - before_ns;
}

#if defined(__x86_64__)

__attribute__((target("sha,sse4.1"))) int64_t hp_floor_rounds_ns(uint32_t rounds, uint32_t times)
{
    __m128i abef = _mm_set1_epi32((int)rounds), cdgh = abef, kw = abef;
    int64_t before_ns = now_ns();

    for (uint32_t i = 0; i < times; i++)
        for (uint32_t t = 0; t < rounds; t += 4) {
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, kw);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, kw);
        }
    int64_t took_ns = now_ns() - before_ns;
    /* Of no meaning, but then the rounds cannot be left out. */
    return took_ns + (_mm_extract_epi32(abef, 0) == 0 && _mm_extract_epi32(cdgh, 0) == 0);
}

#else

int64_t hp_floor_rounds_ns(uint32_t rounds, uint32_t times)
{
    (void)rounds;
    (void)times;
    return -ENOTSUP;
}

#endif
