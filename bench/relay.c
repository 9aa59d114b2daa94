/* The least that a program between a node and a venue can do: recv, send. */
#include "floor.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { CHUNK_BYTES = 1 << 16, LONG = 2, MORE = 1 };

/* Where in the stream of frames the reader is. */
typedef struct walk {
    uint8_t head[9];
    size_t head_len;
    uint64_t body_left;
} walk;

static int64_t now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* How many messages end in these bytes. */
static size_t count_messages(walk *w, const uint8_t *data, size_t len)
{
    size_t messages = 0;
    while (len > 0) {
        if (w->body_left == 0) {
            w->head[w->head_len++] = *data++;
            len--;
            if (w->head_len < ((w->head[0] & LONG) ? 9u : 2u))
                continue;
            for (size_t i = 1; i < w->head_len; i++)
                w->body_left = w->body_left << 8 | w->head[i];
            w->head_len = 0;
        }
        uint64_t some = len < w->body_left ? len : w->body_left;
        w->body_left -= some;
        data += some;
        len -= some;
        if (w->body_left == 0 && !(w->head[0] & MORE))
            messages++;
    }
    return messages;
}

/* recv, and CLOCK_REALTIME ns at which the kernel had the last byte of it. */
static ssize_t receive(int fd, uint8_t *into, size_t cap, int64_t *stamp_ns)
{
    struct iovec part = {into, cap};
    union {
        struct cmsghdr align;
        uint8_t bytes[CMSG_SPACE(sizeof(struct timespec))];
    } control;
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT);
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) {
        struct timespec at;
        memcpy(&at, CMSG_DATA(c), sizeof at);
        *stamp_ns = (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
    }
    return n;
}

int hp_floor_relay(int from, int to, const uint8_t *order, size_t len, size_t every, size_t n,
                   int64_t *readable_ns, int64_t *sent_ns)
{
    static _Thread_local uint8_t chunk[CHUNK_BYTES];
    walk w = {.head_len = 0};
    size_t seen = 0, orders = 0;
    while (orders < n) {
        int64_t stamp_ns = 0;
        ssize_t got = receive(from, chunk, sizeof chunk, &stamp_ns);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (got <= 0)
            return got < 0 ? -errno : (int)orders;
        size_t ended = count_messages(&w, chunk, (size_t)got);
        size_t due = (seen + ended) / every - seen / every;
        seen += ended;
        if (due == 0)
            continue;
        if (send(to, order, len, MSG_NOSIGNAL) != (ssize_t)len)
            return -errno;
        for (size_t i = 0; i < due && orders < n; i++, orders++) {
            readable_ns[orders] = stamp_ns;
            sent_ns[orders] = now_ns(CLOCK_REALTIME);
        }
    }
    return (int)orders;
}

int64_t hp_floor_discard(int fd)
{
    static _Thread_local uint8_t chunk[CHUNK_BYTES];
    int64_t total = 0;
    for (;;) {
        ssize_t n = recv(fd, chunk, sizeof chunk, MSG_DONTWAIT);
        if (n > 0)
            total += n;
        else if (n == 0)
            return total;
        else if (errno != EAGAIN && errno != EINTR)
            return -errno;
        else
            sched_yield(); /* to the kernel's thread of SQPOLL, where there are only two cores */
    }
}
