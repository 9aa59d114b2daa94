"""From a node's publication to the order: who trades on the same feed at the same exchange.

Contenders take turns, each a fresh process every time, alone on one core with all it does (only the
engine has there nothing but its own thread, and Python's and libzmq's on the others, as in
`harpoon run`). Node and exchange are on the other cores. The node stamps each message before its
send(2) and keeps its pace whoever is late; the kernel stamps the order as it comes out of the
loopback device, before Python is asked. Every deposit must become one order whose signature is
right."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from engine.errors import HarpoonError
from harpoon_bench._floor import ffi, lib
from harpoon_bench.children import Child, exchange_on
from harpoon_bench.engines import order_bytes
from harpoon_bench.hot_floors import WAYS, ring_for
from harpoon_bench.hot_relay import DIRECT
from harpoon_bench.rivals import LOOPS, RIVALS
from harpoon_bench.table import Row, medians, quantiles
from harpoon_bench.traffic import Messages, everyday

INTERVAL_NS = 1_000_000
EVERY = 5  # messages a deposit
WARM_UP = 50  # deposits
HANDSHAKE_NS = 10_000_000_000
LATE_S = 10.0
READABLE_TARGET = 1.5


@dataclass(frozen=True)
class Contender:
    """`target` bounds our time over theirs at p50, `target_p99` at p99."""

    name: str
    module: str
    words: tuple[str, ...] = ()
    spin: bool = True
    transport: str = "io_uring"
    pinned: bool = False  # the whole process, from outside
    target: float | None = None
    target_p99: float | None = None


OURS = Contender("native feed, spin, io_uring", "hot_engine", ("native",))
NATIVE = (
    replace(OURS, name="native feed, spin, syscall", transport="syscall"),
    replace(OURS, name="native feed, park, io_uring", spin=False),
    replace(OURS, name="native feed, park, syscall", spin=False, transport="syscall"),
)
PYZMQ = (
    Contender("pyzmq feed, spin", "hot_engine", ("pyzmq",), target=1 / 2),
    Contender("pyzmq feed, park", "hot_engine", ("pyzmq",), spin=False),
)
RELAY = Contender("C recv + send", "hot_relay", (DIRECT,))
RING_RELAYS = tuple(
    Contender(f"C recv + send, {way}", "hot_relay", (way,))
    for way in ("io_uring, COOP_TASKRUN", "io_uring, DEFER_TASKRUN")
)
CONTENDERS = (
    OURS,
    *NATIVE,
    *PYZMQ,
    RELAY,
    *RING_RELAYS,
    *(
        Contender(
            f"pyzmq, bitcoinlib, {rival}, {loop}",
            "rivals",
            (rival, loop),
            pinned=True,
            target=1 / 20,
            target_p99=1 / 20,
        )
        for rival, loop in product(RIVALS, LOOPS)
    ),
)


@dataclass(frozen=True)
class Latencies:
    """ns since the publication: until the message could be read, until send returned, until the
    kernel had the order at the exchange; by deposit, empty where nobody knows."""

    readable_ns: list[int]
    sent_ns: list[int]
    order_ns: list[int]


Rounds = Mapping[Contender, list[Latencies]]


def require_rivals() -> None:
    packages = {**{name: name for name in (*RIVALS, "uvloop")}, "bitcoin": "python-bitcoinlib"}
    missing = [
        package for module, package in packages.items() if importlib.util.find_spec(module) is None
    ]
    if missing:
        raise HarpoonError(
            f"{', '.join(missing)} to compare with cannot be imported: run "
            "`pip install 'harpoon-engine[bench]'`."
        )


def rows(rounds: int, deposits: int) -> list[Row]:
    require_rivals()
    refused = [relay for relay in RING_RELAYS if ring_for(WAYS[relay.words[0]]) is None]
    contenders = [contender for contender in CONTENDERS if contender not in refused]
    taken: dict[Contender, list[Latencies]] = {contender: [] for contender in contenders}
    name, common = everyday()
    with arena() as place:
        for number in range(rounds):
            for contender in contenders:
                messages = Messages.planted(common, WARM_UP + deposits, EVERY, number)
                taken[contender].append(place.trade(contender, messages))
            contenders.append(contenders.pop(0))  # nobody always comes after the slowest
    return [*_order_rows(taken, f"{name} transactions"), *_readable_rows(taken)]


def _order_rows(taken: Rounds, traffic: str) -> list[Row]:
    took_ns = {
        contender: medians([quantiles(latencies.order_ns) for latencies in rounds])
        for contender, rounds in taken.items()
        if contender.module != "hot_relay"
    }
    name = f"published to order received, {traffic}, {OURS.name}"
    return [
        Row(name, "ns", took_ns[OURS], c.name, theirs, c.target, c.target_p99)
        for c, theirs in took_ns.items()
        if c is not OURS
    ]


def _readable_rows(taken: Rounds) -> list[Row]:
    """Only a relay knows when a message could be read: the median of RELAY's stands for the engine
    too."""
    readable_ns = medians([quantiles(r.readable_ns) for r in taken[RELAY]])["p50"]
    floor = medians([quantiles(_since(r)) for r in taken[RELAY]])
    relays = {
        c: medians([quantiles(_since(r)) for r in taken[c]]) for c in RING_RELAYS if c in taken
    }
    engines = {
        c: medians([quantiles([ns - readable_ns for ns in r.sent_ns]) for r in taken[c]])
        for c in (OURS, *NATIVE)
    }
    return [
        Row(
            f"readable to send returned, {contender.name}",
            "ns",
            took_ns,
            RELAY.name,
            floor,
            READABLE_TARGET if contender is OURS else None,
        )
        for contender, took_ns in {**engines, **relays}.items()
    ]


def _since(relay: Latencies) -> list[int]:
    return [
        sent - readable for sent, readable in zip(relay.sent_ns, relay.readable_ns, strict=True)
    ]


class Arena:
    """The node and the exchange, and the cores: the last one is the contender's."""

    def __init__(self, publisher: Any, port: int, peer: Child, settings: dict[str, Any]) -> None:
        self._publisher = publisher
        self._peer = peer
        self._settings = {**settings, "feed": f"tcp://127.0.0.1:{port}", "feed_port": port}

    def trade(self, contender: Contender, messages: Messages) -> Latencies:
        """One round."""
        n, numbers = len(messages), messages.deposits
        settings = {"orders": len(numbers), "every": messages.every}
        published_ns = ffi.new("int64_t[]", n)
        with self.compete(contender, settings) as child:
            code = lib.hp_publisher_paced(
                self._publisher,
                ffi.from_buffer(messages.raw),
                messages.at,
                n,
                INTERVAL_NS,
                published_ns,
            )
            require(code, f"publishing to {contender.name}")
            report = child.hear(LATE_S)
        if contender.module == "hot_relay":
            since = [published_ns[number] for number in numbers[WARM_UP:]]
            return Latencies(
                _less(report["readable_ns"][WARM_UP:], since),
                _less(report["sent_ns"][WARM_UP:], since),
                [],
            )
        txids = report.get("txids", {})

        def since_published(by_client_id: Mapping[str, int]) -> list[int]:
            """Without the warm-up's."""
            answered = {messages.number(txids.get(c, c)): ns for c, ns in by_client_id.items()}
            return [answered[n] - published_ns[n] for n in numbers[WARM_UP:] if n in answered]

        orders = dict(self._orders(contender, len(numbers)))
        return Latencies([], since_published(report.get("sent_ns", {})), since_published(orders))

    @contextmanager
    def compete(self, contender: Contender, settings: Mapping[str, object]) -> Iterator[Child]:
        """The contender, subscribed and ready."""
        given = {
            **self._settings,
            "spin": contender.spin,
            "transport": contender.transport,
            **settings,
        }
        cpus = {given["cpu"]} if contender.pinned else set()
        with Child(contender.module, *contender.words, json.dumps(given), cpus=cpus) as child:
            code = lib.hp_publisher_accept(self._publisher, HANDSHAKE_NS)
            require(code, f"the subscription of {contender.name}")
            child.hear()
            yield child

    def burst(self, messages: Messages, total: int) -> None:
        """As fast as the present subscriber takes them."""
        raw = ffi.from_buffer(messages.raw)
        code = lib.hp_publisher_burst(self._publisher, raw, messages.at, len(messages), total)
        require(code, "publishing as fast as possible")

    def end_of_session(self) -> dict[str, Any]:
        """What the exchange tells of a contender that has left."""
        session: dict[str, Any] = self._peer.hear(LATE_S)
        return session

    def _orders(self, contender: Contender, due: int) -> list[tuple[str, int]]:
        """Client ids and kernel timestamps of the session that has just ended."""
        session = self.end_of_session()
        orders: list[tuple[str, int | None]] = session["orders"]
        if len(orders) != due or session["rejections"]:
            raise HarpoonError(
                f"{contender.name} placed {len(orders)} orders for {due} deposits, and these were "
                f"refused: {session['rejections']}."
            )
        return [(client_id, ns) for client_id, ns in orders if ns is not None]


def _less(times_ns: list[int], since_ns: list[int]) -> list[int]:
    return [ns - since for ns, since in zip(times_ns, since_ns, strict=True)]


def require(code: int, what: str) -> None:
    if code < 0:
        raise HarpoonError(f"{what} failed ({os.strerror(-code)}): try again.")


@contextmanager
def arena() -> Iterator[Arena]:
    before = os.sched_getaffinity(0)
    *others, cpu = sorted(before)
    with ExitStack() as resources:
        resources.callback(os.sched_setaffinity, 0, before)
        port = ffi.new("uint16_t *")
        publisher = ffi.gc(lib.hp_publisher_new(port), lib.hp_publisher_free)
        peer, exchange = resources.enter_context(exchange_on(set(others[1:] or others)))
        os.sched_setaffinity(0, {*others[:1]} or {cpu})
        settings = {**exchange, "cpu": cpu, "order_bytes": order_bytes(exchange["api_key"])}
        yield Arena(publisher, port[0], peer, settings)
