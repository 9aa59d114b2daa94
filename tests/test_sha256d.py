"""The search for a block header's nonce, against real blocks and against hashlib."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import crypto

from .conftest import every_impl

# Bitcoin's first block, of hash 000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f.
GENESIS = bytes.fromhex(
    "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e"
    "67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c"
)


def hash_with(header: bytes, nonce: int) -> int:
    tried = header[:76] + nonce.to_bytes(4, "little")
    return int.from_bytes(hashlib.sha256(hashlib.sha256(tried).digest()).digest(), "little")


def nonce_of(header: bytes) -> int:
    return int.from_bytes(header[76:], "little")


def target_of(header: bytes) -> int:
    """The target of `bits`: a mantissa of 3 bytes and an exponent (Bitcoin developer reference,
    "Target nBits")."""
    bits = int.from_bytes(header[72:76], "little")
    return (bits & 0xFFFFFF) << 8 * ((bits >> 24) - 3)


@every_impl
@pytest.mark.parametrize("before", [0, 1, 7, 15, 16, 17, 5000])
def test_the_first_block_is_found(impl: str, before: int) -> None:
    """Whatever lane its nonce falls into, and not when the search ends right before it."""
    nonce = nonce_of(GENESIS)
    first = nonce - before
    target = target_of(GENESIS)
    assert crypto.scan_header(GENESIS, target, first, before + 1, impl) == nonce
    assert crypto.scan_header(GENESIS, target, first, before, impl) is None


@every_impl
def test_real_blocks_are_found(shared_data: Path, impl: str) -> None:
    blocks = sorted((shared_data / "blocks").glob("block_*.bin"))
    assert blocks
    for block in blocks:
        with block.open("rb") as file:
            header = file.read(80)
        first = (nonce_of(header) - 1000) % (1 << 32)
        found = crypto.scan_header(header, target_of(header), first, 2000, impl)
        assert found == nonce_of(header), block.name


@every_impl
@settings(max_examples=30)
@given(
    header=st.binary(min_size=80, max_size=80),
    first=st.integers(0, (1 << 32) - 1) | st.integers((1 << 32) - 50, (1 << 32) - 1),
    count=st.integers(0, 300),
    bits=st.integers(247, 256),
)
def test_scan_agrees_with_hashlib(
    header: bytes, first: int, count: int, bits: int, impl: str
) -> None:
    """Targets easy enough that some nonce of a few hundred meets them; nonces that wrap around."""
    target = (1 << bits) - 1
    nonces = ((first + i) % (1 << 32) for i in range(count))
    expected = next((nonce for nonce in nonces if hash_with(header, nonce) <= target), None)
    assert crypto.scan_header(header, target, first, count, impl) == expected


@every_impl
def test_the_whole_target_decides(impl: str) -> None:
    """Equal is low enough; one less is not, although the first 32 bits are the same."""
    nonce = nonce_of(GENESIS)
    value = hash_with(GENESIS, nonce)
    assert crypto.scan_header(GENESIS, value, nonce, 1, impl) == nonce
    assert crypto.scan_header(GENESIS, value - 1, nonce, 1, impl) is None
    assert crypto.scan_header(GENESIS, 1 << 300, nonce, 1, impl) == nonce


@pytest.mark.parametrize(
    ("header", "target", "first", "count"),
    [
        (b"", 1, 0, 1),
        (bytes(81), 1, 0, 1),
        (bytes(80), -1, 0, 1),
        (bytes(80), 1, 1 << 32, 1),
        (bytes(80), 1, 0, (1 << 32) + 1),
        (bytes(80), 1, 0, -1),
    ],
)
def test_what_is_no_search_is_refused(header: bytes, target: int, first: int, count: int) -> None:
    with pytest.raises(ValueError, match="80 bytes"):
        crypto.scan_header(header, target, first, count)
