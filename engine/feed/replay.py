"""Raw block files as a feed: the transactions of a block, in block order.

A block is what `getblock HASH 0` of Bitcoin Core is the hex of: an 80-byte header, the number of
transactions as a CompactSize, the transactions with their witnesses (BIP-144). Where a transaction
ends is the C parser's word; nothing here reads inside one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from engine.errors import FeedError, TxError
from engine.tx import BLOCK_HEADER_BYTES, walk_block

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
    _check_header(raw_block, name)
    try:
        yield from walk_block(raw_block)
    except TxError as error:
        raise FeedError(f"{name} is damaged or cut short ({error}): {_CURE}") from error


def _check_header(raw_block: bytes, name: str) -> None:
    if len(raw_block) <= BLOCK_HEADER_BYTES:
        raise FeedError(
            f"{name} is no raw block: it has {len(raw_block)} bytes, and a header alone has "
            f"{BLOCK_HEADER_BYTES}: {_CURE}"
        )
    if not _has_proof_of_work(raw_block[:BLOCK_HEADER_BYTES]):
        raise FeedError(
            f"{name} is no raw block: its first {BLOCK_HEADER_BYTES} bytes are not a header with "
            f"proof of work (hex, or a blk*.dat file?): {_CURE}"
        )


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
