/* io_uring through liburing: receives wait in the kernel, and what came is seen in memory. */
#include "io.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define ENTRIES 64 /* more than can be in flight: two for each port, their cancels, the wake */
#define CANCEL_WAIT_NS INT64_C(100000000)

enum op { RECEIVE, WRITABLE, WAKE, CANCEL };

_Static_assert(ENTRIES >= 2 * HP_IO_PORTS + 2 + 1, "every operation has an entry");

/* Best first. DEFER_TASKRUN (Linux 6.1) and COOP_TASKRUN (5.19) spare the hot thread interrupts;
 * TASKRUN_FLAG says in memory when there is something to be fetched. SINGLE_ISSUER (6.0) saves a
 * lock. bench/BENCHMARKS.md has their figures. */
static const struct set_up {
    unsigned flags;
    const char *words;
} set_ups[] = {
    {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
     "SINGLE_ISSUER, DEFER_TASKRUN"},
    {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
     "SINGLE_ISSUER, COOP_TASKRUN"},
    {IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG, "COOP_TASKRUN"},
    {0, "plain"},
};

static const int needed_opcodes[] = {IORING_OP_RECV, IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL};

static void explain(hp_io *io, int error)
{
    const char *cure =
        error == -EPERM || error == -EACCES
            ? "allow it with `sysctl -w kernel.io_uring_disabled=0`, or lift the container's "
              "seccomp profile"
        : error == -ENOSYS ? "use a Linux kernel >= 5.11 built with CONFIG_IO_URING"
        : error == -ENOMEM ? "raise the locked-memory limit (`ulimit -l`)"
                           : "see `dmesg`";
    snprintf(io->words, sizeof io->words,
             "io_uring_setup failed (%s): %s, or set transport = \"syscall\" in [engine]",
             strerror(-error), cure);
}

static int has_opcodes(hp_io *io)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(&io->uring);
    int ok = probe != NULL;
    for (size_t i = 0; ok && i < sizeof needed_opcodes / sizeof needed_opcodes[0]; i++)
        ok = io_uring_opcode_supported(probe, needed_opcodes[i]);
    io_uring_free_probe(probe);
    return ok;
}

static void close_ring(hp_io *io)
{
    io_uring_queue_exit(&io->uring);
}

static int open_ring(hp_io *io)
{
    int rc = -EINVAL;
    size_t i = 0;
    for (; i < sizeof set_ups / sizeof set_ups[0] && rc == -EINVAL; i++)
        rc = io_uring_queue_init(ENTRIES, &io->uring, set_ups[i].flags);
    if (rc < 0) {
        explain(io, rc);
        return -HP_ERING;
    }
    if (!has_opcodes(io) || !(io->uring.features & IORING_FEAT_EXT_ARG)) {
        close_ring(io);
        snprintf(io->words, sizeof io->words,
                 "this kernel's io_uring lacks receive, poll, cancel or a wait with a timeout: use "
                 "Linux >= 5.11, or set transport = \"syscall\" in [engine]");
        return -HP_ERING;
    }
    snprintf(io->words, sizeof io->words, "io_uring (%s)", set_ups[i - 1].words);
    return 0;
}

/* ---- completions ----------------------------------------------------------------------------- */

/* The generation keeps a cancel that comes late from the port's next socket. */
static uint64_t name_of(const hp_io *io, int port, enum op op)
{
    return (uint64_t)io->ports[port].generation << 32 | (uint64_t)port << 8 | op;
}

static hp_io_port *port_of(hp_io *io, const struct io_uring_cqe *cqe)
{
    return &io->ports[cqe->user_data >> 8 & 0xff];
}

/* Of a port that was lost when it was detached nobody takes anything: it is free again. */
static uint8_t state_after(hp_io *io, const hp_io_port *p)
{
    io->untaken += p->fd >= 0;
    return p->fd >= 0 ? HP_IO_DONE : HP_IO_IDLE;
}

static void on_completion(hp_io *io, const struct io_uring_cqe *cqe)
{
    switch (cqe->user_data & 0xff) {
    case RECEIVE:
        port_of(io, cqe)->result = cqe->res;
        port_of(io, cqe)->receive = state_after(io, port_of(io, cqe));
        break;
    case WRITABLE:
        port_of(io, cqe)->writable = state_after(io, port_of(io, cqe));
        break;
    case WAKE:
        io->wake_armed = 0;
        hp_io_drain_wakes(io);
        break;
    default: /* a cancel: what it cancelled has a completion of its own */
        break;
    }
}

static void reap(hp_io *io)
{
    struct io_uring_cqe *cqe;
    unsigned head;
    unsigned seen = 0;
    io_uring_for_each_cqe(&io->uring, head, cqe) {
        on_completion(io, cqe);
        seen++;
    }
    if (seen)
        io_uring_cq_advance(&io->uring, seen);
}

/* A full submission queue, an interrupted wait and a full completion queue are no failures. */
static int entered(hp_io *io, int rc)
{
    reap(io);
    return rc < 0 && rc != -ETIME && rc != -EINTR && rc != -EAGAIN && rc != -EBUSY ? rc : 0;
}

/* Submit what is prepared and wait for a completion: 0 or -errno. */
static int enter(hp_io *io, int64_t timeout_ns)
{
    struct io_uring_cqe *cqe = NULL;
    struct __kernel_timespec ts = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    return entered(io, io_uring_submit_and_wait_timeout(&io->uring, &cqe, 1, &ts, NULL));
}

/* Only memory is read when there is nothing to do. */
static int turn(hp_io *io)
{
    unsigned flags = IO_URING_READ_ONCE(*io->uring.sq.kflags);
    int rc = 0;
    if (io_uring_sq_ready(&io->uring) || flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW))
        rc = io_uring_submit_and_get_events(&io->uring);
    return entered(io, rc);
}

/* ---- operations ------------------------------------------------------------------------------ */

static struct io_uring_sqe *prepare(hp_io *io)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&io->uring);
    if (sqe)
        return sqe;
    io_uring_submit(&io->uring);
    return io_uring_get_sqe(&io->uring);
}

static int start_receive(hp_io *io, int port)
{
    hp_io_port *p = &io->ports[port];
    struct io_uring_sqe *sqe = prepare(io);
    if (!sqe)
        return -EBUSY;
    io_uring_prep_recv(sqe, p->fd, p->into, p->cap, 0);
    sqe->user_data = name_of(io, port, RECEIVE);
    p->receive = HP_IO_STARTED;
    return 0;
}

static int received(hp_io *io, int port, int32_t *n)
{
    hp_io_port *p = &io->ports[port];
    if (p->receive != HP_IO_DONE)
        return 0;
    p->receive = HP_IO_IDLE;
    io->untaken--;
    if ((p->result == -EAGAIN || p->result == -EINTR) && start_receive(io, port) == 0)
        return 0;
    *n = p->result;
    return 1;
}

static int start_writable(hp_io *io, int port)
{
    struct io_uring_sqe *sqe = prepare(io);
    if (!sqe)
        return -EBUSY;
    io_uring_prep_poll_add(sqe, io->ports[port].fd, POLLOUT);
    sqe->user_data = name_of(io, port, WRITABLE);
    io->ports[port].writable = HP_IO_STARTED;
    return 0;
}

static int writable(hp_io *io, int port)
{
    hp_io_port *p = &io->ports[port];
    if (p->writable != HP_IO_DONE)
        return 0;
    p->writable = HP_IO_IDLE;
    io->untaken--;
    return 1;
}

static int cancel_one(hp_io *io, int port, enum op op)
{
    struct io_uring_sqe *sqe = prepare(io);
    if (!sqe)
        return -EBUSY;
    io_uring_prep_cancel64(sqe, name_of(io, port, op), 0);
    sqe->user_data = CANCEL;
    return 0;
}

/* No deadline: going on while the kernel may still use our memory is worse than waiting, and a
 * socket's operations can always be cancelled. */
static int cancel(hp_io *io, int port)
{
    hp_io_port *p = &io->ports[port];
    int rc = 0;
    while (rc == 0 && (p->receive == HP_IO_STARTED || p->writable == HP_IO_STARTED)) {
        if (p->receive == HP_IO_STARTED)
            rc = cancel_one(io, port, RECEIVE);
        if (rc == 0 && p->writable == HP_IO_STARTED)
            rc = cancel_one(io, port, WRITABLE);
        if (rc == 0)
            rc = enter(io, CANCEL_WAIT_NS);
    }
    if (rc < 0)
        return -EBUSY;
    io->untaken -= (uint32_t)((p->receive == HP_IO_DONE) + (p->writable == HP_IO_DONE));
    p->receive = p->writable = HP_IO_IDLE;
    return 0;
}

/* ---- sleeping -------------------------------------------------------------------------------- */

static int arm_wake(hp_io *io)
{
    if (io->wake_armed)
        return 0;
    struct io_uring_sqe *sqe = prepare(io);
    if (!sqe)
        return -EBUSY;
    io_uring_prep_poll_add(sqe, io->wake_fd, POLLIN);
    sqe->user_data = WAKE;
    io->wake_armed = 1;
    return 0;
}

static int wait_for_any(hp_io *io, int64_t timeout_ns)
{
    int rc = arm_wake(io);
    if (rc < 0)
        return rc;
    return io->untaken ? turn(io) : enter(io, timeout_ns);
}

const hp_io_way hp_io_uring = {
    .open = open_ring,
    .close = close_ring,
    .start_receive = start_receive,
    .received = received,
    .start_writable = start_writable,
    .writable = writable,
    .cancel = cancel,
    .turn = turn,
    .wait = wait_for_any,
};
