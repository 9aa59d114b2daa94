"""engine.scan: the signals of raw block files. The golden data is exchange_hits.csv, made by other
means (MANIFEST.md)."""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path

import pytest

from engine.address import address_of
from engine.book import Book, BookEntry, load
from engine.core import EngineOptions
from engine.errors import FeedError
from engine.records import Signal
from engine.scan import signals, sweep_argument

from .builders import Output, block, coinbase, op_return, p2pkh_wallet, p2wpkh_wallet, payment

BTC = 100_000_000
SWEEP_INPUTS_MIN = EngineOptions().sweep_inputs_min
HEIGHTS = (100000, 300025, 413567, 481829, 482683, 562500, 617509, 757739, 757753, 866342)

Row = dict[str, str]
Hits = list[tuple[Row, Signal]]


def block_files(shared_data: Path) -> list[Path]:
    return [shared_data / "blocks" / f"block_{height}.bin" for height in HEIGHTS]


# ---- golden --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def book(shared_data: Path) -> Book:
    entries, errors = load(shared_data / "exchange_addresses.csv")
    assert errors == []
    return Book(entries)


@pytest.fixture(scope="module")
def found(shared_data: Path, book: Book) -> list[Signal]:
    return list(signals(block_files(shared_data), book, EngineOptions()))


@pytest.fixture(scope="module")
def rows(shared_data: Path) -> list[Row]:
    with (shared_data / "blocks" / "exchange_hits.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def hits(rows: list[Row], found: list[Signal]) -> Hits:
    """Each golden row with the signal that reports it."""
    by_output = {(s.txid, s.exchange): s for s in found}
    return [(row, by_output[row["txid"], row["exchange"]]) for row in rows]


def test_every_payment_to_an_exchange_is_found_and_nothing_else(
    rows: list[Row], found: list[Signal]
) -> None:
    assert len(rows) == 151
    columns = ("txid", "vout", "value_sat", "address", "exchange", "n_in", "n_out")
    expected = [tuple(row[column] for column in columns) for row in rows]
    reported = [
        (s.txid, str(o.vout), str(o.value_sat), o.address, s.exchange, str(s.n_in), str(s.n_out))
        for s in found
        for o in s.outputs
    ]
    assert sorted(reported) == sorted(expected)
    assert all(s.outputs_total == len(s.outputs) for s in found)


def test_signals_come_in_the_order_of_the_blocks(rows: list[Row], found: list[Signal]) -> None:
    ordered = sorted(rows, key=lambda row: (int(row["height"]), int(row["tx_index"])))
    expected = dict.fromkeys((row["txid"], row["exchange"]) for row in ordered)
    assert sorted(expected) == sorted((s.txid, s.exchange) for s in found)
    assert list(dict.fromkeys(s.txid for s in found)) == list(
        dict.fromkeys(txid for txid, _ in expected)
    )


def test_change_is_neither_a_deposit_nor_a_sweep(hits: Hits) -> None:
    change = [(row, s) for row, s in hits if row["sender"] in ("same-address", "same-exchange")]
    assert len(change) == 42
    for row, signal in change:
        assert signal.kind in ("withdrawal", "internal"), row
        assert signal.source == row["exchange"]
        assert signal.inputs_owned > 0
        assert (signal.kind == "internal") == (signal.net_sat == 0)


def test_the_rest_is_deposits_and_sweeps_by_the_number_of_inputs(hits: Hits) -> None:
    rest = [(row, s) for row, s in hits if not row["sender"].startswith("same-")]
    assert len(rest) == 109
    for row, signal in rest:
        sweep = int(row["n_in"]) >= SWEEP_INPUTS_MIN
        assert signal.kind == ("sweep" if sweep else "deposit"), row


def test_the_source_is_who_the_golden_data_says(hits: Hits, book: Book) -> None:
    sources = set()
    for row, signal in hits:
        sender, _, exchange = row["sender"].partition(":")
        if sender == "other-exchange" and exchange in book.exchanges():
            assert signal.source == exchange
            assert signal.inputs_owned > 0
            sources.add(exchange)
        elif not sender.startswith("same-"):
            # gemini too: its addresses left the list, for their licence, after the hits' count
            assert (signal.source, signal.inputs_owned) == ("unknown", 0)
    assert "binance" in sources


def test_the_amounts_are_what_the_rows_add_up_to(hits: Hits) -> None:
    paid: dict[tuple[str, str], int] = defaultdict(int)
    for row, signal in hits:
        paid[signal.txid, signal.exchange] += int(row["value_sat"])
    for _, signal in hits:
        if signal.kind in ("deposit", "sweep"):
            assert signal.net_sat == paid[signal.txid, signal.exchange]


def test_the_consolidations_of_binance_are_sweeps(hits: Hits) -> None:
    whales = [
        signal
        for row, signal in hits
        if (row["height"], row["exchange"], row["sender"]) == ("617509", "binance", "unlabelled")
        and int(row["value_sat"]) >= 10 * BTC
    ]
    assert len(whales) == 17
    assert {signal.kind for signal in whales} == {"sweep"}
    assert (min(s.n_in for s in whales), max(s.n_in for s in whales)) == (7, 203)
    # Every input of that block reveals its script, so nothing is left to guess.
    assert all(signal.inputs_recognised == signal.n_in for signal in whales)


@pytest.mark.parametrize(("exchange", "value_sat"), [("okx", 900_000_000), ("bitmex", 500_288_820)])
def test_the_large_deposits(hits: Hits, exchange: str, value_sat: int) -> None:
    (signal,) = {
        s.txid: s
        for row, s in hits
        if (row["exchange"], row["height"]) == (exchange, "617509")
        and s.kind == "deposit"
        and s.net_sat >= 2 * BTC
    }.values()
    assert (signal.net_sat, signal.n_in, signal.n_out) == (value_sat, 1, 2)


def test_the_least_amount_leaves_the_same_signals_above_it(
    shared_data: Path, book: Book, found: list[Signal]
) -> None:
    options = EngineOptions(min_signal_sat=BTC)
    above = list(signals(block_files(shared_data), book, options))
    assert above == [s for s in found if s.net_sat >= BTC]
    assert 0 < len(above) < len(found)


def test_a_block_twice_signals_once(shared_data: Path, book: Book) -> None:
    file = shared_data / "blocks" / "block_866342.bin"
    once = list(signals([file], book, EngineOptions()))
    assert list(signals([file, file], book, EngineOptions())) == once != []


# ---- made-up blocks ------------------------------------------------------------------------------

HOT, WHALE = p2pkh_wallet(1), p2wpkh_wallet(2)


def made_up_book() -> Book:
    return Book([BookEntry(address_of(HOT.script_pub_key) or "", "Gate")])


def to_gate(value_sat: int) -> Output:
    return Output(value_sat, HOT.script_pub_key)


def test_a_made_up_block(tmp_path: Path) -> None:
    elsewhere = Output(3 * BTC, WHALE.script_pub_key)
    first, second = tmp_path / "first.bin", tmp_path / "second.bin"
    deposit = payment(WHALE, to_gate(2 * BTC), Output(0, op_return()))
    first.write_bytes(block([coinbase(to_gate(6 * BTC)), payment(WHALE, elsewhere), deposit]))
    withdrawal = payment(HOT, elsewhere, to_gate(BTC), spends=7)
    second.write_bytes(block([coinbase(elsewhere), deposit, withdrawal]))
    found = list(signals([first, second], made_up_book(), EngineOptions()))
    assert [(s.kind, s.exchange, s.net_sat, s.rule) for s in found] == [
        ("deposit", "gate", 2 * BTC, None),
        ("withdrawal", "gate", 3 * BTC, None),
    ]


def test_a_signal_as_json(tmp_path: Path) -> None:
    file = tmp_path / "block.bin"
    file.write_bytes(
        block([coinbase(to_gate(1)), payment(WHALE, to_gate(7), to_gate(8), inputs=6)])
    )
    (signal,) = signals([file], made_up_book(), EngineOptions())
    address = address_of(HOT.script_pub_key)
    assert json.loads(json.dumps(signal.as_json())) == {
        "txid": signal.txid,
        "kind": "sweep",
        "exchange": "gate",
        "source": "unknown",
        "net_sat": 15,
        "outputs": [
            {"vout": 0, "value_sat": 7, "address": address},
            {"vout": 1, "value_sat": 8, "address": address},
        ],
        "outputs_total": 2,
        "n_in": 6,
        "n_out": 2,
        "inputs_recognised": 6,
        "inputs_owned": 0,
    }


@pytest.mark.parametrize("text", ["1", "6", "100000"])
def test_numbers_of_inputs_that_make_a_sweep(text: str) -> None:
    assert sweep_argument(text) == int(text)


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "1.5", "100001", "9" * 5000, "\u0663"])
def test_numbers_of_inputs_that_make_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="from 1 to 100000"):
        sweep_argument(text)


def test_a_block_with_a_malformed_transaction(tmp_path: Path) -> None:
    file = tmp_path / "block.bin"
    broken = payment(WHALE, to_gate(7))[:-1]
    file.write_bytes(block([coinbase(to_gate(1)), broken]))
    with pytest.raises(FeedError, match="transaction 2 of 2"):
        list(signals([file], made_up_book(), EngineOptions()))
