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
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from engine.address import address_of
from engine.sim.exchange import ExchangeSim
from engine.sim.rates import Limits

from .peers import wallet
from .publisher import Publisher

Line = dict[str, Any]
Honest = Callable[[], str]
Answer = Callable[[Line, Honest], object]
PLENTY = Limits(request_weight=10**6, orders_10_s=10**6, orders_day=10**6)
LIFTED = {
    "max_orders": 1_000_000,
    "cooldown_s": 0,
    "exchange_cooldown_s": 0,
    "max_total_notional": 10_000_000,
    "max_position_notional": 10_000_000,
    "max_orders_per_second": 100_000,
    "max_orders_per_minute": 100_000,
    "max_orders_per_hour": 100_000,
    "max_orders_per_day": 100_000,
    "max_unresolved": 1000,
}
WHALE = {
    "name": "whale",
    "min_btc": "1",
    "side": "SELL",
    "symbol": "BTCUSDT",
    "type": "MARKET",
    "quantity": "0.001",
    "exit_after_s": 0,
}


def write_config(
    folder: Path,
    *,
    url: str,
    ca_file: Path,
    stream_url: str = "wss://127.0.0.1:1",
    endpoint: str = "tcp://127.0.0.1:1",
    live: bool = True,
    transport: str = "io_uring",
    spin: bool = False,
    timeout_s: int = 10,
    sweep_inputs_min: int = 6,
    risk: Mapping[str, object] | None = None,
    rule: Mapping[str, object] | None = None,
    **venue: str | int,
) -> Path:
    """harpoon.toml and its book, in which kraken has wallet("kraken"). By default no risk limit is
    in the way of many orders, and nothing is ever left again; `risk` and `rule` say otherwise, and
    `venue` are more keys of [venue]."""
    (folder / "book.csv").write_text(f"address,exchange\n{address_of(wallet('kraken'))},kraken\n")
    addresses = {"url": url, "stream_url": stream_url, "ca_file": str(ca_file)}
    engine = {"transport": transport, "spin": spin, "sweep_inputs_min": sweep_inputs_min}
    tables = {
        "[engine]": {**engine, "mode": "live" if live else "dry-run"},
        "[feed]": {"endpoint": endpoint},
        "[venue]": {**addresses, "timeout_s": timeout_s, **venue},
        "[risk]": {**LIFTED, **(risk or {})},
        "[journal]": {"segment_mb": 4},
        "[book]": {"files": ["book.csv"], "default": False},
        "[[rule]]": {**WHALE, **(rule or {})},
    }
    lines = []
    for header, keys in tables.items():
        lines += [header, *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]
    file = folder / "harpoon.toml"
    file.write_text("\n".join(lines))
    return file


class HarpoonRun:
    """`output` is every byte of its standard output so far, and after wait() all of it."""

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

    def settle(self, transactions: int) -> None:
        """Until it has heard so many, and no order that it has told of is still to come to its
        end. It was started with --json-lines, and sells at once what it sells."""
        heard = 0
        statuses: dict[str, str] = {}
        told = map(json.loads, chain(self.output.splitlines(), self._lines()))
        while heard < transactions or not set(statuses.values()) <= {"filled", "rejected"}:
            line = next(told)
            if line["record"] == "order":
                statuses[line["client_id"]] = line["status"]
            elif line["record"] == "progress":
                heard = line["stats"]["transactions"]

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """The exit status and standard error, after this signal unless it has ended."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        """Not by communicate(), which would not give what the stream has read ahead."""
        stdout, stderr = self.process.stdout, self.process.stderr
        assert stdout is not None
        assert stderr is not None
        errors: list[str] = []
        hearing = threading.Thread(target=lambda: errors.append(stderr.read()))
        deadline = threading.Timer(30, self.process.kill)
        hearing.start()
        deadline.start()
        self.output += stdout.read()
        hearing.join()
        self.process.wait()
        deadline.cancel()
        stdout.close()
        stderr.close()
        return self.process.returncode, errors[0]


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


class Script:
    """Stands between a simulator and its clients: counts what they ask, and has another `answer`
    where a test wants one. That is called with the request and with what executes it and returns
    the simulator's reply; its result is the reply, None to send the simulator's without more."""

    def __init__(self, sim: ExchangeSim, answer: Answer = lambda request, honest: None) -> None:
        self.answer = answer
        self.asked: Counter[str] = Counter()
        self._venue_answer = sim.venue.answer
        sim.venue.answer = self._answer  # type: ignore[method-assign]

    def _answer(self, message: Any, received_ns: int, connection: Any) -> str:
        request = json.loads(message)
        self.asked[request["method"]] += 1

        def honest() -> str:
            return self._venue_answer(message, received_ns, connection)

        reply = self.answer(request, honest)
        if reply is None:
            return honest()
        return reply if isinstance(reply, str) else json.dumps(reply)

    def wait_prepared(self, sessions: int) -> None:
        """Until so many sessions have asked the last thing before they take orders."""
        deadline = time.monotonic() + 20
        while self.asked["account.rateLimits.orders"] < sessions:
            assert time.monotonic() < deadline, self.asked
            time.sleep(0.02)
        time.sleep(0.1)  # and have its answer


@contextmanager
def trading(
    sim: ExchangeSim, node: Publisher, folder: Path, **settings: Any
) -> Iterator[HarpoonRun]:
    """A live run that is ready and hears the node; `settings` are those of write_config()."""
    config = write_config(
        folder,
        url=sim.url,
        stream_url=sim.stream_url,
        endpoint=node.endpoint,
        **{"ca_file": sim.ca_file, **settings},
    )
    environ = {"HARPOON_API_KEY": sim.api_key, "HARPOON_API_SECRET": sim.api_secret}
    with running(config, environ, "--live", "--json-lines") as run:
        run.record("ready")
        node.wait_subscriber()
        yield run
    node.wait_gone()
