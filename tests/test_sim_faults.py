"""What the simulated exchange can be told to do wrong, as its clients and its ledger see it."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from engine.errors import ConfigError
from engine.sim import exchange, websocket
from engine.sim.exchange import ExchangeSim
from engine.sim.faults import FAULTS, ORDER_FAULTS, REQUEST_FAULTS, FaultEntry, FaultPlan
from engine.sim.node import NODE_FAULTS
from engine.sim.rates import CONNECTIONS, Limits
from tests.test_sim_exchange import (
    API_KEY,
    API_SECRET,
    MARKET,
    ask,
    client_of,
    exchange_and_client,
    hmac_hex,
    in_a_loop,
    now_ms,
    place,
    signed,
    trusting,
)

PING = {"id": 3, "method": "ping"}

# ---- the plan ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        *("", "drop", "drop-before=", "drop-before=2", "drop-before=1.1.1", "drop-before=-1"),
        *("drop-before:1s", "delay=0.1:1m", "delay=0.1:", "skew", "skew=x", "SPLIT", "split=nan"),
    ],
)
def test_what_is_no_fault_is_refused_in_one_sentence(spec: str) -> None:
    with pytest.raises(ConfigError, match=f"^'{spec}' .*(, {list(FAULTS)[3]}, |, like )"):
        FaultPlan([spec])


def test_a_seed_reproduces_the_faults_and_another_does_not() -> None:
    def drawn(seed: int, others: int = 0) -> list[str]:
        plan = FaultPlan(["drop-before=0.1", "delay=0.2:50ms", "no-pong=0.5"], seed)
        names = []
        for _ in range(200):
            for _ in range(others):
                plan.draw(["no-pong"])
            fault = plan.draw(REQUEST_FAULTS)
            names.append(fault.name if fault is not None else "")
        assert plan.applied["delay"] == names.count("delay")
        return names

    assert drawn(1) == drawn(1, others=3)
    assert drawn(1) != drawn(2)
    assert 5 <= drawn(1).count("drop-before") <= 40
    assert 15 <= drawn(1).count("delay") <= 70


def test_the_next_fault_can_be_named_and_waits_for_its_place() -> None:
    plan = FaultPlan()
    plan.next("reject")
    plan.next("delay:50ms")
    first, second, third, fourth = (
        plan.draw(names) for names in (REQUEST_FAULTS, ORDER_FAULTS, ORDER_FAULTS, ORDER_FAULTS)
    )
    assert first is not None
    assert (first.name, first.duration_s) == ("delay", 0.05)
    assert second is not None
    assert second.name == "reject"
    assert (third, fourth) == (None, None)
    assert plan.applied == {"reject": 1, "delay": 1}


# ---- requests ------------------------------------------------------------------------------------


async def rest_of(client: ClientConnection) -> list[str | bytes]:
    """What comes until the end."""
    messages: list[str | bytes] = []
    try:
        while True:
            messages.append(await asyncio.wait_for(client.recv(), 30))
    except ConnectionClosed:
        return messages


@pytest.mark.parametrize(("name", "executed"), [("drop-before", 0), ("drop-after", 1)])
def test_a_dropped_connection_has_executed_the_order_or_not(name: str, executed: int) -> None:
    async def run() -> None:
        async with exchange_and_client() as (sim, client):
            sim.faults.next(name)
            with pytest.raises(ConnectionClosed) as caught:
                await place(client, MARKET)
            assert caught.value.rcvd is None
            assert len(sim.ledger) == executed
            assert [e.fault for e in sim.entries if isinstance(e, FaultEntry)] == [name]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "status", "code", "executed"),
    [
        ("status-503", 503, -1000, 1),
        ("error-1006", 500, -1006, 1),
        ("error-1007", 500, -1007, 1),
        ("lost-1007", 500, -1007, 0),
        ("reject", 400, -2010, 0),
        ("429:2s", 429, -1003, 0),
    ],
)
def test_an_answer_says_what_the_fault_is(name: str, status: int, code: int, executed: int) -> None:
    async def run() -> None:
        async with exchange_and_client() as (sim, client):
            sim.faults.next(name)
            reply = await place(client, MARKET)
            assert list(reply) == ["id", "status", "error", "rateLimits"]
            assert (reply["id"], reply["status"], reply["error"]["code"]) == (7, status, code)
            assert [each["count"] for each in reply["rateLimits"][:2]] == [executed, executed]
            assert len(sim.ledger) == executed
            if status == 429:
                assert 0 <= reply["error"]["data"]["retryAfter"] - now_ms() <= 2000
            again = await place(client, MARKET | {"newClientOrderId": "whale-2"})
            assert again["status"] == 200

    asyncio.run(run())


@in_a_loop
async def test_a_late_order_is_executed_after_a_while() -> None:
    """By then it is unknown, and the connection that it came by is gone."""
    asking = {"id": 1, "method": "order.status"}
    status = {"symbol": "BTCUSDT", "origClientOrderId": "whale-1"}
    async with exchange_and_client() as (sim, client):
        sim.faults.next("late:400ms")
        async with client_of(sim) as other:
            before_ms = now_ms()
            reply = await place(other, MARKET)
            assert (reply["status"], reply["error"]["code"]) == (500, -1007)
        reply = await ask(client, asking | {"params": signed(status)})
        while "error" in reply:
            assert reply["error"]["code"] == -2013
            await asyncio.sleep(0.02)
            reply = await ask(client, asking | {"params": signed(status)})
        assert reply["result"]["time"] >= before_ms + 400
        [order] = sim.ledger
        assert order.received_ns // 10**6 < reply["result"]["time"]


@pytest.mark.parametrize("late_s", [0, 10])
@pytest.mark.parametrize("over_http", [False, True])
def test_a_late_order_was_in_time_when_it_came(late_s: int, over_http: bool) -> None:
    sim = ExchangeSim(hmac_key=(API_KEY, API_SECRET))
    received_ns = time.time_ns()
    executed_ns = received_ns + late_s * 10**9
    order = MARKET | {"recvWindow": 1, "timestamp": received_ns // 10**6}
    if over_http:
        text = urlencode(order)
        text += f"&signature={hmac_hex(text)}"
        headers = {"X-MBX-APIKEY": API_KEY}
        request = ("POST", "/api/v3/order", text, b"", headers)
        result = json.loads(sim.venue.rest(*request, received_ns, executed_ns).text)
    else:
        connection = sim.venue.connect(received_ns)
        frame = json.dumps({"id": 7, "method": "order.place", "params": signed(order)})
        answer = sim.venue.answer(frame, received_ns, connection, executed_ns)
        result = json.loads(answer)["result"]
    assert result["transactTime"] == executed_ns // 10**6
    assert [entry.received_ns for entry in sim.ledger] == [received_ns]


@in_a_loop
async def test_what_is_no_order_is_never_late_or_rejected() -> None:
    async with exchange_and_client(fault_specs=["late", "reject"]) as (sim, client):
        speaking = PING | {"method": "time", "params": {"order.place": "order.place"}}
        assert (await ask(client, speaking))["error"]["code"] == -1103
        assert (await ask(client, PING | {"method": "order.place"}))["error"]["code"] == -2010
        assert sim.faults.applied == {"reject": 1}


@pytest.mark.parametrize("request_id", ["NaN", '{"a":[1]}', '"a b"', "1.5"])
@pytest.mark.parametrize("fault", ["lost-1007", "error-1006"])
def test_an_id_that_is_none_is_not_echoed_by_a_fault(request_id: str, fault: str) -> None:
    async def run() -> None:
        async with exchange_and_client(fault_specs=[fault]) as (_, client):
            await client.send(f'{{"id":{request_id},"method":"time"}}')
            reply = json.loads(await client.recv())
            assert list(reply) == ["id", "status", "error"]
            assert (reply["id"], reply["status"]) == (None, 500)

    asyncio.run(run())


@pytest.mark.parametrize(("name", "executed"), [("late:300ms", 1), ("lost-1007", 0)])
def test_over_http_an_order_can_be_late_or_lost(name: str, executed: int) -> None:
    async def run() -> None:
        async with ExchangeSim(hmac_key=(API_KEY, API_SECRET)) as sim:
            sim.faults.next(name)
            text = urlencode(MARKET | {"timestamp": now_ms()})
            request = urllib.request.Request(
                f"{sim.rest_url}/api/v3/order?{text}&signature={hmac_hex(text)}",
                headers={"X-MBX-APIKEY": API_KEY},
                method="POST",
            )
            with pytest.raises(urllib.error.HTTPError) as caught:
                await asyncio.to_thread(
                    urllib.request.urlopen, request, context=trusting(sim.ca_file)
                )
            assert caught.value.code == 500
            assert json.loads(caught.value.read())["code"] == -1007
            assert "X-MBX-USED-WEIGHT-1M" in caught.value.headers
            while len(sim.ledger) < executed:
                await asyncio.sleep(0.02)
            assert [order.client_id for order in sim.ledger] == ["whale-1"] * executed

    asyncio.run(run())


@in_a_loop
async def test_a_ban_is_told_and_ends_the_connection() -> None:
    async with exchange_and_client() as (sim, client):
        sim.faults.next("418:60s")
        reply = await place(client, MARKET)
        until = reply["error"]["data"]["retryAfter"]
        assert reply["status"] == 418
        assert str(until) in reply["error"]["msg"]
        assert 50_000 < until - now_ms() <= 60_000
        assert await rest_of(client) == []
        assert sim.ledger == []


@in_a_loop
async def test_a_delayed_answer_keeps_its_place_and_its_order_was_executed_at_once() -> None:
    async with exchange_and_client() as (sim, client):
        sim.faults.next("delay:300ms")
        began = asyncio.get_running_loop().time()
        answering = asyncio.create_task(place(client, MARKET))
        while not sim.ledger:
            await asyncio.sleep(0.005)
        assert not answering.done()
        await client.send(json.dumps(PING))
        assert (await answering)["id"] == 7
        assert asyncio.get_running_loop().time() - began >= 0.3
        assert json.loads(await client.recv())["id"] == 3


@in_a_loop
async def test_a_connection_that_is_not_read_stays_and_is_silent() -> None:
    async with (
        ExchangeSim() as sim,
        connect(sim.url, ssl=trusting(sim.ca_file), close_timeout=0.1) as client,
    ):
        sim.faults.next("stop-reading")
        await client.send(json.dumps(PING))
        await client.send(json.dumps(PING))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.recv(), 0.3)
        assert sim.venue.requests == 0
        async with client_of(sim) as other:
            assert (await ask(other, PING))["status"] == 200


@in_a_loop
async def test_garbage_is_no_frame() -> None:
    async with exchange_and_client() as (sim, client):
        sim.faults.next("garbage")
        with pytest.raises(ConnectionClosed) as caught:
            await place(client, MARKET)
        assert caught.value.sent is not None
        assert caught.value.sent.code == 1002
        assert len(sim.ledger) == 1


@in_a_loop
async def test_a_text_may_be_no_json_or_16_mib_and_the_answer_comes_after_it() -> None:
    async with (
        ExchangeSim() as sim,
        connect(sim.url, ssl=trusting(sim.ca_file), max_size=None) as client,
    ):
        sim.faults.next("not-json")
        with pytest.raises(ValueError, match="Expecting"):
            await ask(client, PING)
        assert json.loads(await client.recv())["id"] == 3
        sim.faults.next("huge")
        await client.send(json.dumps(PING))
        assert len(await client.recv()) >= 16 << 20
        assert json.loads(await client.recv())["id"] == 3


@in_a_loop
async def test_a_shutdown_is_announced_and_comes() -> None:
    async with exchange_and_client() as (sim, client):
        sim.faults.next("shutdown:100ms")
        event = await ask(client, PING)
        assert event == {"event": {"e": "serverShutdown", "E": event["event"]["E"]}}
        assert abs(event["event"]["E"] - now_ms()) < 10_000
        assert json.loads(await client.recv())["id"] == 3
        assert await rest_of(client) == []


@in_a_loop
async def test_everybody_can_be_told_or_dropped_from_another_thread() -> None:
    async with exchange_and_client() as (sim, client):
        await asyncio.to_thread(sim.shut_down_soon, 60)
        assert json.loads(await client.recv())["event"]["e"] == "serverShutdown"
        await asyncio.to_thread(sim.drop_all)
        with pytest.raises(ConnectionClosed) as caught:
            await client.recv()
        assert caught.value.rcvd is None


@in_a_loop
async def test_the_skew_moves_the_venues_clock() -> None:
    async with exchange_and_client(clock_skew_ms=1000) as (sim, client):
        sim.faults = FaultPlan(["skew=-61000"])
        reply = await ask(client, {"id": 1, "method": "time"})
        assert abs(reply["result"]["serverTime"] - now_ms() + 60_000) < 10_000


# ---- bytes ---------------------------------------------------------------------------------------


def chunks(sim: ExchangeSim, requests: list[Any], replies: int) -> list[bytes]:
    """What each read brought, which is never more than a TLS record, until so many replies."""
    host, port = urlsplit(sim.url).hostname, urlsplit(sim.url).port
    with (
        socket.create_connection((host, port), timeout=10) as plain,
        trusting(sim.ca_file).wrap_socket(plain, server_hostname=host) as client,
    ):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(bytes(16)).decode()
        client.sendall(
            f"GET /ws-api/v3 HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert client.recv(4096).endswith(b"\r\n\r\n")
        for request in requests:
            text = json.dumps(request).encode()
            client.sendall(bytes([0x81, 0x80 | len(text)]) + bytes(4) + text)
        read: list[bytes] = []
        while b"".join(read).count(b'"status":200') < replies:
            read.append(client.recv(1 << 16))
        return read


@in_a_loop
async def test_a_message_can_come_byte_by_byte() -> None:
    async with ExchangeSim() as sim:
        sim.faults.next("split")
        read = await asyncio.to_thread(chunks, sim, [PING], 1)
        assert len(read) > 20
        assert {len(chunk) for chunk in read} == {1}
        whole = await asyncio.to_thread(chunks, sim, [PING], 1)
        assert len(whole) == 1


@in_a_loop
async def test_messages_can_come_together() -> None:
    async with ExchangeSim() as sim:
        sim.faults.next("coalesce")
        assert len(await asyncio.to_thread(chunks, sim, [PING, PING, PING], 3)) == 1


@in_a_loop
async def test_a_ping_can_stay_unanswered() -> None:
    async with exchange_and_client() as (sim, client):
        sim.faults.next("no-pong")
        unanswered, answered = await client.ping(), await client.ping()
        await asyncio.wait_for(answered, 10)
        assert sim.faults.applied == {"no-pong": 1}
        # `websockets` counts a later pong for the earlier ping too (RFC 6455 5.5.3).
        await asyncio.wait_for(unanswered, 10)
        sim.faults = FaultPlan(["no-pong"])
        silent = await client.ping()
        assert (await ask(client, PING))["id"] == 3
        assert not silent.done()
        silent.cancel()


@in_a_loop
async def test_a_market_can_fall_silent() -> None:
    async with ExchangeSim(fault_specs=["lose-quote"]) as sim:
        quotes: list[dict[str, Any]] = []
        sim.watch_quotes(quotes.append)
        url = f"{sim.stream_url}/ws/btcusdt@bookTicker"
        async with connect(url, ssl=trusting(sim.ca_file)) as client:
            await client.send('{"method": "LIST_SUBSCRIPTIONS", "id": 1}')
            assert json.loads(await client.recv()) == {"result": ["btcusdt@bookTicker"], "id": 1}
            assert (sim.faults.applied["lose-quote"], quotes) == (1, [])
            sim.faults = FaultPlan()
            sim.venue.set_price("BTCUSDT", Decimal(61_000))
            assert json.loads(await client.recv()) == quotes[-1]


# ---- events --------------------------------------------------------------------------------------


ANSWER = "answer"


async def heard(
    sim: ExchangeSim, monkeypatch: pytest.MonkeyPatch, rounds: Sequence[str], messages: int
) -> list[tuple[str, float]]:
    """The venue is a stand-in that delivers a round's events, a letter each, while it answers a
    request, and rounds begin 60 ms apart: so many messages, and when each came after the last
    request was sent."""
    delivers: list[Callable[[str], None]] = []
    connect_venue, due = sim.venue.connect, [*rounds]

    def connecting(real_ns: int, show: bool, deliver: Callable[[str], None]) -> Any:
        delivers.append(deliver)
        return connect_venue(real_ns, show, deliver)

    def answering(*_: object) -> str:
        for event in due.pop(0):
            delivers[0](event)
        return ANSWER

    monkeypatch.setattr(sim.venue, "connect", connecting)
    monkeypatch.setattr(sim.venue, "answer", answering)
    clock_s = asyncio.get_running_loop().time
    async with client_of(sim) as client:
        for number in range(len(rounds)):
            await asyncio.sleep(0.06 if number else 0)
            sent_s = clock_s()
            await client.send(json.dumps(PING))
        return [(str(await client.recv()), clock_s() - sent_s) for _ in range(messages)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lose-event", ["b", "c", ANSWER]),
        ("duplicate-event", ["a", "a", "b", "c", ANSWER]),
        ("reorder-event", ["b", "a", "c", ANSWER]),
    ],
)
def test_events_can_be_lost_doubled_and_late(
    name: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with ExchangeSim() as sim:
            sim.faults.next(name)
            got = await heard(sim, monkeypatch, ["abc"], len(expected))
            assert [text for text, _ in got] == expected

    asyncio.run(run())


@pytest.mark.parametrize(
    ("rounds", "expected", "late"),
    [
        (["abcde"], ["b", "a", "d", "c", ANSWER, "e"], 3),
        (["a", "bc"], [ANSWER, "b", "a", ANSWER, "c"], 2),  # c's own time, not what a left of its
    ],
)
def test_events_that_are_always_late_change_places_in_pairs(
    rounds: list[str], expected: list[str], late: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "REORDER_S", 1.0)  # whatever else the machine does meanwhile

    async def run() -> None:
        async with ExchangeSim(fault_specs=["reorder-event"]) as sim:
            got = await heard(sim, monkeypatch, rounds, len(expected))
            assert [text for text, _ in got] == expected
            assert got[-1][1] >= 1.0
            assert sim.faults.applied == {"reorder-event": late}

    asyncio.run(run())


# ---- the connection ------------------------------------------------------------------------------


@in_a_loop
async def test_a_connection_has_a_limited_life() -> None:
    async with exchange_and_client(lifetime_s=0.2) as (_, client):
        assert (await ask(client, PING))["status"] == 200
        assert await rest_of(client) == []


@in_a_loop
async def test_connections_are_limited_and_the_wait_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    day = replace(CONNECTIONS, window_ms=1 << 50)  # no new window begins meanwhile
    monkeypatch.setattr(websocket, "CONNECTIONS", day)
    async with ExchangeSim(max_connections=2) as sim:
        for _ in range(2):
            async with client_of(sim):
                pass
        with pytest.raises(InvalidStatus) as caught:
            await connect(sim.url, ssl=trusting(sim.ca_file))
        response = caught.value.response
        assert response.status_code == 429
        assert int(response.headers["Retry-After"]) > 0


@in_a_loop
async def test_who_does_not_stop_at_429_is_banned_and_disconnected() -> None:
    limits = Limits(request_weight=4, patience=2)
    async with exchange_and_client(limits=limits) as (_, client):
        for _ in range(6):
            await client.send(json.dumps(PING))
        statuses = [json.loads(text)["status"] for text in await rest_of(client)]
        assert statuses == [200, 200, 429, 418]


@in_a_loop
async def test_what_was_sent_before_a_close_is_executed() -> None:
    async with exchange_and_client() as (sim, client):
        await client.send(json.dumps(PING))
        await client.close()
        assert sim.venue.requests == 1


@in_a_loop
async def test_a_message_in_fragments_is_one_and_bad_utf8_none() -> None:
    async with exchange_and_client() as (sim, client):
        await client.send(['{"id":3,', '"method":', '"ping"}'])
        assert json.loads(await client.recv())["id"] == 3
        await client.send(b"\xff", text=True)
        with pytest.raises(ConnectionClosed) as caught:
            await client.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1007
        assert sim.venue.requests == 1


@in_a_loop
async def test_the_ledger_file_has_the_faults(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    async with exchange_and_client(ledger_file=ledger, fault_specs=["error-1007=0.5"], seed=5) as (
        sim,
        client,
    ):
        for number in range(20):
            await place(client, MARKET | {"newClientOrderId": f"whale-{number}"})
        lines = [json.loads(line) for line in ledger.read_text().splitlines()]
        kinds = Counter(line.get("entry", "order") for line in lines)
        assert kinds["fault"] == sim.faults.applied["error-1007"]
        assert 2 <= kinds["fault"] <= 18
        assert kinds["order"] == 20


# ---- the documents -------------------------------------------------------------------------------


def test_every_fault_is_in_the_documents() -> None:
    page = (Path(__file__).parents[1] / "docs" / "simulators.md").read_text()
    names = re.findall("`([a-z0-9-]+)(?::[0-9a-z]+)?`|`(skew=MS)`", page)
    assert {*FAULTS, *NODE_FAULTS} <= {name or other for name, other in names}
