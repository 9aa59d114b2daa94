"""The transaction walk (csrc/tx.c, engine.tx): real transactions, malformed ones, random ones."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from bitcoin.core import CTransaction
from hypothesis import given, settings
from hypothesis import strategies as st

from engine._native import check, ffi, lib
from engine.book import Book
from engine.core import Engine
from engine.errors import TxCode, TxError
from engine.tx import Transaction, decode

from . import builders
from .builders import (
    EdgeOfMemory,
    Input,
    Output,
    coin,
    compact_size,
    every_kind_of_spend,
    transaction,
)

HEIGHTS = (100000, 300025, 413567, 481829, 482683, 562500, 617509, 757739, 757753, 866342)
MAX_MONEY_SAT = 21_000_000 * 100_000_000
TX_CODES = range(lib.HP_ETX_TRUNCATED, lib.HP_ETX_TOO_BIG + 1)

# The first payment ever, block 170: https://en.bitcoin.it/wiki/Block_170 has its txid.
FIRST_PAYMENT = bytes.fromhex(
    "0100000001c997a5e56e104102fa209c6a852dd90660a20b2d9c352423edce25857fcd37040000000048473044"
    "02204e45e16932b8af514961a1d3a1a25fdf3f4f7732e9d624c6c61548ab5fb8cd410220181522ec8eca07de48"
    "60a4acdd12909d831cc56cbbac4622082221a8768d1d0901ffffffff0200ca9a3b00000000434104ae1a62fe09"
    "c5f51b13905f07f06b99a2f7159b2225f374cd378d71302fa28414e7aab37397f554a7df5f142c21c1b7303b8a"
    "0626f1baded5c72a704f7e6cd84cac00286bee0000000043410411db93e1dcdb8a016b49840f8c53bc1eb68a38"
    "2e97b1482ecad7b148a6909a5cb2e0eaddfb84ccf9744464f82e160bfa9b8b64f9d4c03f999b8643f656b412a3"
    "ac00000000"
)

LEGACY = transaction(
    [builders.p2pkh_wallet(1).spend(coin(1), 7), builders.p2sh_multisig_wallet(2).spend(coin(2))],
    [Output(5_000_000_000, builders.p2pkh(b"a")), Output(1, builders.p2sh(b"b"))],
    version=1,
    lock_time=500_000,
)
SEGWIT = every_kind_of_spend(lock_time=0xFFFF_FFFE)
LONG_SCRIPTS = transaction(
    [Input(coin(3), 0, bytes(70_000), (b"", bytes(253), bytes(65_536)))],
    [Output(0, bytes(253)), Output(7, b"")],
)
REAL_LIKE = {"legacy": LEGACY, "segwit": SEGWIT, "first payment": FIRST_PAYMENT}


def error_of(raw: bytes) -> int:
    """The HP_ETX_... code with which `raw` is refused."""
    with pytest.raises(TxError) as refusal:
        decode(raw)
    return refusal.value.code


def built_again(tx: Transaction) -> bytes:
    """What was decoded, serialised by the other side."""
    inputs = [
        Input(bytes.fromhex(i.txid)[::-1], i.vout, i.script, i.witness, i.sequence)
        for i in tx.inputs
    ]
    outputs = [Output(o.value_sat, o.script) for o in tx.outputs]
    return transaction(inputs, outputs, tx.version, tx.lock_time)


def agrees_with_bitcoinlib(tx: Transaction, theirs: CTransaction) -> bool:
    inputs = [
        (bytes(i.prevout.hash)[::-1].hex(), i.prevout.n, bytes(i.scriptSig), i.nSequence)
        for i in theirs.vin
    ]
    witnesses = [tuple(map(bytes, w.scriptWitness.stack)) for w in theirs.wit.vtxinwit]
    return (
        tx.txid == theirs.GetTxid()[::-1].hex()
        and tx.wtxid == theirs.GetHash()[::-1].hex()
        and tx.version == theirs.nVersion % 2**32
        and tx.lock_time == theirs.nLockTime
        and [(i.txid, i.vout, i.script, i.sequence) for i in tx.inputs] == inputs
        and [i.witness for i in tx.inputs] == (witnesses or [()] * len(inputs))
        and [(o.value_sat, o.script) for o in tx.outputs]
        == [(o.nValue, bytes(o.scriptPubKey)) for o in theirs.vout]
    )


@pytest.fixture(scope="module")
def edge() -> EdgeOfMemory:
    return EdgeOfMemory()


# ---- well-formed ---------------------------------------------------------------------------------


def test_a_legacy_transaction() -> None:
    tx = decode(LEGACY)
    assert (tx.version, tx.lock_time, tx.size) == (1, 500_000, len(LEGACY))
    assert tx.vsize == tx.size
    assert tx.txid == tx.wtxid == builders.txid_of(LEGACY)
    assert [(i.txid, i.vout) for i in tx.inputs] == [
        (coin(1)[::-1].hex(), 7),
        (coin(2)[::-1].hex(), 0),
    ]
    assert [i.witness for i in tx.inputs] == [(), ()]
    assert [o.value_sat for o in tx.outputs] == [5_000_000_000, 1]
    assert built_again(tx) == LEGACY


def test_a_segwit_transaction() -> None:
    tx = decode(SEGWIT)
    theirs = CTransaction.deserialize(SEGWIT)
    assert agrees_with_bitcoinlib(tx, theirs)
    assert tx.txid != tx.wtxid
    assert (tx.size, tx.vsize) == (len(SEGWIT), -(-theirs.calc_weight() // 4))
    assert built_again(tx) == SEGWIT


def test_the_first_payment() -> None:
    tx = decode(FIRST_PAYMENT)
    assert tx.txid == "f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16"
    assert [o.value_sat for o in tx.outputs] == [1_000_000_000, 4_000_000_000]


def test_compact_sizes_of_three_and_five_bytes() -> None:
    assert built_again(decode(LONG_SCRIPTS)) == LONG_SCRIPTS


def test_hundreds_of_inputs_outputs_and_witness_items() -> None:
    inputs = [Input(coin(n), n, witness=(bytes([n % 256]),) * 300) for n in range(300)]
    outputs = [Output(n, b"\x51") for n in range(70_000)]
    raw = transaction(inputs, outputs)
    assert built_again(decode(raw)) == raw


txids = st.binary(min_size=32, max_size=32)
uint32s = st.integers(0, 2**32 - 1)
scripts = st.binary(max_size=300)
made_inputs = st.builds(
    Input, txids, uint32s, scripts, st.lists(st.binary(max_size=80), max_size=4).map(tuple), uint32s
)
made_outputs = st.builds(Output, st.integers(0, MAX_MONEY_SAT // 4), scripts)
made_transactions = st.builds(
    transaction,
    st.lists(made_inputs, min_size=1, max_size=4),
    st.lists(made_outputs, min_size=1, max_size=4),
    uint32s,
    uint32s,
)


@given(made_transactions)
def test_what_is_built_is_read(raw: bytes) -> None:
    tx = decode(raw)
    assert built_again(tx) == raw
    assert agrees_with_bitcoinlib(tx, CTransaction.deserialize(raw))


def test_the_walk_says_where_a_transaction_ends() -> None:
    tx = ffi.new("hp_tx *")
    for raw in REAL_LIKE.values():
        buffer = raw + SEGWIT
        assert check(lib.hp_tx_parse(ffi.from_buffer(buffer), len(buffer), tx)) == len(raw)
        assert error_of(raw + b"\0") == lib.HP_ETX_TRAILING


# ---- malformed -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REAL_LIKE)
def test_truncation_at_every_byte(name: str, edge: EdgeOfMemory) -> None:
    raw = REAL_LIKE[name]
    codes = {error_of(edge.place(raw[:length])) for length in range(len(raw))}
    # A length or count that was whole may promise more than the bytes that are left.
    assert codes == {lib.HP_ETX_TRUNCATED, lib.HP_ETX_COUNT}
    assert decode(edge.place(raw)).size == len(raw)


def test_truncation_is_told_apart_from_an_absurd_length() -> None:
    start = len(LEGACY) - 4  # the lock time, behind everything that has a length
    assert {error_of(LEGACY[:n]) for n in range(start, len(LEGACY))} == {lib.HP_ETX_TRUNCATED}
    assert {error_of(SEGWIT[:n]) for n in range(6)} == {lib.HP_ETX_TRUNCATED}


PLAIN_INPUT = bytes(36) + b"\0" + bytes(4)
PLAIN_OUTPUT = bytes(8) + b"\0"


def plain(
    n_in: bytes = b"\1",
    script_len: bytes = b"\0",
    n_out: bytes = b"\1",
    output_script_len: bytes = b"\0",
    value: bytes = bytes(8),
    n_witness: bytes | None = None,
) -> bytes:
    """The smallest transaction, with one of its numbers replaced."""
    marker = b"" if n_witness is None else b"\0\1"
    inputs = n_in + bytes(36) + script_len + bytes(4)
    outputs = n_out + value + output_script_len
    return bytes(4) + marker + inputs + outputs + (n_witness or b"") + bytes(4)


def test_the_smallest_transaction() -> None:
    assert decode(plain()).size == 60
    assert decode(plain(n_witness=b"\1\0")).inputs[0].witness == (b"",)


@pytest.mark.parametrize(
    "size",
    [
        b"\xfd\x00\x00",
        b"\xfd\xfc\x00",
        b"\xfe\xfd\x00\x00\x00",
        b"\xfe\xff\xff\x00\x00",
        b"\xff\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\xff\x01\x00\x00\x00\x00\x00\x00\x00",
        b"\xff\xff\xff\xff\xff\x00\x00\x00\x00",
    ],
    ids=bytes.hex,
)
@pytest.mark.parametrize(
    "where", ["n_in", "script_len", "n_out", "output_script_len", "n_witness", "item"]
)
def test_a_number_that_is_not_in_its_shortest_form(where: str, size: bytes) -> None:
    raw = plain(n_witness=b"\1" + size) if where == "item" else plain(**{where: size})
    assert error_of(raw) == lib.HP_ETX_VARINT


ABSURD = [2**8 - 4, 2**16 - 1, 2**16, 2**32 - 1, 2**32, 2**63, 2**64 - 1]


@pytest.mark.parametrize("n", ABSURD)
@pytest.mark.parametrize(
    "where", ["n_in", "script_len", "n_out", "output_script_len", "n_witness", "item"]
)
def test_a_number_that_exceeds_the_bytes_left(where: str, n: int) -> None:
    size = compact_size(n)
    raw = plain(n_witness=b"\1" + size) if where == "item" else plain(**{where: size})
    assert error_of(raw) == lib.HP_ETX_COUNT


def test_a_count_is_bounded_by_what_its_things_take_at_least() -> None:
    inputs = b"\2" + PLAIN_INPUT + PLAIN_INPUT[:-1]
    assert error_of(bytes(4) + inputs) == lib.HP_ETX_COUNT
    outputs = b"\2" + PLAIN_OUTPUT + PLAIN_OUTPUT[:-1]
    assert error_of(bytes(4) + b"\1" + PLAIN_INPUT + outputs) == lib.HP_ETX_COUNT


def test_no_inputs() -> None:
    # 00 where a count of inputs belongs is BIP-144's marker, and the 00 behind it no flag.
    assert error_of(bytes(10)) == lib.HP_ETX_NO_INPUTS
    assert error_of(bytes(4) + b"\0\1\0\1" + PLAIN_OUTPUT + bytes(4)) == lib.HP_ETX_NO_INPUTS


def test_no_outputs() -> None:
    assert error_of(bytes(4) + b"\1" + PLAIN_INPUT + b"\0" + bytes(4)) == lib.HP_ETX_NO_OUTPUTS
    segwit = b"\0\1\1" + PLAIN_INPUT + b"\0\1\1\x51"
    assert error_of(bytes(4) + segwit + bytes(4)) == lib.HP_ETX_NO_OUTPUTS


@pytest.mark.parametrize("flag", [2, 3, 0x80, 0xFF])
def test_a_flag_other_than_one(flag: int) -> None:
    raw = bytearray(SEGWIT)
    raw[5] = flag
    assert error_of(bytes(raw)) == lib.HP_ETX_FLAG


def test_a_superfluous_witness() -> None:
    assert error_of(plain(n_witness=b"\0")) == lib.HP_ETX_WITNESS


@pytest.mark.parametrize(
    ("values", "accepted"),
    [
        ([0], True),
        ([MAX_MONEY_SAT], True),
        ([MAX_MONEY_SAT - 1, 1], True),
        ([MAX_MONEY_SAT, 1], False),
        ([MAX_MONEY_SAT + 1], False),
        ([1, 2**63 - 1], False),
        ([2**63], False),  # the least negative number
        ([2**64 - 1], False),  # -1
        ([2**64 - 1, 2**64 - 1], False),
        ([1, 2**64 - 1], False),  # a sum that wraps to 0
        ([MAX_MONEY_SAT] * 8785, False),  # one that would wrap to less than 21 million
    ],
)
def test_amounts(values: list[int], accepted: bool) -> None:
    raw = transaction([Input(coin(1))], [Output(value, b"") for value in values])
    if accepted:
        assert [o.value_sat for o in decode(raw).outputs] == values
    else:
        assert error_of(raw) == lib.HP_ETX_VALUE


def of_size(size: int) -> bytes:
    """A transaction with a script that makes it `size` bytes long."""
    return transaction([Input(coin(1), 0, bytes(size - 64))], [Output(1, b"")])


def test_the_size_limit() -> None:
    limit = lib.HP_TX_BYTES_MAX
    largest, too_big = of_size(limit), of_size(limit + 1)
    assert (len(largest), len(too_big)) == (limit, limit + 1)
    assert decode(largest).size == limit
    assert error_of(too_big) == lib.HP_ETX_TOO_BIG
    assert error_of(largest + b"\0") == lib.HP_ETX_TOO_BIG
    tx = ffi.new("hp_tx *")
    for raw, answer in ((largest + too_big, limit), (too_big, -lib.HP_ETX_TOO_BIG)):
        assert lib.hp_tx_parse(ffi.from_buffer(raw), len(raw), tx) == answer


def test_every_refusal_has_its_own_sentence() -> None:
    sentences = {bytes(ffi.string(lib.hp_strerror(code))) for code in TX_CODES}
    assert len(sentences) == len(TX_CODES)
    with pytest.raises(TxError, match="decoding a transaction: bytes follow the transaction"):
        decode(LEGACY + b"\0")


# ---- anything at all -----------------------------------------------------------------------------


@st.composite
def mutated_transactions(draw: st.DrawFn) -> bytes:
    raw = bytearray(draw(st.sampled_from([*REAL_LIKE.values(), plain(), plain(n_witness=b"\1\0")])))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw)))
        kind = draw(st.sampled_from(["change", "insert", "delete", "cut"]))
        if kind == "change" and at < len(raw):
            raw[at] = draw(
                st.sampled_from([0, 1, 0x7F, 0xFC, 0xFD, 0xFE, 0xFF]) | st.integers(0, 255)
            )
        elif kind == "insert":
            raw[at:at] = draw(st.binary(min_size=1, max_size=9))
        elif kind == "delete":
            del raw[at : at + draw(st.integers(1, 40))]
        else:
            del raw[at:]
    return bytes(raw)


starts = st.sampled_from([b"", bytes(4) + b"\1", bytes(4) + b"\0\1\1", bytes(4) + b"\xfd"])
random_bytes = st.builds(bytes.__add__, starts, st.binary(max_size=400))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(Book([]))


def answer(ask: Callable[[], Transaction | int]) -> Transaction | int:
    """What `ask` returns, or the code with which it refuses."""
    try:
        return ask()
    except TxError as error:
        return error.code


@settings(max_examples=1000)
@given(raw=mutated_transactions() | random_bytes)
def test_any_bytes_are_a_transaction_or_an_error(
    raw: bytes, edge: EdgeOfMemory, engine: Engine
) -> None:
    placed = edge.place(raw)
    malformed = engine.stats()["malformed"]
    tx = answer(lambda: decode(placed))
    assert answer(lambda: engine.rawtx(placed, 0)) == (0 if isinstance(tx, Transaction) else tx)
    if isinstance(tx, Transaction):
        assert built_again(tx) == raw
        assert agrees_with_bitcoinlib(tx, CTransaction.deserialize(raw))
    else:
        assert tx in TX_CODES
        assert engine.stats()["malformed"] == malformed + 1


# ---- real blocks and Core's vectors --------------------------------------------------------------


def raw_transactions(block: Path) -> list[tuple[bytes, CTransaction]]:
    """Every transaction of a raw block, cut out by python-bitcoinlib."""
    raw = block.read_bytes()
    stream = io.BytesIO(raw)
    stream.seek(80)
    prefix = stream.read(1)[0]
    width = {0xFD: 2, 0xFE: 4}.get(prefix, 0)
    count = int.from_bytes(stream.read(width), "little") if width else prefix
    found = []
    for _ in range(count):
        start = stream.tell()
        theirs = CTransaction.stream_deserialize(stream)
        found.append((raw[start : stream.tell()], theirs))
    assert stream.tell() == len(raw)
    return found


@pytest.mark.parametrize("height", HEIGHTS)
def test_every_transaction_of_a_real_block(height: int, shared_data: Path) -> None:
    for raw, theirs in raw_transactions(shared_data / "blocks" / f"block_{height}.bin"):
        tx = decode(raw)
        assert agrees_with_bitcoinlib(tx, theirs), tx.txid
        assert tx.size == len(raw)
        assert tx.vsize == -(-theirs.calc_weight() // 4)


def test_cores_valid_transactions(shared_data: Path) -> None:
    rows = json.loads((shared_data / "vectors" / "tx_valid.json").read_text())
    found = [bytes.fromhex(row[1]) for row in rows if len(row) > 1]
    assert len(found) == 120
    for raw in found:
        tx = decode(raw)
        assert built_again(tx) == raw
        assert agrees_with_bitcoinlib(tx, CTransaction.deserialize(raw))


def test_a_coinbase_spends_nothing() -> None:
    script = builders.push(b"\x2f\x08\x01") + builders.push(b"a pool's name")
    null = Input(builders.NULL_TXID, 0xFFFF_FFFF, script)
    tx = decode(transaction([null], [Output(1, b"\x51")]))
    assert tx.inputs[0].spends is None


def test_the_codes_have_names_in_python() -> None:
    for code in TxCode:
        assert code == getattr(lib, f"HP_ETX_{code.name}")
    assert len(TxCode) == lib.HP_ETX_TOO_BIG - lib.HP_ETX_TRUNCATED + 1


def test_an_input_names_its_outpoint() -> None:
    (spent,) = decode(FIRST_PAYMENT).inputs
    block_9 = "0437cd7f8525ceed2324359c2d0ba26006d92d856a9c20fa0241106ee5a597c9"
    assert spent.outpoint == (block_9, 0)
