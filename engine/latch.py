"""The kill latch (csrc/latch.c): a file that stops every engine which has it open, and stays set
until a person resets it."""

from __future__ import annotations

import argparse
import errno
import os
import tomllib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from engine._native import ffi, lib, text
from engine.errors import ConfigError, LatchError
from engine.report import plain

NAME = "harpoon.latch"  # beside the configuration, unless that names another


@dataclass(frozen=True, slots=True)
class LatchState:
    """Why the latch is set, and since when (ms since the epoch; None: nobody knows)."""

    reason: str
    set_at_ms: int | None


class Latch:
    """The latch at `path`, made when there is none, in a folder that must be there. LatchError when
    it cannot be opened. A file that is damaged, or something else, counts as set."""

    def __init__(self, path: Path) -> None:
        error = ffi.new("int *")
        handle = lib.hp_latch_open(os.fsencode(path), error)
        if handle == ffi.NULL:
            raise LatchError(_unusable(path, -error[0]))
        self.path = path
        self._handle: Any = ffi.gc(handle, lib.hp_latch_close)

    @property
    def handle(self) -> Any:
        """The hp_latch *, for the engine."""
        return self._handle

    def set(self, reason: str) -> None:
        """From any thread; the first reason stays. When this returns, no engine that has the latch
        open begins to send another order."""
        code = lib.hp_latch_set(self._handle, reason.encode("utf-8", "replace"))
        if code < 0:
            raise LatchError(_unusable(self.path, -code))

    def reset(self) -> None:
        """For the next engine: one that has seen it set stays stopped."""
        code = lib.hp_latch_reset(self._handle)
        if code == -lib.HP_ELATCH:
            raise LatchError(_damaged(self.path))
        if code < 0:
            raise LatchError(_unusable(self.path, -code))

    def state(self) -> LatchState | None:
        """None when it is not set."""
        state = ffi.new("hp_latch_state *")
        if not lib.hp_latch_is_set(self._handle, state):
            return None
        if state.is_damaged:
            return LatchState(_damaged(self.path), None)
        return LatchState(text(state.reason), state.set_at_ms or None)

    def is_there(self) -> bool:
        """`path` still is this file, whole: else nobody could stop the engine by it."""
        return bool(lib.hp_latch_is_there(self._handle))


def _damaged(path: Path) -> str:
    return (
        f"{path} is no kill latch, or a damaged one, which counts as set: see what it is and "
        "remove it, to have a new one that is not set"
    )


def _unusable(path: Path, code: int) -> str:
    if path.is_symlink() and not path.exists():
        return (
            f"the kill latch {path} is a symbolic link to {path.readlink()}, which is not there: "
            "remove the link, or make what it points to reachable"
        )
    if code == errno.ENOENT:
        return f"the kill latch {path} cannot be made: make the folder {path.parent} first"
    return (
        f"the kill latch {path} cannot be used ({os.strerror(code)}): let risk.latch name a file "
        "that you may read and write"
    )


def latch_of(config: Path) -> Path:
    """The latch that the configuration names. The rest of it is not looked at: a mistake there must
    not keep anybody from stopping an engine."""
    try:
        with config.open("rb") as file:
            risk = tomllib.load(file).get("risk", {})
    except OSError as error:
        raise ConfigError(f"{config}: cannot be read: {error.strerror}: check the path") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{config}: not valid TOML ({error}): name the latch itself with --latch"
        ) from error
    name = risk.get("latch", NAME) if isinstance(risk, dict) else NAME
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{config} [risk] latch = {name!r}: must be a path in quotation marks")
    return config.parent / name


def add_latch_arguments(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--config", type=Path, metavar="FILE", help="harpoon.toml, of the engine")
    which.add_argument("--latch", type=Path, metavar="FILE", help="the latch itself")


def chosen_latch(options: argparse.Namespace) -> Path:
    path: Path = options.latch or latch_of(options.config)
    return path


def describe(state: LatchState) -> str:
    """In words for a person: since when, and why."""
    if state.set_at_ms is None:
        return plain(state.reason)
    moment = datetime.fromtimestamp(state.set_at_ms / 1000).astimezone()
    return f"set at {moment:%Y-%m-%d %H:%M:%S %z}: {plain(state.reason)}"
