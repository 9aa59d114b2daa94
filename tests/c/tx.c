/* The walk over a transaction, on buffers that end where the transaction ends. */
#include "harpoon.h"
#include "require.h"

#include <string.h>

#define TX_BYTES_MAX 1024

/* The first payment there was (block 170). */
static const char legacy[] =
    "0100000001c997a5e56e104102fa209c6a852dd90660a20b2d9c352423edce25857fcd3704000000004847304402"
    "204e45e16932b8af514961a1d3a1a25fdf3f4f7732e9d624c6c61548ab5fb8cd410220181522ec8eca07de4860a4"
    "acdd12909d831cc56cbbac4622082221a8768d1d0901ffffffff0200ca9a3b00000000434104ae1a62fe09c5f51b"
    "13905f07f06b99a2f7159b2225f374cd378d71302fa28414e7aab37397f554a7df5f142c21c1b7303b8a0626f1ba"
    "ded5c72a704f7e6cd84cac00286bee0000000043410411db93e1dcdb8a016b49840f8c53bc1eb68a382e97b1482e"
    "cad7b148a6909a5cb2e0eaddfb84ccf9744464f82e160bfa9b8b64f9d4c03f999b8643f656b412a3ac00000000";
static const char legacy_txid[] = /* internal byte order */
    "169e1e83e930853391bc6f35f605c6754cfead57cf8387639d3b4096c54f18f4";
/* BIP-143's P2WPKH example. */
static const char segwit[] =
    "01000000000102fff7f7881a8099afa6940d42d1e7f6362bec38171ea3edf433541db4e4ad969f00000000494830"
    "450221008b9d1dc26ba6a9cb62127b02742fa9d754cd3bebf337f7a55d114c8e5cdd30be022040529b194ba3f928"
    "1a99f2b1c0a19c0489bc22ede944ccf4ecbab4cc618ef3ed01eeffffffef51e1b804cc89d182d279655c3aa89e81"
    "5b1b309fe287d9b2b55d57b90ec68a0100000000ffffffff02202cb206000000001976a9148280b37df378db99f6"
    "6f85c95a783a76ac7a6d5988ac9093510d000000001976a9143bde42dbee7e4dbe6a21b2d50ce2f0167faa815988"
    "ac000247304402203609e17b84f6a7d30c80bfa610b5b4542f32a8a0d5447a12fb1366d7f01cc44a0220573a954c"
    "4518331561406f90300e8f3358f51928d43c212a8caed02de67eebee0121025476c2e83188368da1ff3e292e7aca"
    "fcdb3566bb0ad253f62fc70f07aeee635711000000";

static int digit(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

static size_t from_hex(const char *hex, uint8_t *out)
{
    size_t digits = 0;
    for (; *hex; hex++) {
        uint8_t nibble = (uint8_t)digit(*hex);
        out[digits / 2] = (uint8_t)(digits % 2 ? out[digits / 2] << 4 | nibble : nibble);
        digits++;
    }
    return digits / 2;
}

static uint8_t *exact_copy(const uint8_t *raw, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);
    require(copy);
    memcpy(copy, raw, len);
    return copy;
}

static void walk_all(const hp_tx *tx)
{
    const hp_sha256_impl *portable = hp_sha256_choose("portable");
    hp_tx_iter in_it = {0};
    hp_tx_iter out_it = {0};
    hp_txin in;
    hp_txout out;
    uint32_t inputs = 0;
    uint32_t outputs = 0;
    while (hp_tx_next_input(tx, &in_it, &in)) {
        uint8_t script[HP_SCRIPT_MAX];
        int spend;
        hp_txin_spends(&in, portable, script, &spend);
        inputs++;
    }
    while (hp_tx_next_output(tx, &out_it, &out))
        outputs++;
    require(inputs == tx->n_in && outputs == tx->n_out);
}

/* The whole is accepted, everything shorter is not, and a changed byte harms nobody. */
static void walk_every_way(const char *hex)
{
    uint8_t raw[TX_BYTES_MAX];
    size_t len = from_hex(hex, raw);
    hp_tx tx;
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *copy = exact_copy(raw, cut);
        require(hp_tx_parse(copy, cut, &tx) < 0);
        free(copy);
    }
    for (size_t at = 0; at < 256 * len; at++) {
        uint8_t *copy = exact_copy(raw, len);
        copy[at / 256] = (uint8_t)at;
        if (hp_tx_parse(copy, len, &tx) > 0)
            walk_all(&tx);
        free(copy);
    }
    require(hp_tx_parse_exact(raw, len, &tx) == (int)len);
    require(hp_tx_parse_exact(raw, len + 1, &tx) == -HP_ETX_TRAILING);
}

static void check_txid(void)
{
    uint8_t raw[TX_BYTES_MAX];
    uint8_t expected[32];
    uint8_t txid[32];
    size_t len = from_hex(legacy, raw);
    hp_tx tx;
    require(hp_tx_parse_exact(raw, len, &tx) == (int)len);
    require(tx.n_in == 1 && tx.n_out == 2 && tx.out_total_sat == INT64_C(5000000000));
    require(from_hex(legacy_txid, expected) == 32);
    hp_tx_txid(&tx, hp_sha256_choose("portable"), txid);
    require(!memcmp(txid, expected, sizeof txid));
}

static void check_spend(void)
{
    static const char spent[] = "00141d0f172a0ecb48aee1be1f2687d2963ae33f71a1";
    uint8_t raw[TX_BYTES_MAX];
    uint8_t script[HP_SCRIPT_MAX];
    uint8_t expected[HP_SCRIPT_MAX];
    size_t len = from_hex(segwit, raw);
    int spend;
    hp_tx tx;
    hp_tx_iter it = {0};
    hp_txin in;
    require(hp_tx_parse_exact(raw, len, &tx) == (int)len && tx.n_in == 2);
    hp_tx_next_input(&tx, &it, &in);
    hp_tx_next_input(&tx, &it, &in);
    require(hp_txin_spends(&in, hp_sha256_choose("portable"), script, &spend) == 22);
    require(spend == HP_SPEND_P2WPKH && from_hex(spent, expected) == 22);
    require(!memcmp(script, expected, 22));
}

int main(void)
{
    walk_every_way(legacy);
    walk_every_way(segwit);
    check_txid();
    check_spend();
    return 0;
}
