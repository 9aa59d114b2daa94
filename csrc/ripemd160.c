/* RIPEMD-160 (Dobbertin, Bosselaers, Preneel 1996) of a SHA-256 digest, the only thing Bitcoin
 * takes it of: always one block. Here because OpenSSL hides it in its legacy provider. */
#include "sha256.h"

#include <string.h>

/* Per round of 16 steps: the words' order, the rotations and the constant, left line then right. */
static const uint8_t order[2][5][16] = {
    {
        {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
        {7, 4, 13, 1, 10, 6, 15, 3, 12, 0, 9, 5, 2, 14, 11, 8},
        {3, 10, 14, 4, 9, 15, 8, 1, 2, 7, 0, 6, 13, 11, 5, 12},
        {1, 9, 11, 10, 0, 8, 12, 4, 13, 3, 7, 15, 14, 5, 6, 2},
        {4, 0, 5, 9, 7, 12, 2, 10, 14, 1, 3, 8, 11, 6, 15, 13},
    },
    {
        {5, 14, 7, 0, 9, 2, 11, 4, 13, 6, 15, 8, 1, 10, 3, 12},
        {6, 11, 3, 7, 0, 13, 5, 10, 14, 15, 8, 12, 4, 9, 1, 2},
        {15, 5, 1, 3, 7, 14, 6, 9, 11, 8, 12, 2, 10, 0, 4, 13},
        {8, 6, 4, 1, 3, 11, 15, 0, 5, 12, 2, 13, 9, 7, 10, 14},
        {12, 15, 10, 4, 1, 5, 8, 7, 6, 2, 13, 14, 0, 3, 9, 11},
    },
};
static const uint8_t rotation[2][5][16] = {
    {
        {11, 14, 15, 12, 5, 8, 7, 9, 11, 13, 14, 15, 6, 7, 9, 8},
        {7, 6, 8, 13, 11, 9, 7, 15, 7, 12, 15, 9, 11, 7, 13, 12},
        {11, 13, 6, 7, 14, 9, 13, 15, 14, 8, 13, 6, 5, 12, 7, 5},
        {11, 12, 14, 15, 14, 15, 9, 8, 9, 14, 5, 6, 8, 6, 5, 12},
        {9, 15, 5, 11, 6, 8, 13, 12, 5, 12, 13, 14, 11, 8, 5, 6},
    },
    {
        {8, 9, 9, 11, 13, 15, 15, 5, 7, 7, 8, 11, 14, 14, 12, 6},
        {9, 13, 15, 7, 12, 8, 9, 11, 7, 7, 12, 7, 6, 15, 13, 11},
        {9, 7, 15, 11, 8, 6, 6, 14, 12, 13, 5, 14, 13, 13, 7, 5},
        {15, 5, 8, 11, 14, 14, 6, 14, 6, 9, 12, 9, 12, 5, 15, 8},
        {8, 5, 12, 9, 12, 5, 14, 6, 8, 13, 6, 5, 15, 13, 11, 11},
    },
};
static const uint32_t addend[2][5] = {
    {0x00000000, 0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xa953fd4e},
    {0x50a28be6, 0x5c4dd124, 0x6d703ef3, 0x7a6d76e9, 0x00000000},
};
static const uint32_t start[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};

static uint32_t rotl(uint32_t x, int n)
{
    return x << n | x >> (32 - n);
}

/* The boolean function of each round; the right line takes them in reverse. */
static inline uint32_t mix(int function, uint32_t x, uint32_t y, uint32_t z)
{
    switch (function) {
    case 0:
        return x ^ y ^ z;
    case 1:
        return (x & y) | (~x & z);
    case 2:
        return (x | ~y) ^ z;
    case 3:
        return (x & z) | (y & ~z);
    default:
        return x ^ (y | ~z);
    }
}

static inline void step(uint32_t v[5], const uint32_t words[16], int line, int round, int i)
{
    uint32_t sum = v[0] + mix(line ? 4 - round : round, v[1], v[2], v[3]) +
                   words[order[line][round][i]] + addend[line][round];
    uint32_t next = rotl(sum, rotation[line][round][i]) + v[4];

    v[0] = v[4];
    v[4] = v[3];
    v[3] = rotl(v[2], 10);
    v[2] = v[1];
    v[1] = next;
}

/* One block over the start value. */
static void ripemd160_block(const uint32_t words[16], uint32_t hash[5])
{
    uint32_t left[5], right[5];

    memcpy(left, start, sizeof left);
    memcpy(right, start, sizeof right);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 16; i++) {
            step(left, words, 0, round, i);
            step(right, words, 1, round, i);
        }
    }
    for (int i = 0; i < 5; i++)
        hash[i] = start[(i + 1) % 5] + left[(i + 2) % 5] + right[(i + 3) % 5];
}

void hp_hash160(const hp_sha256_impl *impl, const uint8_t *data, size_t len, uint8_t out[20])
{
    uint8_t digest[HP_SHA256_DIGEST];
    uint32_t words[16] = {[8] = 0x80, [14] = 8 * HP_SHA256_DIGEST}; /* padding as in MD4 */
    uint32_t hash[5];

    hp_sha256_digest(impl, data, len, digest);
    for (int i = 0; i < HP_SHA256_DIGEST; i++)
        words[i / 4] |= (uint32_t)digest[i] << 8 * (i % 4);
    ripemd160_block(words, hash);
    for (int i = 0; i < 20; i++)
        out[i] = (uint8_t)(hash[i / 4] >> 8 * (i % 4));
}
