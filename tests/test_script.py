"""Scripts: what an input reveals of the one it spends (csrc/script.c), with made-up and real spends
of every kind."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine._native import check, ffi, lib
from engine.address import address_of
from engine.feed.replay import read_block
from engine.tx import decode

from .builders import (
    WALLETS,
    EdgeOfMemory,
    Input,
    Output,
    coin,
    multisig,
    p2pkh,
    p2sh,
    p2tr,
    p2wpkh,
    p2wsh,
    public_key,
    push,
    signature,
    transaction,
    uncompressed_key,
)

KINDS = {
    lib.HP_SPEND_HIDDEN: "hidden",
    lib.HP_SPEND_P2PKH: "p2pkh",
    lib.HP_SPEND_P2WPKH: "p2wpkh",
    lib.HP_SPEND_P2SH_P2WPKH: "p2sh-p2wpkh",
    lib.HP_SPEND_P2SH_P2WSH: "p2sh-p2wsh",
    lib.HP_SPEND_P2WSH: "p2wsh",
    lib.HP_SPEND_P2SH: "p2sh",
}


def spends(raw: bytes) -> list[tuple[str, bytes]]:
    """Kind and scriptPubKey of every input, as hp_txin_spends() has them."""
    impl = lib.hp_sha256_choose(ffi.NULL)
    tx, it, txin = ffi.new("hp_tx *"), ffi.new("hp_tx_iter *"), ffi.new("hp_txin *")
    script, kind = ffi.new("uint8_t[]", lib.HP_SCRIPT_MAX), ffi.new("int *")
    buffer = ffi.from_buffer(raw)
    check(lib.hp_tx_parse_exact(buffer, len(raw), tx))
    found = []
    while lib.hp_tx_next_input(tx, it, txin):
        length = lib.hp_txin_spends(txin, impl, script, kind)
        found.append((KINDS[kind[0]], bytes(ffi.buffer(script, length))))
    return found


def spend_of(script_sig: bytes = b"", *witness: bytes) -> tuple[str, bytes]:
    """What one input with these two reveals. Another input keeps the segwit form valid."""
    inputs = [Input(coin(0), 0, script_sig, witness), Input(coin(1), witness=(b"x",))]
    return spends(transaction(inputs, [Output(1, b"")]))[0]


@pytest.fixture(scope="module")
def edge() -> EdgeOfMemory:
    return EdgeOfMemory()


HIDDEN = ("hidden", b"")
OP_CHECKMULTISIG = 0xAE


# ---- every kind of spend -------------------------------------------------------------------------


@pytest.mark.parametrize("name", WALLETS)
def test_every_kind_of_wallet(name: str) -> None:
    wallet = WALLETS[name](5)
    kind, script = spends(transaction([wallet.spend(coin(1))], [Output(1, b"")]))[0]
    if wallet.reveals:
        assert (kind, script) == (name.replace("-multisig", ""), wallet.script_pub_key)
    else:
        assert (kind, script) == HIDDEN


def test_engine_tx_says_the_same() -> None:
    wallets = [make(n) for n, make in enumerate(WALLETS.values())]
    raw = transaction([wallet.spend(coin(1)) for wallet in wallets], [Output(1, b"")])
    expected = [wallet.script_pub_key if wallet.reveals else None for wallet in wallets]
    assert [txin.spends for txin in decode(raw).inputs] == expected


@pytest.mark.parametrize("length", [71, 72, 73])
@pytest.mark.parametrize(
    "key", [public_key(0), public_key(1), uncompressed_key(2), b"\6" + uncompressed_key(3)[1:]]
)
def test_p2pkh_with_every_form_of_key(key: bytes, length: int) -> None:
    assert spend_of(push(signature(0, length)) + push(key)) == ("p2pkh", p2pkh(key))


@pytest.mark.parametrize("keys", [1, 2, 3, 7, 15])
def test_scripts_behind_every_form_of_push(keys: int) -> None:
    redeem = multisig(1, *(public_key(n) for n in range(keys)))
    assert spend_of(b"\0" + push(signature()) + push(redeem)) == ("p2sh", p2sh(redeem))
    assert spend_of(b"", b"", signature(), redeem) == ("p2wsh", p2wsh(redeem))


def test_a_push_with_four_bytes_of_length() -> None:
    redeem = multisig(1, public_key(1))
    long_push = b"\x4e" + len(redeem).to_bytes(4, "little") + redeem
    assert spend_of(b"\0" + push(signature()) + long_push) == ("p2sh", p2sh(redeem))


@pytest.mark.parametrize("length", [1, 63, 66, 252, 253, 65_535, 65_536])
def test_witness_scripts_of_any_length(length: int) -> None:
    script = b"\x51" * length
    assert spend_of(b"", script) == ("p2wsh", p2wsh(script))
    assert spend_of(b"", bytes(300), script) == ("p2wsh", p2wsh(script))


def test_a_redeem_script_without_a_signature_before_it() -> None:
    assert spend_of(push(b"\x51\x51\x87")) == ("p2sh", p2sh(b"\x51\x51\x87"))


# ---- what has to stay hidden ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script_sig", "witness"),
    [
        (b"", ()),
        (b"", (b"",)),
        (b"", (bytes(64),)),  # taproot's key path
        (b"", (bytes(65),)),
        (b"", (bytes(64), b"\x50annex")),
        (b"", (bytes(64), b"\x51", b"\xc0" + bytes(32))),  # its script path
        (b"", (b"\x51", b"\xc1" + bytes(32 + 32 * 128))),
        (b"", (b"\x51", b"\xc0" + bytes(64), b"\x50")),
        (b"", (signature(), b"")),
        (push(signature()), ()),  # P2PK
        (b"\0" + push(signature()), ()),  # bare multisig
        (b"\0" + push(signature(1)) + push(signature(2)), ()),
        (b"\0", ()),
        (b"\x51", ()),  # a redeem script of one byte, the number 1
        (push(signature()) + b"\x76", ()),  # OP_DUP: no push
        (push(signature()) + push(public_key(1)) + b"\x61", ()),
        (b"\x4b" + bytes(74), ()),  # pushes beyond the script's end
        (b"\x4c", ()),
        (b"\x4c\x01", ()),
        (b"\x4d\x01", ()),
        (b"\x4d\x01\x00", ()),
        (b"\x4e\x01\x00\x00", ()),
        (b"\x4e\xff\xff\xff\xff", ()),
        (b"\x01\x00" + push(p2wpkh(b"k")), (signature(), b"k")),  # nested, but not one push
        (p2wpkh(b"k"), (signature(), b"k")),  # nested, but not a push of the program
        (push(b"\x51\x20" + bytes(32)), (bytes(64),)),  # taproot is never nested
        (push(signature()) + push(public_key(1)), (b"x",)),  # P2PKH has no witness
    ],
)
def test_nothing_is_made_up(script_sig: bytes, witness: tuple[bytes, ...]) -> None:
    assert spend_of(script_sig, *witness) == HIDDEN


@pytest.mark.parametrize("opcode", [b"\x4c", b"\x4d", b"\x4e"])
def test_no_script_is_read_beyond_its_end(opcode: bytes, edge: EdgeOfMemory) -> None:
    redeem = multisig(1, public_key(1), public_key(2))
    width = {b"\x4c": 1, b"\x4d": 2, b"\x4e": 4}[opcode]
    long_push = opcode + len(redeem).to_bytes(width, "little") + redeem
    script_sig = b"\0" + push(signature()) + long_push
    impl, kind = lib.hp_sha256_choose(ffi.NULL), ffi.new("int *")
    script = ffi.new("uint8_t[]", lib.HP_SCRIPT_MAX)
    for length in range(1, len(script_sig) + 1):
        placed = ffi.from_buffer("uint8_t[]", edge.place(script_sig[:length]))
        txin = ffi.new("hp_txin *", {"script": placed, "script_len": length})
        found = lib.hp_txin_spends(txin, impl, script, kind)
        assert (found > 0) == (length == len(script_sig))


pieces = st.sampled_from(
    [
        *(b"", b"\0", b"\x4c", b"\x4d", b"\x4e", b"\x50", b"\xff", signature(), public_key(1)),
        *(push(signature()), push(public_key(1)), push(p2wpkh(b"k")), push(p2wsh(b"k")), p2tr(1)),
    ]
)
anything = st.lists(pieces | st.binary(max_size=70), max_size=4).map(b"".join)


@settings(max_examples=500)
@given(anything, st.lists(anything, max_size=4))
def test_any_input_reveals_nothing_or_a_script_that_has_an_address(
    script_sig: bytes, witness: list[bytes]
) -> None:
    kind, script = spend_of(script_sig, *witness)
    assert (kind == "hidden") == (script == b"")
    assert not script or address_of(script) is not None


# ---- BIP-143's signed examples -------------------------------------------------------------------

BIP143_P2WPKH = """
01000000000102fff7f7881a8099afa6940d42d1e7f6362bec38171ea3edf433541db4e4ad969f00000000494830
450221008b9d1dc26ba6a9cb62127b02742fa9d754cd3bebf337f7a55d114c8e5cdd30be022040529b194ba3f928
1a99f2b1c0a19c0489bc22ede944ccf4ecbab4cc618ef3ed01eeffffffef51e1b804cc89d182d279655c3aa89e81
5b1b309fe287d9b2b55d57b90ec68a0100000000ffffffff02202cb206000000001976a9148280b37df378db99f6
6f85c95a783a76ac7a6d5988ac9093510d000000001976a9143bde42dbee7e4dbe6a21b2d50ce2f0167faa815988
ac000247304402203609e17b84f6a7d30c80bfa610b5b4542f32a8a0d5447a12fb1366d7f01cc44a0220573a954c
4518331561406f90300e8f3358f51928d43c212a8caed02de67eebee0121025476c2e83188368da1ff3e292e7aca
fcdb3566bb0ad253f62fc70f07aeee635711000000
"""
BIP143_P2SH_P2WPKH = """
01000000000101db6b1b20aa0fd7b23880be2ecbd4a98130974cf4748fb66092ac4d3ceb1a547701000000171600
1479091972186c449eb1ded22b78e40d009bdf0089feffffff02b8b4eb0b000000001976a914a457b684d7f0d539
a46a45bbc043f35b59d0d96388ac0008af2f000000001976a914fd270b1ee6abcaea97fea7ad0402e8bd8ad6d77c
88ac02473044022047ac8e878352d3ebbde1c94ce3a10d057c24175747116f8288e5d794d12d482f0220217f36a4
85cae903c713331d877c1f64677e3622ad4010726870540656fe9dcb012103ad1d8e89212f0b92c74d23bb710c00
662ad1470198ac48c43f7d6f93a2a2687392040000
"""
BIP143_P2SH_P2WSH = """
0100000000010136641869ca081e70f394c6948e8af409e18b619df2ed74aa106c1ca29787b96e01000000232200
20a16b5755f7f6f96dbd65f5f0d6ab9418b89af4b1f14a1bb8a09062c35f0dcb54ffffffff0200e9a43500000000
1976a914389ffce9cd9ae88dcc0631e88a821ffdbe9bfe2688acc0832f05000000001976a9147480a33f950689af
511e6e84c138dbbd3c3ee41588ac080047304402206ac44d672dac41f9b00e28f4df20c52eeb087207e8d758d76d
92c6fab3b73e2b0220367750dbbe19290069cba53d096f44530e4f98acaa594810388cf7409a1870ce0147304402
2068c7946a43232757cbdf9176f009a928e1cd9a1a8c212f15c1e11ac9f2925d9002205b75f937ff2f9f3c1246e5
47e54f62e027f64eefa2695578cc6432cdabce271502473044022059ebf56d98010a932cf8ecfec54c48e6139ed6
adb0728c09cbe1e4fa0915302e022007cd986c8fa870ff5d2b3a89139c9fe7e499259875357e20fcbb15571c7679
5403483045022100fbefd94bd0a488d50b79102b5dad4ab6ced30c4069f1eaa69a4b5a763414067e02203156c6a5
c9cf88f91265f5a942e96213afae16d83321c8b31bb342142a14d16381483045022100a5263ea0553ba89221984b
d7f0b13613db16e7a70c549a86de0cc0444141a407022005c360ef0ae5a5d4f9f2f87a56c1546cc8268cab08c735
01d6b3be2e1e1a8a08824730440220525406a1482936d5a21888260dc165497a90a15669636d8edca6b9fe490d30
9c022032af0c646a34a44d1f4576bf6a4a74b67940f8faa84c7df9abe12a01a11e2b4783cf56210307b8ae49ac90
a048e9b53357a2354b3334e9c8bee813ecb98e99a7e07e8c3ba32103b28f0c28bfab54554ae8c658ac5c3e0ce6e7
9ad336331f78c428dd43eea8449b21034b8113d703413d57761b8b9781957b8c0ac1dfe69f492580ca4195f50376
ba4a21033400f6afecb833092a9a21cfdf1ed1376e58c5d1f47de74683123987e967a8f42103a6d48b1131e94ba0
4d9737d61acdaa1322008af9602b3b14862c07a1789aac162102d8b661b0b3302ee2f162b09e07a55ad5dfbe673a
9f01d9f0c19617681024306b56ae00000000
"""


@pytest.mark.parametrize(
    ("transaction_hex", "expected"),
    [
        (
            BIP143_P2WPKH,
            [("hidden", ""), ("p2wpkh", "00141d0f172a0ecb48aee1be1f2687d2963ae33f71a1")],
        ),
        (
            BIP143_P2SH_P2WPKH,
            [("p2sh-p2wpkh", "a9144733f37cf4db86fbc2efed2500b4f4e49f31202387")],
        ),
        (BIP143_P2SH_P2WSH, [("p2sh-p2wsh", "a9149993a429037b5d912407a71c252019287b8d27a587")]),
    ],
    ids=["p2wpkh", "p2sh-p2wpkh", "p2sh-p2wsh"],
)
def test_the_signed_examples_of_bip_143(
    transaction_hex: str, expected: list[tuple[str, str]]
) -> None:
    found = spends(bytes.fromhex(transaction_hex))
    assert found == [(kind, bytes.fromhex(script)) for kind, script in expected]


# ---- real blocks ---------------------------------------------------------------------------------

# MANIFEST.md, "What is in the blocks": how many inputs are of which type.
REVEALED = {
    100000: {"p2pkh": 3},
    300025: {"p2pkh": 1424, "hidden": 3},
    413567: {"p2pkh": 3957, "p2sh": 929},
    481829: {"p2pkh": 5105, "p2sh": 141},
    482683: {"p2pkh": 47, "p2sh-p2wsh": 2, "p2sh": 2},
    562500: {
        "p2pkh": 3643,
        "p2wpkh": 101,
        "p2sh-p2wpkh": 1336,
        "p2sh-p2wsh": 184,
        "p2wsh": 8,
        "p2sh": 68,
    },
    617509: {
        "p2pkh": 2302,
        "p2wpkh": 4590,
        "p2sh-p2wpkh": 1596,
        "p2sh-p2wsh": 188,
        "p2wsh": 45,
        "p2sh": 54,
    },
    757739: {
        "p2pkh": 14,
        "p2wpkh": 51,
        "p2sh-p2wpkh": 4,
        "p2sh-p2wsh": 8,
        "p2wsh": 10,
        "p2sh": 4,
    },
    757753: {"p2pkh": 10, "p2wpkh": 83, "p2sh-p2wpkh": 27, "p2sh-p2wsh": 1, "p2wsh": 10},
    866342: {
        "p2pkh": 905,
        "p2wpkh": 4374,
        "p2sh-p2wpkh": 223,
        "p2sh-p2wsh": 23,
        "p2wsh": 74,
        "hidden": 2373,
    },
}


def block_spends(blocks: Path, height: int) -> list[tuple[str, bytes]]:
    raws = read_block(blocks / f"block_{height}.bin")[1:]
    return [spend for raw in raws for spend in spends(bytes(raw))]


@pytest.mark.parametrize("height", REVEALED)
def test_every_input_of_a_real_block_is_of_the_type_it_is(height: int, shared_data: Path) -> None:
    kinds = Counter(kind for kind, _ in block_spends(shared_data / "blocks", height))
    assert kinds == REVEALED[height]


@pytest.mark.parametrize("height", [300025, 757739, 757753, 866342])
def test_what_is_revealed_is_what_is_spent(height: int, shared_data: Path) -> None:
    blocks = shared_data / "blocks"
    with gzip.open(blocks / f"block_{height}_prevouts.tsv.gz", "rt") as file:
        rows = [line.split("\t") for line in file if not line.startswith("#")]
    prevouts = [bytes.fromhex(row[3]) for row in rows]
    spent = list(zip(block_spends(blocks, height), prevouts, strict=True))
    wrong = [(script, prevout) for (_, script), prevout in spent if script not in (b"", prevout)]
    assert wrong == []
    hidden = [prevout for (_, script), prevout in spent if not script]
    assert all(prevout[:2] == p2tr(1)[:2] or prevout[-1] == OP_CHECKMULTISIG for prevout in hidden)
