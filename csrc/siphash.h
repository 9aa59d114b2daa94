/* SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF"), for hash tables whose
 * keys a stranger chooses. */
#ifndef HP_SIPHASH_H
#define HP_SIPHASH_H

#include "bytes.h"

#include <stddef.h>

typedef struct hp_siphash_key {
    uint64_t k0;
    uint64_t k1;
} hp_siphash_key;

typedef struct hp_siphash_state {
    uint64_t v0, v1, v2, v3;
} hp_siphash_state;

static inline uint64_t hp_rotl64(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static inline void hp_sipround(hp_siphash_state *s)
{
    s->v0 += s->v1;
    s->v1 = hp_rotl64(s->v1, 13) ^ s->v0;
    s->v0 = hp_rotl64(s->v0, 32);
    s->v2 += s->v3;
    s->v3 = hp_rotl64(s->v3, 16) ^ s->v2;
    s->v0 += s->v3;
    s->v3 = hp_rotl64(s->v3, 21) ^ s->v0;
    s->v2 += s->v1;
    s->v1 = hp_rotl64(s->v1, 17) ^ s->v2;
    s->v2 = hp_rotl64(s->v2, 32);
}

static inline uint64_t hp_siphash13(hp_siphash_key key, const uint8_t *data, size_t len)
{
    hp_siphash_state s = {
        key.k0 ^ UINT64_C(0x736f6d6570736575),
        key.k1 ^ UINT64_C(0x646f72616e646f6d),
        key.k0 ^ UINT64_C(0x6c7967656e657261),
        key.k1 ^ UINT64_C(0x7465646279746573),
    };
    size_t whole = len & ~(size_t)7;
    for (size_t i = 0; i < whole; i += 8) {
        uint64_t word = hp_le64(data + i);
        s.v3 ^= word;
        hp_sipround(&s);
        s.v0 ^= word;
    }
    uint64_t last = (uint64_t)len << 56;
    for (size_t i = whole; i < len; i++)
        last |= (uint64_t)data[i] << (8 * (i - whole));
    s.v3 ^= last;
    hp_sipround(&s);
    s.v0 ^= last;
    s.v2 ^= 0xff;
    hp_sipround(&s);
    hp_sipround(&s);
    hp_sipround(&s);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

#endif
