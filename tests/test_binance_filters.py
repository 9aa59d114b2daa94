"""The venue's trading rules: what it would refuse, and numbers that it takes."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import VenueError
from engine.venues.binance import OrderSpec
from engine.venues.binance_filters import (
    Filters,
    check,
    parse_exchange_info,
)

# The rules of BTCUSDT as the venue sends them; a rule that it does not have is 0.
BTCUSDT: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "status": "TRADING",
    "baseAsset": "BTC",
    "baseAssetPrecision": 8,
    "quoteAsset": "USDT",
    "quotePrecision": 8,
    "quoteAssetPrecision": 8,
    "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT"],
    "ocoAllowed": True,
    "filters": [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": "0.01000000",
            "maxPrice": "1000000.00000000",
            "tickSize": "0.01000000",
        },
        {
            "filterType": "LOT_SIZE",
            "minQty": "0.00001000",
            "maxQty": "9000.00000000",
            "stepSize": "0.00001000",
        },
        {"filterType": "ICEBERG_PARTS", "limit": 10},
        {
            "filterType": "MARKET_LOT_SIZE",
            "minQty": "0.00000000",
            "maxQty": "120.50000000",
            "stepSize": "0.00000000",
        },
        {
            "filterType": "PERCENT_PRICE_BY_SIDE",
            "bidMultiplierUp": "1.2",
            "bidMultiplierDown": "0.2",
            "askMultiplierUp": "5",
            "askMultiplierDown": "0.8",
            "avgPriceMins": 5,
        },
        {
            "filterType": "NOTIONAL",
            "minNotional": "5.00000000",
            "applyMinToMarket": True,
            "maxNotional": "9000000.00000000",
            "applyMaxToMarket": False,
            "avgPriceMins": 5,
        },
        {"filterType": "SOMETHING_NEW", "limit": "x"},
    ],
}
BID, ASK = Decimal("59999"), Decimal("60001")


def filters_of(entry: dict[str, Any]) -> Filters:
    return parse_exchange_info({"symbols": [entry]}, ["BTCUSDT"])["BTCUSDT"]


def without(*names: str) -> dict[str, Any]:
    entry = copy.deepcopy(BTCUSDT)
    entry["filters"] = [rule for rule in entry["filters"] if rule["filterType"] not in names]
    return entry


def limit(quantity: str, price: str, side: str = "SELL") -> OrderSpec:
    return OrderSpec("BTCUSDT", side, "LIMIT", quantity, price, "GTC")


def market(quantity: str, side: str = "SELL") -> OrderSpec:
    return OrderSpec("BTCUSDT", side, "MARKET", quantity)


RULES = filters_of(BTCUSDT)


@pytest.mark.parametrize(
    "spec",
    [
        limit("0.00100000", "60000.00"),
        limit("0.0002", "48000.00"),
        limit("0.0005", "12000", "BUY"),
        limit("0.0001", "300000"),
        market("0.001"),
        market("120.5"),
    ],
)
def test_what_the_venue_would_take(spec: OrderSpec) -> None:
    assert check(spec, RULES, BID, ASK) is None


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (limit("0.000001", "60000"), "quantity 0.000001 is below 0.00001000, the least: raise it"),
        (limit("9000.1", "60000"), "quantity 9000.1 is above 9000.00000000, the most: lower it"),
        (limit("0.001005", "60000"), "quantity 0.001005 is no multiple of 0.00001: write 0.001"),
        (market("120.6"), "quantity 120.6 is above 120.50000000, the most"),
        (market("0.001005"), "quantity 0.001005 is no multiple of 0.00001"),
        (limit("0.001", "60000.005"), "price 60000.005 is no multiple of 0.01: write 60000.00"),
        (limit("0.001", "0.001"), "price 0.001 is below 0.01000000, the least"),
        (limit("0.001", "1000000.01"), "price 1000000.01 is above 1000000.00000000, the most"),
        (limit("0.001", "47999.99"), "price 47999.99 is below 48000.0, the least at today's"),
        (limit("0.001", "300000.01"), "price 300000.01 is above 300000, the most at today's"),
        (limit("0.001", "72000.01", "BUY"), "price 72000.01 is above 72000.0, the most at today's"),
        (limit("0.001", "11999.99", "BUY"), "price 11999.99 is below 12000.0, the least at today"),
        (limit("0.00008", "60000"), "it is worth 4.80000 USDT, below 5.00000000, the least"),
        (limit("200", "60000"), "it is worth 12000000 USDT, above 9000000.00000000, the most"),
        (market("0.00008"), "it is worth 4.80000 USDT, below 5.00000000, the least: raise the"),
        (OrderSpec("BTCUSDT", "BUY", "TAKE_PROFIT", "1"), "TAKE_PROFIT orders are not taken there"),
    ],
)
def test_what_the_venue_would_refuse(spec: OrderSpec, words: str) -> None:
    said = check(spec, RULES, BID, ASK)
    assert said is not None
    assert said.startswith(f"the venue would refuse {spec.side} BTCUSDT: ")
    assert words in said


def test_without_prices_the_rules_that_want_one_are_not_applied() -> None:
    assert check(limit("0.001", "1000"), RULES) is not None  # worth 1 USDT
    assert check(limit("0.1", "1000"), RULES) is None
    assert check(market("0.00001"), RULES) is None


def test_a_market_that_is_halted() -> None:
    said = check(market("0.001"), filters_of({**BTCUSDT, "status": "HALT"}), BID, ASK)
    assert said is not None
    assert "its status is HALT: wait" in said


def test_rules_that_are_missing_are_none() -> None:
    bare = filters_of({**BTCUSDT, "filters": [], "orderTypes": []})
    assert check(limit("0.00000001", "0.00000001"), bare, BID, ASK) is None
    said = check(limit("0.000000001", "1"), bare, BID, ASK)
    assert said is not None
    assert "more than 8 decimals" in said


def test_the_older_forms_of_two_rules() -> None:
    entry = without("PERCENT_PRICE_BY_SIDE", "NOTIONAL")
    entry["filters"] += [
        {
            "filterType": "PERCENT_PRICE",
            "multiplierUp": "1.3",
            "multiplierDown": "0.7",
            "avgPriceMins": 5,
        },
        {
            "filterType": "MIN_NOTIONAL",
            "minNotional": "10",
            "applyToMarket": False,
            "avgPriceMins": 5,
        },
    ]
    rules = filters_of(entry)
    for side in ("BUY", "SELL"):
        assert "most at today" in (check(limit("1", "78000.01", side), rules, BID, ASK) or "")
        assert "least at today" in (check(limit("1", "41999.99", side), rules, BID, ASK) or "")
        assert check(limit("1", "78000", side), rules, BID, ASK) is None
    assert "below 10, the least" in (check(limit("0.0001", "60000"), rules, BID, ASK) or "")
    assert check(market("0.0001"), rules, BID, ASK) is None


def test_bounds_that_are_switched_off() -> None:
    entry = without("PRICE_FILTER", "PERCENT_PRICE_BY_SIDE", "NOTIONAL")
    off = {"minPrice": "0.00", "maxPrice": "0.00", "tickSize": "0"}
    entry["filters"].append({"filterType": "PRICE_FILTER", **off})
    assert check(limit("1", "0.00000001"), filters_of(entry), BID, ASK) is None
    assert check(limit("1", "99999999"), filters_of(entry), BID, ASK) is None


# ---- reading -------------------------------------------------------------------------------------


def test_what_is_read() -> None:
    assert (RULES.base_asset, RULES.quote_asset) == ("BTC", "USDT")
    assert (RULES.base_precision, RULES.quote_precision) == (8, 8)
    assert RULES.oco_allowed
    assert "STOP_LOSS_LIMIT" in RULES.order_types


def test_a_symbol_that_is_not_listed() -> None:
    with pytest.raises(VenueError, match="does not list XRPUSDT: check the symbol"):
        parse_exchange_info({"symbols": [BTCUSDT]}, ["BTCUSDT", "XRPUSDT"])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("status",), None),
        (("baseAsset",), ""),
        (("baseAssetPrecision",), "8"),
        (("quoteAssetPrecision",), 99),
        (("filters",), {}),
        (("filters", 0), "PRICE_FILTER"),
        (("filters", 0, "tickSize"), "x"),
        (("filters", 0, "tickSize"), 0.01),
        (("filters", 0, "tickSize"), "NaN"),
        (("filters", 1, "stepSize"), "-1"),
        (("filters", 1, "minQty"), "1e999999"),
        (("filters", 3, "maxQty"), "9" * 1000),
        (("filters", 5, "minNotional"), None),
    ],
)
def test_what_the_documents_do_not_say(path: tuple[Any, ...], value: Any) -> None:
    entry = copy.deepcopy(BTCUSDT)
    holder = entry
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = value
    with pytest.raises(VenueError, match="of BTCUSDT cannot be read"):
        filters_of(entry)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(data=st.data())
def test_whatever_the_venue_sends_is_rules_or_an_error(data: st.DataObject) -> None:
    """Something of it is replaced."""
    entry = copy.deepcopy(BTCUSDT)
    holder: Any = entry
    if data.draw(st.booleans()):
        holder = data.draw(st.sampled_from(entry["filters"]))
    holder[data.draw(st.sampled_from(sorted(holder)))] = data.draw(anything)
    symbols = data.draw(st.just([entry]) | anything)
    try:
        rules = parse_exchange_info({"symbols": symbols}, ["BTCUSDT"])["BTCUSDT"]
    except VenueError:
        return
    check(limit("0.001", "60000"), rules, BID, ASK)
