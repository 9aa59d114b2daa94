"""Publishes transactions as a Bitcoin Core node with -zmqpubrawtx does: real blocks' or synthetic
ones, at a steady rate.

Each message has three frames: `rawtx`, the transaction, and a 4-byte little-endian number (Bitcoin
Core, doc/zmq.md). One line of JSON on standard output says that everything is ready and where; a
second one, that everything was published. After that it stays for slow readers until a signal."""

from __future__ import annotations

import argparse
import contextlib
import csv
import ipaddress
import json
import math
import os
import select
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import zmq

from engine.errors import ConfigError, FeedError
from engine.feed.replay import read_block
from engine.feed.synthetic import Kind, Plan, Traffic
from engine.scan import btc_argument

TOPIC = b"rawtx"


@dataclass(frozen=True)
class Load:
    """Everything that will be published, in order. `planted` is empty for real blocks."""

    transactions: Sequence[bytes]
    planted: dict[str, int]


class _ParentGoneError(Exception):
    """Whoever started us has closed our standard input, perhaps by dying."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--endpoint",
        default="tcp://127.0.0.1:0",
        help="where to publish, tcp:// or ipc:// (default tcp://127.0.0.1:0, a free port)",
    )
    parser.add_argument(
        "--listen-anywhere", action="store_true", help="allow an --endpoint beyond loopback"
    )
    parser.add_argument(
        "--rate",
        type=_rate,
        default="1000",
        metavar="N",
        help="transactions per second (default 1000)",
    )
    parser.add_argument(
        "--start-on-stdin",
        action="store_true",
        help="wait for a line on standard input, and end when standard input does",
    )
    parser.add_argument(
        "--blocks", nargs="+", type=Path, metavar="FILE", help="raw block files to replay"
    )
    synthetic = parser.add_argument_group("synthetic transactions, without --blocks")
    for name, default, words in (
        ("seed", 1, "the same seed makes the same transactions"),
        ("count", 10_000, "transactions in all"),
        ("deposits", 50, "whales among them that are deposits"),
        ("change-backs", 20, "whales that return to the exchange which spends them"),
        ("sweeps", 20, "whales that an exchange collects from its deposit addresses"),
    ):
        synthetic.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{words} (default {default})"
        )
    synthetic.add_argument(
        "--whale-btc",
        type=btc_argument,
        default="100",
        metavar="X",
        help="the least that a whale moves (default 100)",
    )
    synthetic.add_argument(
        "--book-out",
        type=Path,
        metavar="FILE",
        help="write the invented exchanges' addresses there, as an address book (CSV)",
    )


def run(options: argparse.Namespace) -> int:
    """0 when a signal or the end of standard input ended it; HarpoonError says what is wrong."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    parent = 0 if options.start_on_stdin else None
    with contextlib.suppress(KeyboardInterrupt, _ParentGoneError):
        load = _replay(options) if options.blocks else _synthesise(options)
        with _publisher(options.endpoint, options.listen_anywhere) as socket:
            _say(
                endpoint=socket.get_string(zmq.LAST_ENDPOINT),
                transactions=len(load.transactions),
                planted=load.planted,
                book=str(options.book_out) if options.book_out else None,
                pid=os.getpid(),
            )
            if parent is not None:
                _wait(None, parent)
            elapsed_s = _publish(socket, load.transactions, options.rate, parent)
            _say(published=len(load.transactions), elapsed_s=round(elapsed_s, 3))
            while True:
                _wait(None, parent)
    return 0


def _replay(options: argparse.Namespace) -> Load:
    """As they came into the mempool, which a coinbase never does. (A node publishes a block's whole
    content once more, coinbase first, when it connects it.)"""
    if options.book_out:
        raise ConfigError("--book-out is for synthetic transactions: leave it or --blocks out.")
    return Load([raw for path in options.blocks for raw in read_block(path)[1:]], {})


def _synthesise(options: argparse.Namespace) -> Load:
    plan = Plan(options.count, options.deposits, options.change_backs, options.sweeps)
    traffic = Traffic(options.seed, options.whale_btc)
    if options.book_out:
        _write_book(options.book_out, traffic.book_rows())
    transactions = list(traffic.transactions(plan))
    planted = Counter(tx.planted.kind for tx in transactions if tx.planted)
    return Load([tx.raw for tx in transactions], {kind: planted[kind] for kind in get_args(Kind)})


def _write_book(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    try:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("address", "exchange"), *rows])
    except OSError as error:
        raise ConfigError(
            f"cannot write {path} ({error.strerror}): choose another place for --book-out."
        ) from error


@contextlib.contextmanager
def _publisher(endpoint: str, anywhere: bool) -> Iterator[zmq.Socket[bytes]]:
    if not anywhere and not _is_local(endpoint):
        raise ConfigError(
            f"{endpoint} is not on loopback, and what is published there is invented: use "
            "tcp://127.0.0.1:PORT or ipc://PATH, or add --listen-anywhere."
        )
    context = zmq.Context()
    try:
        socket = context.socket(zmq.PUB)
        # A node drops what exceeds its high-water mark. Here a count that a test relies on must not
        # depend on how busy the machine is, and the whole content is in memory already.
        socket.set(zmq.SNDHWM, 0)
        socket.set(zmq.IPV6, int("[" in endpoint))
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            raise FeedError(
                f"cannot publish at {endpoint} ({zmq.strerror(error.errno or 0)}): choose another "
                "--endpoint, like tcp://127.0.0.1:0 for a free port."
            ) from error
        yield socket
    finally:
        context.destroy(linger=0)


def _is_local(endpoint: str) -> bool:
    if endpoint.startswith("ipc://"):
        return True
    host = endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _publish(
    socket: zmq.Socket[bytes],
    transactions: Sequence[bytes],
    rate: float,
    parent: int | None,
) -> float:
    """Seconds it took. Each has its own due time, so that a late one does not delay the rest."""
    started = time.monotonic()
    for number, raw in enumerate(transactions):
        while (early_s := started + number / rate - time.monotonic()) > 0:
            _wait(early_s, parent)
        socket.send_multipart((TOPIC, raw, number.to_bytes(4, "little")))
    return time.monotonic() - started


def _wait(seconds: float | None, parent: int | None) -> None:
    """Until the time is over (None: never) or the parent, a file descriptor, says something.
    _ParentGoneError when it never will again."""
    readable, _, _ = select.select([] if parent is None else [parent], [], [], seconds)
    if readable and not os.read(readable[0], 4096):
        raise _ParentGoneError


def _say(**line: object) -> None:
    print(json.dumps(line), flush=True)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate: give a number above 0")
    return rate
