"""Prices from a market stream, served by a small WebSocket server over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.server import Server, ServerConnection, serve

from engine import prices
from engine.prices import EVERY_NS, Price, Prices, parse_price
from engine.sim.authority import CertificateFiles

PATIENCE_S = 20.0
# The asyncio of CPython 3.11.2 leaves a TLS transport that is cut while it closes to the garbage
# collector, which then complains.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    """Here, and not in the middle of another test."""
    yield
    gc.collect()


class Market:
    """A stream server on a thread of its own: what say() is given goes to every client."""

    def __init__(self, files: CertificateFiles) -> None:
        self.paths: list[str] = []
        self.pings = 0
        self.answers_pings = True
        self._clients: set[ServerConnection] = set()
        self._files = files
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._do(self._listen())
        port = next(iter(self._server.sockets)).getsockname()[1]
        self.url = f"wss://127.0.0.1:{port}"

    def _do(self, coroutine):  # type: ignore[no-untyped-def]
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_S)

    async def _listen(self) -> Server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._files.certificate_file, self._files.key_file)
        return await serve(
            self._converse, "127.0.0.1", 0, ssl=context, ping_interval=None, close_timeout=0.2
        )

    async def _converse(self, connection: ServerConnection) -> None:
        self.paths.append(connection.request.path if connection.request else "")
        if not self.answers_pings:
            connection.transport.pause_reading()
        self._clients.add(connection)
        try:
            await connection.wait_closed()
        finally:
            self._clients.discard(connection)

    def say(self, *messages: str) -> None:
        async def to_all() -> None:
            for message in messages:
                for client in list(self._clients):
                    await client.send(message)

        self._do(to_all())

    def drop(self) -> None:
        async def all_of_them() -> None:
            for client in list(self._clients):
                client.transport.abort()

        self._do(all_of_them())

    def clients(self) -> int:
        return len(self._clients)

    def stop(self) -> None:
        async def end() -> None:
            self._server.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._server.wait_closed(), 1)

        self._do(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()


@pytest.fixture
def market(files: CertificateFiles, monkeypatch: pytest.MonkeyPatch) -> Iterator[Market]:
    monkeypatch.setattr(prices, "RETRY_FIRST_S", 0.02)
    market = Market(files)
    yield market
    market.stop()


@contextlib.contextmanager
def listening(market: Market, files: CertificateFiles) -> Iterator[Prices]:
    feed = Prices(market.url, files.ca_file, ("BTCUSDT", "ETHUSDT"))
    feed.start()
    try:
        wait_until(lambda: market.clients() == 1)
        yield feed
    finally:
        feed.stop()


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def next_news(feed: Prices) -> list[Price]:
    found: list[Price] = []
    wait_until(lambda: found.extend(feed.news()) or found)
    return found


def ticker(bid: object, ask: object, symbol: str = "BTCUSDT") -> str:
    data = {"u": 1, "s": symbol, "b": bid, "B": "1.0", "a": ask, "A": "1.0"}
    return json.dumps({"stream": f"{symbol.lower()}@bookTicker", "data": data})


def test_a_price_comes_with_the_time_of_its_receipt(
    market: Market, files: CertificateFiles
) -> None:
    with listening(market, files) as feed:
        assert market.paths == ["/stream?streams=btcusdt@bookTicker/ethusdt@bookTicker"]
        before = time.monotonic_ns()
        market.say("garbage", ticker("1", "0.9"), ticker("60000.10000000", "60000.20000000"))
        (price,) = next_news(feed)
        assert (price.symbol, price.bid_e8, price.ask_e8) == (
            *("BTCUSDT", 60_000_10000000),
            60_000_20000000,
        )
        assert before <= price.t_ns <= time.monotonic_ns()
        market.say(ticker("0.01", "0.02", "SOLUSDT"), ticker("3000.1", "3000.2", "ETHUSDT"))
        assert [price.symbol for price in next_news(feed)] == ["ETHUSDT"]


def test_an_answered_ping_renews_a_quiet_price(
    market: Market, files: CertificateFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prices, "PING_S", 0.1)
    with listening(market, files) as feed:
        market.say(ticker("60000", "60001"))
        found: list[Price] = []
        wait_until(lambda: found.extend(feed.news()) or len(found) >= 2)
        first, second = found[:2]
        assert (second.bid_e8, second.ask_e8) == (first.bid_e8, first.ask_e8)
        assert second.t_ns > first.t_ns


def test_a_price_of_another_connection_is_not_renewed(
    market: Market, files: CertificateFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have changed while nobody listened."""
    monkeypatch.setattr(prices, "PING_S", 0.05)
    with listening(market, files) as feed:
        market.say(ticker("60000", "60001"), ticker("3000", "3001", "ETHUSDT"))
        told: set[str] = set()
        wait_until(lambda: told.update(p.symbol for p in feed.news()) or len(told) == 2)
        market.drop()
        wait_until(lambda: len(market.paths) == 2 and market.clients() == 1)
        market.say(ticker("3002", "3003", "ETHUSDT"))
        wait_until(lambda: any(price.bid_e8 == 3002 * 10**8 for price in feed.news()))
        renewed: list[str] = []
        wait_until(lambda: renewed.extend(p.symbol for p in feed.news()) or len(renewed) >= 3)
        assert set(renewed) == {"ETHUSDT"}


def test_a_server_that_does_not_answer_pings_is_left(
    market: Market, files: CertificateFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prices, "PING_S", 0.05)
    monkeypatch.setattr(prices, "PONG_S", 0.1)
    market.answers_pings = False
    with listening(market, files):
        wait_until(lambda: len(market.paths) >= 2)


def test_it_comes_back_after_a_shutdown_and_says_so(
    market: Market, files: CertificateFiles
) -> None:
    shutdown = {"stream": "!serverShutdown", "data": {"e": "serverShutdown", "E": 1}}
    with listening(market, files) as feed:
        market.say(json.dumps(shutdown))
        wait_until(lambda: len(market.paths) == 2)
        market.say(ticker("60000", "60001"))
        next_news(feed)
        words = list(feed.notices())
        assert any("about to shut down" in text for text in words)
        assert words[-1].startswith("prices come from wss://")


def test_a_certificate_that_nobody_vouches_for(market: Market) -> None:
    feed = Prices(market.url, None, ("BTCUSDT",))
    feed.start()
    words: list[str] = []
    wait_until(lambda: words.extend(feed.notices()) or words)
    feed.stop()
    assert "CERTIFICATE_VERIFY_FAILED" in words[0]
    assert "check venue.stream_url" in words[0]


@pytest.mark.parametrize("url", ["wss://127.0.0.1:1", "wss://a..b", "wss://no-such-host.invalid"])
def test_where_nobody_is(url: str) -> None:
    feed = Prices(url, None, ("BTCUSDT",))
    feed.start()
    words: list[str] = []
    wait_until(lambda: words.extend(feed.notices()) or words)
    feed.stop()
    feed.stop()
    assert words[0].startswith(f"no prices from {url}")


def test_one_that_never_started_is_stopped() -> None:
    Prices("wss://127.0.0.1:1", None, ("BTCUSDT",)).stop()


# ---- parts ---------------------------------------------------------------------------------------


def at(t_ns: int, bid_e8: int) -> Price:
    return Price("BTCUSDT", bid_e8, bid_e8 + 100, t_ns)


def test_what_hardly_moved_waits_and_what_moved_does_not() -> None:
    told = at(0, 10**12)
    assert told.is_news_after(None)
    assert not at(1, 10**12 + 10**8).is_news_after(told)
    assert at(1, 10**12 + 3 * 10**8).is_news_after(told)
    assert at(1, 10**12 - 3 * 10**8).is_news_after(told)
    assert at(EVERY_NS, 10**12).is_news_after(told)
    wider = Price("BTCUSDT", told.bid_e8, told.ask_e8 + 3 * 10**8, 1)
    assert wider.is_news_after(told)


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "[]", "{}", "1", '{"data": null}', '{"data": {}}', b"\xff", "[" * 100_000),
        *(ticker(bid, "60001") for bid in (None, 1, "", "x", "-1", "0", "NaN", "Infinity", "1e99")),
        *(ticker("60002", ask) for ask in ("60001.9", "1e-999999999", "9" * 50, "1e999999999")),
        json.dumps({"data": {"s": 7, "b": "1", "a": "2"}}),
    ],
)
def test_what_is_no_price(text: str | bytes) -> None:
    assert parse_price(text, 0) is None


def test_more_decimals_than_we_keep_never_narrow_the_spread() -> None:
    price = parse_price(ticker("0.0000000199", "0.0000000201"), 5)
    assert price == Price("BTCUSDT", 1, 3, 5)


@given(st.text() | st.binary() | st.recursive(st.none() | st.text(), st.lists).map(json.dumps))
def test_any_text_is_a_price_or_none(text: str | bytes) -> None:
    assert parse_price(text, 0) is None
