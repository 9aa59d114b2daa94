/* The other way: recv(2) when asked, ppoll(2) to sleep. For where io_uring is forbidden. */
#include "io.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>

static int open_nothing(hp_io *io)
{
    snprintf(io->words, sizeof io->words, "recv(2), send(2), ppoll(2)");
    return 0;
}

static void close_nothing(hp_io *io)
{
    (void)io;
}

static int start_receive(hp_io *io, int port)
{
    io->ports[port].receive = HP_IO_STARTED;
    return 0;
}

static int received(hp_io *io, int port, int32_t *n)
{
    hp_io_port *p = &io->ports[port];
    if (p->receive != HP_IO_STARTED)
        return 0;
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

static int start_writable(hp_io *io, int port)
{
    io->ports[port].writable = HP_IO_STARTED;
    return 0;
}

static int writable(hp_io *io, int port)
{
    hp_io_port *p = &io->ports[port];
    struct pollfd one = {.fd = p->fd, .events = POLLOUT};
    if (poll(&one, 1, 0) <= 0)
        return 0;
    p->writable = HP_IO_IDLE;
    return 1;
}

static int cancel(hp_io *io, int port)
{
    io->ports[port].receive = HP_IO_IDLE;
    io->ports[port].writable = HP_IO_IDLE;
    return 0;
}

static int turn(hp_io *io)
{
    (void)io;
    return 0;
}

static int wait_for_any(hp_io *io, int64_t timeout_ns)
{
    struct pollfd all[HP_IO_PORTS + 1] = {{.fd = io->wake_fd, .events = POLLIN}};
    nfds_t n = 1;
    for (int i = 0; i < HP_IO_PORTS; i++) {
        const hp_io_port *p = &io->ports[i];
        short events = (short)((p->receive == HP_IO_STARTED ? POLLIN : 0) |
                               (p->writable == HP_IO_STARTED ? POLLOUT : 0));
        if (events) /* without, an error would wake us again and again */
            all[n++] = (struct pollfd){.fd = p->fd, .events = events};
    }
    struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    int ready = ppoll(all, n, &timeout, NULL);
    if (ready > 0 && all[0].revents)
        hp_io_drain_wakes(io);
    return ready < 0 && errno != EINTR ? -errno : 0;
}

const hp_io_way hp_io_syscall = {
    .open = open_nothing,
    .close = close_nothing,
    .start_receive = start_receive,
    .received = received,
    .start_writable = start_writable,
    .writable = writable,
    .cancel = cancel,
    .turn = turn,
    .wait = wait_for_any,
};
