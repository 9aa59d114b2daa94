"""The kernels, each beside what people use: hashing and signing, and whatever else here has a
`kernels_...` module. Everything runs on one core, in turns, so that a noisy machine disturbs
all alike; every sample is many calls."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
from pathlib import Path

import harpoon_bench
from engine.errors import HarpoonError
from engine.report import open_console
from harpoon_bench.table import Row, present


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rounds", type=int, default=300, metavar="N", help="samples of each (default 300)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there as JSON")


def run(options: argparse.Namespace) -> int:
    if options.rounds < 1:
        raise HarpoonError("--rounds must be 1 or more")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    present(open_console(), measure(options.rounds), options.json)
    return 0


def measure(rounds: int) -> list[Row]:
    """The rows of every `kernels_...` module, each of which has a `rows(rounds)`."""
    names = sorted(module.name for module in pkgutil.iter_modules(harpoon_bench.__path__))
    rows: list[Row] = []
    for name in names:
        if name.startswith("kernels_"):
            rows += importlib.import_module(f"harpoon_bench.{name}").rows(rounds)
    return rows
