"""Run with tests/preload/counts.c in LD_PRELOAD, whose path is the argument: which functions that
allocate, lock or close were called, and how often, from a transaction to the return of the call
that sent its order. JSON: {"control": {function: calls}, "armed": [{function: calls}, ...], ...}.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import socket
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from peers import Rig, deposit, rig, serving

from engine._native import ffi, lib
from engine.core import Engine, Limits
from engine.feed.native import FeedAddress
from engine.latch import Latch
from engine.records import Closed, FeedNote, Fired, Terms
from engine.sim import authority
from engine.sim.authority import CertificateFiles

ORDERS = 20
PATIENCE_S = 20.0
GREETING = b"\xff" + bytes(8) + b"\x7f\3\0NULL".ljust(55, b"\0")  # ZMTP 3.0
READY = b"\4\x19\5READY\x0bSocket-Type\0\0\0\3PUB"


def _address(pointer: Any) -> int:
    return int(ffi.cast("uintptr_t", pointer))


def _function(name: str) -> ctypes.c_void_p:
    return ctypes.c_void_p(_address(ffi.addressof(lib, name)))


class Counter:
    def __init__(self, library: str) -> None:
        self._lib = ctypes.CDLL(library)
        self._lib.counted_name.restype = ctypes.c_char_p
        named = itertools.takewhile(bool, map(self._lib.counted_name, itertools.count()))
        self._names = [name.decode() for name in named]
        self._called = (ctypes.c_uint64 * len(self._names))()

    def control(self) -> dict[str, int]:
        """What is counted of a function that allocates and locks."""
        assert self._rawtx(self._lib.counted_control, 0, b"raw") == 1
        return self._counts()

    def rawtx(self, engine: Engine, raw: bytes) -> dict[str, int]:
        """Of hp_engine_rawtx()."""
        assert self._rawtx(_function("hp_engine_rawtx"), _address(engine._handle), raw) == 1
        return self._counts()

    def poll(self, engine: Engine) -> dict[str, int]:
        """Of one hp_engine_poll() without a wait."""
        handle = ctypes.c_void_p(_address(engine._handle))
        assert self._lib.counted_poll(_function("hp_engine_poll"), handle, self._called) == 0
        return self._counts()

    def _rawtx(self, rawtx: Any, engine: int, raw: bytes) -> int:
        signals: int = self._lib.counted_rawtx(
            rawtx,
            ctypes.c_void_p(engine),
            raw,
            ctypes.c_size_t(len(raw)),
            ctypes.c_int64(time.monotonic_ns()),
            self._called,
        )
        return signals

    def _counts(self) -> dict[str, int]:
        return {name: n for name, n in zip(self._names, self._called, strict=True) if n}


def arm(wire: Rig) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not wire.engine.armed(0):
        assert time.monotonic() < deadline, "it does not arm"
        wire.engine.poll()


def limit(wire: Rig, folder: Path) -> None:
    """Every limit holds, and lets all of it pass."""
    engine, much = wire.engine, 1 << 60
    engine.set_limits(
        Limits(
            exchange_cooldown_ns=1,
            max_order_notional_e8=much,
            max_total_notional_e8=much,
            max_position_notional_e8=much,
            max_orders_per_second=1000,
            max_orders_per_minute=1000,
            max_orders_per_hour=1000,
            max_orders_per_day=1000,
            max_signal_age_ns=much,
            max_feed_silence_ns=much,
            max_price_age_ns=much,
            price_band_bp=100,
            max_clock_offset_ms=1000,
            max_unresolved=1000,
            venue_headroom_percent=10,
        )
    )
    engine.use_latch(Latch(folder / "harpoon.latch"))
    engine.set_terms(0, Terms(1_000_000, 0, engine.add_market(), True))
    engine.set_clock_offset(1)
    engine.command_price(0, 6_000_000_000_000, 6_000_100_000_000, time.monotonic_ns())
    engine.command_venue_limit(0, 10_000, 100_000, 0)
    for _ in range(2):
        engine.poll()


def check_order(wire: Rig, armed: bool) -> None:
    (fired,) = [event for event in wire.engine.events() if isinstance(event, Fired)]
    assert (fired.refusal, fired.error, fired.dry_run) == (None, None, False)
    assert fired.armed == armed
    assert wire.peer.frame()[0] == 1, "the order has left, as text"


class Node:
    """Publishes to the one engine that subscribes."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sequence = itertools.count()

    @property
    def address(self) -> FeedAddress:
        port: int = self._listener.getsockname()[1]
        return FeedAddress("tcp://node", "127.0.0.1", port, None, False)

    def accept(self, engine: Engine) -> None:
        engine.poll()  # it connects
        self._peer, _ = self._listener.accept()
        self._peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peer.sendall(GREETING + READY)
        deadline = time.monotonic() + PATIENCE_S
        while not any(isinstance(event, FeedNote) for event in engine.events()):
            assert time.monotonic() < deadline, "it does not subscribe"
            engine.poll(1_000_000)

    def publish(self, raw: bytes) -> None:
        body = struct.pack(">BQ", 3, len(raw)) + raw
        tail = b"\0\4" + struct.pack("<I", next(self._sequence))
        self._peer.sendall(b"\1\5rawtx" + body + tail)

    def close(self) -> None:
        self._peer.close()
        self._listener.close()


def through_a_feed(counter: Counter, wire: Rig) -> list[dict[str, int]]:
    """The poll that finds a transaction in the feed's socket, and sends its order."""
    node = Node()
    wire.engine.add_feed(node.address)
    node.accept(wire.engine)
    polls = []
    for nonce in range(2 * ORDERS, 3 * ORDERS):
        arm(wire)
        before = wire.engine.stats()["orders_sent"]
        node.publish(deposit("kraken", nonce))
        called: dict[str, int] = {}
        while wire.engine.stats()["orders_sent"] == before:
            called = counter.poll(wire.engine)
        polls.append(called)
        check_order(wire, armed=True)
    node.close()
    return polls


def over_to_the_other(counter: Counter, files: CertificateFiles) -> list[dict[str, int]]:
    """The call whose first send finds the session reset, and the poll that cleans up after it."""
    called = []
    with serving(files) as first, serving(files) as second, rig(first) as wire:
        wire.engine.command_connect(second.address(), 1)
        wire.engine.command_hold(False, 1)
        deadline = time.monotonic() + PATIENCE_S
        while not wire.engine.armed(0, 1):
            assert time.monotonic() < deadline, "the second does not open, or does not arm"
            wire.engine.poll()
        other = second.connection()
        arm(wire)
        wire.peer.reset()
        time.sleep(0.05)
        called.append(counter.rawtx(wire.engine, deposit("kraken", 1)))
        (fired,) = [event for event in wire.engine.events() if isinstance(event, Fired)]
        assert (fired.session, fired.error, fired.armed) == (1, None, True)
        assert other.frame()[0] == 1
        called.append(counter.poll(wire.engine))
        assert any(isinstance(event, Closed) for event in wire.engine.events())
    return called


def main() -> None:
    counter = Counter(sys.argv[1])
    counts: dict[str, Any] = {"control": counter.control(), "armed": [], "unarmed": []}
    with tempfile.TemporaryDirectory() as folder:
        files = authority.issue(Path(folder))
        with serving(files) as server, rig(server) as wire:
            limit(wire, Path(folder))
            assert wire.deposit(4 * ORDERS).refusal is None  # what was armed meanwhile is used up
            wire.peer.frame()
            for nonce in range(ORDERS):
                counts["unarmed"].append(counter.rawtx(wire.engine, deposit("kraken", 2 * nonce)))
                check_order(wire, armed=False)
                arm(wire)
                counts["armed"].append(counter.rawtx(wire.engine, deposit("kraken", 2 * nonce + 1)))
                check_order(wire, armed=True)
            counts["feed"] = through_a_feed(counter, wire)
        counts["failover"] = over_to_the_other(counter, files)
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
