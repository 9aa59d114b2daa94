"""An engine on its hot thread, and peers for it that other tests have no use for."""

from __future__ import annotations

import ctypes
import hashlib
import hmac
import json
import queue
import select
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from engine.core import Engine, VenueAddress
from engine.records import Body, Command, Fired, Opened, Record
from engine.sim.authority import CertificateFiles
from engine.venues.binance import signature_payload

from .peers import (
    FIN,
    PING,
    PONG,
    SECRET,
    TEXT,
    Connection,
    Server,
    accept,
    deposit,
    frame,
    serving,
    transaction,
    wallet,
)
from .publisher import Publisher
from .tls_records import DATA, HANDSHAKE, KEY_UPDATE, KEY_UPDATE_REQUEST, Keys, logged_secret

PATIENCE_S = 20.0
ROOT = Path(__file__).resolve().parents[1]
LIBC = ctypes.CDLL(None)
AnyBody = TypeVar("AnyBody", bound=Body)


class Hot:
    """`engine.run()` on a thread of its own; what it records is kept in `records`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.records: list[Record] = []
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.engine.run()
        except Exception as error:
            self.error = error

    def read(self) -> None:
        """What has come since the last time."""
        self.engine.prepare()
        self.records += self.engine.records()

    def all(self, kind: type[AnyBody]) -> list[AnyBody]:
        """The bodies of that kind, so far."""
        self.read()
        return [record.body for record in self.records if isinstance(record.body, kind)]

    def until(self, happened: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not happened():
            assert self.thread.is_alive(), f"the hot thread has ended: {self.error}"
            if time.monotonic() > deadline:
                raise AssertionError(f"it did not happen; the last records: {self.records[-10:]}")
            time.sleep(0.002)

    def fire(self, raw: bytes) -> Fired:
        """One transaction through the side door: what became of its order."""
        before = len(self.all(Fired))
        assert self.engine.offer_rawtx(raw, time.monotonic_ns())
        self.until(lambda: len(self.all(Fired)) > before)
        return self.all(Fired)[before]

    def connect(self, server: Server, held: bool = False, session: int = 0) -> Connection:
        before = len(self.all(Opened))
        self.engine.command_connect(server.address(), session)
        self.until(lambda: len(self.all(Opened)) > before)
        self.hold(held, session)
        return server.connection()

    def hold(self, held: bool, session: int = 0) -> None:
        """Returns when it is obeyed: transactions come another way, which may be the shorter."""
        before = self._obeyed("hold")
        self.engine.command_hold(held, session)
        self.until(lambda: self._obeyed("hold") > before)

    def _obeyed(self, command: str) -> int:
        return sum(each.command == command for each in self.all(Command))

    def stop(self) -> None:
        if self.thread.is_alive():
            self.engine.command_stop()
            self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive(), "it does not obey"


@contextmanager
def running(engine: Engine) -> Iterator[Hot]:
    hot = Hot(engine)
    hot.thread.start()
    try:
        yield hot
    finally:
        engine.abort()
        hot.thread.join(PATIENCE_S)


# ---- orders --------------------------------------------------------------------------------------


def payment(value_sat: int, nonce: int, exchange: str = "kraken") -> bytes:
    """A deposit of that amount, by somebody unknown."""
    return transaction({wallet(exchange): value_sat}, nonce)


def order_in(message: bytes) -> dict[str, Any]:
    """The parameters of an order that an exchange would take: whole, and rightly signed."""
    request = json.loads(message)
    params: dict[str, Any] = request["params"]
    signature = params.pop("signature")
    signed = signature_payload(params).encode()
    assert signature == hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert request["method"] == "order.place"
    assert request["id"] == params["newClientOrderId"]
    return params


# ---- servers -------------------------------------------------------------------------------------


class OldServer(Server):
    """One that knows TLS 1.2 only."""

    def __init__(self, files: CertificateFiles, receive_buffer: int | None = None) -> None:
        super().__init__(files, receive_buffer=receive_buffer)
        self._context.maximum_version = ssl.TLSVersion.TLSv1_2


class UpdatingServer(Server):
    """Its connections can be made Updating: its key log tells their secrets."""

    def __init__(self, files: CertificateFiles, key_log: Path) -> None:
        super().__init__(files, accept)
        self._context.keylog_filename = str(key_log)
        self.key_log = key_log


class Updating:
    """What a server says on a connection, sealed here and not by `ssl`, which cannot ask for a
    KeyUpdate; `ssl` goes on reading what the client says."""

    def __init__(self, connection: Connection, key_log: Path, cipher: str) -> None:
        self._connection = connection
        secret = logged_secret(key_log, "SERVER_TRAFFIC_SECRET_0")
        self._keys = Keys(cipher.split()[1], secret)
        self._keys.number = 3  # two NewSessionTickets, the answer to the upgrade

    def send(self, data: bytes) -> None:
        self._connection.sock.sendall(self._keys.seal(DATA, data))

    def update_key(self, requested: bool) -> None:
        message = KEY_UPDATE_REQUEST if requested else KEY_UPDATE
        self._connection.sock.sendall(self._keys.seal(HANDSHAKE, message))
        self._keys.update()


# ---- a process of its own ------------------------------------------------------------------------


@dataclass(frozen=True)
class Traffic:
    """What a World saw, in CLOCK_MONOTONIC ns: when each deposit was published, when each order
    came and with which client id, when each Ping was sent and when its Pong came."""

    published: list[int]
    orders: list[tuple[int, str]]
    pings: list[int]
    pongs: list[int]


class Pollfd(ctypes.Structure):
    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


class World:
    """A node and a venue in a process of its own, which this one's GIL does not hold up."""

    def __init__(self, files: CertificateFiles) -> None:
        names = [str(path) for path in (files.ca_file, files.certificate_file, files.key_file)]
        code = f"import sys; sys.path.append({str(ROOT)!r}); from tests.hot import play; play()"
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", code, *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        said = self.answer()
        self.endpoint: str = said["endpoint"]
        self.address = VenueAddress(
            "127.0.0.1", "localhost", said["port"], "/", files.ca_file, 20_000_000_000
        )

    def answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def play(self, first: int, count: int, every_ms: int, libc: ctypes.CDLL = LIBC) -> None:
        """So many deposits, numbered from `first` on, each with a Ping; returns when all that comes
        of them has come. With a PyDLL nobody else has the GIL meanwhile."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        line = b"%d %d %d\n" % (first, count, every_ms)
        assert libc.write(stdin.fileno(), line, len(line)) == len(line)
        answer = Pollfd(stdout.fileno(), select.POLLIN)
        assert libc.poll(ctypes.byref(answer), 1, -1) == 1

    def traffic(self) -> Traffic:
        return Traffic(**self.answer())

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


def play() -> None:
    """The process of a World."""
    ca_file, certificate_file, key_file = map(Path, sys.argv[1:])
    node = Publisher()
    with serving(CertificateFiles(ca_file, certificate_file, key_file)) as server:
        print(json.dumps({"endpoint": node.endpoint, "port": server.port}), flush=True)
        peer = server.connection()
        node.wait_subscriber()
        for line in sys.stdin:
            first, count, every_ms = map(int, line.split())
            print(json.dumps(_trade(node, peer, range(first, first + count), every_ms)), flush=True)
    node.close()


def _trade(node: Publisher, peer: Connection, numbers: range, every_ms: int) -> dict[str, Any]:
    published, orders, pings, pongs = [], [], [], []
    answered: queue.SimpleQueue[int] = queue.SimpleQueue()

    def listen() -> None:
        while len(orders) < len(numbers) or len(pongs) < len(numbers):
            opcode, payload = peer.frame()
            now = time.monotonic_ns()
            if opcode == TEXT:
                orders.append((now, order_in(payload)["newClientOrderId"]))
            elif opcode == PONG:
                pongs.append(now)
                answered.put(now)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    for number in numbers:
        published.append(time.monotonic_ns())
        node.send(deposit("kraken", number), number)
        time.sleep(every_ms / 2000)
        pings.append(time.monotonic_ns())
        peer.send(frame(FIN | PING, b"%d" % number))
        answered.get(timeout=PATIENCE_S)  # of several it would answer only the last
        time.sleep(every_ms / 2000)
    listener.join(PATIENCE_S)
    return {"published": published, "orders": orders, "pings": pings, "pongs": pongs}
