/* The least that a program between a node and a venue can do: receive, send. */
#include "floor_ring.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { CHUNK_BYTES = 1 << 16, LONG = 2, MORE = 1 };

#define QUIET_NS INT64_C(20000000000) /* a node that says nothing for so long is gone */

/* Where in the stream of frames the reader is. */
typedef struct walk {
    uint8_t head[9];
    size_t head_len;
    uint64_t body_left;
} walk;

static int64_t clock_ns(clockid_t clock)
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

typedef struct received {
    struct iovec part;
    struct msghdr message;
    union {
        struct cmsghdr align;
        uint8_t bytes[CMSG_SPACE(sizeof(struct timespec))];
    } control;
} received;

/* Spins until something has come: bytes, 0 at the end, -errno. */
static int receive(hp_floor_ring *ring, int fd, received *r)
{
    int64_t submitted_ns;
    r->message = (struct msghdr){.msg_iov = &r->part, .msg_iovlen = 1, .msg_control = &r->control,
                                 .msg_controllen = sizeof r->control};
    if (ring) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
        if (!sqe)
            return -EBUSY;
        io_uring_prep_recvmsg(sqe, fd, &r->message, 0);
        return hp_floor_ring_finish(ring, QUIET_NS, &submitted_ns);
    }
    int64_t deadline_ns = clock_ns(CLOCK_MONOTONIC) + QUIET_NS;
    for (;;) {
        ssize_t n = recvmsg(fd, &r->message, MSG_DONTWAIT);
        if (n >= 0)
            return (int)n;
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
        if (clock_ns(CLOCK_MONOTONIC) > deadline_ns)
            return -ETIME;
    }
}

/* CLOCK_REALTIME ns at which the kernel had the last byte of it, 0 when it does not say. */
static int64_t stamp_ns(received *r)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(&r->message);
    struct timespec at;
    if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SO_TIMESTAMPNS)
        return 0;
    memcpy(&at, CMSG_DATA(c), sizeof at);
    return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

/* 0 or -errno; a short send would not be an order. */
static int send_order(hp_floor_ring *ring, int fd, const uint8_t *order, size_t len)
{
    int64_t submit_ns;
    if (ring) {
        int64_t took_ns = hp_floor_ring_send_ns(ring, fd, order, len, &submit_ns);
        return took_ns < 0 ? (int)took_ns : 0;
    }
    ssize_t sent = send(fd, order, len, MSG_NOSIGNAL);
    return sent < 0 ? -errno : (size_t)sent == len ? 0 : -EMSGSIZE;
}

int hp_floor_relay(hp_floor_ring *ring, int from, int to, const uint8_t *order, size_t len,
                   size_t every, size_t n, int64_t *readable_ns, int64_t *sent_ns)
{
    static _Thread_local uint8_t chunk[CHUNK_BYTES];
    received r = {.part = {chunk, sizeof chunk}};
    walk w = {.head_len = 0};
    size_t seen = 0, orders = 0;
    while (orders < n) {
        int got = receive(ring, from, &r);
        if (got <= 0)
            return got < 0 ? got : (int)orders;
        size_t ended = count_messages(&w, chunk, (size_t)got);
        size_t due = (seen + ended) / every - seen / every;
        seen += ended;
        if (due == 0)
            continue;
        int rc = send_order(ring, to, order, len);
        int64_t now_ns = clock_ns(CLOCK_REALTIME);
        if (rc < 0)
            return rc;
        for (size_t i = 0; i < due && orders < n; i++, orders++) {
            readable_ns[orders] = stamp_ns(&r);
            sent_ns[orders] = now_ns;
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
