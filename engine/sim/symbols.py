"""The simulated exchange's markets: what a symbol is, and what `exchangeInfo` says about it.

Comments name the headings of binance-spot-api-docs: filters.md unless another file is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from engine.sim.request import eight

ORDER_TYPES = (  # enums.md, "Order types"
    "LIMIT",
    "LIMIT_MAKER",
    "MARKET",
    "STOP_LOSS",
    "STOP_LOSS_LIMIT",
    "TAKE_PROFIT",
    "TAKE_PROFIT_LIMIT",
)


@dataclass(frozen=True)
class Symbol:
    """A market and its filters. The least quantity is one step, the least price one tick.

    Averages are over 0 minutes, which by the filters' own words means the last price.
    """

    name: str
    base: str
    quote: str
    first_price: Decimal
    tick_size: Decimal
    max_price: Decimal
    step_size: Decimal
    max_qty: Decimal
    market_max_qty: Decimal
    level_qty: Decimal  # about what the market maker shows at each price
    min_notional: Decimal = Decimal(5)
    max_notional: Decimal = Decimal(9_000_000)
    multiplier_up: Decimal = Decimal(5)  # of PERCENT_PRICE_BY_SIDE, the same for both sides
    multiplier_down: Decimal = Decimal("0.2")
    max_num_orders: int = 200

    def allows_price(self, price: Decimal) -> bool:
        """PRICE_FILTER"""
        return self.tick_size <= price <= self.max_price and not price % self.tick_size

    def allows_quantity(self, quantity: Decimal) -> bool:
        """LOT_SIZE"""
        return self.step_size <= quantity <= self.max_qty and not quantity % self.step_size


def _usdt(
    base: str, price: str, max_price: str, step: str, max_qty: str, market_max_qty: str, level: str
) -> Symbol:
    return Symbol(
        name=base + "USDT",
        base=base,
        quote="USDT",
        first_price=Decimal(price),
        tick_size=Decimal("0.01"),
        max_price=Decimal(max_price),
        step_size=Decimal(step),
        max_qty=Decimal(max_qty),
        market_max_qty=Decimal(market_max_qty),
        level_qty=Decimal(level),
    )


SYMBOLS: dict[str, Symbol] = {
    symbol.name: symbol
    for symbol in (
        _usdt("BTC", "60000.00", "1000000", "0.00001", "9000", "120", "1"),
        _usdt("ETH", "3000.00", "1000000", "0.0001", "9000", "2400", "20"),
        _usdt("SOL", "150.00", "10000", "0.001", "90000", "45000", "400"),
    )
}


# ---- web-socket-api.md, "Exchange information" ---------------------------------------------------


def describe(symbol: Symbol, permission_sets: bool) -> dict[str, Any]:
    """The symbol's row of `exchangeInfo`."""
    return {
        "symbol": symbol.name,
        "status": "TRADING",
        "baseAsset": symbol.base,
        "baseAssetPrecision": 8,
        "quoteAsset": symbol.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": list(ORDER_TYPES),
        "icebergAllowed": False,
        "ocoAllowed": True,
        "otoAllowed": True,
        "opoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": True,
        "amendAllowed": False,
        "pegInstructionsAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": _filters(symbol),
        "permissions": [],
        "permissionSets": [["SPOT"]] if permission_sets else [],
        "defaultSelfTradePreventionMode": "NONE",
        "allowedSelfTradePreventionModes": ["NONE"],
    }


def _filters(symbol: Symbol) -> list[Mapping[str, Any]]:
    lot = {"minQty": eight(symbol.step_size), "stepSize": eight(symbol.step_size)}
    return [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": eight(symbol.tick_size),
            "maxPrice": eight(symbol.max_price),
            "tickSize": eight(symbol.tick_size),
        },
        {"filterType": "LOT_SIZE", **lot, "maxQty": eight(symbol.max_qty)},
        {"filterType": "MARKET_LOT_SIZE", **lot, "maxQty": eight(symbol.market_max_qty)},
        {
            "filterType": "PERCENT_PRICE_BY_SIDE",
            "bidMultiplierUp": str(symbol.multiplier_up),
            "bidMultiplierDown": str(symbol.multiplier_down),
            "askMultiplierUp": str(symbol.multiplier_up),
            "askMultiplierDown": str(symbol.multiplier_down),
            "avgPriceMins": 0,
        },
        {
            "filterType": "NOTIONAL",
            "minNotional": eight(symbol.min_notional),
            "applyMinToMarket": True,
            "maxNotional": eight(symbol.max_notional),
            "applyMaxToMarket": True,
            "avgPriceMins": 0,
        },
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": symbol.max_num_orders},
    ]
