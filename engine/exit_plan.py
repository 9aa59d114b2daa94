"""How an entry is to be left: its rule's plan, and what the exchange takes."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from engine import client_ids
from engine.order import Order
from engine.venues.binance_events import ZERO

BASIS_POINTS = Decimal(10_000)
COMMISSION, COMMISSION_MOST = Decimal("0.001"), Decimal("0.01")


@dataclass(frozen=True, slots=True)
class ExitPlan:
    """When a rule's entries are left: so long after they were sent, at so much profit or so much
    loss (basis points of the entry price). None: not for that reason."""

    after_s: int | None = None
    take_profit_bp: int | None = None
    stop_loss_bp: int | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of an order's quantity, and of its price times that; a most that is 0 is none."""

    min_quantity: Decimal = ZERO
    max_quantity: Decimal = ZERO
    min_notional: Decimal = ZERO
    max_notional: Decimal = ZERO

    def cut(self, quantity: Decimal, step: Decimal, low: Decimal, high: Decimal) -> Decimal:
        """As much of it as one order may have, at a price from `low` to `high`; 0 when that is too
        little for one."""
        if self.max_quantity:
            quantity = min(quantity, self.max_quantity)
        if self.max_notional and high:
            quantity = min(quantity, self.max_notional / high)
        quantity = floor(quantity, step)
        enough = quantity >= self.min_quantity and quantity * low >= self.min_notional
        return quantity if enough else ZERO


@dataclass(frozen=True, slots=True)
class Market:
    """What the exchange takes of a symbol (filters.md PRICE_FILTER, LOT_SIZE, MARKET_LOT_SIZE,
    NOTIONAL; heading "Exchange information", ocoAllowed and orderTypes)."""

    tick_size: Decimal
    step_size: Decimal
    resting: Bounds
    at_market: Bounds
    oco_allowed: bool = True
    order_types: frozenset[str] = frozenset({"LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS"})


def exit_side(entry: Order) -> str:
    return "SELL" if entry.spec.side == "BUY" else "BUY"


def is_over(entry: Order, plan: ExitPlan, venue_ms: int) -> bool:
    return plan.after_s is not None and venue_ms >= entry.timestamp_ms + plan.after_s * 1000


def targets(entry: Order, plan: ExitPlan, market: Market) -> tuple[Decimal | None, Decimal | None]:
    """The prices at which the plan takes the profit and stops the loss; rounded to the tick size so
    that none is reached too early. None also for one that no price can reach."""
    average = entry.average
    if average is None:
        return None, None
    gain = 1 if entry.spec.side == "BUY" else -1

    def price(bp: int | None, sign: int) -> Decimal | None:
        if bp is None:
            return None
        wanted = average * (1 + sign * bp / BASIS_POINTS)
        rounding = ROUND_CEILING if sign > 0 else ROUND_FLOOR
        ticks = (wanted / market.tick_size).to_integral_value(rounding)
        return ticks * market.tick_size if ticks > 0 else None

    return price(plan.take_profit_bp, gain), price(plan.stop_loss_bp, -gain)


def resting_kind(take: Decimal | None, stop: Decimal | None, market: Market) -> str | None:
    """The order of the venue that waits for these prices; None where it has none such."""
    if take is not None and stop is not None:
        able = market.oco_allowed and {"LIMIT_MAKER", "STOP_LOSS"} <= market.order_types
        return client_ids.OCO if able else None
    if take is not None:
        return client_ids.TAKE_PROFIT if "LIMIT" in market.order_types else None
    if stop is not None:
        return client_ids.STOP_LOSS if "STOP_LOSS" in market.order_types else None
    return None


def shortfall(brought: Decimal, step: Decimal, refusals: int) -> Decimal:
    """What not to sell of it after so many refusals for want of balance: a commission may have
    been taken that nobody has told. Much more than that is no commission, and may come back."""

    def part(share: Decimal) -> Decimal:
        return max(floor(brought * share, step), step)

    return min(refusals * part(COMMISSION), part(COMMISSION_MOST))


def floor(quantity: Decimal, step: Decimal) -> Decimal:
    return (quantity / step).to_integral_value(ROUND_FLOOR) * step
