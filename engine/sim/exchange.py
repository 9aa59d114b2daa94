"""The exchange simulator: a venue on loopback with a WebSocket API, market streams and REST.

As a process: `harpoon sim exchange`. In a test:

    async with ExchangeSim() as sim:
        ...  # sim.url, sim.stream_url, sim.rest_url, sim.ca_file, sim.api_key, sim.ledger ...
        sim.faults.next("drop-after")

What requests mean is engine.sim.binance, what goes wrong is engine.sim.faults. It has an HMAC key
always, and, when it is given one, an Ed25519 key, which can log on.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import io
import json
import os
import secrets
import shutil
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from websockets.frames import CloseCode

from engine.errors import ConfigError, HarpoonError
from engine.sim import authority, rest
from engine.sim.binance import Venue
from engine.sim.faults import (
    ANSWERS,
    EVENT_FAULTS,
    ORDER_FAULTS,
    PROMPT_EVENT_FAULTS,
    REFUSALS,
    REQUEST_FAULTS,
    UNKNOWN_OUTCOMES,
    Fault,
    FaultEntry,
    FaultPlan,
    fault_error,
)
from engine.sim.ledger import Entry, FillEntry, LedgerEntry
from engine.sim.market import MarketTrade
from engine.sim.methods import read_request
from engine.sim.rates import CONNECTIONS, Limits
from engine.sim.request import AccountKey
from engine.sim.rest import RestReply
from engine.sim.rest_server import HttpRequest, RestServer
from engine.sim.streams import HEARTBEAT_S, Streams
from engine.sim.symbols import SYMBOLS, Symbol
from engine.sim.websocket import (
    HOST,
    LIFETIME_S,
    PING_INTERVAL_S,
    Clients,
    Habits,
    Peer,
    bind,
    serve,
)

PATH = "/ws-api/v3"
PORT_FLAGS = ("--ws-port", "--stream-port", "--rest-port")
STEP_INTERVAL_S = 0.1  # how often the market moves
REORDER_S = 0.1  # an event that is to come after the next one waits no longer
SHUTDOWN_S = 1.0  # between serverShutdown and the end; the documents promise no time
HUGE_BYTES = 16 << 20
NOT_JSON = '{"id":'
NOT_A_FRAME = bytes([0xFF]) * 64  # reserved bits and an opcode that is none (RFC 6455 5.2)
REST_FAULTS = {"drop-before", "drop-after", "delay", *ANSWERS}


class ExchangeSim:
    """The servers, their certificate and the ledger.

    After `start`: `url`, `stream_url` and `rest_url` (without a path), `ca_file`. `ledger` lists
    the accepted orders and `fills` what was filled, `entries` is both and all else that the ledger
    file has, in order; `rejections` counts the refused requests by "code message", `venue` has the
    rest (prices, clock skew, requests).

    To misbehave, at any time: `faults`, a FaultPlan, which `faults.next(spec)` commands directly;
    `drop_all`, `shut_down_soon` and `set_price`, from any thread; `close_after_requests` = N closes
    a connection that has been answered N times; `refuse_upgrade_status` answers the upgrade with
    that HTTP status; `venue.keys` without a key revokes it.

    `ed25519_key` is an API key and its public key in PEM. ConfigError when that is none, or
    `fault_specs` are no faults. `on_failure` is called when the ledger file cannot be written: then
    everybody has been cut already, and `stop` raises the reason.
    """

    def __init__(
        self,
        *,
        ws_port: int = 0,
        stream_port: int = 0,
        rest_port: int = 0,
        ca_out: Path | None = None,
        ledger_file: Path | None = None,
        hmac_key: tuple[str, str] | None = None,
        ed25519_key: tuple[str, bytes] | None = None,
        ping_interval_s: float = PING_INTERVAL_S,
        lifetime_s: float = LIFETIME_S,
        max_connections: int = CONNECTIONS.limit,
        clock_skew_ms: int = 0,
        last_price: Decimal | None = None,
        symbols: Mapping[str, Symbol] = SYMBOLS,
        seed: int | None = None,
        trades: Sequence[MarketTrade] | None = None,
        balances: Mapping[str, Decimal] | None = None,
        limits: Limits | None = None,
        fault_specs: Sequence[str] = (),
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self.api_key, self.api_secret = hmac_key or (secrets.token_hex(32), secrets.token_hex(32))
        self.ed25519_api_key = ed25519_key and ed25519_key[0]
        keys: dict[str, AccountKey] = {self.api_key: self.api_secret}
        if ed25519_key is not None:
            keys[ed25519_key[0]] = _public_key(ed25519_key[1])
        habits = Habits(ping_interval_s, lifetime_s, max_connections)
        self._api = Clients(habits, self.draw)
        self._streams = Streams(habits, self.draw)
        self._rest = RestServer(self._answer_rest)
        self.entries: list[Entry | FaultEntry] = []
        self.ledger: list[LedgerEntry] = []
        self.fills: list[FillEntry] = []
        self.venue = Venue(
            keys=keys,
            record=self._record,
            symbols=symbols,
            seed=seed,
            trades=trades,
            balances=balances,
            limits=limits or Limits(),
            on_market=self._streams.publish,
        )
        if last_price is not None:
            self.venue.set_price("BTCUSDT", last_price)
        self.ledger_file = ledger_file
        self.close_after_requests: int | None = None
        self.refuse_upgrade_status: int | None = None
        self._clock_skew_ms = clock_skew_ms
        self.faults = FaultPlan(fault_specs, seed or 0)
        self._ports = (ws_port, stream_port, rest_port)
        self._ca_out = ca_out
        self._ledger_stream: io.FileIO | None = None
        self._on_failure = on_failure
        self._failure: HarpoonError | None = None
        self._late: list[asyncio.TimerHandle] = []

    @property
    def rejections(self) -> Counter[str]:
        return self.venue.rejections

    @property
    def faults(self) -> FaultPlan:
        return self._faults

    @faults.setter
    def faults(self, plan: FaultPlan) -> None:
        self._faults = plan
        self.venue.clock_skew_ms = self._clock_skew_ms + plan.skew_ms

    async def __aenter__(self) -> ExchangeSim:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen on 127.0.0.1; ConfigError when a port or a file cannot be used."""
        self._loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as resources:
            directory = resources.enter_context(tempfile.TemporaryDirectory(prefix="harpoon-sim-"))
            files = authority.issue(Path(directory))
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(files.certificate_file, files.key_file)
            await self._bind(context, resources)
            # Only now: whoever has these ports already may have these files too.
            self.ca_file = self._hand_out(files.ca_file)
            if self.ledger_file is not None:
                with _writing("the ledger", self.ledger_file):
                    self._ledger_stream = resources.enter_context(
                        open(self.ledger_file, "wb", buffering=0)
                    )
            for listener, flag in zip(self._listeners, PORT_FLAGS, strict=True):
                await serve(listener, flag)
            self._resources = resources.pop_all()
        self._market = asyncio.create_task(self._run_market())

    async def stop(self) -> None:
        """Close every connection (1001) and the files, within a second. HarpoonError when it had
        failed before."""
        with self._resources:
            for listener in self._listeners:
                listener.close()
            self._rest.drop_all()
            await asyncio.gather(self._api.close_all(), self._streams.close_all())
            self._market.cancel()
            for timer in self._late:
                timer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._market
        if self._failure is not None:
            raise self._failure

    def drop_all(self) -> None:
        """Every connection ends now, as if the machine had died."""
        for act in (self._api.drop_all, self._streams.drop_all, self._rest.drop_all):
            self._loop.call_soon_threadsafe(act)

    def shut_down_soon(self, after_s: float = SHUTDOWN_S) -> None:
        """serverShutdown to every WebSocket, which is closed after so many seconds; who connects
        in the meantime is not told and stays."""
        self._loop.call_soon_threadsafe(self._announce_shutdown, after_s)

    def watch_quotes(self, told: Callable[[dict[str, Any]], None]) -> None:
        """Every best bid and ask that is sent to somebody, as on the stream."""
        self._streams.on_quote = told

    def set_price(self, symbol: str, price: Decimal) -> None:
        """As of the venue; from any thread."""
        self._loop.call_soon_threadsafe(self.venue.set_price, symbol, price)

    def draw(self, names: Collection[str]) -> Fault | None:
        """The fault, one of `names`, that happens now; the ledger has it."""
        fault = self.faults.draw(names)
        if fault is not None:
            self._record(FaultEntry(fault.name, time.time_ns()))
        return fault

    def execute_late(self, fault: Fault, execute: Callable[[], object]) -> None:
        """What the client has been told nothing certain about."""
        self._late.append(self._loop.call_later(fault.duration_s, execute))

    def now_ms(self) -> int:
        """The venue's clock."""
        return self.venue.clock_ns(time.time_ns()) // 1_000_000

    # ---- inside ----------------------------------------------------------------------------------

    async def _bind(self, context: ssl.SSLContext, resources: contextlib.ExitStack) -> None:
        """Take the ports; nobody is let in yet."""
        self._listeners: list[asyncio.Server] = []
        factories = (
            lambda: ApiPeer(self, self._api),
            self._streams.new_peer,
            self._rest.new_protocol,
        )
        for factory, port, flag in zip(factories, self._ports, PORT_FLAGS, strict=True):
            listener = await bind(factory, port, flag, context)
            resources.callback(listener.close)
            self._listeners.append(listener)
        hosts = [f"{HOST}:{each.sockets[0].getsockname()[1]}" for each in self._listeners]
        self.url = f"wss://{hosts[0]}{PATH}"
        self.stream_url = f"wss://{hosts[1]}"
        self.rest_url = f"https://{hosts[2]}"

    def _hand_out(self, ca_file: Path) -> Path:
        """Where clients find it."""
        if self._ca_out is None:
            return ca_file
        with _writing("the CA certificate", self._ca_out):
            shutil.copyfile(ca_file, self._ca_out)
        return self._ca_out

    async def _run_market(self) -> None:
        beat_at = time.monotonic()
        while True:
            self.venue.step(time.time_ns())
            if time.monotonic() >= beat_at:
                self._streams.beat()
                beat_at = time.monotonic() + HEARTBEAT_S
            await asyncio.sleep(STEP_INTERVAL_S)

    def _announce_shutdown(self, after_s: float) -> None:
        for peer in [*self._api.peers, *self._streams.peers]:
            peer.announce_shutdown(self.now_ms())
            peer.close_in(after_s)

    async def _answer_rest(self, request: HttpRequest) -> RestReply | None:
        is_placing = rest.places_orders(request.method, request.path)
        possible = ORDER_FAULTS if is_placing else REQUEST_FAULTS
        fault = self.draw([name for name in possible if name in REST_FAULTS])
        received_ns = time.time_ns()
        if fault is None:
            return self._execute_rest(request, received_ns)
        if fault.name == "drop-before":
            return None
        if fault.name == "late":
            self.execute_late(fault, lambda: self._execute_rest(request, received_ns))
        elif fault.name not in REFUSALS:
            reply = self._execute_rest(request, received_ns)
        if fault.name in ANSWERS:
            return self.venue.fail_rest(time.time_ns(), fault_error(fault, self.now_ms()))
        await asyncio.sleep(fault.duration_s)
        return None if fault.name == "drop-after" else reply

    def _execute_rest(self, request: HttpRequest, received_ns: int) -> RestReply:
        return self.venue.rest(
            request.method,
            request.path,
            request.query,
            request.body,
            request.headers,
            received_ns,
            time.time_ns(),
        )

    def _record(self, entry: Entry | FaultEntry) -> None:
        self.entries.append(entry)
        if isinstance(entry, LedgerEntry):
            self.ledger.append(entry)
        elif isinstance(entry, FillEntry):
            self.fills.append(entry)
        if self._ledger_stream is not None and self._failure is None:
            line = json.dumps(dataclasses.asdict(entry)).encode() + b"\n"
            try:
                if self._ledger_stream.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        """What the ledger does not have must not be known to anybody: end before it is said."""
        self._failure = HarpoonError(
            f"the ledger cannot be written to {self.ledger_file} any more ({error.strerror}), so "
            "the exchange simulator has ended: make room there, or choose another file."
        )
        for listener in self._listeners:
            listener.close()
        for clients in (self._api, self._streams, self._rest):
            clients.drop_all()
        self._on_failure()


class ApiPeer(Peer):
    """A client of the WebSocket API: its requests, replies and events."""

    def __init__(self, sim: ExchangeSim, clients: Clients) -> None:
        super().__init__(clients)
        self._sim = sim
        self._answered = 0
        self._late: str | None = None  # the event that waits for the next one

    def refuse(self) -> tuple[HTTPStatus, str] | None:
        if self._sim.refuse_upgrade_status is not None:
            return HTTPStatus(self._sim.refuse_upgrade_status), "refused\n"
        if self.path != PATH:
            return HTTPStatus.NOT_FOUND, f"only {PATH} is served here\n"
        return super().refuse()

    def opened(self) -> None:
        show_limits = parse_qs(self.query).get("returnRateLimits") != ["false"]
        self._state = self._sim.venue.connect(time.time_ns(), show_limits, self._on_event)

    def closed(self) -> None:
        self._sim.venue.disconnect(self._state)

    def received(self, message: str | bytes) -> None:
        fault = None if self._sim.faults.is_calm else self.draw(self._possible_faults(message))
        if fault is None:
            self._reply(self._execute(message))
            if self._sim.venue.is_banned:
                self.close(CloseCode.POLICY_VIOLATION)  # "you will be disconnected" ("IP limits")
        elif fault.name == "drop-before":
            self.cut()
        elif fault.name == "stop-reading":
            self.stop_reading()
        elif fault.name == "late":
            self._execute_late(message, fault)
            self._reply(self._failure(message, fault))
        elif fault.name in REFUSALS:
            self._reply(self._failure(message, fault))
            if fault.name == "418":
                self.close(CloseCode.POLICY_VIOLATION)
        else:
            self._execute_and_fail(message, fault)

    def announce_shutdown(self, now_ms: int) -> None:
        """Heading "Server Shutdown"."""
        self.send(json.dumps({"event": {"e": "serverShutdown", "E": now_ms}}))

    def _possible_faults(self, message: str | bytes) -> Collection[str]:
        method = read_request(message, self._state).method
        return ORDER_FAULTS if method is not None and method.places_orders else REQUEST_FAULTS

    def _execute(self, message: str | bytes) -> str:
        return self._sim.venue.answer(message, time.time_ns(), self._state)

    def _execute_late(self, message: str | bytes, fault: Fault) -> None:
        venue, state, received_ns = self._sim.venue, self._state, time.time_ns()
        self._sim.execute_late(
            fault, lambda: venue.answer(message, received_ns, state, time.time_ns())
        )

    def _execute_and_fail(self, message: str | bytes, fault: Fault) -> None:
        if fault.name in ("delay", "drop-after"):
            self.wire.hold(fault.duration_s)
        reply = self._execute(message)
        if fault.name in UNKNOWN_OUTCOMES:
            reply = self._failure(message, fault)
        match fault.name:
            case "drop-after":
                self.cut()
            case "garbage":
                self.wire.write(NOT_A_FRAME)
            case "not-json":
                self.send(NOT_JSON)
            case "huge":
                self.send(json.dumps({"padding": "x" * HUGE_BYTES}))
            case "shutdown":
                self.announce_shutdown(self._sim.now_ms())
                self.close_in(fault.duration_s)
        self._reply(reply)

    def _failure(self, message: str | bytes, fault: Fault) -> str:
        error = fault_error(fault, self._sim.now_ms())
        return self._sim.venue.fail(message, time.time_ns(), self._state, error)

    def _reply(self, text: str) -> None:
        self.send(text)
        self._answered += 1
        limit = self._sim.close_after_requests
        if limit is not None and self._answered >= limit:
            self.close()

    def _on_event(self, text: str) -> None:
        """An event of this connection, unless and as a fault has it."""
        fault = self.draw(EVENT_FAULTS if self._late is None else PROMPT_EVENT_FAULTS)
        name = fault.name if fault is not None else ""
        if name == "reorder-event":
            self._late = text
            self._in(REORDER_S, "late", self._send_late)
            return
        for _ in range({"lose-event": 0, "duplicate-event": 2}.get(name, 1)):
            self.send(text)
        self._send_late()

    def _send_late(self) -> None:
        late, self._late = self._late, None
        if late is not None:
            self.send(late)


def _public_key(pem: bytes) -> Ed25519PublicKey:
    key: object = None
    with contextlib.suppress(ValueError, UnsupportedAlgorithm):
        key = load_pem_public_key(pem)
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(
            "the exchange simulator was given no Ed25519 public key in PEM: give it the file that "
            "`openssl pkey -in PRIVATE_PEM_FILE -pubout` writes."
        )
    return key


@contextlib.contextmanager
def _writing(what: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{what} cannot be written to {path} ({error.strerror}): "
            "name a file in a directory that exists and is yours."
        ) from error
