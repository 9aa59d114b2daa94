"""What the simulated exchange keeps for the record: what it accepted, and what came of it.

Whoever reads it from the start arrives at the account's balances (those of the beginning and the
fills) and at its open orders (placed, and neither filled nor cancelled nor expired).

Amounts are plain decimals; `received_ns` is CLOCK_REALTIME, whatever clock the venue pretends to
have, and `time_ms` is that clock's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.sim.orders import Fill, Order
from engine.sim.request import RequestId


@dataclass(frozen=True)
class Origin:
    """The request that something came from."""

    request_id: RequestId
    received_ns: int
    timestamp_ms: int  # as the client sent it


@dataclass(frozen=True)
class LedgerEntry:
    """An accepted order, its amounts as the client sent them; one with a `quote_quantity` has the
    quantity that came of it."""

    client_id: str
    side: str
    symbol: str
    type: str
    quantity: str
    price: str | None
    time_in_force: str | None
    order_id: int
    timestamp_ms: int
    received_ns: int
    request_id: RequestId
    stop_price: str | None = None
    quote_quantity: str | None = None
    order_list_id: int = -1
    entry: str = field(default="order", init=False)


@dataclass(frozen=True)
class ListEntry:
    """An accepted order list; its orders have entries of their own."""

    order_list_id: int
    client_id: str
    symbol: str
    contingency: str
    order_ids: tuple[int, ...]
    timestamp_ms: int
    received_ns: int
    request_id: RequestId
    entry: str = field(default="list", init=False)


@dataclass(frozen=True)
class CancelEntry:
    """Open orders that a request ended; `entry` says which: cancel, cancel-all or replace."""

    entry: str
    symbol: str
    order_ids: tuple[int, ...]
    client_ids: tuple[str, ...]  # which the orders were placed under
    timestamp_ms: int
    received_ns: int
    request_id: RequestId


@dataclass(frozen=True)
class FillEntry:
    """The account's side of a trade. Where it traded with itself there are two of one trade id."""

    trade_id: int
    order_id: int
    client_id: str
    symbol: str
    side: str
    price: str
    quantity: str
    commission: str
    commission_asset: str
    maker: bool
    time_ms: int
    entry: str = field(default="fill", init=False)


@dataclass(frozen=True)
class ExpiryEntry:
    """An order that ended unfilled without a request to cancel it."""

    order_id: int
    client_id: str
    symbol: str
    reason: str  # enums.md, "Expiry Reasons"
    time_ms: int
    entry: str = field(default="expiry", init=False)


Entry = LedgerEntry | ListEntry | CancelEntry | FillEntry | ExpiryEntry


def order_entry(order: Order, origin: Origin) -> LedgerEntry:
    return LedgerEntry(
        client_id=order.client_id,
        side=order.side,
        symbol=order.symbol.name,
        type=order.type,
        quantity=f"{order.quantity:f}",
        price=None if order.price is None else f"{order.price:f}",
        time_in_force=order.time_in_force,
        order_id=order.id,
        timestamp_ms=origin.timestamp_ms,
        received_ns=origin.received_ns,
        request_id=origin.request_id,
        stop_price=None if order.stop_price is None else f"{order.stop_price:f}",
        quote_quantity=f"{order.quote_quantity:f}" if order.quote_quantity else None,
        order_list_id=order.list_id,
    )


def fill_entry(order: Order, fill: Fill) -> FillEntry:
    return FillEntry(
        trade_id=fill.trade_id,
        order_id=order.id,
        client_id=order.client_id,
        symbol=order.symbol.name,
        side=order.side,
        price=f"{fill.price:f}",
        quantity=f"{fill.quantity:f}",
        commission=f"{fill.commission:f}",
        commission_asset=fill.commission_asset,
        maker=fill.is_maker,
        time_ms=fill.time_ms,
    )
