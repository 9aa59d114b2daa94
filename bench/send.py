"""Trigger to send returned, against a bare send(2) of as many bytes.

Both go over loopback TCP to one other process, on another core, which reads both in the same way
(tls_peer); they take turns in C, so that a noisy machine disturbs both alike. The order waits
sealed, or is made at the trigger. For the engine the whole path runs: a fresh deposit transaction
each time, from its bytes to the exchange, whose acknowledgement is awaited before the next. Before
each send the engine is either polled (spinning: caches warm) or sleeps in its poll (parked), for
half a millisecond."""

from __future__ import annotations

import argparse
import os
import socket
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine._native import check
from engine._native import ffi as native_ffi
from engine._native import lib as native_lib
from engine.core import Engine
from engine.errors import HarpoonError
from engine.records import Fired, Message
from engine.report import open_console
from engine.venues import binance
from harpoon_bench._floor import ffi, lib
from harpoon_bench.children import exchange_on
from harpoon_bench.engines import LIVE, connected_engine
from harpoon_bench.kernels_book import address
from harpoon_bench.table import Row, present, quantiles
from harpoon_bench.traffic import deposit

WARM_UP = 200
BATCH = 50  # in C, without Python between
REPLY_S = 5.0
PAUSE_NS = 500_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sends", type=int, default=3000, metavar="N", help="of each (default 3000)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there as JSON")


def run(options: argparse.Namespace) -> int:
    if options.sends < 1:
        raise HarpoonError("--sends must be 1 or more")
    *others, last = sorted(os.sched_getaffinity(0))
    with exchange_on(set(others)) as (child, exchange):
        os.sched_setaffinity(0, {last})
        rows = []
        for name, park in PARK.items():
            engine = connected_engine(exchange, replace(LIVE, spin=not park))
            rows += measure(engine, exchange["sink_port"], options.sends, park).rows(name)
            engine.close()
            child.hear()  # what became of its orders, too much for a pipe
    present(open_console(), rows, options.json)
    return 0


PARK = {"spinning": False, "parked": True}


@dataclass
class Samples:
    """ns of orders, by stage, and of as many bare sends of as many bytes."""

    stages: dict[str, list[int]] = field(default_factory=dict)
    bare: list[int] = field(default_factory=list)
    order_bytes: int = 0

    def add(self, fired: Fired, bare_ns: int) -> None:
        self.bare.append(bare_ns)
        for stage, stage_ns in fired.stage_ns.items():
            self.stages.setdefault(stage, []).append(stage_ns)

    def forget(self, count: int) -> None:
        """The first ones."""
        for samples in (self.bare, *self.stages.values()):
            del samples[:count]

    def rows(self, name: str) -> list[Row]:
        floor, what = quantiles(self.bare), f"send(2) of {self.order_bytes} B"
        return [
            Row(f"{name}: {stage}", "ns", quantiles(self.stages[stage]), what, floor)
            for stage in ("fire_total", "send", "rawtx_to_send")
        ]


def measure(engine: Engine, sink_port: int, sends: int, park: bool, ahead: bool = True) -> Samples:
    """`sends` orders and as many bare sends, in turns, with a pause before each. Without `ahead`
    every order is made at its trigger."""
    samples = Samples(order_bytes=_order_bytes(engine))
    steps = ffi.new(
        "hp_loop_engine *",
        {
            "engine": address(engine._handle),
            "poll": address(native_ffi.addressof(native_lib, "hp_engine_poll")),
            "hold": address(native_ffi.addressof(native_lib, "hp_engine_hold")),
            "rawtx": address(native_ffi.addressof(native_lib, "hp_engine_rawtx")),
        },
    )
    engine.hold(not ahead)
    with socket.create_connection(("127.0.0.1", sink_port)) as sink:
        sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(0, WARM_UP + sends, BATCH):
            raw, data = [deposit() for _ in range(BATCH)], os.urandom(samples.order_bytes)
            bare_ns = ffi.new("int64_t[]", BATCH)
            code = lib.hp_loop_fire_and_send(
                *(steps, b"".join(raw), len(raw[0]), BATCH, PAUSE_NS, park, ahead),
                *(sink.fileno(), data, len(data), bare_ns),
            )
            check(code, "firing and sending")
            pairs = list(zip(_placed(engine, BATCH), bare_ns, strict=True))
            for fired, floor_ns in pairs[1:]:  # Python was before the first
                if fired.armed == ahead:  # a Pong may have come between
                    samples.add(fired, floor_ns)
    samples.forget(WARM_UP)
    return samples


def _order_bytes(engine: Engine) -> int:
    """Of one order on the wire."""
    before = engine.stats()["bytes_sent"]
    engine.rawtx(deposit(), time.monotonic_ns())
    sent_bytes = engine.stats()["bytes_sent"] - before
    _placed(engine, 1)
    return sent_bytes


def _placed(engine: Engine, count: int) -> list[Fired]:
    """The latest orders, once the exchange has answered them all."""
    fired: list[Fired] = []
    answers = 0
    deadline = time.monotonic() + REPLY_S
    while answers < count:
        for event in engine.events():
            if isinstance(event, Fired):
                fired.append(event)
            elif isinstance(event, Message):
                reply = binance.parse_reply(event.text)
                if reply is None or reply.status != 200:
                    raise HarpoonError(f"the exchange refused an order: {event.text[:200]!r}")
                answers += 1
        if time.monotonic() > deadline:
            raise HarpoonError("the exchange did not answer an order: its message is above")
        engine.poll(1_000_000)
    return fired


def bare_send(sink: socket.socket, sent_bytes: int) -> int:
    data = os.urandom(sent_bytes)
    took_ns: int = lib.hp_floor_send_ns(sink.fileno(), ffi.from_buffer(data), len(data))
    if took_ns < 0:
        raise HarpoonError(f"the bare send failed: {os.strerror(-took_ns)}")
    return took_ns
