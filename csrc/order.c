/* Patching and signing an order template. */
#include "order.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { RUN_BYTES = 10, NUMBER_BITS = 52 }; /* what of them fits into HP_CLIENT_ID_LEN */

static const char hex_digits[] = "0123456789abcdef";

static int is_signed(const hp_order *order)
{
    return order->at.payload_len > 0;
}

static int slot_fits(uint32_t at, uint32_t slot_len, uint32_t len)
{
    return slot_len <= len && at <= len - slot_len;
}

static int body_fits(const hp_order_template *t)
{
    return t->body_len <= HP_ORDER_BYTES_MAX &&
           slot_fits(t->body_request_id_at, HP_CLIENT_ID_LEN, t->body_len) &&
           slot_fits(t->body_client_id_at, HP_CLIENT_ID_LEN, t->body_len) &&
           slot_fits(t->body_timestamp_at, HP_TIMESTAMP_LEN, t->body_len);
}

static int payload_fits(const hp_order_template *t)
{
    return t->payload_len <= HP_ORDER_BYTES_MAX &&
           slot_fits(t->payload_client_id_at, HP_CLIENT_ID_LEN, t->payload_len) &&
           slot_fits(t->payload_timestamp_at, HP_TIMESTAMP_LEN, t->payload_len) &&
           slot_fits(t->body_signature_at, HP_SIGNATURE_LEN, t->body_len);
}

int hp_order_init(hp_order *order, const hp_order_template *from)
{
    if (!body_fits(from) || (from->payload_len > 0 && !payload_fits(from)))
        return -HP_ECONFIG;
    order->at = *from;
    memcpy(order->body, from->body, from->body_len);
    if (is_signed(order))
        memcpy(order->payload, from->payload, from->payload_len);
    order->at.payload = order->payload;
    order->at.body = order->body;
    return 0;
}

void hp_order_free(hp_order *order)
{
    hp_hmac_key_free(order->key);
    order->key = NULL;
}

/* What stands before the first slot is the same in every order: it is hashed here, once. */
int hp_order_set_key(hp_order *order, const hp_hmac_key *key)
{
    const hp_order_template *t = &order->at;
    if (!is_signed(order))
        return 0;
    size_t constant = t->payload_client_id_at < t->payload_timestamp_at ? t->payload_client_id_at
                                                                        : t->payload_timestamp_at;
    size_t absorbed;
    hp_hmac_key *continued = hp_hmac_key_continue(key, order->payload, constant, &absorbed);

    if (!continued)
        return -ENOMEM;
    hp_hmac_key_free(order->key);
    order->key = continued;
    order->absorbed = absorbed;
    return 0;
}

int hp_order_can_sign(const hp_order *order)
{
    return order->key || !is_signed(order);
}

void hp_client_id(const uint8_t run[16], uint64_t number, char out[HP_CLIENT_ID_LEN + 1])
{
    char *at = out;
    *at++ = 'h';
    *at++ = 'p';
    for (int i = 0; i < RUN_BYTES; i++) {
        *at++ = hex_digits[run[i] >> 4];
        *at++ = hex_digits[run[i] & 15];
    }
    *at++ = '-';
    for (int shift = NUMBER_BITS - 4; shift >= 0; shift -= 4)
        *at++ = hex_digits[number >> shift & 15];
    *at = '\0';
}

static void put_timestamp(uint8_t *out, int64_t timestamp_ms)
{
    for (int i = HP_TIMESTAMP_LEN - 1; i >= 0; i--) {
        out[i] = (uint8_t)('0' + timestamp_ms % 10);
        timestamp_ms /= 10;
    }
}

void hp_order_build(hp_order *order, const char *client_id, int64_t timestamp_ms)
{
    const hp_order_template *t = &order->at;
    memcpy(order->body + t->body_request_id_at, client_id, HP_CLIENT_ID_LEN);
    memcpy(order->body + t->body_client_id_at, client_id, HP_CLIENT_ID_LEN);
    put_timestamp(order->body + t->body_timestamp_at, timestamp_ms);
    if (!is_signed(order))
        return;
    memcpy(order->payload + t->payload_client_id_at, client_id, HP_CLIENT_ID_LEN);
    memcpy(order->payload + t->payload_timestamp_at, order->body + t->body_timestamp_at,
           HP_TIMESTAMP_LEN);
}

static void put_signature(hp_order *order, const uint8_t mac[HP_SHA256_DIGEST])
{
    hp_hex32(mac, (char *)order->body + order->at.body_signature_at);
}

void hp_order_sign(hp_order *order)
{
    uint8_t mac[HP_SHA256_DIGEST];
    if (!is_signed(order))
        return;
    hp_hmac_sign(order->key, order->payload + order->absorbed,
                 order->at.payload_len - order->absorbed, mac);
    put_signature(order, mac);
}

void hp_orders_sign(hp_order *const orders[], size_t n)
{
    hp_order *lane[HP_HMAC_BATCH_MAX];
    const hp_hmac_key *key[HP_HMAC_BATCH_MAX] = {NULL};
    const uint8_t *message[HP_HMAC_BATCH_MAX] = {NULL};
    size_t len[HP_HMAC_BATCH_MAX] = {0};
    uint8_t mac[HP_HMAC_BATCH_MAX][HP_SHA256_DIGEST];
    size_t lanes = 0;

    if (n > HP_HMAC_BATCH_MAX)
        abort();
    for (size_t i = 0; i < n; i++) {
        hp_order *order = orders[i];
        if (!is_signed(order))
            continue;
        lane[lanes] = order;
        key[lanes] = order->key;
        message[lanes] = order->payload + order->absorbed;
        len[lanes++] = order->at.payload_len - order->absorbed;
    }
    hp_hmac_sign_batch(key, message, len, lanes, mac[0]);
    for (size_t j = 0; j < lanes; j++)
        put_signature(lane[j], mac[j]);
}
