"""The methods that ask about the account (web-socket-api.md, "Account requests", by the names of
its headings)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from engine.sim import account, lists, orders
from engine.sim.call import Call, Params
from engine.sim.request import ApiError, read_choice, read_long, read_time_us
from engine.sim.trading import find, find_list, read_order_name

ROWS_DEFAULT, ROWS_MAX = 500, 1000
Row = TypeVar("Row")


def account_status(call: Call, params: Params) -> dict[str, Any]:
    """Heading "Account information (USER_DATA)"."""
    omit_zero = read_choice(params, "omitZeroBalances", ("true", "false")) == "true"
    return account.describe(call.engine.account, omit_zero)


def order_status(call: Call, params: Params) -> dict[str, Any]:
    """Heading "Query order (USER_DATA)"."""
    order = find(call, params, read_order_name(params, "orderId", "origClientOrderId"))
    if order is None:
        raise ApiError(-2013, "Order does not exist.")
    return orders.described(order)


def open_orders_weight(params: Params) -> int:
    return 6 if "symbol" in params else 80


def open_orders_status(call: Call, params: Params) -> list[dict[str, Any]]:
    """Heading "Current open orders (USER_DATA)"."""
    symbol = call.book(params).symbol.name if "symbol" in params else None
    return [orders.described(order) for order in call.engine.open_orders(symbol)]


def all_orders(call: Call, params: Params) -> list[dict[str, Any]]:
    """Heading "Account order history (USER_DATA)"."""
    symbol = call.book(params).symbol
    mine = [order for order in call.engine.orders.values() if order.symbol is symbol]
    if params.keys() & {"startTime", "endTime"}:
        mine = [order for order in mine if _in_time(order.updated_ms, params)]
    elif "orderId" in params:
        first = read_long(params, "orderId")
        mine = [order for order in mine if order.id >= first]
    oldest_first = bool(params.keys() & {"startTime", "orderId"})
    return [orders.described(order) for order in _page(mine, params, oldest_first)]


def trades_weight(params: Params) -> int:
    return 5 if "orderId" in params else 20


def my_trades(call: Call, params: Params) -> list[dict[str, Any]]:
    """Heading "Account trade history (USER_DATA)"."""
    timed = bool(params.keys() & {"startTime", "endTime"})
    if timed and params.keys() & {"fromId", "orderId"}:
        raise ApiError(-1128, "Combination of optional parameters invalid.")
    symbol = call.book(params).symbol
    order_id = read_long(params, "orderId") if "orderId" in params else None
    first = read_long(params, "fromId") if "fromId" in params else 0
    mine = [
        (fill.trade_id, order.id, orders.traded(order, fill))
        for order in call.engine.orders.values()
        if order.symbol is symbol and order_id in (None, order.id)
        for fill in order.fills
        if fill.trade_id >= first and _in_time(fill.time_ms, params)
    ]
    mine.sort(key=lambda row: row[:2])
    oldest_first = bool(params.keys() & {"startTime", "fromId"})
    return [row for *_, row in _page(mine, params, oldest_first)]


def _in_time(time_ms: int, params: Params) -> bool:
    time_us = time_ms * 1000
    if "startTime" in params and time_us < read_time_us(params, "startTime"):
        return False
    return not ("endTime" in params and time_us > read_time_us(params, "endTime"))


def _page(rows: Iterable[Row], params: Params, oldest_first: bool) -> list[Row]:
    """As many as `limit` allows, in time order: the oldest or else the latest."""
    limit = min(read_long(params, "limit"), ROWS_MAX) if "limit" in params else ROWS_DEFAULT
    every = list(rows)
    return every[:limit] if oldest_first else every[max(len(every) - limit, 0) :]


def order_list_status(call: Call, params: Params) -> dict[str, Any]:
    """Heading "Query Order list (USER_DATA)"."""
    found = find_list(call, params, "origClientOrderId")
    if found is None:
        raise ApiError(-2013, "Order does not exist.")
    return lists.described(found)


def open_order_lists_status(call: Call, params: Params) -> list[dict[str, Any]]:
    """Heading "Current open Order lists (USER_DATA)"."""
    return [lists.described(each) for each in call.engine.lists.values() if not each.is_done]


def order_limits(call: Call, params: Params) -> list[dict[str, Any]]:
    """Heading "Unfilled Order Count (USER_DATA)"."""
    return [window.show() for window in call.limiter.orders]
