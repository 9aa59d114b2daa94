"""Reset the kill latch, so that the next engine may trade; one that is running stays stopped.
Without --yes: say when and why it was set, and change nothing."""

from __future__ import annotations

import argparse

from engine.latch import Latch, add_latch_arguments, chosen_latch, describe

_NOT_DONE = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_latch_arguments(parser)
    parser.add_argument("--yes", action="store_true", help="do it")


def run(options: argparse.Namespace) -> int:
    path = chosen_latch(options)
    if not path.exists():
        print(f"{path}: there is no latch to reset; an engine makes one when it starts")
        return 0
    latch = Latch(path)
    state = latch.state()
    if state is None:
        print(f"{path}: not set; nothing to do")
        return 0
    print(f"{path}: {describe(state)}")
    if not options.yes:
        print("--yes would reset it, and the next engine could send orders: see first what is open")
        return _NOT_DONE
    latch.reset()
    print(f"{path}: reset; an engine that was stopped by it must be started anew")
    return 0
