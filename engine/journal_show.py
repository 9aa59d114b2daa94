"""Show a journal's records, oldest first."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Collection
from datetime import datetime
from pathlib import Path

from engine import records
from engine._native import lib
from engine.journal import Damage, Reader
from engine.journal_rows import KINDS, kind_of, row, status_of
from engine.records import Names, Record
from engine.report import btc, microseconds, plain
from engine.wallets import warn

_FOLLOW_S = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("journal", type=Path, metavar="JOURNAL", help="its folder, or a segment")
    parser.add_argument(
        "--kind",
        action="append",
        choices=sorted(KINDS.values()),
        metavar="KIND",
        help=f"only these; repeatable: {', '.join(KINDS.values())}",
    )
    parser.add_argument("--follow", action="store_true", help="go on with what is written next")
    parser.add_argument("--json", action="store_true", help="JSON lines")


def run(options: argparse.Namespace) -> int:
    """1 when some of the journal is lost; standard error says what."""
    reader = Reader(options.journal)
    kinds = options.kind or KINDS.values()
    words = json_line if options.json else line
    good = _show(reader, kinds, words)
    if not reader.place().segment:
        warn(f"{options.journal}: nothing recorded yet")
    while options.follow:
        sys.stdout.flush()
        time.sleep(_FOLLOW_S)
        _show(reader, kinds, words)
    return 0 if good else 1


def _show(reader: Reader, kinds: Collection[str], words: Callable[[Record], str]) -> bool:
    """What is there now; False when something is lost."""
    good = True
    for item in reader:
        if isinstance(item, Damage):
            warn(f"segment {item.place.segment}: {item.words}")
            good = False
        elif kind_of(item) in kinds:
            print(words(item))
    return good


def json_line(record: Record) -> str:
    return json.dumps(row(record))


def line(record: Record) -> str:
    """Time of day here, kind and what; nothing in it that a terminal obeys."""
    return plain(f"{_time_of_day(record.epoch_ns)} {kind_of(record):<8} {_what(record)}")


def _time_of_day(epoch_ns: int) -> str:
    try:
        moment = datetime.fromtimestamp(epoch_ns // 1_000_000_000)
    except (OverflowError, ValueError, OSError):
        return f"{epoch_ns} ns"
    return f"{moment:%H:%M:%S}.{epoch_ns % 1_000_000_000 // 1000:06d}"


def _what(record: Record) -> str:
    match record.body:
        case records.Preamble(facts):
            date = f"{datetime.fromtimestamp(record.epoch_ns / 1e9).astimezone():%Y-%m-%d %z}"
            known = ", ".join(f"{k} {facts[k]}" for k in ("mode", "version", "pid") if k in facts)
            return f"segment {record.segment} of {date}: {known or 'no facts'}"
        case records.Signal() as signal:
            return _signal(signal, record.names)
        case records.Intent() as intent:
            return _intent(intent, record.names)
        case records.Fired() as fired:
            return _fired(fired, record.names)
        case records.Message(text, session):
            return f"session {session}: {text.decode('utf-8', 'replace')}"
        case records.Opened(words, session) | records.Closed(reason=words, session=session):
            return f"session {session}: {words}"
        case records.Notice(words):
            return words
        case records.FeedNote() as note:
            count = f" {note.count:,}" if note.count else ""
            return f"endpoint {note.endpoint}: {note.words or note.note + count}"
        case records.Block(hash_, connected, endpoint):
            return f"{'connected' if connected else 'disconnected'} {hash_}, endpoint {endpoint}"
        case records.Command() as command:
            refused = f", refused: {command.error}" if command.error else ""
            whose = "" if command.session is None else f" of session {command.session}"
            return f"{command.command} {command.value}{whose}{refused}"
        case records.Stats(counters):
            return ", ".join(f"{name} {count:,}" for name, count in counters.items() if count)
        case records.Spent(txid, outpoints):
            return f"{txid} spends {len(outpoints)} more outpoints"
        case records.Unknown(kind, payload):
            return f"kind {kind}, {len(payload):,} bytes"


def _signal(signal: records.Signal, names: Names) -> str:
    source = "" if signal.source in (records.UNKNOWN, signal.exchange) else f" from {signal.source}"
    amount_sat = signal.net_sat or sum(output.value_sat for output in signal.outputs)
    rule = "" if signal.rule is None else f"  rule {names.rule(signal.rule)}"
    return (
        f"{signal.kind:<10} {btc(amount_sat):>15} BTC  {signal.exchange}{source}  "
        f"{signal.n_in} in, {signal.n_out} out{rule}  {signal.txid}"
    )


def _intent(intent: records.Intent, names: Names) -> str:
    mode = "live" if intent.live else "dry-run"
    if intent.rule is None:
        undoes = f"  undoes {intent.parent}" if intent.parent else ""
        return f"{_trade(intent.terms, names)}  {mode}  {intent.client_id}{undoes}"
    armed = "armed" if intent.armed else "not armed"
    return (
        f"{_order(intent.order, names)}  {mode}, {armed}  rule {names.rule(intent.rule)}  "
        f"{intent.client_id}  {intent.txid}"
    )


def _fired(fired: records.Fired, names: Names) -> str:
    status = status_of(fired)
    total_ns = fired.stage_ns.get("fire_total")
    took = "" if total_ns is None else f" in {microseconds(total_ns)} us"
    why = f" ({fired.refusal or fired.error})" if status in ("refused", "failed") else took
    where = "" if fired.refusal else f" on session {fired.session}"
    return f"{status}{where}{why}  {_order(fired.order, names)}  {fired.client_id}"


def _trade(terms: records.Terms | None, names: Names) -> str:
    if terms is None:
        return "order without terms"
    side = "SELL" if terms.is_sell else "BUY"
    return f"{side} {btc(terms.quantity_e8)} {names.market(terms.market)}"


def _order(number: int, names: Names) -> str:
    if number == lib.HP_NO_TEMPLATE:
        return "order without template"
    order = names.order(number)
    parts = [str(order[key]) for key in ("side", "quantity", "symbol", "type") if key in order]
    return " ".join(parts) or f"order {number}"
