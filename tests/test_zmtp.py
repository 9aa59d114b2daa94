"""csrc/zmtp.c: rfc.zeromq.org 23 (ZMTP 3.0) and 37 (3.1), and libzmq at the other end of a socket.

Whatever the C code reads ends right before a page that must not be touched."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import zmq
from builders import EdgeOfMemory
from hypothesis import given, settings
from hypothesis import strategies as st

from engine._native import ffi, lib, text

MORE, LONG, COMMAND = 1, 2, 4
NO_LIMIT = 2**64 - 1
GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
PATIENCE_S = 20.0

EDGE = EdgeOfMemory(pages=80)


def placed(data: bytes) -> Any:
    return ffi.cast("uint8_t *", ctypes.addressof(EDGE.place(data)))


# ---- frames, put together by the grammar ---------------------------------------------------------


def frame(body: bytes, flags: int = 0) -> bytes:
    if len(body) > 255 or flags & LONG:
        return struct.pack(">BQ", flags | LONG, len(body)) + body
    return struct.pack(">BB", flags, len(body)) + body


def command(name: bytes, data: bytes = b"") -> bytes:
    return bytes([len(name)]) + name + data


def prop(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value


@dataclass(frozen=True)
class Frame:
    body: bytes
    more: bool
    is_command: bool


def parse(data: bytes, body_max: int = NO_LIMIT) -> tuple[int, Frame | None]:
    """(return code, the frame if there is one)"""
    out = ffi.new("hp_zmtp_frame *")
    n = int(lib.hp_zmtp_parse_frame(placed(data), len(data), body_max, out))
    if n <= 0:
        return n, None
    body = bytes(ffi.buffer(out.body, out.body_len))
    return n, Frame(body, bool(out.more), bool(out.is_command))


def parse_all(data: bytes) -> list[Frame]:
    """Every frame of `data`, of which nothing is left over."""
    frames = []
    while data:
        n, one = parse(data)
        assert one is not None, (n, data[:40])
        frames.append(one)
        data = data[n:]
    return frames


flags = st.sampled_from([0, MORE, LONG, LONG | MORE, COMMAND, COMMAND | LONG])
frames = st.tuples(st.binary(max_size=600), flags)


@given(st.lists(frames, min_size=1, max_size=5), st.data())
def test_a_stream_of_frames_cut_anywhere(
    sent: list[tuple[bytes, int]], data: st.DataObject
) -> None:
    stream = b"".join(frame(body, flag) for body, flag in sent)
    cuts = [*data.draw(st.lists(st.integers(0, len(stream)), max_size=20)), len(stream)]
    got, at = [], 0
    for cut in sorted(cuts):
        while True:
            n, one = parse(stream[at:cut])
            if one is None:
                assert n == 0
                break
            got.append(one)
            at += n
    assert got == [Frame(body, bool(flag & MORE), bool(flag & COMMAND)) for body, flag in sent]
    assert at == len(stream)


@pytest.mark.parametrize("length", [0, 1, 254, 255, 256, 65535, 65536])
def test_every_prefix_of_a_frame_needs_more(length: int) -> None:
    whole = frame(bytes(length), MORE)
    for end in {*range(12), length, len(whole) - 1} - {len(whole)}:
        if end < len(whole):
            assert parse(whole[:end]) == (0, None)
    assert parse(whole + b"\xff") == (len(whole), Frame(bytes(length), True, False))


@pytest.mark.parametrize("first", range(256))
def test_flags_that_are_refused_at_once(first: int) -> None:
    refused = first > 7 or first & (COMMAND | MORE) == COMMAND | MORE
    assert parse(bytes([first])) == (-lib.HP_EZMTP_PROTOCOL if refused else 0, None)


@pytest.mark.parametrize(
    ("length", "code"),
    [
        (4_000_000, 0),
        (4_000_001, lib.HP_EZMTP_TOO_BIG),
        (2**63 - 1, lib.HP_EZMTP_TOO_BIG),
        (2**63, lib.HP_EZMTP_PROTOCOL),
        (2**64 - 1, lib.HP_EZMTP_PROTOCOL),
    ],
)
def test_a_length_alone_is_refused(length: int, code: int) -> None:
    assert parse(struct.pack(">BQ", LONG, length), 4_000_000) == (-code, None)


def test_a_short_frame_has_its_limit_too() -> None:
    assert parse(b"\0\x05", 4) == (-lib.HP_EZMTP_TOO_BIG, None)
    assert parse(b"\0\x04abcd", 4)[0] == 6


@settings(max_examples=500)
@given(st.binary(max_size=40), st.integers(0, 64))
def test_hostile_bytes_as_a_frame(data: bytes, body_max: int) -> None:
    n, one = parse(data, body_max)
    if one is None:
        assert n in (0, -lib.HP_EZMTP_PROTOCOL, -lib.HP_EZMTP_TOO_BIG)
    else:
        assert n <= len(data)
        assert len(one.body) <= body_max
        flag = (MORE if one.more else 0) | (COMMAND if one.is_command else 0) | data[0] & LONG
        assert frame(one.body, flag) == data[:n]


# ---- greeting ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Peer:
    code: int
    version: tuple[int, int]
    mechanism: str


def greeted(data: bytes) -> Peer:
    peer = ffi.new("hp_zmtp_peer *")
    code = int(lib.hp_zmtp_parse_greeting(placed(data), len(data), peer))
    return Peer(code, (peer.major, peer.minor), text(peer.mechanism))


def test_our_greeting() -> None:
    out = ffi.new("uint8_t[64]", b"\xaa" * 64)
    lib.hp_zmtp_greeting(out)
    assert bytes(out) == GREETING


def test_every_prefix_of_a_greeting_needs_more() -> None:
    for end in range(64):
        assert greeted(GREETING[:end]).code == 0
    assert greeted(GREETING + b"more") == Peer(64, (3, 1), "NULL")


@pytest.mark.parametrize("at", [*range(1, 9), *range(32, 64)])
def test_padding_filler_and_the_servers_role_do_not_matter(at: int) -> None:
    other = bytearray(GREETING)
    other[at] = 0xFF
    assert greeted(bytes(other)).code == 64


@pytest.mark.parametrize("version", [(3, 0), (3, 1), (3, 7), (4, 0), (255, 255)])
def test_later_versions_are_taken(version: tuple[int, int]) -> None:
    assert greeted(GREETING[:10] + bytes(version) + GREETING[12:]).version == version


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", lib.HP_EZMTP),
        (b"H", lib.HP_EZMTP),
        (b"\x15\x03\x03\x00\x02\x02\x32", lib.HP_EZMTP),
        (b"\x01\x00", lib.HP_EZMTP),  # ZMTP 1.0, no identity
        (b"\xff" + bytes(9), lib.HP_EZMTP),
        (GREETING[:10] + b"\x00", lib.HP_EZMTP_VERSION),
        (GREETING[:10] + b"\x01\x02\x00\x00", lib.HP_EZMTP_VERSION),  # ZMTP 2.0
        (GREETING[:12] + b"PLAIN".ljust(20, b"\0"), lib.HP_EZMTP_MECHANISM),
        (GREETING[:12] + b"CURVE".ljust(20, b"\0") + bytes(32), lib.HP_EZMTP_MECHANISM),
        (GREETING[:12] + b"NULL\0NULL".ljust(20, b"\0"), lib.HP_EZMTP_MECHANISM),
        (GREETING[:12] + b"NUL".ljust(20, b"\0"), lib.HP_EZMTP_MECHANISM),
        (GREETING[:12] + b"A" * 20, lib.HP_EZMTP_MECHANISM),
    ],
)
def test_strangers_are_refused_as_soon_as_they_show(data: bytes, code: int) -> None:
    assert greeted(data).code == -code
    refused = [end for end in range(len(data) + 1) if greeted(data[:end]).code < 0]
    assert refused == list(range(refused[0], len(data) + 1))
    assert {greeted(data[:end]).code for end in range(refused[0])} <= {0}


def test_a_mechanisms_name_is_fit_to_print() -> None:
    assert greeted(GREETING[:12] + b"CURVE".ljust(20, b"\0")).mechanism == "CURVE"
    assert greeted(GREETING[:12] + b"a\x1b[2J\xff".ljust(20, b"\0")).mechanism == "???2J?"
    assert greeted(GREETING[:12] + b"X" * 20).mechanism == "X" * 20


@given(st.binary(max_size=80))
def test_hostile_bytes_as_a_greeting(data: bytes) -> None:
    codes = (0, 64, -lib.HP_EZMTP, -lib.HP_EZMTP_VERSION, -lib.HP_EZMTP_MECHANISM)
    assert greeted(data).code in codes


# ---- commands ------------------------------------------------------------------------------------


def parse_command(body: bytes) -> tuple[bytes, bytes] | int:
    out = ffi.new("hp_zmtp_command *")
    code = int(lib.hp_zmtp_parse_command(placed(body), len(body), out))
    if code < 0:
        return code
    name = bytes(ffi.buffer(out.name, out.name_len))
    return name, bytes(ffi.buffer(out.data, out.data_len))


def find(metadata: bytes, name: bytes) -> bytes | int:
    value, length = ffi.new("const uint8_t **"), ffi.new("uint64_t *")
    code = int(lib.hp_zmtp_property(placed(metadata), len(metadata), name, value, length))
    return bytes(ffi.buffer(value[0], length[0])) if code == 1 else code


letters = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=255)


@given(letters, st.binary(max_size=300))
def test_a_command_is_a_name_and_data(name: str, data: bytes) -> None:
    assert parse_command(command(name.encode(), data)) == (name.encode(), data)


@pytest.mark.parametrize("body", [b"", b"\0", b"\0A", b"\x01", b"\x05PING", b"\x04PIN1", b"\x01\0"])
def test_what_is_no_command(body: bytes) -> None:
    assert parse_command(body) == -lib.HP_EZMTP_PROTOCOL


names = st.binary(min_size=1, max_size=20)


@given(st.lists(st.tuples(names, st.binary(max_size=300)), max_size=5))
def test_properties_are_found_whatever_their_case(properties: list[tuple[bytes, bytes]]) -> None:
    metadata = b"".join(prop(name, value) for name, value in properties)
    assert find(metadata + prop(b"Socket-Type", b"PUB"), b"Socket-Type") in (
        b"PUB",
        *(value for name, value in properties if name.lower() == b"socket-type"),
    )
    assert find(prop(b"SOCKET-tYPE", b"XPUB") + metadata, b"Socket-Type") == b"XPUB"
    assert find(metadata, b"a name that is too long for it") == 0


@pytest.mark.parametrize("name", [b"Socket\rType", b"Socket-Typ", b"Socket-Type2", b"{ocket-Type"])
def test_like_names_are_others(name: bytes) -> None:
    assert find(prop(name, b"PUB"), b"Socket-Type") == 0


GOOD = prop(b"Identity", b"") + prop(b"Socket-Type", b"PUB")


def test_metadata_cut_anywhere() -> None:
    for end in range(len(GOOD)):
        whole = end in (0, len(prop(b"Identity", b"")))
        assert find(GOOD[:end], b"Socket-Type") == (0 if whole else -lib.HP_EZMTP_PROTOCOL)
    assert find(GOOD, b"Socket-Type") == b"PUB"


@pytest.mark.parametrize(
    "metadata",
    [b"\0\0\0\0\0", b"\x01A\x7f\xff\xff\xff", b"\x01A\x80\0\0\0" + bytes(9), GOOD + b"\x01"],
)
def test_wrong_metadata(metadata: bytes) -> None:
    assert find(metadata, b"Socket-Type") == -lib.HP_EZMTP_PROTOCOL


@given(st.binary(max_size=80))
def test_hostile_bytes_as_a_command(data: bytes) -> None:
    got = parse_command(data)
    assert got == -lib.HP_EZMTP_PROTOCOL or command(*got) == data  # type: ignore[misc]
    found = find(data, b"A")
    assert isinstance(found, bytes) or found in (0, -lib.HP_EZMTP_PROTOCOL)


# ---- what we say ---------------------------------------------------------------------------------


def said(function: Any, *arguments: Any) -> bytes | int:
    out = ffi.new("uint8_t[64]")
    n = int(function(out, *arguments))
    return bytes(ffi.buffer(out, n)) if n >= 0 else n


def version(major: int, minor: int) -> Any:
    return ffi.new("hp_zmtp_peer *", {"major": major, "minor": minor})


def test_what_we_say() -> None:
    ready = command(b"READY", prop(b"Socket-Type", b"SUB"))
    assert said(lib.hp_zmtp_ready) == frame(ready, COMMAND)
    assert said(lib.hp_zmtp_ping) == frame(command(b"PING", b"\0\0"), COMMAND)
    for context in (b"", b"x", bytes(range(16))):
        pong = frame(command(b"PONG", context), COMMAND)
        assert said(lib.hp_zmtp_pong, context, len(context)) == pong
    assert said(lib.hp_zmtp_pong, bytes(17), 17) == -errno.EINVAL


@pytest.mark.parametrize("topic", [b"", b"rawtx", b"x" * 32])
def test_a_subscription_is_what_the_peers_version_takes(topic: bytes) -> None:
    assert said(lib.hp_zmtp_subscribe, version(3, 0), topic) == frame(b"\x01" + topic)
    for newer in ((3, 1), (3, 2), (4, 0)):
        subscribe = frame(command(b"SUBSCRIBE", topic), COMMAND)
        assert said(lib.hp_zmtp_subscribe, version(*newer), topic) == subscribe


def test_a_topic_has_a_longest() -> None:
    for peer in (version(3, 0), version(3, 1)):
        assert said(lib.hp_zmtp_subscribe, peer, b"x" * 33) == -errno.EINVAL


# ---- libzmq --------------------------------------------------------------------------------------


@contextlib.contextmanager
def zmq_socket(kind: int) -> Iterator[zmq.Socket[bytes]]:
    context = zmq.Context()
    try:
        yield context.socket(kind)
    finally:
        context.destroy(linger=0)


class Raw:
    """The other end of libzmq's connection, byte by byte."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(PATIENCE_S)
        self._data = b""

    def greeting(self) -> Peer:
        """Says ours, as libzmq gives all of its own only then."""
        self.sock.sendall(GREETING)
        while len(self._data) < 64:
            self._data += self.sock.recv(4096)
        peer, self._data = greeted(self._data), self._data[64:]
        return peer

    def frames(self, count: int) -> list[Frame]:
        found: list[Frame] = []
        while len(found) < count:
            n, one = parse(self._data)
            assert n >= 0
            if one is None:
                self._data += self.sock.recv(1 << 16)
                continue
            found.append(one)
            self._data = self._data[n:]
        assert self._data == b""
        return found


def raw_subscriber(endpoint: str) -> Raw:
    return Raw(socket.create_connection(("127.0.0.1", int(endpoint.rpartition(":")[2]))))


@pytest.mark.parametrize("kind", [zmq.PUB, zmq.XPUB])
@pytest.mark.parametrize("minor", [0, 1])
def test_what_a_real_publisher_sends(kind: int, minor: int) -> None:
    """Its READY, and its messages to a subscription in either form."""
    bodies = [b"", b"x" * 255, b"x" * 256, b"x" * 65536, bytes(range(256)) * 16]
    with zmq_socket(zmq.XPUB if kind == zmq.XPUB else zmq.PUB) as publisher:
        publisher.bind("tcp://127.0.0.1:0")
        raw = raw_subscriber(publisher.get_string(zmq.LAST_ENDPOINT))
        with raw.sock:
            peer = raw.greeting()
            assert (peer.code, peer.version[0], peer.mechanism) == (64, 3, "NULL")
            raw.sock.sendall(bytes(said(lib.hp_zmtp_ready)))
            (ready,) = raw.frames(1)
            name, metadata = parse_command(ready.body)  # type: ignore[misc]
            assert (ready.is_command, name) == (True, b"READY")
            expected = b"XPUB" if kind == zmq.XPUB else b"PUB"
            assert find(metadata, b"Socket-Type") == expected
            raw.sock.sendall(bytes(said(lib.hp_zmtp_subscribe, version(3, minor), b"rawtx")))
            if kind == zmq.XPUB:
                assert publisher.recv() == b"\x01rawtx"
            else:  # it does not tell when it knows of us
                # libzmq's I/O thread answers a PING while it still holds back what it read with it;
                # it reads a second one only when the subscription has gone to the publisher.
                for context in (b"first", b"second"):
                    raw.sock.sendall(frame(command(b"PING", b"\0\0" + context), COMMAND))
                    assert raw.frames(1) == [Frame(command(b"PONG", context), False, True)]
                publisher.get(zmq.EVENTS)  # takes in what its I/O thread has for it
            for body in bodies:
                publisher.send_multipart([b"rawtx", body, b"\x01\x02\x03\x04"])
                publisher.send_multipart([b"hashtx", bytes(32), bytes(4)])  # not for us
            assert raw.frames(3 * len(bodies)) == [
                part
                for body in bodies
                for part in (
                    Frame(b"rawtx", True, False),
                    Frame(body, True, False),
                    Frame(b"\x01\x02\x03\x04", False, False),
                )
            ]


def test_a_real_subscriber_says_the_same_as_we() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, zmq_socket(zmq.SUB) as subscriber:
        subscriber.subscribe(b"rawtx")
        subscriber.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        connection, _ = listener.accept()
        with connection:
            raw = Raw(connection)
            peer = raw.greeting()
            assert peer.code == 64
            connection.sendall(frame(command(b"READY", prop(b"Socket-Type", b"PUB")), COMMAND))
            ready, subscription = raw.frames(2)
            name, metadata = parse_command(ready.body)  # type: ignore[misc]
            assert (name, find(metadata, b"Socket-Type")) == (b"READY", b"SUB")
            ours = said(lib.hp_zmtp_subscribe, version(*peer.version), b"rawtx")
            assert parse(bytes(ours))[1] == subscription


def test_a_real_publisher_answers_our_ping() -> None:
    with zmq_socket(zmq.PUB) as publisher:
        publisher.bind("tcp://127.0.0.1:0")
        raw = raw_subscriber(publisher.get_string(zmq.LAST_ENDPOINT))
        with raw.sock:
            raw.greeting()
            raw.sock.sendall(bytes(said(lib.hp_zmtp_ready)) + bytes(said(lib.hp_zmtp_ping)))
            assert raw.frames(2)[1] == Frame(command(b"PONG"), False, True)
