/* tls_rehearsal.c: a handshake with ourselves, so that a dry run seals real records without using
 * up the sequence numbers of the real session. */
#include "tls_rehearsal.h"
#include "tls.h"

#include <openssl/err.h>
#include <openssl/x509.h>

#define FLIGHTS_MAX 4 /* TLS 1.3 needs two from the client, one from the server */

/* Self-signed; good for the hour, and nobody checks it. */
static X509 *make_certificate(EVP_PKEY *key)
{
    X509 *cert = X509_new();
    if (cert && X509_set_version(cert, X509_VERSION_3) &&
        ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) &&
        X509_gmtime_adj(X509_getm_notBefore(cert), 0) &&
        X509_gmtime_adj(X509_getm_notAfter(cert), 3600) &&
        X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                                   (const unsigned char *)"rehearsal", -1, -1, 0) &&
        X509_set_issuer_name(cert, X509_get_subject_name(cert)) && X509_set_pubkey(cert, key) &&
        X509_sign(cert, key, EVP_sha256()))
        return cert;
    X509_free(cert);
    return NULL;
}

static SSL_CTX *server_ctx(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = key ? make_certificate(key) : NULL;
    if (!ctx || !cert || !SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) ||
        !SSL_CTX_use_certificate(ctx, cert) || !SSL_CTX_use_PrivateKey(ctx, key)) {
        SSL_CTX_free(ctx);
        ctx = NULL;
    }
    X509_free(cert); /* the context has its own references */
    EVP_PKEY_free(key);
    return ctx;
}

/* What `from` has to say reaches `to`. */
static int deliver(hp_tls *from, hp_tls *to)
{
    const uint8_t *data;
    int len = hp_tls_output(from, &data);
    int rc = hp_tls_input(to, data, (size_t)len);
    hp_tls_sent(from, (size_t)len);
    return rc;
}

static int handshake(hp_tls *client, hp_tls *server)
{
    SSL_set_connect_state(client->ssl);
    SSL_set_accept_state(server->ssl);
    for (int flight = 0; flight < FLIGHTS_MAX; flight++) {
        int done = hp_tls_handshake(client);
        int rc = done < 0 ? done : deliver(client, server);
        if (rc >= 0)
            rc = hp_tls_handshake(server);
        if (rc < 0 || (done == 1 && rc == 1))
            return rc;
        if ((rc = deliver(server, client)) < 0)
            return rc;
    }
    return -HP_ETLS;
}

/* The write side becomes ours with the first record, as it does in a real session. */
static int take_over(hp_tls *client)
{
    const uint8_t *record;
    int rc = hp_tls_seal(client, (const uint8_t *)"", 1);
    hp_tls_sent(client, (size_t)hp_tls_output(client, &record));
    return rc;
}

hp_tls *hp_tls_rehearsal_new(int *error)
{
    hp_tls *client = hp_tls_over(SSL_CTX_new(TLS_client_method()));
    hp_tls *server = hp_tls_over(server_ctx());
    int rc = client && server ? handshake(client, server) : -HP_ETLS;
    if (rc >= 0)
        rc = take_over(client);
    hp_tls_free(server);
    ERR_clear_error();
    if (rc < 0) {
        hp_tls_free(client);
        *error = rc;
        return NULL;
    }
    *error = 0;
    return client;
}
