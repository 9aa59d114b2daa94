"""Trigger to send returned, against a bare send(2) of as many bytes.

Both go over loopback TCP to one other process, on another core; they take turns, so that a noisy
machine disturbs both alike. The order waits sealed, or is made at the trigger. For the engine the
whole path runs: a fresh deposit transaction each time, from its bytes to the exchange simulator,
whose acknowledgement is awaited before the next. Before each send the engine is either polled
(spinning: caches warm) or sleeps in its poll (parked), for half a millisecond."""

from __future__ import annotations

import argparse
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.core import Engine
from engine.errors import HarpoonError
from engine.records import Fired, Message
from engine.report import open_console
from engine.venues import binance
from harpoon_bench._floor import ffi, lib
from harpoon_bench.children import Child
from harpoon_bench.engines import connected_engine
from harpoon_bench.table import Row, present, quantiles
from harpoon_bench.traffic import deposit

WARM_UP = 200
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
    with peer(others) as child:
        there = child.hear()
        os.sched_setaffinity(0, {last})
        engine = connected_engine(there)
        rows = [
            row
            for name, pause in PAUSES.items()
            for row in measure(engine, there["sink_port"], options.sends, pause).rows(name)
        ]
        engine.close()
    present(open_console(), rows, options.json)
    return 0


def peer(cpus: Sequence[int]) -> Child:
    """On `cpus`, spinning, or asleep where there is no core to spare."""
    return Child("peer", *(["--spin"] if cpus else []), cpus=set(cpus))


def _spin(engine: Engine) -> None:
    end_ns = time.monotonic_ns() + PAUSE_NS
    while time.monotonic_ns() < end_ns:
        engine.poll()


def _park(engine: Engine) -> None:
    engine.poll(PAUSE_NS)


PAUSES = {"spinning": _spin, "parked": _park}


@dataclass
class Samples:
    """ns of orders, by stage, and of as many bare sends of as many bytes."""

    stages: dict[str, list[int]] = field(default_factory=dict)
    bare: list[int] = field(default_factory=list)
    order_bytes: int = 0

    def rows(self, name: str) -> list[Row]:
        floor, what = quantiles(self.bare), f"send(2) of {self.order_bytes} B"
        return [
            Row(f"{name}: {stage}", "ns", quantiles(self.stages[stage]), what, floor)
            for stage in ("fire_total", "send", "rawtx_to_send")
        ]


def measure(
    engine: Engine,
    sink_port: int,
    sends: int,
    pause: Callable[[Engine], None],
    ahead: bool = True,
) -> Samples:
    """`sends` orders and as many bare sends, in turns, with a pause before each. Without `ahead`
    the engine is held in the pauses, and so makes no order before its trigger."""
    samples = Samples()
    with socket.create_connection(("127.0.0.1", sink_port)) as sink:
        sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(WARM_UP + sends):
            engine.hold(not ahead)
            pause(engine)
            engine.hold(False)
            fired, samples.order_bytes = _fire(engine, ahead)
            pause(engine)
            floor_ns = bare_send(sink, samples.order_bytes)
            if number >= WARM_UP and fired.armed == ahead:  # a Pong may have come between
                samples.bare.append(floor_ns)
                for stage, stage_ns in fired.stage_ns.items():
                    samples.stages.setdefault(stage, []).append(stage_ns)
    return samples


def _fire(engine: Engine, ahead: bool) -> tuple[Fired, int]:
    """One deposit through the engine; its order, once the exchange has answered, and its size."""
    raw = deposit()
    before = engine.stats()["bytes_sent"]
    engine.rawtx(raw, time.monotonic_ns())
    engine.hold(not ahead)
    sent_bytes = engine.stats()["bytes_sent"] - before
    fired: Fired | None = None
    deadline = time.monotonic() + REPLY_S
    while time.monotonic() < deadline:
        for event in engine.events():
            if isinstance(event, Fired):
                fired = event
            elif isinstance(event, Message):
                reply = binance.parse_reply(event.text)
                if fired is None or reply is None or reply.status != 200:
                    raise HarpoonError(f"the simulator refused an order: {event.text[:200]!r}")
                return fired, sent_bytes
        engine.poll(10_000_000)
    raise HarpoonError("the simulator did not answer an order: its own message is above")


def bare_send(sink: socket.socket, sent_bytes: int) -> int:
    data = os.urandom(sent_bytes)
    took_ns: int = lib.hp_floor_send_ns(sink.fileno(), ffi.from_buffer(data), len(data))
    if took_ns < 0:
        raise HarpoonError(f"the bare send failed: {os.strerror(-took_ns)}")
    return took_ns
