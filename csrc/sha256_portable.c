/* SHA-256 in C alone, for every CPU: one lane of the template. */
#include "bytes.h"
#include "sha256.h"

#include <string.h>

#define LANES 1
#define LANE_TARGET
#define LANE_FN static inline __attribute__((always_inline))
#define MAC_FRAMES_BYTES 1024 /* more than mac_one() and what it calls take of the stack */

typedef uint32_t vec;

#define v_bswap __builtin_bswap32

LANE_FN vec v_set(uint32_t x)
{
    return x;
}

LANE_FN vec v_index(void)
{
    return 0;
}

LANE_FN vec v_add(vec x, vec y)
{
    return x + y;
}

LANE_FN vec v_ror(vec x, int n)
{
    return x >> n | x << (32 - n);
}

LANE_FN vec v_shr(vec x, int n)
{
    return x >> n;
}

LANE_FN vec v_xor3(vec x, vec y, vec z)
{
    return x ^ y ^ z;
}

LANE_FN vec v_ch(vec x, vec y, vec z)
{
    return z ^ (x & (y ^ z));
}

LANE_FN vec v_maj(vec x, vec y, vec z)
{
    return (x & y) | (z & (x | y));
}

LANE_FN unsigned v_at_most(vec x, uint32_t limit)
{
    return x <= limit;
}

#include "sha256_lanes.h"

void hp_sha256_portable_compress(uint32_t state[8], const uint8_t *data, size_t blocks)
{
    uint32_t s[8], w[16];

    memcpy(s, state, sizeof s);
    for (; blocks > 0; blocks--, data += HP_SHA256_BLOCK) {
        for (int i = 0; i < 16; i++)
            w[i] = hp_be32(data + 4 * i);
        rounds_16(s, w, 0);
        for (int t = 16; t < 64; t += 16)
            extended_rounds_16(s, w, t);
        for (int i = 0; i < 8; i++)
            s[i] = state[i] += s[i];
    }
    explicit_bzero(s, sizeof s);
    explicit_bzero(w, sizeof w); /* a block may be a key's, see hmac.c */
}

static __attribute__((noinline)) void mac_one(const hp_mac_lane *lane)
{
    uint8_t block[HP_SHA256_BLOCK] = {[HP_SHA256_DIGEST] = 0x80};
    uint32_t state[8];

    memcpy(state, lane->states->inner, sizeof state);
    hp_sha256_portable_compress(state, lane->data, lane->blocks);
    hp_sha256_portable_compress(state, lane->last, lane->last_blocks);
    hp_sha256_store(state, block);
    hp_store_be64(block + HP_SHA256_BLOCK - 8, (HP_SHA256_BLOCK + HP_SHA256_DIGEST) * 8);
    memcpy(state, lane->states->outer, sizeof state);
    hp_sha256_portable_compress(state, block, 1);
    hp_sha256_store(state, lane->out);
    explicit_bzero(state, sizeof state);
    explicit_bzero(block, sizeof block); /* the inner digest */
}

#if defined(__has_attribute) && __has_attribute(zero_call_used_regs)
#define ZERO_REGISTERS __attribute__((zero_call_used_regs("all")))
#else
#define ZERO_REGISTERS
#endif

/* What the compiler kept of a key beside the variables that are wiped: the frames lay where this
 * one lies. Registers that are left go to the stack with the next signal or lazily bound call. */
static ZERO_REGISTERS __attribute__((noinline)) void wipe_frames(void)
{
    uint8_t frames[MAC_FRAMES_BYTES];

    explicit_bzero(frames, sizeof frames);
}

void hp_sha256_portable_mac(const hp_mac_lane *const lane[], size_t n)
{
    for (size_t j = 0; j < n; j++)
        mac_one(lane[j]);
    wipe_frames();
}

static int every_cpu(void)
{
    return 1;
}

const hp_sha256_impl hp_sha256_portable = {
    .name = "portable",
    .compress = hp_sha256_portable_compress,
    .mac = hp_sha256_portable_mac,
    .scan = scan_lanes,
    .supported = every_cpu,
};
