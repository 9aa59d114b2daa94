/* Patching and signing an order template. */
#include "order.h"

#include <errno.h>
#include <string.h>

static const char hex_digits[] = "0123456789abcdef";

static int slot_fits(uint32_t at, uint32_t slot_len, uint32_t len)
{
    return slot_len <= len && at <= len - slot_len;
}

int hp_order_init(hp_order *order, const hp_order_template *from)
{
    if (from->payload_len > HP_ORDER_BYTES_MAX || from->body_len > HP_ORDER_BYTES_MAX ||
        !slot_fits(from->payload_client_id_at, HP_CLIENT_ID_LEN, from->payload_len) ||
        !slot_fits(from->payload_timestamp_at, HP_TIMESTAMP_LEN, from->payload_len) ||
        !slot_fits(from->body_request_id_at, HP_CLIENT_ID_LEN, from->body_len) ||
        !slot_fits(from->body_client_id_at, HP_CLIENT_ID_LEN, from->body_len) ||
        !slot_fits(from->body_timestamp_at, HP_TIMESTAMP_LEN, from->body_len) ||
        !slot_fits(from->body_signature_at, HP_SIGNATURE_LEN, from->body_len))
        return -HP_ECONFIG;
    order->at = *from;
    memcpy(order->payload, from->payload, from->payload_len);
    memcpy(order->body, from->body, from->body_len);
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

/* FNV-1a folded to 16 bits: not for security, only to tell two exchanges in one txid apart. */
static uint32_t name_tag(const char *name)
{
    uint32_t hash = 2166136261u;
    for (; *name; name++)
        hash = (hash ^ (uint8_t)*name) * 16777619u;
    return (hash >> 16) ^ (hash & 0xffff);
}

void hp_client_id(const uint8_t txid[32], const char *exchange, char out[HP_CLIENT_ID_LEN + 1])
{
    char *at = out;
    *at++ = 'h';
    *at++ = 'p';
    for (int i = 31; i > 16; i--) { /* a txid is displayed last byte first */
        *at++ = hex_digits[txid[i] >> 4];
        *at++ = hex_digits[txid[i] & 15];
    }
    uint32_t tag = name_tag(exchange);
    for (int shift = 12; shift >= 0; shift -= 4)
        *at++ = hex_digits[tag >> shift & 15];
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
    memcpy(order->payload + t->payload_client_id_at, client_id, HP_CLIENT_ID_LEN);
    memcpy(order->body + t->body_request_id_at, client_id, HP_CLIENT_ID_LEN);
    memcpy(order->body + t->body_client_id_at, client_id, HP_CLIENT_ID_LEN);
    put_timestamp(order->payload + t->payload_timestamp_at, timestamp_ms);
    memcpy(order->body + t->body_timestamp_at, order->payload + t->payload_timestamp_at,
           HP_TIMESTAMP_LEN);
}

void hp_order_sign(hp_order *order)
{
    uint8_t mac[HP_SHA256_DIGEST];
    hp_hmac_sign(order->key, order->payload + order->absorbed,
                 order->at.payload_len - order->absorbed, mac);
    hp_hex32(mac, (char *)order->body + order->at.body_signature_at);
}
