"""`harpoon run` as a process against a venue and a node of the test's."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.address import address_of
from engine.sim.exchange import ExchangeSim

from .peers import wallet

Line = dict[str, Any]
CONFIG = """
[engine]
mode = {mode}
transport = {transport}
[feed]
endpoint = {endpoint}
[venue]
url = {url}
stream_url = {stream_url}
ca_file = {ca_file}
timeout_s = 10
{venue}
[risk]
max_orders = 1000000
cooldown_s = 0
exchange_cooldown_s = 0
max_orders_per_second = 1000
max_orders_per_minute = 1000
max_orders_per_hour = 1000
max_orders_per_day = 1000
[book]
files = ["book.csv"]
default = false
[[rule]]
name = "whale"
min_btc = "1"
side = "SELL"
symbol = "BTCUSDT"
type = "MARKET"
quantity = "0.001"
exit_after_s = 0
"""


def write_config(
    folder: Path,
    *,
    url: str,
    ca_file: Path,
    stream_url: str = "wss://127.0.0.1:1",
    endpoint: str = "tcp://127.0.0.1:1",
    live: bool = True,
    transport: str = "io_uring",
    **venue: str,
) -> Path:
    """harpoon.toml and its book, in which kraken has wallet("kraken"); `venue` are more keys of
    [venue]."""
    (folder / "book.csv").write_text(f"address,exchange\n{address_of(wallet('kraken'))},kraken\n")
    values = {"url": url, "stream_url": stream_url, "ca_file": str(ca_file)}
    values |= {"endpoint": endpoint, "transport": transport}
    values["mode"] = "live" if live else "dry-run"
    more = "\n".join(f"{key} = {json.dumps(value)}" for key, value in venue.items())
    file = folder / "harpoon.toml"
    file.write_text(CONFIG.format(venue=more, **{k: json.dumps(v) for k, v in values.items()}))
    return file


class HarpoonRun:
    """`output` is every byte of its standard output so far."""

    def __init__(self, config: Path, environ: Mapping[str, str], *flags: str) -> None:
        self.output = ""
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "engine.cli", "run", "--config", str(config), *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environ},
        )

    def _lines(self) -> Iterator[str]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            yield line
        raise AssertionError(f"it ended before: {self.end()}")

    def line(self, pattern: str) -> str:
        """The next line with something like that in it."""
        return next(line for line in self._lines() if re.search(pattern, line))

    def until(self, wanted: Callable[[Line], bool]) -> Line:
        """The first record that is wanted, with --json-lines."""
        return next(record for record in map(json.loads, self._lines()) if wanted(record))

    def record(self, kind: str, **values: object) -> Line:
        wanted = {"record": kind, **values}
        return self.until(lambda line: wanted.items() <= line.items())

    def notice(self, words: str) -> Line:
        return self.until(lambda line: line["record"] == "notice" and words in line["text"])

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """The exit status and standard error, after this signal unless it has ended."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        rest, errors = self.process.communicate(timeout=30)
        self.output += rest
        return self.process.returncode, errors


@contextmanager
def running(config: Path, environ: Mapping[str, str], *flags: str) -> Iterator[HarpoonRun]:
    run = HarpoonRun(config, environ, *flags)
    try:
        yield run
    finally:
        run.process.kill()
        run.process.communicate()


@contextmanager
def exchange(**options: Any) -> Iterator[ExchangeSim]:
    """The simulator in a thread of this process, so that a test can tell it to misbehave."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    sim = ExchangeSim(**options)
    try:
        asyncio.run_coroutine_threadsafe(sim.start(), loop).result(10)
        yield sim
        asyncio.run_coroutine_threadsafe(sim.stop(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
