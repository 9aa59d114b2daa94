"""Trigger to send returned, against a bare send(2) of as many bytes.

Both go over loopback TCP to one other process, on another core; they take turns, so that a noisy
machine disturbs both alike. The order is built, signed, framed and sealed at the trigger. For the
engine the whole path runs: a fresh deposit transaction each time, from its bytes to the exchange
simulator, whose acknowledgement is awaited before the next. Before each send the thread has either
polled (spinning: caches warm) or slept (parked), for half a millisecond."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from engine.address import script_of
from engine.book import Book, BookEntry
from engine.core import Engine, EngineOptions, Fired, Message, Rule, VenueAddress
from engine.errors import HarpoonError
from engine.report import open_console
from engine.venues import binance
from harpoon_bench._floor import ffi, lib
from harpoon_bench.table import Row, present, quantiles

WALLET = "1NDyJtNTjmwk5xPNhjgAMu4HDHigtobu1s"  # any address of the book will do
DEPOSIT_SAT = 1_000_000_000
WARM_UP = 200
REPLY_S = 5.0
PAUSE_S = 0.0005


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sends", type=int, default=3000, metavar="N", help="of each (default 3000)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there as JSON")


def run(options: argparse.Namespace) -> int:
    if options.sends < 1:
        raise HarpoonError("--sends must be 1 or more")
    cpus = sorted(os.sched_getaffinity(0))
    with _peer(set(cpus[:-1])) as peer:
        os.sched_setaffinity(0, {cpus[-1]})
        engine = _connected_engine(peer)
        rows = [
            *measure("spinning", engine, peer["sink_port"], options.sends, lambda: _spin(engine)),
            *measure("parked", engine, peer["sink_port"], options.sends, lambda: _park(engine)),
        ]
        engine.close()
    present(open_console(), rows, options.json)
    return 0


def _spin(engine: Engine) -> None:
    end = time.monotonic() + PAUSE_S
    while time.monotonic() < end:
        engine.poll()


def _park(engine: Engine) -> None:
    engine.poll()
    time.sleep(PAUSE_S)


def measure(
    name: str, engine: Engine, sink_port: int, sends: int, pause: Callable[[], None]
) -> list[Row]:
    """Rows for `sends` orders and as many bare sends, in turns, with a pause before each."""
    ours: dict[str, list[int]] = {}
    bare: list[int] = []
    with socket.create_connection(("127.0.0.1", sink_port)) as sink:
        sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(WARM_UP + sends):
            pause()
            fired, sent_bytes = _fire(engine)
            pause()
            floor_ns = _bare_send(sink, sent_bytes)
            if number >= WARM_UP:
                bare.append(floor_ns)
                for stage, stage_ns in fired.stage_ns.items():
                    ours.setdefault(stage, []).append(stage_ns)
    floor = quantiles(bare)
    return [
        Row(f"{name}: {stage}", "ns", quantiles(ours[stage]), f"send(2) of {sent_bytes} B", floor)
        for stage in ("fire_total", "send", "rawtx_to_send")
    ]


def _fire(engine: Engine) -> tuple[Fired, int]:
    """One deposit through the engine; its order, once the exchange has answered, and its size."""
    raw = _deposit(os.urandom(32))
    before = engine.stats()["bytes_sent"]
    engine.rawtx(raw, time.monotonic_ns())
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


def _bare_send(sink: socket.socket, sent_bytes: int) -> int:
    data = os.urandom(sent_bytes)
    took_ns: int = lib.hp_floor_send_ns(sink.fileno(), ffi.from_buffer(data), len(data))
    if took_ns < 0:
        raise HarpoonError(f"the bare send failed: {os.strerror(-took_ns)}")
    return took_ns


def _deposit(spent_txid: bytes) -> bytes:
    """One input, one output that pays the wallet."""
    script = script_of(WALLET)
    return b"".join(
        (
            (2).to_bytes(4, "little"),
            b"\x01",
            spent_txid,
            bytes(4),
            b"\x00",
            b"\xff\xff\xff\xff",
            b"\x01",
            DEPOSIT_SAT.to_bytes(8, "little"),
            bytes([len(script)]),
            script,
            bytes(4),
        )
    )


def _connected_engine(peer: dict[str, Any]) -> Engine:
    book = Book([BookEntry(WALLET, "binance")])
    engine = Engine(book, EngineOptions(live=True, max_orders=1 << 62))
    engine.set_key(peer["api_secret"])
    spec = binance.OrderSpec("BTCUSDT", "SELL", "MARKET", "0.00100")
    order = engine.add_order(binance.order_template(spec, peer["api_key"], 5000))
    engine.add_rule(Rule(("deposit",), None, DEPOSIT_SAT, None, order))
    url = urlsplit(peer["ws_url"])
    assert url.hostname is not None
    assert url.port is not None
    engine.connect(
        VenueAddress(
            ip=url.hostname,
            host=url.hostname,
            port=url.port,
            path=url.path,
            ca_file=Path(peer["ca_file"]),
            timeout_ns=5_000_000_000,
        )
    )
    return engine


@contextlib.contextmanager
def _peer(cpus: Set[int]) -> Iterator[dict[str, Any]]:
    """On `cpus`, spinning, or asleep where there is no core to spare."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "harpoon_bench.peer", *(["--spin"] if cpus else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    if cpus:
        os.sched_setaffinity(process.pid, cpus)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        ready = process.stdout.readline()
        if not ready:
            raise HarpoonError("the benchmark's peer did not start: its own message is above")
        yield json.loads(ready)
    finally:
        process.stdin.close()
        process.wait()
