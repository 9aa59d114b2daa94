"""The REST API of the simulated exchange's semantics, without sockets (rest-api.md)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine.sim.rest import ROUTES
from tests.venue import API_SECRET, BTC, LIMIT, MARKET, Client

BUY = LIMIT | {"side": "BUY", "price": "50000"}
# The example keys and signatures of "SIGNED Endpoint Examples for POST /api/v3/order".
DOCUMENTED_KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
DOCUMENTED_SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
DOCUMENTED = "&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000"
DOCUMENTED += "&timestamp=1499827319559"


@pytest.fixture
def client() -> Client:
    return Client()


def signed(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    return params | {"timestamp": client.now_ns // 10**6}


def ask(client: Client, method: str, path: str, in_body: bool = False, **params: Any) -> Any:
    reply = client.rest(method, f"/api/v3/{path}", in_body, **signed(client, params))
    assert reply.status == 200, reply.text
    return json.loads(reply.text)


def error(client: Client, method: str, path: str, **params: Any) -> tuple[int, int]:
    """HTTP status and code."""
    reply = client.rest(method, f"/api/v3/{path}", **params)
    document = json.loads(reply.text)
    assert list(document)[:2] == ["code", "msg"]
    return reply.status, document["code"]


@pytest.mark.parametrize("in_body", [False, True])
def test_an_order_is_placed_queried_and_cancelled(client: Client, in_body: bool) -> None:
    placed = ask(client, "POST", "order", in_body, **BUY, newClientOrderId="mine")
    assert (placed["status"], placed["fills"]) == ("NEW", [])
    assert client.take_events("executionReport")[0]["c"] == "mine"
    found = ask(client, "GET", "order", **BTC, origClientOrderId="mine")
    assert found == client.status("mine")
    assert ask(client, "GET", "openOrders") == [found]
    assert ask(client, "GET", "allOrders", **BTC) == [found]
    cancelled = ask(client, "DELETE", "order", in_body, **BTC, orderId=found["orderId"])
    assert cancelled["status"] == "CANCELED"
    assert ask(client, "GET", "openOrders", **BTC) == []


def test_every_other_path_leads_to_its_method(client: Client) -> None:
    assert json.loads(client.rest("GET", "/api/v3/ping").text) == {}
    now = json.loads(client.rest("GET", "/api/v3/time").text)
    assert now == {"serverTime": client.now_ns // 10**6}
    assert ask(client, "POST", "order/test", **BUY) == {}
    ask(client, "POST", "order", **BUY, newClientOrderId="old")
    replaced = ask(
        client,
        *("POST", "order/cancelReplace"),
        cancelReplaceMode="STOP_ON_FAILURE",
        cancelOrigClientOrderId="old",
        **BUY,
    )
    assert replaced["newOrderResult"] == "SUCCESS"
    oco = {"aboveType": "LIMIT_MAKER", "abovePrice": "61000", "belowType": "STOP_LOSS"}
    oco |= {"belowStopPrice": "59000", "side": "SELL", "quantity": "0.01"}
    placed = ask(client, "POST", "orderList/oco", **BTC, **oco)
    by_id = {"orderListId": placed["orderListId"]}
    assert ask(client, "GET", "orderList", **by_id)["orders"] == placed["orders"]
    assert len(ask(client, "GET", "openOrderList")) == 1
    assert ask(client, "DELETE", "orderList", **BTC, **by_id)["listOrderStatus"] == "ALL_DONE"
    assert len(ask(client, "DELETE", "openOrders", **BTC)) == 1
    ask(client, "POST", "order", **MARKET, side="SELL")
    [trade] = ask(client, "GET", "myTrades", **BTC)
    assert trade["qty"] == "0.01000000"
    assert ask(client, "GET", "account")["accountType"] == "SPOT"
    assert len(ask(client, "GET", "rateLimit/order")) == 2


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("exchangeInfo", {"symbols": '["BTCUSDT","ETHUSDT"]'}),
        ("exchangeInfo", {"symbol": "BTCUSDT", "showPermissionSets": "false"}),
        ("depth", {"symbol": "BTCUSDT", "limit": "7"}),
        ("ticker/price", {"symbols": '["BTCUSDT"]'}),
        ("ticker/bookTicker", {"symbol": "BTCUSDT"}),
    ],
)
def test_market_data_is_as_over_the_websocket(
    client: Client, path: str, params: dict[str, str]
) -> None:
    over_http = json.loads(client.rest("GET", f"/api/v3/{path}", **params).text)
    other = client.ask(ROUTES["GET", path], **params)
    for document in (over_http, other):
        if isinstance(document, dict):
            document.pop("serverTime", None)
    assert over_http == other


def test_the_headers_count(client: Client) -> None:
    reply = client.rest("POST", "/api/v3/order", **signed(client, BUY))
    assert reply.headers["Content-Type"] == "application/json;charset=UTF-8"
    assert reply.headers["X-MBX-USED-WEIGHT-1M"] == "5"  # connecting, subscribing, this
    assert reply.headers["X-MBX-ORDER-COUNT-10S"] == reply.headers["X-MBX-ORDER-COUNT-1D"] == "1"
    assert "X-MBX-ORDER-COUNT-10S" not in client.rest("GET", "/api/v3/ping").headers


@pytest.mark.parametrize(
    ("symbol", "signature", "code"),
    [  # signed well, so what is wrong is only that there is no such symbol here
        ("LTCBTC", "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71", -1121),
        (
            "%EF%BC%91%EF%BC%92%EF%BC%93%EF%BC%94%EF%BC%95%EF%BC%96",
            "e1353ec6b14d888f1164ae9af8228a3dbd508bc82eb867db8ab6046442f33ef3",
            -1121,
        ),
        ("LTCBTC", "e1353ec6b14d888f1164ae9af8228a3dbd508bc82eb867db8ab6046442f33ef3", -1022),
    ],
)
@pytest.mark.parametrize("split", [0, 1, 2, 3])
def test_the_documented_signatures(
    client: Client, symbol: str, signature: str, code: int, split: int
) -> None:
    """In the query string, the body, or some here and some there, which are signed without a
    separator: so the parts of the third are no longer the example's."""
    client.venue.keys[DOCUMENTED_KEY] = DOCUMENTED_SECRET
    text, mark = f"symbol={symbol}{DOCUMENTED}", f"signature={signature}"
    query, body = {
        0: (f"{text}&{mark}", ""),
        1: ("", f"{text}&{mark}"),
        2: (text, mark),
        3: (f"symbol={symbol}", f"{DOCUMENTED[1:]}&{mark}"),
    }[split]
    reply = client.venue.rest(
        *("POST", "/api/v3/order", query, body.encode()),
        {"x-mbx-apikey": DOCUMENTED_KEY},
        1499827319559 * 10**6,
    )
    assert (reply.status, json.loads(reply.text)["code"]) == (400, -1022 if split == 3 else code)


def test_a_signature_over_query_and_body_without_a_separator(client: Client) -> None:
    query = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC"
    body = f"quantity=1&price=50000&timestamp={client.now_ns // 10**6}"
    signature = hmac.new(API_SECRET.encode(), (query + body).encode(), hashlib.sha256).hexdigest()
    reply = client.venue.rest(
        *("POST", "/api/v3/order", query, f"{body}&signature={signature}".encode()),
        {"X-MBX-APIKEY": "K" * 64},
        client.now_ns,
    )
    assert reply.status == 200, reply.text


def test_an_ed25519_signature_is_percent_encoded(client: Client) -> None:
    key = Ed25519PrivateKey.generate()
    client.venue.keys["E" * 64] = key.public_key()
    text = f"timestamp={client.now_ns // 10**6}"
    mark = base64.b64encode(key.sign(text.encode())).decode()
    for encoded, status in ((mark.replace("+", "%2B").replace("=", "%3D"), 200), ("AAAA", 400)):
        reply = client.venue.rest(
            *("GET", "/api/v3/account", f"{text}&signature={encoded}", b""),
            {"X-MBX-APIKEY": "E" * 64},
            client.now_ns,
        )
        assert reply.status == status


def test_what_is_refused(client: Client) -> None:
    now = {"timestamp": client.now_ns // 10**6}
    assert error(client, "GET", "klines") == (404, -1020)
    assert error(client, "PUT", "order") == (404, -1020)
    for path in ("ping", "/ping", "/api/v1/ping", "/api/v3/ping/"):
        assert client.rest("GET", path).status == 404
    assert error(client, "GET", "account") == (400, -1102)
    assert error(client, "GET", "account", key="", **now) == (401, -2014)
    assert error(client, "GET", "account", key="Z" * 64, **now) == (401, -2015)
    assert error(client, "GET", "account", colour="red", **now) == (400, -1103)
    assert error(client, "GET", "account", timestamp=client.now_ns // 10**6 - 6000) == (400, -1021)
    assert error(client, "GET", "ticker/price", symbol="NONE") == (400, -1121)
    for query in ("symbol=BTCUSDT&symbol=ETHUSDT", "symbol=BTCUSDT&symbol=BTCUSDT"):
        reply = client.venue.rest("GET", "/api/v3/depth", query, b"", {}, client.now_ns)
        assert json.loads(reply.text)["code"] == -1101
    assert client.ledger == []


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"X-MBX-TIME-UNIT": "MICROSECOND"}, 400, -1020),
        ({"x-mbx-time-unit": "microsecond"}, 400, -1020),
        ({"X-MBX-TIME-UNIT": "DAY"}, 400, -1194),
        ({"Accept": "application/sbe", "X-MBX-SBE": "1:0"}, 406, -1020),
        ({"X-MBX-TIME-UNIT": "MILLISECOND"}, 200, None),
        ({"Accept": "application/sbe,application/json"}, 200, None),
    ],
)
def test_another_form_of_the_reply_is_refused(
    client: Client, headers: dict[str, str], status: int, code: int | None
) -> None:
    reply = client.venue.rest("GET", "/api/v3/time", "", b"", headers, client.now_ns)
    assert (reply.status, json.loads(reply.text).get("code")) == (status, code)


def test_the_query_string_goes_before_the_body(client: Client) -> None:
    reply = client.venue.rest(
        *("GET", "/api/v3/ticker/price", "symbol=BTCUSDT", b"symbol=ETHUSDT"), {}, client.now_ns
    )
    assert json.loads(reply.text)["symbol"] == "BTCUSDT"


@pytest.mark.parametrize("body", [b"\xff\xfe", b"%", b"=", b"&&&", b"a" * 10_000])
def test_bytes_that_are_no_form_do_no_harm(client: Client, body: bytes) -> None:
    reply = client.venue.rest("POST", "/api/v3/order", "%ff=%00", body, {}, client.now_ns)
    assert reply.status in (400, 401)
