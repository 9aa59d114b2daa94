"""How many transactions a second are decoded and matched on one core."""

from __future__ import annotations

import time
from collections.abc import Sequence

from engine._native import ffi, lib
from engine.book import Book, default_entries
from engine.core import Engine
from engine.errors import HarpoonError
from harpoon_bench._floor import ffi as loop_ffi
from harpoon_bench._floor import lib as loop
from harpoon_bench.hot_feed import OURS, arena
from harpoon_bench.kernels_book import address
from harpoon_bench.table import QUANTILES, Row, quantiles
from harpoon_bench.traffic import Messages, everyday

TIMES = 10  # all transactions, from memory
MEMORY_TARGET = 1_000_000
SOCKET_TARGET = 200_000


def rows(rounds: int, total: int) -> list[Row]:
    """`total` through the socket in each round."""
    name, common = everyday()
    messages = Messages(tuple(common), len(common) + 1)  # no deposits
    memory = [_from_memory(messages) for _ in range(rounds)]
    with arena() as place:
        through_socket = []
        for _ in range(rounds):
            settings = {"transactions": total}
            with place.compete(OURS, settings) as child:
                start_ns = time.monotonic_ns()
                place.burst(messages, total)
                report = child.hear()
            place.end_of_session()
            if lost := report["stats"]["transactions_lost"]:
                raise HarpoonError(f"{lost} transactions of a burst were lost")
            through_socket.append(report["over_ns"] - start_ns)
    return [
        _row(f"{name} transactions from memory", memory, TIMES * len(messages), MEMORY_TARGET),
        _row(f"{name} transactions, {OURS.name}", through_socket, total, SOCKET_TARGET),
    ]


def _row(name: str, took_ns: Sequence[int], count: int, target: int) -> Row:
    rate = {q: count * 1_000_000_000 // ns for q, ns in quantiles(took_ns).items()}
    return Row(name, "tx/s", rate, f"{target:,} tx/s", dict.fromkeys(QUANTILES, target), 1.0)


def _from_memory(messages: Messages) -> int:
    """ns for TIMES times all messages, through a new engine."""
    engine = Engine(Book(default_entries()))
    rawtx = address(ffi.addressof(lib, "hp_engine_rawtx"))
    raw = loop_ffi.from_buffer(messages.raw)
    took_ns = []
    for _ in range(TIMES):
        took_ns.append(
            loop.hp_loop_rawtx_ns(rawtx, address(engine._handle), raw, messages.at, len(messages))
        )
        engine.prepare()  # the journal, which has every signal
    assert min(took_ns) > 0, "every transaction is one"
    return sum(took_ns)
