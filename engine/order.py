"""One order after the wire, as a value: what the venue has said of it, and the state that follows.

The state follows from facts that only grow (accepted, cumulative quantity, trades, end), so that
messages may come in any order and any number of times. docs/orders.md has the diagram.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from engine.venues.binance import OrderSpec
from engine.venues.binance_events import ZERO, OrderReport, Trade

ENDS = frozenset({"filled", "cancelled", "expired", "rejected"})
AT_ONCE = frozenset({"IOC", "FOK"})  # enums.md, "Time in force": it ends when it arrives


@dataclass(frozen=True, slots=True)
class Leg:
    """An order as the venue knows it: an order has one, an OCO list two. `filled` and `quote` are
    the venue's cumulative amounts, `traded` and `traded_quote` the sums of the trades that are
    known, which may be fewer. `end` is one of ENDS once it has ended. `denied_ms` is the venue time
    since which it denies that it has what it had accepted; `lost`: for too long."""

    client_id: str
    quantity: Decimal
    order_id: int | None = None
    accepted: bool = False
    filled: Decimal = ZERO
    quote: Decimal = ZERO
    trades: frozenset[int] = frozenset()
    traded: Decimal = ZERO
    traded_quote: Decimal = ZERO
    end: str | None = None
    denied_ms: int | None = None
    lost: bool = False

    @property
    def trades_missing(self) -> bool:
        return self.traded < self.filled


@dataclass(frozen=True, slots=True)
class Order:
    """`status` is `intent`, `sent`, `acked`, `partially-filled`, `filled`, `cancelled`, `expired`,
    `rejected`, `unknown` or `dry-run`. `parent` is the entry's id in an exit, "" in an entry.

    `since_ns`, `sent_ns` and `replied_ns` are CLOCK_MONOTONIC of the run that sent it; `sent_ns` is
    0 when the send did not come to its end. `timestamp_ms` is venue time. `doubt` is set when its
    outcome is not known, and counts until the venue has said something. `code` and `reason` are of
    a refusal or a doubt. `fees` are the commissions of the known trades by asset."""

    client_id: str
    spec: OrderSpec
    legs: tuple[Leg, ...]
    parent: str = ""
    rule: str | None = None
    txid: str = ""
    exchange: str = ""
    timestamp_ms: int = 0
    session: int | None = None
    live: bool = True
    fired: bool = False
    doubt: bool = False
    since_ns: int = 0
    sent_ns: int = 0
    replied_ns: int | None = None
    reason: str = ""
    code: int | None = None
    fees: tuple[tuple[str, Decimal], ...] = ()
    fees_known: bool = True

    @property
    def status(self) -> str:
        if not self.live:
            return "dry-run"
        if self.ended:
            return self._end()
        if self.lost:
            return "unknown"
        if self.filled:
            return "partially-filled"
        if any(leg.accepted for leg in self.legs):
            return "acked"
        if self.doubt:
            return "unknown"
        return "sent" if self.fired else "intent"

    @property
    def ended(self) -> bool:
        return all(leg.end is not None for leg in self.legs)

    @property
    def lost(self) -> bool:
        """The venue does not have it any more, and does not tell what became of it."""
        return all(leg.lost for leg in self.legs if leg.end is None)

    def _end(self) -> str:
        """The legs of a list end differently: what was filled decides, then who ended it."""
        ends = {leg.end for leg in self.legs}
        if self.filled >= self.quantity or ends == {"filled"}:
            return "filled"
        return next(end for end in ("cancelled", "expired", "rejected", "filled") if end in ends)

    @property
    def quantity(self) -> Decimal:
        return self.legs[0].quantity

    @property
    def filled(self) -> Decimal:
        return sum((leg.filled for leg in self.legs), ZERO)

    @property
    def quote(self) -> Decimal:
        return sum((leg.quote for leg in self.legs), ZERO)

    @property
    def average(self) -> Decimal | None:
        """The mean price of what was filled; None before the first fill."""
        return self.quote / self.filled if self.filled else None

    @property
    def fills_known(self) -> bool:
        """Every fill is known as a trade, with its commission."""
        return not any(leg.trades_missing for leg in self.legs)

    @property
    def complete(self) -> bool:
        """Nothing more is expected of it."""
        return not self.live or (self.ended and self.fills_known)

    @property
    def ends_at_once(self) -> bool:
        return self.spec.type == "MARKET" or self.spec.time_in_force in AT_ONCE

    @property
    def reply_ns(self) -> int | None:
        """From send to answer, where both are known."""
        return self.replied_ns - self.sent_ns if self.replied_ns and self.sent_ns else None

    def leg(self, client_id: str) -> Leg | None:
        """None for any other id, and that of a list is the id of none of its legs."""
        return next((leg for leg in self.legs if leg.client_id == client_id), None)

    def fee(self, asset: str) -> Decimal:
        return dict(self.fees).get(asset, ZERO)

    def as_json(self) -> dict[str, object]:
        average = self.average
        return {
            "client_id": self.client_id,
            "parent": self.parent,
            "side": self.spec.side,
            "symbol": self.spec.symbol,
            "type": self.spec.type,
            "quantity": self.spec.quantity,
            "price": self.spec.price,
            "time_in_force": self.spec.time_in_force,
            "status": self.status,
            "filled": f"{self.filled:f}",
            "average": None if average is None else f"{average:.8f}",
            "fees": {asset: f"{fee:f}" for asset, fee in self.fees},
            "txid": self.txid,
            "exchange": self.exchange,
            "timestamp_ms": self.timestamp_ms,
            "reason": self.reason,
            "reply_ns": self.reply_ns,
        }

    def with_leg(self, leg: Leg) -> Order:
        legs = tuple(leg if each.client_id == leg.client_id else each for each in self.legs)
        return replace(self, legs=legs)

    def with_trades(self, trades: tuple[Trade, ...]) -> Order:
        """Their commissions counted. What each of them filled is counted by its leg."""
        fees = dict(self.fees)
        for trade in trades:
            if trade.commission_asset is not None:
                asset = trade.commission_asset
                fees[asset] = fees.get(asset, ZERO) + trade.commission
        known = all(trade.commission_asset is not None for trade in trades)
        return replace(self, fees=tuple(sorted(fees.items())), fees_known=self.fees_known and known)


@dataclass(frozen=True, slots=True)
class Heard:
    """What a report does to a leg: the leg as it is then, the trades that are new, and what was
    contradictory, in words."""

    leg: Leg
    trades: tuple[Trade, ...]
    complaint: str = ""


def hear(leg: Leg, report: OrderReport) -> Heard:
    """The venue reports on this leg. What it says beyond the quantity of the order does not count,
    where the journal says what that is: no exit is to be as large as that."""
    told = report.filled or ZERO
    filled = max(leg.filled, min(told, leg.quantity or told))
    limit = leg.quantity if report.filled is None else filled
    trades, refused = _new_trades(leg, report, limit)
    traded = leg.traded + sum((trade.quantity for trade in trades), ZERO)
    traded_quote = leg.traded_quote + sum((trade.quote for trade in trades), ZERO)
    filled = max(filled, traded)
    end, complaint = _end(leg, report, filled)
    if told > filled:
        complaint = complaint or f"{told:f} is filled, the venue says: more than was ordered"
    if refused:
        complaint = complaint or f"trade {refused[0].id} is more than what the venue says is filled"
    if leg.end is not None and filled > leg.filled:
        complaint = complaint or f"{filled - leg.filled:f} more was filled after the end"
    grown = replace(
        leg,
        order_id=report.order_id if report.order_id is not None else leg.order_id,
        accepted=leg.accepted or report.status != "rejected" or bool(filled),
        filled=filled,
        quote=max(leg.quote, report.quote or ZERO, traded_quote),
        trades=leg.trades | {trade.id for trade in trades},
        traded=traded,
        traded_quote=traded_quote,
        end=end,
        denied_ms=None,
        lost=False,
    )
    return Heard(grown, trades, complaint)


def _new_trades(
    leg: Leg, report: OrderReport, limit: Decimal
) -> tuple[tuple[Trade, ...], tuple[Trade, ...]]:
    """Those that are not known yet, and those of them that go beyond `limit`: the cumulative
    quantity decides over the sum."""
    room = limit - leg.traded
    seen = set(leg.trades)
    taken: list[Trade] = []
    refused: list[Trade] = []
    for trade in report.trades:
        if trade.id in seen:
            continue
        seen.add(trade.id)
        if trade.quantity > room:
            refused.append(trade)
        else:
            taken.append(trade)
            room -= trade.quantity
    return tuple(taken), tuple(refused)


def _end(leg: Leg, report: OrderReport, filled: Decimal) -> tuple[str | None, str]:
    """The leg's end, and what is contradictory. An end stays, but for `rejected` when the venue
    reports the order all the same: an order that may have been filled is never taken for none."""
    said = report.status if report.status in ENDS else None
    end = "filled" if leg.quantity and filled >= leg.quantity else said
    if said == "rejected" and filled:
        end = None if end == "rejected" else end
        return leg.end or end, "the venue says rejected of an order that it has filled"
    if leg.end == "rejected" and (filled or (report.status or "rejected") != "rejected"):
        return end, "the venue has an order that it had rejected"
    stays = leg.end or end
    if said is not None and said != stays:
        return stays, f"the venue says {said} of an order that was {stays}"
    return stays, ""
