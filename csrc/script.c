/* Which scriptPubKey an input spends, from what it reveals.
 *
 * P2PKH and P2WPKH reveal the public key, P2SH and P2WSH the script, so the hash that the spent
 * output committed to can be computed again. A taproot key path spend (BIP-341) and bare P2PK or
 * multisig reveal only signatures. A wrong guess is in nobody's book, unless the spent output was
 * made to show somebody else's key: only one of a non-standard form can be. */
#include "bytes.h"
#include "harpoon.h"
#include "sha256.h"

#include <string.h>

enum opcode { /* Bitcoin script, the ones a scriptSig of pushes can have */
    OP_0 = 0x00,
    OP_PUSHDATA1 = 0x4c,
    OP_PUSHDATA2 = 0x4d,
    OP_PUSHDATA4 = 0x4e,
    OP_16 = 0x60,
    OP_DUP = 0x76,
    OP_EQUAL = 0x87,
    OP_EQUALVERIFY = 0x88,
    OP_HASH160 = 0xa9,
    OP_CHECKSIG = 0xac,
};

typedef struct bytes {
    const uint8_t *data;
    uint32_t len;
} bytes;

static int is_signature(bytes b)
{
    return b.len >= 9 && b.len <= 73 && b.data[0] == 0x30 && b.data[1] + 3u == b.len; /* BIP-66 */
}

/* Signatures of before BIP-66 may break its length rule. */
static int may_be_signature(bytes b)
{
    return b.len >= 9 && b.len <= 80 && b.data[0] == 0x30;
}

static int is_public_key(bytes b)
{
    if (b.len == 33)
        return b.data[0] == 2 || b.data[0] == 3;
    return b.len == 65 && (b.data[0] == 4 || b.data[0] == 6 || b.data[0] == 7);
}

/* The next push of a scriptSig: 1, 0 at the end, -1 for anything that is not a push. */
static int next_push(const uint8_t *script, uint32_t len, uint32_t *at, bytes *push)
{
    if (*at == len)
        return 0;
    uint8_t op = script[(*at)++];
    uint32_t left = len - *at;
    uint32_t size;
    if (op < OP_PUSHDATA1) {
        size = op;
    } else if (op == OP_PUSHDATA1 && left >= 1) {
        size = script[*at];
        *at += 1;
    } else if (op == OP_PUSHDATA2 && left >= 2) {
        size = hp_le16(script + *at);
        *at += 2;
    } else if (op == OP_PUSHDATA4 && left >= 4) {
        size = hp_le32(script + *at);
        *at += 4;
    } else if (op > OP_PUSHDATA4 && op <= OP_16) {
        size = 0; /* a small number: pushes one byte that no hash needs */
    } else {
        return -1;
    }
    if (size > len - *at)
        return -1;
    *push = (bytes){script + *at, size};
    *at += size;
    return 1;
}

static int make_p2pkh(const hp_sha256_impl *impl, bytes key, uint8_t *script)
{
    script[0] = OP_DUP;
    script[1] = OP_HASH160;
    script[2] = 20;
    hp_hash160(impl, key.data, key.len, script + 3);
    script[23] = OP_EQUALVERIFY;
    script[24] = OP_CHECKSIG;
    return 25;
}

static int make_p2sh(const hp_sha256_impl *impl, bytes redeem, uint8_t *script)
{
    script[0] = OP_HASH160;
    script[1] = 20;
    hp_hash160(impl, redeem.data, redeem.len, script + 2);
    script[22] = OP_EQUAL;
    return 23;
}

static int make_p2wpkh(const hp_sha256_impl *impl, bytes key, uint8_t *script)
{
    script[0] = OP_0;
    script[1] = 20;
    hp_hash160(impl, key.data, key.len, script + 2);
    return 22;
}

static int make_p2wsh(const hp_sha256_impl *impl, bytes witness_script, uint8_t *script)
{
    script[0] = OP_0;
    script[1] = 32;
    hp_sha256_digest(impl, witness_script.data, witness_script.len, script + 2);
    return 34;
}

/* The first and the last item of a witness that hp_tx_parse() has checked. */
static void witness_ends(const hp_txin *in, bytes *first, bytes *last)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < in->witness_items; i++) {
        uint32_t len = in->witness[at];
        if (len < 0xfd) {
            at += 1;
        } else if (len == 0xfd) {
            len = hp_le16(in->witness + at + 1);
            at += 3;
        } else {
            len = hp_le32(in->witness + at + 1);
            at += 5;
        }
        *last = (bytes){in->witness + at, len};
        if (i == 0)
            *first = *last;
        at += len;
    }
}

/* BIP-341: an annex starts with 0x50; a control block is 33 + 32k bytes and starts with the leaf
 * version. Neither byte can start a P2WSH script that succeeds. */
static int is_taproot_end(bytes last)
{
    int control_block = last.len >= 33 && (last.len - 33) % 32 == 0;
    return last.data[0] == 0x50 || (control_block && (last.data[0] & 0xfe) == 0xc0);
}

static int spends_native_segwit(const hp_txin *in, const hp_sha256_impl *impl, uint8_t *script,
                                int *spend)
{
    bytes first = {NULL, 0};
    bytes last = {NULL, 0};
    witness_ends(in, &first, &last);
    if (in->witness_items == 1 && (last.len == 64 || last.len == 65))
        return 0; /* a lone Schnorr signature: taproot key path */
    if (in->witness_items == 2 && last.len == 33 && is_public_key(last) &&
        may_be_signature(first)) {
        *spend = HP_SPEND_P2WPKH;
        return make_p2wpkh(impl, last, script);
    }
    if (last.len == 0 || is_taproot_end(last))
        return 0;
    *spend = HP_SPEND_P2WSH;
    return make_p2wsh(impl, last, script);
}

static int spends_by_script_sig(const hp_txin *in, const hp_sha256_impl *impl, uint8_t *script,
                                int *spend)
{
    bytes first = {NULL, 0};
    bytes last = {NULL, 0};
    uint32_t pushes = 0;
    uint32_t at = 0;
    int rc;
    bytes push;
    while ((rc = next_push(in->script, in->script_len, &at, &push)) == 1) {
        if (pushes++ == 0)
            first = push;
        last = push;
    }
    if (rc < 0 || last.len == 0)
        return 0;
    if (in->witness_items) { /* BIP-141: P2SH-nested, the scriptSig is exactly one push */
        if (pushes != 1 || !((last.len == 22 && last.data[0] == OP_0 && last.data[1] == 20) ||
                             (last.len == 34 && last.data[0] == OP_0 && last.data[1] == 32)))
            return 0;
        *spend = last.len == 22 ? HP_SPEND_P2SH_P2WPKH : HP_SPEND_P2SH_P2WSH;
        return make_p2sh(impl, last, script);
    }
    if (pushes == 2 && may_be_signature(first) && is_public_key(last)) {
        *spend = HP_SPEND_P2PKH;
        return make_p2pkh(impl, last, script);
    }
    if (is_signature(last))
        return 0; /* bare P2PK or multisig */
    *spend = HP_SPEND_P2SH;
    return make_p2sh(impl, last, script);
}

int hp_txin_spends(const hp_txin *in, const hp_sha256_impl *impl, uint8_t script[42], int *spend)
{
    *spend = HP_SPEND_HIDDEN;
    return in->script_len == 0 ? spends_native_segwit(in, impl, script, spend)
                               : spends_by_script_sig(in, impl, script, spend);
}
