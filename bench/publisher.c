/* A node that only publishes: enough of ZMTP 3.0 (rfc.zeromq.org/spec/23) to be PUB for one
 * subscriber, without a thread of libzmq between its send(2) and the wire. */
#include "floor.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    GREETING_BYTES = 64,
    MORE = 1,
    LONG = 2,
    COMMAND = 4,
    HEAD_BYTES_MAX = 7 + 9, /* the topic's frame, the transaction's flags and size */
    TAIL_BYTES = 6,         /* the frame of the sequence number */
    BATCH_MAX = 64,
    PARTS = 3,
};

#define SPIN_NS INT64_C(100000) /* before a message is due: a core that slept is slow */
#define SEND_WAIT_S 5

struct hp_publisher {
    int listener;
    int subscriber; /* -1 without one */
    uint32_t sequence;
};

typedef struct frames {
    uint8_t head[HEAD_BYTES_MAX];
    uint8_t tail[TAIL_BYTES];
} frames;

static int64_t now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- the connection -------------------------------------------------------------------------- */

hp_publisher *hp_publisher_new(uint16_t *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof at;
    hp_publisher *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->subscriber = -1;
    p->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (p->listener < 0 || bind(p->listener, (struct sockaddr *)&at, len) < 0 ||
        listen(p->listener, 1) < 0 || getsockname(p->listener, (struct sockaddr *)&at, &len) < 0) {
        hp_publisher_free(p);
        return NULL;
    }
    *port = ntohs(at.sin_port);
    return p;
}

void hp_publisher_hang_up(hp_publisher *p)
{
    if (p->subscriber >= 0)
        close(p->subscriber);
    p->subscriber = -1;
}

void hp_publisher_free(hp_publisher *p)
{
    if (!p)
        return;
    hp_publisher_hang_up(p);
    if (p->listener >= 0)
        close(p->listener);
    free(p);
}

static int wait_readable(int fd, int64_t deadline_ns)
{
    int64_t left_ns = deadline_ns - now_ns(CLOCK_MONOTONIC);
    struct pollfd of = {fd, POLLIN, 0};
    if (left_ns <= 0)
        return -ETIMEDOUT;
    int n = poll(&of, 1, (int)(left_ns / 1000000) + 1);
    return n < 0 ? -errno : n == 0 ? -ETIMEDOUT : 0;
}

static int read_all(int fd, uint8_t *into, size_t len, int64_t deadline_ns)
{
    while (len > 0) {
        int rc = wait_readable(fd, deadline_ns);
        if (rc < 0)
            return rc;
        ssize_t n = recv(fd, into, len, 0);
        if (n <= 0)
            return n < 0 ? -errno : -ECONNRESET;
        into += n;
        len -= (size_t)n;
    }
    return 0;
}

/* A short frame; what a subscriber says at the start never needs a long one. */
static int read_frame(int fd, uint8_t head[2], uint8_t body[256], int64_t deadline_ns)
{
    int rc = read_all(fd, head, 2, deadline_ns);
    if (rc == 0 && (head[0] & LONG))
        return -EPROTO;
    return rc < 0 ? rc : read_all(fd, body, head[1], deadline_ns);
}

static int shake_hands(int fd, int64_t deadline_ns)
{
    static const uint8_t greeting[GREETING_BYTES] = {
        [0] = 0xff, [9] = 0x7f, [10] = 3, [12] = 'N', 'U', 'L', 'L'};
    static const uint8_t ready[] = "\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03PUB";
    uint8_t theirs[GREETING_BYTES], head[2], body[256];
    if (send(fd, greeting, sizeof greeting, MSG_NOSIGNAL) < 0 ||
        send(fd, ready, sizeof ready - 1, MSG_NOSIGNAL) < 0)
        return -errno;
    int rc = read_all(fd, theirs, sizeof theirs, deadline_ns);
    if (rc < 0)
        return rc;
    if (theirs[0] != 0xff || theirs[9] != 0x7f || theirs[10] < 3)
        return -EPROTO;
    do {
        rc = read_frame(fd, head, body, deadline_ns);
        if (rc < 0)
            return rc;
    } while (head[0] & COMMAND); /* READY; a 3.0 subscription is a message, 1 and the topic */
    return head[1] >= 1 && body[0] == 1 ? 0 : -EPROTO;
}

int hp_publisher_accept(hp_publisher *p, int64_t timeout_ns)
{
    int64_t deadline_ns = now_ns(CLOCK_MONOTONIC) + timeout_ns;
    struct timeval patience = {SEND_WAIT_S, 0};
    int on = 1;
    hp_publisher_hang_up(p);
    int rc = wait_readable(p->listener, deadline_ns);
    if (rc < 0)
        return rc;
    p->subscriber = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
    if (p->subscriber < 0)
        return -errno;
    p->sequence = 0;
    setsockopt(p->subscriber, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(p->subscriber, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    return shake_hands(p->subscriber, deadline_ns);
}

/* ---- messages -------------------------------------------------------------------------------- */

/* The parts of one message: topic and transaction's frame, the transaction, sequence number. */
static void write_parts(struct iovec part[PARTS], frames *f, const uint8_t *raw, size_t len,
                        uint32_t sequence)
{
    size_t head_len = 8;
    memcpy(f->head, "\x01\x05rawtx", 7);
    if (len < 256) {
        f->head[7] = MORE;
        f->head[head_len++] = (uint8_t)len;
    } else {
        f->head[7] = MORE | LONG;
        for (int shift = 56; shift >= 0; shift -= 8)
            f->head[head_len++] = (uint8_t)(len >> shift);
    }
    f->tail[0] = 0;
    f->tail[1] = 4;
    for (int i = 0; i < 4; i++)
        f->tail[2 + i] = (uint8_t)(sequence >> 8 * i);
    part[0] = (struct iovec){f->head, head_len};
    part[1] = (struct iovec){(uint8_t *)raw, len};
    part[2] = (struct iovec){f->tail, TAIL_BYTES};
}

/* All parts, however the kernel takes them. */
static int send_parts(int fd, struct iovec *part, size_t n)
{
    while (n > 0) {
        struct msghdr message = {.msg_iov = part, .msg_iovlen = n};
        ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN ? -ETIMEDOUT : -errno;
        size_t left = (size_t)sent;
        while (n > 0 && left >= part->iov_len) {
            left -= part->iov_len;
            part++;
            n--;
        }
        if (n > 0) {
            part->iov_base = (uint8_t *)part->iov_base + left;
            part->iov_len -= left;
        }
    }
    return 0;
}

/* Asleep, and awake for the last moment. */
static void wait_until(int64_t due_ns)
{
    int64_t wake_ns = due_ns - SPIN_NS;
    struct timespec at = {wake_ns / 1000000000, wake_ns % 1000000000};
    if (now_ns(CLOCK_MONOTONIC) < wake_ns)
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
    while (now_ns(CLOCK_MONOTONIC) < due_ns)
        ;
}

int hp_publisher_paced(hp_publisher *p, const uint8_t *raw, const uint64_t *at, size_t n,
                       int64_t interval_ns, int64_t *sent_ns)
{
    int64_t start_ns = now_ns(CLOCK_MONOTONIC) + interval_ns;
    frames f;
    struct iovec part[PARTS];
    for (size_t i = 0; i < n; i++) {
        write_parts(part, &f, raw + at[i], (size_t)(at[i + 1] - at[i]), p->sequence++);
        wait_until(start_ns + (int64_t)i * interval_ns);
        sent_ns[i] = now_ns(CLOCK_REALTIME);
        int rc = send_parts(p->subscriber, part, PARTS);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int hp_publisher_burst(hp_publisher *p, const uint8_t *raw, const uint64_t *at, size_t n,
                       size_t total)
{
    frames f[BATCH_MAX];
    struct iovec part[BATCH_MAX * PARTS];
    for (size_t done = 0; done < total;) {
        size_t batch = total - done < BATCH_MAX ? total - done : BATCH_MAX;
        for (size_t i = 0; i < batch; i++, done++) {
            size_t which = done % n;
            write_parts(part + i * PARTS, f + i, raw + at[which],
                        (size_t)(at[which + 1] - at[which]), p->sequence++);
        }
        int rc = send_parts(p->subscriber, part, batch * PARTS);
        if (rc < 0)
            return rc;
    }
    return 0;
}
