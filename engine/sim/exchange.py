"""The exchange simulator: a TLS WebSocket server on loopback that speaks engine.sim.binance.

As a process: `harpoon sim exchange`. In a test:

    async with ExchangeSim() as sim:
        ...  # sim.url, sim.ca_file, sim.api_key, sim.api_secret, sim.ledger, sim.rejections

It has an HMAC key always, and, when it is given one, an Ed25519 key, which can log on.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import logging
import math
import os
import re
import secrets
import shutil
import signal
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path
from typing import IO
from urllib.parse import parse_qs, urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from engine.errors import ConfigError
from engine.processes import at_stdin_eof
from engine.sim import authority
from engine.sim.binance import Venue
from engine.sim.ledger import Entry, LedgerEntry
from engine.sim.request import AccountKey

HOST = "127.0.0.1"
PATH = "/ws-api/v3"
DEFAULT_PRICE = Decimal("60000.00")
# "General API Information": a ping every 20 s, and a minute to answer it.
PING_INTERVAL_S = 20.0
PONG_TIMEOUT_S = 60.0
# Together they bound `stop`: a peer that does not answer the close frame is dropped after the
# first, one that has not even finished its upgrade is left behind after the second.
CLOSE_TIMEOUT_S = 0.4
STOP_TIMEOUT_S = 0.7

# websockets reports a peer's faults here, with tracebacks: for those who set up logging only.
_logger = logging.getLogger(__name__)
_logger.addHandler(logging.NullHandler())


class ExchangeSim:
    """The server, its certificate and its ledger.

    After `start`: `url`, `ca_file`. `ledger` lists the accepted orders, `rejections` counts the
    refused requests by "code message", `venue` has the rest (last price, clock skew, requests).

    To misbehave, at any time: `close_after_requests` = N closes a connection that has been answered
    N times; `refuse_upgrade_status` answers the upgrade with that HTTP status; `venue.keys` without
    a key revokes it.

    `ed25519_key` is an API key and its public key in PEM; ConfigError when that is none.
    """

    def __init__(
        self,
        *,
        ws_port: int = 0,
        ca_out: Path | None = None,
        ledger_file: Path | None = None,
        hmac_key: tuple[str, str] | None = None,
        ed25519_key: tuple[str, bytes] | None = None,
        ping_interval_s: float = PING_INTERVAL_S,
        clock_skew_ms: int = 0,
        last_price: Decimal = DEFAULT_PRICE,
    ) -> None:
        self.api_key, self.api_secret = hmac_key or (secrets.token_hex(32), secrets.token_hex(32))
        self.ed25519_api_key = ed25519_key and ed25519_key[0]
        keys: dict[str, AccountKey] = {self.api_key: self.api_secret}
        if ed25519_key is not None:
            keys[ed25519_key[0]] = _public_key(ed25519_key[1])
        self.venue = Venue(
            keys=keys,
            record=self._record,
            clock_skew_ms=clock_skew_ms,
        )
        self.venue.set_price("BTCUSDT", last_price)
        self.ledger: list[LedgerEntry] = []
        self.ledger_file = ledger_file
        self.close_after_requests: int | None = None
        self.refuse_upgrade_status: int | None = None
        self._ws_port = ws_port
        self._ca_out = ca_out
        self._ping_interval_s = ping_interval_s
        self._ledger_stream: IO[str] | None = None

    @property
    def rejections(self) -> Counter[str]:
        return self.venue.rejections

    async def __aenter__(self) -> ExchangeSim:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen on 127.0.0.1; ConfigError when the port or a file cannot be used."""
        with contextlib.ExitStack() as resources:
            directory = resources.enter_context(tempfile.TemporaryDirectory(prefix="harpoon-sim-"))
            files = authority.issue(Path(directory))
            self.ca_file = files.ca_file
            if self._ca_out is not None:
                with _writing("the CA certificate", self._ca_out):
                    shutil.copyfile(files.ca_file, self._ca_out)
                self.ca_file = self._ca_out
            if self.ledger_file is not None:
                with _writing("the ledger", self.ledger_file):
                    self._ledger_stream = resources.enter_context(
                        open(self.ledger_file, "w", encoding="utf-8")
                    )
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(files.certificate_file, files.key_file)
            await self._listen(context)
            self._resources = resources.pop_all()

    async def stop(self) -> None:
        """Close every connection (1001) and the files, within STOP_TIMEOUT_S."""
        self._server.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._server.wait_closed(), STOP_TIMEOUT_S)
        self._resources.close()

    async def _listen(self, context: ssl.SSLContext) -> None:
        try:
            self._server = await serve(
                self._converse,
                HOST,
                self._ws_port,
                ssl=context,
                process_request=self._upgrade,
                compression=None,
                ping_interval=self._ping_interval_s,
                ping_timeout=PONG_TIMEOUT_S,
                close_timeout=CLOSE_TIMEOUT_S,
                logger=_logger,
            )
        except OSError as error:
            raise ConfigError(
                f"the exchange simulator cannot listen on {HOST}:{self._ws_port} "
                f"({error.strerror}): choose another --ws-port, or 0 to have one picked."
            ) from error
        port = next(iter(self._server.sockets)).getsockname()[1]
        self.url = f"wss://{HOST}:{port}{PATH}"

    def _upgrade(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.refuse_upgrade_status is not None:
            return connection.respond(HTTPStatus(self.refuse_upgrade_status), "refused\n")
        if urlsplit(request.path).path != PATH:
            return connection.respond(HTTPStatus.NOT_FOUND, f"only {PATH} is served here\n")
        return None

    async def _converse(self, connection: ServerConnection) -> None:
        path = connection.request.path if connection.request else PATH
        query = parse_qs(urlsplit(path).query)
        show_limits = query.get("returnRateLimits") != ["false"]
        state = self.venue.connect(time.time_ns(), show_limits)
        answered = 0
        with contextlib.suppress(ConnectionClosed):
            while self.close_after_requests is None or answered < self.close_after_requests:
                message = await connection.recv()
                await connection.send(self.venue.answer(message, time.time_ns(), state))
                answered += 1

    def _record(self, entry: Entry) -> None:
        if isinstance(entry, LedgerEntry):
            self.ledger.append(entry)
        if self._ledger_stream is not None:
            print(json.dumps(dataclasses.asdict(entry)), file=self._ledger_stream, flush=True)


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


# ---- the command line ----------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `harpoon sim exchange`."""
    parser.add_argument(
        "--ws-port", type=_port, default=0, metavar="N", help="port on 127.0.0.1; 0 picks one"
    )
    parser.add_argument(
        "--ca-out", type=Path, metavar="FILE", help="write the CA certificate (PEM) here"
    )
    parser.add_argument(
        "--ledger", type=Path, metavar="FILE", help="write a JSON line per accepted order here"
    )
    parser.add_argument(
        "--hmac-key", type=_hmac_key, metavar="KEY:SECRET", help="default: made at start"
    )
    parser.add_argument(
        "--ed25519-key",
        type=_ed25519_key,
        metavar="KEY:PUBLIC_PEM_FILE",
        help="an API key that can log on, and its public key; default: none",
    )
    parser.add_argument(
        "--ping-interval-s", type=_interval, default=PING_INTERVAL_S, metavar="S", help="default 20"
    )
    parser.add_argument(
        "--clock-skew-ms", type=int, default=0, metavar="MS", help="the venue's clock minus ours"
    )
    parser.add_argument(
        "--price", type=_price, default=DEFAULT_PRICE, help=f"last price, default {DEFAULT_PRICE}"
    )
    parser.add_argument(
        "--spin", action="store_true", help="never sleep, so that no client's send has to wake us"
    )
    parser.add_argument(
        "--stop-on-stdin-eof", action="store_true", help="end when stdin does, as with the parent"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; one JSON line on stdout says when and where it is ready."""
    asyncio.run(_serve_until_told(args))
    return 0


async def _serve_until_told(args: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, told.set)
    if args.stop_on_stdin_eof:
        at_stdin_eof(lambda: _tell(loop, told))
    sim = ExchangeSim(
        ws_port=args.ws_port,
        ca_out=args.ca_out,
        ledger_file=args.ledger,
        hmac_key=args.hmac_key,
        ed25519_key=args.ed25519_key,
        ping_interval_s=args.ping_interval_s,
        clock_skew_ms=args.clock_skew_ms,
        last_price=args.price,
    )
    async with sim:
        ready = {
            "ws_url": sim.url,
            "ca_file": str(sim.ca_file),
            "api_key": sim.api_key,
            "api_secret": sim.api_secret,
            "ed25519_api_key": sim.ed25519_api_key,
            "ledger": None if sim.ledger_file is None else str(sim.ledger_file),
            "pid": os.getpid(),
        }
        print(json.dumps(ready), flush=True)
        while args.spin and not told.is_set():
            await asyncio.sleep(0)
        await told.wait()


def _tell(loop: asyncio.AbstractEventLoop, told: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended before
        loop.call_soon_threadsafe(told.set)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: give 0 to 65535")
    return int(text)


def _hmac_key(text: str) -> tuple[str, str]:
    key, _, secret = text.partition(":")
    if not key or not secret:
        raise argparse.ArgumentTypeError("give the API key and its secret as KEY:SECRET")
    return key, secret


def _ed25519_key(text: str) -> tuple[str, bytes]:
    key, _, file = text.partition(":")
    if not key or not file:
        raise argparse.ArgumentTypeError(
            "give the API key and the file with its public key as KEY:PUBLIC_PEM_FILE"
        )
    try:
        return key, Path(file).read_bytes()
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"{file} cannot be read ({error.strerror}): check the path"
        ) from error


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not an interval: give seconds above 0")
    return seconds


def _price(text: str) -> Decimal:
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,8})?", text) or not Decimal(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a price: give a number above 0 with up to 8 decimals, like 60000.50"
        )
    return Decimal(text)
