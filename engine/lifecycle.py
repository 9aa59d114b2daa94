"""Orders after the wire: what is believed of each, from what was sent and what the venue said.

A fold over the journal's records without a clock or I/O of its own, so that the orders of earlier
runs are known by folding their records (`on_record`), and the present run's likewise. `t_ns` and
`now_ns` are CLOCK_MONOTONIC, `venue_ms` is venue time. See docs/orders.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from engine import client_ids
from engine.inquiries import GRACE_MS, TRADES_TRIES, Inquiries, Query
from engine.order import Leg, Order, hear
from engine.records import Closed, Fired, Intent, Message, Names, Record
from engine.venues.binance import OrderSpec, Reply, order_status, parse_reply
from engine.venues.binance_events import (
    ZERO,
    ExecutionReport,
    OrderReport,
    Trade,
    parse_event,
    reports_in,
    trades_in,
)

KEPT = 4096  # orders that are complete, for what comes late
OF_PYTHON = 0xFFFF  # Intent.order of an order that has no template
NO_SUCH_ORDER, ORDER_ARCHIVED, UNSUPPORTED_OPERATION = -2013, -2026, -1020  # errors.md
NEVER = "never arrived at the venue"
DENIED_MS_MOST = 86_400_000
E8 = Decimal(10) ** 8

EXIT_TYPES = {
    client_ids.OCO: "OCO",
    client_ids.TAKE_PROFIT: "LIMIT",
    client_ids.STOP_LOSS: "STOP_LOSS",
    client_ids.MARKET: "MARKET",
}


@dataclass(frozen=True, slots=True)
class Fill:
    """One trade of one of our orders. `trade_id` is None for the rest of an order whose trades the
    venue does not tell: its commission is unknown then, and `commission_asset` None."""

    client_id: str
    symbol: str
    side: str
    trade_id: int | None
    price: Decimal
    quantity: Decimal
    quote: Decimal
    commission: Decimal
    commission_asset: str | None


@dataclass(frozen=True, slots=True)
class Settlement:
    """An order has come to its end: `quantity` is what was counted when it fired, `filled` what
    came of it. When a venue contradicts itself another follows with quantity 0 and what was filled
    beyond the first: a correction."""

    client_id: str
    symbol: str
    side: str
    quantity: Decimal
    filled: Decimal


class Orders:
    """Every order, by client order id; of complete ones the last KEPT.

    What changed is returned; fills, settlements and notices wait for `take_...()`. A reply or event
    about an order that is none of ours is counted in `strangers`, about one that is no longer kept
    in `late`."""

    def __init__(self, recv_window_ms: int = 5000, grace_ms: int = GRACE_MS) -> None:
        self.strangers = 0
        self.late = 0
        self.counts: Counter[str] = Counter()  # of orders that are complete, by status
        self._open: dict[str, Order] = {}
        self._complete: dict[str, Order] = {}
        self._order_of_leg: dict[str, str] = {}
        self._settled: dict[str, Decimal] = {}
        self._estimated: set[str] = set()  # legs
        self._runs: dict[str, int] = {}  # the last number of each
        self._inquiries = Inquiries(recv_window_ms, grace_ms)
        self._fills: list[Fill] = []
        self._settlements: list[Settlement] = []
        self._notices: list[str] = []

    # ---- what is known -------------------------------------------------------------------------

    def __len__(self) -> int:
        """All orders ever, kept or not."""
        return len(self._open) + self.counts.total()

    def get(self, client_id: str) -> Order | None:
        """By the order's id or that of one of its legs."""
        order_id = self._order_of_leg.get(client_id, client_id)
        return self._open.get(order_id) or self._complete.get(order_id)

    def all(self) -> list[Order]:
        """All that are kept; the complete ones first."""
        return [*self._complete.values(), *self._open.values()]

    def open(self) -> list[Order]:
        """Orders that may still be filled."""
        return [order for order in self._open.values() if not order.ended]

    def is_settled(self, order: Order) -> bool:
        """Its end has been told by `take_settlements()`: also of an order that the venue then took
        back into life, of which only what it fills from then on is told."""
        return order.client_id in self._settled

    def waiting(self) -> int:
        """Orders without an answer yet."""
        return sum(order.status in ("intent", "sent") for order in self._open.values())

    def take_fills(self) -> list[Fill]:
        fills, self._fills = self._fills, []
        return fills

    def take_settlements(self) -> list[Settlement]:
        settlements, self._settlements = self._settlements, []
        return settlements

    def take_notices(self) -> list[str]:
        notices, self._notices = self._notices, []
        return notices

    # ---- what happens --------------------------------------------------------------------------

    def on_record(self, record: Record) -> list[Order]:
        """Whatever a journal's record says of orders."""
        match record.body:
            case Intent() as intent:
                return self.on_intent(intent, record.names, record.t_ns)
            case Fired() as fired:
                return self.on_fired(fired)
            case Message() as message:
                return self.on_message(message.text, record.t_ns)
            case Closed() as closed:
                return self.on_session_end(closed.session, closed.reason)
        return []

    def end_former_runs(self) -> list[Order]:
        """Behind the last record of earlier runs: what has no answer will get none."""
        changed = self._doubt(
            [o for o in self._open.values() if o.status in ("intent", "sent")],
            "the run that sent it has ended",
        )
        for order in list(self._open.values()):
            # Neither its session nor its times mean anything in this run.
            self._open[order.client_id] = replace(order, session=None, since_ns=0, sent_ns=0)
            self._inquiries.soon(order)
        return changed

    def on_intent(self, intent: Intent, names: Names, t_ns: int) -> list[Order]:
        """An order is about to leave. In dry-run that is all."""
        if self.get(intent.client_id) is not None or not client_ids.is_ours(intent.client_id):
            return []
        spec = _spec_of(intent, names)
        quantity = Decimal(spec.quantity)
        if not quantity:
            self._notices.append(
                f"the journal does not say what the order {intent.client_id} was: see "
                "`harpoon journal show`, and ask the exchange about it"
            )
        entry = self.get(intent.parent) if intent.parent else None
        order = Order(
            client_id=intent.client_id,
            spec=spec,
            legs=tuple(Leg(leg, quantity) for leg in client_ids.legs_of(intent.client_id)),
            parent=intent.parent,
            rule=names.rule(intent.rule),
            txid=entry.txid if entry else intent.txid,
            exchange=entry.exchange if entry else intent.exchange,
            timestamp_ms=intent.timestamp_ms,
            live=intent.live,
            since_ns=t_ns,
        )
        for leg in order.legs:
            self._order_of_leg[leg.client_id] = order.client_id
        run = client_ids.run_of(order.client_id)
        if not order.parent:
            number = client_ids.number_of(order.client_id)
            self._runs[run] = max(number, self._runs.get(run, 0))
        return [self._put(None, order)]

    def on_fired(self, fired: Fired) -> list[Order]:
        """What became of the send. A refusal has no intent, and leaves nothing to follow."""
        order = self._open.get(fired.client_id) or self._complete.get(fired.client_id)
        if order is None or fired.refusal is not None:
            return []
        sent = replace(
            order,
            fired=True,
            session=fired.session,
            sent_ns=fired.sent_ns,
            doubt=order.doubt or fired.error is not None,
            reason=order.reason or fired.error or "",
        )
        return [self._put(order, sent)]

    def on_message(self, text: bytes, t_ns: int) -> list[Order]:
        """A text from the venue, whatever it is."""
        reply = parse_reply(text)
        if reply is not None:
            return self.on_reply(reply, t_ns)
        event = parse_event(text)
        return self.on_event(event, t_ns) if isinstance(event, ExecutionReport) else []

    def asked(self, request_id: str) -> bool:
        """A reply with this id answers a request about an order."""
        return client_ids.asked(request_id) is not None

    def on_reply(self, reply: Reply, t_ns: int) -> list[Order]:
        """The orders that a reply changes. Replies to other requests are read for the reports of
        orders in them (`openOrders.status`, `openOrders.cancelAll`)."""
        asked = client_ids.asked(reply.id)
        if asked is None:
            return self._hear_all(reports_in(reply))
        asks, client_id = asked
        order = self.get(client_id)
        if order is None:
            self._on_unknown_id(client_id)
            return []
        if asks == client_ids.PLACE:
            return self._on_placed(order, reply, t_ns)
        leg = order.leg(client_id)
        if leg is None:
            self.strangers += 1
            return []
        if asks == client_ids.TRADES:
            return self._on_trades(order, leg, reply)
        if asks == client_ids.STATUS:
            return self._on_status(order, leg, reply)
        if reply.status != 200:  # it could not be cancelled: perhaps there is nothing to cancel
            self._inquiries.soon(order)
        return self._hear_all(reports_in(reply))

    def on_event(self, event: ExecutionReport, t_ns: int) -> list[Order]:
        return self._hear_all((event.report,))

    def on_session_end(self, session: int, reason: str) -> list[Order]:
        """Orders that had no answer when their connection ended: their outcome is unknown. Events
        of all others may have been missed."""
        lost = [
            order
            for order in self._open.values()
            if order.status in ("intent", "sent") and order.session in (session, None)
        ]
        changed = self._doubt(lost, reason)
        self.check_all()
        return changed

    def check_all(self) -> None:
        """Events may have been missed: ask about every open order without delay."""
        for order in self._open.values():
            self._inquiries.soon(order)

    def overdue(self, now_ns: int, after_s: float) -> list[Order]:
        """Orders that have had no answer for so long: their outcome is unknown from now on."""
        limit_ns = now_ns - int(after_s * 1e9)
        late = [
            order
            for order in self._open.values()
            if order.status in ("intent", "sent") and max(order.sent_ns, order.since_ns) < limit_ns
        ]
        return self._doubt(late, f"no answer for {after_s:g} s")

    def queries_due(self, now_ns: int, venue_ms: int) -> list[Query]:
        """What to ask now, on any session that is ready; what is returned counts as asked. Without
        a ready session it is not called."""
        return [
            query
            for order in list(self._open.values())
            for query in self._inquiries.due(order, now_ns, venue_ms)
        ]

    # ---- replies -------------------------------------------------------------------------------

    def _on_placed(self, order: Order, reply: Reply, t_ns: int) -> list[Order]:
        """The first answer stands: only a report (`_hear`) changes what has been answered."""
        if not order.live:
            return []
        before, outcome = order, order_status(reply)
        if order.replied_ns is None:
            order = self._put(order, replace(order, replied_ns=t_ns))
        if outcome == "acked" and order.status != "rejected":
            return self._changed(before, self._on_accepted(order, reply))
        if order.ended or any(leg.accepted for leg in order.legs):
            if outcome not in ("unknown", order.status):
                self._complain(order, f"the venue now says {outcome} {_why(reply)}".rstrip())
                self._inquiries.soon(order)
            return self._changed(before, order)
        refused = replace(order, reason=_why(reply), code=reply.code)
        if outcome == "rejected":
            legs = tuple(replace(leg, end="rejected") for leg in order.legs)
            return [self._put(order, replace(refused, legs=legs, doubt=False))]
        return [self._put(order, replace(refused, doubt=True))]

    def _on_accepted(self, order: Order, reply: Reply) -> Order:
        """Most replies say no more than that; others what was filled at once."""
        said = {report.client_id: report for report in reports_in(reply)}
        for leg in order.legs:
            bare = OrderReport(leg.client_id, None, None, None, None)
            order = self._hear(order, leg, said.get(leg.client_id, bare))
        return order

    def _on_status(self, order: Order, leg: Leg, reply: Reply) -> list[Order]:
        """The question named the leg, whatever id the answer gives it: a cancellation renames it
        (heading "Cancel order", newClientOrderId)."""
        reports = reports_in(reply)
        asked_ms = self._inquiries.answered(leg.client_id, final=bool(reports))
        if reports:
            return self._changed(order, self._hear(order, leg, reports[0]))
        if leg.end is not None:
            return []
        if leg.accepted:
            if reply.code != NO_SUCH_ORDER or asked_ms is None:
                return []
            return self._on_denied(order, leg, asked_ms)
        if reply.code == ORDER_ARCHIVED:
            return self._changed(order, self._end_leg(order, leg, "expired", _why(reply)))
        if reply.code == NO_SUCH_ORDER and self._inquiries.certain(order, asked_ms):
            return self._changed(order, self._end_leg(order, leg, "rejected", _never(order)))
        return []

    def _on_denied(self, order: Order, leg: Leg, asked_ms: int) -> list[Order]:
        """It had accepted it: what answers may lag behind, but not for a day."""
        since_ms = asked_ms if leg.denied_ms is None else leg.denied_ms
        lost = asked_ms - since_ms > DENIED_MS_MOST
        order = self._put(order, order.with_leg(replace(leg, denied_ms=since_ms, lost=lost)))
        if not lost:
            return []
        self._complain(
            order,
            "the venue has accepted it and denies for a day now that it exists, so it is not asked "
            "any more: look at the account by hand, and begin another journal.folder",
        )
        return [order]

    def _end_leg(self, order: Order, leg: Leg, end: str, reason: str) -> Order:
        ended = order.with_leg(replace(leg, end=end))
        return self._put(order, replace(ended, reason=reason))

    def _on_trades(self, order: Order, leg: Leg, reply: Reply) -> list[Order]:
        trades = trades_in(reply)
        tries = self._inquiries.tries(leg.client_id)
        self._inquiries.answered(leg.client_id, final=False)
        if trades is not None:
            before = order
            listed = OrderReport(leg.client_id, None, leg.order_id, None, None, trades)
            order = self._hear(order, leg, listed)
            if order.fills_known:
                return self._changed(before, order)
            leg = next(each for each in order.legs if each.client_id == leg.client_id)
        # Any other refusal may pass: of weight, of a clock, of a key.
        never = reply.code == UNSUPPORTED_OPERATION
        if leg.trades_missing and (never or tries >= TRADES_TRIES):
            return [self._estimate(order, leg)]
        return []

    def _estimate(self, order: Order, leg: Leg) -> Order:
        """The venue does not tell the rest of the trades: its sums must do."""
        quantity, quote = leg.filled - leg.traded, leg.quote - leg.traded_quote
        if quote <= ZERO:
            quote = quantity * Decimal(order.spec.price or 0)
        self._notices.append(
            f"the venue does not tell the trades of {order.client_id}: the commission of "
            f"{quantity:f} {order.spec.symbol} is not known"
        )
        self._estimated.add(leg.client_id)
        rest = Trade(-1, quote / quantity, quantity, quote, ZERO, None)
        self._fills.append(_fill(order, rest))
        whole = replace(leg, traded=leg.filled, traded_quote=leg.traded_quote + quote)
        return self._put(order, order.with_leg(whole).with_trades((rest,)))

    # ---- reports -------------------------------------------------------------------------------

    def _hear_all(self, reports: Iterable[OrderReport]) -> list[Order]:
        changed: dict[str, Order] = {}
        for report in reports:
            order = self.get(report.client_id)
            if order is None:
                self._on_unknown_id(report.client_id)
                continue
            if not order.live:
                self._complain(order, "the venue reports an order of a dry run")
                continue
            leg = order.leg(report.client_id)
            if leg is None:
                self.strangers += 1
                continue
            now = self._hear(order, leg, report)
            if now is not order:
                changed[now.client_id] = now
        return list(changed.values())

    def _on_unknown_id(self, client_id: str) -> None:
        newest = self._runs.get(client_ids.run_of(client_id))
        if newest is None or not client_ids.is_ours(client_id):
            self.strangers += 1
            return
        self.late += 1
        if client_ids.number_of(client_id) > newest:
            self._notices.append(
                f"the venue reports the order {client_id}, which is not in the journal: stop with "
                "`harpoon kill` and look at the exchange"
            )

    def _hear(self, order: Order, leg: Leg, report: OrderReport) -> Order:
        """The order as it is then; the same object when nothing is new."""
        heard = hear(leg, report)
        if heard.complaint and leg.client_id not in self._estimated:
            self._complain(order, heard.complaint)
        doubt = order.doubt and not heard.leg.accepted and heard.leg.end is None
        said = report.reason or ("" if order.doubt and not doubt else order.reason)
        now = order.with_leg(heard.leg).with_trades(heard.trades)
        now = replace(now, doubt=doubt, reason=said)
        if now == order:
            return order
        if now.filled > max(now.quantity, order.filled):
            self._complain(order, f"{now.filled:f} is filled, more than was ordered")
        self._fills += [_fill(order, trade) for trade in heard.trades]
        return self._put(order, now)

    def _doubt(self, orders: Iterable[Order], reason: str) -> list[Order]:
        return [
            self._put(order, replace(order, doubt=True, reason=reason)) for order in list(orders)
        ]

    def _complain(self, order: Order, words: str) -> None:
        self._notices.append(f"{order.client_id} ({order.status}): {words}")

    # ---- the table -----------------------------------------------------------------------------

    def _changed(self, before: Order, now: Order) -> list[Order]:
        return [] if now is before else [now]

    def _put(self, before: Order | None, order: Order) -> Order:
        client_id = order.client_id
        if before is not None and before.complete:
            self.counts[before.status] -= 1
        if order.ended or not order.live:
            self._settle(order)
        if order.complete:
            self._open.pop(client_id, None)
            self._complete[client_id] = order
            self.counts[order.status] += 1
            self._inquiries.forget(order)
            self._prune()
        else:
            self._complete.pop(client_id, None)
            self._open[client_id] = order
        return order

    def _settle(self, order: Order) -> None:
        settled = self._settled.get(order.client_id)
        if settled is not None and order.filled == settled:
            return
        first = settled is None
        self._settled[order.client_id] = order.filled
        self._settlements.append(
            Settlement(
                client_id=order.client_id,
                symbol=order.spec.symbol,
                side=order.spec.side,
                quantity=order.quantity if first else ZERO,
                filled=order.filled - (settled or ZERO),
            )
        )

    def _prune(self) -> None:
        while len(self._complete) > KEPT:
            order = self._complete.pop(next(iter(self._complete)))
            self._settled.pop(order.client_id, None)
            for leg in order.legs:
                self._order_of_leg.pop(leg.client_id, None)
                self._estimated.discard(leg.client_id)


def _fill(order: Order, trade: Trade) -> Fill:
    known = trade.commission_asset is not None
    return Fill(
        client_id=order.client_id,
        symbol=order.spec.symbol,
        side=order.spec.side,
        trade_id=trade.id if known else None,
        price=trade.price,
        quantity=trade.quantity,
        quote=trade.quote,
        commission=trade.commission,
        commission_asset=trade.commission_asset,
    )


def _spec_of(intent: Intent, names: Names) -> OrderSpec:
    """What was ordered: an entry's template, an exit's terms. Quantity 0 when nothing says it."""
    if intent.order == OF_PYTHON and intent.terms is not None:
        terms = intent.terms
        return OrderSpec(
            symbol=names.market(terms.market),
            side="SELL" if terms.is_sell else "BUY",
            type=EXIT_TYPES.get(client_ids.leg_of(intent.client_id), "MARKET"),
            quantity=f"{terms.quantity_e8 / E8:.8f}",
            price=f"{terms.price_e8 / E8:.8f}" if terms.price_e8 else None,
        )
    return _spec_in(names.order(intent.order))


def _spec_in(row: Mapping[str, object]) -> OrderSpec:
    def text(name: str) -> str | None:
        value = row.get(name)
        return value if isinstance(value, str) else None

    quantity = text("quantity") or "0"
    return OrderSpec(
        symbol=text("symbol") or "?",
        side=text("side") or "?",
        type=text("type") or "?",
        quantity=quantity if _is_amount(quantity) else "0",
        price=text("price"),
        time_in_force=text("time_in_force"),
    )


def _is_amount(words: str) -> bool:
    return words.isascii() and words.replace(".", "", 1).isdigit() and len(words) <= 40


def _never(order: Order) -> str:
    """Why the venue does not have it; said already when the other leg of its list has ended."""
    if order.reason.startswith(NEVER):
        return order.reason
    return f"{NEVER} ({order.reason})" if order.reason else NEVER


def _why(reply: Reply) -> str:
    if reply.status == 200:
        return ""
    kind = f"status {reply.status}" if reply.code is None else str(reply.code)
    return f"{kind}: {reply.message}" if reply.message else kind
