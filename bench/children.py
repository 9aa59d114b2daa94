"""Modules of this package as processes of their own that speak JSON lines and end with their
standard input."""

from __future__ import annotations

import json
import os
import secrets
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.errors import HarpoonError
from engine.sim import authority

START_S = 20.0
STOP_S = 5.0


class Child:
    """One process (a context manager), on `cpus` only if any are given. `-P` keeps a source tree in
    the working directory from hiding the installed package."""

    def __init__(self, module: str, *arguments: str, cpus: Set[int] = frozenset()) -> None:
        self.name = module
        self._heard = b""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", f"harpoon_bench.{module}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is ours; the child ends with its input
        )
        if cpus:
            os.sched_setaffinity(self._process.pid, cpus)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        for end in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                end()
        self._process.wait()
        self._process.stdout.close()

    def hear(self, timeout_s: float = START_S) -> dict[str, Any]:
        """Its next line; HarpoonError when it does not come."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._heard:
            left_s = max(0.0, deadline - time.monotonic())
            if not select.select([descriptor], [], [], left_s)[0]:
                raise HarpoonError(f"{self.name} was silent for {timeout_s:.0f} s: try again.")
            data = os.read(descriptor, 1 << 16)
            if not data:
                raise HarpoonError(f"{self.name} has ended: its own message is above.")
            self._heard += data
        line, self._heard = self._heard.split(b"\n", 1)
        heard: dict[str, Any] = json.loads(line)
        return heard


@contextmanager
def exchange_on(cpus: Set[int]) -> Iterator[tuple[Child, dict[str, Any]]]:
    """The exchange (tls_peer), and what a client has to know of it."""
    account = {"api_key": secrets.token_hex(32), "api_secret": secrets.token_hex(32)}
    with tempfile.TemporaryDirectory(prefix="harpoon-bench-") as folder:
        files = authority.issue(Path(folder))
        shown = {"certificate_file": str(files.certificate_file), "key_file": str(files.key_file)}
        with Child("tls_peer", json.dumps({**account, **shown}), cpus=cpus) as child:
            yield child, {**account, **child.hear(), "ca_file": str(files.ca_file)}


def say(**line: object) -> None:
    """To the parent."""
    print(json.dumps(line), flush=True)


def as_child(act: Callable[[], object]) -> None:
    """The main program of a child: its failure is a sentence, too."""
    try:
        act()
    except (HarpoonError, OSError) as error:
        sys.exit(f"{Path(sys.argv[0]).stem}: {error}")
