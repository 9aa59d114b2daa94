"""csrc/session.c and csrc/io.c through engine.core: opening a session, what a server may say in
it, and every way it ends. The server says byte by byte what a test wants (tests/peers.py)."""

from __future__ import annotations

import datetime
import errno
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from engine import core
from engine.core import Engine, EngineOptions
from engine.errors import NativeError, VenueError
from engine.records import Closed, Message
from engine.sim import authority
from engine.sim.authority import CertificateFiles
from tests.peers import (
    BINARY,
    CLOSE,
    FIN,
    PATIENCE_S,
    PING,
    PONG,
    TEXT,
    Connection,
    Rig,
    Server,
    agreement,
    close,
    engine_for,
    frame,
    news,
    rig,
    serving,
    text,
)

pytestmark = pytest.mark.usefixtures("each_transport")

LIMIT = (1 << 20) - 8  # the longest message that engine.core lets a venue send
SHORT_S = 0.3
SEND_S = 2  # to a server that reads nothing, before it is left


# ---- opening: what can go wrong ------------------------------------------------------------------


def answering(answer: Callable[[bytes], bytes]) -> Callable[[Connection], None]:
    """A server whose answer to the upgrade is `answer(request)`."""

    def script(connection: Connection) -> None:
        connection.handshake()
        connection.send(answer(connection.request()))

    return script


def silent(connection: Connection) -> None:
    """Keeps the connection and says nothing."""


def plain_http(connection: Connection) -> None:
    connection.sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def cut_in_handshake(connection: Connection) -> None:
    connection.sock.recv(64)
    connection.sock.shutdown(socket.SHUT_WR)


def silent_after_tls(connection: Connection) -> None:
    connection.handshake()
    connection.request()


def dripping(connection: Connection) -> None:
    """Sends its answer's header one byte at a time and never comes to an end."""
    connection.handshake()
    connection.request()
    for _ in range(1000):
        connection.send(b"H")
        time.sleep(0.01)


def endless_header(_: bytes) -> bytes:
    return b"HTTP/1.1 101 Switching Protocols\r\n" + b"X-Filler: x\r\n" * 3000


def wrong_accept(request: bytes) -> bytes:
    return re.sub(rb"Accept: ....", b"Accept: AAAA", agreement(request))


FAILURES = {
    "silent": (silent, "TLS with localhost port .* did not answer in time.*venue.timeout_s"),
    "plain": (plain_http, "TLS with localhost port .* wrong version number.*TLS \\(wss\\) port"),
    "cut in TLS": (cut_in_handshake, "TLS with localhost port .* closed the connection.*venue.url"),
    "silent after TLS": (
        silent_after_tls,
        "upgrade of localhost port .* did not answer in time.*venue.timeout_s",
    ),
    "dripping": (
        dripping,
        "upgrade of localhost port .*(in time.*venue.timeout_s|not agree.*venue.url)",
    ),
    "403": (
        answering(lambda _: b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
        "upgrade of localhost port .*path /ws-api/v3.*status 403.*the path in venue.url",
    ),
    "endless header": (
        answering(endless_header),
        "upgrade of localhost port .*status 101.*did not agree",
    ),
    "429": (
        answering(lambda _: b"HTTP/1.1 429 Slow Down\r\nRetry-After: 30\r\n\r\nsoon"),
        "upgrade of localhost port .*status 429, retry after 30 s\\)",
    ),
    "not HTTP": (
        answering(lambda _: b"SSH-2.0-OpenSSH_9.2\r\n"),
        "upgrade of localhost port .*did not agree",
    ),
    "wrong accept": (
        answering(wrong_accept),
        "Sec-WebSocket-Accept does not answer our key.*no proxy",
    ),
    "close behind 101": (
        answering(lambda request: agreement(request) + close(1008, b"go away")),
        "closed the WebSocket \\(code 1008\\): go away.*venue.url",
    ),
    "nonsense behind 101": (
        answering(lambda request: agreement(request) + frame(FIN | 0x40 | TEXT, b"?")),
        "breaks the WebSocket protocol.*venue.url",
    ),
}


@pytest.mark.parametrize(("script", "sentence"), FAILURES.values(), ids=FAILURES)
def test_what_a_server_does_wrong_is_named_and_another_attempt_is_free(
    files: CertificateFiles, script: Callable[[Connection], None], sentence: str
) -> None:
    engine = engine_for(EngineOptions(live=True))
    with serving(files, script) as bad, serving(files) as good:
        before = time.monotonic()
        with pytest.raises(VenueError, match=sentence) as error:
            engine.connect(bad.address(timeout_s=SHORT_S))
        assert time.monotonic() - before < SHORT_S + PATIENCE_S
        assert "\n" not in str(error.value)
        assert not engine.ready
        assert news(engine) == [], "a session that never was does not end"
        engine.connect(good.address())
        assert engine.ready
        good.connection().send(text(b"hello"))
        engine.poll(10**9)
        assert [event.text for event in news(engine) if isinstance(event, Message)] == [b"hello"]


def test_a_refused_port_is_named(server: Server) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening
        engine = engine_for(EngineOptions())
        address = replace(server.address(), port=unused.getsockname()[1])
        with pytest.raises(VenueError, match=rf"localhost port {address.port}: .*refused; .*venue"):
            engine.connect(address)
    engine.connect(server.address())


def test_a_host_that_does_not_answer_is_given_up_in_time(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as waiting:
        for _ in range(4):  # Linux drops what comes when the queue is full
            sock = waiting.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        engine = engine_for(EngineOptions())
        address = replace(server.address(timeout_s=SHORT_S), port=full.getsockname()[1])
        before = time.monotonic()
        with pytest.raises(
            VenueError, match=r"connecting to localhost port .* in time; .*timeout_s"
        ):
            engine.connect(address)
        assert time.monotonic() - before < SHORT_S + PATIENCE_S
    engine.connect(server.address())


@pytest.mark.parametrize("host", ["::1", "localhost"])
def test_a_server_on_ipv6(files: CertificateFiles, host: str) -> None:
    requests: list[bytes] = []

    def script(connection: Connection) -> None:
        connection.handshake()
        requests.append(connection.request())
        connection.send(agreement(requests[0]))

    try:
        server = Server(files, script, ip="::1")
    except OSError as error:
        pytest.skip(f"there is no IPv6 loopback here: {error}")
    engine_for(EngineOptions()).connect(server.address(host))
    shown = f"[{host}]" if ":" in host else host
    assert f"\r\nHost: {shown}:{server.port}\r\n".encode() in requests[0]
    server.stop()


def test_a_certificate_of_another_authority_is_refused(server: Server, tmp_path: Path) -> None:
    engine = engine_for(EngineOptions())
    stranger = replace(server.address(), ca_file=authority.issue(tmp_path).ca_file)
    with pytest.raises(VenueError, match=r"localhost port .* certificate .*refused.*\.ca_file"):
        engine.connect(stranger)
    engine.connect(server.address())


def test_a_certificate_for_another_host_is_refused(server: Server) -> None:
    engine = engine_for(EngineOptions())
    with pytest.raises(VenueError, match=r"exchange\.test port .* mismatch; .*venue\.url"):
        engine.connect(server.address(host="exchange.test"))
    engine.connect(server.address())


def test_an_expired_certificate_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authority, "LIFETIME", -datetime.timedelta(seconds=1))
    with (
        serving(authority.issue(tmp_path)) as expired,
        pytest.raises(VenueError, match=r"certificate .*refused.*expired"),
    ):
        engine_for(EngineOptions()).connect(expired.address())


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_an_unusable_ca_file_is_named(
    server: Server, tmp_path: Path, content: bytes | None
) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_bytes(content)
    with pytest.raises(VenueError, match=rf"{ca_file}: the CA file .*venue\.ca_file"):
        engine_for(EngineOptions()).connect(replace(server.address(), ca_file=ca_file))


@contextmanager
def pestered() -> Iterator[None]:
    """This thread gets a signal every few milliseconds."""
    stop, target = threading.Event(), threading.get_ident()

    def pester() -> None:
        while not stop.wait(0.005):
            signal.pthread_kill(target, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    pesterer = threading.Thread(target=pester)
    pesterer.start()
    try:
        yield
    finally:
        stop.set()
        pesterer.join()
        signal.signal(signal.SIGUSR1, before)


def test_signals_do_not_shorten_the_patience_with_a_slow_server(files: CertificateFiles) -> None:
    def slow(connection: Connection) -> None:
        time.sleep(SHORT_S)
        connection.handshake()
        time.sleep(SHORT_S)
        connection.upgrade()

    with pestered(), serving(files, slow) as server, rig(server) as wire:
        wire.peer.send(text(b"hello"))
        assert wire.messages(1) == [b"hello"]


def test_an_answer_in_single_bytes_opens_the_session(files: CertificateFiles) -> None:
    def script(connection: Connection) -> None:
        connection.handshake()
        for byte in connection.sealed(agreement(connection.request()), record=1):
            connection.sock.sendall(bytes([byte]))

    with serving(files, script) as server, rig(server) as wire:
        wire.peer.send(text(b"open"))
        assert wire.messages(1) == [b"open"]


def test_frames_right_behind_the_answer_are_delivered(files: CertificateFiles) -> None:
    behind = text(b"one") + frame(FIN | PING, b"are you there") + text(b"two") + text(b"three")[:3]

    def script(connection: Connection) -> None:
        connection.handshake()
        connection.upgrade(behind)

    with serving(files, script) as server, rig(server) as wire:
        assert wire.peer.frame() == (PONG, b"are you there")
        wire.peer.send(text(b"three")[3:])
        assert wire.messages(3) == [b"one", b"two", b"three"]


# ---- in the session ------------------------------------------------------------------------------


def test_a_message_in_fragments_is_joined(wire: Rig) -> None:
    euro = "€".encode()
    wire.peer.send(frame(TEXT, b"a" + euro[:1]) + frame(0, euro[1:]) + frame(0))
    wire.engine.poll(10**8)
    assert news(wire.engine) == []
    wire.peer.send(frame(FIN, b"b") + text(b"next"))
    assert wire.messages(2) == ["a€b".encode(), b"next"]


def test_empty_messages_and_pongs_are_no_trouble(wire: Rig) -> None:
    wire.peer.send(
        text(b"") + frame(FIN | PONG, b"unasked") + frame(TEXT) + frame(FIN) + text(b"!")
    )
    assert wire.messages(3) == [b"", b"", b"!"]


@pytest.mark.parametrize("size", [125, 126, 65535, 65536, LIMIT])
def test_every_length_of_a_message_comes_through(wire: Rig, size: int) -> None:
    payload = bytes(65 + i % 26 for i in range(size))
    feeder = threading.Thread(target=wire.peer.send, args=(text(payload) + text(b"after"),))
    feeder.start()
    assert wire.messages(2) == [payload, b"after"]
    feeder.join()


def test_a_message_in_tls_records_of_one_byte(wire: Rig) -> None:
    payload = b"0123456789" * 300
    wire.peer.sock.sendall(wire.peer.sealed(text(payload), record=1))
    assert wire.messages(1) == [payload]


def test_a_message_in_tcp_segments_of_one_byte(wire: Rig) -> None:
    data = wire.peer.sealed(frame(TEXT, b"spread ") + frame(FIN | PING, b"p") + frame(FIN, b"thin"))
    for byte in data:
        assert news(wire.engine) == []
        wire.peer.sock.sendall(bytes([byte]))
        wire.engine.poll(10**8)
    assert wire.messages(1) == [b"spread thin"]
    assert wire.peer.frame() == (PONG, b"p")


def test_many_frames_in_one_segment(wire: Rig) -> None:
    wanted = [b"%d" % i for i in range(5000)]
    wire.peer.send(b"".join(text(message) for message in wanted))
    assert wire.messages(len(wanted)) == wanted


@pytest.mark.parametrize("payload", [b"", b"now", bytes(range(125))])
def test_a_ping_is_answered_with_its_payload(wire: Rig, payload: bytes) -> None:
    wire.peer.send(frame(FIN | PING, payload))
    wire.engine.poll(10**9)
    assert wire.peer.frame() == (PONG, payload)
    assert wire.engine.stats()["pings_answered"] == 1


def test_a_ping_between_fragments_is_answered_at_once(wire: Rig) -> None:
    wire.peer.send(frame(TEXT, b"one ") + frame(FIN | PING, b"quick"))
    wire.engine.poll(10**9)
    assert wire.peer.frame() == (PONG, b"quick")
    wire.peer.send(frame(FIN, b"message"))
    assert wire.messages(1) == [b"one message"]


def test_of_a_burst_of_pings_the_latest_is_answered(wire: Rig) -> None:
    """RFC 6455 5.5.3. Thousands of answers would keep the engine from its feed."""
    burst = wire.peer.sealed(b"".join(frame(FIN | PING, b"%d" % i) for i in range(3000)))
    all_bytes = wire.engine.stats()["bytes_received"] + len(burst)
    wire.peer.sock.sendall(burst)
    while wire.engine.stats()["bytes_received"] < all_bytes:
        wire.engine.poll(10**9)
    answers = wire.engine.stats()["pings_answered"]
    pongs = [wire.peer.frame() for _ in range(answers)]
    assert pongs[-1] == (PONG, b"2999")
    assert answers < 30
    assert wire.peer.is_silent()


def test_our_text_arrives_masked_and_whole(wire: Rig) -> None:
    for size in (0, 1, 125, 126, 2000, 8178):
        message = bytes(97 + i % 26 for i in range(size))
        wire.engine.send_text(message)
        assert wire.peer.frame() == (TEXT, message)
    with pytest.raises(NativeError, match="sending to the venue: there is no room left"):
        wire.engine.send_text(bytes(8179))
    assert wire.engine.ready


# ---- giving up -----------------------------------------------------------------------------------


def test_whoever_waits_to_connect_gives_up_when_told_to(files: CertificateFiles) -> None:
    engine = engine_for(EngineOptions())
    with serving(files, silent) as server:
        timer = threading.Timer(0.1, engine.abort)
        timer.start()
        for _ in range(2):  # and does so for ever
            before = time.monotonic()
            with pytest.raises(VenueError, match=r"localhost port .* told to stop"):
                engine.connect(server.address())
            assert time.monotonic() - before < PATIENCE_S
        timer.join()


def test_whoever_waits_for_a_message_gives_up_when_told_to(wire: Rig) -> None:
    timer = threading.Timer(0.1, wire.engine.abort)
    timer.start()
    before = time.monotonic()
    wire.engine.poll(10**10)
    assert time.monotonic() - before < PATIENCE_S
    assert "told to stop" in wire.end()
    timer.join()


# ---- the session ends ----------------------------------------------------------------------------


def test_a_close_is_answered_and_reported_with_code_and_reason(wire: Rig) -> None:
    wire.peer.send(text(b"last words") + close(1001, b"maintenance, back at 8") + text(b"ghost"))
    assert wire.messages_and_end() == (
        [b"last words"],
        "the server closed the WebSocket (code 1001): maintenance, back at 8",
    )
    assert wire.peer.frame() == (CLOSE, b"\x03\xe9")
    with pytest.raises(EOFError):  # which takes a close_notify (RFC 8446 6.1), not only a FIN
        wire.peer.read(1)


def test_a_close_without_a_code(wire: Rig) -> None:
    wire.peer.send(frame(FIN | CLOSE))
    assert wire.end() == "the server closed the WebSocket (code 1000)"
    assert wire.peer.frame()[0] == CLOSE


def test_the_longest_reason_fits_and_cannot_steer_a_terminal(wire: Rig) -> None:
    nasty = "\x1b[31m\r\n\x00\x7f\u009b2J".encode()
    wire.peer.send(close(4999, nasty + "é".encode() + b"z" * (123 - len(nasty) - 2)))
    reason = wire.end()
    assert reason.endswith("é" + "z" * (123 - len(nasty) - 2))
    assert reason.startswith("the server closed the WebSocket (code 4999): ?[31m????")
    assert reason.isprintable()


VIOLATIONS = [
    (text(b"\xff\xfe"), 1007, "not UTF-8"),
    (frame(TEXT, "€".encode()[:2]) + frame(FIN, b"!"), 1007, "not UTF-8"),
    (b"\x81\x82\x00\x00\x00\x00hi", 1002, "breaks the WebSocket protocol"),  # masked
    (frame(FIN | 0x40 | TEXT, b"hi"), 1002, "breaks the WebSocket protocol"),  # reserved bit
    (frame(FIN | 3, b"hi"), 1002, "breaks the WebSocket protocol"),  # unknown opcode
    (frame(FIN, b"tail"), 1002, "breaks the WebSocket protocol"),  # continues nothing
    (frame(TEXT, b"a") + text(b"b"), 1002, "breaks the WebSocket protocol"),
    (frame(PING, b"hi"), 1002, "breaks the WebSocket protocol"),  # a control frame in fragments
    (frame(FIN | PING, b"x" * 126), 1002, "breaks the WebSocket protocol"),
    (frame(FIN | CLOSE, b"\x03"), 1002, "breaks the WebSocket protocol"),
    (close(1005), 1002, "breaks the WebSocket protocol"),
    (close(1000, b"\xff"), 1002, "breaks the WebSocket protocol"),
    (frame(FIN | BINARY, b"hi"), 1003, "a binary message"),
    (text(b"x" * (LIMIT + 1))[:10], 1009, "above the size limit"),  # the length alone is enough
    (b"\x81\x7f" + b"\x80" + bytes(7), 1002, "breaks the WebSocket protocol"),
]


@pytest.mark.parametrize(("data", "code", "sentence"), VIOLATIONS)
def test_a_violation_is_answered_with_its_code(
    wire: Rig, data: bytes, code: int, sentence: str
) -> None:
    wire.peer.send(data)
    assert sentence in wire.end()
    assert wire.peer.frame() == (CLOSE, code.to_bytes(2, "big"))


def test_fragments_that_join_to_too_much_are_refused(wire: Rig) -> None:
    half = b"x" * (LIMIT // 2 + 1)
    feeder = threading.Thread(target=wire.peer.send, args=(frame(TEXT, half) + frame(FIN, half),))
    feeder.start()
    assert "above the size limit" in wire.end()
    feeder.join()
    assert wire.peer.frame() == (CLOSE, (1009).to_bytes(2, "big"))


def test_the_first_cause_is_reported_also_when_the_answer_cannot_be_sent(wire: Rig) -> None:
    wire.peer.send(text(b"\xff"))
    wire.peer.reset()
    assert re.search("not UTF-8|reset", wire.end())


def test_a_reset_is_reported(wire: Rig) -> None:
    wire.peer.reset()
    assert wire.end() == "reading from the venue: the connection was reset"


def test_a_half_closed_connection_is_over(wire: Rig) -> None:
    wire.peer.send(text(b"last"))
    wire.peer.sock.shutdown(socket.SHUT_WR)
    assert wire.messages_and_end() == (
        [b"last"],
        "reading from the venue: the server closed the connection",
    )


def test_the_end_of_tls_is_the_end_of_the_session(wire: Rig) -> None:
    wire.peer.end_tls()
    assert wire.end().startswith("reading from the venue: the server ended the TLS session")


def test_ciphertext_that_was_tampered_with_ends_the_session(wire: Rig) -> None:
    record = bytearray(wire.peer.sealed(text(b"sell everything")))
    record[-1] ^= 1
    wire.peer.sock.sendall(record)
    assert wire.end().startswith("reading from the venue: TLS failed")


def test_we_say_goodbye_and_hear_what_comes_before_the_answer(wire: Rig) -> None:
    said: list[tuple[int, bytes]] = []

    def answer() -> None:
        said.append(wire.peer.frame())
        wire.peer.send(text(b"one more") + close(1000))

    friend = threading.Thread(target=answer)
    friend.start()
    wire.engine.close()
    friend.join()
    assert said == [(CLOSE, b"\x03\xe8")]
    assert wire.messages_and_end() == ([b"one more"], "we closed the connection")
    with pytest.raises(EOFError):
        wire.peer.read(1)


def test_a_goodbye_without_an_answer_takes_no_longer_than_it_should(wire: Rig) -> None:
    before = time.monotonic()
    wire.engine.close()
    assert time.monotonic() - before < 2
    assert news(wire.engine) == [Closed("we closed the connection", 0, True, 0)]
    wire.engine.close()
    assert news(wire.engine) == []


def test_connecting_anew_ends_the_open_session_first(server: Server, wire: Rig) -> None:
    wire.engine.connect(server.address())
    assert news(wire.engine) == [Closed("we closed the connection", 0, True, 0)]
    assert wire.peer.frame()[0] == CLOSE
    server.connection().send(text(b"new"))
    assert wire.messages(1) == [b"new"]


# ---- hostile servers -----------------------------------------------------------------------------


@contextmanager
def flooding(peer: Connection, data: bytes) -> Iterator[None]:
    """The peer says `data` over and over, as fast as it can."""
    stop = threading.Event()

    def pour() -> None:
        with suppress(OSError):
            while not stop.is_set():
                peer.send(data)

    thread = threading.Thread(target=pour)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        with suppress(OSError):
            peer.sock.shutdown(socket.SHUT_RDWR)
        thread.join()


FLOODS = {
    "empty messages": text(b"") * 5000,
    "messages": text(b"x" * 100) * 100,
    "pings": frame(FIN | PING) * 5000,
    "empty fragments": frame(TEXT) + frame(0) * 5000 + frame(FIN),
}


@pytest.mark.parametrize("data", FLOODS.values(), ids=FLOODS)
def test_a_flood_does_not_keep_poll_from_returning_and_loses_nothing(
    wire: Rig, data: bytes
) -> None:
    most = turns = 0
    with flooding(wire.peer, data):
        while turns < 5 or most == 0:
            turns += 1
            before = wire.engine.stats()["bytes_received"]
            wire.engine.poll(10**8)
            most = max(most, wire.engine.stats()["bytes_received"] - before)
            for _ in news(wire.engine):
                pass
            time.sleep(0.02)  # for the flood to rise
    assert 0 < most <= 1 << 20
    assert wire.engine.stats()["records_lost"] == 0


@pytest.fixture
def send_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than a busy machine holds anybody up."""
    monkeypatch.setattr(core, "_SEND_TIMEOUT_NS", SEND_S * 10**9)


def fill(wire: Rig) -> int:
    """Orders until a deaf server's session takes no more: the number of the first that it did
    not."""
    for nonce in range(100_000):
        before = time.monotonic()
        fired = wire.deposit(nonce)
        assert time.monotonic() - before < SEND_S / 2, "an order waits for nobody"
        if fired.refusal or fired.error:
            return nonce
    raise AssertionError("it takes everything")


@pytest.mark.usefixtures("send_limit")
def test_a_deaf_server_takes_orders_until_it_is_full_and_is_left_soon(
    files: CertificateFiles,
) -> None:
    """The last one that it took may have left in part: it counts as sent, its rest waits, and what
    comes of it only the venue can tell."""
    with serving(files, receive_buffer=4096) as server, rig(server) as wire:
        taken = fill(wire)
        assert wire.deposit(taken + 1).refusal == "not-ready"
        assert wire.engine.ready
        with pytest.raises(NativeError, match="not ready"):
            wire.engine.send_text(b"no more")
        assert wire.end() == "sending to the venue: the server did not answer in time"
        stats = wire.engine.stats()
        assert stats["orders_sent"] == taken
        for _ in range(taken - 1):
            assert wire.peer.frame()[0] == TEXT  # what left before is whole
        with suppress(EOFError, OSError):
            assert wire.peer.frame()[0] == TEXT


@pytest.mark.usefixtures("send_limit")
def test_what_waits_for_a_deaf_server_goes_on_when_it_hears_again(files: CertificateFiles) -> None:
    with serving(files, receive_buffer=4096) as server, rig(server) as wire:
        taken = fill(wire)
        wire.peer.send(frame(FIN | PING, b"hear me?"))
        for _ in range(20):
            wire.engine.poll(1_000_000)
        assert wire.engine.stats()["pings_answered"] == 0
        heard: list[tuple[int, bytes]] = []
        reader = threading.Thread(
            target=lambda: heard.extend(wire.peer.frame() for _ in range(taken + 1))
        )
        reader.start()
        while reader.is_alive():
            wire.engine.poll(1_000_000)
        assert [opcode for opcode, _ in heard] == [TEXT] * taken + [PONG]
        assert heard[-1][1] == b"hear me?"
        assert wire.deposit(200_000).refusal is None


def shrink_send_buffer(server: Server) -> None:
    """The engine's socket takes so little at a time that a send comes back in pieces."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError), socket.socket(fileno=os.dup(int(name))) as sock:
            if sock.getpeername()[1] == server.port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)


def sent(engine: Engine, message: bytes) -> bool:
    """Whether the session takes it now."""
    try:
        engine.send_text(message)
    except NativeError as error:
        if error.code != errno.EAGAIN:
            raise
        return False
    return True


def test_what_a_slow_server_takes_in_pieces_arrives_whole(files: CertificateFiles) -> None:
    wanted = [b"%03d" % i * 2700 for i in range(300)]
    received: list[tuple[int, bytes]] = []

    def read_slowly(peer: Connection) -> None:
        time.sleep(0.1)
        received.extend(peer.frame() for _ in wanted)

    with pestered(), serving(files, receive_buffer=4096) as server, rig(server) as wire:
        shrink_send_buffer(server)
        reader = threading.Thread(target=read_slowly, args=(wire.peer,))
        reader.start()
        for message in wanted:
            while not sent(wire.engine, message):
                wire.engine.poll(1_000_000)
        while reader.is_alive():
            wire.engine.poll(1_000_000)
    assert received == [(TEXT, message) for message in wanted]


def test_a_reset_during_an_order_has_an_unknown_outcome(wire: Rig) -> None:
    wire.peer.reset()
    fired = wire.deposit()
    assert fired.error is not None
    assert fired.refusal is None
    assert wire.engine.stats()["orders_failed"] == 1


def test_nothing_of_an_old_connection_reaches_a_new_one(server: Server) -> None:
    """Every time the old one is torn down with a receive in flight and bytes under way, and half of
    the time with a queue so full that its own end has to find room."""
    engine = engine_for(EngineOptions(live=True))
    engine.connect(server.address())
    for turn in range(10):
        peer = server.connection()
        name = b"%d" % turn * 2000
        with flooding(peer, text(name) * 50):
            assert set(Rig(engine, peer).messages(1)) == {name}
            if turn % 2:
                peer.sock.shutdown(socket.SHUT_RDWR)
            engine.connect(server.address())
        events = news(engine)
        assert {event.text for event in events if isinstance(event, Message)} <= {name}
        assert sum(isinstance(event, Closed) for event in events) == 1


# ---- anything at all -----------------------------------------------------------------------------

first_bytes = st.sampled_from([0x81, 0x01, 0x00, 0x80, 0x89, 0x8A]) | st.integers(0, 255)
payloads = st.text(max_size=130).map(str.encode) | st.binary(max_size=130)
streams = st.lists(st.builds(frame, first_bytes, payloads), max_size=12).map(b"".join)


def messages_by_wsproto(data: bytes) -> list[bytes]:
    """The whole text messages in `data` up to its end, a Close or a violation."""
    protocol = FrameProtocol(client=True, extensions=[])
    protocol.receive_bytes(data)
    found, message = [], ""
    with suppress(ParseFailed):
        for part in protocol.received_frames():
            if part.opcode in (Opcode.CLOSE, Opcode.BINARY):
                break
            if part.opcode is Opcode.TEXT:
                message += str(part.payload)
                if part.message_finished:
                    found.append(message.encode())
                    message = ""
    return found


@pytest.fixture(scope="module")
def fuzzed(each_transport: str, files: CertificateFiles) -> Iterator[tuple[Engine, Server]]:
    with serving(files) as server:
        yield engine_for(EngineOptions()), server


@settings(max_examples=150)
@given(data=streams | st.binary(max_size=300), record=st.sampled_from([1, 7, 1 << 14]))
def test_we_hear_what_wsproto_hears(
    fuzzed: tuple[Engine, Server], data: bytes, record: int
) -> None:
    engine, server = fuzzed
    engine.connect(server.address())
    wire = Rig(engine, server.connection())
    wire.peer.sock.sendall(wire.peer.sealed(data, record))
    wire.peer.sock.shutdown(socket.SHUT_WR)
    messages, reason = wire.messages_and_end()
    assert messages == messages_by_wsproto(data)
    assert reason.isprintable()
    wire.peer.sock.close()
