/* SHA-256 of 16 messages side by side with AVX-512 (F and BW). Bound by the vector pipes: a round
 * is 17 instructions and a word of the schedule 11, thanks to VPRORD and VPTERNLOGD. */
#if defined(__GNUC__) && !defined(__clang__)
/* GCC moves additions about although no register is left: 8 % (bench/BENCHMARKS.md). */
#pragma GCC optimize("no-schedule-insns2", "no-tree-reassoc")
#endif

#include "sha256.h"

#if defined(__x86_64__)

#include "cpu.h"

#include <immintrin.h>

#define LANES 16 /* no MAC_FRAME_BYTES: wiping 8 KiB makes 16 HMACs 6 % slower */
#define LANE_TARGET __attribute__((target("avx512f,avx512bw")))
#define LANE_FN static inline __attribute__((always_inline, target("avx512f,avx512bw")))

typedef __m512i vec;

#define v_ror(x, n) _mm512_ror_epi32(x, n)
#define v_shr(x, n) _mm512_srli_epi32(x, n)

LANE_FN vec v_set(uint32_t x)
{
    return _mm512_set1_epi32((int)x);
}

LANE_FN vec v_index(void)
{
    return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

LANE_FN vec v_add(vec x, vec y)
{
    return _mm512_add_epi32(x, y);
}

LANE_FN vec v_and(vec x, vec y)
{
    return _mm512_and_si512(x, y);
}

LANE_FN vec v_load(const void *p)
{
    return _mm512_loadu_si512(p);
}

LANE_FN void v_store(void *p, vec x)
{
    _mm512_storeu_si512(p, x);
}

LANE_FN vec v_bswap(vec x)
{
    const __m128i order = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);

    return _mm512_shuffle_epi8(x, _mm512_broadcast_i32x4(order));
}

/* The last operand of VPTERNLOGD is its truth table, indexed by the bits of x, y, z. */
LANE_FN vec v_xor3(vec x, vec y, vec z)
{
    return _mm512_ternarylogic_epi32(x, y, z, 0x96);
}

LANE_FN vec v_ch(vec x, vec y, vec z)
{
    return _mm512_ternarylogic_epi32(x, y, z, 0xca);
}

LANE_FN vec v_maj(vec x, vec y, vec z)
{
    return _mm512_ternarylogic_epi32(x, y, z, 0xe8);
}

LANE_FN unsigned v_at_most(vec x, uint32_t limit)
{
    return _mm512_cmple_epu32_mask(x, v_set(limit));
}

/* A transposition of 16 x 16 words: by words and pairs of them in every quarter, then by
 * quarters. */
LANE_FN void v_rows(const void *const at[LANES], vec out[16])
{
    vec by_word[16], by_pair[16];

    for (int i = 0; i < 16; i += 2) {
        vec even = v_load(at[i]), odd = v_load(at[i + 1]);
        by_word[i] = _mm512_unpacklo_epi32(even, odd);
        by_word[i + 1] = _mm512_unpackhi_epi32(even, odd);
    }
    for (int i = 0; i < 16; i += 4)
        for (int half = 0; half < 2; half++) {
            vec x = by_word[i + half], y = by_word[i + 2 + half];
            by_pair[i + 2 * half] = _mm512_unpacklo_epi64(x, y);
            by_pair[i + 2 * half + 1] = _mm512_unpackhi_epi64(x, y);
        }
    for (int i = 0; i < 4; i++) {
        vec even_0 = _mm512_shuffle_i32x4(by_pair[i], by_pair[4 + i], 0x88);
        vec odd_0 = _mm512_shuffle_i32x4(by_pair[i], by_pair[4 + i], 0xdd);
        vec even_8 = _mm512_shuffle_i32x4(by_pair[8 + i], by_pair[12 + i], 0x88);
        vec odd_8 = _mm512_shuffle_i32x4(by_pair[8 + i], by_pair[12 + i], 0xdd);
        out[i] = _mm512_shuffle_i32x4(even_0, even_8, 0x88);
        out[4 + i] = _mm512_shuffle_i32x4(odd_0, odd_8, 0x88);
        out[8 + i] = _mm512_shuffle_i32x4(even_0, even_8, 0xdd);
        out[12 + i] = _mm512_shuffle_i32x4(odd_0, odd_8, 0xdd);
    }
}

#include "sha256_lanes.h"

const hp_sha256_impl hp_sha256_avx512 = {
    .name = "avx512",
    .compress = hp_sha256_portable_compress,
    .mac = mac,
    .scan = scan_lanes,
    .supported = hp_cpu_has_avx512,
};

static int has_both(void)
{
    return hp_cpu_has_avx512() && hp_cpu_has_sha();
}

/* Measured on Zen 4 (bench/BENCHMARKS.md): SHA-NI is faster, unless hardly a lane is idle. */
static void mac_mixed(const hp_mac_lane *const lane[], size_t n)
{
    int full = n >= LANES - 1 && hp_mac_blocks(lane[0]) == hp_mac_blocks(lane[n - 1]);

    (full ? mac : hp_sha256_shani_mac)(lane, n);
}

const hp_sha256_impl hp_sha256_shani_avx512 = {
    .name = "shani+avx512",
    .compress = hp_sha256_shani_compress,
    .mac = mac_mixed,
    .scan = scan_lanes,
    .supported = has_both,
};

#endif
