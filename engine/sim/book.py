"""One symbol's order book: the account's resting orders by price and time, and a market maker.

The market maker shows the same levels around his quote all the time: what a trade took from him he
has again for the next request. He steps back from resting orders, so the book is never crossed; a
resting order that the market has moved past therefore stays its best price until it is traded.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from engine.sim.orders import Order
from engine.sim.symbols import Symbol

LEVELS = 100  # on either side
PROPORTIONS = tuple(Decimal(tenths) / 10 for tenths in (12, 7, 15, 9, 4, 18, 5))


@dataclass(frozen=True)
class Offer:
    """Something to trade with at `price`: an order, or the market maker's level (None)."""

    price: Decimal
    quantity: Decimal
    order: Order | None


class Book:
    """`bid` is the market maker's; his ask is a tick above."""

    def __init__(self, symbol: Symbol) -> None:
        self.symbol = symbol
        self.bid = symbol.first_price
        self.last_price = symbol.first_price
        self.update_id = 1
        self.turn = 0  # of the level quantities
        self.waiting: dict[int, Order] = {}  # untriggered, by order id
        self._resting: dict[str, list[Order]] = {"BUY": [], "SELL": []}  # best first
        self._ranks = itertools.count(1)

    def quote(self, bid: Decimal, last_price: Decimal) -> None:
        """The market maker goes there, as far as his bid and his ask are prices of the symbol."""
        tick = self.symbol.tick_size
        self.bid = min(max(bid, tick), self.symbol.max_price - tick)
        self.last_price = last_price

    def add(self, order: Order) -> None:
        """The order rests behind those at its price."""
        order.rank = next(self._ranks)
        bisect.insort(self._resting[order.side], order, key=_priority)

    def remove(self, order: Order) -> None:
        """Whether it rests, waits or neither."""
        self.waiting.pop(order.id, None)
        if order in self._resting[order.side]:
            self._resting[order.side].remove(order)

    def resting(self, side: str) -> list[Order]:
        """The account's orders on the book, best first; a copy."""
        return list(self._resting[side])

    def offers(self, side: str, limit: Decimal | None = None) -> Iterator[Offer]:
        """What rests on `side`, best first, as far as a counterparty with that limit goes; the
        account's orders before the market maker's at a price."""
        orders = (Offer(order.limit, order.remaining, order) for order in self.resting(side))
        ascending = side == "SELL"
        for offer in heapq.merge(
            orders, self._levels(side), key=lambda offer: offer.price, reverse=not ascending
        ):
            if limit is not None and (offer.price > limit if ascending else offer.price < limit):
                return
            yield offer

    def best(self, side: str) -> tuple[Decimal, Decimal]:
        """The best price of `side` and the quantity there; zeros when nobody is."""
        return next(self.depth(side), (Decimal(0), Decimal(0)))

    def depth(self, side: str) -> Iterator[tuple[Decimal, Decimal]]:
        """Prices and the quantities there, best first."""
        for price, offers in itertools.groupby(self.offers(side), key=lambda offer: offer.price):
            yield price, sum((offer.quantity for offer in offers), Decimal(0))

    def crosses(self, order: Order) -> bool:
        """Whether it could trade at once."""
        return next(self.offers(opposite(order.side), order.price), None) is not None

    def triggered(self) -> Order | None:
        """The order that has waited longest among those whose stop price is reached."""
        for order in self.waiting.values():
            if reached(order, self.last_price):
                return order
        return None

    def _levels(self, side: str) -> Iterator[Offer]:
        tick = self.symbol.tick_size
        other = self._resting[opposite(side)]
        first, step = (self.bid, -tick) if side == "BUY" else (self.bid + tick, tick)
        if other:
            room = other[0].limit + step
            first = min(first, room) if side == "BUY" else max(first, room)
        for level in range(LEVELS):
            price = first + level * step
            if price <= 0:
                return
            proportion = PROPORTIONS[(self.turn + level) % len(PROPORTIONS)]
            yield Offer(price, self.symbol.level_qty * proportion, None)


def opposite(side: str) -> str:
    return "SELL" if side == "BUY" else "BUY"


def reached(order: Order, last_price: Decimal) -> bool:
    """Whether that price triggers the order."""
    stop = order.stop_price
    if stop is None:
        return False
    return last_price >= stop if order.triggers_above else last_price <= stop


def _priority(order: Order) -> tuple[Decimal, int]:
    price = order.limit
    return (-price if order.is_buy else price, order.rank)
