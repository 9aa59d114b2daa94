"""Whether a symbol's filters let an order through (filters.md, by the names of its headings)."""

from __future__ import annotations

from decimal import Decimal

from engine.sim.orders import Order
from engine.sim.request import ApiError


def check_filters(order: Order, last_price: Decimal, open_orders: int) -> None:
    """-1013 unless every filter of the order's symbol lets it through; `open_orders` counts the
    account's there, with this one's list if it has one."""
    symbol = order.symbol
    prices = [price for price in (order.price, order.stop_price) if price is not None]
    if not all(symbol.allows_price(price) for price in prices):
        raise _failure("PRICE_FILTER")
    low, high = last_price * symbol.multiplier_down, last_price * symbol.multiplier_up
    if order.price is not None and not low <= order.price <= high:
        raise _failure("PERCENT_PRICE_BY_SIDE")
    if not order.quote_quantity:  # else the quantity is only known in front of the book
        check_quantity(order)
    price = order.price or order.stop_price or last_price
    notional = order.quote_quantity or price * order.quantity
    if not symbol.min_notional <= notional <= symbol.max_notional:
        raise _failure("NOTIONAL")
    if open_orders >= symbol.max_num_orders:
        raise _failure("MAX_NUM_ORDERS")


def check_quantity(order: Order) -> None:
    """The part of them that is about the quantity alone."""
    if not order.symbol.allows_quantity(order.quantity):
        raise _failure("LOT_SIZE")
    if order.price is None and order.quantity > order.symbol.market_max_qty:
        raise _failure("MARKET_LOT_SIZE")


def _failure(name: str) -> ApiError:
    return ApiError(-1013, f"Filter failure: {name}")
