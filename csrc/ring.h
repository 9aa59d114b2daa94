/* io_uring: the only file that does I/O. One connection: at most one operation of each kind is in
 * flight, and a completion is found by its kind. */
#ifndef HP_RING_H
#define HP_RING_H

#include "harpoon.h"

#include <liburing.h>
#include <stdatomic.h>
#include <sys/socket.h>

enum hp_ring_op {
    HP_RING_CONNECT = 0,
    HP_RING_SEND,
    HP_RING_RECV,
    HP_RING_CANCEL,
    HP_RING_NOP,
    HP_RING_OPS,
};

typedef struct hp_ring {
    struct io_uring uring;
    int32_t result[HP_RING_OPS];
    uint8_t in_flight[HP_RING_OPS];
    uint8_t done[HP_RING_OPS];
    uint8_t is_open;
    const atomic_int *aborted; /* set by any thread: waits end with -ECANCELED */
    char words[256]; /* what is used, or why nothing can be */
} hp_ring;

/* The calling thread becomes the only one that may use the ring. 0 or -HP_ERING. */
int hp_ring_open(hp_ring *ring, const atomic_int *aborted);
void hp_ring_close(hp_ring *ring);

/* 0, -errno, or -HP_ETIME_OUT. Deadlines are hp_now_ns() times. */
int hp_ring_connect(hp_ring *ring, int fd, const struct sockaddr *to, socklen_t len,
                    int64_t deadline_ns);
/* All `len` bytes: 0, -errno, or -HP_ETIME_OUT (some of them may have left). */
int hp_ring_send(hp_ring *ring, int fd, const uint8_t *data, size_t len, int64_t deadline_ns);
/* Receive into `into` whenever something comes; take the result with hp_ring_received(). */
int hp_ring_start_recv(hp_ring *ring, int fd, uint8_t *into, size_t cap);
/* 1 with *result (bytes, 0 at the end, -errno), waiting up to timeout_ns; 0 nothing came. */
int hp_ring_received(hp_ring *ring, int64_t timeout_ns, int32_t *result);
/* The ring's descriptor is readable while a completion waits in it. A receive that completed while
 * we waited for something else is out of it already: make the descriptor readable for that. */
void hp_ring_show(hp_ring *ring);
/* No receive is in flight any more: 0, and the kernel holds no pointer of ours. -EBUSY when that
 * cannot be had, as in a thread that does not own the ring. */
int hp_ring_cancel_recv(hp_ring *ring);

#endif
