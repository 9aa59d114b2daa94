"""What handing an order's bytes to the kernel costs, each way, in turns, to a reader that spins on
another core. Orders come alone, so the connection rests before each: back to back TCP only queues
most of them. A way that this kernel refuses has no row."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from engine._native import check
from harpoon_bench._floor import ffi, lib
from harpoon_bench.send import bare_send
from harpoon_bench.table import Row, medians
from harpoon_bench.turns import take_turns

WAYS = {
    "io_uring, plain": lib.HP_FLOOR_PLAIN,
    "io_uring, COOP_TASKRUN": lib.HP_FLOOR_COOP,
    "io_uring, DEFER_TASKRUN": lib.HP_FLOOR_DEFER,
    "io_uring, SQPOLL": lib.HP_FLOOR_SQPOLL,
}
SEND = "send(2)"
SQPOLL_SUBMITTED = "io_uring, SQPOLL: submission alone"
REST_NS = 100_000


def rows(rounds: int, sends: int, order_bytes: int) -> list[Row]:
    before = os.sched_getaffinity(0)
    *others, cpu = sorted(before)
    with _connection(set(others) or before) as sock:
        # Here, before the move to our core: SQPOLL's thread stays where it was made.
        contenders = {
            SEND: _rested(lambda: bare_send(sock, order_bytes)),
            **_ways(sock, order_bytes),
        }
        os.sched_setaffinity(0, {cpu})
        try:
            taken = [take_turns(contenders, sends) for _ in range(rounds)]
        finally:
            os.sched_setaffinity(0, before)
    by_name = {name: medians([quantiles[name] for quantiles in taken]) for name in contenders}
    floor = by_name.pop(SEND)
    return [
        Row(name, "ns", took_ns, f"{SEND} of {order_bytes} B", floor)
        for name, took_ns in by_name.items()
    ]


def _rested(send: Callable[[], int]) -> Callable[[], int]:
    def rest_and_send() -> int:
        end_ns = time.monotonic_ns() + REST_NS
        while time.monotonic_ns() < end_ns:
            pass
        return send()

    return rest_and_send


@contextmanager
def _connection(cpus: set[int]) -> Iterator[socket.socket]:
    """Read on `cpus`. The thread is in C until the end, without the interpreter's lock."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()

    def discard() -> None:
        os.sched_setaffinity(0, cpus)  # of this thread
        lib.hp_floor_discard(theirs.fileno())

    reader = threading.Thread(target=discard)
    with ours, theirs:
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        os.sched_setaffinity(0, cpus)
        reader.start()
        try:
            yield ours
        finally:
            ours.shutdown(socket.SHUT_WR)
            reader.join()


def _ways(sock: socket.socket, order_bytes: int) -> dict[str, Callable[[], int]]:
    """By name: sends once, returns ns. For SQPOLL also what the caller itself spends, in a send of
    its own."""
    ways: dict[str, Callable[[], int]] = {}
    for name, way in WAYS.items():
        ring = ring_for(way)
        if ring is None:
            continue
        ways[name] = _rested(partial(_send_ns, ring, sock, order_bytes, 0))
        if way == lib.HP_FLOOR_SQPOLL:
            ways[SQPOLL_SUBMITTED] = _rested(partial(_send_ns, ring, sock, order_bytes, 1))
    return ways


def ring_for(way: int) -> Any:
    """A hp_floor_ring; None where the kernel refuses."""
    ring = lib.hp_floor_ring_new(way, ffi.new("int *"))
    return None if ring == ffi.NULL else ffi.gc(ring, lib.hp_floor_ring_free)


def _send_ns(ring: Any, sock: socket.socket, order_bytes: int, which: int) -> int:
    """0 until completed, 1 until submitted."""
    data, submit_ns = os.urandom(order_bytes), ffi.new("int64_t *")
    took_ns = lib.hp_floor_ring_send_ns(
        ring, sock.fileno(), ffi.from_buffer(data), order_bytes, submit_ns
    )
    check(took_ns, "sending through io_uring")
    return int((took_ns, submit_ns[0])[which])
