/* The TLS session of a dry run. */
#ifndef HP_TLS_REHEARSAL_H
#define HP_TLS_REHEARSAL_H

#include "harpoon.h"

/* A client whose TLS 1.3 handshake is done, with a server that existed only in this process and is
 * gone: hp_tls_seal() makes real records, nobody can read them. NULL on failure with *error set. */
hp_tls *hp_tls_rehearsal_new(int *error);

#endif
