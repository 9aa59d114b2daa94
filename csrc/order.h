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
/* Sign with this key from now on: 0, or -ENOMEM. Nothing happens to an order without signature. */
int hp_order_set_key(hp_order *order, const hp_hmac_key *key);
/* 1 when it has its key or is sent without signature, else 0: do not sign it. */
int hp_order_can_sign(const hp_order *order);

/* The client order id of the number-th order of a run, NUL-terminated: "hp", the run id's first 10
 * bytes in hex, "-", the number (below 2^52) as 13 hex digits. No two are the same as long as run
 * ids are not. */
void hp_client_id(const uint8_t run[16], uint64_t number, char out[HP_CLIENT_ID_LEN + 1]);

/* Patch client id and timestamp into both texts. */
void hp_order_build(hp_order *order, const char *client_id, int64_t timestamp_ms);
/* Sign the payload and patch the signature into the body. */
void hp_order_sign(hp_order *order);
/* The same for n <= HP_HMAC_BATCH_MAX different orders at once, whose keys are all of one
 * implementation. More of them are a bug, and abort. */
void hp_orders_sign(hp_order *const orders[], size_t n);

#endif
