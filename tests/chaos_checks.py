"""What must be true after a chaos run: small functions from the evidence to the violations they
found, each a sentence. None of them does I/O."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations, pairwise

from chaos_plan import COMMISSION, STEP, Payment, RulePlan

NS_PER_S = 1_000_000_000
# Between the moment at which an order's windows are looked up and the one that its intent names, a
# busy machine may do something else.
WINDOW_SLACK_NS = 50_000_000
CLOCK_SLACK_NS = 5_000_000  # CLOCK_MONOTONIC is placed on CLOCK_REALTIME once a segment
CLOCK_SLACK_MS = 50  # of a venue's clock, measured on a busy machine
# A price is as old as the engine's receiving it: a process that stands still receives it late.
PRICE_LATE_NS = 1_500_000_000
PRICE_SLACK = Decimal("1.02")  # the market moves less during a run


@dataclass(frozen=True)
class WrittenIntent:
    """An intent of the journal. `legs` are the client ids of its orders at the venue: two for an
    OCO list, else its own. `rule` and `exchange` are names, None and "" for an exit, whose `parent`
    is the entry's client id. `trigger_ns` is CLOCK_MONOTONIC, `epoch_ns` the same moment since the
    epoch."""

    client_id: str
    legs: tuple[str, ...]
    txid: str
    exchange: str
    rule: str | None
    parent: str
    run: str
    trigger_ns: int
    epoch_ns: int


@dataclass(frozen=True)
class VenueOrder:
    """An order that the venue took, and what became of it by the end: its status in the venue's
    words. `received_ns` is CLOCK_REALTIME, and so is `open_until_ns`: until then it was open for
    certain, None: to the end. `price` is None for MARKET."""

    client_id: str
    symbol: str
    side: str
    quantity: Decimal
    received_ns: int
    status: str
    filled: Decimal
    price: Decimal | None
    open_until_ns: int | None


@dataclass(frozen=True)
class Quote:
    """A best bid and ask as it left the venue (CLOCK_MONOTONIC)."""

    at_ns: int
    symbol: str
    bid: Decimal
    ask: Decimal

    @property
    def middle(self) -> Decimal:
        return (self.bid + self.ask) / 2


@dataclass(frozen=True)
class WrongClock:
    """From a life's start, the venue's clock was so far from ours (CLOCK_MONOTONIC)."""

    since_ns: int
    until_ns: int
    skew_ms: int


@dataclass(frozen=True)
class VenueFill:
    client_id: str
    symbol: str
    side: str
    quantity: Decimal
    price: Decimal


@dataclass(frozen=True)
class Belief:
    """What the engine says of one of its orders at the end; `status` is one of lifecycle.py's."""

    status: str
    filled: Decimal


@dataclass(frozen=True)
class Evidence:
    """Everything that is known after a run. `probes` are the transactions of the last life, and
    `verdicts` what became of each order that a transaction asked for: "" or the refusal. `latched`
    are the times (CLOCK_MONOTONIC) during which the kill latch was set for certain. `ends` are
    complaints about how a life ended."""

    rules: Mapping[str, RulePlan]
    limits: Mapping[str, int | str]
    txids: Mapping[str, Payment]
    probes: Sequence[str]
    verdicts: Sequence[tuple[str, str]]
    intents: Sequence[WrittenIntent]
    orders: Sequence[VenueOrder]
    fills: Sequence[VenueFill]
    beliefs: Mapping[str, Belief]
    latched: Sequence[tuple[int, int]]
    quotes: Sequence[Quote]
    clocks: Sequence[WrongClock]
    losses: Sequence[str]
    ends: Sequence[str]

    def sent(self) -> list[WrittenIntent]:
        """The intents whose orders the venue took, by their time."""
        taken = {order.client_id for order in self.orders}
        return sorted(
            (intent for intent in self.intents if not taken.isdisjoint(intent.legs)),
            key=lambda intent: intent.trigger_ns,
        )

    def entries(self) -> list[WrittenIntent]:
        return [intent for intent in self.sent() if not intent.parent]


Violations = Iterator[str]


# ---- intents and orders --------------------------------------------------------------------------


def orders_without_intent(evidence: Evidence) -> Violations:
    """If an order could have reached the venue, its intent is in the journal, and was before."""
    written = {leg: intent.epoch_ns for intent in evidence.intents for leg in intent.legs}
    for order in evidence.orders:
        if order.client_id not in written:
            yield f"the venue took {order.client_id}, of which the journal has no intent"
        elif written[order.client_id] > order.received_ns + CLOCK_SLACK_NS:
            late_us = (written[order.client_id] - order.received_ns) // 1000
            yield f"the intent of {order.client_id} is {late_us} us younger than its order"


def orders_twice(evidence: Evidence) -> Violations:
    """A client id names one order and one intent."""
    for what, ids in (
        ("orders at the venue", [order.client_id for order in evidence.orders]),
        ("intents", [intent.client_id for intent in evidence.intents]),
    ):
        for client_id, count in Counter(ids).items():
            if count > 1:
                yield f"{client_id} has {count} {what}"


def signals_twice(evidence: Evidence) -> Violations:
    """A whale makes one order for each exchange that it pays, whatever was restarted meanwhile: no
    two intents share one of its coins. An intent counts, not only an order: it may have left."""
    by_signal: dict[tuple[str, int], list[WrittenIntent]] = defaultdict(list)
    for intent in evidence.intents:
        if intent.parent:
            continue
        payment = evidence.txids.get(intent.txid)
        if payment is None:
            yield f"{intent.client_id} is for {intent.txid}, which nobody has published"
            continue
        for coin in payment.coins:
            by_signal[intent.exchange, coin].append(intent)
    pairs = {
        tuple(sorted((one.client_id, other.client_id)))
        for intents in by_signal.values()
        for one, other in combinations(intents, 2)
    }
    for one, other in sorted(pairs):
        yield f"{one} and {other} are for the same coins"


# ---- what the engine believes --------------------------------------------------------------------

# engine/order.py's word for each of the venue's (enums.md, "Order status").
STATUS = {
    "NEW": "acked",
    "PARTIALLY_FILLED": "partially-filled",
    "FILLED": "filled",
    "CANCELED": "cancelled",
    "EXPIRED": "expired",
}
NOT_THERE = Belief("rejected", Decimal(0))


def truth(intent: WrittenIntent, orders: Mapping[str, VenueOrder]) -> Belief:
    """What should be believed of an intent. Of a list's legs what was filled decides, then what is
    open, then who ended it."""
    legs = [orders[leg] for leg in intent.legs if leg in orders]
    if not legs:
        return NOT_THERE
    filled = sum((leg.filled for leg in legs), Decimal(0))
    words = [STATUS[leg.status] for leg in legs]
    if filled >= legs[0].quantity:
        return Belief("filled", filled)
    if "acked" in words or "partially-filled" in words:
        return Belief("partially-filled" if filled else "acked", filled)
    return Belief("cancelled" if "cancelled" in words else "expired", filled)


def beliefs_that_are_wrong(evidence: Evidence) -> Violations:
    """The engine's orders equal the ledger's, and those that never came there are refused ones."""
    orders = {order.client_id: order for order in evidence.orders}
    for intent in evidence.intents:
        belief = evidence.beliefs.get(intent.client_id)
        true = truth(intent, orders)
        if belief is None:
            yield f"the engine knows nothing of {intent.client_id}, whose intent it wrote"
        elif belief != true:
            seen = [f"{leg} {orders[leg].status}" for leg in intent.legs if leg in orders]
            yield (
                f"{intent.client_id} is believed {belief.status} with {belief.filled} filled, and "
                f"is {true.status} with {true.filled} filled ({', '.join(seen) or 'never came'})"
            )
    for client_id in evidence.beliefs.keys() - {i.client_id for i in evidence.intents}:
        yield f"the engine believes in {client_id}, of which there is no intent"


def positions_left(evidence: Evidence) -> Violations:
    """What an entry has bought or sold its exits have sold or bought back: all plans here have a
    time stop. What a commission took cannot be sold, nor what it leaves of a step."""
    orders = {order.client_id: order for order in evidence.orders}
    closed: dict[str, Decimal] = defaultdict(Decimal)
    for intent in evidence.intents:
        legs = [orders[leg] for leg in intent.legs if leg in orders]
        if intent.parent:
            closed[intent.parent] += sum((leg.filled for leg in legs), Decimal(0))
    for entry in evidence.entries():
        order, back = orders[entry.client_id], closed[entry.client_id]
        least = order.filled * (1 - COMMISSION) - STEP[order.symbol]
        if evidence.rules[entry.rule or ""].exits and not least < back <= order.filled:
            yield f"{entry.client_id} has filled {order.filled}, and its exits {back}"


# ---- limits, as the ledger shows them ------------------------------------------------------------

WINDOWS = {
    "max_orders_per_second": 1,
    "max_orders_per_minute": 60,
    "max_orders_per_hour": 3600,
    "max_orders_per_day": 86_400,
}


def limits_of_a_run_exceeded(evidence: Evidence) -> Violations:
    most = int(evidence.limits["max_orders"])
    for run, count in Counter(intent.run for intent in evidence.entries()).items():
        if count > most:
            yield f"max_orders is {most}, but run {run[:8]} had {count}"


def rates_exceeded(evidence: Evidence) -> Violations:
    """No window of that length, wherever it begins, has more orders than the limit."""
    times = [intent.trigger_ns for intent in evidence.entries()]
    for name, seconds in WINDOWS.items():
        most = int(evidence.limits[name])
        for first, last in zip(times, times[most:], strict=False):
            if last - first < seconds * NS_PER_S - WINDOW_SLACK_NS:
                yield f"{name} is {most}, but {most + 1} orders left within {last - first} ns"
                break


def cooldowns_broken(evidence: Evidence) -> Violations:
    keys: Mapping[str, Callable[[WrittenIntent], object]] = {
        "cooldown_s": lambda intent: intent.rule,
        "exchange_cooldown_s": lambda intent: intent.exchange,
    }
    for name, key in keys.items():
        least_ns = int(evidence.limits[name]) * NS_PER_S
        for intents in _grouped(evidence.entries(), key):
            for one, other in pairwise(intents):
                apart_ns = other.trigger_ns - one.trigger_ns
                if apart_ns < least_ns - WINDOW_SLACK_NS:
                    yield f"{name}: {one.client_id} and {other.client_id} are {apart_ns} ns apart"


def _grouped(
    intents: Iterable[WrittenIntent], key: Callable[[WrittenIntent], object]
) -> Iterable[list[WrittenIntent]]:
    groups: dict[object, list[WrittenIntent]] = defaultdict(list)
    for intent in intents:
        groups[key(intent)].append(intent)
    return groups.values()


def notionals_exceeded(evidence: Evidence) -> Violations:
    """Of one order, and of all that were ever filled; a run is shorter than a day."""
    entries = {intent.client_id for intent in evidence.entries()}
    spent: dict[str, Decimal] = defaultdict(Decimal)
    for fill in evidence.fills:
        if fill.client_id in entries:
            spent[fill.client_id] += fill.quantity * fill.price
    most, total = (
        Decimal(evidence.limits[name]) for name in ("max_order_notional", "max_total_notional")
    )
    for client_id, notional in spent.items():
        if notional > most * PRICE_SLACK:
            yield f"max_order_notional is {most}, but {client_id} has filled {notional}"
    if sum(spent.values()) > total * PRICE_SLACK:
        yield f"max_total_notional is {total}, but {sum(spent.values())} were filled"


def positions_exceeded(evidence: Evidence) -> Violations:
    """No entry makes a position larger than that. Exits may: what they close is their entry's, and
    other entries may have gone the other way since."""
    most = Decimal(evidence.limits["max_position_notional"])
    entries = {intent.client_id for intent in evidence.entries()}
    net: dict[str, Decimal] = defaultdict(Decimal)
    for fill in evidence.fills:
        before = net[fill.symbol]
        net[fill.symbol] += fill.quantity if fill.side == "BUY" else -fill.quantity
        notional = abs(net[fill.symbol]) * fill.price
        is_larger = fill.client_id in entries and abs(net[fill.symbol]) > abs(before)
        if is_larger and notional > most * PRICE_SLACK:
            yield (
                f"max_position_notional is {most}, but {fill.client_id} has made the position in "
                f"{fill.symbol} {net[fill.symbol]}, {notional}"
            )


def unresolved_exceeded(evidence: Evidence) -> Violations:
    """When an entry is made, fewer than that of the earlier ones are open. The engine must count
    more: those whose end it has not heard, and those that never came."""
    most = int(evidence.limits["max_unresolved"])
    orders = {order.client_id: order for order in evidence.orders}
    entries = evidence.entries()
    for index, entry in enumerate(entries):
        earlier = [orders[other.client_id] for other in entries[:index]]
        still_open = sum(
            order.open_until_ns is None or order.open_until_ns > entry.epoch_ns + CLOCK_SLACK_NS
            for order in earlier
        )
        if still_open >= most:
            yield f"max_unresolved is {most}, but {entry.client_id} left with {still_open} open"


def prices_that_are_stale(evidence: Evidence) -> Violations:
    """An entry needs a price that is not too old."""
    most_ms = int(evidence.limits["max_price_age_ms"])
    for entry in evidence.entries():
        if not list(_known_quotes(evidence, entry, most_ms * 1_000_000)):
            yield f"max_price_age_ms is {most_ms}, but {entry.client_id} left without a price"


def prices_out_of_band(evidence: Evidence) -> Violations:
    """A LIMIT price is near the middle of a price that the engine may have had then."""
    band = Decimal(evidence.limits["price_band_bp"]) / 10_000
    most_ns = int(evidence.limits["max_price_age_ms"]) * 1_000_000
    orders = {order.client_id: order for order in evidence.orders}
    for entry in evidence.entries():
        price = orders[entry.client_id].price
        quotes = list(_known_quotes(evidence, entry, most_ns))
        if price is None or not quotes:
            continue
        if all(abs(price - quote.middle) > band * quote.middle for quote in quotes):
            yield f"price_band_bp is {band * 10_000}, but {entry.client_id} had the price {price}"


def _known_quotes(evidence: Evidence, entry: WrittenIntent, age_ns: int) -> Iterator[Quote]:
    """Those that may have been the engine's last: one that came later has replaced the earlier
    ones, but for those that were on their way."""
    orders = {order.client_id: order for order in evidence.orders}
    symbol, replaced = orders[entry.client_id].symbol, False
    for quote in reversed(evidence.quotes):
        age = entry.trigger_ns - quote.at_ns
        if quote.symbol != symbol or age < 0:
            continue
        if replaced or age > age_ns + PRICE_LATE_NS:
            return
        yield quote
        replaced = age > PRICE_LATE_NS


def orders_by_a_wrong_clock(evidence: Evidence) -> Violations:
    """None is made while the venue's clock is too far from ours."""
    most_ms = int(evidence.limits["max_clock_offset_ms"])
    for clock in evidence.clocks:
        if abs(clock.skew_ms) <= most_ms + CLOCK_SLACK_MS:
            continue
        for entry in evidence.entries():
            if clock.since_ns < entry.trigger_ns < clock.until_ns:
                yield (
                    f"max_clock_offset_ms is {most_ms}, but {entry.client_id} was made with "
                    f"{clock.skew_ms}"
                )


def orders_while_latched(evidence: Evidence) -> Violations:
    """None is made from the moment at which the kill latch was set; not even an exit."""
    for intent in evidence.sent():
        for since_ns, until_ns in evidence.latched:
            if since_ns < intent.trigger_ns < until_ns:
                late_us = (intent.trigger_ns - since_ns) // 1000
                yield f"{intent.client_id} was made {late_us} us after the kill latch was set"


# ---- the last life -------------------------------------------------------------------------------

# What nothing was wrong with: the latch was reset, and a run that says it is ready is.
NO_EXCUSE = frozenset({"killed", "not-ready", "journal", "clock", "price-stale", "feed"})
QUOTE_EVERY_MS = 1_000  # of a market that stands still


def probes_without_verdict(evidence: Evidence) -> Violations:
    """When nothing goes wrong any more the engine trades again, as far as its limits allow."""
    no_excuse = set(NO_EXCUSE)
    if int(evidence.limits["max_price_age_ms"]) < 3 * QUOTE_EVERY_MS:
        no_excuse.remove("price-stale")
    for probe in evidence.probes:
        verdicts = [verdict for txid, verdict in evidence.verdicts if txid == probe]
        if not verdicts:
            yield f"{probe} was published in the last life, and nothing came of it"
        for verdict in no_excuse.intersection(verdicts):
            yield f"{probe} of the last life was refused: {verdict}"


# ---- journal and process -------------------------------------------------------------------------


def journal_losses(evidence: Evidence) -> Violations:
    """A torn tail is none."""
    yield from (f"the journal is damaged: {loss}" for loss in evidence.losses)


def bad_ends(evidence: Evidence) -> Violations:
    yield from evidence.ends


CHECKS: tuple[Callable[[Evidence], Violations], ...] = (
    orders_without_intent,
    orders_twice,
    signals_twice,
    beliefs_that_are_wrong,
    positions_left,
    limits_of_a_run_exceeded,
    rates_exceeded,
    cooldowns_broken,
    notionals_exceeded,
    positions_exceeded,
    unresolved_exceeded,
    prices_that_are_stale,
    prices_out_of_band,
    orders_by_a_wrong_clock,
    orders_while_latched,
    probes_without_verdict,
    journal_losses,
    bad_ends,
)


def violations(evidence: Evidence) -> list[str]:
    """All of them, each with the name of the check that found it."""
    return [f"{check.__name__}: {words}" for check in CHECKS for words in check(evidence)]
