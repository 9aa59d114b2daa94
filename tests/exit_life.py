"""Entries that are left and exits as the orders have them, for the tests of engine/exits.py."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from order_life import ID, SENT_MS, S

from engine import client_ids
from engine.exit_plan import Bounds, ExitPlan, Market
from engine.exits import Action, Exits, Place
from engine.order import Leg, Order
from engine.venues.binance import OrderSpec

D = Decimal
BOUNDS = Bounds(min_quantity=D("0.00001"), min_notional=D(5))
MARKET = Market(D("0.01"), D("0.00001"), resting=BOUNDS, at_market=BOUNDS)
BOTH = ExitPlan(None, 100, 50)
BUY = OrderSpec("BTCUSDT", "BUY", "LIMIT", "0.01000000", "60000.00", "IOC")
NOBODY_HOLDS = replace(MARKET, oco_allowed=False, order_types=frozenset({"LIMIT", "MARKET"}))


def entry(
    filled: str = "0.01", spec: OrderSpec = BUY, end: str | None = "filled", price: int = 60_000
) -> Order:
    amount = D(filled)
    leg = Leg(ID, D(spec.quantity), 7, True, amount, amount * price, traded=amount, end=end)
    return Order(ID, spec, (leg,), rule="whale", timestamp_ms=SENT_MS, fired=True)


def exit_of(place: Place, status: str, filled: str = "0", **more: Any) -> Order:
    """The exit as the orders have it: `sent`, `acked`, `unknown` or an end, of its first leg."""
    end = status if status not in ("sent", "acked", "unknown") else None
    here = status not in ("sent", "unknown")
    first, *others = client_ids.legs_of(place.client_id)
    other_end = "expired" if end == "filled" else end
    legs = (
        Leg(first, place.quantity, 8, here, filled=D(filled), end=end),
        *(Leg(leg, place.quantity, 9, here, end=other_end) for leg in others),
    )
    spec = OrderSpec(place.symbol, place.side, "MARKET" if place.kind == "m" else "LIMIT", "1")
    return Order(
        place.client_id, spec, legs, place.parent, fired=True, doubt=status == "unknown", **more
    )


def exits(plan: ExitPlan = BOTH, order: Order | None = None, market: Market = MARKET) -> Exits:
    """With a price that is far from every target, and never too old."""
    made = Exits({"whale": plan}, max_price_age_ns=10**18)
    made.set_market("BTCUSDT", market)
    made.on_price("BTCUSDT", D(60_000), D(60_001), 0)
    made.on_order(order or entry())
    return made


def act(made: Exits, second: float = 0) -> Action | None:
    found = made.actions(int(second * S), SENT_MS + int(second * 1000))
    assert len(found) < 2
    return found[0] if found else None


def placed(made: Exits, second: float = 0) -> Place:
    action = act(made, second)
    assert isinstance(action, Place)
    return action
