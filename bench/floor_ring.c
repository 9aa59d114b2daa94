/* The same send through io_uring, in each of the ways a ring can be set up. */
#include "floor_ring.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#define ENTRIES 8
#define WAIT_NS INT64_C(1000000000)
#define SQ_IDLE_MS 2000 /* before the kernel's thread of SQPOLL falls asleep */

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

hp_floor_ring *hp_floor_ring_new(enum hp_floor_way way, int *error)
{
    static const unsigned flags[] = {
        [HP_FLOOR_PLAIN] = 0,
        /* TASKRUN_FLAG: who spins must see that there is something to enter the kernel for. */
        [HP_FLOOR_COOP] = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN |
                          IORING_SETUP_TASKRUN_FLAG,
        [HP_FLOOR_DEFER] = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                           IORING_SETUP_TASKRUN_FLAG,
        [HP_FLOOR_SQPOLL] = IORING_SETUP_SQPOLL,
    };
    struct io_uring_params params = {.flags = flags[way], .sq_thread_idle = SQ_IDLE_MS};
    hp_floor_ring *ring = calloc(1, sizeof *ring);
    *error = -ENOMEM;
    if (!ring)
        return NULL;
    ring->way = way;
    *error = io_uring_queue_init_params(ENTRIES, &ring->uring, &params);
    if (*error < 0) {
        free(ring);
        return NULL;
    }
    return ring;
}

void hp_floor_ring_free(hp_floor_ring *ring)
{
    if (!ring)
        return;
    io_uring_queue_exit(&ring->uring);
    free(ring);
}

static int submit(hp_floor_ring *ring)
{
    int rc = ring->way == HP_FLOOR_DEFER ? io_uring_submit_and_get_events(&ring->uring)
                                         : io_uring_submit(&ring->uring);
    return rc < 0 ? rc : 0;
}

int hp_floor_ring_finish(hp_floor_ring *ring, int64_t wait_ns, int64_t *submitted_ns)
{
    struct io_uring_cqe *cqe;
    int rc = submit(ring);
    int64_t deadline_ns = (*submitted_ns = now_ns()) + wait_ns;
    while (rc == 0 && io_uring_peek_cqe(&ring->uring, &cqe) != 0)
        if (now_ns() > deadline_ns)
            rc = -ETIME;
    if (rc < 0)
        return rc;
    rc = cqe->res;
    io_uring_cqe_seen(&ring->uring, cqe);
    return rc;
}

int64_t hp_floor_ring_send_ns(hp_floor_ring *ring, int fd, const uint8_t *data, size_t len,
                              int64_t *submit_ns)
{
    int64_t submitted_ns;
    int64_t before_ns = now_ns();
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
    if (!sqe)
        return -EBUSY;
    io_uring_prep_send(sqe, fd, data, len, MSG_NOSIGNAL);
    int sent = hp_floor_ring_finish(ring, WAIT_NS, &submitted_ns);
    int64_t took_ns = now_ns() - before_ns;
    *submit_ns = submitted_ns - before_ns;
    if (sent < 0)
        return sent;
    return (size_t)sent == len ? took_ns : -EMSGSIZE;
}
