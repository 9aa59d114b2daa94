"""How the simulated market moves: by a seed, by a file of trades, by a test's hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from engine.errors import ConfigError
from engine.sim.market import MarketTrade, read_trades
from engine.sim.symbols import SYMBOLS
from tests.venue import LIMIT, Client

START_MS = 1_600_000_000_000
CSV = """time_ms,symbol,price,qty,side
1600000000000,BTCUSDT,50000.00,0.5,BUY
1600000000500,ETHUSDT,2000.00,3
1600000000500,BTCUSDT,49990.00,0.015,SELL

1600000002000,BTCUSDT,50010.00,0.1,BUY
1600000002000,NONEUSDT,1.00,1
"""


def run(client: Client, milliseconds: int) -> None:
    client.now_ns += milliseconds * 10**6
    client.venue.step(client.now_ns)


def trades(client: Client) -> list[tuple[str, str, str, bool]]:
    """Stream, price, quantity and whether the buyer was the maker; then none are left."""
    seen = [
        (stream, payload["p"], payload["q"], payload["m"])
        for stream, payload in client.market
        if stream.endswith("@trade")
    ]
    client.market.clear()
    return seen


def walk(seed: int, steps: int = 50) -> list[Any]:
    client = Client(seed=seed)
    for _ in range(steps):
        run(client, 100)
    return client.market


def test_a_seed_is_a_market() -> None:
    assert walk(1) == walk(1)
    assert walk(1) != walk(2)


def test_the_walk_moves_every_symbol_and_never_crosses() -> None:
    prices: dict[str, set[Decimal]] = {}
    for stream, payload in walk(3, steps=200):
        if stream.endswith("@bookTicker"):
            assert Decimal(payload["b"]) < Decimal(payload["a"])
            prices.setdefault(payload["s"], set()).add(Decimal(payload["b"]))
    assert {name for name, seen in prices.items() if len(seen) > 10} == {
        *("BTCUSDT", "ETHUSDT", "SOLUSDT")
    }
    assert all(abs(price / 60_000 - 1) < Decimal("0.1") for price in prices["BTCUSDT"])


def test_the_walk_fills_what_it_meets_bit_by_bit() -> None:
    client = Client(seed=1)
    client.place(side="BUY", price="59999.00", quantity="1.5", newClientOrderId="bid")
    seen = set()
    for _ in range(200):
        run(client, 100)
        seen.add(client.status("bid")["status"])
    assert seen == {"NEW", "PARTIALLY_FILLED", "FILLED"}


def test_without_a_seed_the_market_stands_still() -> None:
    client = Client()
    client.market.clear()
    for _ in range(5):
        run(client, 1000)
    assert client.market == []
    assert client.ask("ticker.price", symbol="BTCUSDT")["price"] == "60000.00000000"


def test_trades_are_replayed_in_their_own_rhythm() -> None:
    client = Client(trades=read_trades(CSV.splitlines(), "trades.csv"))
    first = client.ask("ticker.price")
    assert [row["price"] for row in first[:2]] == ["50000.00000000", "2000.00000000"]
    trades(client)
    run(client, 10)
    assert trades(client) == [("btcusdt@trade", "50000.00000000", "0.50000000", False)]
    book = client.ask("ticker.book", symbol="BTCUSDT")
    assert (book["bidPrice"], book["askPrice"]) == ("49999.99000000", "50000.00000000")
    run(client, 400)
    assert trades(client) == []
    client.place(LIMIT, side="BUY", price="49995", newClientOrderId="bid")
    trades(client)
    run(client, 100)
    assert trades(client) == [
        ("ethusdt@trade", "2000.00000000", "3.00000000", True),
        ("btcusdt@trade", "49995.00000000", "0.01000000", True),
        ("btcusdt@trade", "49990.00000000", "0.00500000", True),
    ]
    assert client.status("bid")["status"] == "FILLED"
    run(client, 60_000)
    assert trades(client) == [("btcusdt@trade", "50010.00000000", "0.10000000", False)]
    run(client, 60_000)
    assert trades(client) == []


def test_trades_are_read_from_a_file() -> None:
    read = read_trades(CSV.splitlines(), "trades.csv")
    assert len(read) == 5
    assert read[0] == MarketTrade(START_MS, "BTCUSDT", Decimal(50000), Decimal("0.5"), "BUY")
    assert read[1].side is None
    assert read_trades(CSV.splitlines()[1:], "trades.csv") == read


@pytest.mark.parametrize(
    "line",
    [
        "1600000000000,BTCUSDT,50000.00",
        "now,BTCUSDT,50000.00,0.5",
        "1600000000000,BTCUSDT,price,0.5",
        "1600000000000,BTCUSDT,NaN,0.5",
        "1600000000000,BTCUSDT,0,0.5",
        "1600000000000,BTCUSDT,1,-0.5",
        "1600000000000,BTCUSDT,1,Infinity",
        "1600000000000,BTCUSDT,1,1,buy",
        "1500000000000,BTCUSDT,1,1",
        "1600000000000,BTCUSDT,1,1,BUY,more",
    ],
)
def test_a_line_that_is_no_trade_is_named(line: str) -> None:
    with pytest.raises(ConfigError, match=r"line 2 of trades\.csv is no trade"):
        read_trades(["1600000000000,BTCUSDT,1,1", line], "trades.csv")


@pytest.mark.parametrize(
    ("trade", "told"),
    [
        ("BTCUSDT,60000.005,1", "line 2 of t.csv has a price .* a multiple of 0.01 up to 1000000"),
        ("BTCUSDT,1000000.01,1", "line 2 of t.csv has a price that BTCUSDT cannot have"),
        ("SOLUSDT,10000.01,1", "line 2 of t.csv has a price .* a multiple of 0.01 up to 10000"),
        ("SOLUSDT,150,0.0001", "line 2 of t.csv has a quantity .* a multiple of 0.001 up to 90000"),
        ("ETHUSDT,3000,9000.0001", "line 2 of t.csv has a quantity that ETHUSDT cannot have"),
    ],
)
def test_a_trade_that_the_filters_would_not_allow_is_named(trade: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_trades(["0,BTCUSDT,60000.01,0.00001", f"0,{trade}"], "t.csv")


def test_a_file_without_a_trade_of_the_markets_is_refused() -> None:
    lines = ["0,BTC-USDT,60000.123,1", "0,btcusdt,61000,1", "0,ETHUSDT,3000,1"]
    assert len(read_trades(lines, "t.csv")) == 3
    with pytest.raises(ConfigError, match="no trade of BTCUSDT: its first is of 'BTC-USDT', which"):
        read_trades(lines, "t.csv", {"BTCUSDT": SYMBOLS["BTCUSDT"]})


def test_a_file_without_trades_is_refused() -> None:
    with pytest.raises(ConfigError, match="no trades"):
        read_trades(["time_ms,symbol,price,qty,side"], "trades.csv")


def test_set_price_fills_what_is_on_the_way_and_nothing_else() -> None:
    client = Client()
    for side, price in (("BUY", "59990"), ("BUY", "59980"), ("SELL", "60010"), ("SELL", "60020")):
        client.place(side=side, price=price, newClientOrderId=price)
    client.venue.set_price("BTCUSDT", Decimal("59985"))
    client.venue.set_price("BTCUSDT", Decimal("60010"))
    filled = [name for name in ("59990", "59980", "60010", "60020") if is_filled(client, name)]
    assert filled == ["59990", "60010"]
    assert client.venue.last_price["BTCUSDT"] == Decimal("60010")
    book = client.ask("ticker.book", symbol="BTCUSDT")
    assert (book["bidPrice"], book["askPrice"]) == ("60010.00000000", "60010.01000000")


def test_what_the_market_asks_for_can_be_bid_at_the_highest_price_too() -> None:
    client = Client(seed=1)
    client.venue.set_price("SOLUSDT", Decimal("10000.00"))
    for _ in range(20):
        book = client.ask("ticker.book", symbol="SOLUSDT")
        assert Decimal(book["askPrice"]) <= Decimal("10000.00")
        params = LIMIT | {"symbol": "SOLUSDT", "side": "BUY", "price": book["askPrice"]}
        assert client.place(params)["status"] == "FILLED"
        run(client, 100)


def is_filled(client: Client, name: str) -> bool:
    return bool(client.status(name)["status"] == "FILLED")


def test_the_price_of_a_symbol_can_be_had_from_the_start() -> None:
    client = Client()
    assert client.venue.last_price == {
        "BTCUSDT": Decimal(60000),
        "ETHUSDT": Decimal(3000),
        "SOLUSDT": Decimal(150),
    }
