"""What is held, and what was earned: positions and realised profit per symbol, from fills.

The average-cost method: a fill in the position's direction adds to its cost, one against it
realises the difference to the cost of what it closes, and one through zero does both. Nothing is
lost to rounding: `realised - cost` is the sum of all that was received and paid.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Context, Decimal, localcontext

from engine.lifecycle import Fill
from engine.venues.binance_events import ZERO

TRADES_KEPT = 10_000  # of a symbol; engine/lifecycle.py lets nothing through that comes later
_EXACT = Context(prec=80)
_GRAIN = Decimal("1e-30")  # of what a division splits: sums of such parts are exact


@dataclass(frozen=True, slots=True)
class Position:
    """`net` is the quantity in the base asset, negative when more was sold than bought. `cost` is
    what it cost in the quote asset, negative what its sale brought. `realised` is profit in the
    quote asset. A fee in the base asset makes `net` smaller, one in the quote asset `realised`;
    `fees` has all by asset, also those in a third one, which are in no other figure. Of
    `unknown_fees` fills the commission is not known."""

    symbol: str
    net: Decimal = ZERO
    cost: Decimal = ZERO
    realised: Decimal = ZERO
    fees: Mapping[str, Decimal] = field(default_factory=dict)
    unknown_fees: int = 0

    @property
    def average(self) -> Decimal | None:
        """The mean entry price; None when flat."""
        return _EXACT.divide(self.cost, self.net) if self.net else None

    def as_json(self) -> dict[str, object]:
        average = self.average
        return {
            "symbol": self.symbol,
            "net": f"{self.net:f}",
            "average": None if average is None else f"{average:.8f}",
            "realised": f"{self.realised:.8f}",
            "fees": {asset: f"{fee:f}" for asset, fee in self.fees.items()},
            "unknown_fees": self.unknown_fees,
        }


class Positions:
    """The positions of all symbols. Each trade of an order counts once: one between two of ours
    has one id for both."""

    def __init__(self) -> None:
        self._positions: dict[str, Position] = {}
        self._seen: dict[str, OrderedDict[tuple[int, str], None]] = {}

    def all(self) -> list[Position]:
        return list(self._positions.values())

    def of(self, symbol: str) -> Position:
        return self._positions.get(symbol) or Position(symbol)

    def add(self, fill: Fill) -> Position:
        """The symbol's position with this fill in it."""
        if fill.trade_id is not None and not self._is_new(fill, fill.trade_id):
            return self.of(fill.symbol)
        position = self._positions[fill.symbol] = after(self.of(fill.symbol), fill)
        return position

    def _is_new(self, fill: Fill, trade_id: int) -> bool:
        seen = self._seen.setdefault(fill.symbol, OrderedDict())
        key = (trade_id, fill.client_id)
        if key in seen:
            return False
        seen[key] = None
        if len(seen) > TRADES_KEPT:
            seen.popitem(last=False)
        return True


def after(position: Position, fill: Fill) -> Position:
    """The position behind one more fill."""
    with localcontext(_EXACT):
        bought = fill.side == "BUY"
        base = fill.quantity if bought else -fill.quantity
        quote = -fill.quote if bought else fill.quote
        fees = dict(position.fees)
        fee, asset = fill.commission, fill.commission_asset
        if asset is not None:
            fees[asset] = fees.get(asset, ZERO) + fee
        if is_base(fill.symbol, asset):
            base -= fee
        moved = _moved(position, base, quote)
        return replace(
            moved,
            realised=moved.realised - (fee if is_quote(fill.symbol, asset) else ZERO),
            fees=fees,
            unknown_fees=position.unknown_fees + (asset is None),
        )


def _moved(position: Position, base: Decimal, quote: Decimal) -> Position:
    """`base` and `quote` came in (or went, below zero)."""
    net, cost = position.net, position.cost
    if not base:
        return replace(position, realised=position.realised + quote)
    if net * base >= 0:
        return replace(position, net=net + base, cost=cost - quote)
    if abs(base) <= abs(net):  # closes some of it
        closed_cost, closed_quote = (cost * base / -net).quantize(_GRAIN), quote
    else:  # closes all of it, and opens the other side with the rest
        closed_cost, closed_quote = cost, (quote * net / -base).quantize(_GRAIN)
    if abs(base) == abs(net):
        closed_cost = cost
    return replace(
        position,
        net=net + base,
        cost=cost - closed_cost - (quote - closed_quote),
        realised=position.realised + closed_quote - closed_cost,
    )


def is_base(symbol: str, asset: str | None) -> bool:
    """A symbol is its base asset's name and its quote asset's, and a commission is in one of them
    or in a third."""
    return asset is not None and symbol.startswith(asset) and not symbol.endswith(asset)


def is_quote(symbol: str, asset: str | None) -> bool:
    return asset is not None and symbol.endswith(asset)
