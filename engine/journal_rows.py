"""The journal's records as flat rows: every record of one kind has the same columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any

from engine import records
from engine.records import STAGES, STATS, Record

KINDS: Mapping[type[Any], str] = {
    records.Preamble: "preamble",
    records.Signal: "signal",
    records.Intent: "intent",
    records.Fired: "order",
    records.Message: "message",
    records.Opened: "opened",
    records.Closed: "closed",
    records.FeedNote: "feed",
    records.Block: "block",
    records.Command: "command",
    records.Stats: "stats",
    records.Notice: "notice",
    records.Spent: "spent",
    records.Unknown: "unknown",
}

_ENVELOPE = ("record", "sequence", "segment", "time", "epoch_ns", "t_ns")
_STAGE_COLUMNS = tuple(f"{stage}_ns" for stage in STAGES)
_FLATTENED = ("counters", "stage_ns", "terms")
# All columns that a row of any kind has.
COLUMNS = tuple(
    dict.fromkeys(
        (
            *_ENVELOPE,
            *(f.name for body in KINDS for f in fields(body) if f.name not in _FLATTENED),
            *("rule_name", "status", "number"),
            *(f.name for f in fields(records.Terms)),
            *_STAGE_COLUMNS,
            *STATS,
        )
    )
)


def kind_of(record: Record) -> str:
    return KINDS[type(record.body)]


def status_of(order: records.Fired) -> str:
    """`refused`, `failed` (the outcome is unknown), `dry-run` or `sent`."""
    if order.refusal:
        return "refused"
    if order.error:
        return "failed"
    return "dry-run" if order.dry_run else "sent"


def row(record: Record) -> dict[str, Any]:
    """Column by column, as JSON can say it."""
    return {
        "record": kind_of(record),
        "sequence": record.sequence,
        "segment": record.segment,
        "time": iso_time(record.epoch_ns),
        "epoch_ns": record.epoch_ns,
        "t_ns": record.t_ns,
        **_columns(record),
    }


def iso_time(epoch_ns: int) -> str:
    """UTC, to the nanosecond; the number itself where no calendar has it."""
    seconds, ns = divmod(epoch_ns, 1_000_000_000)
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return str(epoch_ns)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns:09d}Z"


def _columns(record: Record) -> dict[str, Any]:
    match record.body:
        case records.Message(text, session):
            return {"text": text.decode("utf-8", "replace"), "session": session}
        case records.Stats(counters):
            return dict(counters)
        case records.Unknown(kind, payload):
            return {"number": kind, "payload": payload.hex()}
        case records.Fired() as order:
            columns = asdict(order)
            stage_ns = columns.pop("stage_ns")
            columns |= {"rule_name": record.names.rule(order.rule), "status": status_of(order)}
            return columns | {f"{stage}_ns": stage_ns.get(stage) for stage in STAGES}
        case records.Intent() as intent:
            columns = asdict(intent)
            terms = columns.pop("terms") or dict.fromkeys(f.name for f in fields(records.Terms))
            return {**columns, **terms, "rule_name": record.names.rule(intent.rule)}
        case records.Signal() as signal:
            return {**asdict(signal), "rule_name": record.names.rule(signal.rule)}
        case body:
            return asdict(body)
