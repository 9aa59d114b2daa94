"""What Binance tells of orders: user data events (user-data-stream.md) and the reports inside
replies (web-socket-api.md). Whatever comes is a value of these types or None, never an exception.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from engine.records import AMOUNT_E8_MOST
from engine.venues.binance import Reply

ZERO = Decimal(0)

# enums.md, "Order status"; the words on the right are engine/order.py's.
STATUSES = {
    "NEW": "acked",
    "PENDING_NEW": "acked",
    "PENDING_CANCEL": "acked",
    "PARTIALLY_FILLED": "partially-filled",
    "FILLED": "filled",
    "CANCELED": "cancelled",
    "EXPIRED": "expired",
    "EXPIRED_IN_MATCH": "expired",
    "REJECTED": "rejected",
}
TEXT_MAX = 64  # of a name or an id
_AMOUNT = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
QUANTITY_MOST = Decimal(AMOUNT_E8_MOST).scaleb(-8)  # no order is larger
_ENDLESS = 1 << 63


@dataclass(frozen=True, slots=True)
class Trade:
    """One fill of an order. `commission_asset` is None where the commission is not known."""

    id: int
    price: Decimal
    quantity: Decimal
    quote: Decimal
    commission: Decimal
    commission_asset: str | None


@dataclass(frozen=True, slots=True)
class OrderReport:
    """What one message says of an order. `client_id` is the one it was placed with, or "" where the
    message does not say. `status` is None for a bare acknowledgement and for a list of trades.
    `filled` and `quote` are cumulative, None where the message does not say."""

    client_id: str
    status: str | None
    order_id: int | None
    filled: Decimal | None
    quote: Decimal | None
    trades: tuple[Trade, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ExecutionReport:
    """Heading "Order Update". `event_ms` is venue time."""

    symbol: str
    side: str
    type: str
    execution: str  # enums.md, "Execution types"
    event_ms: int
    report: OrderReport

    @property
    def client_id(self) -> str:
        return self.report.client_id


@dataclass(frozen=True, slots=True)
class ServerShutdown:
    """Heading "Server Shutdown": the connection will end."""

    event_ms: int


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """Heading "Event Stream Terminated": no more user events come on this connection."""

    event_ms: int


@dataclass(frozen=True, slots=True)
class Balances:
    """Heading "Account Update": the balances that may have changed, as (free, locked)."""

    event_ms: int
    assets: Mapping[str, tuple[Decimal, Decimal]]


@dataclass(frozen=True, slots=True)
class Other:
    """An event that changes nothing here: `kind` is its name."""

    kind: str
    event_ms: int


Event = ExecutionReport | ServerShutdown | StreamEnded | Balances | Other


class _FormError(Exception):
    """The message is not what the documents describe."""


# ---- events --------------------------------------------------------------------------------------


def parse_event(text: bytes) -> Event | None:
    """An event, in its wrapper (heading "Event format"); None for anything else."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    event = message.get("event") if isinstance(message, dict) else None
    if not isinstance(event, dict):
        return None
    try:
        return _event(event)
    except _FormError:
        return None


def _event(event: dict[str, Any]) -> Event:
    kind, event_ms = _text(event, "e"), _integer(event, "E")
    if kind == "executionReport":
        return _execution(event, event_ms)
    if kind == "serverShutdown":
        return ServerShutdown(event_ms)
    if kind == "eventStreamTerminated":
        return StreamEnded(event_ms)
    if kind == "outboundAccountPosition":
        rows = _rows(event.get("B"))
        return Balances(event_ms, {_text(r, "a"): (_amount(r, "f"), _amount(r, "l")) for r in rows})
    return Other(kind, event_ms)


def _execution(event: dict[str, Any], event_ms: int) -> ExecutionReport:
    status = STATUSES.get(_text(event, "X"))
    if status is None:
        raise _FormError
    execution = _text(event, "x")
    refused = _text(event, "r") if event.get("r", "NONE") != "NONE" else ""
    return ExecutionReport(
        symbol=_text(event, "s"),
        side=_text(event, "S"),
        type=_text(event, "o"),
        execution=execution,
        event_ms=event_ms,
        report=OrderReport(
            # "Original client order ID; This is the ID of the order being canceled": `c` is then
            # the id of the request that cancels.
            client_id=(_text(event, "C") if event.get("C") else "") or _text(event, "c"),
            status=status,
            order_id=_integer(event, "i"),
            filled=_quantity(event, "z"),
            quote=_amount(event, "Z"),
            trades=(_event_trade(event),) if execution == "TRADE" else (),
            reason=refused or (_text(event, "eR") if event.get("eR") else ""),
        ),
    )


def _event_trade(event: dict[str, Any]) -> Trade:
    return Trade(
        id=_integer(event, "t"),
        price=_amount(event, "L"),
        quantity=_quantity(event, "l"),
        quote=_amount(event, "Y"),
        commission=_amount(event, "n"),
        commission_asset=_text(event, "N") if event.get("N") is not None else None,
    )


# ---- replies -------------------------------------------------------------------------------------


def reports_in(reply: Reply) -> tuple[OrderReport, ...]:
    """Every order that a successful reply reports: to `order.place`, `order.status` and
    `order.cancel` one, to `openOrders.*` any number, with the legs of order lists among them."""
    if reply.status != 200:
        return ()
    found: list[OrderReport] = []
    for row in (reply.result, *(reply.rows or ())):
        legs = row.get("orderReports")
        for each in legs if isinstance(legs, list) else [row]:
            try:
                found.append(_report(each))
            except _FormError:
                continue
    return tuple(found)


def trades_in(reply: Reply) -> tuple[Trade, ...] | None:
    """The trades of a reply to `myTrades`; None when it is not one."""
    if reply.status != 200 or reply.rows is None:
        return None
    try:
        return tuple(_listed_trade(row) for row in reply.rows)
    except _FormError:
        return None


def _report(row: object) -> OrderReport:
    if not isinstance(row, dict):
        raise _FormError
    original = row.get("origClientOrderId")  # in the report of a cancellation
    status = row.get("status")
    if status is not None and STATUSES.get(_text(row, "status")) is None:
        raise _FormError
    fills = row.get("fills")
    return OrderReport(
        client_id=_text(row, "origClientOrderId" if original else "clientOrderId"),
        status=None if status is None else STATUSES[status],
        order_id=_integer(row, "orderId"),
        filled=_quantity(row, "executedQty") if "executedQty" in row else None,
        # "cummulativeQuoteQty response field may be negative, meaning the data is not available"
        quote=_amount_or_none(row.get("cummulativeQuoteQty")),
        trades=tuple(map(_reply_trade, _rows(fills))) if fills else (),
        reason=_text(row, "expiryReason") if row.get("expiryReason") else "",
    )


def _reply_trade(row: dict[str, Any]) -> Trade:
    """Of a reply in the form FULL."""
    price, quantity = _amount(row, "price"), _quantity(row, "qty")
    return Trade(
        id=_integer(row, "tradeId"),
        price=price,
        quantity=quantity,
        quote=price * quantity,
        commission=_amount(row, "commission"),
        commission_asset=_text(row, "commissionAsset"),
    )


def _listed_trade(row: dict[str, Any]) -> Trade:
    """Heading "Account trade history"."""
    return Trade(
        id=_integer(row, "id"),
        price=_amount(row, "price"),
        quantity=_quantity(row, "qty"),
        quote=_amount(row, "quoteQty"),
        commission=_amount(row, "commission"),
        commission_asset=_text(row, "commissionAsset"),
    )


# ---- fields --------------------------------------------------------------------------------------


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or len(value) > TEXT_MAX or not value.isprintable():
        raise _FormError
    return value


def _integer(row: Mapping[str, Any], name: str) -> int:
    value = row.get(name)
    if type(value) is not int or not -_ENDLESS < value < _ENDLESS:
        raise _FormError
    return value


def _quantity(row: Mapping[str, Any], name: str) -> Decimal:
    quantity = _amount(row, name)
    if quantity > QUANTITY_MOST:
        raise _FormError
    return quantity


def _amount(row: Mapping[str, Any], name: str) -> Decimal:
    amount = _amount_or_none(row.get(name))
    if amount is None:
        raise _FormError
    return amount


def _amount_or_none(value: object) -> Decimal | None:
    if not isinstance(value, str) or not _AMOUNT.fullmatch(value):
        return None
    return Decimal(value)


def _rows(value: object) -> Iterable[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise _FormError
    return value
