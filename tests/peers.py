"""The other ends of the engine's wires: TLS servers that say byte by byte what a test wants, and
transactions that pay an exchange."""

from __future__ import annotations

import base64
import hashlib
import queue
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from engine.address import address_of
from engine.book import Book, BookEntry
from engine.core import Engine, EngineOptions, Rule, VenueAddress
from engine.feed.wallet import compact_size
from engine.records import Body, Closed, Fired, Message, Signal
from engine.sim.authority import CertificateFiles
from engine.venues.binance import OrderSpec, order_template

PATIENCE_S = 20.0
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3
TEXT, BINARY, CLOSE, PING, PONG, FIN = 1, 2, 8, 9, 10, 0x80

API_KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
SELL = OrderSpec("BTCUSDT", "SELL", "MARKET", "0.01000000")
BTC = 100_000_000
# Sends what it is told to, and what it has armed waits while others have the processor.
PATIENT = EngineOptions(live=True, max_orders=1 << 40, rearm_ns=10_000_000_000)
TRANSPORT = "io_uring"  # of every engine here; conftest.py's each_transport changes it


# ---- WebSocket frames (RFC 6455 5.2) -------------------------------------------------------------


def frame(first_byte: int, payload: bytes = b"") -> bytes:
    """As a server sends it: unmasked."""
    if len(payload) < 126:
        return struct.pack(">BB", first_byte, len(payload)) + payload
    if len(payload) < 1 << 16:
        return struct.pack(">BBH", first_byte, 126, len(payload)) + payload
    return struct.pack(">BBQ", first_byte, 127, len(payload)) + payload


def text(payload: bytes) -> bytes:
    return frame(FIN | TEXT, payload)


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(FIN | CLOSE, struct.pack(">H", code) + reason)


# ---- servers -------------------------------------------------------------------------------------


class Connection:
    """The server's side of one connection. TLS runs over memory, so that a test decides how the
    ciphertext is cut into records and segments."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.sock = sock
        self.sock.settimeout(PATIENCE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._plain = b""

    def handshake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.sock.sendall(self._out.read())
                self._fill()
            else:
                self.sock.sendall(self._out.read())
                return

    def _fill(self) -> None:
        data = self.sock.recv(1 << 16)
        if not data:
            raise EOFError
        self._in.write(data)

    def sealed(self, data: bytes, record: int = 1 << 14) -> bytes:
        """`data` as TLS records of `record` bytes each."""
        for at in range(0, len(data), record):
            self._tls.write(data[at : at + record])
        return self._out.read()

    def send(self, data: bytes) -> None:
        self.sock.sendall(self.sealed(data))

    def _read_some(self) -> None:
        while True:
            try:
                data = self._tls.read(1 << 16)
            except ssl.SSLWantReadError:
                self._fill()
                continue
            if not data:
                raise EOFError
            self._plain += data
            return

    def read(self, n: int) -> bytes:
        """Exactly n bytes of plaintext; EOFError or OSError when they do not come."""
        while len(self._plain) < n:
            self._read_some()
        data, self._plain = self._plain[:n], self._plain[n:]
        return data

    def request(self) -> bytes:
        """The HTTP request, up to and with its empty line."""
        while b"\r\n\r\n" not in self._plain:
            self._read_some()
        return self.read(self._plain.index(b"\r\n\r\n") + 4)

    def upgrade(self, behind: bytes = b"") -> None:
        """Agree to the upgrade; `behind` comes in the same record as the answer."""
        self.send(agreement(self.request()) + behind)

    def frame(self) -> tuple[int, bytes]:
        """The next frame of the client: its opcode and unmasked payload."""
        first, second = self.read(2)
        assert (first & 0xF0, second & 0x80) == (FIN, 0x80), "one whole masked frame"
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", self.read(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self.read(8))
        mask = self.read(4)
        return first & 0x0F, bytes(b ^ mask[i % 4] for i, b in enumerate(self.read(length)))

    def is_silent(self, seconds: float = 0.1) -> bool:
        """Whether the client says nothing for a while."""
        self.sock.settimeout(seconds)
        try:
            self.read(1)
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(PATIENCE_S)
        return False

    def end_tls(self) -> None:
        """close_notify, without a Close frame."""
        with suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self.sock.sendall(self._out.read())

    def reset(self) -> None:
        """Close with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def agreement(request: bytes) -> bytes:
    """The 101 answer to an upgrade request (RFC 6455 4.2.2)."""
    fields = dict(line.split(b": ", 1) for line in request.split(b"\r\n")[1:-2])
    accept = base64.b64encode(hashlib.sha1(fields[b"Sec-WebSocket-Key"] + GUID).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


def accept(connection: Connection) -> None:
    """What a friendly server does with a new connection."""
    connection.handshake()
    connection.upgrade()


class Server:
    """Listens on loopback; a thread runs `script` on every connection, then the test has it."""

    def __init__(
        self,
        files: CertificateFiles,
        script: Callable[[Connection], None] = accept,
        receive_buffer: int | None = None,
        ip: str = "127.0.0.1",
    ) -> None:
        self.ip, self.ca_file = ip, files.ca_file
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(files.certificate_file, files.key_file)
        self._script = script
        self._done: queue.Queue[Connection] = queue.Queue()
        self._all: list[Connection] = []
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        self._listener = socket.create_server((ip, 0), family=family)
        if receive_buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # shut down
                return
            connection = Connection(sock, self._context)
            self._all.append(connection)
            with suppress(OSError, EOFError):  # the client may refuse us: that is for it to say
                self._script(connection)
                self._done.put(connection)

    def connection(self) -> Connection:
        """The next connection whose script has come to its end."""
        return self._done.get(timeout=PATIENCE_S)

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE_S)
        for connection in self._all:
            connection.sock.close()

    def address(self, host: str = "localhost", timeout_s: float = PATIENCE_S) -> VenueAddress:
        return VenueAddress(
            ip=self.ip,
            host=host,
            port=self.port,
            path="/ws-api/v3",
            ca_file=self.ca_file,
            timeout_ns=int(timeout_s * 1e9),
        )


@contextmanager
def serving(
    files: CertificateFiles,
    script: Callable[[Connection], None] = accept,
    receive_buffer: int | None = None,
    ip: str = "127.0.0.1",
) -> Iterator[Server]:
    server = Server(files, script, receive_buffer, ip)
    try:
        yield server
    finally:
        server.stop()


# ---- transactions --------------------------------------------------------------------------------


def wallet(name: str) -> bytes:
    """A P2WPKH script that stands for `name`'s wallet."""
    return b"\x00\x14" + hashlib.sha256(name.encode()).digest()[:20]


def book_of(*exchanges: str) -> Book:
    """A book with one address, wallet(exchange), for each."""
    return Book([BookEntry(str(address_of(wallet(name))), name) for name in exchanges])


COINBASE = (
    bytes.fromhex("0100000001")
    + bytes(32)
    + bytes.fromhex("ffffffff020101ffffffff01")
    + (50 * BTC).to_bytes(8, "little")
    + bytes([22])
    + wallet("pool")
    + bytes(4)
)


def transaction(outputs: dict[bytes, int], nonce: int = 0, n_in: int = 1) -> bytes:
    """A legacy transaction whose inputs reveal nothing; `nonce` makes its outpoints unique."""
    inputs = b"".join(
        hashlib.sha256(b"%d" % nonce).digest() + struct.pack("<IBI", i, 0, 0xFFFFFFFF)
        for i in range(n_in)
    )
    outs = b"".join(
        struct.pack("<qB", value_sat, len(script)) + script for script, value_sat in outputs.items()
    )
    counts = compact_size(n_in), compact_size(len(outputs))
    return struct.pack("<i", 2) + counts[0] + inputs + counts[1] + outs + struct.pack("<I", 0)


def deposit(exchange: str, nonce: int = 0, value_sat: int = 5 * BTC) -> bytes:
    """A payment to the exchange by somebody unknown, with change."""
    return transaction({wallet(exchange): value_sat, wallet("somebody"): BTC}, nonce)


def txid_of(raw: bytes) -> str:
    """As displayed; `raw` is in legacy form."""
    return hashlib.sha256(hashlib.sha256(raw).digest()).digest()[::-1].hex()


# ---- engines -------------------------------------------------------------------------------------


@dataclass
class Rig:
    """An engine with one rule, connected to a server that the test plays."""

    engine: Engine
    peer: Connection

    def deposit(self, nonce: int = 0, exchange: str = "kraken") -> Fired:
        """One deposit through the engine: what became of its order."""
        self.engine.rawtx(deposit(exchange, nonce), time.monotonic_ns())
        (fired,) = [event for event in news(self.engine) if isinstance(event, Fired)]
        return fired

    def events(self, until: Callable[[list[Body]], bool]) -> list[Body]:
        """Poll until the events so far are enough; fails when they do not come."""
        found: list[Body] = []
        deadline = time.monotonic() + PATIENCE_S
        while not until(found):
            assert time.monotonic() < deadline, f"only {found} came"
            self.engine.poll(50_000_000)
            found += news(self.engine)
        return found

    def messages(self, n: int) -> list[bytes]:
        """The next n text messages, and nothing else."""
        found = self.events(lambda events: len(events) >= n)
        texts = [event.text for event in found if isinstance(event, Message)]
        assert len(texts) == len(found), found
        return texts

    def messages_and_end(self) -> tuple[list[bytes], str]:
        """Text messages up to the session's end, and its reason."""
        *found, last = self.events(lambda events: any(isinstance(e, Closed) for e in events))
        assert isinstance(last, Closed)
        assert not self.engine.ready
        return [event.text for event in found if isinstance(event, Message)], last.reason

    def end(self) -> str:
        """The reason of the session's end, before which nothing comes."""
        messages, reason = self.messages_and_end()
        assert messages == []
        return reason


def news(engine: Engine) -> list[Body]:
    """What the engine reports, without its counters and its accounts of how it goes."""
    told = (Signal, Fired, Message, Closed)
    return [event for event in engine.events() if isinstance(event, told)]


def engine_for(
    options: EngineOptions, *specs: OrderSpec, exchanges: tuple[str, ...] = ("kraken", "okx")
) -> Engine:
    """An engine that fires the first spec on any deposit, if there is a spec."""
    engine = Engine(book_of(*exchanges), replace(options, transport=TRANSPORT))
    engine.set_key(SECRET)
    for spec in specs:
        order = engine.add_order(order_template(spec, API_KEY, 5000))
        engine.add_rule(Rule(("deposit",), None, 1, None, order))
    return engine


@contextmanager
def rig(server: Server, options: EngineOptions | None = None) -> Iterator[Rig]:
    """An engine connected to `server`, live unless told otherwise."""
    engine = engine_for(options or PATIENT, SELL)
    engine.connect(server.address())
    peer = server.connection()
    try:
        yield Rig(engine, peer)
    finally:
        peer.sock.close()  # or our goodbye would wait for its answer
        engine.close()
