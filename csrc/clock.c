/* The one place where clocks are read. */
#include "clock.h"

#include <time.h>

static int64_t read_ns(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t hp_now_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

int64_t hp_suspended_ns(void)
{
    return read_ns(CLOCK_BOOTTIME) - hp_now_ns();
}

int64_t hp_epoch_ms(void)
{
    return read_ns(CLOCK_REALTIME) / 1000000;
}
