"""Child processes of this same installation that speak JSON lines on their standard output."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from engine.errors import HarpoonError

Line = dict[str, Any]
STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class Heard:
    """One JSON line from the child `name`; None when its output has ended."""

    name: str
    line: Line | None


def at_stdin_eof(act: Callable[[], object]) -> None:
    """Call `act` on a thread of its own when standard input ends, as it does with the parent. A
    thread, because epoll refuses a stdin that is a regular file or /dev/null."""

    def wait() -> None:
        with contextlib.suppress(OSError):  # a closed stdin is at its end, too
            while os.read(0, 4096):
                pass
        act()

    threading.Thread(target=wait, daemon=True).start()


class Children:
    """Start them, hear all of them through one queue, and leave none behind (a context manager).

    A child that outlives us must end by itself: its standard input closes."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._heard: queue.SimpleQueue[Heard] = queue.SimpleQueue()

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(
        self,
        name: str,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        cpus: Set[int] = frozenset(),
    ) -> None:
        """On `cpus` only, if any are given. `-P` keeps a source tree in the working directory from
        hiding the installed package."""
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "engine.cli", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(environ),
            start_new_session=True,  # a Ctrl-C is ours; we end the children in order
        )
        if cpus:
            os.sched_setaffinity(process.pid, cpus)
        self._running[name] = process
        threading.Thread(target=self._listen, args=(name, process), daemon=True).start()

    def _listen(self, name: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for text in process.stdout:
            self._heard.put(Heard(name, json.loads(text)))
        self._heard.put(Heard(name, None))

    def hear(self, timeout_s: float) -> Heard | None:
        """The next line of any child; None when none said anything for so long."""
        try:
            return self._heard.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def first_line(self, name: str, timeout_s: float) -> Line:
        """What a child says when it is ready; it must be the only one that speaks."""
        heard = self.hear(timeout_s)
        if heard is None or heard.name != name or heard.line is None:
            raise HarpoonError(f"the {name} did not start: its own message is above")
        return heard.line

    def tell(self, name: str, line: str) -> None:
        stdin = self._running[name].stdin
        assert stdin is not None
        stdin.write(line.encode() + b"\n")
        stdin.flush()

    def terminate(self, name: str) -> None:
        self._running[name].terminate()

    def wait(self, name: str) -> int:
        """The exit status of a child that has been told to end."""
        return self._running[name].wait(STOP_S)
