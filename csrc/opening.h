/* A connection to the venue that is about to be opened. The thread that asks for it makes all that
 * takes long or can be wrong, above all the TLS client with its CA store; the hot thread goes on
 * from there, and when the connection is over it lays the opening down: to free a CA store takes it
 * a millisecond or two. */
#ifndef HP_OPENING_H
#define HP_OPENING_H

#include "io.h"

#include <stdatomic.h>

#define HP_REQUEST_BYTES_MAX 8192

typedef struct hp_opening {
    struct hp_opening *next; /* of those laid down */
    hp_tls *tls;
    struct sockaddr_storage address;
    socklen_t address_len;
    int64_t timeout_ns;
    size_t request_len;
    uint8_t key[16];                       /* Sec-WebSocket-Key */
    char request[HP_REQUEST_BYTES_MAX];    /* for the upgrade */
    char peer[136];                        /* "localhost port 443" */
    char path[61];                         /* the beginning of it, for people */
} hp_opening;

typedef _Atomic(hp_opening *) hp_laid_down; /* the last of them */

/* NULL on failure with *error set: -HP_ETLS_CA; -EINVAL for an address, host or path that is none;
 * -HP_ECONFIG for a time out of its bounds; -ENOMEM, -EAGAIN. Nothing of `venue` is needed any
 * longer. */
hp_opening *hp_opening_new(const hp_venue_address *venue, int *error);
void hp_opening_free(hp_opening *opening);
/* The hot thread: it needs this one, which may be NULL, no longer. */
void hp_opening_lay_down(hp_laid_down *laid_down, hp_opening *opening);
/* Any thread that may take its time: free them. */
void hp_opening_free_all(hp_laid_down *laid_down);
/* Begin to connect: the port, on which hp_io_connected() tells, or an error. */
int hp_opening_connect(const hp_opening *opening, hp_io *io);

#endif
