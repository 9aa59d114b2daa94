/* HDR-style histogram: 128 buckets for every power of two. */
#include "hist.h"

#define SUB (1u << HP_HIST_SUB_BITS)

/* Values below SUB have a bucket each; above, the SUB_BITS bits under the leading one choose. */
static uint32_t bucket_of(uint64_t value)
{
    if (value < SUB)
        return (uint32_t)value;
    uint32_t power = 63u - (uint32_t)__builtin_clzll(value);
    uint32_t shift = power - HP_HIST_SUB_BITS;
    return ((shift + 1) << HP_HIST_SUB_BITS) + (uint32_t)((value >> shift) & (SUB - 1));
}

/* The largest value that falls into the bucket. */
static int64_t bucket_top(uint32_t bucket)
{
    if (bucket < SUB)
        return bucket;
    uint32_t shift = (bucket >> HP_HIST_SUB_BITS) - 1;
    uint64_t base = (uint64_t)(SUB + (bucket & (SUB - 1))) << shift;
    return (int64_t)(base + (UINT64_C(1) << shift) - 1);
}

void hp_hist_add(hp_hist *hist, int64_t value_ns)
{
    uint64_t value = value_ns < 0 ? 0 : (uint64_t)value_ns;
    uint64_t most = (UINT64_C(1) << HP_HIST_POWERS) - 1;
    if (value > most)
        value = most;
    hist->count++;
    hist->buckets[bucket_of(value)]++;
    if ((int64_t)value > hist->max_ns)
        hist->max_ns = (int64_t)value;
}

static int64_t at_rank(const hp_hist *hist, uint64_t rank)
{
    uint64_t below = 0;
    for (uint32_t i = 0; i < HP_HIST_BUCKETS; i++) {
        below += hist->buckets[i];
        if (below >= rank) {
            int64_t top = bucket_top(i);
            return top < hist->max_ns ? top : hist->max_ns;
        }
    }
    return hist->max_ns;
}

/* The smallest value that `per_mille` of the values do not exceed (nearest rank). */
static int64_t quantile(const hp_hist *hist, uint64_t per_mille)
{
    uint64_t rank = (hist->count * per_mille + 999) / 1000;
    return hist->count ? at_rank(hist, rank ? rank : 1) : 0;
}

void hp_hist_read(const hp_hist *hist, hp_latency *latency)
{
    latency->count = hist->count;
    latency->p50_ns = quantile(hist, 500);
    latency->p90_ns = quantile(hist, 900);
    latency->p99_ns = quantile(hist, 990);
    latency->p999_ns = quantile(hist, 999);
    latency->max_ns = hist->max_ns;
}
