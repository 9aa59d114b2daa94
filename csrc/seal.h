/* The TLS 1.3 record writer: one direction's keys and sequence number, and records sealed ahead. */
#ifndef HP_SEAL_H
#define HP_SEAL_H

#include "harpoon.h"

#include <openssl/evp.h>

#define HP_SEAL_PLAIN_MAX 16384 /* RFC 8446 5.1 */
#define HP_SEAL_OVERHEAD 22     /* header, content type, tag (RFC 8446 5.2) */
#define HP_SEAL_RECORD_BYTES (HP_SLOT_BYTES_MAX + HP_SEAL_OVERHEAD)
#define HP_SEAL_SECRET_MAX 48
#define HP_SEAL_IV_LEN 12
#define HP_SEAL_KEY_UPDATE_LEN 5 /* the message (RFC 8446 4.6.3), not its record */
/* Records under one key. AES-GCM is good for 2^24.5 full-size ones (RFC 8446 5.5). */
#define HP_SEAL_NUMBERS_MAX (UINT64_C(1) << 23)

_Static_assert(HP_SLOT_BYTES_MAX >= HP_ORDER_BYTES_MAX + HP_WS_HEADER_MAX, "an order fits");
_Static_assert(HP_SLOTS_MAX <= 64, "a slot is a bit of hp_seal.sealed");

enum hp_content { /* RFC 8446 5.1 */
    HP_CONTENT_ALERT = 21,
    HP_CONTENT_HANDSHAKE = 22,
    HP_CONTENT_DATA = 23,
};

typedef struct hp_suite hp_suite;

typedef struct hp_seal {
    EVP_CIPHER_CTX *cipher; /* holds the key */
    const hp_suite *suite;
    uint64_t number; /* of the next record under this key */
    uint64_t sealed; /* bit by slot: alternatives for that number */
    size_t secret_len;
    uint8_t secret[HP_SEAL_SECRET_MAX]; /* the traffic secret of this key (RFC 8446 7.1) */
    uint8_t iv[HP_SEAL_IV_LEN];
    uint16_t len[HP_SLOTS_MAX];
    uint8_t record[HP_SLOTS_MAX][HP_SEAL_RECORD_BYTES];
} hp_seal;

/* Write under `secret`, from number 0 on. `suite` is the number of RFC 8446 B.4. 1, or 0 when it is
 * none of ours, when the secret has not its length, or when OpenSSL fails. */
int hp_seal_start(hp_seal *seal, uint32_t suite);
/* Wipe keys, secret and alternatives; nothing can be sealed from then on. Also for a zeroed one. */
void hp_seal_end(hp_seal *seal);

/* Seal under the next number, which is taken by it. Room for `len` (HP_SEAL_PLAIN_MAX at most) and
 * HP_SEAL_OVERHEAD bytes at `record`: that length, or -HP_ETLS. */
int hp_seal_now(hp_seal *seal, enum hp_content type, const uint8_t *data, size_t len,
                uint8_t *record);
/* The same with a KeyUpdate that requests none, after which the next key is used. */
int hp_seal_key_update(hp_seal *seal, uint8_t *record);
int hp_seal_is_worn(const hp_seal *seal); /* the key has had its records: a KeyUpdate is due */

/* One more alternative for the next number, at most HP_SLOT_BYTES_MAX bytes: 1, or -HP_ETLS. */
int hp_seal_ahead(hp_seal *seal, int slot, const uint8_t *data, size_t len);
/* An alternative has left: its number is taken. */
void hp_seal_commit(hp_seal *seal);
/* One alternative, or any there is: it has not left and will not. */
void hp_seal_spoil(hp_seal *seal, int slot);
void hp_seal_discard(hp_seal *seal);
/* Walk the way of the next record and read the alternatives, so that both stay in the caches. */
void hp_seal_touch(hp_seal *seal);

#endif
