"""csrc/ws.c and csrc/utf8.c: RFC 6455, RFC 3629, the `websockets` library, Python's decoder.

Whatever the C code reads ends right before a page that must not be touched."""

from __future__ import annotations

import ctypes
import errno
import mmap
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ProtocolError
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol
from websockets.streams import StreamReader

from engine._native import ffi, lib

# RFC 6455 1.3
KEY = b"the sample nonce"
KEY_TEXT = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
FIELDS = (b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Accept: " + ACCEPT)
SWITCHING = b"HTTP/1.1 101 Switching Protocols"
HEADER_BLOCK_MAX = 16384

NO_LIMIT = 2**64 - 1
OPCODES = (0, 1, 2, 8, 9, 10)

fuzz = settings(max_examples=200)


class GuardedRoom:
    """Bytes put here end where an unreadable page begins."""

    ROOM = 80 * mmap.PAGESIZE

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, self.ROOM + mmap.PAGESIZE)
        self._end = ctypes.addressof(ctypes.c_char.from_buffer(self._map)) + self.ROOM
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(ctypes.c_void_p(self._end), ctypes.c_size_t(mmap.PAGESIZE), 0):
            raise OSError(ctypes.get_errno(), "mprotect")

    def put(self, data: bytes) -> Any:
        pointer = ffi.cast("uint8_t *", self._end - len(data))
        ffi.memmove(pointer, data, len(data))
        return pointer


ROOM = GuardedRoom()


# ---- opening handshake ---------------------------------------------------------------------------


def request(host: bytes, path: bytes, key: bytes = KEY, cap: int = 1024) -> bytes | int:
    out = ffi.new("char[]", cap)
    n = lib.hp_ws_request(out, cap, host, path, key)
    return bytes(ffi.buffer(out, n)) if n >= 0 else int(n)


def answer(status_line: bytes = SWITCHING, *fields: bytes) -> bytes:
    return b"\r\n".join((status_line, *(fields or FIELDS), b"", b""))


def told(data: bytes, key: bytes = KEY) -> tuple[int, int, int]:
    """(return code, status, seconds of Retry-After)"""
    said = ffi.new("hp_ws_answer *", (-1, 77))
    code = lib.hp_ws_response(ROOM.put(data), len(data), key, said)
    return int(code), int(said.status), int(said.retry_after_s)


def response(data: bytes, key: bytes = KEY) -> tuple[int, int]:
    """(return code, status)"""
    return told(data, key)[:2]


def test_request_is_what_rfc_6455_asks_for() -> None:
    text = request(b"server.example.com", b"/chat?x=1")
    assert isinstance(text, bytes)
    lines = text.split(b"\r\n")
    assert lines[0] == b"GET /chat?x=1 HTTP/1.1"
    assert lines[-2:] == [b"", b""]
    assert sorted(lines[1:-2]) == [
        b"Connection: Upgrade",
        b"Host: server.example.com",
        b"Sec-WebSocket-Key: " + KEY_TEXT,
        b"Sec-WebSocket-Version: 13",
        b"Upgrade: websocket",
    ]


@pytest.mark.parametrize(
    ("host", "path"),
    [
        (b"", b"/"),
        (b"a b", b"/"),
        (b"a\r\nX: y", b"/"),
        (b"a\x7f", b"/"),
        (b"caf\xc3\xa9", b"/"),
        (b"a", b""),
        (b"a", b"chat"),
        (b"a", b"/ HTTP/1.1\r\nX: y"),
        (b"a", b"/a b"),
        (b"a", b"/\t"),
        (b"a", b"/\xff"),
    ],
)
def test_request_refuses_what_would_change_its_meaning(host: bytes, path: bytes) -> None:
    assert request(host, path) == -errno.EINVAL


def test_request_does_not_write_past_its_buffer() -> None:
    whole = request(b"host", b"/path")
    assert isinstance(whole, bytes)
    for cap in range(len(whole) + 1):  # the terminating NUL wants room too
        out = ffi.new("char[]", b"\xaa" * 512)
        assert lib.hp_ws_request(out, cap, b"host", b"/path", KEY) == -errno.ENOSPC
        assert bytes(ffi.buffer(out, 512))[cap:] == b"\xaa" * (512 - cap)


@fuzz
@given(st.binary(min_size=16, max_size=16))
def test_handshake_with_the_websockets_server(key: bytes) -> None:
    server = ServerProtocol()
    sent = request(b"localhost:8443", b"/ws-api/v3", key)
    assert isinstance(sent, bytes)
    server.receive_data(sent)
    (event,) = server.events_received()
    assert server.handshake_exc is None
    server.send_response(server.accept(event))  # type: ignore[arg-type]
    reply = b"".join(server.data_to_send())
    assert response(reply, key) == (len(reply), 101)


def test_response_of_rfc_6455_whole_cut_and_followed() -> None:
    whole = answer()
    first_line = len(SWITCHING) + 2
    for cut in range(len(whole)):
        assert response(whole[:cut]) == (0, 101 if cut >= first_line else 0)
    assert response(whole) == (len(whole), 101)
    assert response(whole + b"\x81\x01x") == (len(whole), 101)


@pytest.mark.parametrize(
    "data",
    [
        answer(SWITCHING, b"upgrade:WEBSOCKET", b"CONNECTION:\t upGrade \t", *FIELDS[2:]),
        answer(SWITCHING, FIELDS[0], b"Connection: keep-alive , ,Upgrade", FIELDS[2]),
        answer(SWITCHING, *FIELDS, b"Connection: keep-alive", b"Server: caf\xc3\xa9", b"Empty:"),
        answer(b"HTTP/1.1 101 ", *FIELDS),
        answer(b"HTTP/1.1 101", *FIELDS),
    ],
)
def test_response_accepts_every_spelling(data: bytes) -> None:
    assert response(data) == (len(data), 101)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(FIELDS[1:], id="no-upgrade"),
        pytest.param((FIELDS[0], FIELDS[2]), id="no-connection"),
        pytest.param((b"Upgrade: h2c", *FIELDS[1:]), id="other-upgrade"),
        pytest.param((b"Upgrade: websocket, h2c", *FIELDS[1:]), id="two-upgrades"),
        pytest.param((FIELDS[0], b"Connection: upgraded", FIELDS[2]), id="longer-token"),
        pytest.param((FIELDS[0], b"Connection: up grade", FIELDS[2]), id="split-token"),
        pytest.param((FIELDS[0], b"Connection: close", FIELDS[2]), id="close"),
        pytest.param((*FIELDS, b"Sec-WebSocket-Extensions: permessage-deflate"), id="extension"),
        pytest.param((*FIELDS, b"Sec-WebSocket-Protocol: chat"), id="subprotocol"),
        pytest.param((b"Upgrade : websocket", *FIELDS[1:]), id="space-before-colon"),
        pytest.param((*FIELDS, b" folded"), id="fold"),
        pytest.param((b"\tfolded", *FIELDS), id="fold-first"),
        pytest.param((*FIELDS, b"no colon"), id="no-colon"),
        pytest.param((*FIELDS, b"nocolon"), id="name-only"),
        pytest.param((*FIELDS, b": no name"), id="no-name"),
        pytest.param((*FIELDS, b"caf\xc3\xa9: x"), id="name-not-a-token"),
        pytest.param((*FIELDS, b"N(): x"), id="name-with-separators"),
        pytest.param((*FIELDS, b"X: a\x00b"), id="nul"),
        pytest.param((*FIELDS, b"X: a\x1bb"), id="escape"),
        pytest.param((*FIELDS, b"X: a\x7f"), id="delete"),
        pytest.param((*FIELDS, b"X: a\rb"), id="bare-cr"),
        pytest.param((*FIELDS, b"X: a\nY: b"), id="bare-lf"),
    ],
)
def test_response_that_is_no_upgrade(fields: tuple[bytes, ...]) -> None:
    assert response(answer(SWITCHING, *fields)) == (-lib.HP_EWS_UPGRADE, 101)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(FIELDS[:2], id="missing"),
        pytest.param((*FIELDS[:2], b"Sec-WebSocket-Accept:"), id="empty"),
        pytest.param((*FIELDS[:2], b"Sec-WebSocket-Accept: " + KEY_TEXT), id="the-key-itself"),
        pytest.param((*FIELDS[:2], FIELDS[2].swapcase()), id="other-case"),
        pytest.param((*FIELDS[:2], FIELDS[2][:-1]), id="shorter"),
        pytest.param((*FIELDS[:2], FIELDS[2] + b"="), id="longer"),
        pytest.param((*FIELDS, FIELDS[2]), id="twice"),
    ],
)
def test_response_with_the_wrong_accept(fields: tuple[bytes, ...]) -> None:
    assert response(answer(SWITCHING, *fields)) == (-lib.HP_EWS_ACCEPT, 101)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"HTTP/1.1 403 Forbidden", 403),
        (b"HTTP/1.0 502 Bad Gateway", 502),
        (b"HTTP/1.1 200", 200),
        (b"HTTP/1.1 100 Continue", 100),
        (b"HTTP/1.0 101 Switching Protocols", 101),
        (b"HTTP/1.1 1010 x", 0),
        (b"HTTP/1.1 10", 0),
        (b"HTTP/1.1  101 x", 0),
        (b"HTTP/2.0 101 x", 0),
        (b"http/1.1 101 x", 0),
        (b"HTTP/1.1 +01 x", 0),
        (b"HTTP/1.1 101\tx", 0),
        (b"SSH-2.0-OpenSSH_9.2", 0),
        (b"", 0),
    ],
)
def test_response_with_another_status(line: bytes, status: int) -> None:
    assert response(answer(line)) == (-lib.HP_EWS_UPGRADE, status)
    at_first = 0 if status else -lib.HP_EWS_UPGRADE  # a refusal may say when to come again
    assert response(line + b"\r\n") == (at_first, status)


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ((b"Retry-After: 30",), 30),
        ((b"Date: x", b"retry-AFTER:\t120 ", b"Content-Length: 8"), 120),
        ((b"Retry-After: 999999999",), 999_999_999),
        ((b"Retry-After: 1000000000",), 0),
        ((b"Retry-After: 0",), 0),
        ((b"Retry-After:",), 0),
        ((b"Retry-After: -1",), 0),
        ((b"Retry-After: 3 0",), 0),
        ((b"Retry-After: Fri, 31 Dec 1999 23:59:59 GMT",), 0),
        ((b"Retry-Afters: 30",), 0),
        ((b"X: Retry-After: 30",), 0),
    ],
)
def test_when_a_refusal_wants_us_again(fields: tuple[bytes, ...], seconds: int) -> None:
    whole = answer(b"HTTP/1.1 429 Too Many Requests", *fields)
    assert told(whole + b"slow down") == (-lib.HP_EWS_UPGRADE, 429, seconds)
    for cut in range(len(whole)):
        assert told(whole[:cut])[0] == 0
    assert told(answer(SWITCHING, *FIELDS, *fields))[2] == 0


def test_a_refusal_that_is_no_http_is_one_all_the_same() -> None:
    line = b"HTTP/1.1 429 Too Many Requests"
    assert told(answer(line, b"no colon")) == (-lib.HP_EWS_UPGRADE, 429, 0)
    endless = answer(line, b"X: " + b"a" * HEADER_BLOCK_MAX)
    assert told(endless) == (-lib.HP_EWS_UPGRADE, 429, 0)


def test_response_is_bounded() -> None:
    pad = HEADER_BLOCK_MAX - len(answer(SWITCHING, *FIELDS, b"X: "))
    longest = answer(SWITCHING, *FIELDS, b"X: " + b"a" * pad)
    assert len(longest) == HEADER_BLOCK_MAX
    assert response(longest) == (HEADER_BLOCK_MAX, 101)
    assert response(longest + b"\x81\x00")[0] == HEADER_BLOCK_MAX

    longer = answer(SWITCHING, *FIELDS, b"X: " + b"a" * (pad + 1))
    assert response(longer)[0] == -lib.HP_EWS_UPGRADE
    assert response(longer[: HEADER_BLOCK_MAX - 1])[0] == 0
    assert response(b"a" * HEADER_BLOCK_MAX)[0] == -lib.HP_EWS_UPGRADE


@fuzz
@given(st.binary(max_size=300), st.integers(0, len(answer())))
def test_response_survives_junk_anywhere(junk: bytes, at: int) -> None:
    data = answer()[:at] + junk + answer()[at:]
    for case in (junk, data):
        code, _ = response(case)
        assert code in (-lib.HP_EWS_UPGRADE, -lib.HP_EWS_ACCEPT) or 0 <= code <= len(case)


# ---- frames --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parsed:
    consumed: int
    opcode: int
    fin: bool
    payload: bytes


def parse(data: bytes, payload_max: int = NO_LIMIT) -> Parsed | int:
    """The frame, or the return code that is not positive."""
    frame = ffi.new("hp_ws_frame *")
    buffer = ROOM.put(data)
    n = int(lib.hp_ws_parse(buffer, len(data), payload_max, frame))
    if n <= 0:
        return n
    assert n <= len(data)
    assert frame.payload + frame.payload_len == buffer + n
    payload = bytes(ffi.buffer(frame.payload, frame.payload_len))
    return Parsed(n, frame.opcode, bool(frame.fin), payload)


def header(opcode: int, payload_len: int, mask: bytes = b"\x00" * 4) -> bytes:
    out = ffi.new("uint8_t[]", lib.HP_WS_HEADER_MAX)
    n = lib.hp_ws_header(out, opcode, payload_len, mask)
    return bytes(ffi.buffer(out, n))


def mask_bytes(payload: bytes, mask: bytes) -> bytes:
    buffer = ROOM.put(payload)
    lib.hp_ws_mask(buffer, len(payload), mask)
    return bytes(ffi.buffer(buffer, len(payload)))


def read_by_websockets(data: bytes, *, mask: bool) -> Frame | None:
    """The first frame, or None when more bytes are needed."""
    reader = StreamReader()
    reader.feed_data(data)
    parser = Frame.parse(reader.read_exact, mask=mask)
    try:
        next(parser)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    return None


@pytest.mark.parametrize(
    ("data", "opcode", "fin", "payload"),
    [
        ("810548656c6c6f", 1, True, b"Hello"),
        ("010348656c", 1, False, b"Hel"),
        ("80026c6f", 0, True, b"lo"),
        ("890548656c6c6f", 9, True, b"Hello"),
        ("8a0548656c6c6f", 10, True, b"Hello"),
        ("827e0100" + "ab" * 256, 2, True, b"\xab" * 256),
        ("827f0000000000010000" + "cd" * 65536, 2, True, b"\xcd" * 65536),
    ],
)
def test_examples_of_rfc_6455_5_7(data: str, opcode: int, fin: bool, payload: bytes) -> None:
    frame = bytes.fromhex(data)
    assert parse(frame) == Parsed(len(frame), opcode, fin, payload)


def test_masked_example_of_rfc_6455_5_7() -> None:
    mask = bytes.fromhex("37fa213d")
    frame = header(lib.HP_WS_TEXT, 5, mask) + mask_bytes(b"Hello", mask)
    assert frame == bytes.fromhex("818537fa213d7f9f4d5158")


@st.composite
def server_frames(draw: st.DrawFn) -> Frame:
    opcode = draw(st.sampled_from(OPCODES))
    if opcode >= 8:
        payload = draw(st.binary(max_size=125).filter(lambda p: opcode != 8 or len(p) != 1))
        return Frame(Opcode(opcode), payload)
    payload = draw(st.binary(max_size=300) | st.sampled_from([125, 126, 65535, 65536]).map(bytes))
    return Frame(Opcode(opcode), payload, draw(st.booleans()))


@fuzz
@given(st.lists(server_frames(), min_size=1, max_size=4))
def test_frames_by_websockets_come_out_as_they_went_in(frames: list[Frame]) -> None:
    stream = b"".join(frame.serialize(mask=False) for frame in frames)
    for frame in frames:
        parsed = parse(stream)
        assert isinstance(parsed, Parsed)
        assert parsed == Parsed(parsed.consumed, frame.opcode, frame.fin, bytes(frame.data))
        stream = stream[parsed.consumed :]
    assert stream == b""


@settings(fuzz, max_examples=40)
@given(server_frames())
def test_a_cut_frame_needs_more_wherever_it_is_cut(frame: Frame) -> None:
    data = frame.serialize(mask=False)
    for cut in [*range(min(len(data), 400)), len(data) - 1]:
        assert parse(data[:cut]) == 0


@fuzz
@given(st.binary(min_size=2, max_size=2), st.binary(max_size=140))
@example(b"\x88\x01", b"x")
@example(b"\x81\x7e", b"\x00\x7d" + bytes(125))
@example(b"\x81\x7f", b"\x00" * 6 + b"\xff\xff" + bytes(100))
def test_random_bytes_are_judged_as_websockets_judges_them(start: bytes, rest: bytes) -> None:
    data = start + rest
    ours = parse(data)
    length = start[1] & 0x7F
    bytes_of_length = {126: 2, 127: 8}.get(length, 0)
    extended = int.from_bytes(rest[:bytes_of_length], "big")
    if bytes_of_length and len(rest) >= bytes_of_length:
        too_long_a_form = extended < {2: 126, 8: 65536}[bytes_of_length] or extended >> 63
    else:
        too_long_a_form = False
    close_of_one_byte = start[0] & 0x0F == 8 and length == 1
    try:
        theirs = read_by_websockets(data, mask=False)
    except ProtocolError:
        assert ours == -lib.HP_EWS_PROTOCOL
        return
    if too_long_a_form or close_of_one_byte:  # RFC 6455 5.2 and 5.5.1; websockets lets them pass
        assert ours == -lib.HP_EWS_PROTOCOL
    elif theirs is not None:
        assert isinstance(ours, Parsed)
        assert (ours.opcode, ours.fin, ours.payload) == (theirs.opcode, theirs.fin, theirs.data)
    else:  # what it finds at the end of a frame, we find at its start
        assert ours in (0, -lib.HP_EWS_PROTOCOL)


@pytest.mark.parametrize("first", range(256))
def test_every_first_byte(first: int) -> None:
    opcode, fin, rsv = first & 0x0F, first & 0x80, first & 0x70
    good = not rsv and opcode in OPCODES and (fin or opcode < 8)
    for data in (bytes([first, 0]), bytes([first, 2, 3, 232])):
        outcome = parse(data)
        assert isinstance(outcome, Parsed) if good else outcome == -lib.HP_EWS_PROTOCOL


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("818537fa213d7f9f4d5158", id="masked"),
        pytest.param("8180", id="masked-empty"),
        pytest.param("817e0000", id="16-bit-of-0"),
        pytest.param("817e007d", id="16-bit-of-125"),
        pytest.param("817f000000000000007d", id="64-bit-of-125"),
        pytest.param("817f000000000000ffff", id="64-bit-of-65535"),
        pytest.param("817f8000000000000000", id="top-bit"),
        pytest.param("817fffffffffffffffff", id="all-bits"),
        pytest.param("897e007e", id="ping-of-126"),
        pytest.param("887f0000000000010000", id="close-of-65536"),
        pytest.param("897e", id="ping-of-126-from-two-bytes"),
        pytest.param("0900", id="fragmented-ping"),
        pytest.param("0800", id="fragmented-close"),
        pytest.param("880103", id="close-of-1"),
        pytest.param("c100", id="rsv1"),
        pytest.param("8300", id="opcode-3"),
        pytest.param("8b00", id="opcode-11"),
    ],
)
def test_malformed_frames_are_refused_from_their_header(data: str) -> None:
    assert parse(bytes.fromhex(data)) == -lib.HP_EWS_PROTOCOL


@pytest.mark.parametrize(
    ("start", "length"),
    [("8105", 5), ("827e0100", 256), ("007f0000000000010000", 65536), ("817f" + "7f" * 8, 2**62)],
)
def test_payload_above_the_bound_is_refused_from_the_length_alone(start: str, length: int) -> None:
    data = bytes.fromhex(start)
    assert parse(data, length - 1) == -lib.HP_EWS_TOO_BIG
    assert parse(data, NO_LIMIT) == 0
    if length < 2**62:
        assert parse(data, length) == 0
        assert isinstance(parse(data + bytes(length), length), Parsed)


def test_a_control_frame_passes_whatever_the_bound_of_messages_is() -> None:
    assert isinstance(parse(b"\x89\x7d" + bytes(125), 0), Parsed)


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65535, 65536, 2**32, 2**63 - 1])
@pytest.mark.parametrize("opcode", [1, 2])
def test_header_is_in_its_shortest_form(opcode: int, length: int) -> None:
    if length < 126:
        expected = bytes([0x80 | opcode, 0x80 | length])
    elif length < 65536:
        expected = bytes([0x80 | opcode, 0xFE]) + length.to_bytes(2, "big")
    else:
        expected = bytes([0x80 | opcode, 0xFF]) + length.to_bytes(8, "big")
    assert header(opcode, length, b"MASK") == expected + b"MASK"


@fuzz
@given(st.sampled_from(OPCODES), st.binary(max_size=700), st.binary(min_size=4, max_size=4))
def test_our_frames_are_read_by_websockets(opcode: int, payload: bytes, mask: bytes) -> None:
    payload = payload[:125] if opcode >= 8 else payload
    frame = read_by_websockets(
        header(opcode, len(payload), mask) + mask_bytes(payload, mask), mask=True
    )
    assert frame is not None
    assert (frame.opcode, frame.fin, bytes(frame.data)) == (opcode, True, payload)


@fuzz
@given(st.binary(max_size=200), st.binary(min_size=4, max_size=4))
def test_mask_of_every_length_and_alignment(payload: bytes, mask: bytes) -> None:
    assert mask_bytes(payload, mask) == bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


# ---- UTF-8 ---------------------------------------------------------------------------------------


def utf8_valid(data: bytes) -> bool:
    return bool(lib.hp_utf8_valid(ROOM.put(data), len(data)))


def decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8", "strict")
    except UnicodeDecodeError:
        return False
    return True


def test_utf8_of_every_code_point() -> None:
    everything = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)
    step = 20000
    for at in range(0, len(everything), step):
        assert utf8_valid(everything[at : at + step].encode())


def test_utf8_of_every_pair_and_every_second_byte() -> None:
    for lead in range(256):
        for second in range(256):
            for tail in (b"", b"\x80", b"\x80\x80", b"\xbf\xc0", b"\x80\x80\x80"):
                data = bytes([lead, second]) + tail
                assert utf8_valid(data) == decodes(data), data.hex()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("c080", id="overlong-nul"),
        pytest.param("e0809f", id="overlong-3"),
        pytest.param("f08fbfbf", id="overlong-4"),
        pytest.param("eda080", id="first-surrogate"),
        pytest.param("edbfbf", id="last-surrogate"),
        pytest.param("f4908080", id="above-10ffff"),
        pytest.param("f888808080", id="five-bytes"),
        pytest.param("61e282", id="cut"),
    ],
)
def test_utf8_that_is_none(data: str) -> None:
    assert not utf8_valid(bytes.fromhex(data))
    assert not utf8_valid(b"a" * 13 + bytes.fromhex(data) + b"a" * 13)


@fuzz
@given(st.lists(st.text(max_size=12).map(str.encode) | st.binary(max_size=4), max_size=8))
def test_utf8_as_python_decodes_it(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    assert utf8_valid(data) == decodes(data)
    assert utf8_valid(data[:-1]) == decodes(data[:-1])
