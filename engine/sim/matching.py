"""The matching engine: what accepting, trading and ending an order means for everything else.

It knows no clock: `now_ms` is set by whoever calls. One call may set off others (a trade reaches a
stop price, a filled order wakes those that waited for it); `finish` runs these, so that a request's
own reply shows the state before them, as the venue's does. Comments name the headings of
web-socket-api.md unless another file is named.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_DOWN, Decimal
from typing import Any

from engine.sim import events
from engine.sim.account import Account, Hold, commission
from engine.sim.book import Book, opposite, reached
from engine.sim.filters import check_quantity
from engine.sim.ledger import (
    CancelEntry,
    Entry,
    ExpiryEntry,
    ListEntry,
    Origin,
    fill_entry,
    order_entry,
)
from engine.sim.lists import OrderList, prices_fit
from engine.sim.orders import CONTINGENT, ZERO, Fill, Order
from engine.sim.request import ApiError
from engine.sim.symbols import Symbol

# user-data-stream.md, "Order Reject Reason"
REJECTIONS = {
    "INSUFFICIENT_BALANCES": "Account has insufficient balance for requested action.",
    "STOP_PRICE_WOULD_TRIGGER_IMMEDIATELY": "Order would trigger immediately.",
    "WOULD_MATCH_IMMEDIATELY": "Order would immediately match and take.",
    "OCO_BAD_PRICES": "The relationship of the prices for the orders is not correct.",
}
UNFILLED = {  # enums.md, "Expiry Reasons"
    "IOC": "UNFILLED_IOC_QUANTITY_EXPIRED",
    "FOK": "UNFILLED_FOK_ORDER_EXPIRED",
}
# faqs/order_count_decrement.md: what an order's first fill takes off the count of unfilled orders.
TAKER_CREDIT, MAKER_CREDIT = 1, 5

Publish = Callable[[Mapping[str, Any]], None]


class MatchingEngine:
    """`record` gets the ledger's entries, `publish` the account's events, `print_trade` every
    trade: symbol, trade id, price, quantity, whether the buyer was the maker."""

    def __init__(
        self,
        symbols: Mapping[str, Symbol],
        account: Account,
        record: Callable[[Entry], None],
        publish: Publish,
        print_trade: Callable[[str, int, Decimal, Decimal, bool], None],
    ) -> None:
        self.account = account
        self.books = {name: Book(symbol) for name, symbol in symbols.items()}
        self.orders: dict[int, Order] = {}
        self.open: dict[int, Order] = {}
        self.lists: dict[int, OrderList] = {}
        self.now_ms = 0
        self._credit = 0
        self._moved = set(symbols)
        self._record, self._publish, self._print_trade = record, publish, print_trade
        self._by_client_id: dict[tuple[str, str], Order] = {}  # the latest, by symbol and id
        self._holds: dict[int, Hold] = {}  # by order id
        self._filled_first: deque[OrderList] = deque()  # whose pairs can be placed
        self._order_ids, self._trade_ids = itertools.count(1), itertools.count(1)
        self._list_ids, self._execution_ids = itertools.count(1), itertools.count(1)

    # ---- queries ---------------------------------------------------------------------------------

    def open_orders(self, symbol: str | None = None) -> list[Order]:
        return [order for order in self.open.values() if symbol in (None, order.symbol.name)]

    def take_credit(self) -> int:
        """What first fills have taken off the count of unfilled orders since the last call."""
        credit, self._credit = self._credit, 0
        return credit

    def take_moved(self) -> set[str]:
        """The symbols whose book may have changed since the last call."""
        moved, self._moved = self._moved, set()
        return moved

    def order_by_client_id(self, symbol: str, client_id: str) -> Order | None:
        """The symbol's latest that had this id, even when cancelling it has given it another."""
        return self._by_client_id.get((symbol, client_id))

    def list_by_client_id(self, client_id: str) -> OrderList | None:
        """The latest with this id."""
        found = [each for each in self.lists.values() if each.client_id == client_id]
        return found[-1] if found else None

    # ---- requests --------------------------------------------------------------------------------

    def place(self, order: Order, origin: Origin) -> None:
        """Accept an order and let it trade; -2010 when it cannot be accepted."""
        self._refuse_duplicates([order])
        if order.quote_quantity:
            self._size_by_quote(order)
        if objection := self._objection(order):
            raise self._rejection(objection, [order])
        self._accept([order], origin)
        self._hold([order])
        self._start(order)

    def place_list(self, order_list: OrderList, origin: Origin) -> None:
        """The same for the orders of a list; the pair of an OTOCO waits."""
        existing = self.list_by_client_id(order_list.client_id)
        if existing and not existing.is_done:
            raise ApiError(-2010, "Duplicate order sent.")
        self._refuse_duplicates(order_list.orders)
        working = order_list.working
        objection = self._objection(working) if working else self._pair_objection(order_list)
        if objection:
            raise self._rejection(objection, order_list.orders)
        order_list.id, order_list.updated_ms = next(self._list_ids), self.now_ms
        self.lists[order_list.id] = order_list
        for order in order_list.orders:
            order.list_id = order_list.id
        self._accept(order_list.orders, origin, order_list)
        self._publish(events.list_status(order_list, self.now_ms))
        if working is None:
            self._start_pair(order_list)
            return
        for order in order_list.pair:
            order.status = "PENDING_NEW"
            self._report(order, "NEW")
        self._hold([working])
        self._start(working)

    def cancel(self, orders: Sequence[Order], client_id: str, origin: Origin, entry: str) -> None:
        """End open orders at the user's word; `client_id` takes the place of theirs, which are free
        again. An order of a list takes the whole list along, so give it whole."""
        self._record(
            CancelEntry(
                entry=entry,
                symbol=orders[0].symbol.name,
                order_ids=tuple(order.id for order in orders),
                client_ids=tuple(order.client_id for order in orders),
                timestamp_ms=origin.timestamp_ms,
                received_ns=origin.received_ns,
                request_id=origin.request_id,
            )
        )
        for order in orders:
            order.status, order.updated_ms = "CANCELED", self.now_ms
            order.original_client_id, order.client_id = order.client_id, client_id
            self._report(order, "CANCELED")
        key = (orders[0].symbol.name, client_id)
        former = self._by_client_id.get(key)
        if former is None or not former.is_open:
            self._by_client_id[key] = orders[-1]
        for order in orders:
            self._end(order)

    def with_list(self, order: Order) -> list[Order]:
        """The open orders that are cancelled with `order`."""
        if order.list_id < 0:
            return [order]
        return [each for each in self.lists[order.list_id].orders if each.is_open]

    # ---- the market ------------------------------------------------------------------------------

    def trade_of_others(
        self, book: Book, price: Decimal, quantity: Decimal, side: str | None
    ) -> None:
        """Others trade at `price`, the taker on `side` (None: unknown). Our resting orders that are
        as good come first; what is left of the quantity trades without us."""
        for maker_side in ("BUY", "SELL"):
            if side != maker_side:
                quantity -= self._sweep(book, maker_side, price, quantity)
        if quantity:
            buyer_is_maker = side != "BUY"
            self._print_trade(
                book.symbol.name, next(self._trade_ids), price, quantity, buyer_is_maker
            )
        self._requote(book, price - book.symbol.tick_size if side == "BUY" else price, price)

    def move(self, book: Book, price: Decimal) -> None:
        """The market goes to `price`, through every resting order on the way."""
        for side in ("BUY", "SELL"):
            self._sweep(book, side, price, None)
        self._requote(book, price, price)

    def _sweep(self, book: Book, side: str, price: Decimal, quantity: Decimal | None) -> Decimal:
        """Trade with our orders on `side` that are as good as `price`; how much it was."""
        traded = ZERO
        for order in book.resting(side):
            if order.limit < price if side == "BUY" else order.limit > price:
                break
            part = order.remaining if quantity is None else min(order.remaining, quantity - traded)
            if not part:
                break
            self._trade(book, order.limit, part, None, order)
            traded += part
        return traded

    def _requote(self, book: Book, bid: Decimal, last_price: Decimal) -> None:
        book.quote(bid, last_price)
        self._moved.add(book.symbol.name)

    # ---- what follows ----------------------------------------------------------------------------

    def finish(self) -> None:
        """Run what the last calls have set off, until nothing more happens."""
        while True:
            if self._filled_first:
                self._activate(self._filled_first.popleft())
            elif found := self._next_triggered():
                self._trigger(*found)
            else:
                break
        if self.account.changed:
            self._publish(events.account_position(self.account, self.account.changed, self.now_ms))
            self.account.changed.clear()
            self.account.updated_ms = self.now_ms

    def _next_triggered(self) -> tuple[Book, Order] | None:
        for book in self.books.values():
            if order := book.triggered():
                return book, order
        return None

    def _trigger(self, book: Book, order: Order) -> None:
        """Its stop price is reached: it becomes a limit or market order."""
        del book.waiting[order.id]
        self._expire_rivals(order)
        at_hand = self.account.free(order.pays_with) + order.locks
        if order.price is None and self._market_cost(order) > at_hand:
            self._expire(order, "REJECTED")
        else:
            self._work(order)

    def _activate(self, order_list: OrderList) -> None:
        """The working order is filled: the pair is placed, or expires when it cannot be."""
        for order in order_list.pair:
            order.status = "NEW"
        if self._pair_objection(order_list):
            for order in order_list.pair:
                self._expire(order, "REJECTED")
        else:
            self._start_pair(order_list)

    # ---- accepting -------------------------------------------------------------------------------

    def _refuse_duplicates(self, orders: Sequence[Order]) -> None:
        """A client id is unique among the symbol's open orders."""
        ids = {(order.symbol.name, order.client_id) for order in orders}
        taken = (self._by_client_id.get(key) for key in ids)
        if len(ids) < len(orders) or any(order and order.is_open for order in taken):
            raise ApiError(-2010, "Duplicate order sent.")

    def _objection(self, order: Order) -> str | None:
        """Why the book or the account has no room for it."""
        book = self.books[order.symbol.name]
        if order.type in CONTINGENT and reached(order, book.last_price):
            return "STOP_PRICE_WOULD_TRIGGER_IMMEDIATELY"
        if order.type == "LIMIT_MAKER" and book.crosses(order):
            return "WOULD_MATCH_IMMEDIATELY"
        if self._cost(order) > self.account.free(order.pays_with):
            return "INSUFFICIENT_BALANCES"
        return None

    def _pair_objection(self, order_list: OrderList) -> str | None:
        book = self.books[order_list.symbol.name]
        if not prices_fit(order_list, book.last_price):
            return "OCO_BAD_PRICES"
        objections = (self._objection(order) for order in order_list.pair)
        return next(filter(None, objections), None)

    def _cost(self, order: Order) -> Decimal:
        """What the account must have for it to be accepted."""
        return self._market_cost(order) if order.type == "MARKET" else order.locks

    def _market_cost(self, order: Order) -> Decimal:
        """What an order without a limit would pay now."""
        if not order.is_buy:
            return order.remaining
        cost, left = ZERO, order.remaining
        for offer in self.books[order.symbol.name].offers("SELL"):
            part = min(left, offer.quantity)
            cost += part * offer.price
            left -= part
            if not left:
                break
        return cost

    def _size_by_quote(self, order: Order) -> None:
        """The quantity "as close as possible" to the `quoteOrderQty`, in LOT_SIZE's steps."""
        book, step = self.books[order.symbol.name], order.symbol.step_size
        left, price = order.quote_quantity, book.last_price
        for offer in book.offers(opposite(order.side)):
            price = offer.price
            part = min(offer.quantity, (left / price).quantize(step, ROUND_DOWN))
            order.quantity += part
            left -= part * price
            if part < offer.quantity:
                break
        else:  # more than the book has: that part expires
            order.quantity += (left / price).quantize(step, ROUND_DOWN)
        check_quantity(order)

    def _rejection(self, reason: str, orders: Sequence[Order]) -> ApiError:
        for order in orders:
            order.id, order.status = next(self._order_ids), "REJECTED"
            order.created_ms = order.updated_ms = self.now_ms
            self._report(order, "REJECTED", reject_reason=reason)
        return ApiError(-2010, REJECTIONS[reason])

    def _accept(
        self, orders: Sequence[Order], origin: Origin, order_list: OrderList | None = None
    ) -> None:
        """Number, remember and record."""
        for order in orders:
            order.id = next(self._order_ids)
            order.created_ms = order.updated_ms = self.now_ms
            self.orders[order.id] = self.open[order.id] = order
            self._by_client_id[order.symbol.name, order.client_id] = order
        if order_list:
            self._record(
                ListEntry(
                    order_list_id=order_list.id,
                    client_id=order_list.client_id,
                    symbol=order_list.symbol.name,
                    contingency=order_list.contingency,
                    order_ids=tuple(order.id for order in orders),
                    timestamp_ms=origin.timestamp_ms,
                    received_ns=origin.received_ns,
                    request_id=origin.request_id,
                )
            )
        for order in orders:
            self._record(order_entry(order, origin))

    def _hold(self, orders: list[Order]) -> None:
        hold = Hold(orders[0].pays_with, orders)
        for order in orders:
            self._holds[order.id] = hold
        self.account.adjust(hold)

    def _start_pair(self, order_list: OrderList) -> None:
        self._hold(list(order_list.pair))
        for order in order_list.pair:
            self._start(order)

    def _start(self, order: Order) -> None:
        if order.type in CONTINGENT:
            self.books[order.symbol.name].waiting[order.id] = order
            self._report(order, "NEW")
        else:
            self._work(order)

    # ---- trading ---------------------------------------------------------------------------------

    def _work(self, order: Order) -> None:
        """It can trade from now on: what it can at once, then it rests or expires."""
        order.working_ms = order.updated_ms = self.now_ms
        self.account.adjust(self._holds[order.id])
        self._report(order, "NEW")
        book = self.books[order.symbol.name]
        if order.immediacy != "FOK" or self._fits(book, order):
            for offer in book.offers(opposite(order.side), order.price):
                part = min(order.remaining, offer.quantity)
                self._trade(book, offer.price, part, order, offer.order)
                if not order.remaining:
                    return
        if order.price is None:
            self._expire(order, "INSUFFICIENT_LIQUIDITY")
        elif order.immediacy in UNFILLED:
            self._expire(order, UNFILLED[order.immediacy])
        else:
            book.add(order)

    @staticmethod
    def _fits(book: Book, order: Order) -> bool:
        offers = book.offers(opposite(order.side), order.price)
        available = itertools.accumulate(offer.quantity for offer in offers)
        return any(quantity >= order.remaining for quantity in available)

    def _trade(
        self,
        book: Book,
        price: Decimal,
        quantity: Decimal,
        taker: Order | None,
        maker: Order | None,
    ) -> None:
        """One trade; whoever is None is not us."""
        trade_id = next(self._trade_ids)
        book.last_price = price
        buyer_is_maker = maker.is_buy if maker else taker is not None and not taker.is_buy
        self._print_trade(book.symbol.name, trade_id, price, quantity, buyer_is_maker)
        for order, is_maker in ((maker, True), (taker, False)):
            if order is not None:
                self._fill(
                    order,
                    Fill(
                        trade_id=trade_id,
                        price=price,
                        quantity=quantity,
                        commission=commission(order, price, quantity),
                        commission_asset=order.receives,
                        is_maker=is_maker,
                        time_ms=self.now_ms,
                    ),
                )

    def _fill(self, order: Order, fill: Fill) -> None:
        if not order.executed:
            self._credit += MAKER_CREDIT if fill.is_maker else TAKER_CREDIT
            self._expire_rivals(order)
        order.executed += fill.quantity
        order.quote_executed += fill.price * fill.quantity
        order.fills.append(fill)
        order.updated_ms = self.now_ms
        order.status = "PARTIALLY_FILLED" if order.remaining else "FILLED"
        self.account.settle(order, fill)
        self.account.adjust(self._holds[order.id])
        self._record(fill_entry(order, fill))
        self._report(order, "TRADE", fill)
        if not order.is_open:
            self._end(order)

    # ---- ending ----------------------------------------------------------------------------------

    def _expire_rivals(self, order: Order) -> None:
        """An order of a pair has begun to work: the other one ends ("Order Expiry Reason")."""
        order_list = self.lists.get(order.list_id)
        if order_list and order is not order_list.working:
            for other in order_list.pair:
                if other is not order and other.is_open:
                    self._expire(other, "OCO_TRIGGER")

    def _expire(self, order: Order, reason: str) -> None:
        order.status, order.expiry_reason, order.updated_ms = "EXPIRED", reason, self.now_ms
        self._record(ExpiryEntry(order.id, order.client_id, order.symbol.name, reason, self.now_ms))
        self._report(order, "EXPIRED")
        self._end(order)

    def _end(self, order: Order) -> None:
        """It is not open any more, for whatever reason: nothing is kept for it."""
        del self.open[order.id]
        self.books[order.symbol.name].remove(order)
        if hold := self._holds.pop(order.id, None):
            self.account.adjust(hold)
        if order_list := self.lists.get(order.list_id):
            self._end_in_list(order, order_list)

    def _end_in_list(self, order: Order, order_list: OrderList) -> None:
        if order is order_list.working and order.status == "FILLED":
            self._filled_first.append(order_list)
        elif order is order_list.working and order.status == "EXPIRED":
            for other in order_list.pair:
                self._expire(other, "OTO_PHASE_ONE_EXPIRED")
        if not order_list.is_done and not any(each.is_open for each in order_list.orders):
            order_list.is_done, order_list.updated_ms = True, self.now_ms
            self._publish(events.list_status(order_list, self.now_ms))

    def _report(
        self, order: Order, execution: str, fill: Fill | None = None, reject_reason: str = "NONE"
    ) -> None:
        self._moved.add(order.symbol.name)
        self._publish(
            events.execution_report(
                order, execution, next(self._execution_ids), self.now_ms, fill, reject_reason
            )
        )
