/* seal.c: TLS 1.3 records (RFC 8446 5.2) under our own key and sequence number.
 *
 * Why there may be several records for one number. The nonce of a record is the IV xor its
 * sequence number (RFC 8446 5.3). Two different records under one key and nonce give away the xor
 * of their plaintexts and the key of their authentication, to whoever sees both; a record that
 * nobody sees gives away nothing. So what has to hold is: of all the records made for one number,
 * at most one leaves the process. It holds because
 *
 *   - take_number() is the only function that advances the number, and it first wipes every
 *     alternative. What is sealed to be written at once (hp_seal_now) is sealed under a number
 *     already taken: its alternatives are gone. When an alternative is what left (hp_seal_commit),
 *     the others are gone in the same step, and whatever is sealed next has another number;
 *   - the number goes back to 0 in one place, start_key(), and only with another key, which is
 *     derived one way from the former (RFC 8446 7.2) after the KeyUpdate has taken a number of the
 *     former key, and so has wiped its alternatives;
 *   - OpenSSL has the first key, too. tls.c lets it write up to and including the first application
 *     record, number 0. Ours for that number is only compared with it, and is taken for good only
 *     when it is the same bytes. From then on nothing that OpenSSL writes leaves (bio_write), so
 *     that its numbers do not matter;
 *   - what fails half-way has its number taken, and ends the writer: the keys are wiped.
 *
 * An alternative that was replaced, spoiled or discarded, and what hp_seal_touch() makes, never
 * leave and need no number of their own. Left to the caller is to commit an alternative of which
 * the kernel has taken so much as a byte before it does anything else with the connection; and to
 * send the rest of it, unchanged, before anything else.
 */
#include "seal.h"
#include "bytes.h"

#include <stddef.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/hmac.h>

#define HEADER_LEN 5
#define TAG_LEN 16
#define KEY_MAX 32
#define LABEL_MAX (sizeof "tls13 traffic upd" - 1)
#define TOUCH_BYTES 600 /* a usual order */
#define CACHE_LINE 64

_Static_assert(HP_SEAL_OVERHEAD == HEADER_LEN + 1 + TAG_LEN, "header, content type, tag");

struct hp_suite {
    uint32_t id; /* RFC 8446 B.4 */
    int key_len;
    size_t hash_len;
    const EVP_CIPHER *(*cipher)(void);
    const EVP_MD *(*hash)(void);
};

static const hp_suite suites[] = {
    {0x1301, 16, 32, EVP_aes_128_gcm, EVP_sha256},
    {0x1302, 32, 48, EVP_aes_256_gcm, EVP_sha384},
    {0x1303, 32, 32, EVP_chacha20_poly1305, EVP_sha256},
};

/* ---- keys ------------------------------------------------------------------------------------ */

/* HKDF-Expand-Label without a context (RFC 8446 7.1); at most one hash long, which is one HMAC. */
static int expand_label(const hp_seal *s, const char *label, uint8_t *out, size_t len)
{
    uint8_t info[4 + LABEL_MAX + 1], block[EVP_MAX_MD_SIZE] = {0};
    size_t label_len = strlen(label);
    info[0] = 0;
    info[1] = (uint8_t)len;
    info[2] = (uint8_t)label_len;
    memcpy(info + 3, label, label_len);
    info[3 + label_len] = 0; /* the context's length */
    info[4 + label_len] = 1; /* HKDF's counter (RFC 5869 2.3) */
    int good = HMAC(s->suite->hash(), s->secret, (int)s->secret_len, info, label_len + 5, block,
                    NULL) != NULL;
    memcpy(out, block, len);
    OPENSSL_cleanse(block, sizeof block);
    return good;
}

/* RFC 8446 7.3 */
static int start_key(hp_seal *s)
{
    uint8_t key[KEY_MAX];
    int good = expand_label(s, "tls13 key", key, (size_t)s->suite->key_len) &&
               expand_label(s, "tls13 iv", s->iv, sizeof s->iv) &&
               EVP_EncryptInit_ex(s->cipher, NULL, NULL, key, NULL) == 1;
    OPENSSL_cleanse(key, sizeof key);
    if (good)
        s->number = 0;
    return good;
}

int hp_seal_start(hp_seal *s, uint32_t suite)
{
    s->suite = NULL;
    for (size_t i = 0; i < sizeof suites / sizeof suites[0]; i++)
        if (suites[i].id == suite && suites[i].hash_len == s->secret_len)
            s->suite = &suites[i];
    if (!s->suite)
        return 0;
    s->cipher = EVP_CIPHER_CTX_new();
    int good = s->cipher &&
               EVP_EncryptInit_ex(s->cipher, s->suite->cipher(), NULL, NULL, NULL) == 1 &&
               start_key(s);
    ERR_clear_error();
    return good;
}

void hp_seal_end(hp_seal *s)
{
    hp_seal_discard(s);
    EVP_CIPHER_CTX_free(s->cipher); /* wipes the key */
    OPENSSL_cleanse(s, offsetof(hp_seal, record));
}

/* ---- numbers --------------------------------------------------------------------------------- */

void hp_seal_spoil(hp_seal *s, int slot)
{
    OPENSSL_cleanse(s->record[slot], s->len[slot]);
    s->len[slot] = 0;
    s->sealed &= ~(UINT64_C(1) << slot);
}

void hp_seal_discard(hp_seal *s)
{
    while (s->sealed)
        hp_seal_spoil(s, __builtin_ctzll(s->sealed));
}

/* The next number, for one record that leaves or has left. */
static uint64_t take_number(hp_seal *s)
{
    hp_seal_discard(s);
    return s->number++;
}

void hp_seal_commit(hp_seal *s)
{
    take_number(s);
}

int hp_seal_is_worn(const hp_seal *s)
{
    return s->number >= HP_SEAL_NUMBERS_MAX;
}

/* ---- records --------------------------------------------------------------------------------- */

/* RFC 8446 5.2, without padding. Neither allocates nor locks: the cipher was fetched at the start,
 * and only its nonce is new. */
static int encrypt(hp_seal *s, uint64_t number, enum hp_content type, const uint8_t *data,
                   size_t len, uint8_t *record)
{
    size_t inner = len + 1, sealed = inner + TAG_LEN;
    uint8_t *body = record + HEADER_LEN, nonce[HP_SEAL_IV_LEN] = {0};
    const uint8_t header[HEADER_LEN] = {HP_CONTENT_DATA, 3, 3, (uint8_t)(sealed >> 8),
                                        (uint8_t)sealed};
    int n;
    hp_store_be64(nonce + sizeof nonce - 8, number);
    for (size_t i = 0; i < sizeof nonce; i++)
        nonce[i] ^= s->iv[i];
    memcpy(record, header, HEADER_LEN);
    memcpy(body, data, len);
    body[len] = (uint8_t)type;
    if (EVP_EncryptInit_ex(s->cipher, NULL, NULL, NULL, nonce) == 1 &&
        EVP_EncryptUpdate(s->cipher, NULL, &n, header, HEADER_LEN) == 1 &&
        EVP_EncryptUpdate(s->cipher, body, &n, body, (int)inner) == 1 &&
        EVP_EncryptFinal_ex(s->cipher, body + inner, &n) == 1 &&
        EVP_CIPHER_CTX_ctrl(s->cipher, EVP_CTRL_AEAD_GET_TAG, TAG_LEN, body + inner) == 1)
        return (int)(len + HP_SEAL_OVERHEAD);
    OPENSSL_cleanse(record, len + HP_SEAL_OVERHEAD);
    ERR_clear_error();
    return -HP_ETLS;
}

int hp_seal_now(hp_seal *s, enum hp_content type, const uint8_t *data, size_t len, uint8_t *record)
{
    return encrypt(s, take_number(s), type, data, len, record);
}

int hp_seal_key_update(hp_seal *s, uint8_t *record)
{
    /* KeyUpdate, a length of 1, update_not_requested: the peer's keys are its own affair. */
    static const uint8_t message[HP_SEAL_KEY_UPDATE_LEN] = {24, 0, 0, 1, 0};
    uint8_t next[HP_SEAL_SECRET_MAX];
    int n = hp_seal_now(s, HP_CONTENT_HANDSHAKE, message, sizeof message, record);
    if (n < 0 || !expand_label(s, "tls13 traffic upd", next, s->secret_len))
        return -HP_ETLS;
    memcpy(s->secret, next, s->secret_len);
    OPENSSL_cleanse(next, sizeof next);
    return start_key(s) ? n : -HP_ETLS;
}

int hp_seal_ahead(hp_seal *s, int slot, const uint8_t *data, size_t len)
{
    OPENSSL_cleanse(s->record[slot], s->len[slot]); /* it may have been longer */
    int n = encrypt(s, s->number, HP_CONTENT_DATA, data, len, s->record[slot]);
    s->len[slot] = (uint16_t)(n > 0 ? n : 0);
    s->sealed = (s->sealed & ~(UINT64_C(1) << slot)) | (uint64_t)(n > 0) << slot;
    return n < 0 ? n : 1;
}

void hp_seal_touch(hp_seal *s)
{
    static const uint8_t data[TOUCH_BYTES];
    uint8_t record[TOUCH_BYTES + HP_SEAL_OVERHEAD];
    encrypt(s, s->number, HP_CONTENT_DATA, data, sizeof data, record);
    OPENSSL_cleanse(record, sizeof record);
    for (uint64_t left = s->sealed; left; left &= left - 1) {
        int slot = __builtin_ctzll(left);
        for (size_t i = 0; i < s->len[slot]; i += CACHE_LINE)
            *(volatile uint8_t *)(s->record[slot] + i);
    }
}
