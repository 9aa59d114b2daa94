"""Requests about orders and the account (web-socket-api.md; each builder names its heading).

Each takes what it is about, and a Stamp: who asks, and when by the venue's clock.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from engine import client_ids
from engine.credentials import Credentials
from engine.exits import Cancel, Place
from engine.inquiries import Query
from engine.venues.binance import request, signature_payload

Params = dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Auth:
    """Who asks: with a key and its HMAC secret every request is signed; without, the connection has
    logged on (heading "Session Authentication")."""

    api_key: str | None = field(default=None, repr=False)
    secret: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, credentials: Credentials) -> Auth:
        if credentials.api_secret is None:
            return cls()
        return cls(credentials.api_key, credentials.api_secret.encode())


@dataclass(frozen=True, slots=True)
class Stamp:
    """What every SIGNED request carries; `timestamp_ms` is venue time."""

    auth: Auth
    timestamp_ms: int
    recv_window_ms: int


def signed(
    request_id: str, method: str, params: Mapping[str, str | int | None], stamp: Stamp
) -> bytes:
    """Heading "SIGNED request security"; parameters that are None are left out."""
    filled: Params = {name: value for name, value in params.items() if value is not None}
    filled["recvWindow"] = stamp.recv_window_ms
    filled["timestamp"] = stamp.timestamp_ms
    auth = stamp.auth
    if auth.api_key is not None and auth.secret is not None:
        filled["apiKey"] = auth.api_key
        payload = signature_payload(filled).encode()
        filled["signature"] = hmac.new(auth.secret, payload, hashlib.sha256).hexdigest()
    return request(request_id, method, filled)


def amount(value: Decimal | None) -> str | None:
    """As the venue takes it: plain digits."""
    return None if value is None else f"{value:f}"


# ---- orders --------------------------------------------------------------------------------------


def place_exit(exit_: Place, stamp: Stamp) -> bytes:
    """Headings "Place new order" and "Place new Order list - OCO"; its id is the order's."""
    params: dict[str, str | int | None] = {
        "symbol": exit_.symbol,
        "side": exit_.side,
        "quantity": amount(exit_.quantity),
    }
    if exit_.kind == client_ids.OCO:
        return signed(exit_.client_id, "orderList.place.oco", params | _oco(exit_), stamp)
    if exit_.kind == client_ids.TAKE_PROFIT:
        params |= {"type": "LIMIT", "timeInForce": "GTC", "price": amount(exit_.take_price)}
    elif exit_.kind == client_ids.STOP_LOSS:
        params |= {"type": "STOP_LOSS", "stopPrice": amount(exit_.stop_price)}
    else:
        params |= {"type": "MARKET"}
    # FULL: the reply to what is filled at once has the trades and their commissions.
    params |= {"newClientOrderId": exit_.client_id, "newOrderRespType": "FULL"}
    return signed(exit_.client_id, "order.place", params, stamp)


def _oco(exit_: Place) -> dict[str, str | int | None]:
    """A LIMIT_MAKER order that takes the profit, and a STOP_LOSS order on the other side."""
    take_id, stop_id = client_ids.legs_of(exit_.client_id)
    take, stop = ("above", "below") if exit_.side == "SELL" else ("below", "above")
    return {
        "listClientOrderId": exit_.client_id,
        f"{take}Type": "LIMIT_MAKER",
        f"{take}ClientOrderId": take_id,
        f"{take}Price": amount(exit_.take_price),
        f"{stop}Type": "STOP_LOSS",
        f"{stop}ClientOrderId": stop_id,
        f"{stop}StopPrice": amount(exit_.stop_price),
        "newOrderRespType": "RESULT",
    }


def _which(client_id: str, order_id: int | None) -> Params:
    """The venue's own id where it is known: an order that was cancelled has another client id."""
    return {"origClientOrderId": client_id} if order_id is None else {"orderId": order_id}


def method_of(query: Query) -> str:
    """Headings "Query order" and "Account trade history" of one order."""
    return "myTrades" if query.asks == client_ids.TRADES else "order.status"


def ask(query: Query, stamp: Stamp) -> bytes:
    params: Params = {"symbol": query.symbol, **_which(query.client_id, query.order_id)}
    return signed(query.request_id, method_of(query), params, stamp)


def cancel(order: Cancel, stamp: Stamp) -> bytes:
    """Heading "Cancel order"."""
    params: Params = {"symbol": order.symbol, **_which(order.client_id, order.order_id)}
    return signed(order.request_id, "order.cancel", params, stamp)


# ---- the session ---------------------------------------------------------------------------------


def subscribe(request_id: str, stamp: Stamp) -> bytes:
    """Headings "Subscribe to User Data Stream", for a connection that has logged on, and "Subscribe
    to User Data Stream through signature subscription" for any other."""
    if stamp.auth.secret is None:
        return request(request_id, "userDataStream.subscribe")
    return signed(request_id, "userDataStream.subscribe.signature", {}, stamp)
