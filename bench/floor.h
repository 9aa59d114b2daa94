/* The floor: what the kernel alone costs. CFFI reads this file, like csrc/harpoon.h. */
#ifndef HP_FLOOR_H
#define HP_FLOOR_H

#include <stddef.h>
#include <stdint.h>

/* ns (CLOCK_MONOTONIC) from before send(2) to after it returned, or -errno. A short send counts as
 * -EMSGSIZE: it would not be the same bytes. */
int64_t hp_floor_send_ns(int fd, const uint8_t *data, size_t len);

#endif
