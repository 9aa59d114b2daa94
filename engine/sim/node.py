"""Publishes transactions as a Bitcoin Core node with -zmqpubrawtx does: real blocks' or synthetic
ones, at a steady rate.

Each message has three frames: `rawtx`, the transaction, and a 4-byte little-endian number (Bitcoin
Core, doc/zmq.md); `sequence` comes on request. One line of JSON on standard output says that
everything is ready and where; a second one, that everything was published. After that it stays for
slow readers until a signal."""

from __future__ import annotations

import argparse
import contextlib
import csv
import heapq
import ipaddress
import json
import math
import os
import select
import signal
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import zmq

from engine.errors import ConfigError, FeedError
from engine.feed.replay import read_block
from engine.feed.synthetic import Kind, Plan, Traffic
from engine.scan import btc_argument
from engine.sim.faults import FaultPlan
from engine.tx import decode

TOPIC = b"rawtx"
LABELS_TOPIC = b"sequence"
GAP = 100
REBIND_S = 5.0
NODE_FAULTS = {
    "drop": "a number is used and its transaction never sent, as when a queue is full",
    "gap": f"the same for {GAP} transactions in a row",
    "duplicate": "sent twice, each with a number, as a node does when a block has it",
    "reorder": "sent after the next one, with the number that it had before it",
    "delay": "sent DURATION late, after others that were due",
    "stall": "nothing is sent for DURATION, then everything that has become due",
    "restart": "the node ends and comes back at the same place: the numbers start at 0",
}
SUCCESSOR_FAULTS = tuple(name for name in NODE_FAULTS if name != "reorder")
DURATIONS_S = {"delay": 0.2, "stall": 5.0}


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
        "--await-subscriber",
        action="store_true",
        help="wait until somebody has subscribed: what is published before goes to nobody",
    )
    parser.add_argument(
        "--blocks", nargs="+", type=Path, metavar="FILE", help="raw block files to replay"
    )
    parser.add_argument(
        "--sequence",
        action="store_true",
        help="publish `sequence` too: that each transaction entered the mempool",
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="SPEC",
        help="NAME[=PROBABILITY][:DURATION], like drop=0.01 or stall=0.001:3s; may be repeated; "
        f"the names: {', '.join(NODE_FAULTS)}",
    )
    synthetic = parser.add_argument_group("synthetic transactions, without --blocks")
    for name, default, words in (
        ("seed", 1, "the same seed makes the same transactions and faults"),
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
        faults = FaultPlan(options.fault, options.seed, NODE_FAULTS, DURATIONS_S)
        load = _replay(options) if options.blocks else _synthesise(options)
        with _outlet(options.endpoint, options.listen_anywhere, options.sequence) as outlet:
            _say(
                endpoint=outlet.endpoint,
                transactions=len(load.transactions),
                planted=load.planted,
                book=str(options.book_out) if options.book_out else None,
                pid=os.getpid(),
            )
            if parent is not None:
                _wait(None, parent)
            if options.await_subscriber:
                _await_subscriber(outlet, parent)
            elapsed_s = _publish(outlet, load.transactions, options.rate, faults, parent)
            _say(
                published=len(load.transactions),
                messages=outlet.messages,
                elapsed_s=round(elapsed_s, 3),
                faults=dict(faults.applied),
            )
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


class Outlet:
    """A publisher's socket and its numbering; `messages` is how often a transaction was sent."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, labels: bool
    ) -> None:
        self._context = context
        self._labels = labels
        self._unheard = {TOPIC, LABELS_TOPIC} if labels else {TOPIC}
        self.messages = 0
        self._held: tuple[bytes, int] | None = None
        self._open(endpoint)
        self.endpoint = self._socket.get_string(zmq.LAST_ENDPOINT)

    @property
    def socket(self) -> zmq.Socket[bytes]:
        """Readable when somebody has subscribed, or not any more."""
        return self._socket

    def has_subscriber(self) -> bool:
        """Whether somebody has subscribed to each topic."""
        with contextlib.suppress(zmq.Again):
            while True:
                word = self._socket.recv(zmq.NOBLOCK)
                if word[:1] == b"\x01":
                    self._unheard = {t for t in self._unheard if not t.startswith(word[1:])}
        return not self._unheard

    @property
    def possible_faults(self) -> Collection[str]:
        """What can be drawn for the next transaction: within a gap it is lost anyway, and only one
        waits for its successor."""
        if self._to_lose:
            return ()
        return NODE_FAULTS if self._held is None else SUCCESSOR_FAULTS

    def publish(self, raw: bytes, fault: str = "") -> None:
        """As one of NODE_FAULTS has it, other than those that are a matter of time."""
        if fault == "restart":
            self._restart()
        number = self._take_number()
        if fault == "gap":
            self._to_lose = GAP
        if self._to_lose or fault == "drop":
            self._to_lose = max(0, self._to_lose - 1)
        elif fault == "reorder":
            self._held = raw, number
        else:
            self._send(raw, number)
            if fault == "duplicate":
                self._send(raw, self._take_number())
            self.release()

    def release(self) -> None:
        """Send what waits for its successor."""
        if self._held is not None:
            self._send(*self._held)
            self._held = None

    def _open(self, endpoint: str) -> None:
        self._number = self._label_number = self._to_lose = 0
        self._held = None
        self._socket = self._context.socket(zmq.XPUB)  # PUB that also tells who subscribes
        # A node drops what exceeds its high-water mark. Here a count that a test relies on must not
        # depend on how busy the machine is, and the whole content is in memory already.
        self._socket.set(zmq.SNDHWM, 0)
        self._socket.set(zmq.IPV6, int("[" in endpoint))
        self._socket.bind(endpoint)

    def _restart(self) -> None:
        """What was not received yet is lost, and so is what comes until a subscriber is back."""
        self._socket.close(linger=0)
        deadline = time.monotonic() + REBIND_S
        while True:  # libzmq gives the endpoint up a moment after `close`
            try:
                return self._open(self.endpoint)
            except zmq.ZMQError as error:
                self._socket.close(linger=0)
                if error.errno != zmq.EADDRINUSE or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _take_number(self) -> int:
        self._number += 1
        return self._number - 1

    def _send(self, raw: bytes, number: int) -> None:
        """The transaction, and that it entered the mempool when somebody wants to know."""
        self._socket.send_multipart((TOPIC, raw, number.to_bytes(4, "little")))
        self.messages += 1
        if self._labels:
            label = self._label_number  # a mempool's count is the same here
            body = bytes.fromhex(decode(raw).txid) + b"A" + label.to_bytes(8, "little")
            self._socket.send_multipart((LABELS_TOPIC, body, label.to_bytes(4, "little")))
            self._label_number += 1


@contextlib.contextmanager
def _outlet(endpoint: str, anywhere: bool, labels: bool) -> Iterator[Outlet]:
    if not anywhere and not _is_local(endpoint):
        raise ConfigError(
            f"{endpoint} is not on loopback, and what is published there is invented: use "
            "tcp://127.0.0.1:PORT or ipc://PATH, or add --listen-anywhere."
        )
    context = zmq.Context()
    try:
        try:
            outlet = Outlet(context, endpoint, labels)
        except zmq.ZMQError as error:
            raise FeedError(
                f"cannot publish at {endpoint} ({zmq.strerror(error.errno or 0)}): choose another "
                "--endpoint, like tcp://127.0.0.1:0 for a free port."
            ) from error
        yield outlet
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


def _await_subscriber(outlet: Outlet, parent: int | None) -> None:
    poller = zmq.Poller()
    poller.register(outlet.socket, zmq.POLLIN)
    if parent is not None:
        poller.register(parent, zmq.POLLIN)
    while not outlet.has_subscriber():
        if parent in dict(poller.poll()):
            _wait(0, parent)


def _publish(
    outlet: Outlet,
    transactions: Sequence[bytes],
    rate: float,
    faults: FaultPlan,
    parent: int | None,
) -> float:
    """Seconds it took. Each has its own due time, so that a late one does not delay the rest."""
    started = time.monotonic()
    turns = [(started + place / rate, place, raw) for place, raw in enumerate(transactions)]
    late: set[int] = set()  # places whose fault has been drawn
    while turns:  # always a heap
        due_s, place, raw = heapq.heappop(turns)
        _wait_until(due_s, parent)
        fault = faults.draw(outlet.possible_faults) if place not in late else None
        if fault is not None and fault.name in DURATIONS_S:
            if fault.name == "stall":
                _wait_until(time.monotonic() + fault.duration_s, parent)
            late.add(place)
            heapq.heappush(turns, (due_s + fault.duration_s, place, raw))
        else:
            outlet.publish(raw, fault.name if fault is not None else "")
    outlet.release()
    return time.monotonic() - started


def _wait_until(due_s: float, parent: int | None) -> None:
    while (early_s := due_s - time.monotonic()) > 0:
        _wait(early_s, parent)


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
