"""What is left after a chaos run: the journal and what the engine makes of it, and the venue's
ledger, in the form that the checks take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

from builders import txid_of
from chaos_checks import Belief, Evidence, VenueFill, VenueOrder, WrittenIntent
from chaos_plan import LAST_PRICE, Plan

from engine.journal import Damage, Reader
from engine.journal_verify import segments
from engine.records import Fired, Intent, Record
from engine.sim.exchange import ExchangeSim


def gather(
    plan: Plan,
    folder: Path,
    sim: ExchangeSim,
    latched: Sequence[tuple[int, int]],
    ends: Sequence[str],
) -> Evidence:
    journal = folder / "journal"
    return Evidence(
        rules={rule.exchange: rule for rule in plan.rules},
        limits=plan.limits,
        txids={txid_of(payment.raw()): payment for payment in plan.payments},
        probes=[txid_of(plan.payments[number].raw()) for number in plan.probes],
        verdicts=list(_verdicts(journal)),
        intents=list(_intents(journal)),
        orders=[_order(entry) for entry in sim.ledger],
        fills=[_fill(entry) for entry in sim.ledger],
        beliefs=beliefs(journal),
        latched=latched,
        losses=[loss for segment in segments(journal) for loss in segment.losses],
        ends=ends,
    )


def _intents(journal: Path) -> Iterator[WrittenIntent]:
    reader = Reader(journal)
    for record in reader:
        if isinstance(record, Damage) or not isinstance(record.body, Intent):
            continue
        intent = record.body
        yield WrittenIntent(
            client_id=intent.client_id,
            txid=intent.txid,
            exchange=intent.exchange,
            rule=record.names.rule(intent.rule),
            parent="",
            run=reader.place().run,
            trigger_ns=intent.t_trigger_ns,
            epoch_ns=record.epoch_ns,
        )


def _verdicts(journal: Path) -> Iterator[tuple[str, str]]:
    """Of every order that was asked for: its transaction, and the refusal, "" if there was none."""
    for record in Reader(journal):
        if isinstance(record, Record) and isinstance(record.body, Fired):
            yield record.body.txid, record.body.refusal or ""


def _order(entry) -> VenueOrder:
    return VenueOrder(
        entry.client_id,
        entry.symbol,
        entry.side,
        Decimal(entry.quantity),
        entry.received_ns,
        "FILLED",
        Decimal(entry.quantity),
    )


def _fill(entry) -> VenueFill:
    return VenueFill(
        entry.client_id, entry.symbol, entry.side, Decimal(entry.quantity), LAST_PRICE[entry.symbol]
    )


def beliefs(journal: Path) -> dict[str, Belief]:
    return {}


def unresolved(plan: Plan, folder: Path) -> bool:
    return False
