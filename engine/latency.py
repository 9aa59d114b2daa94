"""How long the orders of a journal took, stage by stage: exact percentiles of every order in it, as
a table and as a plot (in the terminal, or a PNG with the extra `plot`)."""

from __future__ import annotations

import argparse
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from engine.errors import JournalError
from engine.journal import Damage, Reader
from engine.records import STAGES, Fired
from engine.report import microseconds, open_console
from engine.scan import write_json
from engine.wallets import warn

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
_HEADINGS = ("p50", "p90", "p99", "p99.9", "max")
_BAR_COLUMNS = 60
# A bar up to p50, on to p90, p99, p99.9 and max.
_BLOCKS = "█▓▒░·"
_ASCII = "#=+-."


@dataclass(frozen=True, slots=True)
class Latency:
    """How long one stage took, in ns, ascending; there is at least one."""

    stage: str
    sorted_ns: Sequence[int]

    def at(self, quantile: float) -> int:
        """Nearest rank: the least duration that so many of all do not exceed."""
        rank = max(1, math.ceil(quantile * len(self.sorted_ns)))
        return self.sorted_ns[rank - 1]

    def summary(self) -> dict[str, int]:
        return {"count": len(self.sorted_ns), **{q: self.at(p) for q, p in QUANTILES.items()}}


def latencies(path: Path) -> list[Latency]:
    """The stages that any order of the journal went through, in their order. JournalError when
    there is no order."""
    found = {stage: array("q") for stage in STAGES}
    orders = 0
    for item in Reader(path):
        if isinstance(item, Damage):
            warn(f"segment {item.place.segment}: {item.words}")
        elif isinstance(item.body, Fired):
            orders += 1
            for stage, ns in item.body.stage_ns.items():
                found[stage].append(ns)
    if not orders:
        raise JournalError(f"the journal {path} has no orders: there is no latency to tell")
    return [Latency(stage, sorted(ns)) for stage, ns in found.items() if ns]


def table(stages: Sequence[Latency]) -> Table:
    shown = Table("stage of orders (us)", "count", *_HEADINGS)
    for column in shown.columns[1:]:
        column.justify = "right"
    for stage in stages:
        cells = [microseconds(stage.at(quantile)) for quantile in QUANTILES.values()]
        shown.add_row(stage.stage, f"{len(stage.sorted_ns):,}", *cells)
    return shown


# ---- in the terminal ----------------------------------------------------------------------------


def bars(stages: Sequence[Latency], marks: str) -> list[str]:
    """A line for each stage, at most 80 columns wide, on one logarithmic axis; `marks` are the
    characters for p50, p90, p99, p99.9 and max."""
    low, high = _decades(stages)
    width = max(len(stage.stage) for stage in stages) + 1
    lines = [f"{stage.stage:<{width}}{_bar(stage, low, high, marks)}" for stage in stages]
    key = "  ".join(f"{mark} {name}" for mark, name in zip(marks, _HEADINGS, strict=True))
    return [*lines, " " * width + _axis(low, high), f"{'':<{width}}up to  {key}"]


def _decades(stages: Sequence[Latency]) -> tuple[int, int]:
    """The powers of ten of nanoseconds around all of it."""
    least = min(stage.at(QUANTILES["p50"]) for stage in stages)
    low = math.floor(math.log10(max(1, least)))
    high = math.ceil(math.log10(max(1, *(stage.sorted_ns[-1] for stage in stages))))
    return low, max(high, low + 1)


def _bar(stage: Latency, low: int, high: int, marks: str) -> str:
    bar = ""
    for quantile, mark in zip(QUANTILES.values(), marks, strict=True):
        share = (math.log10(max(1, stage.at(quantile))) - low) / (high - low)
        bar += mark * (max(1, round(share * _BAR_COLUMNS)) - len(bar))
    return bar


def _axis(low: int, high: int) -> str:
    axis = ""
    for power in range(low, high):
        at = round((power - low) / (high - low) * _BAR_COLUMNS)
        if len(axis) <= at:  # else there is no room for its label
            axis = f"{axis:<{at}}|{duration(10**power)}"
    return f"{axis[:_BAR_COLUMNS]:<{_BAR_COLUMNS}}|"


def duration(ns: float) -> str:
    """In the unit that a person would choose."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{ns / size:g} {unit}"
    return f"{ns:g} ns"


# ---- the command --------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("journal", type=Path, metavar="JOURNAL", help="its folder, or a segment")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw a picture instead of bars")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the percentiles there")


def run(options: argparse.Namespace) -> int:
    stages = latencies(options.journal)
    console = open_console()
    console.print(table(stages))
    if options.png:
        _draw(stages, options.png, options.journal)
    else:
        _print_bars(console, stages)
    if options.json:
        write_json(options.json, {stage.stage: stage.summary() for stage in stages})
    return 0


def _draw(stages: Sequence[Latency], file: Path, journal: Path) -> None:
    try:
        from engine.latency_plot import draw
    except ImportError as error:
        raise JournalError(
            f"{file} needs matplotlib: `pip install 'harpoon-engine[plot]'`, or leave out --png"
        ) from error
    try:
        draw(stages, file, journal.resolve().name)
    except OSError as error:
        raise JournalError(
            f"cannot write {file} ({error.strerror}): choose another place for --png"
        ) from error


def _print_bars(console: Console, stages: Sequence[Latency]) -> None:
    pretty = console.is_terminal and console.encoding.startswith("utf")
    for line in bars(stages, _BLOCKS if pretty else _ASCII):
        console.print(line, highlight=False, markup=False, no_wrap=True, crop=False)
