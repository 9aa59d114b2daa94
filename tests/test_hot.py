"""The engine on its hot thread: what it is told from outside, and what it may not notice."""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

from engine._native import lib
from engine.core import EngineOptions, VenueAddress
from engine.errors import NativeError
from engine.feed.native import resolve_endpoint
from engine.records import Closed, Command, FeedNote, Fired, Opened, Signal, Stats
from engine.sim.authority import CertificateFiles

from .hot import PATIENCE_S, Hot, OldServer, World, order_in, running
from .peers import (
    BTC,
    COINBASE,
    FIN,
    PING,
    PONG,
    SELL,
    TEXT,
    Server,
    deposit,
    engine_for,
    frame,
    serving,
    transaction,
    txid_of,
    wallet,
)
from .publisher import Publisher, eventually

LIVE = EngineOptions(live=True, max_orders=1 << 40)


@pytest.fixture(params=["spin", "park"])
def hot(request: pytest.FixtureRequest, each_transport: str) -> Iterator[Hot]:
    with running(engine_for(replace(LIVE, spin=request.param == "spin"), SELL)) as hot:
        yield hot


@pytest.fixture
def node() -> Iterator[Publisher]:
    publisher = Publisher()
    yield publisher
    publisher.close()


def commands(hot: Hot) -> list[tuple[str, int]]:
    return [(command.command, command.value) for command in hot.all(Command)]


# ---- commands ------------------------------------------------------------------------------------


@pytest.mark.parametrize("spin", [True, False])
def test_every_command_is_obeyed_and_written_down(
    server: Server, each_transport: str, node: Publisher, spin: bool
) -> None:
    engine = engine_for(replace(LIVE, spin=spin), SELL)
    engine.add_feed(resolve_endpoint(node.endpoint, False))
    with running(engine) as hot:
        engine.command_connect(server.address())
        peer = server.connection()
        hot.until(lambda: hot.all(Opened))
        assert "TLSv1.3" in hot.all(Opened)[0].cipher
        engine.command_text(b"a text")
        assert peer.frame() == (TEXT, b"a text")
        assert hot.fire(deposit("kraken", 1)).refusal == "not-ready", "a new session is held"
        hot.hold(False)
        assert hot.fire(deposit("kraken", 2)).refusal is None
        before_ms = time.time_ns() // 1_000_000
        assert order_in(peer.frame()[1])["timestamp"] <= before_ms + 1
        engine.command_clock(-40_000)
        hot.until(lambda: ("clock-offset", -40_000) in commands(hot))
        fired = hot.fire(deposit("kraken", 3))
        assert abs(fired.timestamp_ms + 40_000 - time.time_ns() // 1_000_000) < 5_000
        assert order_in(peer.frame()[1])["timestamp"] == fired.timestamp_ms
        hot.hold(True)
        assert hot.fire(deposit("kraken", 4)).refusal == "not-ready"
        assert peer.is_silent(0.05)
        assert not hot.all(FeedNote), "feeds wait to be told"
        engine.command_listen()
        node.wait_subscriber()
        node.send(deposit("kraken", 5), 0)
        hot.until(lambda: len(hot.all(Fired)) == 5)
        engine.command_close()
        hot.until(lambda: hot.all(Closed))
        (closed,) = hot.all(Closed)
        assert (closed.code, closed.was_open) == (0, True)
        hot.stop()
        *given, stopped = commands(hot)
        assert [command for command, _ in given] == [
            "connect",
            "text",
            "hold",
            "clock-offset",
            "hold",
            "listen",
            "close",
        ]
        assert [value for _, value in given][2:5] == [0, -40_000, 1]
        assert stopped[0] == "stop"
        assert {command.error for command in hot.all(Command)} == {None}


def test_what_could_not_be_done_is_written_down_with_its_reason(server: Server, hot: Hot) -> None:
    hot.engine.command_text(b"nobody is there")
    hot.engine.command_clock(86_400_001)
    hot.connect(server)
    hot.engine.command_text(b"x" * 9_000)
    hot.until(lambda: len(hot.all(Command)) == 5)
    errors = [command.error for command in hot.all(Command)]
    assert errors[2:4] == [None, None]
    assert "no open session" in str(errors[0])
    assert "bounds" in str(errors[1])
    assert "no room" in str(errors[4])
    assert hot.engine.ready


def test_a_full_ring_of_commands_says_so(each_transport: str) -> None:
    engine = engine_for(LIVE, SELL)
    values: list[int] = []

    def fill() -> None:
        while len(values) < 100_000:
            engine.command_clock(len(values))
            values.append(len(values))

    with pytest.raises(NativeError, match=r"telling the engine's thread something: .*no room"):
        fill()
    assert len(values) > 1_000
    with running(engine) as hot:
        hot.until(lambda: len(hot.all(Command)) == len(values))
        assert [value for _, value in commands(hot)] == values
        engine.command_clock(7)
        hot.until(lambda: len(hot.all(Command)) == len(values) + 1)


@pytest.fixture
def silent(server: Server) -> Iterator[VenueAddress]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield replace(server.address(timeout_s=60), port=listener.getsockname()[1])


@pytest.mark.parametrize("command", ["close", "stop", "abort", "connect"])
def test_an_opening_is_given_up_and_said_to_be(
    silent: VenueAddress, hot: Hot, command: str
) -> None:
    hot.engine.command_connect(silent)
    hot.until(lambda: hot.all(Command))
    time.sleep(0.02)
    assert not hot.all(Closed)
    if command == "close":
        hot.engine.command_close()
    elif command == "stop":
        hot.engine.command_stop()
    elif command == "abort":
        hot.engine.abort()
    else:
        hot.engine.command_connect(silent)
    if command in ("stop", "abort"):
        hot.thread.join(PATIENCE_S)
        assert not hot.thread.is_alive()
    else:
        hot.until(lambda: len(hot.all(Command)) == 2)
    (closed,) = hot.all(Closed)
    assert not closed.was_open
    assert not hot.all(Opened)


def test_a_venue_that_refuses_is_told_and_another_is_found(
    server: Server, files: CertificateFiles, hot: Hot
) -> None:
    hot.engine.command_connect(replace(server.address(), host="elsewhere.test"))
    hot.until(lambda: hot.all(Closed))
    (closed,) = hot.all(Closed)
    assert (closed.code, closed.was_open) == (lib.HP_ETLS_CERT, False)
    with serving(files) as other:
        peer = hot.connect(other)
        assert hot.fire(deposit("kraken", 1)).refusal is None
        order_in(peer.frame()[1])


def test_a_lost_session_is_told_and_its_successor_is_held(server: Server, hot: Hot) -> None:
    peer = hot.connect(server)
    assert hot.fire(deposit("kraken", 1)).refusal is None
    peer.reset()
    hot.until(lambda: hot.all(Closed))
    assert hot.all(Closed)[0].was_open
    assert hot.fire(deposit("kraken", 2)).refusal == "not-ready"
    peer = hot.connect(server, held=True)
    assert hot.fire(deposit("kraken", 3)).refusal == "not-ready"
    hot.hold(False)
    fired = hot.fire(deposit("kraken", 4))
    assert order_in(peer.frame()[1])["newClientOrderId"] == fired.client_id


# ---- transactions of another thread --------------------------------------------------------------


def test_a_full_ring_of_transactions_says_so_and_loses_nothing(each_transport: str) -> None:
    engine = engine_for(EngineOptions(), SELL)
    long = {wallet("kraken"): 10**9}
    offered: list[str] = []
    while engine.offer_rawtx(raw := transaction(long, len(offered), n_in=250), 0):
        offered.append(txid_of(raw))
        assert len(offered) < 10_000
    assert len(offered) > 1_000, "more than 10 MB"
    with running(engine) as hot:
        hot.until(lambda: len(hot.all(Signal)) == len(offered))
        assert [signal.txid for signal in hot.all(Signal)] == offered
        assert engine.offer_rawtx(raw, 0)


def test_transactions_of_another_thread_all_arrive_in_order(hot: Hot) -> None:
    raws = [deposit("kraken", nonce) for nonce in range(5_000)]

    def offer() -> None:
        for raw in raws:
            while not hot.engine.offer_rawtx(raw, time.monotonic_ns()):
                time.sleep(0.001)

    feeder = threading.Thread(target=offer)
    feeder.start()
    hot.until(lambda: len(hot.all(Signal)) >= len(raws))
    feeder.join()
    assert [signal.txid for signal in hot.all(Signal)] == [txid_of(raw) for raw in raws]


# ---- the interpreter that stands still -----------------------------------------------------------

ORDERS = 60
EVERY_MS = 10


@contextmanager
def keeping_the_gil() -> Iterator[None]:
    """No other thread of this process gets to run Python, as long as nothing that is called here
    gives the GIL away: a PyDLL does not."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(3600)  # nobody asks for it
    time.sleep(0.02)  # but who has asked before
    try:
        yield
    finally:
        sys.setswitchinterval(interval_s)


def p99(values: list[int]) -> int:
    return sorted(values)[len(values) * 99 // 100]


@pytest.fixture
def world(files: CertificateFiles) -> Iterator[World]:
    world = World(files)
    yield world
    world.stop()


@pytest.mark.parametrize("spin", [True, False])
def test_a_python_that_stands_still_is_not_noticed(
    world: World, each_transport: str, spin: bool
) -> None:
    """Node and venue are in another process. Here every thread but the hot one waits for a call
    that keeps the GIL until all the trading is done."""
    engine = engine_for(replace(LIVE, spin=spin), SELL)
    engine.add_feed(resolve_endpoint(world.endpoint, False))
    ticks: list[int] = []
    with running(engine) as hot, ticking(ticks):
        engine.command_connect(world.address)
        engine.command_listen()
        hot.until(lambda: hot.all(Opened) and hot.all(FeedNote))
        hot.hold(False)
        world.play(0, ORDERS, EVERY_MS)
        free = world.traffic()
        hot.until(lambda: len(hot.all(Fired)) == ORDERS)
        with keeping_the_gil():
            began = time.monotonic_ns()
            world.play(ORDERS, ORDERS, EVERY_MS, ctypes.PyDLL(None))
            ended = time.monotonic_ns()
        held = world.traffic()
        assert not [tick for tick in ticks if began < tick < ended], "the GIL was held"
        assert began < held.published[0]
        assert len(held.orders) == len(held.pongs) == ORDERS, "no order waited for Python"
        assert max(t for t, _ in held.orders) < ended
        assert max(held.pongs) < ended
        hot.until(lambda: len(hot.all(Fired)) == 2 * ORDERS)
        fired = hot.all(Fired)
        assert [f.client_id for f in fired] == [i for _, i in free.orders + held.orders]
        assert len(hot.all(Signal)) == 2 * ORDERS
        hot.until(lambda: hot.all(Stats)[-1].counters["pings_answered"] == 2 * ORDERS)
        to_send = [f.stage_ns["rawtx_to_send"] for f in fired]
        assert median(to_send[ORDERS:]) < 5 * median(to_send[:ORDERS]) + 200_000
        assert p99(to_send[ORDERS:]) < 10 * p99(to_send[:ORDERS]) + 50_000_000


@contextmanager
def ticking(ticks: list[int]) -> Iterator[None]:
    """A Python thread that writes down when it runs."""
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(0.005):
            ticks.append(time.monotonic_ns())

    thread = threading.Thread(target=tick)
    thread.start()
    yield
    ended.set()
    thread.join()


# ---- where it runs, and how much -----------------------------------------------------------------


def test_it_stays_where_it_is_told(each_transport: str) -> None:
    cpus = os.sched_getaffinity(0)
    cpu = max(cpus)
    with running(engine_for(replace(LIVE, cpu=cpu))) as hot:
        hot.engine.command_hold(True, 0)
        hot.until(lambda: hot.all(Command))
        assert os.sched_getaffinity(hot.thread.native_id or -1) == {cpu}
    assert os.sched_getaffinity(0) == cpus


def test_a_processor_that_is_not_there() -> None:
    with running(engine_for(replace(LIVE, cpu=1023))) as hot:
        hot.thread.join(PATIENCE_S)
        assert isinstance(hot.error, NativeError)
        assert "the engine's thread" in str(hot.error)


def cpu_share(hot: Hot, seconds: float = 0.5) -> float:
    """How much of the time the hot thread computes."""
    clock = time.pthread_getcpuclockid(hot.thread.ident or 0)
    before, began = time.clock_gettime(clock), time.monotonic()
    time.sleep(seconds)
    return (time.clock_gettime(clock) - before) / (time.monotonic() - began)


def sleeps(hot: Hot) -> int:
    """How often the hot thread has given up the processor by itself."""
    status = Path(f"/proc/self/task/{hot.thread.native_id}/status").read_text()
    return int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)$", status, re.M)[1])


def test_parked_it_costs_almost_nothing(
    server: Server, files: CertificateFiles, each_transport: str, node: Publisher
) -> None:
    """In every state in which nothing happens."""
    engine = engine_for(replace(LIVE, rearm_ns=20_000_000), SELL)
    engine.add_feed(resolve_endpoint(node.endpoint, False))
    shares = {}
    with running(engine) as hot:
        hot.engine.command_listen()
        node.wait_subscriber()
        shares["no session"] = cpu_share(hot)
        peer = hot.connect(server)
        shares["armed"] = cpu_share(hot)
        nonces = itertools.count(1)
        hot.until(lambda: hot.fire(deposit("kraken", next(nonces))).armed)
        hot.hold(True)
        time.sleep(0.1)
        shares["held"] = cpu_share(hot)
        peer.reset()
        hot.until(lambda: hot.all(Closed))
        shares["session lost"] = cpu_share(hot)
        old = OldServer(files)
        try:
            hot.connect(old)
            shares["TLS 1.2"] = cpu_share(hot)
            assert not hot.fire(deposit("kraken", next(nonces))).armed
        finally:
            engine.command_stop()
            old.stop()
    assert {state: share for state, share in shares.items() if share > 0.15} == {}


def test_parked_without_rules_it_costs_almost_nothing(server: Server, each_transport: str) -> None:
    with running(engine_for(LIVE)) as hot:
        hot.connect(server)
        assert cpu_share(hot) < 0.15


def test_parked_it_wakes_at_once(each_transport: str) -> None:
    """Without a session nothing else would wake it for half a second."""
    with running(engine_for(LIVE, SELL)) as hot:
        waits = []
        for nonce in range(10):
            time.sleep(0.02)
            before_ns = time.monotonic_ns()
            if nonce % 2:
                hot.engine.command_hold(True, 0)
                hot.until(lambda nonce=nonce: len(hot.all(Command)) == nonce // 2 + 1)
            else:
                hot.fire(deposit("kraken", nonce))
            done_ns = [r.t_ns for r in hot.records if isinstance(r.body, (Command, Fired))]
            waits.append(done_ns[-1] - before_ns)
        assert max(sorted(waits)[:8]) < 100_000_000


def test_spinning_it_never_sleeps(each_transport: str) -> None:
    with running(engine_for(replace(LIVE, spin=True))) as hot:
        clock = time.pthread_getcpuclockid(hot.thread.ident or 0)
        enough_s = time.clock_gettime(clock) + 0.3  # the other tests want the processor, too
        before = sleeps(hot)
        hot.until(lambda: time.clock_gettime(clock) > enough_s)
        assert sleeps(hot) - before < 5


# ---- nobody reads the journal --------------------------------------------------------------------


def test_a_deaf_venue_is_left_and_the_end_is_told(
    files: CertificateFiles, each_transport: str
) -> None:
    """The venue reads nothing, until an order finds no room. No command comes to wake anybody."""
    with serving(files, receive_buffer=4096) as deaf, running(engine_for(LIVE, SELL)) as hot:
        hot.connect(deaf)
        for nonce in range(100_000):
            while not hot.engine.offer_rawtx(deposit("kraken", nonce), time.monotonic_ns()):
                time.sleep(0.001)
            if nonce % 100 == 0 and hot.all(Closed):
                break
        hot.until(lambda: hot.all(Closed))
        (closed,) = hot.all(Closed)
        assert closed.was_open
        assert "sending to the venue: the server did not answer in time" in closed.reason


def test_when_nobody_keeps_the_journal_orders_end_and_begin_again(
    server: Server, each_transport: str
) -> None:
    """Nobody reads, nobody makes new segments: the loop goes on until the journal is full; then it
    refuses orders, and does everything else."""
    engine = engine_for(LIVE, SELL)
    with running(engine) as hot:
        peer = hot.connect(server)
        received: list[str] = []
        reader = threading.Thread(target=read_orders, args=(peer, received), daemon=True)
        reader.start()
        for nonce in range(30_000):
            while not engine.offer_rawtx(deposit("kraken", nonce), time.monotonic_ns()):
                time.sleep(0.001)
            while engine.stats()["orders_sent"] - len(received) > 500:  # a full socket refuses
                time.sleep(0.001)
        peer.send(frame(FIN | PING, b"still there?"))
        eventually(lambda: "still there?" in received)
        eventually(lambda: engine.stats()["transactions"] == 30_000)
        eventually(lambda: len(received) == engine.stats()["orders_sent"] + 1)
        sent = [fired for fired in hot.all(Fired) if fired.refusal is None]
        refusals = {fired.refusal for fired in hot.all(Fired)}
        assert refusals == {None, "journal"}
        assert 1_000 < len(sent) < 30_000
        assert [fired.client_id for fired in sent] == [i for i in received if i != "still there?"]
        again = hot.fire(deposit("kraken", 40_000))  # has read, and prepared
        assert again.refusal is None
        hot.until(lambda: again.client_id in received)
        hot.until(lambda: hot.all(Stats) and hot.all(Stats)[-1].counters["records_lost"] > 0)


def read_orders(peer, received: list[str]) -> None:
    """Client ids of orders, payloads of Pongs."""
    while True:
        try:
            opcode, payload = peer.frame()
        except TimeoutError:  # silence
            continue
        except (OSError, EOFError):
            return
        if opcode == TEXT:
            received.append(order_in(payload)["newClientOrderId"])
        elif opcode == PONG:
            received.append(payload.decode())


# ---- what comes with a block ---------------------------------------------------------------------

HASH = bytes(range(32))


class Desk:
    """An engine with an open session that listens to nodes; what it does with what they publish."""

    def __init__(self, server: Server, *nodes: Publisher, sequence: bool = False) -> None:
        self.engine = engine_for(LIVE, SELL)
        self.nodes, self.numbers = nodes, dict.fromkeys(nodes, 0)
        for node in nodes:
            self.engine.add_feed(resolve_endpoint(node.endpoint, sequence))
        self.engine.connect(server.address())
        for node in nodes:
            self.poll_until(lambda node=node: bool(node.socket.poll(0)))  # type: ignore[misc]
            node.wait_subscriber()
            if sequence:
                self.poll_until(lambda node=node: bool(node.socket.poll(0)))  # type: ignore[misc]
                node.wait_subscriber(b"sequence")
        self.poll_until(self.has_come_to_rest)

    def has_come_to_rest(self) -> bool:
        return self.engine.armed(0)

    def poll_until(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not happened():
            assert time.monotonic() < deadline, "it did not happen"
            self.engine.poll(1_000_000)

    def publish(self, raw: bytes, node: int = 0, skip: int = 0) -> None:
        publisher = self.nodes[node]
        self.numbers[publisher] += skip
        publisher.send(raw, self.numbers[publisher])
        self.numbers[publisher] += 1

    def rest(self) -> None:
        """A pause that ends a block; the engine is awake all the time."""
        end_ns = time.monotonic_ns() + 300_000_000
        while (left_ns := end_ns - time.monotonic_ns()) > 0:
            self.engine.poll(left_ns)

    def say(self, label: bytes, number: int, node: int = 0) -> None:
        body = HASH + label + (bytes(8) if label in b"AR" else b"")
        self.nodes[node].send(body, number, b"sequence")

    def refusals(self, count: int) -> list[str | None]:
        """Of the next orders. All that was published has come by then, in one piece, as the
        engine sleeps meanwhile: so it is of one moment."""
        time.sleep(0.03)
        found: list[Fired] = []
        deadline = time.monotonic() + PATIENCE_S
        while len(found) < count:
            assert time.monotonic() < deadline, f"only {found}"
            self.engine.poll(1_000_000)
            found += [event for event in self.engine.events() if isinstance(event, Fired)]
        return [fired.refusal for fired in found]


def test_a_pause_ends_a_block_where_nobody_says_so(server: Server, node: Publisher) -> None:
    desk = Desk(server, node)
    for nonce in range(3):
        desk.publish(COINBASE)
        desk.publish(deposit("kraken", 10 * nonce))
        desk.publish(deposit("kraken", 10 * nonce + 1))
        assert desk.refusals(2) == ["in-block", "in-block"]
        desk.rest()
        desk.publish(deposit("kraken", 10 * nonce + 2))
        assert desk.refusals(1) == [None]


def test_with_sequence_a_pause_ends_nothing(server: Server, node: Publisher) -> None:
    """A slow node may pause within a block; it says when that is over."""
    desk = Desk(server, node, sequence=True)
    for nonce, label in enumerate((b"C", b"A", b"D")):
        desk.publish(COINBASE)
        desk.publish(deposit("kraken", 10 * nonce))
        assert desk.refusals(1) == ["in-block"]
        desk.publish(deposit("kraken", 10 * nonce + 1))
        assert desk.refusals(1) == ["in-block"], "30 ms later"
        desk.publish(deposit("kraken", 10 * nonce + 2))
        desk.say(label, nonce)
        desk.publish(deposit("kraken", 10 * nonce + 3))
        assert desk.refusals(2) == ["in-block", None], "at once, in the same moment"


def test_a_node_that_never_says_a_word_of_blocks_is_taken_by_its_pauses(
    server: Server, node: Publisher
) -> None:
    """`sequence` is asked for, but the node was started without it."""
    desk = Desk(server, node, sequence=True)
    desk.publish(COINBASE)
    desk.publish(deposit("kraken", 1))
    assert desk.refusals(1) == ["in-block"]
    desk.rest()
    desk.publish(deposit("kraken", 2))
    assert desk.refusals(1) == [None]


def test_the_thousandth_gap_counts_like_the_first(server: Server, node: Publisher) -> None:
    """Notes for people are limited; what they are about is not."""
    desk = Desk(server, node)
    for nonce in range(300):
        desk.publish(transaction({wallet("nobody"): BTC}, nonce), skip=1)
    desk.rest()
    desk.publish(transaction({wallet("nobody"): BTC}, 1_000))
    desk.publish(deposit("kraken", 1), skip=700)
    assert desk.refusals(1) == ["feed"]
    assert desk.engine.stats()["transactions_lost"] == 299 + 700, "before the first nobody knows"


def test_a_removal_from_the_mempool_ends_no_block(server: Server, node: Publisher) -> None:
    """A block's transactions may remove others, that conflict, while they are being told."""
    desk = Desk(server, node, sequence=True)
    desk.publish(COINBASE)
    desk.say(b"R", 0)
    desk.publish(deposit("kraken", 1))
    assert desk.refusals(1) == ["in-block"]


@pytest.mark.parametrize("sequence", [False, True])
def test_behind_a_gap_everything_is_in_doubt_until_we_know(
    server: Server, node: Publisher, sequence: bool
) -> None:
    """What was lost may have been the coinbase."""
    desk = Desk(server, node, sequence=sequence)
    desk.publish(deposit("kraken", 1))
    assert desk.refusals(1) == [None]
    desk.publish(deposit("kraken", 2), skip=3)
    desk.publish(deposit("kraken", 3))
    assert desk.refusals(2) == ["feed", "feed"]
    if sequence:
        desk.say(b"A", 0)
    else:
        desk.rest()
    desk.publish(deposit("kraken", 5))
    assert desk.refusals(1) == [None]
    assert desk.engine.stats()["transactions_lost"] == 3


@pytest.mark.parametrize("sequence", [False, True])
def test_a_node_that_starts_again_publishes_old_news_for_a_while(
    server: Server, node: Publisher, sequence: bool
) -> None:
    desk = Desk(server, node, sequence=sequence)
    desk.publish(deposit("kraken", 1), skip=100)
    assert desk.refusals(1) == [None]
    desk.publish(deposit("kraken", 2), skip=-100)
    assert desk.refusals(1) == ["in-block"]
    if sequence:
        desk.say(b"A", 0)
    desk.publish(deposit("kraken", 3))
    assert desk.refusals(1) == ["in-block"], "neither a pause nor a word ends it"
    assert [event.note for event in desk.engine.events() if isinstance(event, FeedNote)] == []


def test_one_node_s_block_does_not_silence_the_other(server: Server, node: Publisher) -> None:
    """Its copy of what the first had as old news may be news, and is; but no copy fires twice."""
    other = Publisher()
    try:
        desk = Desk(server, node, other)
        desk.publish(COINBASE, 0)
        desk.publish(deposit("kraken", 1), 0)
        assert desk.refusals(1) == ["in-block"]
        desk.publish(deposit("kraken", 1), 1)
        desk.publish(deposit("kraken", 2), 1)
        assert desk.refusals(2) == [None, None]
        desk.publish(deposit("kraken", 1), 0)
        desk.publish(deposit("kraken", 2), 0)
        desk.poll_until(lambda: desk.engine.stats()["copies"] == 2)
        assert desk.engine.stats()["orders_sent"] == 2
    finally:
        other.close()
