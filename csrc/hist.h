/* A latency histogram of fixed size: log-linear buckets, no value off by more than 1/128. */
#ifndef HP_HIST_H
#define HP_HIST_H

#include "harpoon.h"

#define HP_HIST_SUB_BITS 7 /* buckets per power of two, as a power of two */
#define HP_HIST_POWERS 40  /* up to 2^40 ns, 18 minutes; longer counts as that */
#define HP_HIST_BUCKETS ((HP_HIST_POWERS - HP_HIST_SUB_BITS + 1) << HP_HIST_SUB_BITS)

typedef struct hp_hist {
    uint64_t count;
    int64_t max_ns;
    uint64_t buckets[HP_HIST_BUCKETS];
} hp_hist;

void hp_hist_add(hp_hist *hist, int64_t value_ns);
void hp_hist_read(const hp_hist *hist, hp_latency *latency);

#endif
