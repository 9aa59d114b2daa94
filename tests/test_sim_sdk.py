"""Clients that others wrote, unmodified, trade on the exchange simulator: Binance's own SDK and
ccxt. They are told where it is and which authority to trust, through their own options."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from engine.sim.exchange import ExchangeSim
from tests.test_sim_exchange import API_KEY, API_SECRET, in_a_loop, trusting
from tests.test_sim_logon import ED25519_API_KEY, PRIVATE_KEY, PUBLIC_PEM

# Their own habits (sockets and tasks left to the garbage collector) are not ours to fail on.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    """Here, and not in the middle of another test."""
    yield
    gc.collect()


PRIVATE_PEM = PRIVATE_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
NO_SDK = "binance-sdk-spot is not installed: `make test` installs it"
NO_CCXT = "ccxt is not installed: `make test` installs it"


def exchange() -> ExchangeSim:
    return ExchangeSim(hmac_key=(API_KEY, API_SECRET), ed25519_key=(ED25519_API_KEY, PUBLIC_PEM))


async def until(events: list[Any], count: int) -> None:
    async with asyncio.timeout(30):
        while len(events) < count:
            await asyncio.sleep(0.01)


# ---- Binance's SDK -------------------------------------------------------------------------------


@in_a_loop
async def test_binances_sdk_logs_on_and_trades_over_websocket() -> None:
    spot = pytest.importorskip("binance_sdk_spot.spot", reason=NO_SDK)
    async with exchange() as sim:
        client = spot.Spot(
            config_ws_api=spot.ConfigurationWebSocketAPI(
                api_key=ED25519_API_KEY,
                private_key=PRIVATE_PEM,
                stream_url=sim.url,
                https_agent=trusting(sim.ca_file),
            )
        ).websocket_api
        await client.create_connection()
        try:
            logon = (await client.session_logon()).data().result
            assert logon.api_key == ED25519_API_KEY
            subscription = await client.user_data_stream_subscribe()
            events: list[Any] = []
            subscription.stream.on("message", events.append)
            placed = (
                (
                    await client.order_place(
                        symbol="BTCUSDT",
                        side="SELL",
                        type="LIMIT",
                        time_in_force="GTC",
                        quantity=0.01,
                        price=61000,
                        new_client_order_id="whale-1",
                    )
                )
                .data()
                .result
            )
            assert (placed.client_order_id, placed.status) == ("whale-1", "NEW")
            [entry] = sim.ledger
            assert (entry.client_id, Decimal(entry.price or 0)) == ("whale-1", 61000)
            await until(events, 1)
            report = events[0].actual_instance
            assert (report.c, report.X, report.x) == ("whale-1", "NEW", "NEW")
            found = await client.order_status(symbol="BTCUSDT", orig_client_order_id="whale-1")
            assert found.data().result.order_id == placed.order_id
            gone = await client.order_cancel(symbol="BTCUSDT", order_id=placed.order_id)
            assert gone.data().result.status == "CANCELED"
        finally:
            await client.close_connection()


@in_a_loop
async def test_binances_sdk_trades_over_rest_and_hears_the_market() -> None:
    spot = pytest.importorskip("binance_sdk_spot.spot", reason=NO_SDK)
    async with exchange() as sim:
        client = spot.Spot(
            config_rest_api=spot.ConfigurationRestAPI(
                api_key=API_KEY,
                api_secret=API_SECRET,
                base_path=sim.rest_url,
                timeout=10_000,
                retries=0,
                https_agent=trusting(sim.ca_file),
            ),
            config_ws_streams=spot.ConfigurationWebSocketStreams(
                stream_url=sim.stream_url, https_agent=trusting(sim.ca_file)
            ),
        )

        def trade() -> None:
            rest = client.rest_api
            symbols = [symbol.symbol for symbol in rest.exchange_info().data().symbols]
            assert symbols == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
            order = {"symbol": "BTCUSDT", "new_client_order_id": "whale-2", "quantity": 0.01}
            placed = rest.new_order(side="BUY", type="MARKET", **order).data()
            assert (placed.client_order_id, placed.status) == ("whale-2", "FILLED")
            found = rest.get_order(symbol="BTCUSDT", order_id=placed.order_id).data()
            assert Decimal(found.executed_qty) == Decimal("0.01")
            order |= {"new_client_order_id": "whale-3", "price": 59000, "time_in_force": "GTC"}
            resting = rest.new_order(side="BUY", type="LIMIT", **order).data()
            gone = rest.delete_order(symbol="BTCUSDT", order_id=resting.order_id).data()
            assert gone.status == "CANCELED"

        await asyncio.to_thread(trade)
        assert [entry.client_id for entry in sim.ledger] == ["whale-2", "whale-3"]
        assert [fill.client_id for fill in sim.fills] == ["whale-2"]
        await client.websocket_streams.create_connection()
        try:
            quotes: list[Any] = []
            stream = await client.websocket_streams.book_ticker(symbol="btcusdt")
            stream.on("message", quotes.append)
            await until(quotes, 1)
            assert quotes[0].s == "BTCUSDT"
            assert Decimal(quotes[0].b) < Decimal(quotes[0].a)
        finally:
            await client.websocket_streams.close_connection()


# ---- ccxt ----------------------------------------------------------------------------------------


@in_a_loop
async def test_ccxt_trades_over_rest_and_websocket() -> None:
    ccxt = pytest.importorskip("ccxt.pro", reason=NO_CCXT)
    async with exchange() as sim:
        client = ccxt.binance(
            {
                "apiKey": API_KEY,
                "secret": API_SECRET,
                "cafile": str(sim.ca_file),
                "options": {
                    "defaultType": "spot",
                    "fetchMarkets": {"types": ["spot"]},
                    "fetchMargins": False,
                    "fetchCurrencies": False,
                },
            }
        )
        for name in ("public", "private"):
            client.urls["api"][name] = f"{sim.rest_url}/api/v3"
        client.urls["api"]["ws"]["spot"] = f"{sim.stream_url}/ws"
        client.urls["api"]["ws"]["ws-api"]["spot"] = sim.url
        try:
            await client.load_markets()
            assert client.markets["BTC/USDT"]["precision"]["price"] == 0.01
            order = ("BTC/USDT", "limit", "sell", 0.01, 61000)
            placed = await client.create_order(*order, {"clientOrderId": "whale-4"})
            found = await client.fetch_order(placed["id"], "BTC/USDT")
            assert (found["status"], found["clientOrderId"]) == ("open", "whale-4")
            assert (await client.cancel_order(placed["id"], "BTC/USDT"))["status"] == "canceled"

            await client.authenticate()
            event = asyncio.create_task(client.watch_orders("BTC/USDT"))
            await asyncio.sleep(0)
            resting = await client.create_order_ws(*order, {"newClientOrderId": "whale-5"})
            assert resting["clientOrderId"] == "whale-5"
            [seen] = await asyncio.wait_for(event, 30)
            assert (seen["clientOrderId"], seen["status"]) == ("whale-5", "open")
            await client.cancel_order_ws(resting["id"], "BTC/USDT")
            assert await client.fetch_open_orders_ws("BTC/USDT") == []
        finally:
            with contextlib.suppress(AttributeError):  # asyncio of CPython 3.11.2 in abort()
                await client.close()
        assert [entry.client_id for entry in sim.ledger] == ["whale-4", "whale-5"]
