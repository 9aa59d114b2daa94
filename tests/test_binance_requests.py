"""engine.venues.binance_requests: what is asked, in the documented form, signed as documented."""

from __future__ import annotations

import hashlib
import hmac
import json
from decimal import Decimal
from typing import Any

import pytest

from engine import client_ids
from engine.exits import Cancel, Place
from engine.inquiries import Query
from engine.venues import binance_requests as requests
from engine.venues.binance_requests import Auth, Stamp

# The key pair and the signature of the heading "SIGNED request example (HMAC)".
KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
SECRET = b"NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
HMAC = Stamp(Auth(KEY, SECRET), 1_700_000_000_000, 5000)
LOGGED_ON = Stamp(Auth(), 1_700_000_000_000, 5000)
ENTRY = "hp0123456789abcdef0123-0000000000001"


def read(text: bytes, method: str, request_id: str) -> dict[str, Any]:
    """The parameters, without what every request has; its signature is checked."""
    message = json.loads(text)
    assert (message["method"], message["id"]) == (method, request_id)
    params: dict[str, Any] = message["params"]
    if "signature" in params:
        signature = params.pop("signature")
        payload = "&".join(f"{name}={params[name]}" for name in sorted(params))
        assert signature == hmac.new(SECRET, payload.encode(), hashlib.sha256).hexdigest()
        assert params.pop("apiKey") == KEY
    assert params.pop("timestamp") == 1_700_000_000_000
    assert params.pop("recvWindow") == 5000
    return params


def exit_(leg: str, side: str = "SELL", **prices: Decimal) -> Place:
    client_id = client_ids.exit_id(ENTRY, leg, 0)
    return Place(client_id, ENTRY, "BTCUSDT", side, Decimal("0.00999"), **prices)


def test_the_documented_signature() -> None:
    params = {
        "symbol": "BTCUSDT",
        "side": "SELL",
        "type": "LIMIT",
        "timeInForce": "GTC",
        "quantity": "0.01000000",
        "price": "52000.00",
        "newOrderRespType": "ACK",
    }
    stamp = Stamp(Auth(KEY, SECRET), 1_645_423_376_532, 100)
    message = json.loads(requests.signed("1", "order.place", params, stamp))
    assert message["params"]["signature"] == (
        "cc15477742bd704c29492d96c7ead9414dfd8e0ec4a00f947bb5bb454ddbd08a"
    )


def test_a_connection_that_has_logged_on_needs_no_signature() -> None:
    params = json.loads(requests.signed("a1", "account.status", {}, LOGGED_ON))["params"]
    assert params == {"recvWindow": 5000, "timestamp": 1_700_000_000_000}
    signed = json.loads(requests.signed("a1", "account.status", {}, HMAC))["params"]
    assert set(signed) == {"recvWindow", "timestamp", "apiKey", "signature"}


def test_the_secret_is_in_no_repr() -> None:
    assert SECRET.decode() not in repr(HMAC)
    assert KEY not in repr(HMAC)


@pytest.mark.parametrize("stamp", [HMAC, LOGGED_ON])
def test_a_market_exit(stamp: Stamp) -> None:
    order = exit_(client_ids.MARKET)
    assert read(requests.place_exit(order, stamp), "order.place", order.client_id) == {
        "symbol": "BTCUSDT",
        "side": "SELL",
        "type": "MARKET",
        "quantity": "0.00999",
        "newClientOrderId": order.client_id,
        "newOrderRespType": "FULL",
    }


def test_a_take_profit_and_a_stop_loss_of_their_own() -> None:
    take = exit_(client_ids.TAKE_PROFIT, take_price=Decimal("61000.10"))
    params = read(requests.place_exit(take, HMAC), "order.place", take.client_id)
    assert (params["type"], params["price"], params["timeInForce"]) == ("LIMIT", "61000.10", "GTC")
    stop = exit_(client_ids.STOP_LOSS, stop_price=Decimal("59000.10"))
    params = read(requests.place_exit(stop, HMAC), "order.place", stop.client_id)
    assert (params["type"], params["stopPrice"]) == ("STOP_LOSS", "59000.10")
    assert "timeInForce" not in params


@pytest.mark.parametrize(
    ("side", "take", "stop"), [("SELL", "above", "below"), ("BUY", "below", "above")]
)
def test_a_list_has_its_legs_on_the_right_sides(side: str, take: str, stop: str) -> None:
    """Heading "Place new Order list - OCO", price restrictions."""
    prices = {"take_price": Decimal("61000"), "stop_price": Decimal("59000")}
    order = exit_(client_ids.OCO, side, **prices)
    take_id, stop_id = client_ids.legs_of(order.client_id)
    assert read(requests.place_exit(order, HMAC), "orderList.place.oco", order.client_id) == {
        "symbol": "BTCUSDT",
        "side": side,
        "quantity": "0.00999",
        "listClientOrderId": order.client_id,
        f"{take}Type": "LIMIT_MAKER",
        f"{take}ClientOrderId": take_id,
        f"{take}Price": "61000",
        f"{stop}Type": "STOP_LOSS",
        f"{stop}ClientOrderId": stop_id,
        f"{stop}StopPrice": "59000",
        "newOrderRespType": "RESULT",
    }
    assert len({order.client_id, take_id, stop_id}) == 3


def test_an_order_is_named_by_the_venues_id_where_that_is_known() -> None:
    asks = client_ids.request_id(client_ids.STATUS, ENTRY)
    unknown = Query(client_ids.STATUS, "BTCUSDT", ENTRY, None)
    assert read(requests.ask(unknown, HMAC), "order.status", asks) == {
        "symbol": "BTCUSDT",
        "origClientOrderId": ENTRY,
    }
    known = Query(client_ids.STATUS, "BTCUSDT", ENTRY, 7)
    assert read(requests.ask(known, HMAC), "order.status", asks)["orderId"] == 7
    trades = Query(client_ids.TRADES, "BTCUSDT", ENTRY, 7)
    assert read(requests.ask(trades, HMAC), "myTrades", trades.request_id) == {
        "symbol": "BTCUSDT",
        "orderId": 7,
    }
    order = Cancel(ENTRY, "BTCUSDT", 7)
    assert read(requests.cancel(order, HMAC), "order.cancel", order.request_id) == {
        "symbol": "BTCUSDT",
        "orderId": 7,
    }


def test_the_user_data_stream_is_subscribed_to_with_a_signature_or_by_the_session() -> None:
    assert json.loads(requests.subscribe("u", LOGGED_ON)) == {
        "id": "u",
        "method": "userDataStream.subscribe",
    }
    assert read(requests.subscribe("u", HMAC), "userDataStream.subscribe.signature", "u") == {}


def test_an_id_tells_whose_it_is_and_what_was_asked() -> None:
    last = client_ids.exit_id(ENTRY, client_ids.OCO, client_ids.ATTEMPTS_MAX - 1)
    for client_id in (ENTRY, last, *client_ids.legs_of(last)):
        assert len(client_id) == 36
        assert client_ids.is_ours(client_id)
        assert client_ids.run_of(client_id) == "0123456789abcdef0123"
        assert client_ids.number_of(client_id) == 1
        for asks in (client_ids.STATUS, client_ids.CANCEL, client_ids.TRADES, client_ids.PLACE):
            assert client_ids.asked(client_ids.request_id(asks, client_id)) == (asks, client_id)
    assert client_ids.attempt_of(last) == client_ids.ATTEMPTS_MAX - 1
    for stranger in ("", "None", "time-5", "sp", ENTRY[:-1], "xp" + ENTRY[2:]):
        assert client_ids.asked(stranger) is None
