"""The venue's trading rules (filters.md, and heading "Exchange information" of
web-socket-api.md): why it would refuse an order, and numbers that it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_DOWN, ROUND_UP, Context, Decimal, InvalidOperation
from typing import Any

from engine.errors import VenueError
from engine.venues.binance import OrderSpec

# Wide enough that neither a venue's number nor the product of two is ever rounded.
_EXACT = Context(prec=100)
_DIGITS_MOST = 40
_PRECISION_MOST = 18
_TRADING = "TRADING"  # enums.md, "Symbol status"


@dataclass(frozen=True, slots=True)
class Steps:
    """A number from `least` to `most` in multiples of `step`; a rule that is 0 is none."""

    least: Decimal = Decimal(0)
    most: Decimal = Decimal(0)
    step: Decimal = Decimal(0)

    def round(self, number: Decimal, rounding: str) -> Decimal:
        """The next multiple of `step` in that direction (of the decimal module)."""
        if not self.step:
            return number
        times = _EXACT.divide(number, self.step).to_integral_value(rounding, _EXACT)
        return _EXACT.multiply(times, self.step)

    def objection(self, number: Decimal) -> str | None:
        """What is wrong with a number, and the nearest that is right."""
        if number < self.least:
            return f"is below {self.least:f}, the least: raise it"
        if self.most and number > self.most:
            return f"is above {self.most:f}, the most: lower it"
        down = self.round(number, ROUND_DOWN)
        if down == number:
            return None
        up = self.round(number, ROUND_UP)
        return f"is no multiple of {self.step.normalize():f}: write {down:f} or {up:f}"


@dataclass(frozen=True, slots=True)
class Notional:
    """Bounds of price times quantity; 0 of `most`: none."""

    least: Decimal = Decimal(0)
    least_of_market: bool = False
    most: Decimal = Decimal(0)
    most_of_market: bool = False


@dataclass(frozen=True, slots=True)
class PriceBand:
    """A limit price over the average price of late trades; 0 of an upper bound: none."""

    down: Decimal
    up: Decimal


@dataclass(frozen=True, slots=True)
class Filters:
    """The rules of one symbol. What the venue did not send is no rule."""

    symbol: str
    status: str
    base_asset: str
    quote_asset: str
    base_precision: int  # decimals
    quote_precision: int
    order_types: frozenset[str]
    oco_allowed: bool
    lot: Steps
    market_lot: Steps
    price: Steps
    notional: tuple[Notional, ...]  # NOTIONAL and MIN_NOTIONAL, whichever there are
    buy_band: PriceBand | None
    sell_band: PriceBand | None


# ---- reading exchangeInfo ------------------------------------------------------------------------


def parse_exchange_info(result: Mapping[str, Any], symbols: Iterable[str]) -> dict[str, Filters]:
    """The rules of each symbol, from the result of `exchangeInfo`; VenueError when one of them is
    missing or says what the documents do not."""
    entries = result.get("symbols")
    by_name = {
        entry.get("symbol"): entry
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and isinstance(entry.get("symbol"), str)
    }
    found = {}
    for symbol in symbols:
        if symbol not in by_name:
            raise VenueError(
                f"the venue's exchangeInfo does not list {symbol}: check the symbol of the rules"
            )
        try:
            found[symbol] = _filters(symbol, by_name[symbol])
        except _FormError as error:
            raise VenueError(
                f"the venue's exchangeInfo of {symbol} cannot be read ({error}): check that "
                "venue.url is the exchange's WebSocket API"
            ) from None
    return found


class _FormError(Exception):
    """Something is not as documented; the text says what."""


def _filters(symbol: str, entry: Mapping[str, Any]) -> Filters:
    rules = _by_type(entry)
    types = entry.get("orderTypes")
    by_side = rules.get("PERCENT_PRICE_BY_SIDE")
    band = rules.get("PERCENT_PRICE")
    both = _band(band, "multiplierDown", "multiplierUp") if band else None
    return Filters(
        symbol=symbol,
        status=_text(entry, "status"),
        base_asset=_text(entry, "baseAsset"),
        quote_asset=_text(entry, "quoteAsset"),
        base_precision=_precision(entry, "baseAssetPrecision"),
        quote_precision=_precision(entry, "quoteAssetPrecision"),
        order_types=frozenset(map(str, types)) if isinstance(types, list) else frozenset(),
        oco_allowed=entry.get("ocoAllowed") is True,
        lot=_steps(rules.get("LOT_SIZE"), "Qty", "stepSize"),
        market_lot=_steps(rules.get("MARKET_LOT_SIZE"), "Qty", "stepSize"),
        price=_steps(rules.get("PRICE_FILTER"), "Price", "tickSize"),
        notional=tuple(_notionals(rules)),
        buy_band=_band(by_side, "bidMultiplierDown", "bidMultiplierUp") if by_side else both,
        sell_band=_band(by_side, "askMultiplierDown", "askMultiplierUp") if by_side else both,
    )


def _by_type(entry: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    filters = entry.get("filters", [])
    if not isinstance(filters, list) or not all(isinstance(rule, dict) for rule in filters):
        raise _FormError("filters")
    return {str(rule.get("filterType")): rule for rule in filters}


def _steps(rule: Mapping[str, Any] | None, suffix: str, step: str) -> Steps:
    if rule is None:
        return Steps()
    return Steps(
        _decimal(rule, f"min{suffix}"), _decimal(rule, f"max{suffix}"), _decimal(rule, step)
    )


def _notionals(rules: Mapping[str, Mapping[str, Any]]) -> Iterable[Notional]:
    if rule := rules.get("NOTIONAL"):
        yield Notional(
            least=_decimal(rule, "minNotional"),
            least_of_market=rule.get("applyMinToMarket") is True,
            most=_decimal(rule, "maxNotional"),
            most_of_market=rule.get("applyMaxToMarket") is True,
        )
    if rule := rules.get("MIN_NOTIONAL"):
        yield Notional(
            least=_decimal(rule, "minNotional"),
            least_of_market=rule.get("applyToMarket") is True,
        )


def _band(rule: Mapping[str, Any], down: str, up: str) -> PriceBand:
    return PriceBand(_decimal(rule, down), _decimal(rule, up))


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise _FormError(key)
    return value


def _precision(entry: Mapping[str, Any], key: str) -> int:
    value = entry.get(key)
    if type(value) is not int or not 0 <= value <= _PRECISION_MOST:
        raise _FormError(key)
    return value


def _decimal(rule: Mapping[str, Any], key: str) -> Decimal:
    value = rule.get(key)
    try:
        if not isinstance(value, str) or len(value) > _DIGITS_MOST:
            raise InvalidOperation
        number = Decimal(value)
    except InvalidOperation:
        raise _FormError(key) from None
    # An exponent would make a short text a number of any length.
    if not number.is_finite() or number < 0 or abs(number.adjusted()) > _DIGITS_MOST:
        raise _FormError(key)
    return number


# ---- applying them -------------------------------------------------------------------------------


def check(
    spec: OrderSpec, filters: Filters, bid: Decimal | None = None, ask: Decimal | None = None
) -> str | None:
    """Why the venue would refuse this order, with the cure; None when it would take it.

    The venue compares with an average of late prices. Between bid and ask is what we know of it;
    without them the rules that want it are not applied."""
    average = _EXACT.divide(bid + ask, Decimal(2)) if bid is not None and ask is not None else None
    objections: tuple[Callable[[], str | None], ...] = (
        lambda: _objection_to_market(spec, filters),
        lambda: _objection_to_quantity(spec, filters),
        lambda: _objection_to_price(spec, filters, average),
        lambda: _objection_to_notional(spec, filters, average),
    )
    for objection in objections:
        if (words := objection()) is not None:
            return f"the venue would refuse {spec.side} {spec.symbol}: {words}"
    return None


def mistake(spec: OrderSpec, filters: Filters) -> str | None:
    """Why the venue would refuse this order at any price, and however long one waits."""
    return check(spec, replace(filters, status=_TRADING))


def _objection_to_market(spec: OrderSpec, filters: Filters) -> str | None:
    if filters.status != _TRADING:
        return f"its status is {filters.status}: wait until the venue trades it again"
    if filters.order_types and spec.type not in filters.order_types:
        options = ", ".join(sorted(filters.order_types))
        return f"{spec.type} orders are not taken there: choose one of {options}"
    return None


def _objection_to_quantity(spec: OrderSpec, filters: Filters) -> str | None:
    quantity = Decimal(spec.quantity)
    rules = [filters.lot, filters.market_lot] if spec.type == "MARKET" else [filters.lot]
    for rule in rules:
        if (words := rule.objection(quantity)) is not None:
            return f"quantity {spec.quantity} {words}"
    if _decimals(quantity) > filters.base_precision:
        return f"quantity {spec.quantity} has more than {filters.base_precision} decimals: cut it"
    return None


def _objection_to_price(spec: OrderSpec, filters: Filters, average: Decimal | None) -> str | None:
    if spec.price is None:
        return None
    price = Decimal(spec.price)
    if (words := filters.price.objection(price)) is not None:
        return f"price {spec.price} {words}"
    if _decimals(price) > filters.quote_precision:
        return f"price {spec.price} has more than {filters.quote_precision} decimals: cut it"
    band = filters.buy_band if spec.side == "BUY" else filters.sell_band
    if band is None or average is None:
        return None
    low, high = _EXACT.multiply(average, band.down), _EXACT.multiply(average, band.up)
    if price < low:
        return f"price {spec.price} is below {low:f}, the least at today's prices: raise it"
    if band.up and price > high:
        return f"price {spec.price} is above {high:f}, the most at today's prices: lower it"
    return None


def _objection_to_notional(
    spec: OrderSpec, filters: Filters, average: Decimal | None
) -> str | None:
    is_market = spec.price is None
    price = average if spec.price is None else Decimal(spec.price)
    if price is None:
        return None
    amount = _EXACT.multiply(price, Decimal(spec.quantity))
    for rule in filters.notional:
        if amount < rule.least and (rule.least_of_market or not is_market):
            return (
                f"it is worth {amount:f} {filters.quote_asset}, below {rule.least:f}, the least: "
                "raise the quantity"
            )
        if rule.most and amount > rule.most and (rule.most_of_market or not is_market):
            return (
                f"it is worth {amount:f} {filters.quote_asset}, above {rule.most:f}, the most: "
                "lower the quantity"
            )
    return None


def _decimals(number: Decimal) -> int:
    exponent = number.normalize(_EXACT).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
