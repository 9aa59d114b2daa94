/* Order templates: a magazine signed at once as one by one, orders without signature among them,
 * slots that lie outside, and the client order ids of a run. */
#include "order.h"
#include "require.h"

#include <string.h>

#define ID "hp00000000000000000000-0000000000000"
#define STAMP "1111111111111"
#define MARK "ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss"
#define TIMESTAMP_MS INT64_C(1645423376532)

_Static_assert(sizeof ID == HP_CLIENT_ID_LEN + 1 && sizeof STAMP == HP_TIMESTAMP_LEN + 1 &&
                   sizeof MARK == HP_SIGNATURE_LEN + 1,
               "slots as long as what is patched into them");

static const uint8_t secret[] = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j";

/* "x" times `filler`, then the slots; the payload begins in the same way. */
static hp_order_template make_template(uint32_t filler, int with_signature)
{
    static uint8_t payload[HP_ORDER_BYTES_MAX];
    static uint8_t body[HP_ORDER_BYTES_MAX];
    hp_order_template t = {.payload = payload, .body = body};
    memset(payload, 'x', filler);
    memset(body, 'x', filler);
    memcpy(payload + filler, ID STAMP, sizeof ID STAMP - 1);
    memcpy(body + filler, ID ID STAMP MARK, sizeof ID ID STAMP MARK - 1);
    t.body_request_id_at = filler;
    t.body_client_id_at = t.body_request_id_at + HP_CLIENT_ID_LEN;
    t.body_timestamp_at = t.body_client_id_at + HP_CLIENT_ID_LEN;
    t.body_len = t.body_timestamp_at + HP_TIMESTAMP_LEN;
    if (!with_signature)
        return t;
    t.payload_client_id_at = filler;
    t.payload_timestamp_at = filler + HP_CLIENT_ID_LEN;
    t.payload_len = t.payload_timestamp_at + HP_TIMESTAMP_LEN;
    t.body_signature_at = t.body_len;
    t.body_len += HP_SIGNATURE_LEN;
    return t;
}

static void make_order(hp_order *order, const hp_hmac_key *key, uint32_t filler, int with_signature)
{
    hp_order_template t = make_template(filler, with_signature);
    memset(order, 0, sizeof *order);
    require(hp_order_init(order, &t) == 0);
    require(hp_order_can_sign(order) == !with_signature);
    require(hp_order_set_key(order, key) == 0 && hp_order_can_sign(order));
    require((order->key != NULL) == with_signature);
}

/* Every n from none to a full batch, every third order without signature. */
static void check_batches(const hp_sha256_impl *impl)
{
    static hp_order together[HP_HMAC_BATCH_MAX];
    static hp_order alone[HP_HMAC_BATCH_MAX];
    hp_order *orders[HP_HMAC_BATCH_MAX];
    hp_hmac_key *key = hp_hmac_key_new(impl, secret, sizeof secret - 1);
    uint8_t run[16] = {1};
    char client_id[HP_CLIENT_ID_LEN + 1];

    require(key);
    for (uint32_t i = 0; i < HP_HMAC_BATCH_MAX; i++) {
        make_order(&together[i], key, 31 * i, i % 3 != 2);
        make_order(&alone[i], key, 31 * i, i % 3 != 2);
        orders[i] = &together[i];
    }
    for (size_t n = 0; n <= HP_HMAC_BATCH_MAX; n++) {
        for (size_t i = 0; i < n; i++) {
            hp_client_id(run, 100 * n + i, client_id);
            hp_order_build(&together[i], client_id, TIMESTAMP_MS + (int64_t)n);
            hp_order_build(&alone[i], client_id, TIMESTAMP_MS + (int64_t)n);
            hp_order_sign(&alone[i]);
        }
        hp_orders_sign(orders, n);
        for (size_t i = 0; i < HP_HMAC_BATCH_MAX; i++)
            require(!memcmp(together[i].body, alone[i].body, together[i].at.body_len));
    }
    for (size_t i = 0; i < HP_HMAC_BATCH_MAX; i++) {
        hp_order_free(&together[i]);
        hp_order_free(&alone[i]);
    }
    hp_hmac_key_free(key);
}

static void check_unsigned(void)
{
    static hp_order order;
    hp_order_template t = make_template(7, 0);
    t.payload = NULL;
    t.payload_client_id_at = t.payload_timestamp_at = t.body_signature_at = UINT32_MAX;
    require(hp_order_init(&order, &t) == 0);
    hp_order_build(&order, "hp0123456789abcdef0123-0000000000abc", TIMESTAMP_MS);
    hp_order_sign(&order);
    require(order.at.body_len == 7 + 36 + 36 + 13);
    require(!memcmp(order.body,
                    "xxxxxxx"
                    "hp0123456789abcdef0123-0000000000abc"
                    "hp0123456789abcdef0123-0000000000abc"
                    "1645423376532",
                    order.at.body_len));
}

static void check_slots(void)
{
    static hp_order order;
    for (int with_signature = 0; with_signature < 2; with_signature++) {
        hp_order_template good = make_template(0, with_signature);
        uint32_t *const at[] = {&good.body_request_id_at,   &good.body_client_id_at,
                                &good.body_timestamp_at,    &good.body_signature_at,
                                &good.payload_client_id_at, &good.payload_timestamp_at};
        for (size_t i = 0; i < (with_signature ? 6 : 3); i++) {
            uint32_t kept = *at[i];
            *at[i] = i < 4 ? good.body_len - 12 : good.payload_len - 12;
            require(hp_order_init(&order, &good) == -HP_ECONFIG);
            *at[i] = UINT32_MAX;
            require(hp_order_init(&order, &good) == -HP_ECONFIG);
            *at[i] = kept;
            require(hp_order_init(&order, &good) == 0);
        }
        good.body_len = HP_ORDER_BYTES_MAX + 1;
        require(hp_order_init(&order, &good) == -HP_ECONFIG);
    }
    hp_order_template t = make_template(0, 1);
    t.payload_len = HP_ORDER_BYTES_MAX + 1;
    require(hp_order_init(&order, &t) == -HP_ECONFIG);
}

static void check_client_ids(void)
{
    static const uint8_t run[16] = {0x00, 0xff, 0x12, 0xab, 5, 6, 7, 8, 9, 10, 11};
    char id[HP_CLIENT_ID_LEN + 1];
    hp_client_id(run, 0, id);
    require(!strcmp(id, "hp00ff12ab05060708090a-0000000000000"));
    hp_client_id(run, UINT64_C(0xabc), id);
    require(!strcmp(id, "hp00ff12ab05060708090a-0000000000abc"));
    hp_client_id(run, (UINT64_C(1) << 52) - 1, id);
    require(!strcmp(id, "hp00ff12ab05060708090a-fffffffffffff"));
}

int main(void)
{
    const hp_sha256_impl *impl;

    for (int i = 0; (impl = hp_sha256_available(i)) != NULL; i++)
        check_batches(impl);
    check_unsigned();
    check_slots();
    check_client_ids();
    return 0;
}
