"""The table that tells whose a script is (csrc/book.c), through its C functions; engine.book.Book,
which is made of one, refuses most of what is tried here beforehand."""

from __future__ import annotations

from typing import Any

import pytest

from engine._native import check, ffi, lib

from .builders import EdgeOfMemory, multisig, p2pkh, p2sh, p2tr, p2wpkh, p2wsh, public_key, push


def draft(capacity: int, *names: str, seed: bytes = bytes(16)) -> Any:
    """The n-th name is the exchange n, and the owner n."""
    book = ffi.gc(lib.hp_book_new(capacity, seed), lib.hp_book_free)
    for number, name in enumerate(names):
        assert lib.hp_book_exchange(book, name.encode()) == number
        assert lib.hp_book_owner(book, ffi.new("hp_owner *", {"exchange": number})) == number
    return book


def add(book: Any, script: bytes, owner: int = 0) -> int:
    return int(lib.hp_book_add(book, script, len(script), owner))


def find(book: Any, script: Any) -> int:
    return int(lib.hp_book_find(book, ffi.from_buffer("uint8_t[]", script), len(script)))


@pytest.fixture(scope="module")
def edge() -> EdgeOfMemory:
    return EdgeOfMemory()


@pytest.mark.parametrize("owners", [(1, 1), (1, 0)])
def test_a_script_is_one_exchanges_or_nobodys(owners: tuple[int, int]) -> None:
    book = draft(2, "a", "b")
    assert [add(book, p2tr(1), owner) for owner in owners] == [0, 0]
    if owners == (1, 0):
        assert lib.hp_book_build(book) == -lib.HP_EBOOK_CONFLICT
        return
    assert lib.hp_book_build(book) == 0
    assert (find(book, p2tr(1)), lib.hp_book_count(book)) == (1, 1)


@pytest.mark.parametrize("make", [p2tr, lambda n: p2wpkh(bytes([n >> 8, n & 255]))])
@pytest.mark.parametrize("capacity", [1, 2, 3, 29, 30, 31, 1000])
def test_a_full_table(capacity: int, make: Any) -> None:
    book = draft(capacity, "a", "b", "c")
    scripts = [make(n) for n in range(capacity)]
    assert [add(book, script, n % 3) for n, script in enumerate(scripts)] == [0] * capacity
    assert add(book, make(capacity)) == -lib.HP_EBOOK_FULL
    check(lib.hp_book_build(book))
    assert [find(book, script) for script in scripts] == [n % 3 for n in range(capacity)]
    assert find(book, make(capacity)) == lib.HP_NOBODY


@pytest.mark.parametrize("count", [64, 65, 4096, 4097, 16384, 16385])
def test_tables_of_every_kind_of_filter(count: int) -> None:
    makers = (
        lambda n: p2wpkh(n.to_bytes(4, "big")),
        lambda n: p2pkh(n.to_bytes(4, "big")),
        lambda n: p2sh(n.to_bytes(4, "big")),
        p2tr,
        lambda n: b"\x60\x14" + n.to_bytes(20, "big"),  # 22 bytes, as P2WPKH has
        lambda n: b"\x51\x17" + n.to_bytes(23, "big"),  # 25, as P2PKH has
        lambda n: b"\x52\x08" + n.to_bytes(8, "big"),
    )
    scripts = [makers[n % len(makers)](n) for n in range(2 * count)]
    book = draft(count, "a", "b", seed=b"another 16 bytes")
    assert not any(add(book, script, n % 2) for n, script in enumerate(scripts[:count]))
    check(lib.hp_book_build(book))
    found = [find(book, script) for script in scripts]
    assert found == [n % 2 for n in range(count)] + [lib.HP_NOBODY] * count


@pytest.mark.parametrize(
    "script",
    [
        b"",
        b"\x51",
        b"\x51\x01\x00",
        b"\x51\x29" + bytes(41),  # a witness program of 41 bytes
        b"\x51\x21" + bytes(32),
        b"\x00\x15" + bytes(21),  # version 0 has 20 or 32
        b"\x61\x14" + bytes(20),
        b"\x4f\x14" + bytes(20),
        p2pkh(b"k")[:-1],
        p2pkh(b"k")[:-1] + b"\xad",
        p2pkh(b"k") + b"\x61",
        p2sh(b"r")[:-1] + b"\x88",
        push(public_key(1)) + b"\xac",
        multisig(1, public_key(1)),
        b"\x6a\x04" + bytes(4),
        bytes(10_000),
    ],
    ids=lambda script: script[:24].hex() or "empty",
)
def test_scripts_that_no_address_stands_for(script: bytes) -> None:
    book = draft(4, "a")
    assert add(book, script) == -lib.HP_EBOOK_SCRIPT
    check(lib.hp_book_build(book))
    assert find(book, script) == lib.HP_NOBODY
    assert lib.hp_book_count(book) == 0


@pytest.mark.parametrize(
    "script", [p2pkh(b"k"), p2sh(b"r"), p2wpkh(b"k"), p2wsh(b"s"), p2tr(1), b"\x60\x02\1\2"]
)
def test_only_the_exact_script_is_found(script: bytes, edge: EdgeOfMemory) -> None:
    for seed in range(8):
        book = draft(4, "a", "b", seed=bytes([seed]) * 16)
        assert add(book, script, 1) == 0
        check(lib.hp_book_build(book))
        assert find(book, edge.place(script)) == 1
        for length in range(60):
            other = (script + bytes(60))[:length]
            assert (find(book, edge.place(other)) == 1) == (other == script)
        for bit in range(8 * len(script)):
            flipped = (int.from_bytes(script, "big") ^ 1 << bit).to_bytes(len(script), "big")
            assert find(book, flipped) == lib.HP_NOBODY


def test_exchanges_and_their_names() -> None:
    book = draft(1, "okx", "a" * lib.HP_EXCHANGE_NAME_MAX)
    assert lib.hp_book_exchange(book, b"okx") == 0
    assert bytes(ffi.string(lib.hp_book_name(book, 0))) == b"okx"
    for unknown in (2, lib.HP_EXCHANGES_MAX, lib.HP_NOBODY, 2**32 - 1):
        assert bytes(ffi.string(lib.hp_book_name(book, unknown))) == b""
        assert add(book, p2tr(1), unknown) == -lib.HP_ECONFIG
    for name in (b"", b"a" * (lib.HP_EXCHANGE_NAME_MAX + 1)):
        assert lib.hp_book_exchange(book, name) == -lib.HP_ECONFIG


def test_as_many_exchanges_as_there_can_be() -> None:
    limit = lib.HP_EXCHANGES_MAX
    book = draft(limit, *(f"exchange {n}" for n in range(limit)))
    assert lib.hp_book_exchange(book, b"one more") == -lib.HP_EBOOK_FULL
    for n in (0, limit - 1):
        assert add(book, p2tr(n), n) == 0
    check(lib.hp_book_build(book))
    assert [find(book, p2tr(n)) for n in (0, limit - 1)] == [0, limit - 1]


@pytest.mark.parametrize("capacity", [0, 130_000_001, 2**32 - 1])
def test_capacities_that_no_table_has(capacity: int) -> None:
    assert lib.hp_book_new(capacity, bytes(16)) == ffi.NULL
