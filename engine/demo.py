"""The whole path on loopback: a node, an exchange and the engine, each its own process. The exit
status is 0 only when the exchange's ledger and our orders are the same."""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rich.console import Console

from engine import report
from engine.errors import HarpoonError
from engine.processes import Children
from engine.report import Line
from engine.scan import btc_argument, write_json
from engine.wallets import add_book_argument

START_S = 20.0
DRAIN_S = 20.0
ORDER = {"side": "SELL", "symbol": "BTCUSDT", "type": "MARKET", "quantity": "0.00100"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--blocks",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="replay raw block files instead of synthetic transactions",
    )
    add_book_argument(parser)
    parser.add_argument(
        "--rate",
        type=positive,
        default=500,
        metavar="N",
        help="transactions per second (default 500)",
    )
    parser.add_argument(
        "--count",
        type=positive,
        default=2500,
        metavar="N",
        help="synthetic transactions (default 2500)",
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the synthetic ones")
    parser.add_argument(
        "--min-btc",
        type=btc_argument,
        default="1",
        metavar="X",
        help="smallest deposit that makes an order (default 1)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as JSON")


def positive(text: str) -> int:
    """A command line's whole number above 0."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def run(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up like Ctrl-C
    console = report.open_console()
    with tempfile.TemporaryDirectory(prefix="harpoon-demo-") as name, Children() as children:
        outcome = _play(options, Path(name), children, console)
    rows = compare(outcome["orders"], outcome["ledger"])
    _print_tables(console, outcome, rows)
    if options.json:
        write_json(options.json, outcome)
    wrong = [row for row in rows if not report.agree(row[1], row[2])]
    if wrong:
        console.print(f"[red]{len(wrong)} orders differ from the exchange's ledger[/]")
    return 1 if wrong or not outcome["complete"] else 0


def compare(
    orders: Sequence[Line], ledger: Sequence[Line]
) -> list[tuple[str, Line | None, Line | None]]:
    """Our orders and the exchange's, one to one by client order id; whoever lacks one has None, and
    an order that one side has twice makes a row more."""
    ours, theirs = _by_client_id(orders), _by_client_id(ledger)
    return [
        (key, *pair)
        for key in dict.fromkeys([*ours, *theirs])
        for pair in zip_longest(ours.get(key, []), theirs.get(key, []))
    ]


def _by_client_id(records: Sequence[Line]) -> dict[str, list[Line]]:
    table: dict[str, list[Line]] = {}
    for record in records:
        table.setdefault(record["client_id"], []).append(record)
    return table


def _play(
    options: argparse.Namespace, folder: Path, children: Children, console: Console
) -> dict[str, Any]:
    ledger = folder / "ledger.jsonl"
    cpus = sorted(os.sched_getaffinity(0))
    others = cpus[:-1]  # the last one is the engine's
    exchange = _start_exchange(children, folder, ledger, others)
    node = _start_node(children, folder, options, others)
    books = [*options.book, *([Path(node["book"])] if node["book"] else [])]
    config = folder / "harpoon.toml"
    config.write_text(_config(node["endpoint"], exchange, books, options.min_btc, cpus))
    environ = {
        **os.environ,
        "HARPOON_API_KEY": exchange["api_key"],
        "HARPOON_API_SECRET": exchange["api_secret"],
    }
    children.start(
        "engine",
        ["run", "--config", str(config), "--live", "--json-lines", "--stop-on-stdin-eof"],
        environ,
    )
    played = _Play(console, node["transactions"])
    played.follow(children)
    return {
        "signals": played.signals,
        "orders": played.summary["orders"],
        "refused": played.summary["refused"],
        "ledger": _placed(ledger),
        "latency_ns": played.summary["latency_ns"],
        "stats": played.summary["stats"],
        "planted": node["planted"],
        "transactions": node["transactions"],
        "complete": played.complete,
        "machine": played.summary["machine"],
    }


def _placed(ledger: Path) -> list[Line]:
    """The orders among all that the exchange has recorded."""
    entries = [json.loads(line) for line in ledger.read_text().splitlines()]
    return [entry for entry in entries if entry["entry"] == "order"]


def _start_exchange(children: Children, folder: Path, ledger: Path, cpus: Sequence[int]) -> Line:
    """It spins where a core is left for it: a venue is not on our machine, so no order of ours has
    to wake it. On loopback that would cost the sender more than everything else."""
    arguments = ["--ca-out", str(folder / "ca.pem"), "--ledger", str(ledger), "--stop-on-stdin-eof"]
    arguments += ["--spin"] if cpus else []
    environ = {**os.environ, "TMPDIR": str(folder)}  # its files go with ours
    children.start("exchange", ["sim", "exchange", *arguments], environ, set(cpus))
    return children.first_line("exchange", START_S)


def _start_node(
    children: Children, folder: Path, options: argparse.Namespace, cpus: Sequence[int]
) -> Line:
    arguments = ["--start-on-stdin", "--await-subscriber", "--rate", str(options.rate)]
    if options.blocks:
        arguments += ["--blocks", *map(str, options.blocks)]
    else:
        whales = {"deposits": 50, "change-backs": 125, "sweeps": 125}  # one in so many
        arguments += ["--seed", str(options.seed), "--count", str(options.count)]
        for name, one_in in whales.items():
            arguments += [f"--{name}", str(max(1, options.count // one_in))]
        arguments += ["--book-out", str(folder / "synthetic.csv")]
    children.start("node", ["sim", "node", *arguments], os.environ, set(cpus))
    return children.first_line("node", START_S)


def _config(
    endpoint: str, exchange: Line, books: Sequence[Path], min_sat: int, cpus: Sequence[int]
) -> str:
    files = [str(book.resolve()) for book in books]
    return f"""
[engine]
mode = "live"
cpu = {cpus[-1]}
spin = {json.dumps(len(cpus) > 1)}
[feed]
endpoint = {json.dumps(endpoint)}
[book]
files = {json.dumps(files)}
[venue]
url = {json.dumps(exchange["ws_url"])}
stream_url = {json.dumps(exchange["stream_url"])}
ca_file = {json.dumps(exchange["ca_file"])}
[risk]
max_orders = 10000
cooldown_s = 0
exchange_cooldown_s = 0
max_total_notional = 10000000
max_position_notional = 10000000
max_orders_per_second = 10000
max_orders_per_minute = 10000
max_orders_per_hour = 10000
max_orders_per_day = 10000
max_unresolved = 1000
venue_headroom_percent = 0
[[rule]]
name = "whale deposit"
kinds = ["deposit"]
min_btc = {json.dumps(report.btc(min_sat).replace(",", ""))}
side = "{ORDER["side"]}"
symbol = "{ORDER["symbol"]}"
type = "{ORDER["type"]}"
quantity = "{ORDER["quantity"]}"
exit_after_s = 0
"""


class _Play:
    """Follows the three processes until everything published has been handled."""

    def __init__(self, console: Console, transactions: int) -> None:
        self._console = console
        self._transactions = transactions
        self._stopped = False
        self._deadline: float | None = None
        self.signals: list[Line] = []
        self.summary: Line = {}
        self.complete = False

    def follow(self, children: Children) -> None:
        while not self.summary:
            heard = children.hear(DRAIN_S)
            if heard is not None and heard.line is None:
                raise HarpoonError(f"the {heard.name} ended early: its own message is above")
            if heard is not None and heard.line is not None:
                if heard.name == "engine":
                    self._on_record(children, heard.line)
                else:
                    self._deadline = time.monotonic() + DRAIN_S
            late = self._deadline is not None and time.monotonic() > self._deadline
            if not self._stopped and (heard is None or late):
                self._stop(children)

    def _on_record(self, children: Children, record: Line) -> None:
        report.show(self._console, record)
        match record["record"]:
            case "ready":
                children.tell("node", "go")
            case "signal":
                self.signals.append({k: v for k, v in record.items() if k != "record"})
            case "progress":
                self.complete = record["stats"]["transactions"] >= self._transactions
                if self.complete and not self._stopped:
                    self._stop(children)
            case "summary":
                self.summary = record

    def _stop(self, children: Children) -> None:
        self._stopped = True
        children.terminate("engine")


def _print_tables(
    console: Console, outcome: Line, rows: Sequence[tuple[str, Line | None, Line | None]]
) -> None:
    console.print(report.signal_table(outcome["signals"]))
    if outcome["planted"]:
        planted = ", ".join(f"{n} {kind}" for kind, n in outcome["planted"].items())
        console.print(f"the node had hidden {planted} among {outcome['transactions']} transactions")
    armed = outcome["stats"]["orders_armed"]
    console.print(report.order_table(outcome["orders"], outcome["refused"], armed))
    console.print(report.ledger_table(rows))
    console.print(report.latency_table(outcome["latency_ns"]))
    console.print(report.machine_line(outcome["machine"]), highlight=False)
    if not outcome["complete"]:
        handled = outcome["stats"]["transactions"]
        console.print(f"[red]only {handled} of {outcome['transactions']} transactions arrived[/]")
