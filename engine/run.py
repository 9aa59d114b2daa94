"""Run against the configured node and venue. Dry-run, which does everything but the send, unless
the configuration says mode = "live" and --live is given."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

from rich.console import Console

from engine import report
from engine._native import check, lib
from engine.allowance import allowance
from engine.config import Config, load
from engine.credentials import credentials
from engine.errors import ConfigError
from engine.processes import at_stdin_eof
from engine.report import Line
from engine.runner import Runner, Stopped
from engine.wallets import open_book

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
PRINT_QUEUE_MAX = 10_000
PRINT_END_S = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="harpoon.toml")
    parser.add_argument(
        "--live", action="store_true", help="send orders; the configuration must say so too"
    )
    parser.add_argument(
        "--stop-on-stdin-eof", action="store_true", help="end when stdin does, as with the parent"
    )
    parser.add_argument("--json-lines", action="store_true", help="records as JSON lines on stdout")


def run(options: argparse.Namespace) -> int:
    check(lib.hp_protect_process(), "keeping the API secret out of core dumps")
    config = load(options.config)
    _agree_on_mode(config, options.live)
    if config.engine.cpu is not None:
        _set_aside(config.engine.cpu)
    console = report.open_console()
    secrets = credentials(config.venue, os.environ)
    with _Printer(_json_line if options.json_lines else lambda r: report.show(console, r)) as emit:
        if config.engine.live:
            emit({"record": "allowed", "lines": allowance(config)})
        book = open_book(
            config.book.files,
            config.book.default,
            warn=lambda words: emit({"record": "notice", "text": words}),
        )
        runner = Runner(config, secrets, book, emit)
        del secrets
        _obey_signals(runner)
        # A thread of its own owns the engine, so that this one can always obey a signal.
        with ThreadPoolExecutor(1, thread_name_prefix="engine") as pool:
            with _signals_blocked():
                if options.stop_on_stdin_eof:
                    at_stdin_eof(runner.stop)
                trading = pool.submit(_trade, runner)
            summary = trading.result()
    if summary is not None and not options.json_lines:
        _print_summary(console, summary)
    return 0


def _trade(runner: Runner) -> Line | None:
    """The run from beginning to end: its summary, None when it was stopped before it began."""
    try:
        runner.start()
    except Stopped:
        return None
    runner.loop()
    return runner.finish()


def _agree_on_mode(config: Config, live: bool) -> None:
    """Real orders need both the file and the flag to say so."""
    if live and not config.engine.live:
        raise ConfigError(
            '--live was given but the configuration says engine.mode = "dry-run": change it to '
            '"live" if you mean it'
        )
    if config.engine.live and not live:
        raise ConfigError(
            'the configuration says engine.mode = "live" but --live was not given: add it if you '
            'mean it, or set mode = "dry-run"'
        )


def _set_aside(cpu: int) -> None:
    """Keep every thread but the engine's, which goes there by itself, off its processor."""
    allowed = os.sched_getaffinity(0)
    if cpu not in allowed:
        names = ", ".join(str(c) for c in sorted(allowed))
        raise ConfigError(f"engine.cpu = {cpu} cannot be used: this process may run on {names}")
    os.sched_setaffinity(0, allowed - {cpu} or allowed)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """For starting threads, which stay so. The kernel gives a signal to any thread that takes it
    (signal(7), "Signal mask and pending signals"), but Python's handlers run in this one only, and
    only a signal of its own ends its wait."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _obey_signals(runner: Runner) -> None:
    def stop(_number: int, _frame: FrameType | None) -> None:
        runner.stop()

    def kill(_number: int, _frame: FrameType | None) -> None:
        runner.kill()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGUSR1, kill)


def _json_line(record: Line) -> None:
    sys.stdout.write(json.dumps(record, separators=(",", ":")) + "\n")
    sys.stdout.flush()


class _Printer:
    """Prints records on a thread of its own: neither a slow terminal nor one that is gone may hold
    up trading. What it cannot keep up with is dropped, and that is said."""

    def __init__(self, show: Callable[[Line], None]) -> None:
        self._show = show
        self._records: queue.Queue[Line | None] = queue.Queue(PRINT_QUEUE_MAX)
        self._dropped = 0
        self._complained = False
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Callable[[Line], None]:
        with _signals_blocked():
            self._thread.start()
        return self._put

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(queue.Full):
            self._records.put(None, timeout=PRINT_END_S)
        self._thread.join(PRINT_END_S)
        if self._thread.is_alive():  # it waits in a write, and Python's own end would wait for it
            os.write(2, b"harpoon: nobody reads standard output: the last lines are lost\n")
            os._exit(1)

    def _put(self, record: Line) -> None:
        try:
            self._records.put_nowait(record)
        except queue.Full:
            self._dropped += 1

    def _work(self) -> None:
        while (record := self._records.get()) is not None:
            dropped, self._dropped = self._dropped, 0
            try:
                if dropped:
                    self._show({"record": "notice", "text": f"{dropped} lines were not printed"})
                self._show(record)
            except (OSError, ValueError) as error:  # the reader is gone, or cannot take a character
                self._complain(error)

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            with contextlib.suppress(OSError, ValueError):
                print(f"harpoon: a line could not be printed ({error})", file=sys.stderr)


def _print_summary(console: Console, summary: Line) -> None:
    armed = summary["stats"]["orders_armed"]
    console.print(report.order_table(summary["orders"], summary["refused"], armed))
    console.print(report.latency_table(summary["latency_ns"]))
    console.print(report.machine_line(summary["machine"]), highlight=False)
