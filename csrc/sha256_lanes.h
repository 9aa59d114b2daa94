/* SHA-256 of LANES messages side by side, each in one 32-bit lane of a `vec`: HMACs of messages of
 * any lengths, and the scan over the nonces of a block header. The file that includes this one
 * defines, for its instruction set,
 *     LANES, vec, LANE_TARGET (a function's attribute), LANE_FN (the same, always inlined),
 *     v_set (one word in every lane), v_index (0, 1, 2 ...), v_add, v_bswap,
 *     v_ror and v_shr (by a constant), v_xor3, v_ch, v_maj (FIPS 180-4 4.1.2),
 *     v_at_most (a bit for each lane that is <= a limit),
 * and, where there is more than one lane,
 *     v_and, v_load, v_store, v_rows (16 words in every lane, from 64 bytes for each), and, to wipe
 *     it after HMACs, MAC_FRAME_BYTES, the most that mac_lanes() takes of the stack.
 * Indices into arrays of `vec` are constants, so that all of them are registers. */
#include "sha256.h"

#include <string.h>

LANE_FN vec big_sigma0(vec x)
{
    return v_xor3(v_ror(x, 2), v_ror(x, 13), v_ror(x, 22));
}

LANE_FN vec big_sigma1(vec x)
{
    return v_xor3(v_ror(x, 6), v_ror(x, 11), v_ror(x, 25));
}

LANE_FN vec sigma0(vec x)
{
    return v_xor3(v_ror(x, 7), v_ror(x, 18), v_shr(x, 3));
}

LANE_FN vec sigma1(vec x)
{
    return v_xor3(v_ror(x, 17), v_ror(x, 19), v_shr(x, 10));
}

/* The n-th working variable (0 is a, 7 is h) of round i: they change names instead of places. */
#define VAR(n) s[((n) - i) & 7]

/* Round i without its a, for the last rounds before an e (FIPS 180-4 6.2.2 step 3). Adding K + W to
 * h first lets the compiler do it outside of the loop where both are the same for all nonces. */
LANE_FN vec round_e(vec s[8], int i, vec kw)
{
    vec t1 = v_add(v_add(v_add(VAR(7), kw), v_ch(VAR(4), VAR(5), VAR(6))), big_sigma1(VAR(4)));

    VAR(3) = v_add(VAR(3), t1);
    return t1;
}

LANE_FN void round_both(vec s[8], int i, vec kw)
{
    vec t1 = round_e(s, i, kw);

    VAR(7) = v_add(v_add(t1, v_maj(VAR(0), VAR(1), VAR(2))), big_sigma0(VAR(0)));
}

/* Word t of the schedule in the place of word t - 16, i = t mod 16 (FIPS 180-4 6.2.2 step 1). */
LANE_FN void extend(vec w[16], int i)
{
    vec near = v_add(sigma1(w[(i + 14) & 15]), w[(i + 9) & 15]);

    w[i] = v_add(v_add(w[i], sigma0(w[(i + 1) & 15])), near);
}

#define FROM_0_TO_15(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) FROM_8_TO_15(X)
#define FROM_8_TO_15(X) X(8) FROM_9_TO_15(X)
#define FROM_9_TO_15(X) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define FROM_1_TO_7(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define FROM_2_TO_7(X) X(2) X(3) X(4) X(5) X(6) X(7)

#define ROUND(i) round_both(s, i, v_add(w[i], v_set(hp_sha256_k[t + (i)])));
#define EXTENDED_ROUND(i) extend(w, i); ROUND(i)

LANE_FN void rounds_16(vec s[8], const vec w[16], int t)
{
    FROM_0_TO_15(ROUND)
}

LANE_FN void extended_rounds_16(vec s[8], vec w[16], int t)
{
    FROM_0_TO_15(EXTENDED_ROUND)
}

/* ---- HMAC ---------------------------------------------------------------------------------- */

#if LANES > 1

#define ROUND_OF_64(t) round_both(s, (t) & 7, v_add(w[(t) & 15], v_set(hp_sha256_k[t])));
#define FOUR_OF_64(i)                                                                              \
    ROUND_OF_64(4 * (i))                                                                           \
    extend(w, 3 * (i) & 15);                                                                       \
    ROUND_OF_64(4 * (i) + 1)                                                                       \
    extend(w, (3 * (i) + 1) & 15);                                                                 \
    ROUND_OF_64(4 * (i) + 2)                                                                       \
    extend(w, (3 * (i) + 2) & 15);                                                                 \
    ROUND_OF_64(4 * (i) + 3)

/* The rounds wait for each other, the schedule's 48 new words do not: three in every four rounds
 * fill the vector pipes evenly, each in the place of a word that was used by then. */
LANE_FN void rounds_64(vec s[8], vec w[16])
{
    FROM_0_TO_15(FOUR_OF_64)
}

/* Point at block `step` of every lane; a lane that has no such block gets a zero in `active`. */
static int lane_blocks(const hp_mac_lane *const lane[], size_t n, size_t step,
                       const void *at[LANES], uint32_t active[LANES])
{
    int any = 0;

    for (size_t j = 0; j < LANES; j++) {
        const hp_mac_lane *l = lane[j < n ? j : 0];
        int whole = step < l->blocks;
        int last = !whole && step - l->blocks < l->last_blocks;

        at[j] = whole ? l->data + step * HP_SHA256_BLOCK
                      : l->last + (last ? (step - l->blocks) * HP_SHA256_BLOCK : 0);
        active[j] = whole || last ? UINT32_MAX : 0;
        any |= whole || last;
    }
    return any;
}

/* Where each lane stands after its inner message (RFC 2104 2); `s` is where it began. */
static LANE_TARGET void lanes_inner(const hp_mac_lane *const lane[], size_t n, vec s[8])
{
    const void *at[LANES];
    uint32_t active[LANES];
    vec w[16], before[8], mask;

    for (size_t step = 0; lane_blocks(lane, n, step, at, active); step++) {
        v_rows(at, w);
        for (int i = 0; i < 16; i++)
            w[i] = v_bswap(w[i]);
        memcpy(before, s, sizeof before);
        rounds_64(s, w);
        mask = v_load(active);
        for (int i = 0; i < 8; i++)
            s[i] = v_add(before[i], v_and(s[i], mask));
    }
}

/* The outer message is the inner digest, whose words are already where they belong. */
static LANE_TARGET void mac_lanes(const hp_mac_lane *const lane[], size_t n)
{
    const void *at[LANES];
    uint32_t digest[8][16];
    vec states[16], w[16], s[8], rows[16];

    for (size_t j = 0; j < LANES; j++)
        at[j] = lane[j < n ? j : 0]->states;
    v_rows(at, states);
    memcpy(w, states, sizeof s);
    lanes_inner(lane, n, w);
    for (int i = 8; i < 16; i++)
        w[i] = v_set(i == 8 ? 0x80000000 : i == 15 ? (HP_SHA256_BLOCK + HP_SHA256_DIGEST) * 8 : 0);
    memcpy(s, states + 8, sizeof s);
    rounds_64(s, w);
    for (int i = 0; i < 8; i++)
        v_store(digest[i], v_bswap(v_add(s[i], states[8 + i])));
    /* Transposed once more, the digests are rows. */
    for (size_t j = 0; j < LANES; j++)
        at[j] = digest[j & 7];
    v_rows(at, rows);
    for (size_t j = 0; j < n; j++)
        memcpy(lane[j]->out, &rows[j], HP_SHA256_DIGEST);
}

#ifdef MAC_FRAME_BYTES
/* What mac_lanes() kept on the stack, and what the compiler kept there for it: its frame lay where
 * this one lies. */
static LANE_TARGET __attribute__((noinline)) void wipe_frames(void)
{
    vec frames[MAC_FRAME_BYTES / sizeof(vec)];

    for (size_t i = 0; i < sizeof frames / sizeof *frames; i++)
        frames[i] = v_set(0);
    __asm__ volatile("" : : "r"(frames) : "memory"); /* which uses them: no dead stores */
}
#else
#define wipe_frames() ((void)0)
#endif

/* hp_sha256_mac_fn. All lanes take as long for one message as for many, which is longer than one
 * message takes without them. */
static void mac(const hp_mac_lane *const lane[], size_t n)
{
    if (n > 1) {
        for (size_t some; n > 1; n -= some, lane += some) {
            some = n < LANES ? n : LANES;
            mac_lanes(lane, some);
        }
        wipe_frames();
    }
    hp_sha256_portable_mac(lane, n);
}

#endif

/* ---- the scan ------------------------------------------------------------------------------ */

#define EXTEND_FAR(i) w[i] = v_add(w[((i) + 9) & 15], sigma1(w[((i) + 14) & 15]));
#define EXTEND_NEAR(i)                                                                             \
    w[i] = v_add(v_add(w[i], sigma0(w[(i) + 1])), sigma1(w[((i) + 14) & 15]));
#define ADD_KNOWN(i, known) w[i] = v_add(w[i], v_set(known[i]));

/* Words 16 to 31 of a header's second block: of the words before them only the nonce differs. */
LANE_FN void extend_header(const uint32_t known[16], vec nonce, vec w[16])
{
    w[0] = v_set(known[0]);
    w[1] = v_set(known[1]);
    w[2] = v_add(sigma0(nonce), v_set(known[2]));
    w[3] = v_add(nonce, v_set(known[3]));
    w[4] = v_add(sigma1(w[2]), v_set(known[4]));
    w[5] = sigma1(w[3]);
    w[6] = v_add(sigma1(w[4]), v_set(known[6]));
    EXTEND_FAR(7)
    FROM_8_TO_15(EXTEND_FAR)
    ADD_KNOWN(14, known)
    ADD_KNOWN(15, known)
}

/* Words 16 to 31 of a digest's block from its words 0 to 7: the others are padding. */
LANE_FN void extend_digest(const uint32_t known[16], vec w[16])
{
    w[0] = v_add(w[0], sigma0(w[1]));
    w[1] = v_add(v_add(w[1], sigma0(w[2])), v_set(known[1]));
    EXTEND_NEAR(2)
    EXTEND_NEAR(3)
    EXTEND_NEAR(4)
    EXTEND_NEAR(5)
    EXTEND_NEAR(6)
    ADD_KNOWN(6, known)
    w[7] = v_add(v_add(w[7], w[0]), v_add(sigma1(w[5]), v_set(known[7])));
    w[8] = v_add(v_add(w[1], sigma1(w[6])), v_set(known[8]));
    FROM_9_TO_15(EXTEND_FAR)
    ADD_KNOWN(14, known)
    w[15] = v_add(w[15], v_add(sigma0(w[0]), v_set(known[15])));
}

#define HEADER_ROUND(i) round_both(s, i, v_set(work->header_kw[i]));

/* The first hash, from round 4 on, into the words 0 to 7 of the second one's block. */
LANE_FN void header_hash(const hp_sha256d_work *work, vec nonce, vec out[8])
{
    enum { t = 16 };
    vec s[8], w[16];

    for (int i = 0; i < 8; i++)
        s[i] = v_set(work->header[i]);
    s[0] = v_add(s[0], nonce);
    s[4] = v_add(s[4], nonce);
    HEADER_ROUND(4)
    HEADER_ROUND(5)
    HEADER_ROUND(6)
    HEADER_ROUND(7)
    FROM_8_TO_15(HEADER_ROUND)
    HEADER_ROUND(16)
    HEADER_ROUND(17)
    extend_header(work->header_known, nonce, w);
    FROM_2_TO_7(ROUND)
    FROM_8_TO_15(ROUND)
    extended_rounds_16(s, w, 32);
    extended_rounds_16(s, w, 48);
    for (int i = 0; i < 8; i++)
        out[i] = v_add(s[i], v_set(work->midstate[i]));
}

#define DIGEST_ROUND(i) round_both(s, i, v_set(work->digest_kw[i]));
#define LAST_ROUND(i)                                                                              \
    extend(w, i);                                                                                  \
    round_e(s, i, v_add(w[i], v_set(hp_sha256_k[t + (i)])));

/* The last word of the second hash: the e of round 60. An a needs four rounds to become an e. */
LANE_FN vec digest_hash(const hp_sha256d_work *work, vec w[16])
{
    vec s[8];

    for (int i = 0; i < 8; i++)
        s[i] = v_set(work->digest[i]);
    s[3] = v_add(s[3], w[0]);
    s[7] = v_add(s[7], w[0]);
    {
        enum { t = 0 };
        FROM_1_TO_7(ROUND)
        FROM_8_TO_15(DIGEST_ROUND)
    }
    extend_digest(work->digest_known, w);
    rounds_16(s, w, 16);
    extended_rounds_16(s, w, 32);
    {
        enum { t = 48 };
        EXTENDED_ROUND(0)
        FROM_1_TO_7(EXTENDED_ROUND)
        EXTENDED_ROUND(8)
        LAST_ROUND(9)
        LAST_ROUND(10)
        LAST_ROUND(11)
        LAST_ROUND(12)
    }
    return v_add(s[7], v_set(hp_sha256_start[7]));
}

/* hp_sha256d_scan_fn */
static LANE_TARGET int scan_lanes(const hp_sha256d_work *work, uint32_t first, uint64_t count,
                                  uint32_t *found)
{
    vec nonce = v_add(v_set(first), v_index());

    for (uint64_t done = 0; done < count; done += LANES) {
        vec w[16];

        header_hash(work, v_bswap(nonce), w);
        unsigned hits = v_at_most(v_bswap(digest_hash(work, w)), work->limit);
        if (hits != 0) {
            *found = first + (uint32_t)done + (uint32_t)__builtin_ctz(hits);
            return 1;
        }
        nonce = v_add(nonce, v_set(LANES));
    }
    return 0;
}
