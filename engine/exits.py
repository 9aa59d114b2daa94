"""Exits: a counter-trade that is entered is also left, as its rule's plan says.

A fold over orders and prices that says what to do now (`actions`). At any time at most one exit of
an entry may be alive at the venue, and only for what the entry has filled and no exit has: so never
is more closed than was opened, whatever is lost or unknown. An exit's id follows from its entry's
(engine/client_ids.py), and what the journal has of it comes in through `on_order` like everything
else, so a restart neither doubles nor forgets one. See docs/orders.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from engine import client_ids
from engine.exit_plan import (
    ExitPlan,
    Market,
    exit_side,
    floor,
    is_over,
    resting_kind,
    shortfall,
    targets,
)
from engine.lifecycle import KEPT
from engine.order import Leg, Order
from engine.positions import is_base
from engine.venues.binance_events import ZERO
from engine.venues.binance_refusals import doubts_rules, is_for_long, lacks_balance

AGAIN_FIRST_S = 1
AGAIN_MOST_S = 60
CANCEL_AGAIN_S = 5
NS_PER_S = 1_000_000_000

# The price of a quiet market is found to be still so every few seconds (engine/prices.py).
PRICE_AGE_LEAST_S = 10
LONG_AGAIN_S = 3600  # after a refusal that is not over soon
# Of an exit's ids those for a resting order: the rest is kept for leaving at market.
RESTING_ATTEMPTS_MAX = client_ids.ATTEMPTS_MAX // 2

# The risk gate's refusals that pass within seconds: each next attempt is as early as the first.
PASSING = frozenset({"venue-limit", "not-ready", "journal"})
# A MARKET order's worth is taken at an average of late prices (filters.md, NOTIONAL): at most so
# much more than at the last one.
AVERAGE_MOST = 2


@dataclass(frozen=True, slots=True)
class Place:
    """Send this order. `kind` is client_ids.OCO, TAKE_PROFIT (LIMIT), STOP_LOSS or MARKET."""

    client_id: str
    parent: str
    symbol: str
    side: str
    quantity: Decimal
    take_price: Decimal | None = None
    stop_price: Decimal | None = None

    @property
    def kind(self) -> str:
        return client_ids.leg_of(self.client_id)


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel this order; the list that it belongs to goes with it."""

    client_id: str
    symbol: str
    order_id: int | None

    @property
    def request_id(self) -> str:
        return client_ids.request_id(client_ids.CANCEL, self.client_id)


Action = Place | Cancel


@dataclass(frozen=True, slots=True)
class Left:
    """What is not closed of an entry, and why that is so."""

    entry_id: str
    symbol: str
    side: str
    quantity: Decimal
    words: str


@dataclass(slots=True)
class _Closing:
    """One entry on its way out."""

    entry: Order
    plan: ExitPlan
    exits: dict[str, Order] = field(default_factory=dict)
    posted: str = ""  # handed out; nothing has been heard of it
    leaving: bool = False  # at market, as soon as nothing rests
    failures: int = 0
    wait_s: int = 0  # before the next attempt, from the next look on
    shortfalls: int = 0  # how often the venue has said that there is not so much to sell
    complaint: str = ""  # the last notice
    place_ns: int = 0  # not before that
    cancel_ns: int = 0  # nor this
    placed_ns: int = 0  # the last one
    small: bool = False  # the venue has no order for so little at this price
    done: bool = False

    def alive(self) -> list[Order]:
        return [order for order in self.exits.values() if not order.ended]

    def offered(self) -> Decimal:
        """More than is open when the venue has an exit after all that it had rejected."""
        return sum((order.quantity - order.filled for order in self.alive()), ZERO)

    def is_left(self) -> bool:
        """There was nothing to leave, or all of it has been."""
        if not self.entry.ended or self.posted or self.alive():
            return False
        return not self.entry.filled or (self.entry.fills_known and _open_quantity(self) <= 0)

    def has_more(self, filled: Decimal) -> bool:
        """It was left when that much was filled, but the venue has more of it after all."""
        return self.entry.filled > filled or not self.entry.ended or bool(self.alive())

    def live_legs(self) -> list[tuple[Order, Leg]]:
        return [(order, leg) for order in self.alive() for leg in order.legs if leg.end is None]

    def attempt(self) -> int:
        return 1 + max((client_ids.attempt_of(each) for each in self.exits), default=-1)


class Exits:
    """All entries whose rules have a plan. `plans` go by the rule's name."""

    def __init__(self, plans: Mapping[str, ExitPlan], max_price_age_ns: int = 0) -> None:
        """A price that is older is none, but see PRICE_AGE_LEAST_S."""
        self._plans = plans
        self._price_age_ns = max(max_price_age_ns, PRICE_AGE_LEAST_S * NS_PER_S)
        self._markets: dict[str, Market] = {}
        self._prices: dict[str, tuple[Decimal, Decimal, int]] = {}
        self._blind: set[str] = set()  # symbols that are watched here, without a price
        self._closings: dict[str, _Closing] = {}
        self._done: dict[str, _Closing] = {}  # of entries that are left, oldest first
        self._begun = self._killed = False
        self._rules_doubted = False
        self._notices: list[str] = []

    # ---- what happens --------------------------------------------------------------------------

    def set_market(self, symbol: str, market: Market) -> None:
        self._markets[symbol] = market

    def on_price(self, symbol: str, bid: Decimal, ask: Decimal, t_ns: int) -> None:
        """It was so at `t_ns` (CLOCK_MONOTONIC)."""
        self._prices[symbol] = (bid, ask, t_ns)

    def forget_prices(self) -> None:
        """The machine may have slept: none is as young as it seems."""
        self._prices.clear()

    def on_order(self, order: Order) -> None:
        """An order as it is now: every one that engine/lifecycle.py returns, entry or exit."""
        if not order.live:
            return
        entry_id = order.parent or order.client_id
        closing = self._closings.get(entry_id) or self._done.get(entry_id) or self._begin(order)
        if closing is None:
            return
        filled = closing.entry.filled
        if order.parent:
            self._on_exit(closing, order)
        else:
            closing.entry = order
        if entry_id in self._done and closing.has_more(filled):
            closing.done = False
            self._closings[entry_id] = self._done.pop(entry_id)
        if entry_id in self._closings and (closing.done or closing.is_left()):
            self._finish(entry_id)

    def on_refused(self, client_id: str, reason: str) -> None:
        """An order of `actions` did not leave (the risk gate, a full queue): there is no intent."""
        for closing in self._closings.values():
            if closing.posted == client_id:
                closing.posted = ""
                if reason in PASSING:
                    closing.failures = 0
                self._fail(closing, f"the exit of {closing.entry.client_id} was refused: {reason}")

    def kill(self) -> None:
        """No more orders; `left()` says what stays open."""
        self._killed = True

    # ---- what to do ----------------------------------------------------------------------------

    def actions(self, now_ns: int, venue_ms: int) -> list[Action]:
        """What to do now; what is returned counts as done. Without a ready session it is not
        called. `now_ns` is CLOCK_MONOTONIC, `venue_ms` venue time."""
        if self._killed:
            return []
        if not self._begun:
            self._begin_run()
        found = []
        blind = set()
        for client_id, closing in list(self._closings.items()):
            action = self._next(closing, now_ns, venue_ms)
            if action is not None:
                found.append(action)
            elif self._price(closing, now_ns) is None and any(self._uncovered(closing)):
                blind.add(closing.entry.spec.symbol)
            if closing.done:
                self._finish(client_id)
        for symbol in sorted(blind - self._blind):
            self._notices.append(
                f"the price of {symbol} is not known now: until it is, what no order at the venue "
                "covers is left neither at its stop nor at its profit"
            )
        self._blind = blind
        return found

    def left(self) -> list[Left]:
        """What is not closed."""
        found = []
        for closing in self._closings.values():
            if not closing.entry.filled or closing.small:
                continue
            states = ", ".join(order.status for order in closing.alive())
            words = f"its exit is {states}" if states else "no exit is on its way"
            entry = closing.entry
            found.append(
                Left(
                    entry.client_id,
                    entry.spec.symbol,
                    entry.spec.side,
                    _open_quantity(closing),
                    words,
                )
            )
        return found

    def take_doubts(self) -> bool:
        """Since the last call the venue has refused something by rules that `set_market` did not
        tell: they should be read again."""
        doubted, self._rules_doubted = self._rules_doubted, False
        return doubted

    def take_notices(self) -> list[str]:
        notices, self._notices = self._notices, []
        return notices

    # ---- orders --------------------------------------------------------------------------------

    def _begin(self, order: Order) -> _Closing | None:
        plan = self._plans.get(order.rule or "")
        if order.parent or plan is None:
            return None
        return self._closings.setdefault(order.client_id, _Closing(order, plan))

    def _on_exit(self, closing: _Closing, order: Order) -> None:
        before = closing.exits.get(order.client_id)
        closing.exits[order.client_id] = order
        if closing.posted == order.client_id:
            closing.posted = ""
        if client_ids.leg_of(order.client_id) == client_ids.MARKET:
            closing.leaving = True  # also when it is the journal that tells
        if order.status in ("acked", "partially-filled"):
            closing.wait_s = 0  # it is the next attempt
        if order.filled > (before.filled if before is not None else ZERO):
            closing.failures = closing.shortfalls = 0
        if order.ended and (before is None or not before.ended):
            self._on_exit_end(closing, order)

    def _on_exit_end(self, closing: _Closing, order: Order) -> None:
        if order.status == "filled":
            return
        resting = client_ids.leg_of(order.client_id) != client_ids.MARKET
        if resting and closing.leaving:  # that end was asked for
            return
        words = f"the exit {order.client_id} is {order.status}"
        if order.reason:
            words += f" ({order.reason})"
        if order.status == "rejected" and doubts_rules(order.code, order.reason):
            self._rules_doubted = True
        if lacks_balance(order.code, order.reason) and order.spec.side == "SELL":
            closing.shortfalls += 1
        for_long = resting and order.status == "rejected" and is_for_long(order.code, order.reason)
        if for_long:
            words += ": its prices are watched here for an hour, and only while this runs"
        self._fail(closing, words)
        if for_long:
            closing.wait_s = LONG_AGAIN_S

    def _fail(self, closing: _Closing, words: str) -> None:
        closing.failures += 1
        closing.wait_s = min(AGAIN_FIRST_S << min(closing.failures - 1, 16), AGAIN_MOST_S)
        self._complain(closing, words)

    def _complain(self, closing: _Closing, words: str) -> None:
        if words != closing.complaint:
            self._notices.append(words)
        closing.complaint = words

    def _begin_run(self) -> None:
        """So far the journal has told; and what an earlier run waited for this one asks at once."""
        self._begun = True
        for closing in self._closings.values():
            closing.wait_s = 0

    # ---- the next step -------------------------------------------------------------------------

    def _next(self, closing: _Closing, now_ns: int, venue_ms: int) -> Action | None:
        entry = closing.entry
        if closing.wait_s:
            closing.place_ns, closing.wait_s = now_ns + closing.wait_s * NS_PER_S, 0
        market = self._markets.get(entry.spec.symbol)
        over = is_over(entry, closing.plan, venue_ms)
        if over or self._is_reached(closing, now_ns):
            self._leave(closing)
        if not entry.ended:
            return self._cancel(closing, entry, now_ns) if closing.leaving else None
        if market is None or not entry.fills_known or closing.posted:
            return None
        alive = closing.alive()
        if not alive:
            return self._place(closing, market, now_ns)
        if _rests(alive[0]) and now_ns - closing.placed_ns >= AGAIN_MOST_S * NS_PER_S:
            closing.failures = 0
        unwanted = closing.leaving or closing.offered() > _open_quantity(closing)
        return self._cancel(closing, alive[0], now_ns) if unwanted else None

    def _leave(self, closing: _Closing) -> None:
        """At market, whatever what should rest at the venue has to wait for."""
        if not closing.leaving:
            closing.leaving = True
            closing.failures = closing.place_ns = 0

    def _cancel(self, closing: _Closing, order: Order, now_ns: int) -> Cancel | None:
        """What rests, before anything else is sent. What may not have arrived is asked for first
        (engine/lifecycle.py), and a MARKET order ends by itself."""
        if not _rests(order) or now_ns < closing.cancel_ns:
            return None
        closing.cancel_ns = now_ns + CANCEL_AGAIN_S * NS_PER_S
        leg = next(leg for leg in order.legs if leg.end is None)
        return Cancel(leg.client_id, order.spec.symbol, leg.order_id)

    def _place(self, closing: _Closing, market: Market, now_ns: int) -> Place | None:
        entry = closing.entry
        missing = shortfall(_brought(entry), market.step_size, closing.shortfalls)
        held = floor(_open_quantity(closing) - missing, market.step_size)
        if held < max(market.resting.min_quantity, market.step_size):
            self._report_dust(closing, market)
            return None
        take, stop = targets(entry, closing.plan, market) if not closing.leaving else (None, None)
        kind = client_ids.MARKET if closing.leaving else resting_kind(take, stop, market)
        attempt = closing.attempt()
        no_ids = not closing.leaving and attempt >= RESTING_ATTEMPTS_MAX
        if kind is None or no_ids or now_ns < closing.place_ns:
            return None
        last = self._price(closing, now_ns) or entry.average or ZERO
        prices = [price for price in (take, stop) if price is not None]
        quantity = self._cut(closing, market, held, last, prices)
        if not quantity:
            return None
        if attempt >= client_ids.ATTEMPTS_MAX:
            self._notices.append(
                f"{entry.client_id} could not be left in {attempt} attempts: close {held:f} "
                f"{entry.spec.symbol} by hand"
            )
            closing.done = True
            return None
        closing.posted = client_ids.exit_id(entry.client_id, kind, attempt)
        closing.cancel_ns, closing.placed_ns = 0, now_ns
        return Place(
            client_id=closing.posted,
            parent=entry.client_id,
            symbol=entry.spec.symbol,
            side=exit_side(entry),
            quantity=quantity,
            take_price=take,
            stop_price=stop,
        )

    def _cut(
        self,
        closing: _Closing,
        market: Market,
        held: Decimal,
        last: Decimal,
        prices: list[Decimal],
    ) -> Decimal:
        """As much of it as one order may have, at market or resting at these `prices`; 0 when that
        is too little for one, until the price or the venue's rules change."""
        at_market = market.at_market.cut(held, market.step_size, last, AVERAGE_MOST * last)
        closing.small = not at_market
        quantity = at_market
        if prices:
            quantity = market.resting.cut(held, market.step_size, min(prices), max(prices))
        if not quantity:
            entry = closing.entry
            words = f"{held:f} {entry.spec.symbol} of {entry.client_id} is too little"
            here = " to rest at the venue: its prices are watched here, and only while this runs"
            self._complain(closing, words + (here if at_market else " for an order now and stays"))
        return quantity

    def _report_dust(self, closing: _Closing, market: Market) -> None:
        closing.done = True
        quantity = _open_quantity(closing)
        if quantity >= market.step_size:
            self._notices.append(
                f"{quantity:f} {closing.entry.spec.symbol} of {closing.entry.client_id} is too "
                "little for an order of its own and stays"
            )

    def _finish(self, client_id: str) -> None:
        """It is kept as long as engine/lifecycle.py may tell of this entry: that keeps no more
        complete orders, and every entry that is left has brought one."""
        self._done[client_id] = self._closings.pop(client_id)
        if len(self._done) > KEPT:
            del self._done[next(iter(self._done))]

    # ---- prices --------------------------------------------------------------------------------

    def _price(self, closing: _Closing, now_ns: int) -> Decimal | None:
        """At which it could be left now."""
        bid, ask, t_ns = self._prices.get(closing.entry.spec.symbol, (ZERO, ZERO, 0))
        if not bid or now_ns - t_ns > self._price_age_ns:
            return None
        return bid if exit_side(closing.entry) == "SELL" else ask

    def _is_reached(self, closing: _Closing, now_ns: int) -> bool:
        """The price is where it should be left, and no order at the venue is there for that."""
        price = self._price(closing, now_ns)
        if price is None:
            return False
        take, stop = self._uncovered(closing)
        if exit_side(closing.entry) == "SELL":
            return (take is not None and price >= take) or (stop is not None and price <= stop)
        return (take is not None and price <= take) or (stop is not None and price >= stop)

    def _uncovered(self, closing: _Closing) -> tuple[Decimal | None, Decimal | None]:
        """The targets for which no order is at the venue, nor on its way there."""
        market = self._markets.get(closing.entry.spec.symbol)
        if market is None or closing.posted or closing.leaving:
            return None, None
        take, stop = targets(closing.entry, closing.plan, market)
        covered = {client_ids.leg_of(leg.client_id) for _, leg in closing.live_legs()}
        return (
            None if client_ids.TAKE_PROFIT in covered else take,
            None if client_ids.STOP_LOSS in covered else stop,
        )


def _rests(order: Order) -> bool:
    """At the venue, until something happens."""
    return order.status in ("acked", "partially-filled") and not order.ends_at_once


def _brought(entry: Order) -> Decimal:
    """What is held of it. More than was ordered is a mistake of the venue's, or nobody's order."""
    quantity = min(entry.filled, entry.quantity or entry.filled)
    if entry.spec.side == "BUY":
        quantity -= sum(
            (fee for asset, fee in entry.fees if is_base(entry.spec.symbol, asset)), ZERO
        )
    return quantity


def _open_quantity(closing: _Closing) -> Decimal:
    """What the entry has brought, less what its exits have filled."""
    return _brought(closing.entry) - sum((exit_.filled for exit_ in closing.exits.values()), ZERO)
