"""Rate limits of the simulated exchange: weights, unfilled orders, 429, 418 and how to come back
(web-socket-api.md, "Rate limits"; rest-api.md, "LIMITS"; faqs/order_count_decrement.md)."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from engine.sim.rates import Limits
from tests.venue import BTC, EPOCH_NS, LIMIT, MARKET, Client

MINUTE_MS = 60_000
OCO = BTC | {"side": "SELL", "quantity": "0.01", "aboveType": "LIMIT_MAKER", "abovePrice": "61000"}
OCO |= {"belowType": "STOP_LOSS", "belowStopPrice": "59000"}
BUY = LIMIT | {"side": "BUY", "price": "50000"}


def limited(**limits: int) -> Client:
    return Client(subscribe=False, limits=Limits(**limits))


def counts(client: Client) -> list[int]:
    """Of unfilled orders: 10 seconds and a day."""
    return [limit["count"] for limit in client.ask("account.rateLimits.orders")]


def end_of_minute_ms(client: Client) -> int:
    now_ms = client.now_ns // 10**6
    return now_ms - now_ms % MINUTE_MS + MINUTE_MS


@pytest.mark.parametrize(
    ("method", "params", "weight"),
    [
        ("ping", {}, 1),
        ("time", {}, 1),
        ("exchangeInfo", {}, 20),
        ("depth", {"symbol": "BTCUSDT"}, 5),
        ("depth", {"symbol": "BTCUSDT", "limit": 100}, 5),
        ("depth", {"symbol": "BTCUSDT", "limit": 101}, 25),
        ("depth", {"symbol": "BTCUSDT", "limit": 501}, 50),
        ("depth", {"symbol": "BTCUSDT", "limit": 99999}, 250),
        ("ticker.book", {"symbol": "BTCUSDT"}, 2),
        ("ticker.book", {"symbols": ["BTCUSDT"]}, 4),
        ("ticker.price", {}, 4),
        ("session.status", {}, 2),
        ("session.subscriptions", {}, 2),
        ("userDataStream.subscribe.signature", {}, 2),
        ("userDataStream.unsubscribe", {}, 2),
        ("order.place", BUY, 1),
        ("order.test", BUY, 1),
        ("openOrders.status", {}, 80),
        ("openOrders.status", {"symbol": "BTCUSDT"}, 6),
        ("order.status", {"symbol": "BTCUSDT", "orderId": 1}, 4),
        ("allOrders", {"symbol": "BTCUSDT"}, 20),
        ("myTrades", {"symbol": "BTCUSDT"}, 20),
        ("myTrades", {"symbol": "BTCUSDT", "orderId": 1}, 5),
        ("openOrderLists.status", {}, 6),
        ("orderList.status", {"orderListId": 1}, 4),
        ("account.status", {}, 20),
        ("account.rateLimits.orders", {}, 40),
        ("order.place", {"symbol": "BTCUSDT"}, 1),
    ],
)
def test_weights(method: str, params: dict[str, Any], weight: int) -> None:
    reply = limited().reply(method, **params)
    assert reply["rateLimits"][-1]["count"] == 2 + weight  # connecting weighs 2


def test_too_much_weight_is_refused_until_the_minute_is_over() -> None:
    client = limited(request_weight=25)
    client.ask("exchangeInfo")
    reply = client.reply("exchangeInfo")
    assert reply["status"] == 429
    error = reply["error"]
    assert error["code"] == -1003
    assert error["msg"].startswith(
        "Too much request weight used; current limit is 25 request weight per 1 MINUTE."
    )
    assert error["data"] == {
        "serverTime": client.now_ns // 10**6,
        "retryAfter": end_of_minute_ms(client),
    }
    assert client.reply("ping")["status"] == 429
    client.now_ns = error["data"]["retryAfter"] * 10**6
    assert client.reply("ping")["status"] == 200


def test_who_does_not_back_off_is_banned_and_longer_each_time() -> None:
    client = limited(request_weight=10, patience=3)
    client.reply("exchangeInfo")
    assert client.reply("ping")["status"] == 429
    lengths_ms = []
    for _ in range(3):
        reply = client.reply("ping")
        while reply["status"] == 429:
            reply = client.reply("ping")
        assert reply["status"] == 418
        data = reply["error"]["data"]
        assert str(data["retryAfter"]) in reply["error"]["msg"]
        lengths_ms.append(data["retryAfter"] - data["serverTime"])
        # Nothing is executed meanwhile, though a new minute has begun.
        client.now_ns += 61 * 10**9
        assert client.reply("order.place", **BUY)["status"] == 418
        assert client.ledger == []
        client.now_ns = data["retryAfter"] * 10**6
        client.ask("ping")
        client.reply("exchangeInfo")
    assert lengths_ms == [120_000, 240_000, 480_000]


def test_requests_during_a_ban_make_it_longer() -> None:
    client = limited(request_weight=10, patience=2)
    until = [
        client.reply("exchangeInfo").get("error", {}).get("data", {}).get("retryAfter")
        for _ in range(6)
    ]
    assert until[1] < until[3] < until[5]


def test_unfilled_orders_are_counted_and_refused() -> None:
    client = limited(orders_10_s=3)
    for _ in range(3):
        client.ask("order.place", **BUY)
    reply = client.reply("order.place", **BUY)
    assert reply["status"] == 429
    now_ms = client.now_ns // 10**6
    assert reply["error"] == {
        "code": -1015,
        "msg": "Too many new orders; current limit is 3 orders per 10 SECOND.",
        "data": {"serverTime": now_ms, "retryAfter": EPOCH_NS // 10**6 + 10_000},
    }
    assert [limit["count"] for limit in reply["rateLimits"][:2]] == [3, 3]
    assert len(client.ledger) == 3
    client.now_ns = reply["error"]["data"]["retryAfter"] * 10**6
    client.ask("order.place", **BUY)
    assert counts(client) == [1, 4]


@pytest.mark.parametrize(
    ("method", "params", "orders"),
    [
        ("order.place", BUY, 1),
        ("order.test", BUY, 0),
        ("order.place", BUY | {"quantity": "100000"}, 0),
        ("orderList.place.oco", OCO, 2),
        (
            "order.cancelReplace",
            BUY | {"cancelReplaceMode": "STOP_ON_FAILURE", "cancelOrderId": 9},
            1,
        ),
    ],
)
def test_what_counts_as_an_order(method: str, params: dict[str, Any], orders: int) -> None:
    client = limited()
    client.reply(method, **params)
    assert counts(client) == [orders, orders]


def test_orders_that_fill_do_not_count_for_long() -> None:
    client = limited()
    reply = client.reply("order.place", **MARKET, side="SELL")
    assert reply["rateLimits"][0]["count"] == 1
    assert counts(client) == [0, 0]


def test_an_order_that_fills_as_a_maker_makes_up_for_five() -> None:
    client = limited()
    for price in ("50000", "50000", "50000", "50000", "50000", "50000", "59990"):
        client.ask("order.place", **BUY | {"price": price})
    assert counts(client) == [7, 7]
    client.venue.trade("BTCUSDT", Decimal(59990), Decimal("0.001"))
    assert counts(client) == [2, 2]
    client.venue.trade("BTCUSDT", Decimal(59990), Decimal("0.001"))  # not its first fill
    assert counts(client) == [2, 2]


@pytest.mark.parametrize(
    ("mode", "status"), [(None, 429), ("DO_NOTHING", 429), ("CANCEL_ONLY", 409)]
)
def test_a_replacement_beyond_the_limit(mode: str | None, status: int) -> None:
    client = limited(orders_10_s=1)
    client.ask("order.place", **BUY, newClientOrderId="old")
    params = BUY | {"cancelReplaceMode": "STOP_ON_FAILURE", "cancelOrigClientOrderId": "old"}
    if mode:
        params["orderRateLimitExceededMode"] = mode
    reply = client.reply("order.cancelReplace", **params)
    assert reply["status"] == status
    if mode == "CANCEL_ONLY":
        data = reply["error"]["data"]
        assert (data["cancelResult"], data["newOrderResult"]) == ("SUCCESS", "FAILURE")
        assert data["newOrderResponse"]["code"] == -1015
    else:
        assert reply["error"]["code"] == -1015
    is_open = client.ask("openOrders.status")
    assert len(is_open) == (0 if mode == "CANCEL_ONLY" else 1)


@pytest.mark.parametrize(
    ("mode", "status", "code"), [("STOP_ON_FAILURE", 429, -1015), ("ALLOW_FAILURE", 400, -2022)]
)
def test_a_replacement_beyond_the_limit_of_nothing(mode: str, status: int, code: int) -> None:
    """The table of "Cancel and replace order (TRADE)", CANCEL_ONLY and FAILURE."""
    client = limited(orders_10_s=1)
    client.ask("order.place", **BUY)
    params = {"cancelReplaceMode": mode, "orderRateLimitExceededMode": "CANCEL_ONLY"}
    reply = client.reply("order.cancelReplace", **BUY, **params, cancelOrigClientOrderId="none")
    assert (reply["status"], reply["error"]["code"]) == (status, code)
    assert len(client.ledger) == 1


def test_over_http_the_headers_tell() -> None:
    client = limited(request_weight=30, patience=2)
    reply = client.rest("GET", "/api/v3/exchangeInfo")
    assert reply.status == 200
    assert reply.headers["X-MBX-USED-WEIGHT-1M"] == "22"
    assert "Retry-After" not in reply.headers
    refused = client.rest("GET", "/api/v3/exchangeInfo")
    assert refused.status == 429
    error = json.loads(refused.text)
    assert list(error) == ["code", "msg"]
    left_ms = end_of_minute_ms(client) - client.now_ns // 10**6
    assert int(refused.headers["Retry-After"]) == -(-left_ms // 1000)
    banned = client.rest("GET", "/api/v3/ping")
    assert (banned.status, banned.headers["Retry-After"]) == (418, "120")
