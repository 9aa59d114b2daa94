/* The floor: what the kernel, OpenSSL and the processor alone cost. CFFI reads this file, like
 * csrc/harpoon.h. */
#ifndef HP_FLOOR_H
#define HP_FLOOR_H

#include <stddef.h>
#include <stdint.h>

/* ns (CLOCK_MONOTONIC) from before send(2) to after it returned, or -errno. A short send counts as
 * -EMSGSIZE: it would not be the same bytes. */
int64_t hp_floor_send_ns(int fd, const uint8_t *data, size_t len);

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
