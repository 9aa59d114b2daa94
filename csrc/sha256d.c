/* Bitcoin's double SHA-256, and the search for a block header's nonce. */
#include "bytes.h"
#include "sha256.h"

#include <string.h>

enum { HEADER = 80, NONCE_AT = 76 };

void hp_sha256d_digest(const hp_sha256_impl *impl, const uint8_t *data, size_t len,
                       uint8_t out[32])
{
    hp_sha256_digest(impl, data, len, out);
    hp_sha256_digest(impl, out, HP_SHA256_DIGEST, out);
}

static uint32_t rotr(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

static uint32_t sigma0(uint32_t x)
{
    return rotr(x, 7) ^ rotr(x, 18) ^ x >> 3;
}

static uint32_t sigma1(uint32_t x)
{
    return rotr(x, 17) ^ rotr(x, 19) ^ x >> 10;
}

/* Rounds 0 to n - 1 of a block with the words `w` (FIPS 180-4 6.2.2 step 3): variable v comes to
 * lie at out[(v - n) mod 8]. */
static void some_rounds(const uint32_t start[8], const uint32_t *w, unsigned n, uint32_t out[8])
{
    memcpy(out, start, 8 * sizeof *out);
    for (unsigned t = 0; t < n; t++) {
        uint32_t *v[8];
        for (unsigned i = 0; i < 8; i++)
            v[i] = &out[(i - t) & 7];
        uint32_t a = *v[0], e = *v[4];
        uint32_t t1 = *v[7] + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) +
                      (*v[6] ^ (e & (*v[5] ^ *v[6]))) + hp_sha256_k[t] + w[t];
        *v[3] += t1;
        *v[7] = t1 + (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) +
                ((a & *v[1]) | (*v[2] & (a | *v[1])));
    }
}

/* Of the header's second block all words but the nonce's, which is word 3. */
static void prepare_header(hp_sha256d_work *work, const uint8_t header[HEADER])
{
    uint32_t *w = work->w;

    memset(w, 0, sizeof work->w);
    w[4] = 0x80000000; /* FIPS 180-4 5.1.1 */
    w[15] = HEADER * 8;
    for (int t = 0; t < 3; t++)
        w[t] = hp_be32(header + HP_SHA256_BLOCK + 4 * t);
    w[16] = w[0] + sigma0(w[1]);
    w[17] = w[1] + sigma0(w[2]) + sigma1(w[15]);
    for (int t = 0; t < 18; t++)
        work->header_kw[t] = hp_sha256_k[t] + w[t];
    some_rounds(work->midstate, w, 4, work->header);

    uint32_t *known = work->header_known;
    memset(known, 0, sizeof work->header_known);
    known[0] = w[16];
    known[1] = w[17];
    known[2] = w[2] + sigma1(w[16]);
    known[3] = sigma0(w[4]) + sigma1(w[17]);
    known[4] = w[4];
    known[6] = w[15];
    known[14] = sigma0(w[15]);
    known[15] = w[15] + sigma0(w[16]);
}

/* Of the second hash's only block all but the digest, its words 0 to 7. */
static void prepare_digest(hp_sha256d_work *work)
{
    uint32_t w[16] = {[8] = 0x80000000, [15] = HP_SHA256_DIGEST * 8};

    for (int t = 0; t < 16; t++)
        work->digest_kw[t] = hp_sha256_k[t] + w[t];
    some_rounds(hp_sha256_start, w, 1, work->digest);

    uint32_t *known = work->digest_known;
    memset(known, 0, sizeof work->digest_known);
    known[1] = sigma1(w[15]);
    known[6] = w[15];
    known[7] = sigma0(w[8]);
    known[8] = w[8];
    known[14] = sigma0(w[15]);
    known[15] = w[15];
}

/* Numbers of 32 bytes, the least significant first, as Bitcoin compares hashes. */
static int at_most(const uint8_t x[32], const uint8_t limit[32])
{
    int i = 31;

    while (i > 0 && x[i] == limit[i])
        i--;
    return x[i] <= limit[i];
}

int hp_sha256d_scan(const hp_sha256_impl *impl, const uint8_t header[80], const uint8_t target[32],
                    uint32_t first, uint64_t count, uint32_t *nonce)
{
    hp_sha256d_work work;
    uint8_t tried[HEADER], hash[32];

    memcpy(work.midstate, hp_sha256_start, sizeof work.midstate);
    impl->compress(work.midstate, header, 1);
    prepare_header(&work, header);
    prepare_digest(&work);
    work.limit = hp_le32(target + 28);
    memcpy(tried, header, NONCE_AT);

    while (count > 0 && impl->scan(&work, first, count, nonce)) {
        uint64_t passed = (uint64_t)(*nonce - first) + 1;
        if (passed > count)
            return 0;
        for (int i = 0; i < 4; i++)
            tried[NONCE_AT + i] = (uint8_t)(*nonce >> 8 * i);
        hp_sha256d_digest(impl, tried, HEADER, hash);
        if (at_most(hash, target))
            return 1;
        count -= passed;
        first = *nonce + 1;
    }
    return 0;
}
