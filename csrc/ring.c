/* io_uring through liburing. */
#include "ring.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ENTRIES 16
#define CANCEL_WAIT_NS INT64_C(100000000)
#define SLICE_NS INT64_C(100000000) /* of a wait, between two looks at `aborted` */

/* Best first. COOP_TASKRUN (Linux 5.19) saves interrupts on the hot thread, SINGLE_ISSUER (6.0)
 * a lock. Not DEFER_TASKRUN: what it defers does not wake a thread that sleeps in poll(2) on the
 * ring's descriptor (seen on 6.18), and an order was not sent faster with it. */
static const struct set_up {
    unsigned flags;
    const char *words;
} set_ups[] = {
    {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN, "SINGLE_ISSUER, COOP_TASKRUN"},
    {IORING_SETUP_COOP_TASKRUN, "COOP_TASKRUN"},
    {0, "plain"},
};

static const int needed_opcodes[] = {IORING_OP_CONNECT, IORING_OP_SEND, IORING_OP_RECV,
                                     IORING_OP_ASYNC_CANCEL};

static void explain(hp_ring *ring, int error)
{
    const char *cure =
        error == -EPERM || error == -EACCES
            ? "allow it with `sysctl -w kernel.io_uring_disabled=0`, or lift the container's "
              "seccomp profile"
        : error == -ENOSYS ? "use a Linux kernel >= 5.11 built with CONFIG_IO_URING"
        : error == -ENOMEM ? "raise the locked-memory limit (`ulimit -l`)"
                           : "see `dmesg`";
    snprintf(ring->words, sizeof ring->words, "io_uring_setup failed (%s): %s", strerror(-error),
             cure);
}

static int has_opcodes(hp_ring *ring)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(&ring->uring);
    int ok = probe != NULL;
    for (size_t i = 0; ok && i < sizeof needed_opcodes / sizeof needed_opcodes[0]; i++)
        ok = io_uring_opcode_supported(probe, needed_opcodes[i]);
    io_uring_free_probe(probe);
    return ok;
}

int hp_ring_open(hp_ring *ring, const atomic_int *aborted)
{
    memset(ring, 0, sizeof *ring);
    ring->aborted = aborted;
    int rc = -EINVAL;
    size_t i = 0;
    for (; i < sizeof set_ups / sizeof set_ups[0] && rc == -EINVAL; i++)
        rc = io_uring_queue_init(ENTRIES, &ring->uring, set_ups[i].flags);
    if (rc < 0) {
        explain(ring, rc);
        return -HP_ERING;
    }
    ring->is_open = 1;
    if (!has_opcodes(ring)) {
        hp_ring_close(ring);
        snprintf(ring->words, sizeof ring->words,
                 "this kernel's io_uring lacks connect, send, recv or cancel: use Linux >= 5.11");
        return -HP_ERING;
    }
    snprintf(ring->words, sizeof ring->words, "io_uring (%s)", set_ups[i - 1].words);
    return 0;
}

void hp_ring_close(hp_ring *ring)
{
    if (ring->is_open)
        io_uring_queue_exit(&ring->uring);
    ring->is_open = 0;
}

static void reap(hp_ring *ring)
{
    struct io_uring_cqe *cqe;
    unsigned head;
    unsigned seen = 0;
    io_uring_for_each_cqe(&ring->uring, head, cqe) {
        uint64_t op = cqe->user_data;
        if (op < HP_RING_OPS) { /* liburing's own timeouts carry another user_data */
            ring->result[op] = cqe->res;
            ring->in_flight[op] = 0;
            ring->done[op] = 1;
        }
        seen++;
    }
    io_uring_cq_advance(&ring->uring, seen);
}

/* Submit what is prepared and collect completions, waiting for one up to timeout_ns: 0, 1 when the
 * time was over, or -errno. A signal ends the wait early. */
static int enter(hp_ring *ring, int64_t timeout_ns)
{
    int rc;
    if (timeout_ns > 0) {
        struct io_uring_cqe *cqe = NULL;
        struct __kernel_timespec ts = {timeout_ns / 1000000000, timeout_ns % 1000000000};
        rc = io_uring_submit_and_wait_timeout(&ring->uring, &cqe, 1, &ts, NULL);
    } else {
        rc = io_uring_submit_and_get_events(&ring->uring);
    }
    reap(ring);
    if (rc == -ETIME)
        return 1;
    return rc < 0 && rc != -EINTR && rc != -EAGAIN ? rc : 0;
}

/* One slice of a wait that goes on until the deadline: as enter(), or -HP_ETIME_OUT, -ECANCELED. */
static int enter_slice(hp_ring *ring, int64_t deadline_ns)
{
    int64_t left_ns = deadline_ns - hp_now_ns();
    if (left_ns <= 0)
        return -HP_ETIME_OUT;
    int rc = enter(ring, left_ns < SLICE_NS ? left_ns : SLICE_NS);
    return rc >= 0 && atomic_load_explicit(ring->aborted, memory_order_acquire) ? -ECANCELED : rc;
}

static struct io_uring_sqe *prepare(hp_ring *ring, enum hp_ring_op op)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
    if (sqe) {
        ring->in_flight[op] = 1;
        ring->done[op] = 0;
    }
    return sqe;
}

/* No deadline: going on while the kernel may still use our memory, or taking a late completion for
 * that of the next operation, is worse than waiting; and a socket's operations can always be
 * cancelled. */
static void cancel(hp_ring *ring, enum hp_ring_op op)
{
    struct io_uring_sqe *sqe = prepare(ring, HP_RING_CANCEL);
    if (sqe) {
        io_uring_prep_cancel64(sqe, op, 0);
        sqe->user_data = HP_RING_CANCEL;
    }
    while (ring->in_flight[op] || ring->in_flight[HP_RING_CANCEL])
        if (enter(ring, CANCEL_WAIT_NS) < 0)
            return;
}

/* Wait for one operation; others that complete meanwhile keep their results. */
static int finish(hp_ring *ring, enum hp_ring_op op, int64_t deadline_ns)
{
    int rc = enter(ring, 0); /* a send is mostly done at once */
    while (rc >= 0 && !ring->done[op])
        rc = enter_slice(ring, deadline_ns);
    if (rc < 0) {
        cancel(ring, op);
        return rc;
    }
    ring->done[op] = 0;
    return ring->result[op];
}

int hp_ring_connect(hp_ring *ring, int fd, const struct sockaddr *to, socklen_t len,
                    int64_t deadline_ns)
{
    struct io_uring_sqe *sqe = prepare(ring, HP_RING_CONNECT);
    if (!sqe)
        return -EBUSY;
    io_uring_prep_connect(sqe, fd, to, len);
    sqe->user_data = HP_RING_CONNECT;
    return finish(ring, HP_RING_CONNECT, deadline_ns);
}

int hp_ring_send(hp_ring *ring, int fd, const uint8_t *data, size_t len, int64_t deadline_ns)
{
    while (len > 0) {
        struct io_uring_sqe *sqe = prepare(ring, HP_RING_SEND);
        if (!sqe)
            return -EBUSY;
        io_uring_prep_send(sqe, fd, data, len, MSG_NOSIGNAL);
        sqe->user_data = HP_RING_SEND;
        int sent = finish(ring, HP_RING_SEND, deadline_ns);
        if (sent < 0)
            return sent;
        data += sent;
        len -= (size_t)sent;
    }
    return 0;
}

int hp_ring_start_recv(hp_ring *ring, int fd, uint8_t *into, size_t cap)
{
    struct io_uring_sqe *sqe = prepare(ring, HP_RING_RECV);
    if (!sqe)
        return -EBUSY;
    io_uring_prep_recv(sqe, fd, into, cap, 0);
    sqe->user_data = HP_RING_RECV;
    int rc = enter(ring, 0);
    return rc < 0 ? rc : 0;
}

int hp_ring_received(hp_ring *ring, int64_t timeout_ns, int32_t *result)
{
    if (!ring->done[HP_RING_RECV]) {
        int64_t deadline_ns = hp_now_ns() + timeout_ns;
        int rc = timeout_ns > 0 ? enter_slice(ring, deadline_ns) : enter(ring, 0);
        while (rc == 1 && !ring->done[HP_RING_RECV])
            rc = enter_slice(ring, deadline_ns);
        if (rc < 0 && rc != -HP_ETIME_OUT)
            return rc;
    }
    if (!ring->done[HP_RING_RECV])
        return 0;
    ring->done[HP_RING_RECV] = 0;
    *result = ring->result[HP_RING_RECV];
    return 1;
}

void hp_ring_show(hp_ring *ring)
{
    if (!ring->done[HP_RING_RECV] || ring->in_flight[HP_RING_NOP])
        return;
    struct io_uring_sqe *sqe = prepare(ring, HP_RING_NOP);
    if (!sqe)
        return;
    io_uring_prep_nop(sqe);
    sqe->user_data = HP_RING_NOP;
    io_uring_submit(&ring->uring);
}

int hp_ring_cancel_recv(hp_ring *ring)
{
    if (ring->in_flight[HP_RING_RECV])
        cancel(ring, HP_RING_RECV);
    ring->done[HP_RING_RECV] = 0;
    return ring->in_flight[HP_RING_RECV] ? -EBUSY : 0;
}
