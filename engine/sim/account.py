"""The simulated exchange's one account: what it owns, what its open orders keep locked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal
from typing import Any

from engine.sim.orders import ZERO, Fill, Order
from engine.sim.request import eight

COMMISSION_RATE = Decimal("0.001")  # of every trade, in the asset that is received
ATOM = Decimal("0.00000001")
# Enough for any test that does not care.
BALANCES = {
    "BTC": Decimal(100_000),
    "ETH": Decimal(1_000_000),
    "SOL": Decimal(10_000_000),
    "USDT": Decimal(10_000_000_000),
}


@dataclass(eq=False)
class Hold:
    """What open orders keep of one asset. The two orders of an OCO share one: whichever trades, the
    other cannot any more, so the larger need is enough for both."""

    asset: str
    orders: list[Order]
    amount: Decimal = field(default=ZERO)

    @property
    def need(self) -> Decimal:
        return max(order.locks for order in self.orders)


class Account:
    """Balances by asset. `changed` are the assets that have moved since it was last emptied."""

    def __init__(self, balances: Mapping[str, Decimal]) -> None:
        self._total = defaultdict(Decimal, balances)
        self._locked: dict[str, Decimal] = defaultdict(Decimal)
        self.changed: set[str] = set()
        self.updated_ms = 0

    def free(self, asset: str) -> Decimal:
        return self._total[asset] - self._locked[asset]

    def locked(self, asset: str) -> Decimal:
        return self._locked[asset]

    def assets(self) -> list[str]:
        return sorted(self._total)

    def adjust(self, hold: Hold) -> None:
        """Lock for `hold` what its orders need now, no more and no less."""
        need = hold.need
        self._locked[hold.asset] += need - hold.amount
        hold.amount = need
        self.changed.add(hold.asset)

    def settle(self, order: Order, fill: Fill) -> None:
        """Pay for a trade and take its proceeds, less the commission."""
        quote = fill.price * fill.quantity
        paid, received = (quote, fill.quantity) if order.is_buy else (fill.quantity, quote)
        self._total[order.pays_with] -= paid
        self._total[order.receives] += received - fill.commission
        self.changed |= {order.pays_with, order.receives}


def commission(order: Order, price: Decimal, quantity: Decimal) -> Decimal:
    """What a trade costs the order's side, in the asset that it receives."""
    received = quantity if order.is_buy else price * quantity
    return (received * COMMISSION_RATE).quantize(ATOM, ROUND_DOWN)


def describe(account: Account, omit_zero: bool) -> dict[str, Any]:
    """web-socket-api.md, "Account information (USER_DATA)"."""
    rate = eight(COMMISSION_RATE)
    nothing = eight(ZERO)
    basis_points = int(COMMISSION_RATE * 10_000)
    balances = [
        {"asset": asset, "free": eight(free), "locked": eight(locked)}
        for asset in account.assets()
        for free, locked in [(account.free(asset), account.locked(asset))]
        if free or locked or not omit_zero
    ]
    return {
        "makerCommission": basis_points,
        "takerCommission": basis_points,
        "buyerCommission": 0,
        "sellerCommission": 0,
        "canTrade": True,
        "canWithdraw": True,
        "canDeposit": True,
        "commissionRates": {"maker": rate, "taker": rate, "buyer": nothing, "seller": nothing},
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "updateTime": account.updated_ms,
        "accountType": "SPOT",
        "balances": balances,
        "permissions": ["SPOT"],
        "uid": 1,
    }
