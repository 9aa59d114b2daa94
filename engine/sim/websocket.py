"""One client of the simulated exchange's WebSocket servers: asyncio's bytes, websockets' frames.

Everything is written at once and in the order it was said, so replies and events keep theirs. A
client that does not read is cut when MAX_UNREAD_BYTES wait for it. The bytes can be told to
misbehave: engine.sim.faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from urllib.parse import parse_qs

from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from engine.errors import ConfigError
from engine.sim.faults import MESSAGE_FAULTS, PING_FAULTS, Fault
from engine.sim.rates import CONNECTIONS

HOST = "127.0.0.1"
# web-socket-api.md, "General API Information": a ping every 20 s, a minute to answer it, and 24
# hours a connection.
PING_INTERVAL_S = 20.0
PONG_TIMEOUT_S = 60.0
LIFETIME_S = 24 * 3600.0
CLOSE_TIMEOUT_S = 0.4  # for the client's own Close frame
UPGRADE_TIMEOUT_S = 10.0
MAX_UNREAD_BYTES = 1 << 20
MAX_MESSAGE_BYTES = 1 << 20
COALESCE_S = 0.02
MAX_SPLIT_BYTES = 64 << 10  # a longer message would take minutes byte by byte
PONG = bytes([0x80 | Opcode.PONG])  # how the frame begins (RFC 6455 5.2)

# websockets reports a peer's faults here: for those who set up logging only.
_logger = logging.getLogger(__name__)
_logger.addHandler(logging.NullHandler())

# Options of the URL ("General API Information"; faqs/sbe_faq.md): only the defaults are simulated.
DEFAULTS = {"timeUnit": "millisecond", "responseFormat": "json"}

Draw = Callable[[Collection[str]], Fault | None]


class Wire:
    """The bytes to one client, in order; never more than MAX_UNREAD_BYTES wait before one more
    message."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._held: asyncio.TimerHandle | None = None
        self._waiting = bytearray()
        self._ending = False

    def write(self, data: bytes, record_bytes: int | None = None) -> None:
        """`record_bytes` cuts it into TLS records of so many bytes."""
        if len(self._waiting) + self.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self.cut()
        elif self._held:
            self._waiting += data
        else:
            size = record_bytes or len(data)
            for at in range(0, len(data), size):
                if self.transport.is_closing():  # asyncio would complain of each write
                    return
                self.transport.write(data[at : at + size])

    def hold(self, seconds: float) -> None:
        """What is said from now on leaves together, after so many seconds."""
        if self._held is None:
            self._held = asyncio.get_running_loop().call_later(seconds, self._release)

    def end(self) -> None:
        """Close once everything has left."""
        self._ending = True
        if self._held is None:
            self.transport.close()

    def cut(self) -> None:
        """Close now; what waits is lost."""
        if self._held:
            self._held.cancel()
        self.transport.abort()

    def _release(self) -> None:
        self._held = None
        if self._waiting and not self.transport.is_closing():
            self.transport.write(bytes(self._waiting))
        self._waiting.clear()
        if self._ending:
            self.transport.close()


@dataclass(frozen=True)
class Habits:
    """How a server treats its clients."""

    ping_interval_s: float = PING_INTERVAL_S
    lifetime_s: float = LIFETIME_S
    max_connections: int = CONNECTIONS.limit


class Clients:
    """Those of one port."""

    def __init__(self, habits: Habits, draw: Draw) -> None:
        self.habits = habits
        self.draw = draw
        self.peers: set[Peer] = set()
        # Of each port, as the venue's hosts are different ones; every client is one address here.
        self._attempts = replace(CONNECTIONS, limit=habits.max_connections)

    async def close_all(self) -> None:
        """1001 to everybody, and CLOSE_TIMEOUT_S for their answers."""
        for peer in list(self.peers):
            peer.close(CloseCode.GOING_AWAY)
        deadline = time.monotonic() + CLOSE_TIMEOUT_S
        while self.peers and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        self.drop_all()
        await asyncio.sleep(0)  # the transports call `connection_lost` in the next turn

    def drop_all(self) -> None:
        for peer in list(self.peers):
            peer.cut()

    def wait_s(self) -> int:
        """Count a new connection: 0, or how long it has to wait because there were too many."""
        now_ms = time.time_ns() // 1_000_000
        self._attempts.advance(now_ms)
        self._attempts.count += 1
        if self._attempts.count <= self._attempts.limit:
            return 0
        return 1 + (self._attempts.end_ms - now_ms) // 1000


class Peer(asyncio.Protocol):
    """A client's connection, from its TLS handshake to its end. A subclass says who is refused and
    what happens to a message."""

    def __init__(self, clients: Clients) -> None:
        self.draw = clients.draw
        self.path = self.query = ""  # what is before and after the question mark
        self._clients = clients
        self._protocol = ServerProtocol(max_size=MAX_MESSAGE_BYTES, logger=_logger)
        self._is_upgraded = False
        self._is_listening = True
        self._parts: list[bytes] = []  # of a message in several frames
        self._opcode = Opcode.TEXT
        self._unanswered: list[bytes] = []  # pings' payloads
        self._timers: dict[str, asyncio.TimerHandle] = {}

    # ---- for a subclass --------------------------------------------------------------------------

    def refuse(self) -> tuple[HTTPStatus, str] | None:
        """The status and text that the upgrade to `path` is refused with, if it is."""
        options = parse_qs(self.query, keep_blank_values=True)
        for name, default in DEFAULTS.items():
            if {value.lower() for value in options.get(name, [])} - {default}:
                return HTTPStatus.BAD_REQUEST, f"only {name}={default} is simulated\n"
        return None

    def opened(self) -> None:
        """The connection is upgraded."""

    def received(self, message: str | bytes) -> None:
        """A whole message has come: text, or a binary one's bytes."""

    def closed(self) -> None:
        """The connection is gone; only after `opened`."""

    def announce_shutdown(self, now_ms: int) -> None:
        """Tell the client that the server will end."""

    # ---- what can be done with it ----------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return self._protocol.state is State.OPEN and not self.wire.transport.is_closing()

    def send(self, text: str) -> None:
        """A text message; nothing when the connection is closing."""
        if not self.is_open:
            return
        data = text.encode()
        fault = self.draw(MESSAGE_FAULTS) if len(data) <= MAX_SPLIT_BYTES else None
        if fault is not None and fault.name == "coalesce":
            self.wire.hold(COALESCE_S)
        self._protocol.send_text(data)
        self._flush(record_bytes=1 if fault is not None and fault.name == "split" else None)

    def cut(self) -> None:
        """The TCP connection ends as it is, without a Close frame."""
        self._is_listening = False
        self.wire.cut()

    def stop_reading(self) -> None:
        """What the client says fills its buffers and ours, and is never heard."""
        self._is_listening = False
        self.wire.transport.pause_reading()

    def close(self, code: CloseCode = CloseCode.NORMAL_CLOSURE) -> None:
        """With a Close frame, and CLOSE_TIMEOUT_S for the client's."""
        self._is_listening = False
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code)
            self._flush()
        self._in(CLOSE_TIMEOUT_S, "end", self.wire.cut)

    def close_in(self, seconds: float) -> None:
        """Or earlier, if that was said before."""
        life = self._timers.get("life")
        if life is None or life.when() > asyncio.get_running_loop().time() + seconds:
            self._in(seconds, "life", self.close)

    # ---- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.wire = Wire(transport)
        self._clients.peers.add(self)
        self._in(UPGRADE_TIMEOUT_S, "upgrade", self.wire.cut)

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        events = self._protocol.events_received()
        self._flush_answers()
        for event in events:
            if isinstance(event, Request):
                self._upgrade(event)
            elif isinstance(event, Frame):
                self._on_frame(event)
        self._flush()

    def connection_lost(self, _: Exception | None) -> None:
        self._clients.peers.discard(self)
        for timer in self._timers.values():
            timer.cancel()
        if self._is_upgraded:
            self.closed()

    # ---- inside ----------------------------------------------------------------------------------

    def _upgrade(self, request: Request) -> None:
        self._timers.pop("upgrade").cancel()
        self.path, _, self.query = request.path.partition("?")
        self._protocol.send_response(self._response(request))
        self._flush()
        if self._protocol.state is State.OPEN:
            self._is_upgraded = True
            self._in(self._clients.habits.ping_interval_s, "ping", self._ping)
            self.close_in(self._clients.habits.lifetime_s)
            self.opened()

    def _response(self, request: Request) -> Response:
        if wait_s := self._clients.wait_s():
            # The documents name the limit, not the answer: errors.md, -1034, and rest-api.md, "IP
            # Limits", fit best.
            response = self._protocol.reject(
                HTTPStatus.TOO_MANY_REQUESTS, "Too many connection attempts from IP.\n"
            )
            response.headers["Retry-After"] = str(wait_s)
            return response
        refusal = self.refuse()
        return self._protocol.accept(request) if not refusal else self._protocol.reject(*refusal)

    def _on_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PONG:
            self._on_pong(bytes(frame.data))
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if frame.opcode is not Opcode.CONT:
                self._opcode = frame.opcode
            self._parts.append(bytes(frame.data))
            if frame.fin:
                self._on_message()

    def _on_message(self) -> None:
        """What came before the client's Close frame is still heard."""
        data, self._parts = b"".join(self._parts), []
        if not self._is_listening:
            return
        if self._opcode is Opcode.BINARY:
            self.received(data)
            return
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self._protocol.fail(CloseCode.INVALID_DATA)
        else:
            self.received(text)

    def _flush_answers(self) -> None:
        """What websockets answers by itself: pongs, unless a fault swallows them, and Close."""
        for data in self._protocol.data_to_send():
            if data[:1] != PONG or not self.draw(PING_FAULTS):
                self._write(data)

    def _flush(self, record_bytes: int | None = None) -> None:
        for data in self._protocol.data_to_send():
            self._write(data, record_bytes)

    def _write(self, data: bytes, record_bytes: int | None = None) -> None:
        if data:
            self.wire.write(data, record_bytes)
        else:
            self.wire.end()  # websockets asks for a half-close, which TLS does not have

    def _ping(self) -> None:
        """The payload is the time, as the venue's is."""
        if self.is_open:
            payload = str(time.time_ns() // 1_000_000).encode()
            if not self._unanswered:
                self._in(PONG_TIMEOUT_S, "pong", self.wire.cut)
            self._unanswered.append(payload)
            self._protocol.send_ping(payload)
            self._flush()
            self._in(self._clients.habits.ping_interval_s, "ping", self._ping)

    def _on_pong(self, payload: bytes) -> None:
        """Only the copy of a ping counts ("Unsolicited pong frames ... will not prevent
        disconnection"); it answers the earlier ones too (RFC 6455 5.5.3)."""
        if payload in self._unanswered:
            del self._unanswered[: self._unanswered.index(payload) + 1]
            self._timers["pong"].cancel()
            if self._unanswered:
                self._in(PONG_TIMEOUT_S, "pong", self.wire.cut)

    def _in(self, seconds: float, name: str, act: Callable[[], None]) -> None:
        if name in self._timers:
            self._timers[name].cancel()
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, act)


async def bind(
    factory: Callable[[], asyncio.Protocol], port: int, flag: str, context: ssl.SSLContext
) -> asyncio.Server:
    """A TLS server on HOST that lets nobody in yet; ConfigError, which names `flag`, when another
    one has the port."""
    loop = asyncio.get_running_loop()
    with _using(port, flag):
        return await loop.create_server(factory, HOST, port, ssl=context, start_serving=False)


async def serve(listener: asyncio.Server, flag: str) -> None:
    """Let clients in; ConfigError when another server was quicker."""
    with _using(listener.sockets[0].getsockname()[1], flag):
        await listener.start_serving()


@contextlib.contextmanager
def _using(port: int, flag: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"the exchange simulator cannot listen on {HOST}:{port} ({error.strerror}): "
            f"choose another {flag}, or 0 to have one picked."
        ) from error
