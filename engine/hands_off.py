"""Hands off: what was open when somebody stopped the engine is theirs to close.

A kill and a reset leave a mark in a file beside the latch: a random number. The next live run that
is not killed writes it into its preamble, and whatever a journal has before a mark that is new to
it has passed into a person's hands. So no two clocks are compared, and the mark outlives the
latch."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from engine.errors import LatchError

MARK_BYTES = 8
MARK_DIGITS_MOST = 64  # of what somebody else wrote there


def mark_file(latch: Path) -> Path:
    return latch.with_name(latch.name + ".hands-off")


def set_mark(latch: Path) -> None:
    """What is open now is a person's. LatchError when that cannot be kept."""
    file = mark_file(latch)
    new = file.with_name(file.name + ".new")
    try:
        with new.open("w") as stream:
            stream.write(f"{secrets.token_hex(MARK_BYTES)}\n")
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(file)
    except OSError as error:
        raise LatchError(
            f"{file} cannot be written ({error.strerror}), and the next run would leave the "
            "positions that are open now: make it writable and do this again"
        ) from error


def drop_mark(latch: Path) -> None:
    """What is open now is the next run's after all, if no run has begun since the mark was set."""
    file = mark_file(latch)
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise LatchError(f"{file} cannot be removed ({error.strerror}): remove it") from error


def mark_of(latch: Path) -> str:
    """ "" when there is none. Whatever else is in the file is a mark too: rather a position too
    many for a person than an order too many."""
    file = mark_file(latch)
    try:
        text = file.read_text(errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise LatchError(
            f"{file} cannot be read ({error.strerror}), and tells which positions are yours to "
            "close: make it readable"
        ) from error
    return text.strip()[:MARK_DIGITS_MOST] or "empty"
