/* SHA-256 of 8 messages side by side with AVX2, for CPUs that have neither AVX-512 nor SHA-NI. */
#include "sha256.h"

#if defined(__x86_64__)

#include "cpu.h"

#include <immintrin.h>

#define LANES 8
#define MAC_FRAME_BYTES 6144
#define LANE_TARGET __attribute__((target("avx2")))
#define LANE_FN static inline __attribute__((always_inline, target("avx2")))

typedef __m256i vec;

#define v_ror(x, n) _mm256_or_si256(_mm256_srli_epi32(x, n), _mm256_slli_epi32(x, 32 - (n)))
#define v_shr(x, n) _mm256_srli_epi32(x, n)

LANE_FN vec v_set(uint32_t x)
{
    return _mm256_set1_epi32((int)x);
}

LANE_FN vec v_index(void)
{
    return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
}

LANE_FN vec v_add(vec x, vec y)
{
    return _mm256_add_epi32(x, y);
}

LANE_FN vec v_and(vec x, vec y)
{
    return _mm256_and_si256(x, y);
}

LANE_FN vec v_load(const void *p)
{
    return _mm256_loadu_si256(p);
}

LANE_FN void v_store(void *p, vec x)
{
    _mm256_storeu_si256(p, x);
}

LANE_FN vec v_bswap(vec x)
{
    const __m128i order = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);

    return _mm256_shuffle_epi8(x, _mm256_broadcastsi128_si256(order));
}

LANE_FN vec v_xor3(vec x, vec y, vec z)
{
    return _mm256_xor_si256(_mm256_xor_si256(x, y), z);
}

LANE_FN vec v_ch(vec x, vec y, vec z)
{
    return _mm256_xor_si256(z, _mm256_and_si256(x, _mm256_xor_si256(y, z)));
}

LANE_FN vec v_maj(vec x, vec y, vec z)
{
    return _mm256_or_si256(_mm256_and_si256(x, y), _mm256_and_si256(z, _mm256_or_si256(x, y)));
}

/* AVX2 compares signed numbers only: x <= limit where the lesser of the two is x. */
LANE_FN unsigned v_at_most(vec x, uint32_t limit)
{
    vec at_most = _mm256_cmpeq_epi32(_mm256_min_epu32(x, v_set(limit)), x);

    return (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(at_most));
}

/* A transposition of 8 x 8 words: by words and pairs of words in every half, then by halves. */
LANE_FN void transpose(const void *const at[LANES], size_t offset, vec out[8])
{
    vec by_word[8], by_pair[8];

    for (int i = 0; i < 8; i += 2) {
        vec even = v_load((const char *)at[i] + offset);
        vec odd = v_load((const char *)at[i + 1] + offset);
        by_word[i] = _mm256_unpacklo_epi32(even, odd);
        by_word[i + 1] = _mm256_unpackhi_epi32(even, odd);
    }
    for (int i = 0; i < 8; i += 4)
        for (int half = 0; half < 2; half++) {
            vec x = by_word[i + half], y = by_word[i + 2 + half];
            by_pair[i + 2 * half] = _mm256_unpacklo_epi64(x, y);
            by_pair[i + 2 * half + 1] = _mm256_unpackhi_epi64(x, y);
        }
    for (int i = 0; i < 4; i++) {
        out[i] = _mm256_permute2x128_si256(by_pair[i], by_pair[4 + i], 0x20);
        out[4 + i] = _mm256_permute2x128_si256(by_pair[i], by_pair[4 + i], 0x31);
    }
}

LANE_FN void v_rows(const void *const at[LANES], vec out[16])
{
    transpose(at, 0, out);
    transpose(at, 32, out + 8);
}

#include "sha256_lanes.h"

const hp_sha256_impl hp_sha256_avx2 = {
    .name = "avx2",
    .compress = hp_sha256_portable_compress,
    .mac = mac,
    .scan = scan_lanes,
    .supported = hp_cpu_has_avx2,
};

#endif
