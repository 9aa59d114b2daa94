"""Rows of a benchmark: ours beside a reference, as a table for people and as JSON for the rest."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median_low
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from engine.machine import machine
from engine.scan import write_json

QUANTILES = {"p50": 500, "p90": 900, "p99": 990, "p999": 999, "max": 1000}


def quantiles(samples: Sequence[int]) -> dict[str, int]:
    """Nearest-rank quantiles by name; `samples` is not empty."""
    ordered = sorted(samples)
    return {
        name: ordered[max(0, -(-len(ordered) * per_mille // 1000) - 1)]
        for name, per_mille in QUANTILES.items()
    }


def medians(rounds: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Each quantile's median over the rounds, of which there is at least one."""
    return {name: median_low(quantile[name] for quantile in rounds) for name in QUANTILES}


@dataclass(frozen=True, slots=True)
class Row:
    """A ratio is ours / reference for times, reference / ours for rates (a unit that ends in /s):
    below 1 is better. `target` bounds the p50 ratio, `target_p99` that of p99; None where there is
    nothing to reach."""

    name: str
    unit: str
    ours: Mapping[str, int]
    reference_name: str
    reference: Mapping[str, int]
    target: float | None = None
    target_p99: float | None = None

    def ratio(self, quantile: str) -> float:
        ours, reference = self.ours[quantile], self.reference[quantile]
        return reference / ours if self.unit.endswith("/s") else ours / reference

    @property
    def targets(self) -> dict[str, float]:
        """By quantile."""
        bounds = {"p50": self.target, "p99": self.target_p99}
        return {quantile: bound for quantile, bound in bounds.items() if bound is not None}

    @property
    def met(self) -> bool | None:
        """Whether every target is; None without one."""
        bounds = self.targets
        return all(self.ratio(q) <= bound for q, bound in bounds.items()) if bounds else None

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": dict(self.ours),
            "reference": {"name": self.reference_name, **self.reference},
            "ratio_p50": round(self.ratio("p50"), 4),
            "ratio_p99": round(self.ratio("p99"), 4),
            "target": self.target,
            "target_p99": self.target_p99,
            "met": self.met,
        }


def present(console: Console, rows: Sequence[Row], json_file: Path | None) -> None:
    """Print the rows with the machine, the command and the date; write the same to `json_file`."""
    console.print(_table(rows))
    where, today = machine(), date.today().isoformat()
    command = shlex.join(["harpoon", *sys.argv[1:]])
    console.print(f"{today}: {', '.join(f'{k} {v}' for k, v in where.items())}", highlight=False)
    console.print(command, highlight=False)
    if json_file is not None:
        table = [row.as_json() for row in rows]
        content = {"machine": where, "command": command, "date": today, "rows": table}
        write_json(json_file, content)


def _table(rows: Sequence[Row]) -> Table:
    """Numbers are never shortened; where it is narrow, words are wrapped."""
    table = Table("measured", "unit", box=SIMPLE_HEAD)
    for name in ("p50", "p99"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("against")
    for name in ("p50", "p99", "ratio", "of p99", "target"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("met")
    for row in rows:
        table.add_row(
            row.name,
            row.unit,
            f"{row.ours['p50']:,}",
            f"{row.ours['p99']:,}",
            row.reference_name,
            f"{row.reference['p50']:,}",
            f"{row.reference['p99']:,}",
            f"{row.ratio('p50'):.3g}",
            f"{row.ratio('p99'):.3g}",
            " / ".join(f"{bound:.3g}" for bound in row.targets.values()),
            {None: "", True: "yes", False: "no"}[row.met],
        )
    return table
