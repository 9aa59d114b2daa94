/* A ring of the floor, for those who measure with it. */
#ifndef HP_FLOOR_RING_H
#define HP_FLOOR_RING_H

#include "floor.h"

#include <liburing.h>

struct hp_floor_ring {
    struct io_uring uring;
    enum hp_floor_way way;
};

/* Submit the one operation that is prepared and spin until it is done: its result, or -errno.
 * *submitted_ns: when the caller was free to go on (CLOCK_MONOTONIC). After -ETIME the kernel may
 * still use the operation's memory. */
int hp_floor_ring_finish(hp_floor_ring *ring, int64_t wait_ns, int64_t *submitted_ns);

#endif
