/* Clocks; hp_now_ns() is in harpoon.h. */
#ifndef HP_CLOCK_H
#define HP_CLOCK_H

#include "harpoon.h"

/* CLOCK_REALTIME now, in ms since the epoch: what venues put in a timestamp. */
int64_t hp_epoch_ms(void);

/* How long the machine was suspended since it was started: CLOCK_MONOTONIC stands still then. */
int64_t hp_suspended_ns(void);

#endif
