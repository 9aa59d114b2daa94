"""Orders that wait finished: when they are armed, what they say when they leave, and what becomes
of them when anything else happens first."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.core import Engine, EngineOptions, Rule
from engine.records import Closed, Fired, Intent, Message
from engine.sim.authority import CertificateFiles
from engine.venues.binance import OrderSpec, order_template

from . import peers
from .hot import OldServer, Updating, UpdatingServer, order_in, payment
from .peers import (
    API_KEY,
    BTC,
    FIN,
    PATIENCE_S,
    PATIENT,
    PING,
    PONG,
    SECRET,
    SELL,
    TEXT,
    Connection,
    Rig,
    Server,
    book_of,
    deposit,
    frame,
    news,
    rig,
    text,
    transaction,
    wallet,
)

MADE_AHEAD = {"build", "sign", "frame", "seal"}

pytestmark = pytest.mark.usefixtures("each_transport")


def arm(engine: Engine, orders: int = 1) -> None:
    """Idle until all of them wait; a step of the loop makes one of them, at least."""
    for _ in range(20 * orders + 200):
        if all(engine.armed(i) for i in range(orders)):
            return
        engine.poll()
    raise AssertionError([engine.armed(i) for i in range(orders)])


def idle(engine: Engine, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        engine.poll(1_000_000)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def engine_of(count: int, options: EngineOptions = PATIENT, signed: bool = True) -> Engine:
    """A deposit of exactly i BTC fires order i - 1, which sells i satoshis."""
    engine = Engine(book_of("kraken", "okx"), replace(options, transport=peers.TRANSPORT))
    if signed:
        engine.set_key(SECRET)
    for i in range(1, count + 1):
        spec = OrderSpec("BTCUSDT", "SELL", "MARKET", f"0.{i:08}")
        order = engine.add_order(order_template(spec, API_KEY, 5000, signed=signed))
        engine.add_rule(Rule(("deposit",), None, i * BTC, i * BTC, order))
    return engine


def fire(engine: Engine, raw: bytes) -> list[Fired]:
    engine.rawtx(raw, time.monotonic_ns())
    return [event for event in news(engine) if isinstance(event, Fired)]


def expect_order(peer: Connection, fired: Fired) -> None:
    """The next thing the peer hears is this order, whole, right, and the one that was meant."""
    opcode, message = peer.frame()
    assert opcode == TEXT
    params = order_in(message)
    assert (params["newClientOrderId"], params["timestamp"]) == (
        fired.client_id,
        fired.timestamp_ms,
    )


# ---- at rest -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 17, 64])
def test_in_idle_time_every_order_is_armed(server: Server, count: int) -> None:
    engine = engine_of(count)
    engine.connect(server.address())
    peer = server.connection()
    seen = set()
    for nonce in range(count + 3):
        arm(engine, count)
        order = nonce * 31 % count
        (fired,) = fire(engine, payment((order + 1) * BTC, nonce))
        assert (fired.order, fired.armed, fired.refusal, fired.error) == (order, True, None, None)
        assert not set(fired.stage_ns) & MADE_AHEAD
        assert {"risk", "journal", "send", "fire_total"} <= set(fired.stage_ns)
        params = order_in(peer.frame()[1])
        assert params["quantity"] == f"0.{order + 1:08}"
        assert params["newClientOrderId"] == fired.client_id
        seen.add(fired.client_id)
    assert len(seen) == count + 3
    assert engine.stats()["orders_armed"] == count + 3


def test_without_idle_time_an_order_is_made_on_the_spot(wire: Rig) -> None:
    fired = wire.deposit(1)
    assert not fired.armed
    assert set(fired.stage_ns) >= MADE_AHEAD
    expect_order(wire.peer, fired)
    arm(wire.engine)
    for nonce, armed in ((2, True), (3, False)):
        fired = wire.deposit(nonce)
        assert fired.armed == armed
        assert (not set(fired.stage_ns) & MADE_AHEAD) == armed
        expect_order(wire.peer, fired)


def test_the_intent_tells_whether_it_was_armed(wire: Rig) -> None:
    arm(wire.engine)
    for nonce in (1, 2):
        wire.engine.rawtx(deposit("kraken", nonce), 0)
    intents = [event for event in wire.engine.events() if isinstance(event, Intent)]
    assert [(intent.armed, intent.live) for intent in intents] == [(True, True), (False, True)]


def test_orders_without_a_signature_are_armed_as_well(server: Server) -> None:
    """As after session.logon."""
    engine = engine_of(3, signed=False)
    engine.connect(server.address())
    peer = server.connection()
    arm(engine, 3)
    (fired,) = fire(engine, payment(2 * BTC, 1))
    assert fired.armed
    message = peer.frame()[1]
    assert b"signature" not in message
    assert b"apiKey" not in message
    assert fired.client_id.encode() in message


@pytest.mark.parametrize("what", ["no session", "held", "no key"])
def test_what_cannot_leave_is_not_armed(server: Server, what: str) -> None:
    engine = Engine(book_of("kraken"), replace(PATIENT, transport=peers.TRANSPORT))
    if what != "no key":
        engine.set_key(SECRET)
    engine.add_order(order_template(SELL, API_KEY, 5000))
    if what != "no key":
        engine.add_rule(Rule(("deposit",), None, 1, None, 0))
    if what != "no session":
        engine.connect(server.address())
    engine.hold(what == "held")
    idle(engine, 0.05)
    assert [engine.armed(order) for order in (-1, 0, 1)] == [False] * 3


# ---- the timestamp -------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 64])
def test_a_waiting_order_s_timestamp_is_renewed(server: Server, count: int) -> None:
    engine = engine_of(count, replace(PATIENT, rearm_ns=50_000_000))
    engine.connect(server.address())
    peer = server.connection()
    for nonce in range(3):
        idle(engine, 0.4)
        arm(engine, count)
        before_ms = now_ms()
        (fired,) = fire(engine, payment(count * BTC, nonce))
        assert fired.armed
        assert before_ms - 2 * 50 <= fired.timestamp_ms <= now_ms()
        expect_order(peer, fired)


def test_what_was_left_alone_too_long_is_made_anew(server: Server) -> None:
    with rig(server, replace(PATIENT, rearm_ns=10_000_000)) as wire:
        arm(wire.engine)
        time.sleep(0.3)
        assert not wire.engine.armed(0)
        before_ms = now_ms()
        fired = wire.deposit(1)
        assert not fired.armed
        assert fired.timestamp_ms >= before_ms
        expect_order(wire.peer, fired)


def test_the_clock_offset_holds_from_the_very_next_order_on(server: Server) -> None:
    with rig(server, replace(PATIENT, rearm_ns=5_000_000_000)) as wire:
        for nonce, offset_ms in enumerate((30_000, -30_000, 0, 1)):
            arm(wire.engine)
            wire.engine.set_clock_offset(offset_ms)
            assert not wire.engine.armed(0)
            for armed in (False, True):
                before_ms = now_ms()
                fired = wire.deposit(10 * nonce + armed)
                assert fired.armed == armed
                assert before_ms - 1_000 <= fired.timestamp_ms - offset_ms <= now_ms() + 1
                expect_order(wire.peer, fired)
                arm(wire.engine)


def test_the_same_clock_offset_again_disarms_nothing(wire: Rig) -> None:
    wire.engine.set_clock_offset(250)
    arm(wire.engine)
    wire.engine.set_clock_offset(250)
    assert wire.engine.armed(0)


# ---- something comes between ---------------------------------------------------------------------


@pytest.mark.parametrize("between", ["ping", "text", "order", "hold"])
def test_whatever_comes_between_the_order_is_right(server: Server, between: str) -> None:
    engine = engine_of(2)
    engine.connect(server.address())
    peer = server.connection()
    for nonce in range(20):
        arm(engine, 2)
        if between == "ping":
            peer.send(frame(FIN | PING, b"?"))
            while engine.stats()["pings_answered"] == nonce:
                engine.poll(10_000_000)
            assert peer.frame() == (PONG, b"?")
        elif between == "text":
            engine.send_text(b"a text")
            assert peer.frame() == (TEXT, b"a text")
        elif between == "order":
            (other,) = fire(engine, payment(2 * BTC, 1000 + nonce))
            assert other.armed
            expect_order(peer, other)
        else:
            engine.hold(True)
            (held,) = fire(engine, payment(BTC, 1000 + nonce))
            assert held.refusal == "not-ready"
            engine.hold(False)
        if nonce % 2:
            arm(engine, 2)
        (fired,) = fire(engine, payment(BTC, nonce))
        assert fired.armed or not nonce % 2
        expect_order(peer, fired)


def test_two_signals_of_one_transaction_fire_one_order_twice(wire: Rig) -> None:
    arm(wire.engine)
    raw = transaction({wallet("kraken"): BTC, wallet("okx"): BTC}, 1)
    first, second = fire(wire.engine, raw)
    assert (first.exchange, second.exchange) == ("kraken", "okx")
    assert (first.armed, second.armed) == (True, False)
    assert first.client_id != second.client_id
    expect_order(wire.peer, first)
    expect_order(wire.peer, second)
    assert wire.peer.is_silent(0.05)


def test_a_kill_between_arming_and_trigger_sends_nothing(wire: Rig) -> None:
    arm(wire.engine)
    wire.engine.kill()
    fired = wire.deposit(1)
    assert (fired.refusal, fired.client_id, fired.sent_ns) == ("killed", "", 0)
    for _ in range(50):
        wire.engine.poll()
    assert wire.peer.is_silent()
    wire.engine.send_text(b"the sequence is whole")
    assert wire.peer.frame() == (TEXT, b"the sequence is whole")


def test_a_session_that_is_lost_takes_its_armed_orders_along(server: Server) -> None:
    engine = engine_of(3)
    for nonce in range(3):
        engine.connect(server.address())
        peer = server.connection()
        arm(engine, 3)
        if nonce == 1:
            engine.close()
        else:
            peer.reset()
            while engine.ready:
                engine.poll(10_000_000)
        assert [engine.armed(i) for i in range(3)] == [False] * 3
        (fired,) = fire(engine, payment(BTC, 100 + nonce))
        assert (fired.refusal, fired.client_id) == ("not-ready", "")
        engine.connect(server.address())
        peer = server.connection()
        assert not engine.armed(0)
        if nonce:
            arm(engine, 3)
        (fired,) = fire(engine, payment(BTC, nonce))
        assert fired.armed == bool(nonce)
        expect_order(peer, fired)


def test_a_dry_run_is_armed_and_sends_nothing(server: Server) -> None:
    engine = engine_of(3, replace(PATIENT, live=False))
    engine.connect(server.address())
    peer = server.connection()
    ids = set()
    for nonce in range(30):
        if nonce % 3:
            arm(engine, 3)
        (fired,) = fire(engine, payment((nonce % 3 + 1) * BTC, nonce))
        assert (fired.dry_run, fired.armed, fired.sent_ns) == (True, bool(nonce % 3), 0)
        assert ("seal" in fired.stage_ns) == (not fired.armed)
        assert "send" not in fired.stage_ns
        ids.add(fired.client_id)
        if nonce % 10 == 9:
            assert peer.is_silent(0.05)
            engine.send_text(b"%d" % nonce)
            assert peer.frame() == (TEXT, b"%d" % nonce)
    assert len(ids) == 30
    assert engine.stats()["orders_armed"] == 20


# ---- TLS 1.2 -------------------------------------------------------------------------------------


@pytest.fixture
def old(files: CertificateFiles) -> Iterator[OldServer]:
    server = OldServer(files)
    yield server
    server.stop()


@pytest.mark.parametrize("live", [True, False])
def test_tls_1_2_takes_the_ordinary_path(old: OldServer, live: bool) -> None:
    engine = engine_of(2, replace(PATIENT, live=live))
    engine.connect(old.address())
    peer = old.connection()
    assert "TLSv1.2" in engine.transport()
    for nonce in range(10):
        idle(engine, 0.01)
        assert not engine.armed(0)
        (fired,) = fire(engine, payment((nonce % 2 + 1) * BTC, nonce))
        assert (fired.armed, fired.refusal, fired.error) == (False, None, None)
        assert "seal" in fired.stage_ns
        if live:
            expect_order(peer, fired)
    engine.send_text(b"still whole")
    assert peer.frame() == (TEXT, b"still whole")


def test_a_connection_that_cannot_does_not_spoil_the_next(old: OldServer, server: Server) -> None:
    engine = engine_of(2)
    for nonce, (venue, armed) in enumerate([(server, 1), (old, 0), (server, 1), (old, 0)]):
        engine.connect(venue.address())
        peer = venue.connection()
        if armed:
            arm(engine, 2)
        else:
            idle(engine, 0.02)
        (fired,) = fire(engine, payment(BTC, nonce))
        assert fired.armed == bool(armed)
        expect_order(peer, fired)


# ---- in any order --------------------------------------------------------------------------------


class Play:
    """A session in which anything happens at any time. Python's `ssl` is the peer: a record that
    comes twice, or with a number that was used, it cannot open."""

    ORDERS = 3
    MOVES = 1500

    def __init__(self, server: UpdatingServer, seed: int, live: bool) -> None:
        self.random = random.Random(seed)
        options = replace(PATIENT, live=live, rearm_ns=2_000_000)  # so that they are renewed often
        self.engine = engine_of(self.ORDERS, options)
        self.engine.connect(server.address())
        self.peer = server.connection()
        self.venue = Updating(self.peer, server.key_log, self.engine.transport().split(", ")[-1])
        self.live = live
        self.expected: list[bytes] = []  # client ids and texts, in the order in which they left
        self.pings: list[bytes] = []
        self.fired: list[Fired] = []
        self.nonce = 0
        self.told: list[bytes] = []  # by the venue
        self.messages: list[bytes] = []
        self.heard: list[bytes] = []
        self.pongs: list[bytes] = []

    def take(self, outputs: dict[bytes, int]) -> list[Fired]:
        """A transaction that nothing else has in common with: what becomes of its orders."""
        self.nonce += 1
        self.engine.rawtx(transaction(outputs, self.nonce), time.monotonic_ns())
        return self.news()

    def news(self) -> list[Fired]:
        events = news(self.engine)
        assert not [event for event in events if isinstance(event, Closed)], events
        self.messages += [event.text for event in events if isinstance(event, Message)]
        return [event for event in events if isinstance(event, Fired)]

    def fire(self) -> None:
        outputs = {wallet("kraken"): self.random.randint(1, self.ORDERS) * BTC}
        if self.random.random() < 0.2:
            outputs[wallet("okx")] = self.random.randint(1, self.ORDERS) * BTC
        fired = self.take(outputs)
        assert len(fired) == len(outputs)
        assert {(f.refusal, f.error) for f in fired} == {(None, None)}
        self.fired += fired
        if self.live:
            self.expected += [f.client_id.encode() for f in fired]

    def poll(self) -> None:
        for _ in range(self.random.randint(1, 12)):
            self.engine.poll()

    def ping(self) -> None:
        self.pings.append(b"ping %d" % len(self.pings))
        self.venue.send(frame(FIN | PING, self.pings[-1]))

    def tell(self) -> None:
        self.told.append(b"told %d" % len(self.told))
        self.venue.send(text(self.told[-1]))

    def say(self) -> None:
        words = b"said %d" % len(self.expected)
        self.expected.append(words)
        self.engine.send_text(words)

    def update_key(self) -> None:
        self.venue.update_key(requested=self.random.random() < 0.7)

    def turn_clock(self) -> None:
        self.engine.set_clock_offset(self.random.randint(-3, 3))

    def hold(self) -> None:
        self.engine.hold(True)
        (held,) = self.take({wallet("kraken"): BTC})
        assert held.refusal == "not-ready"
        self.engine.hold(False)

    def listen(self) -> None:
        """Everything that the peer should have heard by now."""
        while len(self.heard) < len(self.expected):
            self.hear()
        assert self.heard == self.expected

    def hear(self) -> None:
        opcode, payload = self.peer.frame()
        if opcode == PONG:
            self.pongs.append(payload)
        elif payload.startswith(b"said"):
            self.heard.append(payload)
        else:
            self.heard.append(order_in(payload)["newClientOrderId"].encode())

    def play(self) -> None:
        moves = [self.poll] * 8 + [self.fire] * 6 + [self.ping, self.tell, self.say] * 2
        moves += [self.update_key, self.turn_clock, self.hold]
        for number in range(self.MOVES):
            self.random.choice(moves)()
            assert not self.news()
            if number % 50 == 0:
                self.listen()
        self.ping()
        self.tell()
        deadline = time.monotonic() + PATIENCE_S
        while self.messages[-1] != self.told[-1]:
            self.engine.poll(1_000_000)
            assert not self.news()
            assert time.monotonic() < deadline
        self.listen()
        while self.pongs[-1] != self.pings[-1]:
            self.hear()
        assert self.messages == self.told
        assert self.pongs == [ping for ping in self.pings if ping in self.pongs]
        assert len({f.client_id for f in self.fired}) == len(self.fired) > self.MOVES / 5
        armed = sum(f.armed for f in self.fired)
        assert len(self.fired) / 10 < armed < len(self.fired) * 9 / 10, "of both kinds enough"
        assert self.engine.stats()["records_lost"] == 0


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("live", [True, False])
def test_thousands_of_things_in_any_order(
    files: CertificateFiles, tmp_path: Path, seed: int, live: bool
) -> None:
    server = UpdatingServer(files, tmp_path / "keys")
    try:
        Play(server, seed, live).play()
    finally:
        server.stop()


@pytest.mark.parametrize("requested", [True, False])
def test_a_new_key_leaves_nothing_of_the_old_one(
    files: CertificateFiles, tmp_path: Path, requested: bool
) -> None:
    server = UpdatingServer(files, tmp_path / "keys")
    try:
        engine = engine_of(4)
        engine.connect(server.address())
        peer = server.connection()
        venue = Updating(peer, server.key_log, engine.transport().split(", ")[-1])
        for nonce in range(20):
            arm(engine, 4)
            venue.update_key(requested)
            if nonce % 4 == 0:  # the order leaves before the engine knows of it
                (fired,) = fire(engine, payment(BTC, 100 + nonce))
                assert fired.armed
                expect_order(peer, fired)
            venue.send(text(b"read this"))
            while not [e for e in news(engine) if isinstance(e, Message)]:
                engine.poll(10_000_000)
            if nonce % 2:
                arm(engine, 4)
            (fired,) = fire(engine, payment((nonce % 4 + 1) * BTC, nonce))
            assert fired.refusal is None
            assert fired.armed or not nonce % 2
            expect_order(peer, fired)
    finally:
        server.stop()
