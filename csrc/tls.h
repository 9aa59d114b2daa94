/* What tls.c and its rehearsal share: one end of a TLS connection over two fixed buffers. */
#ifndef HP_TLS_H
#define HP_TLS_H

#include "seal.h"

#include <openssl/ssl.h>

#define HP_TLS_INPUT_BYTES 65536
#define HP_TLS_OUTPUT_BYTES 65536
#define HP_TLS_CIPHER_LEN 63 /* protocol and cipher suite by name */

_Static_assert(HP_TLS_INPUT_BYTES >= SSL3_RT_MAX_PACKET_SIZE, "a record fits the input");
_Static_assert(HP_TLS_OUTPUT_BYTES >= 2 * SSL3_RT_MAX_PACKET_SIZE, "records fit the output");

enum hp_writer { /* who makes the records that leave */
    HP_WRITER_UNDECIDED = 0, /* OpenSSL, until the first application record */
    HP_WRITER_OPENSSL,       /* for good */
    HP_WRITER_OURS,          /* from here on nothing that OpenSSL writes leaves */
    HP_WRITER_ENDED,         /* it was ours, and nothing leaves any more */
};

struct hp_tls {
    SSL_CTX *ctx;
    BIO_METHOD *method;
    SSL *ssl;
    const char *reason; /* a constant string of OpenSSL's */
    enum hp_writer writer;
    uint8_t update_due; /* the peer has asked for a KeyUpdate */
    char cipher[HP_TLS_CIPHER_LEN + 1];
    size_t input_at, input_end; /* what waits is input[input_at..input_end) */
    size_t output_at, output_end;
    uint8_t input[HP_TLS_INPUT_BYTES];
    uint8_t output[HP_TLS_OUTPUT_BYTES];
    hp_seal seal;
};

/* One end, client or server as `ctx` says. Takes over `ctx`, also when it fails; NULL when it does,
 * and when `ctx` is NULL. */
hp_tls *hp_tls_over(SSL_CTX *ctx);

#endif
