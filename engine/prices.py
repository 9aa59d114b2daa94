"""The prices of the rules' symbols, from the venue's market streams (web-socket-streams.md), on a
thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import random
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

EVERY_NS = 50_000_000  # a price that hardly moved is told so often
MOVED_BP = 2  # what moved more is told at once
# A connection may send 5 messages a second, pings included ("WebSocket Limits").
PING_S = 2.5
PONG_S = 10.0
OPEN_S = 10.0
RETRY_FIRST_S, RETRY_MOST_S = 0.5, 30.0
SETTLED_S = 60.0
_MESSAGE_BYTES_MAX = 1 << 16
_E8 = Decimal(10) ** 8
_E8_MOST = 1 << 62
_DIGITS_MOST = 40


@dataclass(frozen=True, slots=True)
class Price:
    """The best bid and ask, in 1e-8 of the quote asset. At t_ns (CLOCK_MONOTONIC) they came, or
    were found to be still so."""

    symbol: str
    bid_e8: int
    ask_e8: int
    t_ns: int

    def is_news_after(self, told: Price | None) -> bool:
        """It is worth telling: EVERY_NS later, or moved by more than MOVED_BP on either side."""
        if told is None or self.t_ns - told.t_ns >= EVERY_NS:
            return True
        return any(
            abs(now - before) * 10_000 > MOVED_BP * before
            for now, before in ((self.bid_e8, told.bid_e8), (self.ask_e8, told.ask_e8))
        )


class _ServerShutdown(Exception):
    """Heading "Server Shutdown": connect anew as soon as possible."""


def parse_price(text: str | bytes, t_ns: int) -> Price | None:
    """A message of a combined stream of `<symbol>@bookTicker` (heading "Individual Symbol Book
    Ticker Streams"). None for anything else, and where the bid is above the ask or one of them is
    missing, as in a market without orders. _ServerShutdown when that is what it says."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    data = message.get("data") if isinstance(message, dict) else None
    if not isinstance(data, dict):
        return None
    if data.get("e") == "serverShutdown":
        raise _ServerShutdown
    symbol = data.get("s")
    bid_e8 = _e8(data.get("b"), ROUND_FLOOR)
    ask_e8 = _e8(data.get("a"), ROUND_CEILING)
    if not isinstance(symbol, str) or not 0 < bid_e8 <= ask_e8:
        return None
    return Price(symbol, bid_e8, ask_e8, t_ns)


def _e8(value: object, rounding: str) -> int:
    """A decimal string in units of 1e-8; 0 when it is none."""
    if not isinstance(value, str) or len(value) > _DIGITS_MOST:
        return 0
    try:
        number = Decimal(value)
    except InvalidOperation:
        return 0
    if not number.is_finite() or abs(number.adjusted()) > _DIGITS_MOST:
        return 0
    e8 = int((number * _E8).to_integral_value(rounding))
    return e8 if 0 < e8 < _E8_MOST else 0


class Prices:
    """`start()`, then news() and notices() from one thread until `stop()`.

    A book ticker speaks when the book's top changes, and a market may be quiet. What the server
    sends comes in order: a price that nothing came after before the answer to a ping was still the
    price when the ping left. So each answered ping renews the prices of its connection, and a price
    grows old only when the connection no longer is proven alive."""

    def __init__(self, stream_url: str, ca_file: Path | None, symbols: tuple[str, ...]) -> None:
        streams = "/".join(f"{symbol.lower()}@bookTicker" for symbol in symbols)
        self._url = f"{stream_url.rstrip('/')}/stream?streams={streams}"
        self._where = stream_url
        self._ca_file = ca_file
        self._symbols = frozenset(symbols)
        self._latest: dict[str, Price] = {}
        self._told: dict[str, Price] = {}
        self._notices: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._complaint = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._work, name="prices", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._begun.wait()

    def stop(self) -> None:
        """Does nothing when it was not started."""
        if self._loop is not None and self._task is not None:
            with contextlib.suppress(RuntimeError):  # stop() was called before
                self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join()

    def news(self) -> list[Price]:
        """Of each symbol the latest, where that is news after what the last call told."""
        found = [
            price
            for symbol, price in list(self._latest.items())
            if price.is_news_after(self._told.get(symbol))
        ]
        self._told.update((price.symbol, price) for price in found)
        return found

    def notices(self) -> Iterator[str]:
        """What happened since the last call, in sentences."""
        while not self._notices.empty():
            yield self._notices.get()

    # ---- its own thread --------------------------------------------------------------------------

    def _work(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # stop()
            asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._begun.set()
        await self._live()

    async def _live(self) -> None:
        """One connection after the other, with exponential backoff and jitter."""
        retry_s = RETRY_FIRST_S
        while True:
            began = time.monotonic()
            try:
                async with connect(
                    self._url,
                    ssl=ssl.create_default_context(cafile=self._ca_file),
                    open_timeout=OPEN_S,
                    close_timeout=1,
                    ping_interval=None,  # _ping does it
                    max_size=_MESSAGE_BYTES_MAX,
                    compression=None,
                ) as connection:
                    self._tell(f"prices come from {self._where}")
                    await self._converse(connection)
                    self._tell(f"{self._where} has ended the connection: connecting anew")
            except _ServerShutdown:
                self._tell(f"{self._where} is about to shut down: connecting anew")
            except (OSError, WebSocketException, ValueError) as error:
                words = str(error) or type(error).__name__
                self._tell(
                    f"no prices from {self._where} ({words[:200]}): check venue.stream_url and the "
                    "network"
                )
            if time.monotonic() - began > SETTLED_S:
                retry_s = RETRY_FIRST_S
            await asyncio.sleep(retry_s * (0.5 + random.random() / 2))
            retry_s = min(2 * retry_s, RETRY_MOST_S)

    async def _converse(self, connection: ClientConnection) -> None:
        """Until it ends. What another connection told is not renewed by this one: what changed in
        between nobody has heard."""
        seen: dict[str, Price] = {}
        pinging = asyncio.create_task(self._ping(connection, seen))
        try:
            async for text in connection:
                price = parse_price(text, time.monotonic_ns())
                if price is not None and price.symbol in self._symbols:
                    seen[price.symbol] = self._latest[price.symbol] = price
        finally:
            pinging.cancel()

    async def _ping(self, connection: ClientConnection, seen: dict[str, Price]) -> None:
        """Without an answer the connection is ended."""
        with contextlib.suppress(WebSocketException):  # _converse hears of it
            while True:
                await asyncio.sleep(PING_S)
                sent_ns = time.monotonic_ns()
                answered = await connection.ping()
                try:
                    async with asyncio.timeout(PONG_S):
                        await answered
                except TimeoutError:
                    connection.transport.abort()
                    return
                for symbol, price in seen.items():
                    if price.t_ns < sent_ns:
                        seen[symbol] = self._latest[symbol] = replace(price, t_ns=sent_ns)

    def _tell(self, words: str) -> None:
        if words != self._complaint:
            self._notices.put(words)
        self._complaint = words
