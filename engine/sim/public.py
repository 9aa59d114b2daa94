"""The methods that anybody may call (web-socket-api.md, "General requests" and "Market data
requests", by the names of their headings)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from engine.sim import symbols
from engine.sim.book import Book
from engine.sim.call import Call, Params
from engine.sim.rates import CONNECTIONS
from engine.sim.request import ApiError, eight, read_choice, read_long, read_texts

DEPTH_DEFAULT, DEPTH_MAX = 100, 5000
DEPTH_WEIGHTS = ((100, 5), (500, 25), (1000, 50), (DEPTH_MAX, 250))


def ping(call: Call, params: Params) -> dict[str, Any]:
    """Heading "Test connectivity"."""
    return {}


def time(call: Call, params: Params) -> dict[str, Any]:
    """Heading "Check server time"."""
    return {"serverTime": call.now_ms}


def exchange_info(call: Call, params: Params) -> dict[str, Any]:
    """Heading "Exchange information"."""
    if len(params.keys() & {"symbol", "symbols", "permissions"}) > 1:
        raise ApiError(-1128, "Combination of optional parameters invalid.")
    books = _books(call, params)
    if "permissions" in params and "SPOT" not in read_texts(params, "permissions"):
        books = []
    show_sets = read_choice(params, "showPermissionSets", ("true", "false")) != "false"
    limits = (call.limiter.weight, *call.limiter.orders, CONNECTIONS)
    return {
        "timezone": "UTC",
        "serverTime": call.now_ms,
        "rateLimits": [window.describe() for window in limits],
        "exchangeFilters": [],
        "symbols": [symbols.describe(book.symbol, show_sets) for book in books],
    }


def depth_weight(params: Params) -> int:
    limit = _depth_limit(params)
    return next(weight for most, weight in DEPTH_WEIGHTS if limit <= most)


def depth(call: Call, params: Params) -> dict[str, Any]:
    """Heading "Order book"."""
    book = call.book(params)
    limit = _depth_limit(params)
    bids, asks = (
        [[eight(price), eight(quantity)] for price, quantity in itertools.islice(levels, limit)]
        for levels in (book.depth("BUY"), book.depth("SELL"))
    )
    return {"lastUpdateId": book.update_id, "bids": bids, "asks": asks}


def _depth_limit(params: Params) -> int:
    if "limit" not in params:
        return DEPTH_DEFAULT
    limit = read_long(params, "limit")
    if not limit:
        raise ApiError(-1130, "Data sent for parameter 'limit' is not valid.")
    return min(limit, DEPTH_MAX)


def ticker_weight(params: Params) -> int:
    return 2 if "symbol" in params else 4


def ticker_price(call: Call, params: Params) -> Any:
    """Heading "Symbol price ticker"."""
    return _ticker(
        call,
        params,
        lambda book: {"symbol": book.symbol.name, "price": eight(book.last_price)},
    )


def ticker_book(call: Call, params: Params) -> Any:
    """Heading "Symbol order book ticker"."""
    return _ticker(call, params, _book_ticker)


def _book_ticker(book: Book) -> dict[str, Any]:
    bid, ask = book.best("BUY"), book.best("SELL")
    return {
        "symbol": book.symbol.name,
        "bidPrice": eight(bid[0]),
        "bidQty": eight(bid[1]),
        "askPrice": eight(ask[0]),
        "askQty": eight(ask[1]),
    }


def _ticker(call: Call, params: Params, row: Callable[[Book], dict[str, Any]]) -> Any:
    """One row for `symbol`, else a list of them."""
    if {"symbol", "symbols"} <= params.keys():
        raise ApiError(-1128, "Combination of optional parameters invalid.")
    rows = [row(book) for book in _books(call, params)]
    return rows[0] if "symbol" in params else rows


def _books(call: Call, params: Params) -> list[Book]:
    if "symbol" in params:
        return [call.book(params)]
    if "symbols" in params:
        return [call.book({"symbol": name}) for name in read_texts(params, "symbols")]
    return list(call.engine.books.values())
