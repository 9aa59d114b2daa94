"""Which of the rules' orders may leave now. Exits are not asked: they leave what is open while no
entry may be made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from engine.prices import Price
from engine.venues.binance import OrderSpec
from engine.venues.binance_filters import Filters, check, mistake

E8 = Decimal(10) ** 8


class Entries:
    """The order templates, by their numbers: an order that the venue would refuse is not armed, and
    none is before open(). `enable(number, yes)` tells the engine, in which all are enabled at
    first."""

    def __init__(
        self,
        specs: Sequence[OrderSpec],
        enable: Callable[[int, bool], None],
        notice: Callable[[str], None],
    ) -> None:
        self._specs = specs
        self._enable = enable
        self._notice = notice
        self._filters: Mapping[str, Filters] = {}
        self._prices: Mapping[str, Price] = {}
        self._objections = [""] * len(specs)
        self._enabled = [True] * len(specs)
        self._is_open = False

    def open(self) -> None:
        self._is_open = True
        self.look(self._prices)

    def on_filters(self, filters: Mapping[str, Filters]) -> None:
        self._filters = filters
        self.look(self._prices)

    def mistakes(self) -> list[tuple[int, str]]:
        """Orders that the venue would refuse whatever happens, and why."""
        return [
            (number, words)
            for number, spec in enumerate(self._specs)
            if (filters := self._filters.get(spec.symbol)) and (words := mistake(spec, filters))
        ]

    def look(self, prices: Mapping[str, Price]) -> None:
        """Whether that is still so with the last prices, by symbol."""
        self._prices = prices
        for number, spec in enumerate(self._specs):
            before, now = self._objections[number], self._objection(spec)
            if bool(before) != bool(now):
                self._notice(now or f"the venue takes rule {number + 1}'s order again")
            self._objections[number] = now
            enabled = self._is_open and not now
            if enabled != self._enabled[number]:
                self._enabled[number] = enabled
                self._enable(number, enabled)

    def _objection(self, spec: OrderSpec) -> str:
        """ "" when the venue would take it, as far as we know."""
        filters = self._filters.get(spec.symbol)
        if filters is None:
            return ""
        price = self._prices.get(spec.symbol)
        if price is None:
            return check(spec, filters) or ""
        return check(spec, filters, price.bid_e8 / E8, price.ask_e8 / E8) or ""
