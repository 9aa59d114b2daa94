"""Classify the transactions of raw block files with the same C code as the live feed. Coinbase
transactions are left out."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from engine import report
from engine.book import Book
from engine.config import sat_of_btc
from engine.core import Engine, EngineOptions
from engine.errors import HarpoonError
from engine.feed.replay import read_block
from engine.records import Signal
from engine.wallets import BUILT_SUFFIX, add_book_argument, open_book, warn

_SWEEP_INPUTS_MOST = 100_000  # more than a transaction can have


def signals(files: Iterable[Path], book: Book, options: EngineOptions) -> Iterator[Signal]:
    """Every signal of the blocks' transactions, in order; FeedError for what is not a block."""
    engine = Engine(book, options)
    for file in files:
        for raw in read_block(file)[1:]:
            engine.rawtx(raw, 0)
            yield from (event for event in engine.events() if isinstance(event, Signal))


def btc_argument(text: str) -> int:
    """A command line's BTC amount in satoshis."""
    try:
        return sat_of_btc(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is no amount in BTC: give 0 to 21000000, with up to 8 decimals"
        ) from error


def sweep_argument(text: str) -> int:
    """A command line's number of inputs that make a sweep."""
    if not re.fullmatch("[0-9]{1,6}", text) or not 1 <= int(text) <= _SWEEP_INPUTS_MOST:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to {_SWEEP_INPUTS_MOST}")
    return int(text)


def write_json(path: Path, value: Any) -> None:
    try:
        path.write_text(json.dumps(value, indent=1) + "\n")
    except OSError as error:
        raise HarpoonError(
            f"cannot write {path} ({error.strerror}): choose another place for --json"
        ) from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a raw block file")
    add_book_argument(parser)
    parser.add_argument(
        "--min-btc",
        type=btc_argument,
        default="1",
        metavar="X",
        help="smallest net amount shown; 0 shows all, internal ones too (default 1)",
    )
    parser.add_argument(
        "--sweep-inputs-min",
        type=sweep_argument,
        default=6,
        metavar="N",
        help="inputs that make a payment a sweep (default 6)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the signals there")


def run(options: argparse.Namespace) -> int:
    console = report.open_console()
    built = any(file.suffix == BUILT_SUFFIX for file in options.book)
    book = open_book(options.book, default=not built, warn=warn)
    engine_options = EngineOptions(
        min_signal_sat=options.min_btc, sweep_inputs_min=options.sweep_inputs_min
    )
    found = [s.as_json() for s in signals(options.files, book, engine_options)]
    for signal in found:
        report.show(console, {"record": "signal", **signal})
    console.print(report.signal_table(found))
    if options.json:
        write_json(options.json, {"signals": found, "files": [str(f) for f in options.files]})
    return 0
