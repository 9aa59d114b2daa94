"""Set the kill latch: no engine that has it open sends another order, and none that is started
later does, until `harpoon reset --yes`."""

from __future__ import annotations

import argparse

from engine.errors import LatchError
from engine.hands_off import set_mark
from engine.latch import Latch, add_latch_arguments, chosen_latch, describe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_latch_arguments(parser)
    parser.add_argument(
        "--reason", default="harpoon kill", metavar="TEXT", help="for whoever is to reset it"
    )


def run(options: argparse.Namespace) -> int:
    path = chosen_latch(options)
    was_there = path.exists()
    latch = Latch(path)
    if (before := latch.state()) is not None:
        print(f"{path}: was set already, {describe(before)}")
    latch.set(options.reason)
    print(f"{path}: set; no order leaves until `harpoon reset --yes`")
    try:
        set_mark(path)
    except LatchError as error:
        print(error)
    print("what is open at the exchange is cancelled by the run that has it open, or the next one")
    if not was_there:
        print("there was no latch before, so no engine had this one open: is it the right file?")
    return 0
