"""One Bitcoin transaction as Python values: csrc/tx.c and csrc/script.c do the reading."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine._native import check, ffi, lib
from engine.crypto import implementation

BLOCK_HEADER_BYTES = 80


@dataclass(frozen=True, slots=True)
class TxIn:
    """`spends` is the scriptPubKey this input spends, where it reveals it, else None."""

    txid: str
    vout: int
    script: bytes
    sequence: int
    witness: tuple[bytes, ...]
    spends: bytes | None

    @property
    def outpoint(self) -> tuple[str, int]:
        """The output that is spent: txid as displayed, and its index."""
        return self.txid, self.vout


@dataclass(frozen=True, slots=True)
class TxOut:
    value_sat: int
    script: bytes


@dataclass(frozen=True, slots=True)
class Transaction:
    """txid and wtxid as they are displayed; size and vsize in (virtual) bytes (BIP-141)."""

    txid: str
    wtxid: str
    version: int
    lock_time: int
    inputs: tuple[TxIn, ...]
    outputs: tuple[TxOut, ...]
    size: int
    vsize: int


def display(txid: bytes) -> str:
    """32 bytes in internal order as the hexadecimal that explorers and nodes show."""
    return txid[::-1].hex()


def decode(raw: bytes) -> Transaction:
    """`raw` is exactly one serialised transaction (BIP-144), else TxError."""
    buffer = ffi.from_buffer(raw)
    tx = ffi.new("hp_tx *")
    check(lib.hp_tx_parse_exact(buffer, len(raw), tx), "decoding a transaction")
    digest = ffi.new("uint8_t[32]")
    lib.hp_tx_txid(tx, implementation(), digest)
    txid = display(bytes(digest))
    lib.hp_tx_wtxid(tx, implementation(), digest)
    return Transaction(
        txid=txid,
        wtxid=display(bytes(digest)),
        version=tx.version,
        lock_time=tx.lock_time,
        inputs=_inputs(tx),
        outputs=_outputs(tx),
        size=tx.size,
        vsize=(3 * lib.hp_tx_base_size(tx) + tx.size + 3) // 4,
    )


def walk_block(raw: bytes) -> Iterator[bytes]:
    """The raw transactions of a block, coinbase first: an 80-byte header, their number, then they.
    TxError at the first byte that cannot be right; any header will do."""
    count, at = _transaction_count(raw)
    base = ffi.from_buffer("uint8_t[]", raw)
    tx = ffi.new("hp_tx *")
    for number in range(count):
        size = lib.hp_tx_parse(base + at, len(raw) - at, tx)
        if size < 0:
            check(size, f"transaction {number + 1} of {count} in a block, at byte {at}")
        yield raw[at : at + size]
        at += size
    if at != len(raw):
        check(-lib.HP_ETX_TRAILING, f"{len(raw) - at} bytes behind its {count} transactions")


def _transaction_count(raw: bytes) -> tuple[int, int]:
    """The number behind the header, a CompactSize, and where the first transaction starts."""
    if len(raw) < BLOCK_HEADER_BYTES:
        check(-lib.HP_ETX_TRUNCATED, f"a block of {len(raw)} bytes is shorter than its header")
    number = raw[BLOCK_HEADER_BYTES : BLOCK_HEADER_BYTES + 9]
    width = {0xFD: 2, 0xFE: 4, 0xFF: 8}.get(number[0], 0) if number else 0
    count = int.from_bytes(number[1 : 1 + width] if width else number[:1], "little")
    if len(number) <= width or count == 0:
        check(-lib.HP_ETX_TRUNCATED, "a block ends behind its header, without a transaction")
    if count < {0: 0, 2: 0xFD, 4: 1 << 16, 8: 1 << 32}[width]:
        check(-lib.HP_ETX_VARINT, f"a block of {count} transactions")
    return count, BLOCK_HEADER_BYTES + 1 + width


def _inputs(tx: object) -> tuple[TxIn, ...]:
    it, txin = ffi.new("hp_tx_iter *"), ffi.new("hp_txin *")
    script, spend = ffi.new("uint8_t[]", lib.HP_SCRIPT_MAX), ffi.new("int *")
    is_coinbase = lib.hp_tx_is_coinbase(tx)
    inputs = []
    while lib.hp_tx_next_input(tx, it, txin):
        outpoint = bytes(ffi.buffer(txin.outpoint, 36))
        length = 0 if is_coinbase else lib.hp_txin_spends(txin, implementation(), script, spend)
        inputs.append(
            TxIn(
                txid=display(outpoint[:32]),
                vout=int.from_bytes(outpoint[32:], "little"),
                script=bytes(ffi.buffer(txin.script, txin.script_len)),
                sequence=txin.sequence,
                witness=_witness(
                    bytes(ffi.buffer(txin.witness, txin.witness_len)), txin.witness_items
                ),
                spends=bytes(ffi.buffer(script, length)) if length else None,
            )
        )
    return tuple(inputs)


def _outputs(tx: object) -> tuple[TxOut, ...]:
    it, txout = ffi.new("hp_tx_iter *"), ffi.new("hp_txout *")
    outputs = []
    while lib.hp_tx_next_output(tx, it, txout):
        script = bytes(ffi.buffer(txout.script, txout.script_len))
        outputs.append(TxOut(txout.value_sat, script))
    return tuple(outputs)


def _witness(data: bytes, items: int) -> tuple[bytes, ...]:
    """Split what the C walk has checked: each item behind its CompactSize length."""
    found, at = [], 0
    for _ in range(items):
        width = {0xFD: 2, 0xFE: 4}.get(data[at], 0)
        length = int.from_bytes(data[at + 1 : at + 1 + width], "little") if width else data[at]
        at += 1 + width
        found.append(data[at : at + length])
        at += length
    return tuple(found)
