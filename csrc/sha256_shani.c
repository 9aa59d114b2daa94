/* SHA-256 compression with the SHA extensions of x86, one stream (Intel SDM volume 2B,
 * SHA256RNDS2, SHA256MSG1, SHA256MSG2). Bound by the latency of 32 dependent SHA256RNDS2 a block;
 * the schedule and everything else fits into its shadow. */
#include "sha256.h"

#if defined(__x86_64__)

#include "cpu.h"

#include <immintrin.h>

/* Rounds 4i to 4i+3 with the schedule words `w`. */
#define ROUNDS(i, w)                                                                               \
    do {                                                                                           \
        __m128i wk = _mm_add_epi32(w, _mm_load_si128((const __m128i *)hp_sha256_k + (i)));         \
        cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk);                                              \
        abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(wk, 0x0e));                     \
    } while (0)

/* Words t to t+3 of the schedule into `w0`, which holds the words t-16 to t-13; w1 to w3 hold the
 * words up to t-1. FIPS 180-4 6.2.2 step 1. */
#define SCHEDULE(w0, w1, w2, w3)                                                                   \
    (w0 = _mm_sha256msg2_epu32(                                                                    \
         _mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8(w3, w2, 4)), w3))

#define SCHEDULED_ROUNDS(i, w0, w1, w2, w3)                                                        \
    do {                                                                                           \
        SCHEDULE(w0, w1, w2, w3);                                                                  \
        ROUNDS(i, w0);                                                                             \
    } while (0)

__attribute__((target("sha,sse4.1,ssse3"))) static void
compress_shani(uint32_t state[8], const uint8_t *data, size_t blocks)
{
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    /* The instructions want the words as (A,B,E,F) and (C,D,G,H), the first one highest. */
    __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state), 0xb1);
    __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state + 1), 0x1b);
    __m128i abef = _mm_alignr_epi8(badc, hgfe, 8);
    __m128i cdgh = _mm_blend_epi16(hgfe, badc, 0xf0);

    for (; blocks > 0; blocks--, data += HP_SHA256_BLOCK) {
        const __m128i *in = (const __m128i *)data;
        __m128i w0 = _mm_shuffle_epi8(_mm_loadu_si128(in), big_endian);
        __m128i w1 = _mm_shuffle_epi8(_mm_loadu_si128(in + 1), big_endian);
        __m128i w2 = _mm_shuffle_epi8(_mm_loadu_si128(in + 2), big_endian);
        __m128i w3 = _mm_shuffle_epi8(_mm_loadu_si128(in + 3), big_endian);
        __m128i abef_before = abef;
        __m128i cdgh_before = cdgh;

        ROUNDS(0, w0);
        ROUNDS(1, w1);
        ROUNDS(2, w2);
        ROUNDS(3, w3);
        SCHEDULED_ROUNDS(4, w0, w1, w2, w3);
        SCHEDULED_ROUNDS(5, w1, w2, w3, w0);
        SCHEDULED_ROUNDS(6, w2, w3, w0, w1);
        SCHEDULED_ROUNDS(7, w3, w0, w1, w2);
        SCHEDULED_ROUNDS(8, w0, w1, w2, w3);
        SCHEDULED_ROUNDS(9, w1, w2, w3, w0);
        SCHEDULED_ROUNDS(10, w2, w3, w0, w1);
        SCHEDULED_ROUNDS(11, w3, w0, w1, w2);
        SCHEDULED_ROUNDS(12, w0, w1, w2, w3);
        SCHEDULED_ROUNDS(13, w1, w2, w3, w0);
        SCHEDULED_ROUNDS(14, w2, w3, w0, w1);
        SCHEDULED_ROUNDS(15, w3, w0, w1, w2);
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }

    __m128i feba = _mm_shuffle_epi32(abef, 0x1b);
    __m128i dchg = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((__m128i *)state + 1, _mm_alignr_epi8(dchg, feba, 8));
}

const hp_sha256_impl hp_sha256_shani = {"shani", compress_shani, hp_cpu_has_sha};

#endif
