"""Reset the kill latch, so that the next engine may trade; one that is running stays stopped.
Without --yes: say when and why it was set, and change nothing."""

from __future__ import annotations

import argparse
from pathlib import Path

from engine.hands_off import drop_mark, set_mark
from engine.latch import Latch, add_latch_arguments, chosen_latch, describe

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
    latch = Latch(path) if path.exists() else None
    state = None if latch is None else latch.state()
    if latch is None or state is None:
        none = "not set" if latch else "there is no latch; an engine makes one when it starts"
        print(f"{path}: {none}")
        if options.yes and options.resume_exits:
            _resume_exits(path)
        return 0
    print(f"{path}: {describe(state)}")
    if not options.yes:
        print("--yes would reset it, and the next engine could send orders: see first what is open")
        return _NOT_DONE
    # Before the reset: a run that starts in between must know it.
    if options.resume_exits:
        _resume_exits(path)
    else:
        set_mark(path)
        print("positions that are open now are yours to close (--resume-exits would resume them)")
    latch.reset()
    print(f"{path}: reset; an engine that was stopped by it must be started anew")
    return 0


def _resume_exits(latch: Path) -> None:
    drop_mark(latch)
    print("the next run leaves the positions that are open now as their rules say")
