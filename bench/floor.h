/* The floor: what the kernel, OpenSSL and the processor alone cost. CFFI reads this file, like
 * csrc/harpoon.h. */
#ifndef HP_FLOOR_H
#define HP_FLOOR_H

#include <stddef.h>
#include <stdint.h>

/* ns (CLOCK_MONOTONIC) from before send(2) to after it returned, or -errno. A short send counts as
 * -EMSGSIZE: it would not be the same bytes. */
int64_t hp_floor_send_ns(int fd, const uint8_t *data, size_t len);

/* The same through io_uring, from before the submission to the completion, for which the caller
 * spins. */
enum hp_floor_way {
    HP_FLOOR_PLAIN = 0,
    HP_FLOOR_COOP = 1,   /* SINGLE_ISSUER | COOP_TASKRUN */
    HP_FLOOR_DEFER = 2,  /* SINGLE_ISSUER | DEFER_TASKRUN */
    HP_FLOOR_SQPOLL = 3, /* a thread of the kernel's submits */
};
typedef struct hp_floor_ring hp_floor_ring;

/* For the calling thread; NULL and -errno where the kernel refuses. */
hp_floor_ring *hp_floor_ring_new(enum hp_floor_way way, int *error);
void hp_floor_ring_free(hp_floor_ring *ring);
/* As hp_floor_send_ns(); *submit_ns is what the caller had spent when it was free to go on. After
 * -ETIME (no completion within a second) the ring can only be freed. */
int64_t hp_floor_ring_send_ns(hp_floor_ring *ring, int fd, const uint8_t *data, size_t len,
                              int64_t *submit_ns);

/* The peer of a send: read and forget, never asleep, until the end: bytes, or -errno. */
int64_t hp_floor_discard(int fd);

/* ---- a node and the least answer to it ------------------------------------------------------- */

/* A publisher of `rawtx` on loopback for one ZMTP subscriber at a time. Transaction i is at
 * [at[i], at[i + 1]) of `raw`; all return 0 or -errno. A subscriber that takes nothing for five
 * seconds is -ETIMEDOUT. */
typedef struct hp_publisher hp_publisher;

hp_publisher *hp_publisher_new(uint16_t *port);
void hp_publisher_free(hp_publisher *p);
/* The next subscriber, once it has subscribed, in the place of the one before; its messages are
 * numbered from 0. -EPROTO: it does not speak ZMTP 3. */
int hp_publisher_accept(hp_publisher *p, int64_t timeout_ns);
void hp_publisher_hang_up(hp_publisher *p);
/* n transactions at fixed times, however late the subscriber is; each is one sendmsg(2), before
 * which sent_ns[i] (CLOCK_REALTIME) is taken. */
int hp_publisher_paced(hp_publisher *p, const uint8_t *raw, const uint64_t *at, size_t n,
                       int64_t interval_ns, int64_t *sent_ns);
/* `total` messages, the n transactions again and again, as fast as they are taken, 64 in a call. */
int hp_publisher_burst(hp_publisher *p, const uint8_t *raw, const uint64_t *at, size_t n,
                       size_t total);

/* Receive on `from`, a subscribed socket with SO_TIMESTAMPNS, and behind every `every`-th message
 * send `order` to `to`, spinning: by recvmsg(2) and send(2), or through `ring` where that is not
 * NULL. For order i: when the kernel had the last byte of its message, and when the send was done
 * (both CLOCK_REALTIME). The number of orders, less than n when the stream ends before; -errno,
 * -ETIME when nothing came for 20 seconds. */
int hp_floor_relay(hp_floor_ring *ring, int from, int to, const uint8_t *order, size_t len,
                   size_t every, size_t n, int64_t *readable_ns, int64_t *sent_ns);

/* ---- the walk and the book ------------------------------------------------------------------- */

/* Loops over functions of the engine's library, given by address; ns for all n, -1 when an
 * answer was not the expected one. */
typedef struct hp_loop_script {
    uint8_t bytes[31];
    uint8_t len;
} hp_loop_script;

/* Made-up scripts, the same for the same numbers. */
void hp_loop_scripts(uint64_t first, size_t n, hp_loop_script *scripts);
/* Scripts 0 to n - 1 through hp_book_add. */
int hp_loop_fill(uintptr_t add, uintptr_t book, size_t n, uint32_t owner);
/* Transaction i is at [at[i], at[i + 1]); through hp_tx_parse_exact. */
int64_t hp_loop_walk_ns(uintptr_t parse, const uint8_t *raw, const uint64_t *at, size_t n);
/* Through hp_engine_rawtx; -1 when one is malformed. */
int64_t hp_loop_rawtx_ns(uintptr_t rawtx, uintptr_t engine, const uint8_t *raw, const uint64_t *at,
                         size_t n);
/* The functions of an engine in single steps, by their addresses. */
typedef struct hp_loop_engine {
    uintptr_t engine, poll, hold, rawtx;
} hp_loop_engine;

/* `times` transactions of `len` bytes each, one behind the other in `raw`, in turns with bare
 * send(2)s of n bytes: each after a pause in which the engine is polled all the time (park 0) or
 * once with so long to wait. Without `ahead` it is held meanwhile, and so has no order made. 0, or
 * -errno. */
int hp_loop_fire_and_send(const hp_loop_engine *e, const uint8_t *raw, size_t len, size_t times,
                          int64_t pause_ns, int park, int ahead, int fd, const uint8_t *bytes,
                          size_t n, int64_t *send_ns);
/* Through hp_book_find, one after the other as fast as the core can. */
int64_t hp_loop_find_ns(uintptr_t find, uintptr_t book, const hp_loop_script *scripts, size_t n,
                        uint32_t expected);
/* The next one starts when the one before is done. */
int64_t hp_loop_find_alone_ns(uintptr_t find, uintptr_t book, const hp_loop_script *scripts,
                              size_t n, uint32_t expected);
/* The floor of a lookup: n loads, each from the 64-byte line that the one before named. */
void hp_loop_chain(uint64_t *table, size_t lines);
int64_t hp_loop_load_ns(const uint64_t *table, uint64_t *at, size_t n);
/* Read one byte a cache line: afterwards the caches hold these. */
uint64_t hp_loop_read(const uint8_t *data, size_t bytes);

/* ---- HMAC-SHA256 --------------------------------------------------------------------------- */

typedef struct hp_floor_key hp_floor_key; /* one key, prepared for each of OpenSSL's ways */

/* NULL when the secret is longer than 64 bytes or OpenSSL has no memory. */
hp_floor_key *hp_floor_key_new(const uint8_t *secret, size_t len);
void hp_floor_key_free(hp_floor_key *key);

/* 32 bytes into `out`. The four below take a hp_floor_key. */
typedef void (*hp_floor_sign)(const void *key, const uint8_t *message, size_t len, uint8_t *out);

void hp_floor_one_shot(const void *key, const uint8_t *message, size_t len, uint8_t *out);
void hp_floor_evp_mac(const void *key, const uint8_t *message, size_t len, uint8_t *out);
void hp_floor_hmac_ctx(const void *key, const uint8_t *message, size_t len, uint8_t *out);
/* SHA256_CTX copied with the pads already in it: the fastest. */
void hp_floor_midstates(const void *key, const uint8_t *message, size_t len, uint8_t *out);

/* ns of `times` codes one after another: the first `chained` bytes of each message are those of the
 * code before, so that with 1 to 32 none can begin before that is known. */
int64_t hp_floor_sign_ns(hp_floor_sign sign, const void *key, uint8_t *message, size_t len,
                         size_t chained, uint32_t times);

/* As hp_hmac_sign_batch(). */
typedef void (*hp_floor_batch)(const void *const *key, const uint8_t *const *message,
                               const size_t *len, size_t n, uint8_t *out);

/* ns of `times` batches. */
int64_t hp_floor_batch_ns(hp_floor_batch batch, const void *const *key,
                          const uint8_t *const *message, const size_t *len, size_t n, uint8_t *out,
                          uint32_t times);

/* ns of `times` times `rounds` SHA-256 rounds and nothing else, by SHA256RNDS2, two rounds each,
 * every one waiting for the one before; only for a CPU with SHA-NI. -ENOTSUP in other builds. */
int64_t hp_floor_rounds_ns(uint32_t rounds, uint32_t times);

#endif
