"""The events of the user data stream (user-data-stream.md, by the names of its headings) and of the
market streams (web-socket-streams.md)."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from engine.sim.account import Account
from engine.sim.lists import OrderList, statuses
from engine.sim.orders import ZERO, Fill, Order
from engine.sim.request import eight

Event = dict[str, Any]


def execution_report(
    order: Order,
    execution: str,
    execution_id: int,
    now_ms: int,
    fill: Fill | None = None,
    reject_reason: str = "NONE",
) -> Event:
    """Heading "Order Update"; `execution` is one of enums.md, "Execution types"."""
    event: Event = {
        "e": "executionReport",
        "E": now_ms,
        "s": order.symbol.name,
        "c": order.client_id,
        "S": order.side,
        "o": order.type,
        "f": order.immediacy,
        "q": eight(order.quantity),
        "p": eight(order.limit),
        "P": eight(order.stop_price or ZERO),
        "F": eight(ZERO),
        "g": order.list_id,
        "C": order.original_client_id,
        "x": execution,
        "X": order.status,
        "r": reject_reason,
        "i": order.id,
        "l": eight(fill.quantity if fill else ZERO),
        "z": eight(order.executed),
        "L": eight(fill.price if fill else ZERO),
        "n": eight(fill.commission) if fill else "0",
        "N": fill.commission_asset if fill else None,
        "T": order.updated_ms,
        "t": fill.trade_id if fill else -1,
        "I": execution_id,
        "w": order.is_open and order.working_ms >= 0 and not (fill and order.price is None),
        "m": fill is not None and fill.is_maker,
        "M": fill is not None,
        "O": order.created_ms,
        "Z": eight(order.quote_executed),
        "Y": eight(fill.price * fill.quantity if fill else ZERO),
        "Q": eight(order.quote_quantity),
    }
    if order.working_ms >= 0:  # "Conditional Fields in Execution Report"
        event["W"] = order.working_ms
    event["V"] = "NONE"
    if order.expiry_reason:
        event["eR"] = order.expiry_reason
    return event


def list_status(order_list: OrderList, now_ms: int) -> Event:
    """Heading "Order Update", the event of an order list."""
    status_type, order_status = statuses(order_list)
    return {
        "e": "listStatus",
        "E": now_ms,
        "s": order_list.symbol.name,
        "g": order_list.id,
        "c": order_list.contingency,
        "l": status_type,
        "L": order_status,
        "r": "NONE",
        "C": order_list.client_id,
        "T": now_ms,
        "O": [
            {"s": order.symbol.name, "i": order.id, "c": order.client_id}
            for order in order_list.orders
        ],
    }


def account_position(account: Account, assets: Iterable[str], now_ms: int) -> Event:
    """Heading "Account Update"."""
    return {
        "e": "outboundAccountPosition",
        "E": now_ms,
        "u": now_ms,
        "B": [
            {"a": asset, "f": eight(account.free(asset)), "l": eight(account.locked(asset))}
            for asset in sorted(assets)
        ],
    }


def stream_terminated(now_ms: int) -> Event:
    """Heading "Event Stream Terminated"."""
    return {"e": "eventStreamTerminated", "E": now_ms}


# ---- market streams ------------------------------------------------------------------------------


def trade(
    symbol: str, trade_id: int, price: Decimal, quantity: Decimal, buyer_is_maker: bool, now_ms: int
) -> Event:
    """Heading "Trade Streams"."""
    return {
        "e": "trade",
        "E": now_ms,
        "s": symbol,
        "t": trade_id,
        "p": eight(price),
        "q": eight(quantity),
        "T": now_ms,
        "m": buyer_is_maker,
        "M": True,
    }


def book_ticker(
    symbol: str, update_id: int, bid: tuple[Decimal, Decimal], ask: tuple[Decimal, Decimal]
) -> Event:
    """Heading "Individual Symbol Book Ticker Streams"."""
    return {
        "u": update_id,
        "s": symbol,
        "b": eight(bid[0]),
        "B": eight(bid[1]),
        "a": eight(ask[0]),
        "A": eight(ask[1]),
    }
