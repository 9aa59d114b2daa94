"""A long run in little time: node, exchange and engine as processes whose time runs faster
(tests/preload/fast_time.c), watched from outside. It passes when memory is flat, nothing is lost
and nobody complains.

python tests/soak.py [--hours H] [--speed N] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import queue
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import fast_time

from engine.demo import compare
from engine.report import agree
from engine.sim.exchange import ExchangeSim

Line = dict[str, Any]
START_S = 60.0  # real
SILENT_AFTER_S = 600
# What a leak would have to stay below, in MB an hour: 70 bytes a transaction, 28 each time that an
# order is armed again, or 17 kB each time that the venue's clock is read.
SLOPE_MOST = 1.0
WARM_UP = 1 / 6  # of the run: allocators, caches and histograms have reached their size then
# What a run says at its start, and of a venue that leaves or dies and of what comes after it.
EXPECTED = re.compile(
    "|".join(
        (
            r"^live: |^rule '|^at most |^in each symbol's |^`harpoon kill`",
            r"^connected to |^prices come from |^no prices from .*(close frame|closed|refused)",
            r"^the position of hp\S+ is still open|^the next run with this journal",
            r"the server closed |is about to shut down|shuts down the server|was left again",
        )
    )
)


@dataclass(frozen=True)
class Plan:
    """Times in simulated seconds."""

    duration_s: int
    speed: int
    transactions_per_s: int = 4
    whale_every_s: int = 180
    cut_every_s: int = 2 * 3600
    sample_every_s: int = 120

    @property
    def transactions(self) -> int:
        return self.duration_s * self.transactions_per_s

    @property
    def whales(self) -> int:
        return self.duration_s // self.whale_every_s


# ---- processes -----------------------------------------------------------------------------------


class Part:
    """One process of the play: its JSON lines go to `heard` with its name."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environ: dict[str, str],
        heard: queue.SimpleQueue[tuple[str, Line | None]],
    ) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environ,
        )
        self._heard = heard
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._heard.put((self.name, json.loads(line)))
        self._heard.put((self.name, None))

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._thread.join()
        with self.process:  # closes its pipes
            pass


# ---- what is watched -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """One process at one simulated time. `memory_kb` is anonymous memory: the pages of mapped
    files, the journal's among them, are the page cache's."""

    process: str
    t_s: float
    memory_kb: int
    files: int | None  # None: only root may look into a process that is not dumpable
    threads: int


def sample(part: Part, t_s: float) -> Sample:
    lines = Path(f"/proc/{part.process.pid}/status").read_text(encoding="utf-8").splitlines()
    status = dict(line.split(":", 1) for line in lines)
    files: int | None = None
    with contextlib.suppress(PermissionError):
        files = len(os.listdir(f"/proc/{part.process.pid}/fd"))
    return Sample(part.name, t_s, int(status["RssAnon"].split()[0]), files, int(status["Threads"]))


@dataclass
class Outcome:
    """`lag_s` is how far the engine was behind the node, at each sample."""

    plan: Plan
    samples: list[Sample] = field(default_factory=list)
    journal_bytes: list[int] = field(default_factory=list)
    lag_s: list[float] = field(default_factory=list)
    notices: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    summary: Line = field(default_factory=dict)
    ledger: list[Line] = field(default_factory=list)
    published: int = 0
    took_s: float = 0.0

    def of(self, process: str) -> list[Sample]:
        """After the warm-up."""
        begin_s = self.plan.duration_s * WARM_UP
        return [s for s in self.samples if s.process == process and s.t_s >= begin_s]

    def entries(self) -> list[Line]:
        """The venue's orders that are no exits."""
        return [order for order in self.ledger if order["client_id"].startswith("hp")]

    def slope_mb(self, process: str) -> float:
        """Growth of memory in MB an hour, by least squares."""
        points = self.of(process)
        fit = statistics.linear_regression(
            [point.t_s / 3600 for point in points], [point.memory_kb / 1024 for point in points]
        )
        return fit.slope


PROCESSES = ("engine", "exchange", "node")
ANSWERED = ("acked ", "filled ")


def complaints(outcome: Outcome, slope_most: float = SLOPE_MOST) -> list[str]:
    """What is wrong with a run: nothing, if the list is empty."""
    found = []
    for process in PROCESSES:
        samples = outcome.of(process)
        slope = outcome.slope_mb(process)
        if slope > slope_most:
            found.append(f"{process}: memory grows by {slope:.2f} MB an hour")
        for what in ("files", "threads"):
            counts = [getattr(s, what) for s in samples if getattr(s, what) is not None]
            half = len(counts) // 2  # the least of each: a reconnection has one more for a moment
            if half and min(counts[half:]) > min(counts[:half]):
                least = min(counts[:half]), min(counts[half:])
                found.append(f"{process}: {least[0]} {what} have become {least[1]}")
    handled = outcome.summary["stats"]["transactions"]
    if handled != outcome.published:
        found.append(f"{outcome.published} transactions were published and {handled} handled")
    if len(outcome.entries()) < outcome.plan.whales * 0.9:
        found.append(f"only {len(outcome.entries())} orders for {outcome.plan.whales} whales")
    rows = compare(outcome.summary["orders"], outcome.ledger)
    differ = sum(not agree(ours, theirs) for _, ours, theirs in rows)
    if differ:
        found.append(f"{differ} orders differ from the exchange's ledger")
    ends = Counter(f"{o['status']} ({o['reason']})" for o in outcome.summary["orders"])
    found += [
        f"{count} orders ended as {end}"
        for end, count in ends.items()
        if not end.startswith(ANSWERED)
    ]
    found += [
        f"{count} times: {words}"
        for words, count in outcome.notices.items()
        if not EXPECTED.search(words)
    ]
    return found


# ---- the play ------------------------------------------------------------------------------------

CONFIG = """
[engine]
mode = "live"
transport = "syscall"
[feed]
endpoint = {endpoint}
silent_after_s = {silent_after_s}
[journal]
segment_mb = 4
[book]
files = [{book}]
default = false
[venue]
url = {url}
stream_url = {stream_url}
ca_file = {ca_file}
[risk]
max_orders = 1000000
cooldown_s = 0
exchange_cooldown_s = 0
max_total_notional = 10000000
max_position_notional = 10000000
max_orders_per_second = 100
max_orders_per_minute = 100
max_orders_per_hour = 1000
max_orders_per_day = 1000
max_signal_age_us = 60000000
[[rule]]
name = "whale"
min_btc = "1"
side = "SELL"
symbol = "BTCUSDT"
type = "MARKET"
quantity = "0.00100"
exit_after_s = 300
"""


class Play:
    def __init__(self, plan: Plan, folder: Path) -> None:
        self.outcome = Outcome(plan)
        self._plan, self._folder = plan, folder
        self._heard: queue.SimpleQueue[tuple[str, Line | None]] = queue.SimpleQueue()
        self._parts: dict[str, Part] = {}
        self._environ = fast_time.environment(fast_time.build(folder), plan.speed)
        self._began = self._sampled = 0.0
        self._handled = 0

    def __enter__(self) -> Play:
        return self

    def __exit__(self, *_: object) -> None:
        for part in reversed(self._parts.values()):
            part.end()

    def _start(self, name: str, *command: str, **environ: str) -> Part:
        part = Part(name, command, {**self._environ, **environ}, self._heard)
        self._parts[name] = part
        return part

    def _first_line(self, name: str) -> Line:
        speaker, line = self._heard.get(timeout=START_S)
        if speaker != name or line is None:
            raise SystemExit(f"the {name} did not start: its own message is above")
        return line

    def start(self) -> None:
        plan, folder = self._plan, self._folder
        ledger, book = str(folder / "ledger.jsonl"), str(folder / "book.csv")
        self._start(
            "exchange", __file__, "--exchange", ledger, "--cut-every-s", str(plan.cut_every_s)
        )
        exchange = self._first_line("exchange")
        others = plan.whales // 2
        self._start(
            "node",
            *("-P", "-m", "engine.cli", "sim", "node", "--start-on-stdin", "--await-subscriber"),
            *("--book-out", book),
            *("--rate", str(plan.transactions_per_s), "--count", str(plan.transactions)),
            *("--deposits", str(plan.whales), "--change-backs", str(others)),
            *("--sweeps", str(others)),
        )
        node = self._first_line("node")
        values = {"endpoint": node["endpoint"], "book": book, "silent_after_s": SILENT_AFTER_S}
        values |= {key: exchange[key] for key in ("url", "stream_url", "ca_file")}
        config = folder / "harpoon.toml"
        config.write_text(CONFIG.format(**{k: json.dumps(v) for k, v in values.items()}))
        self._start(
            "engine",
            *("-P", "-m", "engine.cli", "run", "--live", "--json-lines", "--stop-on-stdin-eof"),
            *("--config", str(config)),
            HARPOON_API_KEY=exchange["api_key"],
            HARPOON_API_SECRET=exchange["api_secret"],
        )
        while (line := self._first_line("engine"))["record"] != "ready":
            self._on_line("engine", line)

    def now_s(self) -> float:
        """Simulated seconds since the node began."""
        return (time.monotonic() - self._began) * self._plan.speed

    def follow(self) -> None:
        """Until everything published was handled, and the engine has summed up."""
        self._parts["node"].tell("go")
        self._began = time.monotonic()
        while not self.outcome.summary:
            left_s = (self._sampled - self.now_s()) / self._plan.speed
            if left_s <= 0:
                self._sample()
                continue
            with contextlib.suppress(queue.Empty):
                self._on_line(*self._heard.get(timeout=left_s))
        self.outcome.took_s = time.monotonic() - self._began
        ledger = (self._folder / "ledger.jsonl").read_text(encoding="utf-8")
        entries = [json.loads(line) for line in ledger.splitlines()]
        self.outcome.ledger = [e for e in entries if e.get("entry", "order") == "order"]

    def _sample(self) -> None:
        t_s = self.now_s()
        self._sampled += self._plan.sample_every_s
        self.outcome.samples += [sample(part, t_s) for part in self._parts.values()]
        journal = (self._folder / "journal").glob("*.hpj")
        self.outcome.journal_bytes.append(sum(path.stat().st_blocks * 512 for path in journal))
        published = min(t_s, self._plan.duration_s) * self._plan.transactions_per_s
        self.outcome.lag_s.append((published - self._handled) / self._plan.transactions_per_s)
        if t_s > self._plan.duration_s * 1.2 + SILENT_AFTER_S:
            raise SystemExit("the run does not come to its end: transactions are missing")

    def _on_line(self, name: str, line: Line | None) -> None:
        if line is None:
            raise SystemExit(f"the {name} ended early: its own message is above")
        if name == "node":
            self.outcome.published = line["published"]
            return
        match line["record"]:
            case "notice":
                self.outcome.notices[line["text"]] += 1
            case "refused":
                self.outcome.refused[line["limit"]] += 1
            case "progress":
                self._handled = line["stats"]["transactions"]
                if self.outcome.published == self._handled > 0:
                    self._parts["engine"].process.send_signal(signal.SIGTERM)
            case "summary":
                self.outcome.summary = line


def play(plan: Plan) -> Outcome:
    """One whole run. It ends with what is missing, SystemExit, when it does not come to its end."""
    with tempfile.TemporaryDirectory(prefix="harpoon-soak-") as name:
        with Play(plan, Path(name)) as running:
            running.start()
            running.follow()
        return running.outcome


# ---- the exchange --------------------------------------------------------------------------------


async def serve(ledger: Path, cut_every_s: float) -> None:
    """The simulator. Now and then it dies for a moment, or says that it will be shut down."""
    async with ExchangeSim(ledger_file=ledger, seed=1) as sim:
        ready = {"url": sim.url, "stream_url": sim.stream_url, "ca_file": str(sim.ca_file)}
        ready |= {"api_key": sim.api_key, "api_secret": sim.api_secret}
        print(json.dumps(ready), flush=True)
        for leave in itertools.cycle((sim.drop_all, sim.shut_down_soon)):
            await asyncio.sleep(cut_every_s)
            leave()


# ---- the command line ----------------------------------------------------------------------------


def report(outcome: Outcome) -> Iterator[str]:
    plan, summary = outcome.plan, outcome.summary
    yield (
        f"{plan.duration_s / 3600:g} simulated hours in {outcome.took_s:.0f} s: "
        f"{outcome.published:,} transactions, {len(outcome.ledger)} orders, refused "
        f"{dict(outcome.refused)}, lag at most {max(outcome.lag_s):.1f} s, "
        f"journal {outcome.journal_bytes[-1] / 1e6:.1f} MB"
    )
    for process in PROCESSES:
        samples = outcome.of(process)
        memory = [s.memory_kb / 1024 for s in samples]
        files, threads = ({getattr(s, what) for s in samples} for what in ("files", "threads"))
        yield (
            f"{process:8} {memory[0]:7.2f} MB after the warm-up, {memory[-1]:7.2f} at the end, "
            f"{outcome.slope_mb(process):+.3f} MB an hour; files {files}, threads {threads}"
        )
    for words, count in outcome.notices.items():
        yield f"{count:4} x {words}"
    for stage in ("trigger_to_sent", "total"):
        if stage in summary["latency_ns"]:
            yield f"{stage}: {summary['latency_ns'][stage]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=12, help="simulated (default 12)")
    parser.add_argument("--speed", type=int, default=60, help="so many times as fast (default 60)")
    parser.add_argument("--cut-every-s", type=int, default=2 * 3600, help="the venue cuts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--exchange", type=Path, metavar="LEDGER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.exchange is not None:
        asyncio.run(serve(options.exchange, options.cut_every_s))
    plan = Plan(int(options.hours * 3600), options.speed, cut_every_s=options.cut_every_s)
    outcome = play(plan)
    print(*report(outcome), sep="\n")
    wrong = complaints(outcome)
    if options.json:
        options.json.write_text(json.dumps({**vars(outcome), "wrong": wrong}, default=asdict))
    print(*wrong or ["it passes"], sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
