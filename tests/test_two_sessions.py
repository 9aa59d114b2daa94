"""Two sessions with the venue in one engine: what is armed where, which of them gets an order, and
that one which dies, hangs or talks nonsense does not keep the other from trading."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from engine import core
from engine._native import lib
from engine.core import Engine, EngineOptions, VenueAddress
from engine.errors import VenueError
from engine.records import Body, Closed, Command, Fired, Intent, Message, Opened, Terms
from engine.sim.authority import CertificateFiles

from .hot import OldServer, Updating, UpdatingServer, order_in, running
from .peers import (
    CLOSE,
    FIN,
    PATIENCE_S,
    PATIENT,
    PING,
    PONG,
    SELL,
    TEXT,
    Connection,
    Server,
    close,
    deposit,
    engine_for,
    frame,
    serving,
    text,
)

LEAST_ORDER_BYTES = 300
MADE_AHEAD = {"build", "sign", "frame", "seal"}

pytestmark = pytest.mark.usefixtures("each_transport")


class Desk:
    """An engine in single steps, and a server for each of its sessions."""

    def __init__(self, servers: tuple[Server, ...], options: EngineOptions = PATIENT) -> None:
        self.engine: Engine = engine_for(options, SELL)
        self.servers = servers
        self.events: list[Body] = []
        self.nonce = 0

    def read(self) -> None:
        self.events += self.engine.events()

    def until(self, happened: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not happened():
            assert time.monotonic() < deadline, self.events[-10:]
            self.engine.poll(1_000_000)
            self.read()

    def count(self, kind: type[Body], session: int) -> int:
        return sum(isinstance(e, kind) and getattr(e, "session", 0) == session for e in self.events)

    def open(self, session: int) -> Connection:
        """Open, and taking orders."""
        before = self.count(Opened, session)
        self.engine.command_connect(self.servers[session].address(), session)
        self.until(lambda: self.count(Opened, session) > before)
        self.engine.command_hold(False, session)
        self.engine.poll()
        return self.servers[session].connection()

    def arm(self) -> None:
        """On every session that takes orders."""
        self.until(lambda: self.engine.armed(0))

    def fire(self) -> Fired:
        self.nonce += 1
        self.read()
        before = len(self.events)
        self.engine.rawtx(deposit("kraken", self.nonce), time.monotonic_ns())
        self.read()
        (fired,) = [e for e in self.events[before:] if isinstance(e, Fired)]
        return fired

    def exit(self, text: bytes, client_id: str) -> Fired:
        before = len(self.events)
        terms = Terms(1, 0, market=0, is_sell=True)
        self.engine.command_order(text, terms, client_id, 7, reduces=True)
        self.until(lambda: any(isinstance(e, Fired) for e in self.events[before:]))
        (fired,) = [e for e in self.events[before:] if isinstance(e, Fired)]
        return fired


def expect_order(peer: Connection, fired: Fired) -> None:
    opcode, message = peer.frame()
    assert opcode == TEXT
    params = order_in(message)
    assert params["newClientOrderId"] == fired.client_id
    assert params["timestamp"] == fired.timestamp_ms


@pytest.fixture
def desk(server: Server, files: CertificateFiles) -> Iterator[Desk]:
    with serving(files) as other:
        yield Desk((server, other))


@pytest.fixture
def pair(desk: Desk) -> tuple[Desk, Connection, Connection]:
    return desk, desk.open(0), desk.open(1)


Pair = tuple[Desk, Connection, Connection]


# ---- which session -------------------------------------------------------------------------------


def test_both_are_armed_and_the_preferred_one_gets_the_order(pair: Pair) -> None:
    desk, *peers = pair
    for session in (0, 1, 0, 1, 1):
        desk.engine.command_prefer(session)
        desk.engine.poll()
        desk.arm()
        assert desk.engine.armed(0, 0)
        assert desk.engine.armed(0, 1)
        fired = desk.fire()
        assert (fired.session, fired.armed, fired.error) == (session, True, None)
        assert not set(fired.stage_ns) & MADE_AHEAD
        expect_order(peers[session], fired)
        assert not desk.engine.armed(0, 0), "the other's record of this order is spoiled"
        assert not desk.engine.armed(0, 1)
    assert all(peer.is_silent(0.05) for peer in peers)


def test_a_held_session_leaves_its_orders_to_the_other(pair: Pair) -> None:
    desk, first, second = pair
    desk.engine.command_hold(True, 0)
    desk.engine.poll()
    desk.arm()
    assert not desk.engine.armed(0, 0)
    fired = desk.fire()
    assert (fired.session, fired.armed) == (1, True)
    expect_order(second, fired)
    desk.engine.command_hold(True)
    desk.engine.poll()
    assert desk.fire().refusal == "not-ready"
    desk.engine.command_hold(False, 0)  # of the session; all are held still
    desk.engine.poll()
    assert desk.fire().refusal == "not-ready"
    desk.engine.command_hold(False)
    desk.engine.poll()
    fired = desk.fire()
    assert fired.session == 0
    expect_order(first, fired)


def test_a_session_that_is_held_no_longer_is_armed_at_once(
    server: Server, files: CertificateFiles
) -> None:
    """What it was armed with before is still there, but too old; the other's is renewed."""
    rearm_s = 0.2
    with serving(files) as other:
        desk = Desk((server, other), replace(PATIENT, rearm_ns=int(rearm_s * 1e9)))
        desk.open(0)
        desk.open(1)
        desk.arm()
        desk.engine.command_hold(True, 0)
        too_old = time.monotonic() + 2.2 * rearm_s
        desk.until(lambda: time.monotonic() > too_old and desk.engine.armed(0, 1))
        desk.engine.command_hold(False, 0)
        for _ in range(20):
            desk.engine.poll()
        assert desk.engine.armed(0, 0)


def test_a_new_connection_is_held(desk: Desk) -> None:
    desk.open(0)
    before = desk.count(Opened, 1)
    desk.engine.command_connect(desk.servers[1].address(), 1)
    desk.until(lambda: desk.count(Opened, 1) > before)
    desk.engine.command_hold(True, 0)
    desk.engine.poll()
    assert desk.fire().refusal == "not-ready"


def test_texts_and_messages_say_their_session(pair: Pair) -> None:
    desk, *peers = pair
    for session, peer in enumerate(peers):
        desk.engine.command_text(b"to %d" % session, session)
        peer.send(text(b"from %d" % session))
    desk.until(lambda: desk.count(Message, 0) and desk.count(Message, 1))
    desk.until(
        lambda: sum(isinstance(e, Command) and e.command == "text" for e in desk.events) == 2
    )
    for session, peer in enumerate(peers):
        assert peer.frame() == (TEXT, b"to %d" % session)
        assert Message(b"from %d" % session, session) in desk.events


def test_what_is_no_session_is_refused(desk: Desk) -> None:
    for session in (-2, 2, 1000):
        desk.engine.command_text(b"nobody", session)
        desk.engine.command_hold(True, session)
        desk.engine.command_prefer(session)
        desk.engine.command_close(session)
    desk.until(lambda: sum(isinstance(e, Command) for e in desk.events) == 12)
    commands = [e for e in desk.events if isinstance(e, Command)]
    assert {command.error for command in commands} == {"an argument makes no sense"}


# ---- one of them ends ----------------------------------------------------------------------------


def test_takeover_with_no_moment_unarmed(desk: Desk) -> None:
    """Session 1 opens; 0 dies at any moment; the next order leaves on 1, armed, and only there."""
    chance = random.Random(5)
    for turn in range(12):
        first, second = desk.open(0), desk.open(1)
        desk.engine.command_prefer(0)
        desk.engine.poll()
        desk.arm()
        first.reset() if turn % 2 else first.sock.shutdown(socket.SHUT_RDWR)
        for _ in range(chance.choice((0, 0, 1, 2, 5))):
            desk.engine.poll()
        if turn % 2 == 0:
            desk.until(lambda turn=turn: desk.count(Closed, 0) > turn)
        desk.until(lambda: desk.engine.armed(0, 1))
        fired = desk.fire()
        assert (fired.session, fired.armed, fired.error) == (1, True, None)
        expect_order(second, fired)
        desk.until(lambda turn=turn: desk.count(Closed, 0) > turn)
        desk.engine.command_close(1)
        second.send(close(1000))
        desk.until(lambda turn=turn: desk.count(Closed, 1) > turn)


def test_what_a_dead_session_cannot_send_the_other_does_in_the_same_call(pair: Pair) -> None:
    """The engine does not know yet of the reset: send(2) tells it that nothing has left."""
    desk, first, second = pair
    desk.arm()
    first.reset()
    time.sleep(0.05)
    fired = desk.fire()
    assert (fired.session, fired.armed, fired.error, fired.refusal) == (1, True, None, None)
    expect_order(second, fired)
    (intent,) = [e for e in desk.events if isinstance(e, Intent)]
    assert intent.client_id == fired.client_id
    desk.until(lambda: desk.count(Closed, 0))


def test_the_same_order_is_made_again_for_a_session_that_has_no_record_of_it(
    server: Server, files: CertificateFiles
) -> None:
    """TLS 1.2 on session 1: the order that was armed on 0 is sealed for it as it is."""
    old = OldServer(files)
    try:
        desk = Desk((server, old))
        first, second = desk.open(0), desk.open(1)
        desk.until(lambda: desk.engine.armed(0, 0))
        first.reset()
        time.sleep(0.05)
        fired = desk.fire()
        assert (fired.session, fired.armed, fired.error) == (1, False, None)
        expect_order(second, fired)
        assert [e.client_id for e in desk.events if isinstance(e, Intent)] == [fired.client_id]
    finally:
        old.stop()


def test_an_exit_goes_to_the_other_session_as_an_entry_does(pair: Pair) -> None:
    desk, first, second = pair
    desk.engine.add_market()
    first.reset()
    time.sleep(0.05)
    fired = desk.exit(b'{"id":"hx-1"}', "hx-1")
    assert (fired.session, fired.error, fired.refusal) == (1, None, None)
    assert second.frame() == (TEXT, b'{"id":"hx-1"}')
    assert len([e for e in desk.events if isinstance(e, Intent)]) == 1
    assert second.is_silent(0.05)


def test_when_neither_takes_it_nothing_has_left(pair: Pair) -> None:
    desk, first, second = pair
    desk.arm()
    first.reset()
    second.reset()
    time.sleep(0.05)
    fired = desk.fire()
    assert fired.error
    assert fired.refusal is None
    assert desk.engine.stats()["orders_failed"] == 1
    assert desk.fire().refusal == "not-ready"


# ---- hostile peers: the other session trades on --------------------------------------------------


def trade_on(desk: Desk, peer: Connection, session: int, orders: int = 20) -> None:
    for _ in range(orders):
        desk.engine.poll()
        fired = desk.fire()
        assert (fired.session, fired.error, fired.refusal) == (session, None, None)
        expect_order(peer, fired)


def test_a_message_of_16_mib_ends_its_session_only(pair: Pair) -> None:
    desk, first, second = pair

    def pour() -> None:
        with suppress(OSError):
            first.send(text(bytes(16 << 20)))

    pourer = threading.Thread(target=pour)
    pourer.start()
    desk.until(lambda: desk.count(Closed, 0))
    pourer.join()
    (closed,) = [e for e in desk.events if isinstance(e, Closed)]
    assert (closed.session, closed.code) == (0, lib.HP_EWS_TOO_BIG)
    assert first.frame() == (CLOSE, struct.pack(">H", 1009))
    trade_on(desk, second, 1)


def test_garbage_instead_of_tls_ends_its_session_only(pair: Pair) -> None:
    desk, first, second = pair
    first.sock.sendall(random.Random(1).randbytes(5000))
    desk.until(lambda: desk.count(Closed, 0))
    trade_on(desk, second, 1)


def test_one_byte_at_a_time_does_not_hold_up_the_other(pair: Pair) -> None:
    desk, first, second = pair
    desk.engine.command_prefer(1)
    desk.engine.poll()
    for byte in first.sealed(text(b"slow " * 20)):
        first.sock.sendall(bytes([byte]))
        trade_on(desk, second, 1, orders=1)
    desk.until(lambda: desk.count(Message, 0))
    assert Message(b"slow " * 20, 0) in desk.events


def test_who_stops_reading_is_left_and_the_other_goes_on(
    server: Server, files: CertificateFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "_SEND_TIMEOUT_NS", 2_000_000_000)
    with serving(files, receive_buffer=4096) as deaf:
        desk = Desk((deaf, server))
        desk.open(0)
        second = desk.open(1)
        slowest = 0
        for _ in range(100_000):
            fired = desk.fire()
            slowest = max(slowest, fired.stage_ns["fire_total"])
            assert (fired.error, fired.refusal) == (None, None)
            if fired.session == 1:
                break
        assert fired.session == 1
        expect_order(second, fired)
        assert slowest < 500_000_000, "no order waited for the send's time limit"
        while not desk.count(Closed, 0):
            trade_on(desk, second, 1, orders=1)
        (closed,) = [e for e in desk.events if isinstance(e, Closed)]
        assert closed.code == lib.HP_ETIME_OUT
        trade_on(desk, second, 1)


def test_an_exit_leaves_at_once_or_goes_to_the_other(
    server: Server, files: CertificateFiles
) -> None:
    """Also the first that finds the socket full: in our own buffer it could leave after a kill."""
    with serving(files, receive_buffer=4096) as deaf:
        desk = Desk((deaf, server))
        desk.open(0)
        second = desk.open(1)
        desk.engine.add_market()
        for number in range(100_000):
            sent_before = desk.engine.stats()["bytes_sent"]
            text = (b"%d" % number).ljust(2000)
            fired = desk.exit(text, f"hx-{number}")
            assert (fired.error, fired.refusal) == (None, None)
            assert desk.engine.stats()["bytes_sent"] > sent_before + len(text)
            if fired.session == 1:
                break
        assert second.frame() == (TEXT, text)
        assert second.is_silent(0.05)


def test_without_sealing_ahead_an_entry_leaves_at_once_or_goes_to_the_other(
    server: Server, files: CertificateFiles
) -> None:
    deaf = OldServer(files, receive_buffer=4096)
    try:
        desk = Desk((deaf, server))
        desk.open(0)
        second = desk.open(1)
        for _ in range(100_000):
            sent_before = desk.engine.stats()["bytes_sent"]
            fired = desk.fire()
            assert (fired.error, fired.refusal) == (None, None)
            assert desk.engine.stats()["bytes_sent"] > sent_before + LEAST_ORDER_BYTES
            if fired.session == 1:
                break
        expect_order(second, fired)
        assert second.is_silent(0.05)
    finally:
        deaf.stop()


def test_an_exit_that_finds_no_room_anywhere_is_refused_before_its_intent(
    files: CertificateFiles,
) -> None:
    with serving(files, receive_buffer=4096) as deaf:
        desk = Desk((deaf,))
        desk.open(0)
        desk.engine.add_market()
        for number in range(100_000):
            fired = desk.exit(b"x" * 2000, f"hx-{number}")
            assert fired.error is None
            if fired.refusal:
                break
        assert fired.refusal == "not-ready"
        intents = [each.client_id for each in desk.events if isinstance(each, Intent)]
        assert intents[-1] == f"hx-{number - 1}"


def test_without_sealing_ahead_an_entry_that_finds_no_room_is_refused_before_its_intent(
    files: CertificateFiles,
) -> None:
    deaf = OldServer(files, receive_buffer=4096)
    try:
        desk = Desk((deaf,))
        desk.open(0)
        fired = [desk.fire()]
        while not fired[-1].refusal:
            fired.append(desk.fire())
            assert fired[-1].error in (None, "the resource is busy"), fired[-1]
        assert fired[-1].refusal == "not-ready"
        intents = [each for each in desk.events if isinstance(each, Intent)]
        assert len(intents) == len(fired) - 1
    finally:
        deaf.stop()


def test_a_goodbye_that_is_not_answered_holds_nobody_up(pair: Pair) -> None:
    desk, first, second = pair
    desk.engine.command_close(0)
    desk.engine.poll()
    began = time.monotonic()
    assert first.frame()[0] == CLOSE
    trade_on(desk, second, 1)
    assert not desk.count(Closed, 0), "it is still being waited for"
    assert time.monotonic() - began < 0.4, "meanwhile the other has traded"
    first.send(text(b"one more"))
    desk.until(lambda: desk.count(Closed, 0))
    assert Message(b"one more", 0) in desk.events
    assert Closed("we closed the connection", 0, True, 0) in desk.events


def test_connecting_anew_waits_for_the_goodbye_and_then_begins_by_itself(pair: Pair) -> None:
    desk, first, second = pair
    desk.engine.command_connect(desk.servers[0].address(), 0)
    desk.engine.command_connect(desk.servers[0].address(), 0)
    for _ in range(3):
        desk.engine.poll()
    assert first.frame()[0] == CLOSE
    trade_on(desk, second, 1)
    first.send(text(b"late") + close(1000))
    desk.until(lambda: desk.count(Opened, 0) == 2)
    assert [e for e in desk.events if isinstance(e, (Closed, Opened)) and e.session == 0][1:] == [
        Closed("we closed the connection", 0, True, 0),
        Opened(desk.engine.transport().split(", ")[-1], 0),
    ]
    assert "it is busy" in [e.error for e in desk.events if isinstance(e, Command)]


@pytest.mark.parametrize("what", ["silent", "handshake"])
def test_an_opening_that_hangs_holds_nobody_up(
    server: Server, files: CertificateFiles, what: str
) -> None:
    def hang(connection: Connection) -> None:
        if what == "handshake":
            connection.sock.sendall(b"\x16\x03\x03\x40\x00")

    with serving(files, hang) as silent:
        desk = Desk((server, silent))
        first = desk.open(0)
        desk.engine.command_connect(silent.address(timeout_s=0.4), 1)
        desk.engine.poll()
        trade_on(desk, first, 0)
        desk.until(lambda: desk.count(Closed, 1))
        trade_on(desk, first, 0)


def test_an_unusable_ca_file_is_the_call_s_own_error(desk: Desk, tmp_path: Path) -> None:
    address: VenueAddress = replace(desk.servers[1].address(), ca_file=tmp_path / "none.pem")
    with pytest.raises(VenueError, match=r"none\.pem: the CA file .*venue\.ca_file"):
        desk.engine.command_connect(address, 1)


def test_openings_that_nobody_takes_are_freed(desk: Desk) -> None:
    """Under the leak checker of `make asan`'s C programs, and here for its crashes."""
    for _ in range(5):
        desk.engine.command_connect(desk.servers[1].address(), 1)
    desk.engine.abort()
    del desk.engine


# ---- on its own thread ---------------------------------------------------------------------------


@pytest.mark.parametrize("spin", [True, False])
def test_the_hot_thread_takes_over(server: Server, files: CertificateFiles, spin: bool) -> None:
    with (
        serving(files) as other,
        running(engine_for(replace(PATIENT, spin=spin), SELL)) as hot,
    ):
        first = hot.connect(server)
        fired = hot.fire(deposit("kraken", 1))
        expect_order(first, fired)
        second = hot.connect(other, session=1)
        hot.engine.command_prefer(1)
        hot.until(lambda: [c for c in hot.all(Command) if c.command == "prefer"])
        fired = hot.fire(deposit("kraken", 2))
        assert fired.session == 1
        expect_order(second, fired)
        second.reset()
        hot.until(lambda: hot.all(Closed))
        fired = hot.fire(deposit("kraken", 3))
        assert (fired.session, fired.refusal) == (0, None)
        expect_order(first, fired)
        hot.engine.command_close(0)
        assert first.frame()[0] == CLOSE
        hot.until(lambda: len(hot.all(Closed)) == 2)
        hot.stop()


# ---- in any order --------------------------------------------------------------------------------


class Wire:
    """The server's end of one session, and what it has heard: Python's `ssl` opens no record twice,
    and none out of sequence."""

    def __init__(self, server: UpdatingServer) -> None:
        self.server = server
        self.peer: Connection | None = None
        self.venue: Updating | None = None
        self.orders: list[str] = []
        self.texts: list[bytes] = []

    def hear(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT and payload.startswith(b"said"):
            self.texts.append(payload)
        elif opcode == TEXT:
            self.orders.append(order_in(payload)["newClientOrderId"])
        else:
            assert opcode in (PONG, CLOSE)

    def drain(self) -> None:
        """All that has come by now."""
        assert self.peer
        self.peer.sock.settimeout(0.02)
        with suppress(TimeoutError, EOFError, OSError):
            while True:
                self.hear(*self.peer.frame())
        self.peer.sock.settimeout(PATIENCE_S)


class Play:
    MOVES = 500

    def __init__(self, servers: tuple[UpdatingServer, UpdatingServer], seed: int) -> None:
        self.random = random.Random(seed)
        self.desk = Desk(servers, replace(PATIENT, rearm_ns=2_000_000))
        self.wires = [Wire(server) for server in servers]
        self.fired: list[Fired] = []
        self.texts = 0
        for session in (0, 1):
            self.reopen(session)

    def reopen(self, session: int) -> None:
        wire, desk = self.wires[session], self.desk
        if wire.peer:
            wire.drain()
            self.end(session)
        wire.server.key_log.write_bytes(b"")  # of the connection before
        wire.peer = desk.open(session)
        cipher = next(
            e.cipher
            for e in reversed(desk.events)
            if isinstance(e, Opened) and e.session == session
        )
        wire.venue = Updating(wire.peer, wire.server.key_log, cipher)

    def end(self, session: int) -> None:
        wire, desk = self.wires[session], self.desk
        assert wire.peer
        before = desk.count(Closed, session)
        how = self.random.randrange(3)
        if how == 0:
            desk.engine.command_close(session)
            for _ in range(self.random.randrange(4)):
                desk.engine.poll()
            with suppress(OSError):
                wire.peer.sock.shutdown(socket.SHUT_WR)
        elif how == 1:
            wire.peer.sock.shutdown(socket.SHUT_WR)
        else:
            self.fire()
            wire.drain()
            wire.peer.reset()
            self.fire()  # perhaps nobody knows yet
        desk.until(lambda: desk.count(Closed, session) > before)
        if how != 2:
            wire.drain()
            wire.peer.sock.close()

    def fire(self) -> None:
        self.fired.append(self.desk.fire())

    def poll(self) -> None:
        for _ in range(self.random.randint(1, 10)):
            self.desk.engine.poll()
        self.desk.read()

    def some(self) -> int:
        return self.random.randrange(2)

    def ping(self) -> None:
        venue = self.wires[self.some()].venue
        assert venue
        venue.send(frame(FIN | PING, b"?"))

    def say(self) -> None:
        self.texts += 1
        self.desk.engine.command_text(b"said %d" % self.texts, self.some())

    def update_key(self) -> None:
        venue = self.wires[self.some()].venue
        assert venue
        venue.update_key(requested=self.random.random() < 0.7)

    def prefer(self) -> None:
        self.desk.engine.command_prefer(self.some())

    def hold(self) -> None:
        self.desk.engine.command_hold(self.random.random() < 0.3, self.some())

    def play(self) -> None:
        moves = [self.poll] * 8 + [self.fire] * 6 + [self.ping, self.say, self.prefer] * 2
        moves += [self.update_key, self.hold]
        for number in range(1, self.MOVES + 1):
            self.random.choice(moves)()
            if number % 50 == 0:
                self.reopen(self.some())
        for _ in range(50):
            self.desk.engine.poll()
        for wire in self.wires:
            wire.drain()
        self.check()

    def check(self) -> None:
        heard = [client_id for wire in self.wires for client_id in wire.orders]
        assert len(heard) == len(set(heard)), "an order came twice"
        sent = [f for f in self.fired if not f.refusal and not f.error]
        assert set(heard) <= {f.client_id for f in sent}
        for session, wire in enumerate(self.wires):
            expected = [f.client_id for f in sent if f.session == session]
            lost = set(expected) - set(wire.orders)
            assert len(lost) <= 3, "at most what a reset has taken along"
            assert [i for i in expected if i not in lost] == wire.orders
        intents = [e.client_id for e in self.desk.events if isinstance(e, Intent)]
        assert len(intents) == len(set(intents))
        assert {f.client_id for f in sent} <= set(intents)
        assert {f.session for f in sent} == {0, 1}
        assert sum(f.armed for f in sent) > len(sent) / 10


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_hundreds_of_things_in_any_order_over_both(
    files: CertificateFiles, tmp_path: Path, seed: int
) -> None:
    with ExitStack() as servers:
        pair = tuple(UpdatingServer(files, tmp_path / f"keys{n}") for n in (0, 1))
        for server in pair:
            servers.callback(server.stop)
        Play((pair[0], pair[1]), seed).play()
