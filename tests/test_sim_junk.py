"""Whatever a signed request says, the simulated exchange answers it: parameters at random, legal
ones and nonsense, through both of its doors. And what an upgrade asks for is served, or refused."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from engine.sim.exchange import ExchangeSim
from engine.sim.methods import METHODS
from engine.sim.rest import ROUTES
from tests.test_sim_exchange import ask, client_of, in_a_loop, trusting
from tests.venue import API_KEY, Client

SIDES, TYPES = ("BUY", "SELL"), ("LIMIT", "MARKET", "STOP_LOSS", "LIMIT_MAKER", "TAKE_PROFIT_LIMIT")
LEGAL = {
    "symbol": ("BTCUSDT", "ETHUSDT"),
    "symbols": (["BTCUSDT"], ["SOLUSDT", "ETHUSDT"]),
    "side": SIDES,
    "type": TYPES,
    "price": ("60000", "59999.99", "3000"),
    "quantity": ("0.01", "1", "150"),
    "timeInForce": ("GTC", "IOC", "FOK"),
    "cancelReplaceMode": ("STOP_ON_FAILURE", "ALLOW_FAILURE"),
    "limit": (1, 5, 5000),
}
NONSENSE: tuple[Any, ...] = (
    *(
        "",
        None,
        True,
        0,
        -1,
        10**19,
        1.5,
        [],
        [1],
        ["x", "x"],
        {},
        "NaN",
        "1e5",
        "0",
        "-1",
        "[",
        "[]",
    ),
    *("\ud800", "\x00", "९", "x" * 5000, "1" * 20, "0.000000000001", "9" * 20 + ".99999999"),
)


def value(choose: random.Random, name: str) -> Any:
    for known, values in LEGAL.items():
        if name.lower().endswith(known.lower()) and choose.random() < 0.9:
            return choose.choice(values)
    return choose.choice((*NONSENSE, 1, 2, "a", "true"))


def params(choose: random.Random, method: str) -> dict[str, Any]:
    described = METHODS[method]
    optional = sorted(described.optional)
    names = [*described.mandatory, *choose.sample(optional, choose.randint(0, len(optional)))]
    if choose.random() < 0.2:
        names.append("recvWindow")
    return {name: value(choose, name) for name in names if name not in ("apiKey", "signature")}


@pytest.mark.parametrize("method", sorted(METHODS))
def test_over_the_websocket(method: str) -> None:
    choose = random.Random(method)
    client = Client(seed=1)
    for number in range(60):
        request = params(choose, method)
        try:
            reply = client.reply(method, **request)
        except UnicodeEncodeError:  # the client cannot sign that
            continue
        assert reply["status"] in (200, 400, 401, 409), (request, reply)
        assert ("result" in reply) is (reply["status"] == 200)
        if number % 10 == 0:
            client.venue.step(client.now_ns)


@pytest.mark.parametrize("route", sorted(ROUTES), ids="-".join)
def test_over_http(route: tuple[str, str]) -> None:
    choose = random.Random(str(route))
    client = Client(seed=1)
    for _ in range(60):
        request = params(choose, ROUTES[route]) | {"timestamp": client.now_ns // 10**6}
        texts = {name: json.dumps(v) if isinstance(v, list) else v for name, v in request.items()}
        try:
            reply = client.rest(route[0], f"/api/v3/{route[1]}", key=API_KEY, **texts)
        except UnicodeEncodeError:
            continue
        assert reply.status in (200, 400, 409), (request, reply)
        json.loads(reply.text)


@pytest.mark.parametrize("path", ["//[", "http://[/", "/ws-api/v3x?[", "//[::1/ws", "/#/ws", "*"])
@in_a_loop
async def test_a_path_that_is_none_is_not_found(path: str) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
    async with ExchangeSim() as sim:
        for url in (sim.url, sim.stream_url):
            port = urlsplit(url).port
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=trusting(sim.ca_file)
            )
            with closing(writer):
                writer.write(
                    f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                    f"Connection: Upgrade\r\nSec-WebSocket-Key: {'A' * 22}==\r\n"
                    "Sec-WebSocket-Version: 13\r\n\r\n".encode()
                )
                assert (await asyncio.wait_for(reader.readline(), 20)).startswith(b"HTTP/1.1 404 ")
    assert complaints == []


@pytest.mark.parametrize(
    "query",
    [
        "timeUnit=MICROSECOND",
        "timeUnit=microsecond&returnRateLimits=false",
        "timeUnit=",
        "responseFormat=sbe&sbeSchemaId=1&sbeSchemaVersion=0",
        "responseFormat=json&responseFormat=sbe",
    ],
)
@in_a_loop
async def test_options_of_the_url_that_are_not_simulated_are_refused(query: str) -> None:
    async with ExchangeSim() as sim:
        with pytest.raises(InvalidStatus, match="400") as caught:
            await connect(f"{sim.url}?{query}", ssl=trusting(sim.ca_file))
        assert b"is simulated" in (caught.value.response.body or b"")
        async with client_of(sim, "?timeUnit=MILLISECOND&responseFormat=json") as client:
            assert (await ask(client, {"id": 1, "method": "ping"}))["status"] == 200
