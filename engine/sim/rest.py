"""The REST API of the simulated exchange (rest-api.md): the WebSocket methods, found by path."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from engine.sim.call import Method
from engine.sim.methods import METHODS
from engine.sim.rates import Limiter
from engine.sim.request import ApiError

PREFIX = "/api/v3/"
ROUTES = {
    ("GET", "ping"): "ping",
    ("GET", "time"): "time",
    ("GET", "exchangeInfo"): "exchangeInfo",
    ("GET", "depth"): "depth",
    ("GET", "ticker/price"): "ticker.price",
    ("GET", "ticker/bookTicker"): "ticker.book",
    ("GET", "account"): "account.status",
    ("GET", "rateLimit/order"): "account.rateLimits.orders",
    ("GET", "order"): "order.status",
    ("GET", "openOrders"): "openOrders.status",
    ("GET", "allOrders"): "allOrders",
    ("GET", "myTrades"): "myTrades",
    ("GET", "orderList"): "orderList.status",
    ("GET", "openOrderList"): "openOrderLists.status",
    ("POST", "order"): "order.place",
    ("POST", "order/test"): "order.test",
    ("POST", "order/cancelReplace"): "order.cancelReplace",
    ("POST", "orderList/oco"): "orderList.place.oco",
    ("POST", "orderList/otoco"): "orderList.place.otoco",
    ("DELETE", "order"): "order.cancel",
    ("DELETE", "openOrders"): "openOrders.cancelAll",
    ("DELETE", "orderList"): "orderList.cancel",
}
JSON_TYPE = "application/json;charset=UTF-8"
API_KEY_HEADER = "x-mbx-apikey"


@dataclass(frozen=True)
class RestReply:
    """An HTTP response: `text` is JSON."""

    status: int
    headers: dict[str, str]
    text: str


@dataclass(frozen=True)
class Form:
    """A request's parameters, and the text that its signature is of."""

    params: dict[str, str]
    signed_text: str


def find_method(http_method: str, path: str) -> Method:
    """The method that a path means; 404 when there is none."""
    name = ROUTES.get((http_method, path.removeprefix(PREFIX)))
    if name is None or not path.startswith(PREFIX):
        raise ApiError(-1020, "This operation is not supported.", 404)
    return METHODS[name]


def check_format(headers: Mapping[str, str]) -> None:
    """Replies are JSON and have milliseconds: who wants them otherwise is refused ("General
    Information on Endpoints"; faqs/sbe_faq.md as where SBE is not enabled)."""
    wanted = {name.lower(): text.lower() for name, text in headers.items()}
    formats = wanted.get("accept", "")
    if "application/sbe" in formats and "application/json" not in formats:
        raise ApiError(-1020, "This operation is not supported.", 406)
    unit = wanted.get("x-mbx-time-unit", "millisecond")
    if unit == "microsecond":
        raise ApiError(-1020, "This operation is not supported.")
    if unit != "millisecond":
        raise ApiError(
            -1194, "Invalid value for time unit; expected either MICROSECOND or MILLISECOND."
        )


def places_orders(http_method: str, path: str) -> bool:
    name = ROUTES.get((http_method, path.removeprefix(PREFIX)))
    return name is not None and METHODS[name].places_orders


def read_api_key(headers: Mapping[str, str]) -> str:
    """The key that the request names ("Request Security"), empty without one."""
    found = (text for name, text in headers.items() if name.lower() == API_KEY_HEADER)
    return next(found, "")


def read_form(query: str, body: bytes) -> Form:
    """Parameters of the query string and the form-encoded body; the query string's go first
    ("General Information on Endpoints")."""
    text = body.decode("utf-8", "replace")
    params = _parse(text) | _parse(query)
    return Form(params, _without_signature(query) + _without_signature(text))


def _parse(encoded: str) -> dict[str, str]:
    pairs = parse_qsl(encoded, keep_blank_values=True)
    params = dict(pairs)
    if len(params) != len(pairs):
        raise ApiError(-1101, "Duplicate values for a parameter detected.")
    return params


def _without_signature(encoded: str) -> str:
    return "&".join(part for part in encoded.split("&") if not part.startswith("signature="))


def reply(result: Any, limiter: Limiter, shows_orders: bool) -> RestReply:
    """The reply to a request that succeeded ("Unfilled Order Count" about the headers)."""
    headers = _headers(limiter)
    if shows_orders:
        for window in limiter.orders:
            letter = window.interval[0]
            headers[f"X-MBX-ORDER-COUNT-{window.interval_num}{letter}"] = str(window.count)
    return RestReply(200, headers, json.dumps(result, separators=(",", ":")))


def error_reply(error: ApiError, limiter: Limiter, now_ms: int) -> RestReply:
    """The reply to one that did not ("Error Codes"; "IP Limits" about Retry-After)."""
    headers = _headers(limiter)
    content = error.as_json()
    if error.status in (418, 429):
        retry_ms = content.pop("data")["retryAfter"]
        headers["Retry-After"] = str(-(-(retry_ms - now_ms) // 1000))
    return RestReply(error.status, headers, json.dumps(content, separators=(",", ":")))


def _headers(limiter: Limiter) -> dict[str, str]:
    used = str(limiter.weight.count)
    return {
        "Content-Type": JSON_TYPE,
        "X-MBX-USED-WEIGHT": used,
        "X-MBX-USED-WEIGHT-1M": used,
    }
