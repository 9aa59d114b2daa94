"""How the simulated market moves: by a seeded random walk, or as a CSV file of trades says."""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal

from engine.errors import ConfigError
from engine.sim.book import PROPORTIONS
from engine.sim.matching import MatchingEngine
from engine.sim.symbols import SYMBOLS, Symbol

STEP_SIGMA = 0.0002  # of the price, at each step of the walk
AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,8})?")  # of a CSV file


@dataclass(frozen=True)
class MarketTrade:
    """A trade between others; `side` is the taker's, None when it is not known."""

    time_ms: int
    symbol: str
    price: Decimal
    quantity: Decimal
    side: str | None = None


class RandomWalk:
    """At each step every symbol has one trade at a price near the last. The same seed and the same
    number of steps lead to the same prices."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def step(self, engine: MatchingEngine) -> None:
        for book in engine.books.values():
            symbol = book.symbol
            ticks = round(self._random.gauss(0, float(book.bid / symbol.tick_size) * STEP_SIGMA))
            highest = symbol.max_price - symbol.tick_size
            bid = min(max(book.bid + ticks * symbol.tick_size, symbol.tick_size), highest)
            side = "BUY" if ticks > 0 else "SELL"
            proportion = Decimal(self._random.randint(1, 100)) / 100
            quantity = (symbol.level_qty * proportion).quantize(symbol.step_size, ROUND_DOWN)
            book.turn = self._random.randrange(len(PROPORTIONS))
            price = bid + symbol.tick_size if side == "BUY" else bid
            engine.trade_of_others(book, price, quantity, side)


class Replay:
    """The trades in their own rhythm; the first is due at the first step."""

    def __init__(self, trades: Sequence[MarketTrade]) -> None:
        self._trades = trades
        self._next = 0
        self._behind_ms: int | None = None  # our clock minus that of the trades

    def step(self, engine: MatchingEngine) -> None:
        if self._behind_ms is None:
            self._behind_ms = engine.now_ms - self._trades[0].time_ms
        while self._next < len(self._trades):
            trade = self._trades[self._next]
            if trade.time_ms + self._behind_ms > engine.now_ms:
                return
            self._next += 1
            if book := engine.books.get(trade.symbol):
                engine.trade_of_others(book, trade.price, trade.quantity, trade.side)


def read_trades(
    lines: Iterable[str], name: str, symbols: Mapping[str, Symbol] = SYMBOLS
) -> list[MarketTrade]:
    """CSV rows `time_ms,symbol,price,qty[,side]`, with or without that heading, in time order.
    ConfigError tells which line of the file `name` is none, or not possible on the market of its
    symbol. Rows of other symbols than `symbols` do no harm beside theirs."""
    trades: list[MarketTrade] = []
    for number, row in enumerate(csv.reader(lines), 1):
        if row and not (number == 1 and row[0].strip() == "time_ms"):
            trade = _read_row(row)
            if trade is None or (trades and trade.time_ms < trades[-1].time_ms):
                raise ConfigError(
                    f"line {number} of {name} is no trade after the one before: each must be "
                    "time_ms,symbol,price,qty[,side] like 1700000000000,BTCUSDT,60000.01,0.5,BUY."
                )
            _check_filters(trade, symbols, f"line {number} of {name}")
            trades.append(trade)
    if not trades:
        raise ConfigError(f"{name} has no trades: put time_ms,symbol,price,qty[,side] into it.")
    if all(trade.symbol not in symbols for trade in trades):
        raise ConfigError(
            f"{name} has no trade of {', '.join(symbols)}: its first is of "
            f"{trades[0].symbol!r}, which is no market here."
        )
    return trades


def _check_filters(trade: MarketTrade, symbols: Mapping[str, Symbol], where: str) -> None:
    """The market must not be where the venue would let no order follow."""
    symbol = symbols.get(trade.symbol)
    if symbol is None:
        return
    if not symbol.allows_price(trade.price):
        raise ConfigError(
            f"{where} has a price that {symbol.name} cannot have: give a multiple of "
            f"{symbol.tick_size} up to {symbol.max_price}."
        )
    if not symbol.allows_quantity(trade.quantity):
        raise ConfigError(
            f"{where} has a quantity that {symbol.name} cannot have: give a multiple of "
            f"{symbol.step_size} up to {symbol.max_qty}."
        )


def _read_row(row: Sequence[str]) -> MarketTrade | None:
    cells = [cell.strip() for cell in row]
    if len(cells) == 4:
        cells.append("")
    if len(cells) != 5 or not cells[0].isdecimal():
        return None
    time_ms, symbol, price, quantity, side = cells
    if side not in ("", "BUY", "SELL"):
        return None
    if not all(AMOUNT.fullmatch(cell) and Decimal(cell) for cell in (price, quantity)):
        return None
    return MarketTrade(int(time_ms), symbol, Decimal(price), Decimal(quantity), side or None)
