"""The market streams of the simulated exchange, heard by the `websockets` client."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from engine.sim import exchange, streams
from engine.sim.exchange import ExchangeSim
from tests.test_sim_exchange import in_a_loop, trusting

TRADE = {"e": "trade", "s": "BTCUSDT", "t": 7}


@contextlib.asynccontextmanager
async def subscriber(
    sim: ExchangeSim, path: str, **options: Any
) -> AsyncIterator[ClientConnection]:
    context = trusting(sim.ca_file)
    async with connect(sim.stream_url + path, ssl=context, **options) as client:
        yield client


async def hear(client: ClientConnection) -> Any:
    return json.loads(await asyncio.wait_for(client.recv(), 30))


async def ask(client: ClientConnection, method: str, *params: object) -> Any:
    await client.send(json.dumps({"method": method, "params": params, "id": 5}))
    return await hear(client)


@in_a_loop
async def test_raw_and_combined_streams_carry_what_was_asked_for() -> None:
    async with (
        ExchangeSim() as sim,
        subscriber(sim, "/ws/x@trade/btcusdt@trade") as raw,
        subscriber(sim, "/stream?streams=btcusdt@trade/ethusdt@trade") as combined,
    ):
        sim.venue.on_market("solusdt@trade", {"not": "for them"})
        sim.venue.on_market("btcusdt@trade", TRADE)
        assert await hear(raw) == TRADE
        assert await hear(combined) == {"stream": "btcusdt@trade", "data": TRADE}


@in_a_loop
async def test_subscriptions_come_and_go() -> None:
    async with ExchangeSim() as sim, subscriber(sim, "/ws") as client:
        assert await ask(client, "SUBSCRIBE", "btcusdt@trade", "b@trade") == {
            "result": None,
            "id": 5,
        }
        assert (await ask(client, "LIST_SUBSCRIPTIONS"))["result"] == ["btcusdt@trade", "b@trade"]
        sim.venue.on_market("btcusdt@trade", TRADE)
        assert await hear(client) == TRADE
        assert await ask(client, "UNSUBSCRIBE", "btcusdt@trade") == {"result": None, "id": 5}
        sim.venue.on_market("btcusdt@trade", TRADE)
        assert (await ask(client, "LIST_SUBSCRIPTIONS"))["result"] == ["b@trade"]


@in_a_loop
async def test_the_combined_property_can_be_read_and_set() -> None:
    async with ExchangeSim() as sim, subscriber(sim, "/ws/btcusdt@trade") as client:
        assert (await ask(client, "GET_PROPERTY", "combined"))["result"] is False
        assert (await ask(client, "SET_PROPERTY", "combined", True))["result"] is None
        assert (await ask(client, "GET_PROPERTY", "combined"))["result"] is True
        sim.venue.on_market("btcusdt@trade", TRADE)
        assert await hear(client) == {"stream": "btcusdt@trade", "data": TRADE}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", 3),
        ("[]", 2),
        ('{"id":1}', 2),
        ('{"method":"SUBSCRIBE","params":[1],"id":1}', 2),
        ('{"method":"SUBSCRIBE","params":["btcusdt@trade","btcusdt@depth"],"id":1}', 2),
        ('{"method":"SUBSCRIBE","params":["!bookTicker"],"id":1}', 2),
        ('{"method":"SUBSCRIBE","params":{},"id":1}', 2),
        ('{"method":"SUBSCRIBED","params":[],"id":1}', 2),
        ('{"method":"SUBSCRIBE","params":[],"id":1.5}', 2),
        ('{"method":"SET_PROPERTY","params":["combined",1],"id":1}', 1),
        ('{"method":"SET_PROPERTY","params":["colour",true],"id":1}', 0),
        ('{"method":"GET_PROPERTY","params":["combined",true],"id":1}', 2),
    ],
)
def test_a_bad_request_is_answered_with_its_code(message: str, code: int) -> None:
    async def run() -> None:
        async with ExchangeSim() as sim, subscriber(sim, "/ws") as client:
            await client.send(message)
            answer = await hear(client)
            assert answer["code"] == code
            assert answer["msg"]
            assert (await ask(client, "LIST_SUBSCRIPTIONS"))["result"] == []

    asyncio.run(run())


@in_a_loop
async def test_quotes_follow_the_market_and_are_said_again_while_it_stands_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange, "HEARTBEAT_S", 0.2)
    async with ExchangeSim() as sim:
        await asyncio.sleep(0.3)  # a quote that was said before
        async with subscriber(sim, "/ws/btcusdt@bookTicker") as client:
            first = await hear(client)
            assert list(first) == ["u", "s", "b", "B", "a", "A"]
            assert (first["s"], Decimal(first["b"])) == ("BTCUSDT", 60000)
            assert [await hear(client) for _ in range(2)] == [first, first]
            sim.venue.set_price("BTCUSDT", Decimal("61000"))
            while (moved := await hear(client)) == first:
                pass
            assert Decimal(moved["b"]) == 61000
            assert moved["u"] > first["u"]


@in_a_loop
async def test_trades_of_a_seeded_market_come_as_documented() -> None:
    async with ExchangeSim(seed=1) as sim, subscriber(sim, "/ws/ethusdt@trade") as client:
        trade = await hear(client)
        assert list(trade) == ["e", "E", "s", "t", "p", "q", "T", "m", "M"]
        assert (trade["e"], trade["s"]) == ("trade", "ETHUSDT")


@in_a_loop
async def test_only_its_paths_are_served() -> None:
    async with ExchangeSim() as sim:
        for path in ("/", "/wsx", "/ws-api/v3"):
            with pytest.raises(InvalidStatus, match="404"):
                await connect(sim.stream_url + path, ssl=trusting(sim.ca_file))


@pytest.mark.parametrize(
    "path",
    [
        "/ws/btcusdt@trade?timeUnit=MICROSECOND",
        "/stream?streams=btcusdt@trade&timeUnit=microsecond",
        "/ws/btcusdt@trade/btcusdt@kline_1m",
        "/stream?streams=btcusdt@aggTrade",
    ],
)
@in_a_loop
async def test_what_is_not_simulated_is_refused(path: str) -> None:
    async with ExchangeSim() as sim:
        with pytest.raises(InvalidStatus, match="400") as caught:
            await connect(sim.stream_url + path, ssl=trusting(sim.ca_file))
        assert b"simulated" in (caught.value.response.body or b"")
        async with subscriber(sim, "/stream?streams=btcusdt@trade&timeUnit=MILLISECOND") as client:
            sim.venue.on_market("btcusdt@trade", TRADE)
            assert (await hear(client))["data"] == TRADE


@in_a_loop
async def test_too_many_messages_a_second_end_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "NS_PER_S", 1 << 62)  # all of them within one "second"
    async with ExchangeSim() as sim, subscriber(sim, "/ws") as client:
        for _ in range(streams.MAX_MESSAGES_PER_S):
            assert "result" in await ask(client, "LIST_SUBSCRIPTIONS")
        with pytest.raises(ConnectionClosed) as caught:
            await ask(client, "LIST_SUBSCRIPTIONS")
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1008


@in_a_loop
async def test_more_streams_than_allowed_end_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "MAX_STREAMS", 2)
    async with ExchangeSim() as sim, subscriber(sim, "/ws/a@trade/b@trade") as client:
        with pytest.raises(ConnectionClosed):
            await ask(client, "SUBSCRIBE", "c@trade")


@in_a_loop
async def test_a_shutdown_is_announced_in_both_forms_and_then_comes() -> None:
    async with (
        ExchangeSim() as sim,
        subscriber(sim, "/ws/btcusdt@trade") as raw,
        subscriber(sim, "/stream?streams=btcusdt@trade") as combined,
    ):
        sim.shut_down_soon(0.1)
        event = await hear(raw)
        assert event == {"e": "serverShutdown", "E": event["E"]}
        wrapped = await hear(combined)
        assert wrapped["stream"] == "!serverShutdown"
        assert wrapped["data"]["e"] == "serverShutdown"
        for client in (raw, combined):
            with pytest.raises(ConnectionClosed):
                await hear(client)


@in_a_loop
async def test_a_client_that_does_not_read_is_cut_and_others_hear_everything() -> None:
    """20 MB: more than the kernel's buffers and the server's take for the one that is silent."""
    big = {"e": "trade", "padding": "x" * 100_000}

    async def count(client: ClientConnection) -> int:
        for number in range(200):
            assert (await hear(client))["n"] == number
        return 200

    async with (
        ExchangeSim() as sim,
        subscriber(sim, "/ws/btcusdt@trade", max_queue=1) as lazy,
        subscriber(sim, "/ws/btcusdt@trade") as keen,
    ):
        counting = asyncio.create_task(count(keen))
        for number in range(200):
            sim.venue.on_market("btcusdt@trade", big | {"n": number})
            await asyncio.sleep(0.002)
        assert await counting == 200
        with pytest.raises(ConnectionClosed):
            await count(lazy)
