/* Every socket of the hot thread: connect, receive, send, and one place to sleep until any of them
 * has something. Two implementations: io_uring (ring.c), and recv(2) with ppoll(2) (syscall.c). */
#ifndef HP_IO_H
#define HP_IO_H

#include "harpoon.h"

#include <liburing.h>
#include <stdatomic.h>
#include <sys/socket.h>

#define HP_IO_PORTS 16
#define HP_IO_SLICE_NS INT64_C(100000000) /* of a wait, between two looks at `aborted` */

typedef struct hp_io hp_io;

enum hp_io_state {
    HP_IO_IDLE = 0,
    HP_IO_STARTED, /* asked for with a system call, when somebody wants to know */
    HP_IO_QUEUED,  /* the kernel's */
    HP_IO_DONE,
};

typedef struct hp_io_port {
    uint8_t *into;
    size_t cap;
    int fd;              /* -1: nobody's */
    int32_t result;      /* of a receive that is done */
    uint32_t generation; /* one more for every socket: tells their operations apart */
    uint8_t receive;     /* enum hp_io_state */
    uint8_t connect;     /* DONE: connected */
    uint8_t writable;    /* connect's wait for it */
} hp_io_port;

/* What an implementation does; io.c keeps the ports. */
typedef struct hp_io_way {
    int (*open)(hp_io *io); /* 0 or -HP_ERING, with io->words */
    void (*close)(hp_io *io);
    int (*received)(hp_io *io, int port, int32_t *n);
    int (*start_writable)(hp_io *io, int port);
    int (*writable)(hp_io *io, int port); /* 1 or 0 */
    int (*cancel)(hp_io *io, int port);   /* 0 when nothing is in flight any more, or -EBUSY */
    int (*turn)(hp_io *io);
    int (*wait)(hp_io *io, int64_t timeout_ns);
} hp_io_way;

struct hp_io {
    const hp_io_way *way;
    const atomic_int *aborted;
    hp_io_port ports[HP_IO_PORTS];
    struct io_uring uring;
    uint32_t untaken; /* completions that nobody has asked for yet */
    int wake_fd;
    uint8_t wake_armed;
    char words[320];  /* what is used, or why nothing can be */
    uint8_t apart[64]; /* other threads write the next line, the owner the lines before */
    atomic_int wake;  /* enum in io.c */
    uint8_t apart_too[64];
};

/* The memory is zeroed before the first opening. The calling thread becomes the only one that may
 * use it, but for hp_io_wake(). `aborted` is set by any thread and ends what waits to send. 0 or
 * -HP_ERING. */
int hp_io_open(hp_io *io, int transport, const atomic_int *aborted);
/* Detaches what is attached. No thread may be in hp_io_wake() any more. */
void hp_io_close(hp_io *io);

/* Takes over a non-blocking stream socket: its port, or -ENOSPC; then it stays the caller's. */
int hp_io_attach(hp_io *io, int fd);
/* Ends what is in flight on the socket and closes it: 0, and the kernel holds no pointer of ours,
 * nor will anything of it be taken for the port's next socket. -EBUSY when that cannot be had, as
 * in a thread that does not own `io`: the port and what it receives into are lost. */
int hp_io_detach(hp_io *io, int port);
/* For getsockopt(2) and setsockopt(2); the socket stays the port's. */
int hp_io_fd(const hp_io *io, int port);

/* 0 or -errno. The address is not needed any longer. */
int hp_io_start_connect(hp_io *io, int port, const struct sockaddr *to, socklen_t len);
/* 1 from when the socket is connected, 0 not yet, -errno. Never waits. */
int hp_io_connected(hp_io *io, int port);

/* Receive what comes next, once: 0, or -EBUSY with another one not yet taken. The memory is not the
 * caller's until received or detached. */
int hp_io_start_recv(hp_io *io, int port, uint8_t *into, size_t cap);
/* 1 with *n (bytes, 0 at the end, -errno) and the next receive must be started; 0 nothing came
 * yet. Never waits. */
int hp_io_received(hp_io *io, int port, int32_t *n);

/* As many bytes as the socket takes now: how many, 0 when it is full, or -errno: none has left. */
int hp_io_try_send(hp_io *io, int port, const uint8_t *data, size_t len);
/* Whether a socket that was full takes bytes again, a good many of them, or has an error to say. */
int hp_io_has_room(const hp_io *io, int port);
/* All `len` bytes: 0, -errno, -HP_ETIME_OUT or -ECANCELED (some of them may have left). It waits
 * until the deadline, an hp_now_ns() time, only where the socket takes no more. */
int hp_io_send(hp_io *io, int port, const uint8_t *data, size_t len, int64_t deadline_ns);

/* Let what has been started begin and what has come in, without waiting: 0 or -errno. Often. */
int hp_io_turn(hp_io *io);
/* The same, and sleep until a port has something to take, or somebody wakes us, or a signal comes,
 * or the time is over: 0 whichever it was, or -errno. With a port that has something already, it
 * does not sleep. */
int hp_io_wait(hp_io *io, int64_t timeout_ns);
/* Any thread and any signal handler. It ends the owner's present hp_io_wait(), or else the next one
 * at once, after which the owner sees what was stored before the call. So nobody need look twice:
 * the owner looks at all that others may store between one wait and the next. */
void hp_io_wake(hp_io *io);

/* For the implementations. */
extern const hp_io_way hp_io_uring;
extern const hp_io_way hp_io_syscall;
/* hp_io_received() of a receive that was started and not queued. */
int hp_io_receive_now(hp_io_port *port, int32_t *n);
void hp_io_drain_wakes(hp_io *io);

#endif
