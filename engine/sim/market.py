"""The market behind the simulated exchange: trades of others, from a CSV file."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True)
class MarketTrade:
    """A trade between others; `side` is the taker's, None when it is not known."""

    time_ms: int
    symbol: str
    price: Decimal
    quantity: Decimal
    side: str | None = None
