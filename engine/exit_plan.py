"""How an entry is to be left: its rule's plan, and what the exchange takes."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from engine.order import Order

BASIS_POINTS = Decimal(10_000)


@dataclass(frozen=True, slots=True)
class ExitPlan:
    """When a rule's entries are left: so long after they were sent, at so much profit or so much
    loss (basis points of the entry price). None: not for that reason."""

    after_s: int | None = None
    take_profit_bp: int | None = None
    stop_loss_bp: int | None = None


@dataclass(frozen=True, slots=True)
class Market:
    """What the exchange takes of a symbol (filters.md PRICE_FILTER, LOT_SIZE, NOTIONAL; heading
    "Exchange information", ocoAllowed and orderTypes)."""

    tick_size: Decimal
    step_size: Decimal
    min_quantity: Decimal
    min_notional: Decimal
    oco_allowed: bool = True
    order_types: frozenset[str] = frozenset({"LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS"})


def exit_side(entry: Order) -> str:
    return "SELL" if entry.spec.side == "BUY" else "BUY"


def is_over(entry: Order, plan: ExitPlan, venue_ms: int) -> bool:
    return plan.after_s is not None and venue_ms >= entry.timestamp_ms + plan.after_s * 1000


def targets(entry: Order, plan: ExitPlan, market: Market) -> tuple[Decimal | None, Decimal | None]:
    """The prices at which the plan takes the profit and stops the loss; rounded to the tick size so
    that none is reached too early."""
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
        return ticks * market.tick_size

    return price(plan.take_profit_bp, gain), price(plan.stop_loss_bp, -gain)


def floor(quantity: Decimal, step: Decimal) -> Decimal:
    return (quantity / step).to_integral_value(ROUND_FLOOR) * step
