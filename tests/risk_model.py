"""The risk gate as docs/risk.md describes it, in plain Python: exact, and slow."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from engine.core import Limits, Settlement
from engine.records import Terms

E8 = 10**8
S = 10**9
AMOUNT_MAX = ((1 << 63) - 1) // 4
WINDOWS_NS = {"second": S, "minute": 60 * S, "hour": 3600 * S, "day": 86400 * S}


@dataclass(frozen=True)
class Candidate:
    """An order that wants to leave. `rule` None: no signal is its reason."""

    now_ns: int
    rx_ns: int
    terms: Terms | None
    rule: int | None
    exchange: int
    ready: bool = True
    journal: bool = True
    enabled: bool = True
    doubt: str | None = None
    reduces: bool = False
    live: bool = True
    orders: int = 1  # as the venue counts them


@dataclass
class Market:
    price: tuple[int, int, int] | None = None  # bid, ask, when
    position: int = 0
    # By is_sell; `entered` is what entries have brought, `exiting` what exits may yet close.
    open: dict[bool, int] = field(default_factory=lambda: {False: 0, True: 0})
    entered: dict[bool, int] = field(default_factory=lambda: {False: 0, True: 0})
    exiting: dict[bool, int] = field(default_factory=lambda: {False: 0, True: 0})


@dataclass
class VenueLimit:
    window_ns: int
    limit: int
    used: int
    ours: int
    begin_ns: int


@dataclass
class Gate:
    """`check()` and `count()`, and what the gate is told. Times are ns; amounts 1e-8."""

    limits: Limits
    max_orders: int
    cooldown_ns: int
    markets: list[Market]
    orders: int = 0
    unresolved: int = 0
    clock_ms: int | None = field(init=False)
    pause_until: int = -(1 << 63)
    venue_ahead_ns: int = 0
    left: list[tuple[int, int]] = field(default_factory=list)  # when, notional
    rule_free: dict[int, int] = field(default_factory=dict)
    exchange_free: dict[int, int] = field(default_factory=dict)
    venue: dict[int, VenueLimit] = field(default_factory=dict)
    notional: int = 0  # of the order that was checked last, where a limit needs it

    def __post_init__(self) -> None:
        self.clock_ms = 0 if self.limits.max_clock_offset_ms is None else None

    # ---- the gate -----------------------------------------------------------------------------

    def check(self, o: Candidate) -> str | None:
        """The first limit that refuses, by its name."""
        self.notional = 0
        if not o.ready:
            return "not-ready"
        if not o.journal:
            return "journal"
        if self._venue_refuses(o):
            return "venue-limit"
        if o.reduces:
            return "exit-size" if o.live and o.terms and self._exceeds_entered(o.terms) else None
        if not o.enabled:
            return "filter"
        if self.clock_ms is None or _above(abs(self.clock_ms), self.limits.max_clock_offset_ms):
            return "clock"
        if self.orders >= self.max_orders:
            return "max-orders"
        return self._rates(o) or self._signal(o) or self._exposure(o)

    def _exceeds_entered(self, terms: Terms) -> bool:
        market = self.markets[terms.market]
        closing = market.exiting[terms.is_sell] + terms.quantity_e8
        return closing > market.entered[not terms.is_sell]

    def _rates(self, o: Candidate) -> str | None:
        for name, window_ns in WINDOWS_NS.items():
            most = getattr(self.limits, f"max_orders_per_{name}")
            if most is None:
                continue
            if sum(t > o.now_ns - window_ns for t, _ in self.left) >= most:
                return f"rate-{name}"
        return None

    def _signal(self, o: Candidate) -> str | None:
        if o.rule is None:
            return None
        if o.now_ns < self.rule_free.get(o.rule, o.now_ns):
            return "cooldown"
        if o.now_ns < self.exchange_free.get(o.exchange, o.now_ns):
            return "exchange-cooldown"
        if o.doubt is not None:
            return o.doubt
        if _above(o.now_ns - o.rx_ns, self.limits.max_signal_age_ns):
            return "signal-age"
        return None

    def _exposure(self, o: Candidate) -> str | None:
        if (most := self.limits.max_unresolved) is not None and self.unresolved >= most:
            return "unresolved"
        limits = self.limits
        money = (
            limits.max_order_notional_e8,
            limits.max_total_notional_e8,
            limits.max_position_notional_e8,
            limits.price_band_bp,
        )
        return None if money == (None,) * 4 else self._money(o)

    def _money(self, o: Candidate) -> str | None:
        limits, terms = self.limits, o.terms
        if terms is None:
            return "price-stale"
        market = self.markets[terms.market]
        if terms.price_e8 == 0 or limits.price_band_bp is not None:
            if market.price is None:
                return "price-stale"
            bid, ask, when = market.price
            if _above(o.now_ns - when, limits.max_price_age_ns):
                return "price-stale"
            middle = Fraction(bid + ask, 2)
            off = abs(terms.price_e8 - middle) if terms.price_e8 else Fraction(ask - bid)
            if limits.price_band_bp is not None and off * 10_000 > limits.price_band_bp * middle:
                return "price-band"
        self.notional = -(-terms.quantity_e8 * self._price(terms) // E8)
        if _above(self.notional, limits.max_order_notional_e8):
            return "order-notional"
        today = sum(n for t, n in self.left if t > o.now_ns - WINDOWS_NS["day"])
        if _above(today + self.notional, limits.max_total_notional_e8):
            return "total-notional"
        held = -market.position if terms.is_sell else market.position
        worst = held + market.open[terms.is_sell] + terms.quantity_e8
        if _above(Fraction(worst * self._price(terms), E8), limits.max_position_notional_e8):
            return "position"
        return None

    def _price(self, terms: Terms) -> int:
        price = self.markets[terms.market].price
        if terms.price_e8:
            bid = price[0] if price and terms.is_sell else 0
            return max(terms.price_e8, bid)
        assert price is not None
        far = price[0] if terms.is_sell else price[1]
        return -(-far * (10_000 + (self.limits.price_band_bp or 0)) // 10_000)

    def _venue_refuses(self, o: Candidate) -> bool:
        if o.now_ns < self.pause_until:
            return True
        for limit in self.venue.values():
            self._roll(limit, o.now_ns)
            kept = 0 if o.reduces else limit.limit * self.limits.venue_headroom_percent
            if limit.used + o.orders > limit.limit - -(-kept // 100):
                return True
        return False

    def _roll(self, limit: VenueLimit, now_ns: int) -> None:
        begin = (now_ns + self.venue_ahead_ns) // limit.window_ns * limit.window_ns
        if begin != limit.begin_ns:
            limit.begin_ns, limit.used, limit.ours = begin, 0, 0

    def count(self, o: Candidate) -> None:
        """What was checked last leaves."""
        self.left.append((o.now_ns, self.notional))
        for limit in self.venue.values():
            limit.used += o.orders
            limit.ours += o.orders
        if o.live and o.terms is not None:
            market = self.markets[o.terms.market]
            market.open[o.terms.is_sell] += o.terms.quantity_e8
            market.exiting[o.terms.is_sell] += o.terms.quantity_e8 if o.reduces else 0
        if o.live and not o.reduces:
            self.unresolved += 1
        if not o.reduces:
            self.orders += 1
            self._cool(o.now_ns, o.rule, o.exchange)

    def _cool(self, t_ns: int, rule: int | None, exchange: int | None) -> None:
        if rule is not None:
            until = t_ns + self.cooldown_ns
            self.rule_free[rule] = max(until, self.rule_free.get(rule, until))
        if exchange is not None:
            until = t_ns + self.limits.exchange_cooldown_ns
            self.exchange_free[exchange] = max(until, self.exchange_free.get(exchange, until))

    # ---- what it is told: whether it takes it ---------------------------------------------------

    def price(self, market: int, bid: int, ask: int, when: int, now: int) -> bool:
        if market >= len(self.markets) or not 0 < bid <= ask <= AMOUNT_MAX or when > now:
            return False
        self.markets[market].price = bid, ask, when
        return True

    def venue_clock(self, ahead_ns: int) -> None:
        if self.clock_ms is not None or self.venue_ahead_ns == 0:
            self.venue_ahead_ns = ahead_ns

    def expose(self, s: Settlement) -> bool:
        market = self.markets[s.market]
        market.open[s.is_sell] += s.quantity_e8
        if s.reduces:
            market.exiting[s.is_sell] += s.quantity_e8
            market.entered[not s.is_sell] += s.quantity_e8
        self.unresolved += _resolves(s)
        return True

    def settle(self, s: Settlement) -> bool:
        market = self.markets[s.market]
        if market.open[s.is_sell] < s.quantity_e8 or (_resolves(s) and not self.unresolved):
            return False
        if s.reduces and market.exiting[s.is_sell] < s.quantity_e8:
            return False
        if s.reduces:
            market.exiting[s.is_sell] -= s.quantity_e8
            left = market.entered[not s.is_sell] - min(s.filled_e8, s.quantity_e8)
            market.entered[not s.is_sell] = max(0, left)
        else:
            market.entered[s.is_sell] += s.filled_e8
        market.open[s.is_sell] -= s.quantity_e8
        market.position += -s.filled_e8 if s.is_sell else s.filled_e8
        self.unresolved -= _resolves(s)
        return True

    def past(
        self, t_ns: int, now_ns: int, notional: int, rule: int | None, exchange: int | None
    ) -> bool:
        self.left.append((min(t_ns, now_ns), notional))
        self._cool(min(t_ns, now_ns), rule, exchange)
        return True

    def venue_limit(self, index: int, window_ms: int, limit: int, used: int, now: int) -> bool:
        if window_ms == 0:
            return False
        old = self.venue.get(index)
        if old is None or old.window_ns != window_ms * 10**6:
            old = VenueLimit(window_ms * 10**6, limit, 0, 0, -(1 << 63))
        self._roll(old, now)
        old.limit = limit
        old.used = max(used, old.ours)
        self.venue[index] = old
        return True


def _above(value: Fraction | int, most: int | None) -> bool:
    return most is not None and value > most


def _resolves(s: Settlement) -> bool:
    """An exit is not counted, and quantity 0 is a correction of what was settled before, or an
    order of a former run of which nobody knows what it was."""
    return not s.reduces and s.quantity_e8 > 0
