/* Clocks; hp_now_ns() is in harpoon.h. */
#ifndef HP_CLOCK_H
#define HP_CLOCK_H

#include "harpoon.h"

/* CLOCK_REALTIME now, in ms since the epoch: what venues put in a timestamp. */
int64_t hp_epoch_ms(void);

#endif
