"""What is done about orders after the wire: their news told, their fills booked, questions asked,
exits placed, and everything cancelled after a kill.

Orders, positions and exits are folds that know no I/O (engine/lifecycle.py, positions.py,
exits.py); here they meet the engine. Everything runs on the control thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from functools import partial
from typing import Protocol

from engine import client_ids
from engine.config import RuleSettings
from engine.core import Settlement
from engine.exit_plan import Bounds, ExitPlan, Market
from engine.exits import Cancel, Exits, Place
from engine.lifecycle import KEPT, Fill, Orders
from engine.lifecycle import Settlement as Settled
from engine.order import Order
from engine.positions import Positions, is_base
from engine.prices import Price
from engine.records import AMOUNT_E8_MOST, Command, Fired, Intent, Record, Terms, left_epoch_ns
from engine.report import Line
from engine.venues import binance_requests as requests
from engine.venues.binance_filters import Filters, Notional, Steps

REPLY_S = 10.0  # the venue's own limit for a request ("General API Information")
CANCEL_AGAIN_S = 5.0  # after a kill, as long as something is open
OPEN_TOLD = 5  # of what a run leaves behind
E8 = Decimal(10) ** 8
DAY_NS = 86_400 * 1_000_000_000


class Wire(Protocol):
    """engine.core.Engine, as far as it is needed here. None of these fails: what the hot thread
    has no room for is given to it later (engine/commands.py)."""

    def ask(self, session: int, method: str, message: bytes) -> None: ...

    def settle(self, settlement: Settlement) -> None: ...

    def place(self, message: bytes, terms: Terms, place: Place, timestamp_ms: int) -> None:
        """An exit."""


class Past(Protocol):
    """engine.core.Engine, before it runs."""

    def settle(self, settlement: Settlement) -> None: ...

    def set_position(self, market: int, position_e8: int) -> None: ...

    def expose(self, order: Settlement) -> None: ...

    def count_past(
        self, age_ns: int, notional_e8: int, rule: int | None, exchange: str | None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Moment:
    """When `work()` is done, and by whom a request is sent: `session` None while none is ready, or
    the venue lets us send nothing. Questions may have to wait where cancels and exits need not."""

    now_ns: int  # CLOCK_MONOTONIC
    venue_ms: int
    session: int | None
    may_query: bool = True


class Desk:
    """Every order of this journal, of earlier runs too. `symbols` are the markets of the engine, in
    their order; `plans` go by the rule's name. A dry run asks, but neither leaves nor cancels what
    a live one has left open."""

    def __init__(
        self,
        wire: Wire,
        symbols: tuple[str, ...],
        plans: dict[str, ExitPlan],
        auth: requests.Auth,
        recv_window_ms: int,
        emit: Callable[[Line], None],
        live: bool,
        max_price_age_ns: int,
    ) -> None:
        self.orders = Orders(recv_window_ms)
        self.positions = Positions()
        self._plans = plans
        self._new_exits = partial(Exits, plans, max_price_age_ns)
        self.exits = self._new_exits()
        self._wire = wire
        self._symbols = symbols
        self._auth = auth
        self._recv_window_ms = recv_window_ms
        self._emit = emit
        self._live = live
        self._told: dict[str, str] = {}  # status, of the last KEPT orders
        self._former: set[str] = set()  # orders of earlier runs, in this one's summary only if open
        self._handed_out: dict[str, None] = {}  # exits, until the hot thread has told of them
        self._killed = False
        self._persons_runs: set[str] = set()  # whose orders are a person's (engine/hands_off.py)
        self._cancel_at_ns = 0

    # ---- earlier runs ----------------------------------------------------------------------------

    def restore(
        self,
        records: Iterable[Record],
        past: Past,
        now_epoch_ns: int,
        rules: tuple[str, ...],
        exchanges: frozenset[str],
        hands_off: str = "",
    ) -> None:
        """First of all: what the journal says of earlier runs counts in this one.
        `hands_off` is the mark that this run begins with."""
        held: dict[str, int] = dict.fromkeys(self._symbols, 0)
        marks = {""}
        for record in records:
            if record.names.hands_off not in marks:
                marks.add(record.names.hands_off)
                self._hand_over(held)
            if isinstance(record.body, Intent) and record.body.live:
                _count(past, record, record.body, now_epoch_ns, rules, exchanges)
            self._fold(self.orders.on_record(record), held)
        self._fold(self.orders.end_former_runs(), held)
        self.orders.take_notices()  # of then, as those of the exits
        self.exits.take_notices()
        if hands_off not in marks:
            self._tell_hand_over()
            self._hand_over(held)
        self._tell_persons_orders()
        self._tell_orphans(rules)
        unsettled = [
            order
            for order in self.orders.open()
            if order.live and order.spec.symbol in held and not self.orders.is_settled(order)
        ]
        for entered in self._entered(unsettled):
            past.settle(entered)
        for symbol, position_e8 in held.items():  # whatever settle() has made of it
            past.set_position(self._symbols.index(symbol), position_e8)
        for order in unsettled:
            past.expose(self._settlement(order.spec.symbol, order, order.quantity, Decimal(0)))
        for order in self.orders.all():
            self._told[order.client_id] = order.status
            if order.ended or not order.live:
                self._former.add(order.client_id)

    def _entered(self, unsettled: list[Order]) -> Iterator[Settlement]:
        """What exits of this run may close: what is left of entries that have ended, less what an
        exit is on its way for."""
        exiting = {each.parent: each.quantity - each.filled for each in unsettled}
        entering = {each.client_id for each in unsettled}
        for left in self.exits.left():
            free_e8 = _e8(left.quantity - exiting.get(left.entry_id, Decimal(0)))
            if left.symbol in self._symbols and left.entry_id not in entering and free_e8 > 0:
                market = self._symbols.index(left.symbol)
                yield Settlement(market, left.side == "SELL", quantity_e8=0, filled_e8=free_e8)

    def _hand_over(self, held: dict[str, int]) -> None:
        """What is open so far is a person's: no exit is made for it, and it counts in no position,
        for nobody here knows when it is closed."""
        self._persons_runs |= {client_ids.run_of(order.client_id) for order in self.orders.all()}
        self.exits = self._new_exits()
        held.update(dict.fromkeys(held, 0))

    def _is_persons(self, client_id: str) -> bool:
        return client_ids.run_of(client_id) in self._persons_runs

    def _follow(self, order: Order) -> None:
        if not self._is_persons(order.client_id):
            self.exits.on_order(order)

    def _tell_hand_over(self) -> None:
        """Also what no plan would have left."""
        planned = [(left.entry_id, left.quantity) for left in self.exits.left()]
        unplanned = [
            (order.client_id, order.filled)
            for order in self.orders.all()
            if order.live and not order.parent and order.filled and order.rule not in self._plans
            if not self._is_persons(order.client_id)
        ]
        for entry_id, quantity in (*planned, *unplanned):
            entry = self.orders.get(entry_id)
            assert entry is not None
            self._notice(
                f"the position of {entry_id} is yours to close since the engine was stopped: "
                f"{entry.spec.side} {quantity:f} {entry.spec.symbol}"
            )

    def _tell_persons_orders(self) -> None:
        for order in self.orders.open():
            if self._live and self._is_persons(order.client_id):
                self._notice(
                    f"{order.client_id} ({order.spec.side} {order.quantity:f} {order.spec.symbol}) "
                    "may still be filled, and what it is for is yours to close: it is cancelled"
                )

    def _tell_orphans(self, rules: tuple[str, ...]) -> None:
        """Positions of former runs that no rule of this one will leave."""
        left: dict[str, Decimal] = {}
        for order in self.orders.all():
            if order.live and not self._is_persons(order.client_id):
                entry_id = order.parent or order.client_id
                sign = -1 if order.parent else 1
                left[entry_id] = left.get(entry_id, Decimal(0)) + sign * order.filled
        for entry_id, quantity in left.items():
            entry = self.orders.get(entry_id)
            if entry is None or entry.rule is None or quantity <= 0:
                continue
            known = entry.rule in rules and entry.spec.symbol in self._symbols
            if not known:
                self._notice(
                    f"no rule looks after what {entry_id} has left open ({entry.spec.side} "
                    f"{quantity:f} {entry.spec.symbol}, rule {entry.rule!r}): close it by hand, or "
                    "bring the rule back"
                )

    def _fold(self, changed: Iterable[Order], held: dict[str, int]) -> None:
        for order in changed:
            self._follow(order)
        for fill in self.orders.take_fills():
            self.positions.add(fill)
            if fill.symbol in held and not self._is_persons(fill.client_id):
                held[fill.symbol] -= _base_fee_e8(fill)
        for settled in self.orders.take_settlements():
            if settled.symbol in held and not self._is_persons(settled.client_id):
                sign = -1 if settled.side == "SELL" else 1
                held[settled.symbol] += sign * _e8(settled.filled)

    # ---- what happens ----------------------------------------------------------------------------

    def on_record(self, record: Record) -> None:
        """Any record of this run."""
        match record.body:
            case Fired() as fired if fired.client_id:
                self._handed_out.pop(fired.client_id, None)
                if fired.refusal is not None:
                    self.exits.on_refused(fired.client_id, fired.refusal)
            case Command("order", error=str(error)) if self._handed_out:
                client_id = next(iter(self._handed_out))  # of those before it more was heard
                del self._handed_out[client_id]
                self.exits.on_refused(client_id, error)
        self._absorb(self.orders.on_record(record))

    def on_price(self, price: Price) -> None:
        self.exits.on_price(price.symbol, price.bid_e8 / E8, price.ask_e8 / E8, price.t_ns)

    def on_filters(self, filters: Iterable[Filters]) -> None:
        for each in filters:
            self.exits.set_market(each.symbol, market_of(each))

    def kill(self) -> None:
        """No more orders; what is open is cancelled, as soon as a session is ready."""
        self._killed = True
        self._cancel_at_ns = 0
        self.exits.kill()
        for left in self.exits.left():
            self._notice(
                f"the position of {left.entry_id} stays open: {left.side} {left.quantity:f} "
                f"{left.symbol}, {left.words}; close it by hand"
            )

    def work(self, moment: Moment) -> None:
        """Whatever is due."""
        self._absorb(self.orders.overdue(moment.now_ns, REPLY_S))
        if moment.session is None:
            return
        stamp = requests.Stamp(self._auth, moment.venue_ms, self._recv_window_ms)
        if moment.may_query:
            self._query(stamp, moment, moment.session)
        if self._live:
            self._act(stamp, moment, moment.session)
        self._tell_notices()

    def _query(self, stamp: requests.Stamp, moment: Moment, session: int) -> None:
        for query in self.orders.queries_due(moment.now_ns, moment.venue_ms):
            self._wire.ask(session, requests.method_of(query), requests.ask(query, stamp))

    def _act(self, stamp: requests.Stamp, moment: Moment, session: int) -> None:
        for action in self.exits.actions(moment.now_ns, moment.venue_ms):
            if isinstance(action, Cancel):
                self._wire.ask(session, "order.cancel", requests.cancel(action, stamp))
            else:
                self._place(action, stamp)
        if moment.now_ns >= self._cancel_at_ns:
            self._cancel_unwanted(stamp, moment.now_ns, session)

    def _cancel_unwanted(self, stamp: requests.Stamp, now_ns: int, session: int) -> None:
        """After a kill all of ours, else what was made for a position that is a person's now; one
        by one, for what else there is in the account is not ours to cancel. Again and again, since
        an order whose outcome is unknown may arrive later."""
        self._cancel_at_ns = now_ns + int(CANCEL_AGAIN_S * 1e9)
        for order in self.orders.open():
            if order.lost or (not self._killed and not self._is_persons(order.client_id)):
                continue
            leg = next(leg for leg in order.legs if leg.end is None)
            cancel = Cancel(leg.client_id, order.spec.symbol, leg.order_id)
            self._wire.ask(session, "order.cancel", requests.cancel(cancel, stamp))

    # ---- doing -----------------------------------------------------------------------------------

    def _place(self, place: Place, stamp: requests.Stamp) -> None:
        if place.symbol not in self._symbols:
            self.exits.on_refused(place.client_id, f"no rule trades {place.symbol} any more")
            return
        terms = Terms(
            market=self._symbols.index(place.symbol),
            is_sell=place.side == "SELL",
            quantity_e8=_e8(place.quantity),
            price_e8=0 if place.take_price is None else _e8(place.take_price),
        )
        if max(terms.quantity_e8, terms.price_e8) > AMOUNT_E8_MOST:
            self.exits.on_refused(place.client_id, "the venue tells of an impossible fill")
            return
        self._handed_out[place.client_id] = None
        self._wire.place(requests.place_exit(place, stamp), terms, place, stamp.timestamp_ms)

    # ---- what came of it -------------------------------------------------------------------------

    def _absorb(self, changed: Iterable[Order]) -> None:
        for order in changed:
            self._follow(order)
            self._tell_order(order)
        for fill in self.orders.take_fills():
            position = self.positions.add(fill)
            self._emit({"record": "position", **position.as_json()})
            self._settle_fee(fill)
        for settled in self.orders.take_settlements():
            self._settle(settled)
        self._tell_notices()

    def _tell_order(self, order: Order) -> None:
        """Each status once. An intent is no news: the send follows at once."""
        if order.status in ("intent", self._told.get(order.client_id)):
            return
        self._told[order.client_id] = order.status
        if len(self._told) > KEPT:
            del self._told[next(iter(self._told))]
        self._emit({"record": "order", **order.as_json()})

    def _settle(self, settled: Settled) -> None:
        order = self.orders.get(settled.client_id)
        if order is None or not order.live or settled.symbol not in self._symbols:
            return
        self._wire.settle(self._settlement(settled.symbol, order, settled.quantity, settled.filled))

    def _settle_fee(self, fill: Fill) -> None:
        """Whatever the order was, a commission in the base asset is a sale, and one that no exit
        is for."""
        fee_e8 = _base_fee_e8(fill)
        if fee_e8 and fill.symbol in self._symbols and not self._is_persons(fill.client_id):
            market = self._symbols.index(fill.symbol)
            self._wire.settle(Settlement(market, True, 0, fee_e8, reduces=True))

    def _settlement(
        self, symbol: str, order: Order, quantity: Decimal, filled: Decimal
    ) -> Settlement:
        """What a person's order fills changes no position of ours."""
        return Settlement(
            market=self._symbols.index(symbol),
            is_sell=order.spec.side == "SELL",
            quantity_e8=_e8(quantity),
            filled_e8=0 if self._is_persons(order.client_id) else _e8(filled),
            reduces=client_ids.is_exit(order.client_id),
        )

    def _tell_notices(self) -> None:
        for words in (*self.orders.take_notices(), *self.exits.take_notices()):
            self._notice(words)

    def _notice(self, words: str) -> None:
        self._emit({"record": "notice", "text": words})

    # ---- the end ---------------------------------------------------------------------------------

    def summary(self) -> list[Line]:
        """The orders of this run, and those of earlier ones that it found open."""
        return [
            order.as_json() for order in self.orders.all() if order.client_id not in self._former
        ]

    def has_open(self) -> bool:
        """Whether there is something that this run can end: an order that may still be filled, or a
        position that has an exit."""
        if not self._live:
            return False
        if any(order.live and not order.lost for order in self.orders.open()):
            return True
        return not self._killed and any(left.symbol in self._symbols for left in self.exits.left())

    def open_words(self) -> list[str]:
        """What a run that ends now leaves behind, in sentences."""
        words = [
            f"the position of {left.entry_id} is still open ({left.side} {left.quantity:f} "
            f"{left.symbol}, {left.words})"
            for left in self.exits.left()
        ]
        words += [
            f"what became of {order.client_id} is not known"
            for order in self.orders.open()
            if order.status in ("intent", "sent", "unknown")
        ]
        more = [f"and {len(words) - OPEN_TOLD} more"] if len(words) > OPEN_TOLD else []
        goes_on = "the next run with this journal goes on with that"
        if self._killed:
            goes_on = "that is yours now; a run goes on with it after `reset --resume-exits`"
        after = [goes_on] if words else []
        return [*words[:OPEN_TOLD], *more, *after]


def market_of(filters: Filters) -> Market:
    """What exits have to know of the venue's rules; a step that is 0 is none, so any will do."""
    smallest = Decimal(1).scaleb(-filters.base_precision)
    tick = Decimal(1).scaleb(-filters.quote_precision)
    lots = (filters.lot, filters.market_lot)
    return Market(
        tick_size=filters.price.step or tick,
        step_size=max((rule.step for rule in lots if rule.step), default=smallest),
        resting=_bounds(lots[:1], filters.notional),
        at_market=_bounds(
            lots,
            [
                Notional(
                    least=rule.least if rule.least_of_market else Decimal(0),
                    most=rule.most if rule.most_of_market else Decimal(0),
                )
                for rule in filters.notional
            ],
        ),
        oco_allowed=filters.oco_allowed,
        order_types=filters.order_types,
    )


def _bounds(lots: Sequence[Steps], notionals: Sequence[Notional]) -> Bounds:
    """Where all of these hold."""
    none = Decimal(0)
    return Bounds(
        min_quantity=max((rule.least for rule in lots), default=none),
        max_quantity=min((rule.most for rule in lots if rule.most), default=none),
        min_notional=max((rule.least for rule in notionals), default=none),
        max_notional=min((rule.most for rule in notionals if rule.most), default=none),
    )


def plan_of(rule: RuleSettings) -> ExitPlan | None:
    """A rule's exit as it is configured, where 0 means never for this reason."""
    plan = ExitPlan(
        rule.exit_after_s or None, rule.take_profit_bp or None, rule.stop_loss_bp or None
    )
    return None if plan == ExitPlan() else plan


def _count(
    past: Past,
    record: Record,
    intent: Intent,
    now_epoch_ns: int,
    rules: tuple[str, ...],
    exchanges: frozenset[str],
) -> None:
    age_ns = max(0, now_epoch_ns - left_epoch_ns(record, intent))
    if age_ns > DAY_NS:
        return
    rule = record.names.rule(intent.rule)
    past.count_past(
        age_ns,
        intent.notional_e8,
        rules.index(rule) if rule in rules else None,
        intent.exchange if intent.exchange in exchanges else None,
    )


def _base_fee_e8(fill: Fill) -> int:
    """None takes more than its trade, whatever the venue says."""
    if not is_base(fill.symbol, fill.commission_asset):
        return 0
    return _e8(min(fill.commission, fill.quantity))


def _e8(amount: Decimal) -> int:
    return int((amount * E8).to_integral_value(ROUND_HALF_EVEN))
