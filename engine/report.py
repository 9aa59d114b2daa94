"""What a person sees: records of a run as lines, and the tables at its end.

A record is a JSON object with the key `record`: allowed, ready, signal, order, refused, position,
notice, progress, summary. The same records go to a pipe with `harpoon run --json-lines`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine.records import STAGES

Line = dict[str, Any]

_SAT_PER_BTC = 100_000_000
_KIND_STYLE = {
    "deposit": "bold yellow",
    "withdrawal": "cyan",
    "internal": "dim",
    "sweep": "magenta",
}
_STATUS_STYLE = {
    "acked": "green",
    "partially-filled": "green",
    "filled": "bold green",
    "rejected": "red",
    "unknown": "bold red",
    "dry-run": "blue",
}
# What the venue has taken, whatever became of it then.
ACCEPTED = frozenset({"acked", "partially-filled", "filled", "cancelled", "expired"})
LEDGER_ROWS = 8
_KINDS = ("deposit", "withdrawal", "internal", "sweep")


def btc(value_sat: int) -> str:
    """Satoshis as a decimal string in BTC, exact."""
    return f"{value_sat // _SAT_PER_BTC:,}.{value_sat % _SAT_PER_BTC:08d}"


def microseconds(value_ns: int) -> str:
    return f"{value_ns / 1000:,.2f}"


def open_console() -> Console:
    """Standard output; wide enough for every table where it is not a terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=140)


def show(console: Console, record: Line) -> None:
    """One record as one line, or some; progress and summaries have none."""
    if record["record"] == "allowed":
        for words in record["lines"]:
            console.print(f"[yellow]![/] {escape(plain(words))}", highlight=False, soft_wrap=True)
    line = {
        "ready": _ready_line,
        "signal": _signal_line,
        "order": _order_line,
        "refused": _refused_line,
        "position": _position_line,
        "notice": _notice_line,
    }.get(record["record"])
    if line is not None:
        harmless = {k: plain(v) if isinstance(v, str) else v for k, v in record.items()}
        console.print(line(harmless), highlight=False, soft_wrap=True)


def plain(text: str) -> str:
    """A stranger's words without anything that a terminal obeys or cannot show."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _ready_line(r: Line) -> str:
    return (
        f"[bold]{r['mode']}[/]: addresses {r['book']:,}, exchanges {r['exchanges']}, rules "
        f"{r['rules']}; feed {escape(r['feed'])}; venue {escape(r['venue'])}, clock "
        f"{r['clock_offset_ms']:+d} ms; {escape(r['transport'])}"
    )


def _signal_line(r: Line) -> str:
    source = "" if r["source"] in ("unknown", r["exchange"]) else f" from {escape(r['source'])}"
    amount = r["net_sat"] or sum(output["value_sat"] for output in r["outputs"])
    return (
        f"[{_KIND_STYLE[r['kind']]}]{r['kind']:<10}[/] {btc(amount):>15} BTC  "
        f"{escape(r['exchange'])}{source}  {r['n_in']} in, {r['n_out']} out  [dim]{r['txid']}[/]"
    )


def _order_line(r: Line) -> str:
    style = _STATUS_STYLE.get(r["status"], "bold")
    took = (
        f" in {microseconds(r['reply_ns'])} us" if r["reply_ns"] and r["status"] == "acked" else ""
    )
    fill = f" {r['filled']} at {r['average']}" if r["average"] else ""
    reason = f": {escape(r['reason'])}" if r["reason"] else ""
    return (
        f"  {'exit ' if r['parent'] else 'order'}    [{style}]{r['status']}[/]{took}{fill}  "
        f"{r['side']} {r['quantity']} {r['symbol']} {r['type']}  [dim]{r['client_id']}[/]{reason}"
    )


def _position_line(r: Line) -> str:
    average = f" at {r['average']}" if r["average"] else ""
    return f"  position {r['net']} {r['symbol']}{average}, realised {r['realised']}"


def _refused_line(r: Line) -> str:
    return f"  refused  [red]{r['limit']}[/]  [dim]{r['txid']}[/]"


def _notice_line(r: Line) -> str:
    return f"[yellow]![/] {escape(r['text'])}"


def signal_table(signals: Sequence[Line]) -> Table:
    count: Counter[str] = Counter(signal["kind"] for signal in signals)
    net_sat: defaultdict[str, int] = defaultdict(int)
    for signal in signals:
        net_sat[signal["kind"]] += signal["net_sat"]
    table = Table("signals", "count", "net BTC", title=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for kind in _KINDS:
        table.add_row(kind, str(count[kind]), btc(net_sat[kind]))
    return table


def order_table(orders: Sequence[Line], refused: int, armed: int) -> Table:
    """How many orders ended how. Every order that left us counts as sent; `armed` ones, dry ones
    too, had been sealed before their transaction came."""
    count: Counter[str] = Counter(order["status"] for order in orders)
    sent = len(orders) - count["dry-run"]
    table = Table("orders", "count")
    table.columns[1].justify = "right"
    rows = {"sent": sent, "accepted": sum(count[status] for status in ACCEPTED)}
    rows |= {status: count[status] for status in ("filled", "rejected", "unknown")}
    if count["dry-run"]:
        rows["dry-run"] = count["dry-run"]
    rows["armed before the trigger"] = armed
    rows["refused by risk"] = refused
    for name, number in rows.items():
        table.add_row(name, str(number))
    return table


def latency_table(latency_ns: Mapping[str, Mapping[str, int]]) -> Table:
    table = Table("stage (us)", "count", "p50", "p90", "p99", "max")
    for column in table.columns[1:]:
        column.justify = "right"
    for stage in STAGES:
        row = latency_ns[stage]
        cells = [
            microseconds(row[q]) if row["count"] else "-" for q in ("p50", "p90", "p99", "max")
        ]
        table.add_row(stage, f"{row['count']:,}", *cells)
    return table


def ledger_table(rows: Sequence[tuple[str, Line | None, Line | None]]) -> Table:
    """Our orders beside the exchange's: all that differ, and the first LEDGER_ROWS others."""
    table = Table("client order id", "our order", "the exchange's ledger")
    table.columns[0].no_wrap = True
    same = [row for row in rows if agree(row[1], row[2])]
    for client_id, ours, theirs in rows:
        if not agree(ours, theirs):
            table.add_row(client_id, _order_words(ours), _order_words(theirs))
    for client_id, ours, _ in same[:LEDGER_ROWS]:
        table.add_row(client_id, _order_words(ours), "[green]the same[/]")
    if len(same) > LEDGER_ROWS:
        table.add_row(f"{len(same) - LEDGER_ROWS} more", "", "[green]the same[/]")
    return table


COMPARED = (
    "client_id",
    "side",
    "symbol",
    "type",
    "quantity",
    "price",
    "time_in_force",
    "timestamp_ms",
)


def agree(ours: Line | None, theirs: Line | None) -> bool:
    """Both sides have the order, we know that it was accepted, and every field is the same."""
    if ours is None or theirs is None or ours["status"] not in ACCEPTED:
        return False
    return all(ours[name] == theirs[name] for name in COMPARED)


def _order_words(order: Line | None) -> str:
    if order is None:
        return "[red]missing[/]"
    status = f" ({order['status']})" if order.get("status", "acked") not in ACCEPTED else ""
    return f"{order['side']} {order['quantity']} {order['symbol']} {order['type']}{status}"


def machine_line(machine: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in machine.items())
