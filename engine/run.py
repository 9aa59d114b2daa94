"""Run against the configured node and venue. Dry-run, which does everything but the send, unless
the configuration says mode = "live" and --live is given."""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from rich.console import Console

from engine import report
from engine.config import Config, credentials, load
from engine.errors import ConfigError
from engine.processes import at_stdin_eof
from engine.report import Record
from engine.runner import Runner
from engine.wallets import open_book


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
    config = load(options.config)
    _agree_on_mode(config, options.live)
    secrets = credentials(config.venue, os.environ)
    _check_cpu(config.engine.cpu)
    console = report.open_console()
    with _Printer(_json_line if options.json_lines else lambda r: report.show(console, r)) as emit:
        book = open_book(
            config.book.files,
            config.book.default,
            warn=lambda words: emit({"record": "notice", "text": words}),
        )
        runner = Runner(config, secrets, book, emit)
        _obey_signals(runner)
        if options.stop_on_stdin_eof:
            at_stdin_eof(runner.stop)
        runner.start()
        runner.loop()
        summary = runner.finish()
    if not options.json_lines:
        _print_summary(console, summary)
    return 0


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


def _check_cpu(cpu: int | None) -> None:
    allowed = os.sched_getaffinity(0)
    if cpu is not None and cpu not in allowed:
        names = ", ".join(str(c) for c in sorted(allowed))
        raise ConfigError(f"engine.cpu = {cpu} cannot be used: this process may run on {names}")


def _obey_signals(runner: Runner) -> None:
    def stop(_number: int, _frame: FrameType | None) -> None:
        runner.stop()

    def kill(_number: int, _frame: FrameType | None) -> None:
        runner.kill()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGUSR1, kill)


def _json_line(record: Record) -> None:
    sys.stdout.write(json.dumps(record, separators=(",", ":")) + "\n")
    sys.stdout.flush()


class _Printer:
    """Prints records on a thread of its own: a slow terminal must not hold up the feed."""

    def __init__(self, show: Callable[[Record], None]) -> None:
        self._show = show
        self._records: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Callable[[Record], None]:
        self._thread.start()
        return self._records.put

    def __exit__(self, *_: object) -> None:
        self._records.put(None)
        self._thread.join()

    def _work(self) -> None:
        broken = False
        while (record := self._records.get()) is not None:
            try:
                if not broken:
                    self._show(record)
            except OSError:
                broken = True  # nobody reads any more; trading goes on


def _print_summary(console: Console, summary: Record) -> None:
    console.print(report.order_table(summary["orders"], summary["refused"]))
    console.print(report.latency_table(summary["latency_ns"]))
    console.print(report.machine_line(summary["machine"]), highlight=False)
