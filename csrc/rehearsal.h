/* Orders for nobody: what dry-run does instead of sending, and what keeps the live path warm. */
#ifndef HP_REHEARSAL_H
#define HP_REHEARSAL_H

#include "io.h"

typedef struct hp_rehearsal hp_rehearsal;

/* A TLS session with nobody and, where loopback allows it, a TCP connection to ourselves. `io`
 * must outlive it. NULL on failure with *error set. */
hp_rehearsal *hp_rehearsal_new(hp_io *io, int *error);
void hp_rehearsal_free(hp_rehearsal *rehearsal);

/* Seal a frame and throw the record away: 0, or -HP_ETLS... */
int hp_rehearsal_seal(hp_rehearsal *rehearsal, const uint8_t *frame, size_t len);
/* Seal a frame and send the record to ourselves. */
void hp_rehearsal_send(hp_rehearsal *rehearsal, const uint8_t *frame, size_t len);

#endif
