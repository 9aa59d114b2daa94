/* A walk over one raw transaction (BIP-144): one pass, no copy, no allocation.
 *
 * hp_tx_parse() checks every length against the bytes that are there; the iterators afterwards walk
 * the same bytes again without checks, so the caller must not change them in between. */
#include "bytes.h"
#include "sha256.h"

#include <string.h>

#define MAX_MONEY_SAT INT64_C(2100000000000000) /* 21 million BTC */
#define INPUT_BYTES_MIN 41u                     /* outpoint 36, empty script 1, sequence 4 */
#define OUTPUT_BYTES_MIN 9u                     /* value 8, empty script 1 */

_Static_assert(HP_TX_BYTES_MAX < INT32_MAX, "a transaction's length is returned as int");

typedef struct cursor {
    const uint8_t *raw;
    uint32_t at;
    uint32_t end;
} cursor;

/* CompactSize in its shortest form only, as Bitcoin Core reads it. 0 or -HP_ETX_... */
static inline int read_size(cursor *c, uint64_t *value)
{
    uint32_t left = c->end - c->at;
    if (left < 1)
        return -HP_ETX_TRUNCATED;
    const uint8_t *p = c->raw + c->at;
    if (p[0] < 0xfd) {
        *value = p[0];
        c->at += 1;
        return 0;
    }
    uint32_t bytes = p[0] == 0xfd ? 3 : p[0] == 0xfe ? 5 : 9;
    if (left < bytes)
        return -HP_ETX_TRUNCATED;
    uint64_t n = bytes == 3 ? hp_le16(p + 1) : bytes == 5 ? hp_le32(p + 1) : hp_le64(p + 1);
    uint64_t least = bytes == 3 ? 0xfd : bytes == 5 ? 0x10000 : UINT64_C(0x100000000);
    if (n < least)
        return -HP_ETX_VARINT;
    *value = n;
    c->at += bytes;
    return 0;
}

static inline int skip(cursor *c, uint64_t bytes)
{
    if (bytes > c->end - c->at)
        return -HP_ETX_TRUNCATED;
    c->at += (uint32_t)bytes;
    return 0;
}

/* A CompactSize and that many bytes. */
static inline int skip_string(cursor *c)
{
    uint64_t len;
    int rc = read_size(c, &len);
    if (rc < 0)
        return rc;
    if (len > c->end - c->at)
        return -HP_ETX_COUNT;
    c->at += (uint32_t)len;
    return 0;
}

/* A count of things that take at least `each` bytes. */
static int read_count(cursor *c, uint32_t each, uint32_t *count)
{
    uint64_t n;
    int rc = read_size(c, &n);
    if (rc < 0)
        return rc;
    if (n > (c->end - c->at) / each)
        return -HP_ETX_COUNT;
    *count = (uint32_t)n;
    return 0;
}

static int walk_inputs(cursor *c, hp_tx *tx)
{
    int rc = read_count(c, INPUT_BYTES_MIN, &tx->n_in);
    if (rc < 0)
        return rc;
    if (tx->n_in == 0)
        return -HP_ETX_NO_INPUTS;
    tx->in_at = c->at;
    for (uint32_t i = 0; i < tx->n_in; i++) {
        if ((rc = skip(c, 36)) < 0 || (rc = skip_string(c)) < 0 || (rc = skip(c, 4)) < 0)
            return rc;
    }
    return 0;
}

static int walk_outputs(cursor *c, hp_tx *tx)
{
    int rc = read_count(c, OUTPUT_BYTES_MIN, &tx->n_out);
    if (rc < 0)
        return rc;
    if (tx->n_out == 0)
        return -HP_ETX_NO_OUTPUTS;
    tx->out_at = c->at;
    uint64_t total = 0;
    for (uint32_t i = 0; i < tx->n_out; i++) {
        if (c->end - c->at < OUTPUT_BYTES_MIN)
            return -HP_ETX_TRUNCATED;
        uint64_t value = hp_le64(c->raw + c->at);
        total += value;
        if (value > MAX_MONEY_SAT || total > MAX_MONEY_SAT)
            return -HP_ETX_VALUE;
        c->at += 8;
        if ((rc = skip_string(c)) < 0)
            return rc;
    }
    tx->out_total_sat = (int64_t)total;
    tx->out_end = c->at;
    return 0;
}

static int walk_witnesses(cursor *c, hp_tx *tx)
{
    uint32_t all_items = 0;
    tx->witness_at = c->at;
    for (uint32_t i = 0; i < tx->n_in; i++) {
        uint32_t items;
        int rc = read_count(c, 1, &items);
        if (rc < 0)
            return rc;
        all_items |= items;
        for (; items > 0; items--)
            if ((rc = skip_string(c)) < 0)
                return rc;
    }
    return all_items ? 0 : -HP_ETX_WITNESS;
}

static int walk(cursor *c, hp_tx *tx)
{
    int rc = skip(c, 4);
    if (rc < 0)
        return rc;
    tx->version = hp_le32(c->raw);
    int segwit = c->at < c->end && c->raw[c->at] == 0; /* no inputs: the BIP-144 marker */
    if (segwit) {
        if ((rc = skip(c, 2)) < 0)
            return rc;
        uint8_t flag = c->raw[c->at - 1];
        if (flag != 1)
            return flag == 0 ? -HP_ETX_NO_INPUTS : -HP_ETX_FLAG;
    }
    if ((rc = walk_inputs(c, tx)) < 0 || (rc = walk_outputs(c, tx)) < 0)
        return rc;
    if (segwit && (rc = walk_witnesses(c, tx)) < 0)
        return rc;
    if ((rc = skip(c, 4)) < 0)
        return rc;
    tx->lock_time = hp_le32(c->raw + c->at - 4);
    return 0;
}

int hp_tx_parse(const uint8_t *raw, size_t len, hp_tx *tx)
{
    memset(tx, 0, sizeof *tx);
    int clipped = len > HP_TX_BYTES_MAX;
    cursor c = {.raw = raw, .at = 0, .end = clipped ? HP_TX_BYTES_MAX : (uint32_t)len};
    int rc = walk(&c, tx);
    if (rc < 0)
        return clipped && (rc == -HP_ETX_TRUNCATED || rc == -HP_ETX_COUNT) ? -HP_ETX_TOO_BIG : rc;
    tx->raw = raw;
    tx->size = c.at;
    return (int)c.at;
}

int hp_tx_parse_exact(const uint8_t *raw, size_t len, hp_tx *tx)
{
    if (len > HP_TX_BYTES_MAX)
        return -HP_ETX_TOO_BIG;
    int rc = hp_tx_parse(raw, len, tx);
    return rc >= 0 && (size_t)rc != len ? -HP_ETX_TRAILING : rc;
}

/* CompactSize that hp_tx_parse() has checked. */
static inline uint32_t next_size(const uint8_t *raw, uint32_t *at)
{
    const uint8_t *p = raw + *at;
    if (p[0] < 0xfd) {
        *at += 1;
        return p[0];
    }
    if (p[0] == 0xfd) {
        *at += 3;
        return hp_le16(p + 1);
    }
    *at += 5; /* a 9-byte form cannot pass: no length reaches 2^32 */
    return hp_le32(p + 1);
}

int hp_tx_next_input(const hp_tx *tx, hp_tx_iter *it, hp_txin *in)
{
    if (it->index == tx->n_in)
        return 0;
    if (it->index == 0) {
        it->at = tx->in_at;
        it->witness_at = tx->witness_at;
    }
    it->index++;
    in->outpoint = tx->raw + it->at;
    it->at += 36;
    in->script_len = next_size(tx->raw, &it->at);
    in->script = tx->raw + it->at;
    it->at += in->script_len;
    in->sequence = hp_le32(tx->raw + it->at);
    it->at += 4;
    in->witness_items = 0;
    in->witness = tx->raw + it->witness_at;
    if (tx->witness_at) {
        in->witness_items = next_size(tx->raw, &it->witness_at);
        in->witness = tx->raw + it->witness_at;
        for (uint32_t i = 0; i < in->witness_items; i++) {
            uint32_t item = next_size(tx->raw, &it->witness_at);
            it->witness_at += item;
        }
    }
    in->witness_len = (uint32_t)(tx->raw + it->witness_at - in->witness);
    return 1;
}

int hp_tx_next_output(const hp_tx *tx, hp_tx_iter *it, hp_txout *out)
{
    if (it->index == tx->n_out)
        return 0;
    if (it->index == 0)
        it->at = tx->out_at;
    it->index++;
    out->value_sat = (int64_t)hp_le64(tx->raw + it->at);
    it->at += 8;
    out->script_len = next_size(tx->raw, &it->at);
    out->script = tx->raw + it->at;
    it->at += out->script_len;
    return 1;
}

int hp_tx_is_coinbase(const hp_tx *tx)
{
    static const uint8_t null_outpoint[36] = {[32] = 0xff, 0xff, 0xff, 0xff};
    return tx->n_in == 1 && !memcmp(tx->raw + tx->in_at, null_outpoint, sizeof null_outpoint);
}

static void hash_twice(hp_sha256 *first, uint8_t out[32])
{
    uint8_t digest[HP_SHA256_DIGEST];
    hp_sha256_final(first, digest);
    hp_sha256_digest(first->impl, digest, sizeof digest, out);
}

/* BIP-141: the txid leaves out marker, flag and witnesses. */
void hp_tx_txid(const hp_tx *tx, const hp_sha256_impl *impl, uint8_t out[32])
{
    if (!tx->witness_at) {
        hp_sha256d_digest(impl, tx->raw, tx->size, out);
        return;
    }
    hp_sha256 sha;
    hp_sha256_init(&sha, impl);
    hp_sha256_update(&sha, tx->raw, 4);
    hp_sha256_update(&sha, tx->raw + 6, tx->out_end - 6);
    hp_sha256_update(&sha, tx->raw + tx->size - 4, 4);
    hash_twice(&sha, out);
}

void hp_tx_wtxid(const hp_tx *tx, const hp_sha256_impl *impl, uint8_t out[32])
{
    hp_sha256d_digest(impl, tx->raw, tx->size, out);
}

uint32_t hp_tx_base_size(const hp_tx *tx)
{
    return tx->witness_at ? tx->out_end - 2 + 4 : tx->size;
}
