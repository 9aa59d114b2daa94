/* A bare send(2), timed the way the engine times its own. */
#include "floor.h"

#include <errno.h>
#include <sys/socket.h>
#include <time.h>

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t hp_floor_send_ns(int fd, const uint8_t *data, size_t len)
{
    int64_t before_ns = now_ns();
    ssize_t sent = send(fd, data, len, MSG_NOSIGNAL);
    int64_t after_ns = now_ns();
    if (sent < 0)
        return -errno;
    return (size_t)sent == len ? after_ns - before_ns : -EMSGSIZE;
}
