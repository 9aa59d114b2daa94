"""The hot path beside its floors and its rivals, every figure a ratio within one run: medians over
rounds, everybody in turns.

  trigger to send returned     the engine and a bare send(2)
  io_uring                     each way of it and a bare send(2) of as many bytes
  published to order received  a node in C sends; the kernel stamps the order at the exchange
  readable to send returned    the engine and recv + send in C
  tx/s                         decoded and matched on one core
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from engine.errors import HarpoonError
from engine.report import open_console
from harpoon_bench import hot_feed, hot_fire, hot_floors, hot_rate
from harpoon_bench.engines import order_bytes
from harpoon_bench.table import present

API_KEY_CHARACTERS = 64
LOAD_MAX = 1.0  # before we begin


@dataclass(frozen=True)
class Size:
    """Of each round."""

    rounds: int
    sends: int
    deposits: int
    burst: int


FULL = Size(rounds=5, sends=1000, deposits=300, burst=400_000)
QUICK = Size(rounds=1, sends=200, deposits=100, burst=50_000)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rounds", type=int, metavar="N", help=f"default {FULL.rounds}, with --quick 1"
    )
    parser.add_argument("--quick", action="store_true", help="small rounds: only to see it work")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there as JSON")


def run(options: argparse.Namespace) -> int:
    size = QUICK if options.quick else FULL
    rounds = size.rounds if options.rounds is None else options.rounds
    if rounds < 1:
        raise HarpoonError("--rounds must be 1 or more")
    if len(os.sched_getaffinity(0)) < 2:
        raise HarpoonError("bench hot needs two cores: one for the contender, one for the rest")
    hot_feed.require_rivals()
    load = os.getloadavg()[0]
    if load > LOAD_MAX:
        print(
            f"other work keeps this machine busy (load {load:.1f}): expect noise", file=sys.stderr
        )
    rows = [
        *hot_fire.rows(rounds, size.sends),
        *hot_floors.rows(rounds, size.sends, order_bytes("k" * API_KEY_CHARACTERS)),
        *hot_feed.rows(rounds, size.deposits),
        *hot_rate.rows(rounds, size.burst),
    ]
    present(open_console(), rows, options.json)
    return 0
