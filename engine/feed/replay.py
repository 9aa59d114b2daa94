"""Raw block files as a feed: the transactions of a block, in block order.

A block is what `getblock HASH 0` of Bitcoin Core is the hex of: an 80-byte header, the number of
transactions as a CompactSize, the transactions with their witnesses (BIP-144). Where a transaction
ends is the C parser's word; nothing here reads inside one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from engine._native import check, ffi, lib
from engine.errors import FeedError, TxError

HEADER_BYTES = 80
_CURE = "fetch it anew with `bitcoin-cli getblock HASH 0 | xxd -r -p > FILE`."


def read_block(path: Path) -> list[bytes]:
    """The transactions of a raw block file, coinbase first.
    FeedError when there is no such file or it is not exactly one block."""
    try:
        raw_block = path.read_bytes()
    except OSError as error:
        raise FeedError(
            f"the block file {path} cannot be read ({error.strerror}): correct its name or its "
            "permissions."
        ) from error
    return list(transactions(raw_block, str(path)))


def transactions(raw_block: bytes, name: str = "the block") -> Iterator[bytes]:
    """The raw transactions of a block, coinbase first.
    FeedError, which calls the block `name`, at the first byte that cannot be right."""
    count, at = _transaction_count(raw_block, name)
    base = ffi.from_buffer("uint8_t[]", raw_block)
    tx = ffi.new("hp_tx *")
    for number in range(count):
        try:
            size = check(lib.hp_tx_parse(base + at, len(raw_block) - at, tx))
        except TxError as error:
            raise FeedError(
                f"{name} is damaged or cut short in transaction {number + 1} of {count}, at byte "
                f"{at} ({error}): {_CURE}"
            ) from error
        yield raw_block[at : at + size]
        at += size
    if at != len(raw_block):
        raise FeedError(
            f"{name} has {len(raw_block) - at} bytes behind its {count} transactions: {_CURE}"
        )


def _transaction_count(raw_block: bytes, name: str) -> tuple[int, int]:
    """How many transactions the block says it has, and where the first one starts."""
    if len(raw_block) <= HEADER_BYTES:
        raise FeedError(
            f"{name} is no raw block: it has {len(raw_block)} bytes, and a header alone has "
            f"{HEADER_BYTES}: {_CURE}"
        )
    if not _has_proof_of_work(raw_block[:HEADER_BYTES]):
        raise FeedError(
            f"{name} is no raw block: its first {HEADER_BYTES} bytes are not a header with proof "
            f"of work (hex, or a blk*.dat file?): {_CURE}"
        )
    first = raw_block[HEADER_BYTES]
    start = HEADER_BYTES + 1
    end = start + {0xFD: 2, 0xFE: 4, 0xFF: 8}.get(first, 0)
    count = int.from_bytes(raw_block[start:end], "little") if end > start else first
    if count == 0 or end >= len(raw_block):
        raise FeedError(f"{name} ends behind its header, without a transaction: {_CURE}")
    return count, end


def _has_proof_of_work(header: bytes) -> bool:
    """Whether the header's hash is within the target that its nBits field states. Targets above
    regtest's (2^255) are nobody's."""
    bits = int.from_bytes(header[72:76], "little")
    exponent, mantissa = bits >> 24, bits & 0xFFFFFF
    if mantissa > 0x7FFFFF or exponent > 32:
        return False
    target: int = mantissa * 256**exponent // 256**3
    digest = hashlib.sha256(hashlib.sha256(header).digest()).digest()
    return int.from_bytes(digest, "little") <= target
