"""The address book: misses and hits in books of several sizes, beside a dependent load and a set of
Python. The load is from a table as large as the part of the book that a miss may touch.

plot_book.py has larger books, and hash sets of C++."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from engine._native import check, ffi, lib
from harpoon_bench._floor import ffi as loop_ffi
from harpoon_bench._floor import lib as loop
from harpoon_bench.table import Row, quantiles

SIZES = (1_000, 10_000, 100_000, 1_000_000)
PYTHON_SET_MOST = 1_000_000
ROUNDS = 31
QUERIES = 1 << 15
LINE_BYTES = 64
HUGE_PAGE_BYTES = 2 << 20
TARGET = 1.5


@dataclass(frozen=True)
class Measured:
    """ns and ps for one size of book; times are samples of all rounds."""

    entries: int
    build_ns: int
    index_bytes: int
    bytes: int
    load_ps: list[int]
    miss_ps: list[int]
    miss_alone_ps: list[int]
    hit_ps: list[int]


def rows(rounds: int) -> list[Row]:
    """A miss is what nearly every lookup is. Back to back the core overlaps them, as it does those
    of one transaction's outputs; alone is from a script in the cache to the answer."""
    table = []
    for entries in SIZES:
        m = measure(entries, rounds)
        load = quantiles(m.load_ps)
        where = f"dependent load, {m.index_bytes:,} B"
        table += [
            Row(f"miss in {entries:,}", "ps", quantiles(m.miss_ps), where, load, TARGET),
            Row(f"miss in {entries:,}, alone", "ps", quantiles(m.miss_alone_ps), where, load),
            Row(f"hit in {entries:,}", "ps", quantiles(m.hit_ps), where, load),
        ]
        if entries <= PYTHON_SET_MOST:
            theirs = quantiles(python_set_ps(entries))
            table.append(
                Row(f"miss in {entries:,}", "ps", quantiles(m.miss_ps), "Python set", theirs)
            )
    return table


def measure(entries: int, rounds: int = ROUNDS) -> Measured:
    """Fill, build, then rounds of loads, misses and hits in turns; every round has new scripts."""
    start_ns = time.perf_counter_ns()
    book = _built(entries)
    build_ns = time.perf_counter_ns() - start_ns
    index = ffi.new("uint64_t *")
    total = lib.hp_book_bytes(book, index)
    m = Measured(entries, build_ns, index[0], total, [], [], [], [])
    table = _chain(index[0])
    at = loop_ffi.new("uint64_t *")
    find = address(ffi.addressof(lib, "hp_book_find")), address(book)
    nobody = int(lib.HP_NOBODY)
    few = min(entries, QUERIES)
    scripts = loop_ffi.new("hp_loop_script[]", QUERIES)
    for number in range(rounds):
        m.load_ps.append(_ps_each(loop.hp_loop_load_ns(table, at, QUERIES), QUERIES))
        loop.hp_loop_scripts(entries + 2 * number * QUERIES, QUERIES, scripts)
        m.miss_ps.append(_ps_each(loop.hp_loop_find_ns(*find, scripts, QUERIES, nobody), QUERIES))
        loop.hp_loop_scripts(entries + (2 * number + 1) * QUERIES, QUERIES, scripts)
        alone_ns = loop.hp_loop_find_alone_ns(*find, scripts, QUERIES, nobody)
        m.miss_alone_ps.append(_ps_each(alone_ns, QUERIES))
        loop.hp_loop_scripts(number * (entries - few) // rounds, few, scripts)
        m.hit_ps.append(_ps_each(loop.hp_loop_find_ns(*find, scripts, few, 0), few))
    return m


def address(pointer: Any) -> int:
    """For the loops, whose library is another one."""
    return int(ffi.cast("uintptr_t", pointer))


def _ps_each(took_ns: int, count: int) -> int:
    assert took_ns > 0, "every answer is the expected one"
    return 1000 * took_ns // count


def _built(entries: int) -> Any:
    book = ffi.gc(lib.hp_book_new(entries, os.urandom(16)), lib.hp_book_free)
    check(lib.hp_book_exchange(book, b"somebody"))
    owner = check(lib.hp_book_owner(book, ffi.new("hp_owner *")))
    add = address(ffi.addressof(lib, "hp_book_add"))
    check(loop.hp_loop_fill(add, address(book), entries, owner))
    check(lib.hp_book_build(book))
    return book


def _chain(table_bytes: int) -> Any:
    """A table of that size to chase through, on the same kind of pages as a book."""
    lines = max(2, table_bytes // LINE_BYTES)
    whole = -(-lines * LINE_BYTES // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES
    pages = mmap.mmap(-1, whole, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if table_bytes >= HUGE_PAGE_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    table = loop_ffi.from_buffer("uint64_t[]", pages)
    loop.hp_loop_chain(table, lines)
    return table


def python_set_ps(entries: int) -> list[int]:
    """Misses in a Python set of the same scripts, the loop around them included."""
    known = set(_as_bytes(0, entries))
    samples = []
    for number in range(ROUNDS):
        queries = list(_as_bytes(entries + number * QUERIES, QUERIES))
        found = 0
        start_ns = time.perf_counter_ns()
        for query in queries:
            if query in known:
                found += 1
        samples.append(_ps_each(time.perf_counter_ns() - start_ns, QUERIES))
        assert found == 0, "no query is in the set"
    return samples


def _as_bytes(first: int, n: int) -> Iterator[bytes]:
    scripts = loop_ffi.new("hp_loop_script[]", QUERIES)
    for start in range(first, first + n, QUERIES):
        few = min(QUERIES, first + n - start)
        loop.hp_loop_scripts(start, few, scripts)
        for i in range(few):
            yield bytes(scripts[i].bytes[0 : scripts[i].len])
