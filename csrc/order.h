/* Order templates: constant bytes with patch points for what is only known when the whale comes. */
#ifndef HP_ORDER_H
#define HP_ORDER_H

#include "hmac.h"

typedef struct hp_order {
    hp_hmac_key *key; /* the key with the payload's first `absorbed` bytes, which no slot touches */
    size_t absorbed;
    hp_order_template at; /* offsets and lengths; its pointers lead to the two arrays below */
    uint8_t payload[HP_ORDER_BYTES_MAX];
    uint8_t body[HP_ORDER_BYTES_MAX];
} hp_order;

/* Copy the template: 0, or -HP_ECONFIG when a slot does not lie inside its bytes. */
int hp_order_init(hp_order *order, const hp_order_template *from);

void hp_order_free(hp_order *order); /* wipes its key */
/* Sign with this key from now on: 0, or -ENOMEM. */
int hp_order_set_key(hp_order *order, const hp_hmac_key *key);

/* The client order id of a signal, NUL-terminated: "hp", the first 30 digits of the txid as it
 * is displayed, 4 digits of a hash of the exchange's name. The same signal always gives the same
 * id, so a venue that knows it cannot be sent the order twice. */
void hp_client_id(const uint8_t txid[32], const char *exchange, char out[HP_CLIENT_ID_LEN + 1]);

/* Patch client id and timestamp into both texts. */
void hp_order_build(hp_order *order, const char *client_id, int64_t timestamp_ms);
/* Sign the payload and patch the signature into the body. */
void hp_order_sign(hp_order *order);

#endif
