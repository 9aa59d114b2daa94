"""engine.positions: against cash-flow accounting, which knows no average price."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from engine.lifecycle import Fill
from engine.positions import TRADES_KEPT, Position, Positions


def fill(
    number: int | None,
    side: str,
    quantity: str,
    price: str,
    fee: str = "0",
    asset: str | None = "USDT",
    symbol: str = "BTCUSDT",
) -> Fill:
    q, p = Decimal(quantity), Decimal(price)
    return Fill("hp", symbol, side, number, p, q, q * p, Decimal(fee), asset)


def held(*fills: Fill) -> Position:
    positions = Positions()
    for each in fills:
        positions.add(each)
    return positions.of("BTCUSDT")


def test_a_round_trip_earns_the_difference_less_fees() -> None:
    position = held(
        fill(1, "SELL", "0.01", "60000", "0.6"), fill(2, "BUY", "0.01", "59000", "0.59")
    )
    assert (position.net, position.cost, position.average) == (0, 0, None)
    assert position.realised == Decimal("10") - Decimal("1.19")
    assert position.fees == {"USDT": Decimal("1.19")}


def test_the_average_moves_with_what_is_added_and_stays_when_some_is_closed() -> None:
    position = held(fill(1, "BUY", "1", "100"), fill(2, "BUY", "3", "200"))
    assert (position.net, position.average) == (4, 175)
    position = held(
        fill(1, "BUY", "1", "100"), fill(2, "BUY", "3", "200"), fill(3, "SELL", "2", "180")
    )
    assert (position.net, position.average, position.realised) == (2, 175, 10)


def test_a_fill_through_zero_realises_the_one_side_and_opens_the_other() -> None:
    position = held(fill(1, "BUY", "1", "100"), fill(2, "SELL", "3", "110"))
    assert (position.net, position.average, position.realised) == (-2, 110, 10)
    position = held(fill(1, "SELL", "1", "100"), fill(2, "BUY", "3", "110"))
    assert (position.net, position.average, position.realised) == (2, 110, -10)


def test_a_fee_in_the_base_asset_makes_the_position_smaller() -> None:
    position = held(fill(1, "BUY", "0.01", "60000", "0.00001", "BTC"))
    assert position.net == Decimal("0.00999")
    assert (position.cost, position.realised) == (600, 0)
    assert position.fees == {"BTC": Decimal("0.00001")}


def test_a_fee_in_a_third_asset_is_listed_only() -> None:
    position = held(fill(1, "BUY", "1", "100", "0.002", "BNB"))
    assert (position.net, position.cost, position.realised) == (1, 100, 0)
    assert position.fees == {"BNB": Decimal("0.002")}


def test_a_fee_that_is_not_known_is_counted() -> None:
    position = held(fill(None, "BUY", "1", "100", asset=None), fill(None, "BUY", "1", "100", "0"))
    assert (position.net, position.unknown_fees, position.fees["USDT"]) == (2, 1, 0)


def test_a_trade_counts_once_in_its_symbol() -> None:
    positions = Positions()
    for symbol in ("BTCUSDT", "ETHUSDT", "BTCUSDT"):
        positions.add(fill(1, "BUY", "1", "100", symbol=symbol))
    assert [(p.symbol, p.net) for p in positions.all()] == [("BTCUSDT", 1), ("ETHUSDT", 1)]


def test_a_trade_between_two_of_our_orders_counts_for_both() -> None:
    """The venue gives it one id."""
    bought, sold = fill(1, "BUY", "1", "100"), fill(1, "SELL", "1", "100", "0.1")
    position = held(bought, replace(sold, client_id="hx"), bought)
    assert (position.net, position.realised) == (0, Decimal("-0.1"))


def test_the_memory_of_trades_is_bounded() -> None:
    positions = Positions()
    for number in range(TRADES_KEPT + 5):
        positions.add(fill(number, "BUY", "1", "1"))
    for number in (TRADES_KEPT + 4, 5):
        assert positions.add(fill(number, "BUY", "1", "1")).net == TRADES_KEPT + 5
    assert positions.add(fill(4, "BUY", "1", "1")).net == TRADES_KEPT + 6, "it is forgotten"


def test_what_is_told_of_a_position_is_json() -> None:
    position = held(fill(1, "BUY", "0.3", "100", "0.03"))
    assert json.loads(json.dumps(position.as_json())) == {
        "symbol": "BTCUSDT",
        "net": "0.3",
        "average": "100.00000000",
        "realised": "-0.03000000",
        "fees": {"USDT": "0.03"},
        "unknown_fees": 0,
    }


amounts = st.decimals(min_value="0.00000001", max_value="1000", places=8)
prices = st.decimals(min_value="0.01", max_value="1000000", places=2)
many = st.lists(
    st.tuples(
        st.sampled_from(["BUY", "SELL"]),
        amounts,
        prices,
        st.decimals(min_value="0", max_value="0.002", places=4),
        st.sampled_from(["BTC", "USDT", "BNB"]),
    ),
    max_size=30,
)


@given(many)
def test_position_and_profit_are_what_was_received_and_paid(
    trades: list[tuple[str, Decimal, Decimal, Decimal, str]],
) -> None:
    positions = Positions()
    cash = coins = Fraction(0)
    for number, (side, quantity, price, rate, asset) in enumerate(trades):
        fee = rate * quantity * (1 if asset == "BTC" else price)
        each = Fill("hp", "BTCUSDT", side, number, price, quantity, quantity * price, fee, asset)
        positions.add(each)
        positions.add(each)
        sign = 1 if side == "BUY" else -1
        coins += sign * Fraction(quantity) - (Fraction(fee) if asset == "BTC" else 0)
        cash -= sign * Fraction(quantity * price) + (Fraction(fee) if asset == "USDT" else 0)
    position = positions.of("BTCUSDT")
    assert Fraction(position.net) == coins
    assert Fraction(position.realised - position.cost) == cash
    assert (position.net == 0) == (position.average is None)


@given(many)
def test_only_closing_realises_anything_but_fees(
    trades: list[tuple[str, Decimal, Decimal, Decimal, str]],
) -> None:
    """Against lots kept one by one: each closing takes the same share of every lot."""
    positions = Positions()
    lots: list[tuple[Fraction, Fraction]] = []  # signed quantity, price
    realised = Fraction(0)
    for number, (side, quantity, price, _, _) in enumerate(trades):
        positions.add(fill(number, side, str(quantity), str(price)))
        left = Fraction(quantity) * (1 if side == "BUY" else -1)
        net = sum((lot for lot, _ in lots), Fraction(0))
        if net * left < 0:
            closed = min(abs(left), abs(net))
            share = closed / abs(net)
            realised += sum((lot * share * (Fraction(price) - at) for lot, at in lots), Fraction(0))
            lots = [(lot * (1 - share), at) for lot, at in lots] if share < 1 else []
            left -= closed if left > 0 else -closed
        if left:
            lots.append((left, Fraction(price)))
    assert abs(Fraction(positions.of("BTCUSDT").realised) - realised) < Fraction(1, 10**25)
