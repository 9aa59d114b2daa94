/* SHA-256 with the SHA extensions of x86 (Intel SDM volume 2B, SHA256RNDS2 and SHA256MSG1/2).
 * One stream is bound by the latency of 32 dependent SHA256RNDS2 a block: the schedule and
 * everything else fit into its shadow. So does a second, independent stream. */
#include "sha256.h"

#if defined(__x86_64__)

#include "cpu.h"

#include <immintrin.h>

#define TARGET __attribute__((target("sha,sse4.1,ssse3")))
#define INLINE static inline __attribute__((always_inline, target("sha,sse4.1,ssse3")))

/* The instructions want the words as (A,B,E,F) and (C,D,G,H), the first one highest. */
typedef struct stream {
    __m128i abef;
    __m128i cdgh;
    __m128i w[4]; /* the last 16 words of the schedule, the first one lowest */
} stream;

INLINE void load_state(stream *s, const uint32_t state[8])
{
    __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state), 0xb1);
    __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state + 1), 0x1b);

    s->abef = _mm_alignr_epi8(badc, hgfe, 8);
    s->cdgh = _mm_blend_epi16(hgfe, badc, 0xf0);
}

/* The state as words 0 to 3 and 4 to 7. */
INLINE void get_state(const stream *s, __m128i *abcd, __m128i *efgh)
{
    __m128i feba = _mm_shuffle_epi32(s->abef, 0x1b);
    __m128i dchg = _mm_shuffle_epi32(s->cdgh, 0xb1);

    *abcd = _mm_blend_epi16(feba, dchg, 0xf0);
    *efgh = _mm_alignr_epi8(dchg, feba, 8);
}

INLINE __m128i big_endian(__m128i x)
{
    return _mm_shuffle_epi8(x, _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203));
}

INLINE void load_block(stream *s, const uint8_t *data)
{
    const __m128i *in = (const __m128i *)data;

    for (int i = 0; i < 4; i++)
        s->w[i] = big_endian(_mm_loadu_si128(in + i));
}

/* Words 4i to 4i + 3 of the schedule in the place of the four 16 words before (FIPS 180-4 6.2.2
 * step 1). */
INLINE void extend(stream *s, int i)
{
    __m128i before_7 = _mm_alignr_epi8(s->w[(i + 3) & 3], s->w[(i + 2) & 3], 4);
    __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(s->w[i & 3], s->w[(i + 1) & 3]), before_7);

    s->w[i & 3] = _mm_sha256msg2_epu32(sum, s->w[(i + 3) & 3]);
}

INLINE __m128i plus_k(const stream *s, int i)
{
    return _mm_add_epi32(s->w[i & 3], _mm_load_si128((const __m128i *)hp_sha256_k + i));
}

/* Rounds 4i to 4i + 3; kw is K + W. */
INLINE void rounds(stream *s, __m128i kw)
{
    s->cdgh = _mm_sha256rnds2_epu32(s->cdgh, s->abef, kw);
    s->abef = _mm_sha256rnds2_epu32(s->abef, s->cdgh, _mm_shuffle_epi32(kw, 0x0e));
}

INLINE void add_state(stream *s, const stream *x)
{
    s->abef = _mm_add_epi32(s->abef, x->abef);
    s->cdgh = _mm_add_epi32(s->cdgh, x->cdgh);
}

#define FROM_4_TO_14(X) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#define PLAIN(i) rounds(s, plus_k(s, i));
#define EXTENDED(i) extend(s, i); PLAIN(i)

INLINE void compress(stream *s)
{
    const stream before = *s;

    PLAIN(0) PLAIN(1) PLAIN(2) PLAIN(3)
    FROM_4_TO_14(EXTENDED)
    EXTENDED(15)
    add_state(s, &before);
}

#define BOTH_PLAIN(i) rounds(s, plus_k(s, i)); rounds(t, plus_k(t, i));
#define BOTH_EXTENDED(i) extend(s, i); extend(t, i); BOTH_PLAIN(i)

INLINE void compress_both(stream *s, stream *t)
{
    const stream s_before = *s, t_before = *t;

    BOTH_PLAIN(0) BOTH_PLAIN(1) BOTH_PLAIN(2) BOTH_PLAIN(3)
    FROM_4_TO_14(BOTH_EXTENDED)
    BOTH_EXTENDED(15)
    add_state(s, &s_before);
    add_state(t, &t_before);
}

TARGET void hp_sha256_shani_compress(uint32_t state[8], const uint8_t *data, size_t blocks)
{
    stream s;
    __m128i abcd, efgh;

    load_state(&s, state);
    for (; blocks > 0; blocks--, data += HP_SHA256_BLOCK) {
        load_block(&s, data);
        compress(&s);
    }
    get_state(&s, &abcd, &efgh);
    _mm_storeu_si128((__m128i *)state, abcd);
    _mm_storeu_si128((__m128i *)state + 1, efgh);
}

/* ---- HMAC ---------------------------------------------------------------------------------- */

/* From the inner digest to the outer message, whose padding is constant: 64 + 32 bytes. */
INLINE void begin_outer(stream *s, const hp_mac_states *states)
{
    get_state(s, &s->w[0], &s->w[1]);
    s->w[2] = _mm_setr_epi32((int)0x80000000, 0, 0, 0);
    s->w[3] = _mm_setr_epi32(0, 0, 0, (HP_SHA256_BLOCK + HP_SHA256_DIGEST) * 8);
    load_state(s, states->outer);
}

INLINE void store_digest(const stream *s, uint8_t *out)
{
    __m128i abcd, efgh;

    get_state(s, &abcd, &efgh);
    _mm_storeu_si128((__m128i *)out, big_endian(abcd));
    _mm_storeu_si128((__m128i *)out + 1, big_endian(efgh));
}

INLINE const uint8_t *block_at(const hp_mac_lane *lane, size_t i)
{
    return i < lane->blocks ? lane->data + i * HP_SHA256_BLOCK
                            : lane->last + (i - lane->blocks) * HP_SHA256_BLOCK;
}

/* The state stays in registers from the first block of the inner message to the code. */
static TARGET void mac_one(const hp_mac_lane *lane)
{
    stream s;

    load_state(&s, lane->states->inner);
    for (size_t i = 0; i < lane->blocks + lane->last_blocks; i++) {
        load_block(&s, block_at(lane, i));
        compress(&s);
    }
    begin_outer(&s, lane->states);
    compress(&s);
    store_digest(&s, lane->out);
}

/* a has no fewer blocks than b. */
static TARGET void mac_two(const hp_mac_lane *a, const hp_mac_lane *b)
{
    stream s, t;
    size_t i = 0;

    load_state(&s, a->states->inner);
    load_state(&t, b->states->inner);
    for (; i < b->blocks + b->last_blocks; i++) {
        load_block(&s, block_at(a, i));
        load_block(&t, block_at(b, i));
        compress_both(&s, &t);
    }
    for (; i < a->blocks + a->last_blocks; i++) {
        load_block(&s, block_at(a, i));
        compress(&s);
    }
    begin_outer(&s, a->states);
    begin_outer(&t, b->states);
    compress_both(&s, &t);
    store_digest(&s, a->out);
    store_digest(&t, b->out);
}

void hp_sha256_shani_mac(const hp_mac_lane *const lane[], size_t n)
{
    for (; n >= 2; n -= 2, lane += 2)
        mac_two(lane[0], lane[1]);
    if (n > 0)
        mac_one(lane[0]);
}

/* ---- the scan ------------------------------------------------------------------------------ */

/* A header's second block from round 4 on; `known` has all but the nonce's part of it. */
INLINE void begin_header(stream *s, const stream *known, uint32_t nonce)
{
    int word = (int)__builtin_bswap32(nonce);

    *s = *known;
    s->w[0] = _mm_insert_epi32(s->w[0], word, 3);
    s->abef = _mm_add_epi32(s->abef, _mm_set_epi32(word, 0, word, 0));
}

INLINE void header_rounds(stream *s, stream *t)
{
    BOTH_PLAIN(1) BOTH_PLAIN(2) BOTH_PLAIN(3)
    FROM_4_TO_14(BOTH_EXTENDED)
    BOTH_EXTENDED(15)
}

INLINE void begin_digest(stream *s, const stream *midstate, const stream *start)
{
    add_state(s, midstate);
    get_state(s, &s->w[0], &s->w[1]);
    s->w[2] = start->w[2];
    s->w[3] = start->w[3];
    s->abef = start->abef;
    s->cdgh = start->cdgh;
}

INLINE void digest_rounds(stream *s, stream *t)
{
    BOTH_PLAIN(0) BOTH_PLAIN(1) BOTH_PLAIN(2) BOTH_PLAIN(3)
    FROM_4_TO_14(BOTH_EXTENDED)
}

/* The last word of the hash, which is the e of round 60. */
INLINE uint32_t last_word(stream *s)
{
    extend(s, 15);
    __m128i fe = _mm_sha256rnds2_epu32(s->cdgh, s->abef, plus_k(s, 15));
    return __builtin_bswap32((uint32_t)_mm_cvtsi128_si32(fe) + hp_sha256_start[7]);
}

static TARGET int scan(const hp_sha256d_work *work, uint32_t first, uint64_t count,
                       uint32_t *found)
{
    const uint32_t *h = work->header; /* variable v at (v + 4) mod 8 */
    stream known = {
        .abef = _mm_setr_epi32((int)h[1], (int)h[0], (int)h[5], (int)h[4]),
        .cdgh = _mm_setr_epi32((int)h[3], (int)h[2], (int)h[7], (int)h[6]),
        .w = {_mm_setr_epi32((int)work->w[0], (int)work->w[1], (int)work->w[2], 0),
              _mm_setr_epi32((int)0x80000000, 0, 0, 0), _mm_setzero_si128(),
              _mm_setr_epi32(0, 0, 0, 80 * 8)},
    };
    stream midstate, start, s, t;

    load_state(&midstate, work->midstate);
    load_state(&start, hp_sha256_start);
    start.w[2] = _mm_setr_epi32((int)0x80000000, 0, 0, 0);
    start.w[3] = _mm_setr_epi32(0, 0, 0, HP_SHA256_DIGEST * 8);
    for (uint64_t done = 0; done < count; done += 2) {
        uint32_t nonce = first + (uint32_t)done;

        begin_header(&s, &known, nonce);
        begin_header(&t, &known, nonce + 1);
        header_rounds(&s, &t);
        begin_digest(&s, &midstate, &start);
        begin_digest(&t, &midstate, &start);
        digest_rounds(&s, &t);
        int s_hit = last_word(&s) <= work->limit;
        int t_hit = last_word(&t) <= work->limit;
        if (s_hit || t_hit) {
            *found = s_hit ? nonce : nonce + 1;
            return 1;
        }
    }
    return 0;
}

const hp_sha256_impl hp_sha256_shani = {
    .name = "shani",
    .compress = hp_sha256_shani_compress,
    .mac = hp_sha256_shani_mac,
    .scan = scan,
    .supported = hp_cpu_has_sha,
};

#endif
