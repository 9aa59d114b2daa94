"""engine.entries: which of the rules' orders may leave."""

from __future__ import annotations

from dataclasses import replace

from engine.entries import Entries
from engine.prices import Price
from engine.venues.binance import OrderSpec

from .test_desk import FILTERS

SELL = OrderSpec("BTCUSDT", "SELL", "MARKET", "0.001")
TINY = replace(SELL, quantity="0.0001")  # worth 6: above the least, until the price falls
ODD = replace(SELL, quantity="0.000015")


def price(bid: int) -> dict[str, Price]:
    return {"BTCUSDT": Price("BTCUSDT", bid * 10**8, bid * 10**8, 1)}


class Engine:
    """What it was told, and what people were."""

    def __init__(self, *specs: OrderSpec) -> None:
        self.enabled = [True] * len(specs)
        self.said: list[str] = []
        self.entries = Entries(specs, self._enable, self.said.append)

    def _enable(self, number: int, enabled: bool) -> None:
        assert self.enabled[number] != enabled, "told twice"
        self.enabled[number] = enabled


def test_no_entry_is_made_before_all_is_ready() -> None:
    engine = Engine(SELL, TINY)
    engine.entries.look({})
    assert engine.enabled == [False, False]
    engine.entries.on_filters({"BTCUSDT": FILTERS})
    assert engine.enabled == [False, False]
    engine.entries.open()
    assert engine.enabled == [True, True]
    assert engine.said == []


def test_what_the_venue_would_refuse_is_not_made_until_it_would_take_it() -> None:
    engine = Engine(SELL, TINY)
    engine.entries.on_filters({"BTCUSDT": FILTERS})
    engine.entries.look(price(60_000))
    engine.entries.open()
    assert engine.enabled == [True, True]
    for bid in (40_000, 39_000):
        engine.entries.look(price(bid))
        assert engine.enabled == [True, False]
    engine.entries.look(price(61_000))
    assert engine.enabled == [True, True]
    (refused, taken) = engine.said
    assert "below 5, the least" in refused
    assert taken == "the venue takes rule 2's order again"


def test_a_status_passes_and_a_mistake_does_not() -> None:
    engine = Engine(SELL, ODD)
    engine.entries.open()
    engine.entries.on_filters({"BTCUSDT": replace(FILTERS, status="BREAK")})
    assert engine.enabled == [False, False]
    [(number, words)] = engine.entries.mistakes()
    assert number == 1
    assert "no multiple of 0.00001" in words
    engine.entries.on_filters({"BTCUSDT": FILTERS})
    assert engine.enabled == [True, False]


def test_a_symbol_without_rules_is_taken_as_it_is() -> None:
    engine = Engine(replace(SELL, symbol="ETHUSDT"))
    engine.entries.on_filters({"BTCUSDT": FILTERS})
    engine.entries.open()
    assert engine.enabled == [True]
    assert engine.entries.mistakes() == []
