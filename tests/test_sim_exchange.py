"""The exchange simulator, through its socket: the `websockets` client, signatures made here."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import hmac
import json
import socket
import ssl
import stat
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Ping, Pong
from wsproto.events import Request as UpgradeRequest

from engine.errors import ConfigError
from engine.sim import authority, websocket
from engine.sim.exchange import ExchangeSim

# The example keys of web-socket-api.md, "SIGNED request example (HMAC)".
API_KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
API_SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"

ABSENT = object()
MARKET: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "side": "SELL",
    "type": "MARKET",
    "quantity": "0.01000",
    "newClientOrderId": "whale-1",
}
LIMIT: dict[str, Any] = MARKET | {"type": "LIMIT", "price": "70000.10", "timeInForce": "GTC"}

# Keys of the documented replies ("Place new order (TRADE)").
ACK_KEYS = ["symbol", "orderId", "orderListId", "clientOrderId", "transactTime"]
RESULT_KEYS = [
    *ACK_KEYS,
    *("price", "origQty", "executedQty", "origQuoteOrderQty", "cummulativeQuoteQty", "status"),
    *("timeInForce", "type", "side", "workingTime", "selfTradePreventionMode"),
]
FILL_KEYS = ["price", "qty", "commission", "commissionAsset", "tradeId"]
RATE_LIMIT_KEYS = ["rateLimitType", "interval", "intervalNum", "limit", "count"]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def hmac_hex(payload: str) -> str:
    return hmac.new(API_SECRET.encode(), payload.encode(), hashlib.sha256).hexdigest()


def signed(params: dict[str, Any]) -> dict[str, Any]:
    """`params` without the ABSENT ones, with key, timestamp and signature unless they have them."""
    params = {"apiKey": API_KEY, "timestamp": now_ms()} | params
    params = {name: value for name, value in params.items() if value is not ABSENT}
    texts = {name: json.dumps(v) if v is False else v for name, v in params.items()}
    payload = "&".join(f"{name}={texts[name]}" for name in sorted(texts))
    return {"signature": hmac_hex(payload)} | params


def trusting(ca_file: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca_file))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


@contextlib.asynccontextmanager
async def client_of(sim: ExchangeSim, query: str = "") -> AsyncIterator[ClientConnection]:
    async with connect(sim.url + query, ssl=trusting(sim.ca_file)) as client:
        yield client


@contextlib.asynccontextmanager
async def exchange_and_client(
    query: str = "", **options: Any
) -> AsyncIterator[tuple[ExchangeSim, ClientConnection]]:
    async with (
        ExchangeSim(hmac_key=(API_KEY, API_SECRET), **options) as sim,
        client_of(sim, query) as client,
    ):
        yield sim, client


async def ask(client: ClientConnection, message: object) -> dict[str, Any]:
    """The reply to a frame: `message` itself when it is text or bytes, else its JSON."""
    await client.send(message if isinstance(message, (str, bytes)) else json.dumps(message))
    reply = json.loads(await client.recv())
    assert isinstance(reply, dict)
    return reply


async def place(client: ClientConnection, params: dict[str, Any]) -> dict[str, Any]:
    return await ask(client, {"id": 7, "method": "order.place", "params": signed(params)})


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """`test` as a plain function, which runs it in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def answers(*messages: object, query: str = "", **options: Any) -> list[dict[str, Any]]:
    """The replies of a fresh exchange to `messages` on one connection."""

    async def run() -> list[dict[str, Any]]:
        async with exchange_and_client(query, **options) as (_, client):
            return [await ask(client, message) for message in messages]

    return asyncio.run(run())


# ---- ping, time, rate limits ---------------------------------------------------------------------


def test_ping_and_time_reply_as_documented() -> None:
    before = now_ms()
    ping, time_reply = answers({"id": "a-1", "method": "ping"}, {"id": 2, "method": "time"})
    assert list(ping) == ["id", "status", "result", "rateLimits"]
    assert (ping["id"], ping["status"], ping["result"]) == ("a-1", 200, {})
    [limit] = ping["rateLimits"]
    assert list(limit) == RATE_LIMIT_KEYS
    assert limit["rateLimitType"] == "REQUEST_WEIGHT"
    assert limit["limit"] == 6000
    assert time_reply["id"] == 2
    assert before <= time_reply["result"]["serverTime"] <= now_ms()


def test_connecting_weighs_two_and_a_request_one() -> None:
    skew_ms = -(now_ms() % 60_000)  # the venue's minute begins now, and with it a new count
    requests = {"id": 1, "method": "ping"}, {"id": 1, "method": "time"}
    replies = answers(*requests, clock_skew_ms=skew_ms)
    assert [reply["rateLimits"][-1]["count"] for reply in replies] == [3, 4]


@in_a_loop
async def test_the_clock_skew_is_the_venues_not_the_ledgers() -> None:
    async with exchange_and_client(clock_skew_ms=3_600_000) as (sim, client):
        reply = await ask(client, {"id": None, "method": "v3/time"})
        venue_ms = reply["result"]["serverTime"]
        assert reply["id"] is None
        assert abs(venue_ms - now_ms() - 3_600_000) < 10_000
        assert (await place(client, MARKET))["error"]["code"] == -1021
        assert (await place(client, MARKET | {"timestamp": venue_ms}))["status"] == 200
        assert abs(sim.ledger[0].received_ns // 1_000_000 - now_ms()) < 10_000


@pytest.mark.parametrize(
    ("query", "params", "shown"),
    [
        ("", {}, True),
        ("", {"returnRateLimits": False}, False),
        ("?returnRateLimits=false", {}, False),
        ("?returnRateLimits=false", {"returnRateLimits": True}, True),
        ("?returnRateLimits=true", {}, True),
    ],
)
def test_rate_limits_are_shown_unless_the_url_or_the_request_says_no(
    query: str, params: dict[str, Any], shown: bool
) -> None:
    [reply] = answers({"id": 1, "method": "time", "params": params}, query=query)
    assert reply["status"] == 200
    assert ("rateLimits" in reply) is shown


def test_a_failed_order_obeys_return_rate_limits_too() -> None:
    params = signed(MARKET | {"side": "HOLD", "returnRateLimits": False})
    [reply] = answers({"id": 1, "method": "order.place", "params": params})
    assert reply["error"]["code"] == -1117
    assert list(reply) == ["id", "status", "error"]


# ---- accepted orders -----------------------------------------------------------------------------


@in_a_loop
async def test_a_market_order_is_filled_at_the_last_price_and_answered_in_full() -> None:
    async with exchange_and_client(last_price=Decimal("61000.50")) as (sim, client):
        reply = await place(client, MARKET)
        assert list(reply) == ["id", "status", "result", "rateLimits"]
        assert [limit["rateLimitType"] for limit in reply["rateLimits"]] == [
            *("ORDERS", "ORDERS", "REQUEST_WEIGHT")
        ]
        assert [limit["count"] for limit in reply["rateLimits"][:2]] == [1, 1]
        result = reply["result"]
        assert list(result) == [*RESULT_KEYS, "fills"]
        assert list(result["fills"][0]) == FILL_KEYS
        assert result["status"] == "FILLED"
        assert result["clientOrderId"] == "whale-1"
        assert result["origQty"] == result["executedQty"] == "0.01000000"
        assert result["cummulativeQuoteQty"] == "610.00500000"
        assert result["fills"][0]["price"] == "61000.50000000"
        sim.venue.set_price("BTCUSDT", Decimal("50000"))
        again = await place(client, MARKET | {"newClientOrderId": "whale-2"})
        assert again["result"]["fills"][0]["price"] == "50000.00000000"
        assert again["result"]["orderId"] == result["orderId"] + 1


@pytest.mark.parametrize("order", [MARKET, LIMIT], ids=["market", "limit"])
@pytest.mark.parametrize(
    ("response_type", "keys"),
    [
        ("ACK", ACK_KEYS),
        ("RESULT", RESULT_KEYS),
        ("FULL", [*RESULT_KEYS, "fills"]),
        (ABSENT, [*RESULT_KEYS, "fills"]),
    ],
)
def test_the_reply_has_the_documented_keys(
    order: dict[str, Any], response_type: object, keys: list[str]
) -> None:
    params = signed(order | {"newOrderRespType": response_type})
    [reply] = answers({"id": "x", "method": "order.place", "params": params})
    assert list(reply["result"]) == keys


@pytest.mark.parametrize(
    ("side", "price", "time_in_force", "status"),
    [
        ("SELL", "60000.01", "GTC", "NEW"),
        ("SELL", "60000.00", "GTC", "FILLED"),
        ("SELL", "59999.99", "FOK", "FILLED"),
        ("BUY", "59999.99", "GTC", "NEW"),
        ("BUY", "60000.00", "GTC", "NEW"),
        ("BUY", "60000.01", "IOC", "FILLED"),
        ("BUY", "60000.02", "GTC", "FILLED"),
        ("BUY", "60000.00", "IOC", "EXPIRED"),
        ("SELL", "60000.01", "FOK", "EXPIRED"),
    ],
)
def test_a_limit_order_fills_only_when_marketable(
    side: str, price: str, time_in_force: str, status: str
) -> None:
    """The best bid is the last price, the best ask a tick above."""
    order = LIMIT | {"side": side, "price": price, "timeInForce": time_in_force}
    [reply] = answers({"id": 1, "method": "order.place", "params": signed(order)})
    result = reply["result"]
    assert result["status"] == status
    assert result["timeInForce"] == time_in_force
    filled = status == "FILLED"
    assert result["executedQty"] == ("0.01000000" if filled else "0.00000000")
    best = "60000.00000000" if side == "SELL" else "60000.01000000"
    assert [fill["price"] for fill in result["fills"]] == [best] * filled
    assert ("expiryReason" in result) is (status == "EXPIRED")


@in_a_loop
async def test_order_test_checks_everything_and_places_nothing() -> None:
    async with exchange_and_client() as (sim, client):
        good = {"id": 1, "method": "order.test", "params": signed(MARKET)}
        bad = {"id": 2, "method": "order.test", "params": signed(MARKET | {"side": "HOLD"})}
        reply = await ask(client, good)
        assert (reply["status"], reply["result"]) == (200, {})
        assert [limit["rateLimitType"] for limit in reply["rateLimits"]] == ["REQUEST_WEIGHT"]
        assert (await ask(client, bad))["error"]["code"] == -1117
        assert sim.ledger == []


@in_a_loop
async def test_a_client_id_is_taken_while_its_order_is_open_and_free_afterwards() -> None:
    async with exchange_and_client() as (sim, client):
        open_order = LIMIT | {"newClientOrderId": "rests"}
        assert (await place(client, open_order))["result"]["status"] == "NEW"
        refused = await place(client, open_order)
        assert refused["status"] == 400
        assert refused["error"] == {"code": -2010, "msg": "Duplicate order sent."}
        refused = await place(client, MARKET | {"newClientOrderId": "rests"})
        assert refused["error"]["code"] == -2010
        for _ in range(2):  # "only when the previous one is filled or expired"
            assert (await place(client, MARKET))["result"]["status"] == "FILLED"
        assert [entry.client_id for entry in sim.ledger] == ["rests", "whale-1", "whale-1"]
        assert sim.rejections == {"-2010 Duplicate order sent.": 2}
        assert sim.venue.requests == 5


def test_a_client_id_is_made_when_none_is_sent() -> None:
    orders = [signed(MARKET | {"newClientOrderId": ABSENT}) for _ in range(2)]
    first, second = answers(
        *({"id": 1, "method": "order.place", "params": order} for order in orders)
    )
    assert first["result"]["clientOrderId"] != second["result"]["clientOrderId"]


# ---- signatures and time -------------------------------------------------------------------------


@in_a_loop
async def test_the_documented_signature_vectors_are_accepted() -> None:
    ascii_params = {
        "symbol": "BTCUSDT",
        "side": "SELL",
        "type": "LIMIT",
        "timeInForce": "GTC",
        "quantity": "0.01000000",
        "price": "52000.00",
        "recvWindow": 100,
        "timestamp": 1645423376532,
        "apiKey": API_KEY,
        "signature": "aa1b5712c094bc4e57c05a1a5c1fd8d88dcd628338ea863fec7b88e59fe2db24",
    }
    utf8_params = ascii_params | {
        "symbol": "\uff11\uff12\uff13\uff14\uff15\uff16",
        "side": "BUY",
        "quantity": "1.00000000",
        "price": "0.10000000",
        "recvWindow": 5000,
        "signature": "b33892ae8e687c939f4468c6268ddd4c40ac1af18ad19a064864c47bae0752cd",
    }

    async with exchange_and_client() as (sim, client):

        async def place_as_documented(params: dict[str, Any]) -> dict[str, Any]:
            # 900 ms early is still in time, and leaves a second until the window has passed.
            sim.venue.clock_skew_ms = params["timestamp"] - 900 - now_ms()
            return await ask(client, {"id": 1, "method": "order.place", "params": params})

        assert (await place_as_documented(ascii_params))["status"] == 200
        upper = ascii_params | {"signature": ascii_params["signature"].upper()}
        assert (await place_as_documented(upper))["status"] == 200
        # Signed well, so what is wrong is only that there is no such symbol here.
        assert (await place_as_documented(utf8_params))["error"]["code"] == -1121
        changed = ascii_params | {"quantity": "0.02000000"}
        assert (await place_as_documented(changed))["error"]["code"] == -1022
        [entry, _] = sim.ledger
        assert entry.timestamp_ms == 1645423376532
        assert (entry.quantity, entry.price) == ("0.01000000", "52000.00")


def test_the_signature_covers_numbers_as_they_were_written() -> None:
    fields = {"apiKey": API_KEY, "side": "SELL", "symbol": "BTCUSDT", "type": "MARKET"}
    values = {**{k: f'"{v}"' for k, v in fields.items()}, "timestamp": str(now_ms())}
    values |= {"quantity": "0.0100", "recvWindow": "59999.125"}
    payload = "&".join(f"{k}={values[k]}" for k in sorted(values)).replace('"', "")
    values["signature"] = f'"{hmac_hex(payload)}"'
    params = ",".join(f'"{k}":{v}' for k, v in values.items())
    [reply] = answers('{"id":1,"method":"order.place","params":{' + params + "}}")
    assert reply["status"] == 200, reply


@pytest.mark.parametrize(
    ("offset_ms", "recv_window", "accepted"),
    [
        (0, ABSENT, True),
        (-4000, ABSENT, True),
        (-5001, ABSENT, False),
        (-59_000, 60000, True),
        (-59_000, "60000.000", True),
        (-300, "200.5", False),
        (900, ABSENT, True),
        (2000, ABSENT, False),
        (2000, 60000, False),
    ],
)
@pytest.mark.parametrize("unit", [1, 1000], ids=["milliseconds", "microseconds"])
@in_a_loop
async def test_a_request_is_valid_from_a_second_early_until_its_window_has_passed(
    offset_ms: int, recv_window: object, accepted: bool, unit: int
) -> None:
    async with exchange_and_client() as (sim, client):
        timing = {"timestamp": (now_ms() + offset_ms) * unit, "recvWindow": recv_window}
        reply = await place(client, MARKET | timing)
        if accepted:
            assert reply["status"] == 200
            assert sim.ledger[0].timestamp_ms == timing["timestamp"] // unit
        else:
            wrong = "1000ms ahead of the server's time" if offset_ms > 0 else "outside of the recv"
            assert reply["status"] == 400
            assert reply["error"]["code"] == -1021
            assert wrong in reply["error"]["msg"]


# ---- refusals ------------------------------------------------------------------------------------


def missing(name: str) -> tuple[int, str]:
    return -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."


def illegal(name: str, legal: str) -> tuple[int, str]:
    return -1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'."


UNSUPPORTED = (-1020, "This operation is not supported.")
BAD_SIGNATURE = (-1022, "Signature for this request is not valid.")
LOT_SIZE = (-1013, "Filter failure: LOT_SIZE")
NOTIONAL = (-1013, "Filter failure: NOTIONAL")
REFUSALS = [
    *(
        (MARKET | {name: value}, missing(name))
        for name in ("symbol", "side", "type", "apiKey", "timestamp", "signature")
        for value in ("", None)
    ),
    *((MARKET | {name: ABSENT}, missing(name)) for name in ("side", "quantity", "timestamp")),
    *((LIMIT | {name: ABSENT}, missing(name)) for name in ("price", "timeInForce", "quantity")),
    (MARKET | {"quantity": ""}, (-1105, "Parameter 'quantity' was empty.")),
    (MARKET | {"newClientOrderId": None}, (-1105, "Parameter 'newClientOrderId' was empty.")),
    (MARKET | {"colour": "red"}, (-1103, "An unknown parameter was sent.")),
    (MARKET | {"icebergQty": "0.001"}, UNSUPPORTED),
    (MARKET | {"type": "STOP_LOSS", "trailingDelta": "10"}, UNSUPPORTED),
    (MARKET | {"selfTradePreventionMode": "EXPIRE_TAKER"}, UNSUPPORTED),
    (MARKET | {"quoteOrderQty": "9"}, (-1128, "Combination of optional parameters invalid.")),
    (MARKET | {"type": "STOP_LOSS"}, missing("stopPrice")),
    (MARKET | {"apiKey": "A" * 64}, (-2015, "Invalid API-key, IP, or permissions for action.")),
    (MARKET | {"apiKey": "short"}, (-2014, "API-key format invalid.")),
    (MARKET | {"signature": "0" * 64}, BAD_SIGNATURE),
    (MARKET | {"signature": "\uff10"}, BAD_SIGNATURE),
    (MARKET | {"timestamp": "now"}, illegal("timestamp", "^[0-9]{1,20}$")),
    (
        MARKET | {"recvWindow": 60001},
        (-1102, "'recvWindow' contains unexpected value. Cannot be greater than 60000."),
    ),
    (MARKET | {"symbol": "BTCUSD"}, (-1121, "Invalid symbol.")),
    (MARKET | {"symbol": "btcusdt"}, (-1121, "Invalid symbol.")),
    (MARKET | {"side": "sell"}, (-1117, "Invalid side.")),
    (MARKET | {"type": "TRAILING"}, (-1116, "Invalid orderType.")),
    (LIMIT | {"timeInForce": "GTD"}, (-1115, "Invalid timeInForce.")),
    (MARKET | {"timeInForce": "GTC"}, (-1106, "Parameter 'timeInForce' sent when not required.")),
    (MARKET | {"price": "1"}, (-1106, "Parameter 'price' sent when not required.")),
    (
        MARKET | {"newOrderRespType": "SHORT"},
        (-1130, "Data sent for parameter 'newOrderRespType' is not valid."),
    ),
    *(
        (MARKET | {"newClientOrderId": text}, illegal("newClientOrderId", "^[a-zA-Z0-9-_]{1,36}$"))
        for text in ("a b", "x" * 37, "a\n", "\u0430")
    ),
    *(
        (MARKET | {"quantity": text}, illegal("quantity", r"^([0-9]{1,20})(\.[0-9]{1,20})?$"))
        for text in ("1e-2", "-1", "NaN", ".5", "1" * 21)
    ),
    (MARKET | {"quantity": "0.010000001"}, (-1111, "Parameter 'quantity' has too much precision.")),
    *(
        (MARKET | {"quantity": text}, LOT_SIZE)
        for text in ("0", "0.000009", "0.010005", "9000.00001", "9" * 20 + ".99999999")
    ),
    (MARKET | {"quantity": "0.00008"}, NOTIONAL),
    (LIMIT | {"price": "0.00"}, (-1013, "Filter failure: PRICE_FILTER")),
]


@pytest.mark.parametrize(("order", "refusal"), REFUSALS)
@in_a_loop
async def test_a_bad_order_is_refused_with_the_documented_error(
    order: dict[str, Any], refusal: tuple[int, str]
) -> None:
    code, msg = refusal

    async with exchange_and_client() as (sim, client):
        reply = await place(client, order)
        assert list(reply) == ["id", "status", "error", "rateLimits"]
        assert reply["id"] == 7
        assert reply["status"] == (401 if code in (-2014, -2015) else 400)
        assert reply["error"] == {"code": code, "msg": msg}
        assert sim.ledger == []
        assert sim.rejections == {f"{code} {msg}": 1}
        assert (await place(client, MARKET))["status"] == 200  # and the connection lives on


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "{",
        "[]",
        "null",
        '{"id":1,"method":"ping"} x',
        '{"id":1,"method":"ping","params":{"returnRateLimits":NaN}}',
        '{"id":1}',
        '{"id":1,"method":5}',
        "[" * 100_000,
        '{"id":' + "9" * 5000 + "}",
        b'{"id":1,"method":"ping"}',
    ],
    ids=lambda frame: repr(frame[:24]),
)
def test_a_frame_that_is_no_request_is_invalid_json(frame: str | bytes) -> None:
    broken, fine = answers(frame, {"id": 2, "method": "ping"})
    assert broken["status"] == 400
    assert broken["error"] == {"code": -1135, "msg": "Invalid JSON Request"}
    assert fine["status"] == 200


@pytest.mark.parametrize("request_id", ["", "a b", "x" * 37, "\ud800", 1.5, True, [1], ABSENT])
def test_an_id_that_the_venue_does_not_take_is_refused(request_id: object) -> None:
    message = {"method": "ping"} if request_id is ABSENT else {"id": request_id, "method": "ping"}
    [reply] = answers(message)
    assert (reply["id"], reply["error"]["code"]) == (None, -1135)
    assert "'id'" in reply["error"]["msg"]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"id": 1, "method": "order.plaice"}, -1020),
        ({"id": 1, "method": ""}, -1020),
        ({"id": 1, "method": "ping", "params": []}, -1135),
        ({"id": 1, "method": "ping", "params": {"x": 1}}, -1103),
        ({"id": 1, "method": "ping", "params": {"returnRateLimits": "no"}}, -1130),
        ({"id": 1, "method": "ping", "params": {"returnRateLimits": {}}}, -1130),
        ({"id": 1, "method": "order.place"}, -1102),
    ],
)
def test_a_bad_request_keeps_its_id(message: dict[str, Any], code: int) -> None:
    [reply] = answers(message)
    assert (reply["id"], reply["status"], reply["error"]["code"]) == (1, 400, code)


def test_a_parameter_sent_twice_is_refused() -> None:
    [reply] = answers('{"id":1,"method":"order.place","params":{"side":"BUY","side":"SELL"}}')
    assert reply["error"]["code"] == -1101


def test_a_lone_surrogate_only_fails_the_signature() -> None:
    order = json.dumps(signed(MARKET)).replace("BTCUSDT", r"\ud800")
    [reply] = answers('{"id":1,"method":"order.place","params":' + order + "}")
    assert reply["error"]["code"] == -1022


# ---- ledger and connections ----------------------------------------------------------------------


@in_a_loop
async def test_two_clients_share_one_ledger_file(tmp_path: Path) -> None:
    ledger_file = tmp_path / "ledger.jsonl"

    async with exchange_and_client(ledger_file=ledger_file) as (sim, one):
        async with client_of(sim) as two:

            async def trade(client: ClientConnection, name: str) -> None:
                for i in range(20):
                    order = MARKET | {"newClientOrderId": f"{name}-{i}"}
                    message = {"id": f"{name}{i}", "method": "order.place"}
                    reply = await ask(client, message | {"params": signed(order)})
                    assert reply["id"] == f"{name}{i}"
                    assert reply["result"]["clientOrderId"] == f"{name}-{i}"
                    # The line is there by the time the reply is.
                    assert f'"{name}-{i}"' in ledger_file.read_text()

            await asyncio.gather(trade(one, "one"), trade(two, "two"))
        assert len({entry.order_id for entry in sim.ledger}) == 40
    entries = [json.loads(line) for line in ledger_file.read_text().splitlines()]
    assert {entry["client_id"] for entry in entries} == {
        f"{name}-{i}" for name in ("one", "two") for i in range(20)
    }


def test_a_ledger_line_is_what_was_accepted_or_filled_and_when(tmp_path: Path) -> None:
    ledger_file = tmp_path / "ledger.jsonl"
    sent_ms, before_ns = now_ms() - 100, time.time_ns()
    answers(
        {"id": "r-1", "method": "order.place", "params": signed(LIMIT | {"timestamp": sent_ms})},
        {"id": 9, "method": "order.place", "params": signed(MARKET | {"newClientOrderId": "m"})},
        {"id": 9, "method": "order.place", "params": signed(LIMIT)},  # refused: still open
        ledger_file=ledger_file,
    )
    limit, market, fill = (json.loads(line) for line in ledger_file.read_text().splitlines())
    assert before_ns < limit.pop("received_ns") < market["received_ns"] < time.time_ns()
    assert limit == {
        "client_id": "whale-1",
        "side": "SELL",
        "symbol": "BTCUSDT",
        "type": "LIMIT",
        "quantity": "0.01000",
        "price": "70000.10",
        "time_in_force": "GTC",
        "order_id": 1,
        "timestamp_ms": sent_ms,
        "request_id": "r-1",
        "stop_price": None,
        "quote_quantity": None,
        "order_list_id": -1,
        "entry": "order",
    }
    assert (market["order_id"], market["price"], market["time_in_force"]) == (2, None, None)
    assert sent_ms < fill.pop("time_ms") <= now_ms()
    assert fill == {
        "trade_id": 1,
        "order_id": 2,
        "client_id": "m",
        "symbol": "BTCUSDT",
        "side": "SELL",
        "price": "60000.00",
        "quantity": "0.01000",
        "commission": "0.60000000",
        "commission_asset": "USDT",
        "maker": False,
        "entry": "fill",
    }


@contextlib.asynccontextmanager
async def raw_client(
    sim_url: str, ca_file: Path
) -> AsyncIterator[tuple[WSConnection, asyncio.StreamReader, asyncio.StreamWriter]]:
    """An upgraded connection that answers nothing by itself, spoken by wsproto."""
    host, port = sim_url.removeprefix("wss://").split("/")[0].split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=trusting(ca_file))
    peer = WSConnection(ConnectionType.CLIENT)
    writer.write(peer.send(UpgradeRequest(host=host, target="/ws-api/v3")))
    peer.receive_data(await reader.readuntil(b"\r\n\r\n"))
    assert isinstance(next(peer.events()), AcceptConnection)
    try:
        yield peer, reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@in_a_loop
async def test_pings_come_and_a_client_that_never_answers_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def pings_until_dropped(sim: ExchangeSim, answer: Callable[[Ping], Pong | None]) -> int:
        async with raw_client(sim.url, sim.ca_file) as (peer, reader, writer):
            pings = 0
            while pings < 20 and (data := await reader.read(4096)):
                peer.receive_data(data)
                for event in peer.events():
                    if isinstance(event, Ping):
                        pings += 1
                        if pong := answer(event):
                            writer.write(peer.send(pong))
            return pings

    async with ExchangeSim(ping_interval_s=0.05) as sim:
        for answer, stays in (
            (Ping.response, True),
            (lambda _: Pong(b""), False),  # an unsolicited pong is allowed and no answer
            (lambda _: None, False),
        ):
            monkeypatch.setattr(websocket, "PONG_TIMEOUT_S", 20 if stays else 0.5)
            pings = await asyncio.wait_for(pings_until_dropped(sim, answer), 20)
            assert (pings == 20) is stays


@in_a_loop
async def test_only_its_own_authority_and_names_are_trusted(tmp_path: Path) -> None:
    other = authority.issue(tmp_path)

    async with ExchangeSim() as sim:
        for context in (trusting(other.ca_file), ssl.create_default_context()):
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect(sim.url, ssl=context)
        right = trusting(sim.ca_file)
        for name in ("localhost", "127.0.0.1", "::1"):
            async with connect(sim.url, ssl=right, server_hostname=name) as client:
                assert (await ask(client, {"id": 1, "method": "ping"}))["status"] == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(sim.url, ssl=right, server_hostname="stream.example.com")


def test_an_authority_writes_three_files_and_keeps_its_key_to_itself(tmp_path: Path) -> None:
    files = authority.issue(tmp_path, ["venue.example", "192.0.2.7"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca.pem", "key.pem", "server.pem"]
    assert stat.S_IMODE(files.key_file.stat().st_mode) == 0o600
    certificate = x509.load_pem_x509_certificate(files.certificate_file.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "venue.example"]
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    assert addresses == ["127.0.0.1", "::1", "192.0.2.7"]
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert lifetime.days <= 8
    with pytest.raises(FileExistsError):
        authority.issue(tmp_path)


@in_a_loop
async def test_another_path_is_not_found() -> None:
    async with ExchangeSim() as sim:
        url = sim.url.replace("/ws-api/v3", "/ws-api/v2")
        with pytest.raises(InvalidStatus) as caught:
            await connect(url, ssl=trusting(sim.ca_file))
        assert caught.value.response.status_code == 404


@in_a_loop
async def test_it_can_refuse_the_upgrade_and_close_after_some_requests() -> None:
    async with ExchangeSim() as sim:
        sim.refuse_upgrade_status = 503
        with pytest.raises(InvalidStatus) as caught:
            await connect(sim.url, ssl=trusting(sim.ca_file))
        assert caught.value.response.status_code == 503
        sim.refuse_upgrade_status = None
        sim.close_after_requests = 2
        async with client_of(sim) as client:
            for _ in range(2):
                assert (await ask(client, {"id": 1, "method": "ping"}))["status"] == 200
            with pytest.raises(ConnectionClosed):
                await client.recv()


def test_files_and_ports_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    async def start(**options: Any) -> None:
        async with ExchangeSim(**options):
            pass

    with pytest.raises(ConfigError, match=r"the ledger .*nowhere"):
        asyncio.run(start(ledger_file=tmp_path / "nowhere" / "ledger"))
    with pytest.raises(ConfigError, match=r"the CA certificate .*nowhere"):
        asyncio.run(start(ca_out=tmp_path / "nowhere" / "ca.pem"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for name in ("ws", "stream", "rest"):
            with pytest.raises(ConfigError, match=f"127.0.0.1:{port} .*--{name}-port"):
                asyncio.run(start(**{f"{name}_port": port}))


def test_no_secret_is_in_a_repr() -> None:
    sim = ExchangeSim(hmac_key=(API_KEY, API_SECRET))
    assert API_SECRET not in repr(sim) + repr(sim.venue)
