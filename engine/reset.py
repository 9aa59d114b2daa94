"""Reset the kill latch, so that the next engine may trade; one that is running stays stopped.
Without --yes: say when and why it was set, and change nothing."""

from __future__ import annotations

import argparse
import time

from engine.latch import Latch, add_latch_arguments, chosen_latch, describe, keep_hands_off

_NOT_DONE = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_latch_arguments(parser)
    parser.add_argument("--yes", action="store_true", help="do it")
    parser.add_argument(
        "--resume-exits",
        action="store_true",
        help="let the next run leave the open positions as their rules say; without it they are "
        "yours to close",
    )


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
    if not options.resume_exits:  # first: a run that starts in between must know it
        keep_hands_off(path, time.time_ns() // 1_000_000)
    latch.reset()
    print(f"{path}: reset; an engine that was stopped by it must be started anew")
    if not options.resume_exits:
        print("positions that are open now are yours to close (--resume-exits would resume them)")
    return 0
