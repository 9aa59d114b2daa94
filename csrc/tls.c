/* tls.c: OpenSSL over memory. The session moves the ciphertext; nothing here touches a socket. */
#include "tls.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

/* More than any record adds to its plaintext. */
#define RECORD_OVERHEAD (SSL3_RT_HEADER_LENGTH + SSL3_RT_MAX_ENCRYPTED_OVERHEAD)
/* Our largest record that is not data: a KeyUpdate. An alert is smaller. */
#define CONTROL_BYTES (HP_SEAL_KEY_UPDATE_LEN + HP_SEAL_OVERHEAD)
#define HOST_LEN_MAX 255
#define SECURITY_LEVEL 2 /* keys of 112 bits, no SHA-1 signatures (SSL_CTX_set_security_level(3)) */

/* ---- the BIO: OpenSSL's side of the two buffers ---------------------------------------------- */

static int bio_read(BIO *bio, char *out, size_t cap, size_t *done)
{
    hp_tls *tls = BIO_get_data(bio);
    size_t len = tls->input_end - tls->input_at;
    BIO_clear_retry_flags(bio);
    if (len == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    *done = len < cap ? len : cap;
    memcpy(out, tls->input + tls->input_at, *done);
    tls->input_at += *done;
    return 1;
}

static int bio_write(BIO *bio, const char *data, size_t len, size_t *done)
{
    hp_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    *done = len;
    if (tls->writer >= HP_WRITER_OURS) /* under numbers that are used up */
        return 1;
    if (len > HP_TLS_OUTPUT_BYTES - tls->output_end) {
        BIO_set_retry_write(bio);
        return 0;
    }
    memcpy(tls->output + tls->output_end, data, len);
    tls->output_end += len;
    return 1;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH; /* the only one OpenSSL needs an answer to */
}

/* The method belongs to one connection, so that there is no global one. It takes no index of
 * BIO_get_new_index(): those run out after some 120 reconnects. */
static BIO_METHOD *new_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "harpoon");
    if (method && BIO_meth_set_read_ex(method, bio_read) &&
        BIO_meth_set_write_ex(method, bio_write) && BIO_meth_set_ctrl(method, bio_ctrl))
        return method;
    BIO_meth_free(method);
    return NULL;
}

/* ---- the writer ------------------------------------------------------------------------------ */

/* Keeps the secret that our first application key is made of, and nothing else of what it is told
 * (the format is NSS's: label, client random, secret). */
static void on_secret(const SSL *ssl, const char *line)
{
    static const char label[] = "CLIENT_TRAFFIC_SECRET_0 ";
    hp_tls *tls = SSL_get_app_data(ssl);
    const char *secret = strrchr(line, ' ');
    if (SSL_is_server(ssl) || tls->writer != HP_WRITER_UNDECIDED || !secret ||
        strncmp(line, label, sizeof label - 1) != 0)
        return;
    if (!OPENSSL_hexstr2buf_ex(tls->seal.secret, sizeof tls->seal.secret, &tls->seal.secret_len,
                               secret + 1, '\0'))
        tls->seal.secret_len = 0;
}

static void end_writer(hp_tls *tls)
{
    hp_seal_end(&tls->seal);
    tls->writer = HP_WRITER_ENDED;
}

/* One record behind what waits, whose room the caller has made sure of. */
static int put_record(hp_tls *tls, enum hp_content type, const uint8_t *data, size_t len)
{
    int n = hp_seal_now(&tls->seal, type, data, len, tls->output + tls->output_end);
    if (n < 0)
        end_writer(tls);
    else
        tls->output_end += (size_t)n;
    return n;
}

/* The KeyUpdate that is due, if one is, goes before all other records: 0, -ENOSPC or -HP_ETLS. */
static int update_key(hp_tls *tls)
{
    if (!tls->update_due && !hp_seal_is_worn(&tls->seal))
        return 0;
    if (HP_TLS_OUTPUT_BYTES - tls->output_end < 2 * CONTROL_BYTES) /* the last one is an alert's */
        return -ENOSPC;
    int n = hp_seal_key_update(&tls->seal, tls->output + tls->output_end);
    if (n < 0) {
        end_writer(tls);
        return n;
    }
    tls->output_end += (size_t)n;
    tls->update_due = 0;
    return 0;
}

/* Any alert of ours is the last record: close_notify, or fatal (RFC 8446 6). */
static void put_alert(hp_tls *tls, const uint8_t alert[2])
{
    if (HP_TLS_OUTPUT_BYTES - tls->output_end >= CONTROL_BYTES)
        put_record(tls, HP_CONTENT_ALERT, alert, 2);
    end_writer(tls);
}

/* What OpenSSL reads and writes while the write side is ours, as plaintext. Of handshake messages a
 * client writes nothing any more but KeyUpdates, and these only to answer requests, which were seen
 * when they were read. */
static void on_message(int written, int version, int type, const void *data, size_t len, SSL *ssl,
                       void *context)
{
    hp_tls *tls = context;
    const uint8_t *message = data;
    (void)version, (void)ssl;
    if (tls->writer != HP_WRITER_OURS)
        return;
    int is_update = type == SSL3_RT_HANDSHAKE && len == HP_SEAL_KEY_UPDATE_LEN &&
                    message[0] == SSL3_MT_KEY_UPDATE;
    if (written && type == SSL3_RT_ALERT && len == 2) {
        put_alert(tls, message);
    } else if (written && type == SSL3_RT_HANDSHAKE && !is_update) {
        end_writer(tls); /* the peer would miss it */
    } else if (!written && is_update && message[4] == SSL_KEY_UPDATE_REQUESTED) {
        tls->update_due = 1;
        hp_seal_discard(&tls->seal);
    }
}

/* OpenSSL has sealed `data` as the first application record. When ours is the same to the last
 * byte, its keys and its numbers are understood, and the write side is taken over. */
static void choose_writer(hp_tls *tls, const uint8_t *data, size_t len, const uint8_t *theirs,
                          size_t theirs_len)
{
    hp_seal *seal = &tls->seal;
    uint32_t suite = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(tls->ssl));
    if (SSL_version(tls->ssl) != TLS1_3_VERSION || len > HP_SLOT_BYTES_MAX ||
        !hp_seal_start(seal, suite) || hp_seal_ahead(seal, 0, data, len) != 1 ||
        seal->len[0] != theirs_len || memcmp(seal->record[0], theirs, theirs_len) != 0) {
        hp_seal_end(seal);
        tls->writer = HP_WRITER_OPENSSL;
        return;
    }
    hp_seal_commit(seal);
    tls->writer = HP_WRITER_OURS;
    SSL_set_msg_callback(tls->ssl, on_message);
    SSL_set_msg_callback_arg(tls->ssl, tls);
}

static int seal_ours(hp_tls *tls, const uint8_t *data, size_t len)
{
    for (size_t at = 0; at < len; at += HP_SEAL_PLAIN_MAX) {
        size_t piece = len - at < HP_SEAL_PLAIN_MAX ? len - at : HP_SEAL_PLAIN_MAX;
        int rc = update_key(tls);
        if (rc == 0)
            rc = put_record(tls, HP_CONTENT_DATA, data + at, piece);
        if (rc < 0)
            return rc;
    }
    return (int)len;
}

/* ---- life ------------------------------------------------------------------------------------ */

hp_tls *hp_tls_over(SSL_CTX *ctx)
{
    hp_tls *tls = calloc(1, sizeof *tls);
    if (!tls) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    tls->ctx = ctx;
    tls->reason = "";
    tls->method = new_method();
    tls->ssl = ctx ? SSL_new(ctx) : NULL;
    BIO *bio = tls->method ? BIO_new(tls->method) : NULL;
    if (!tls->ssl || !bio) {
        BIO_free(bio);
        hp_tls_free(tls);
        return NULL;
    }
    SSL_CTX_set_keylog_callback(ctx, on_secret);
    SSL_set_app_data(tls->ssl, tls);
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio); /* takes it over */
    return tls;
}

void hp_tls_free(hp_tls *tls)
{
    if (!tls)
        return;
    SSL_free(tls->ssl);
    SSL_CTX_free(tls->ctx);
    BIO_meth_free(tls->method);
    hp_seal_end(&tls->seal);
    free(tls);
}

static SSL_CTX *client_ctx(const char *ca_file, int *error)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    *error = -HP_ETLS;
    if (!ctx || !SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION))
        goto fail;
    if (SSL_CTX_get_security_level(ctx) < SECURITY_LEVEL) /* whatever a distribution's default is */
        SSL_CTX_set_security_level(ctx, SECURITY_LEVEL);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    *error = -HP_ETLS_CA;
    if (!(ca_file ? SSL_CTX_load_verify_file(ctx, ca_file) : SSL_CTX_set_default_verify_paths(ctx)))
        goto fail;
    *error = 0;
    return ctx;
fail:
    SSL_CTX_free(ctx);
    return NULL;
}

/* RFC 9525: a wildcard is a whole label (6.3), and the subject's common name is no host name. */
static int expect_host(SSL *ssl, const char *host)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                                               X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    if (X509_VERIFY_PARAM_set1_ip_asc(param, host)) /* RFC 6066 3: no SNI for an address */
        return 1;
    return SSL_set1_host(ssl, host) && SSL_set_tlsext_host_name(ssl, host);
}

hp_tls *hp_tls_new(const char *host, const char *ca_file, int *error)
{
    /* A leading dot would make OpenSSL accept any host of the domain. */
    if (host[0] == '\0' || host[0] == '.' || strlen(host) > HOST_LEN_MAX) {
        *error = -EINVAL;
        return NULL;
    }
    SSL_CTX *ctx = client_ctx(ca_file, error);
    hp_tls *tls = ctx ? hp_tls_over(ctx) : NULL;
    if (tls && expect_host(tls->ssl, host)) {
        SSL_set_connect_state(tls->ssl);
    } else if (ctx) {
        hp_tls_free(tls);
        tls = NULL;
        *error = -ENOMEM;
    }
    ERR_clear_error();
    return tls;
}

/* ---- ciphertext ------------------------------------------------------------------------------ */

int hp_tls_input(hp_tls *tls, const uint8_t *data, size_t len)
{
    size_t waiting = tls->input_end - tls->input_at;
    if (len > HP_TLS_INPUT_BYTES - waiting)
        return -ENOSPC;
    if (len > HP_TLS_INPUT_BYTES - tls->input_end || waiting == 0) {
        memmove(tls->input, tls->input + tls->input_at, waiting);
        tls->input_at = 0;
        tls->input_end = waiting;
    }
    memcpy(tls->input + tls->input_end, data, len);
    tls->input_end += len;
    return (int)len;
}

int hp_tls_output(hp_tls *tls, const uint8_t **data)
{
    *data = tls->output + tls->output_at;
    return (int)(tls->output_end - tls->output_at);
}

/* What waits is never moved: a send in flight may be reading it. */
void hp_tls_sent(hp_tls *tls, size_t len)
{
    size_t waiting = tls->output_end - tls->output_at;
    tls->output_at += len < waiting ? len : waiting;
    if (tls->output_at == tls->output_end)
        tls->output_at = tls->output_end = 0;
}

/* ---- TLS ------------------------------------------------------------------------------------- */

/* Why OpenSSL did not do what was asked: 0 when it only lacks bytes (or room for them). Its error
 * queue is the thread's, so it is emptied before and after. */
static int explain(hp_tls *tls, int rc)
{
    int error = SSL_get_error(tls->ssl, rc);
    int code = -HP_ETLS;
    long verdict = SSL_get_verify_result(tls->ssl);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        code = 0;
    } else if (error == SSL_ERROR_ZERO_RETURN) {
        code = -HP_ETLS_CLOSED;
        tls->reason = SSL_alert_desc_string_long(SSL3_AD_CLOSE_NOTIFY);
    } else if (verdict != X509_V_OK) {
        code = -HP_ETLS_CERT;
        tls->reason = X509_verify_cert_error_string(verdict);
    } else {
        const char *words = ERR_reason_error_string(ERR_peek_error());
        tls->reason = words ? words : "OpenSSL gives no reason";
    }
    ERR_clear_error();
    return code;
}

static void begin(hp_tls *tls)
{
    tls->reason = "";
    ERR_clear_error();
}

static int ended(hp_tls *tls)
{
    tls->reason = ERR_reason_error_string(ERR_PACK(ERR_LIB_SSL, 0, SSL_R_PROTOCOL_IS_SHUTDOWN));
    return -HP_ETLS;
}

int hp_tls_handshake(hp_tls *tls)
{
    begin(tls);
    int rc = SSL_do_handshake(tls->ssl);
    return rc == 1 ? 1 : explain(tls, rc);
}

int hp_tls_read(hp_tls *tls, uint8_t *out, size_t cap)
{
    size_t n;
    begin(tls);
    int rc = SSL_read_ex(tls->ssl, out, cap < INT_MAX ? cap : INT_MAX, &n);
    rc = rc == 1 ? (int)n : explain(tls, rc);
    if (tls->writer == HP_WRITER_OURS) {
        if (rc >= 0 || rc == -HP_ETLS_CLOSED)
            update_key(tls); /* without room it stays due */
        else
            end_writer(tls);
    }
    return rc;
}

int hp_tls_seal(hp_tls *tls, const uint8_t *data, size_t len)
{
    size_t before = tls->output_end, room = HP_TLS_OUTPUT_BYTES - before, n;
    if (tls->writer == HP_WRITER_ENDED)
        return ended(tls);
    /* The records, and one more: the answer to a KeyUpdate goes first (RFC 8446 4.6.3). OpenSSL
     * would want half-written records written again, so there has to be room for all. */
    int fits = len <= room && len + (len / SSL3_RT_MAX_PLAIN_LENGTH + 2) * RECORD_OVERHEAD <= room;
    if (tls->writer == HP_WRITER_OURS) {
        tls->reason = "";
        return fits ? seal_ours(tls, data, len) : -ENOSPC;
    }
    begin(tls);
    if (!SSL_is_init_finished(tls->ssl))
        return -HP_ENOT_READY;
    if (!fits)
        return -ENOSPC;
    if (SSL_write_ex(tls->ssl, data, len, &n) != 1) {
        int rc = explain(tls, 0);
        return rc < 0 ? rc : -HP_ETLS;
    }
    if (tls->writer == HP_WRITER_UNDECIDED && len > 0)
        choose_writer(tls, data, len, tls->output + before, tls->output_end - before);
    return (int)n;
}

static int is_slot(int slot)
{
    return slot >= 0 && slot < HP_SLOTS_MAX;
}

int hp_tls_seal_ahead(hp_tls *tls, int slot, const uint8_t *data, size_t len)
{
    if (!is_slot(slot))
        return -EINVAL;
    if (tls->writer != HP_WRITER_OURS)
        return 0;
    if (len > HP_SLOT_BYTES_MAX)
        return -ENOSPC;
    int rc = update_key(tls);
    if (rc == 0)
        rc = hp_seal_ahead(&tls->seal, slot, data, len);
    return rc == -HP_ETLS ? 0 : rc;
}

int hp_tls_sealed(const hp_tls *tls, int slot, const uint8_t **record)
{
    if (!is_slot(slot) || tls->output_at < tls->output_end)
        return 0;
    *record = tls->seal.record[slot];
    return tls->seal.len[slot];
}

void hp_tls_commit(hp_tls *tls, int slot)
{
    if (is_slot(slot) && tls->seal.len[slot] > 0)
        hp_seal_commit(&tls->seal);
    else if (tls->writer == HP_WRITER_OURS)
        end_writer(tls); /* under which number did it leave? */
}

void hp_tls_spoil(hp_tls *tls, int slot)
{
    if (is_slot(slot))
        hp_seal_spoil(&tls->seal, slot);
}

void hp_tls_discard(hp_tls *tls)
{
    hp_seal_discard(&tls->seal);
}

void hp_tls_touch(hp_tls *tls)
{
    size_t n;
    if (tls->writer == HP_WRITER_OURS) {
        hp_seal_touch(&tls->seal);
    } else if (tls->writer != HP_WRITER_ENDED) {
        SSL_write_ex(tls->ssl, "", 0, &n); /* writes nothing (SSL_write(3)) */
        ERR_clear_error();
    }
    for (size_t i = 0; i < 1024; i += 64)
        *(volatile uint8_t *)(tls->output + i);
}

void hp_tls_close(hp_tls *tls)
{
    static const uint8_t close_notify[2] = {SSL3_AL_WARNING, SSL3_AD_CLOSE_NOTIFY};
    begin(tls);
    if (tls->writer == HP_WRITER_OURS)
        put_alert(tls, close_notify);
    else if (tls->writer != HP_WRITER_ENDED && !(SSL_get_shutdown(tls->ssl) & SSL_SENT_SHUTDOWN))
        SSL_shutdown(tls->ssl); /* a second one would read */
    ERR_clear_error();
}

const char *hp_tls_reason(const hp_tls *tls)
{
    return tls->reason;
}

const char *hp_tls_cipher(hp_tls *tls)
{
    if (SSL_is_init_finished(tls->ssl))
        snprintf(tls->cipher, sizeof tls->cipher, "%s %s", SSL_get_version(tls->ssl),
                 SSL_get_cipher_name(tls->ssl));
    return tls->cipher;
}
