/* Any bytes as a transaction: what is accepted comes out of the iterators as the bytes that went
 * in. */
#include "bytes.h"
#include "harpoon.h"
#include "sha256.h"

#include <stdlib.h>
#include <string.h>

static void require(int holds)
{
    if (!holds)
        abort();
}

static uint8_t *put(uint8_t *to, const void *from, size_t bytes)
{
    if (bytes)
        memcpy(to, from, bytes);
    return to + bytes;
}

static uint8_t *put_number(uint8_t *to, uint64_t n, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        *to++ = (uint8_t)(n >> 8 * i);
    return to;
}

static uint8_t *put_size(uint8_t *to, uint32_t n)
{
    if (n < 0xfd)
        return put_number(to, n, 1);
    *to++ = n <= 0xffff ? 0xfd : 0xfe;
    return put_number(to, n, n <= 0xffff ? 2 : 4);
}

static uint8_t *put_inputs(uint8_t *to, const hp_tx *tx)
{
    hp_tx_iter it = {0};
    hp_txin in;
    to = put_size(to, tx->n_in);
    while (hp_tx_next_input(tx, &it, &in)) {
        to = put(to, in.outpoint, 36);
        to = put_size(to, in.script_len);
        to = put(to, in.script, in.script_len);
        to = put_number(to, in.sequence, 4);
    }
    return to;
}

static uint8_t *put_outputs(uint8_t *to, const hp_tx *tx)
{
    hp_tx_iter it = {0};
    hp_txout out;
    int64_t total_sat = 0;
    to = put_size(to, tx->n_out);
    while (hp_tx_next_output(tx, &it, &out)) {
        total_sat += out.value_sat;
        to = put_number(to, (uint64_t)out.value_sat, 8);
        to = put_size(to, out.script_len);
        to = put(to, out.script, out.script_len);
    }
    require(total_sat == tx->out_total_sat);
    return to;
}

static uint8_t *put_witnesses(uint8_t *to, const hp_tx *tx)
{
    hp_tx_iter it = {0};
    hp_txin in;
    while (hp_tx_next_input(tx, &it, &in)) {
        to = put_size(to, in.witness_items);
        to = put(to, in.witness, in.witness_len);
    }
    return to;
}

/* The transaction again from its parts, with or without BIP-144's additions: its length. */
static size_t serialise(const hp_tx *tx, int with_witness, uint8_t *to)
{
    uint8_t *start = to;
    to = put_number(to, tx->version, 4);
    if (with_witness)
        to = put_number(to, 0x0100, 2);
    to = put_outputs(put_inputs(to, tx), tx);
    if (with_witness)
        to = put_witnesses(to, tx);
    return (size_t)(put_number(to, tx->lock_time, 4) - start);
}

static void check_hashes(const hp_tx *tx, const uint8_t *raw, const uint8_t *stripped, size_t base)
{
    const hp_sha256_impl *impl = hp_sha256_choose(NULL);
    uint8_t ours[32];
    uint8_t plain[32];
    hp_tx_txid(tx, impl, ours);
    hp_sha256d_digest(impl, stripped, base, plain);
    require(!memcmp(ours, plain, sizeof ours));
    hp_tx_wtxid(tx, impl, ours);
    hp_sha256d_digest(impl, raw, tx->size, plain);
    require(!memcmp(ours, plain, sizeof ours));
}

static void derive_spends(const hp_tx *tx)
{
    const hp_sha256_impl *impl = hp_sha256_choose(NULL);
    hp_tx_iter it = {0};
    hp_txin in;
    while (hp_tx_next_input(tx, &it, &in)) {
        uint8_t script[HP_SCRIPT_MAX];
        int spend;
        int len = hp_txin_spends(&in, impl, script, &spend);
        require(len >= 0 && len <= HP_SCRIPT_MAX && (len == 0) == (spend == HP_SPEND_HIDDEN));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *raw, size_t len)
{
    hp_tx tx;
    int size = hp_tx_parse(raw, len, &tx);
    require(size != 0 && (size < 0 ? -size >= HP_ETX_TRUNCATED && -size <= HP_ETX_TOO_BIG
                                   : (size_t)size <= len));
    int exact = hp_tx_parse_exact(raw, len, &tx);
    require(exact == size || (size > 0 && exact == -HP_ETX_TRAILING));
    if (size < 0)
        return 0;
    require(hp_tx_parse_exact(raw, (size_t)size, &tx) == size);
    if (size > 1) /* no transaction is the start of another */
        require(hp_tx_parse(raw, (size_t)size - 1, &tx) < 0);
    hp_tx_parse(raw, len, &tx);
    uint8_t *again = malloc((size_t)size);
    require(again && serialise(&tx, tx.witness_at != 0, again) == (size_t)size);
    require(!memcmp(again, raw, (size_t)size));
    size_t base = serialise(&tx, 0, again);
    require(base == hp_tx_base_size(&tx));
    check_hashes(&tx, raw, again, base);
    free(again);
    derive_spends(&tx);
    return 0;
}
