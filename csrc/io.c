/* What both ways of doing I/O share: the ports, connecting, sending, waking. */
#include "io.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define WAIT_NS_MOST INT64_C(3600000000000) /* more would overflow in the kernel's clock */

enum wake { AWAKE = 0, ASLEEP, WOKEN };

static const hp_io_way *const ways[] = {
    [HP_TRANSPORT_URING] = &hp_io_uring,
    [HP_TRANSPORT_SYSCALL] = &hp_io_syscall,
};

int hp_io_open(hp_io *io, int transport, const atomic_int *aborted)
{
    io->aborted = aborted;
    memset(io->ports, 0, sizeof io->ports);
    for (int i = 0; i < HP_IO_PORTS; i++)
        io->ports[i].fd = -1;
    io->untaken = 0;
    io->wake_armed = 0;
    io->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (io->wake_fd < 0) {
        snprintf(io->words, sizeof io->words, "eventfd failed (%s): %s", strerror(errno),
                 "free file descriptors (`ulimit -n`)");
        return -HP_ERING;
    }
    int rc = ways[transport]->open(io);
    if (rc < 0) {
        close(io->wake_fd);
        return rc;
    }
    io->way = ways[transport];
    return 0;
}

void hp_io_close(hp_io *io)
{
    if (!io->way)
        return;
    for (int i = 0; i < HP_IO_PORTS; i++)
        if (io->ports[i].fd >= 0)
            hp_io_detach(io, i);
    io->way->close(io);
    io->way = NULL;
    close(io->wake_fd);
}

/* ---- ports ----------------------------------------------------------------------------------- */

/* A port that was lost when it was detached still has something in flight. */
static int is_free(const hp_io_port *p)
{
    return p->fd < 0 && p->receive != HP_IO_QUEUED && p->writable != HP_IO_QUEUED;
}

int hp_io_attach(hp_io *io, int fd)
{
    for (int i = 0; i < HP_IO_PORTS; i++) {
        hp_io_port *p = &io->ports[i];
        if (is_free(p)) {
            *p = (hp_io_port){.fd = fd, .generation = p->generation + 1};
            return i;
        }
    }
    return -ENOSPC;
}

int hp_io_detach(hp_io *io, int port)
{
    hp_io_port *p = &io->ports[port];
    shutdown(p->fd, SHUT_RDWR); /* completes a receive at once */
    int rc = io->way->cancel(io, port);
    close(p->fd);
    p->fd = -1;
    return rc;
}

int hp_io_fd(const hp_io *io, int port)
{
    return io->ports[port].fd;
}

/* ---- connecting ------------------------------------------------------------------------------ */

/* connect(2) and a wait for POLLOUT, in either way: IORING_OP_CONNECT saves nothing where nobody is
 * in a hurry, and of a non-blocking socket older kernels tell it -EINPROGRESS. */
int hp_io_start_connect(hp_io *io, int port, const struct sockaddr *to, socklen_t len)
{
    hp_io_port *p = &io->ports[port];
    if (connect(p->fd, to, len) == 0) {
        p->connect = HP_IO_DONE;
        return 0;
    }
    if (errno != EINPROGRESS)
        return -errno;
    p->connect = HP_IO_STARTED;
    return io->way->start_writable(io, port);
}

int hp_io_connected(hp_io *io, int port)
{
    hp_io_port *p = &io->ports[port];
    if (p->connect != HP_IO_STARTED)
        return p->connect == HP_IO_DONE ? 1 : -ENOTCONN;
    if (!io->way->writable(io, port))
        return 0;
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        error = errno;
    p->connect = error ? HP_IO_IDLE : HP_IO_DONE;
    return error ? -error : 1;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

int hp_io_start_recv(hp_io *io, int port, uint8_t *into, size_t cap)
{
    hp_io_port *p = &io->ports[port];
    if (p->receive != HP_IO_IDLE)
        return -EBUSY;
    p->into = into;
    p->cap = cap;
    p->receive = HP_IO_STARTED;
    return 0;
}

int hp_io_receive_now(hp_io_port *p, int32_t *n)
{
    ssize_t got;
    do {
        got = recv(p->fd, p->into, p->cap, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got < 0 && errno == EAGAIN)
        return 0;
    p->receive = HP_IO_IDLE;
    *n = got < 0 ? -errno : (int32_t)got;
    return 1;
}

int hp_io_received(hp_io *io, int port, int32_t *n)
{
    return io->way->received(io, port, n);
}

/* 0 when the socket may take more, or has an error that send(2) will tell. */
static int await_writable(hp_io *io, int fd, int64_t deadline_ns)
{
    for (;;) {
        if (atomic_load_explicit(io->aborted, memory_order_acquire))
            return -ECANCELED;
        int64_t left_ns = deadline_ns - hp_now_ns();
        if (left_ns <= 0)
            return -HP_ETIME_OUT;
        left_ns = left_ns < HP_IO_SLICE_NS ? left_ns : HP_IO_SLICE_NS;
        struct pollfd writable = {.fd = fd, .events = POLLOUT};
        struct timespec left = {0, left_ns};
        int rc = ppoll(&writable, 1, &left, NULL);
        if (rc > 0)
            return 0;
        if (rc < 0 && errno != EINTR)
            return -errno;
    }
}

/* Not a submission to the ring, in either way: send(2) of an order is 0.2 to 0.5 us faster
 * (bench/BENCHMARKS.md), and nothing of ours is in flight when it returns. */
int hp_io_try_send(hp_io *io, int port, const uint8_t *data, size_t len)
{
    ssize_t sent;
    do {
        sent = send(io->ports[port].fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return (int)sent;
    return errno == EAGAIN ? 0 : -errno;
}

int hp_io_has_room(const hp_io *io, int port)
{
    struct pollfd writable = {.fd = io->ports[port].fd, .events = POLLOUT};
    return poll(&writable, 1, 0) > 0;
}

int hp_io_send(hp_io *io, int port, const uint8_t *data, size_t len, int64_t deadline_ns)
{
    while (len > 0) {
        int sent = hp_io_try_send(io, port, data, len);
        if (sent < 0)
            return sent;
        data += sent;
        len -= (size_t)sent;
        int rc = len > 0 ? await_writable(io, io->ports[port].fd, deadline_ns) : 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- turns, sleep and wakes ------------------------------------------------------------------ */

int hp_io_turn(hp_io *io)
{
    return io->way->turn(io);
}

/* The exchanges on `wake` are totally ordered. A waker's before our AWAKE -> ASLEEP fails that one,
 * and we do not sleep; one behind it finds ASLEEP, and writes to the descriptor on which we sleep.
 * Either way ours that follows reads what the waker's wrote, or a later waker's, and so sees what
 * was stored before it. */
int hp_io_wait(hp_io *io, int64_t timeout_ns)
{
    int awake = AWAKE;
    int sleeps = timeout_ns > 0 && atomic_compare_exchange_strong(&io->wake, &awake, ASLEEP);
    int64_t wait_ns = timeout_ns < WAIT_NS_MOST ? timeout_ns : WAIT_NS_MOST;
    int rc = sleeps ? io->way->wait(io, wait_ns) : io->way->turn(io);
    if (timeout_ns > 0)
        atomic_exchange(&io->wake, AWAKE);
    return rc;
}

void hp_io_wake(hp_io *io)
{
    if (atomic_exchange(&io->wake, WOKEN) != ASLEEP)
        return;
    int before = errno;
    eventfd_write(io->wake_fd, 1);
    errno = before;
}

void hp_io_drain_wakes(hp_io *io)
{
    eventfd_t wakes;
    eventfd_read(io->wake_fd, &wakes);
}
