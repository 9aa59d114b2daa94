"""What is left after a chaos run: the journal, what the engine makes of it and says itself, and the
venue's ledger, in the form that the checks take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from builders import txid_of
from chaos_checks import Belief, Evidence, VenueFill, VenueOrder, WrittenIntent
from chaos_plan import Plan

from engine import client_ids
from engine.journal import Damage, Reader
from engine.journal_verify import segments
from engine.lifecycle import Orders
from engine.records import Fired, Intent, Record
from engine.sim.exchange import ExchangeSim
from engine.sim.ledger import CancelEntry, ExpiryEntry, FillEntry


def gather(
    plan: Plan,
    folder: Path,
    sim: ExchangeSim,
    said: Iterable[Mapping[str, Any]],
) -> Evidence:
    """`said` are the lines of the last life. What only the run itself knows is left empty."""
    journal = folder / "journal"
    fills = [entry for entry in sim.entries if isinstance(entry, FillEntry)]
    return Evidence(
        rules={rule.exchange: rule for rule in plan.rules},
        limits=plan.limits,
        txids={txid_of(payment.raw()): payment for payment in plan.payments},
        probes=[txid_of(plan.payments[number].raw()) for number in plan.probes],
        verdicts=list(_verdicts(journal)),
        intents=list(_intents(journal)),
        orders=list(_orders(sim.entries)),
        fills=[_fill(entry) for entry in fills],
        beliefs=_beliefs(journal) | _said_of_orders(said),
        latched=(),
        quotes=(),
        clocks=(),
        losses=[loss for segment in segments(journal) for loss in segment.losses],
        ends=(),
    )


# ---- the journal ---------------------------------------------------------------------------------


def _intents(journal: Path) -> Iterator[WrittenIntent]:
    reader = Reader(journal)
    for record in reader:
        if isinstance(record, Damage) or not isinstance(record.body, Intent):
            continue
        intent = record.body
        yield WrittenIntent(
            client_id=intent.client_id,
            legs=client_ids.legs_of(intent.client_id),
            txid=intent.txid,
            exchange=intent.exchange,
            rule=record.names.rule(intent.rule),
            parent=intent.parent,
            run=reader.place().run,
            trigger_ns=intent.t_trigger_ns,
            epoch_ns=record.epoch_ns,
        )


def _verdicts(journal: Path) -> Iterator[tuple[str, str]]:
    """Of every order that was asked for: its transaction, and the refusal, "" if there was none."""
    for record in Reader(journal):
        if isinstance(record, Record) and isinstance(record.body, Fired):
            yield record.body.txid, record.body.refusal or ""


def _beliefs(journal: Path) -> dict[str, Belief]:
    """What engine/lifecycle.py makes of the journal."""
    orders = Orders()
    for record in Reader(journal):
        if isinstance(record, Record):
            orders.on_record(record)
    return {order.client_id: Belief(order.status, order.filled) for order in orders.all()}


def _said_of_orders(lines: Iterable[Mapping[str, Any]]) -> dict[str, Belief]:
    """The engine's last words about each: it knows more than the journal says, namely when an order
    can have arrived no more."""
    said = {}
    for line in lines:
        rows = {"order": [line], "summary": line.get("orders", [])}.get(line["record"], [])
        for row in rows:
            said[row["client_id"]] = Belief(row["status"], Decimal(row["filled"]))
    return said


# ---- the ledger ----------------------------------------------------------------------------------


def _orders(entries: Sequence[Any]) -> Iterator[VenueOrder]:
    """What the venue accepted, with the end that its later entries tell."""
    cancelled = {
        client_id
        for entry in entries
        if isinstance(entry, CancelEntry)
        for client_id in entry.client_ids
    }
    expired = {entry.client_id for entry in entries if isinstance(entry, ExpiryEntry)}
    open_until_ns = _open_until_ns(entries)
    for order in entries:
        if order.entry != "order":
            continue
        quantity = Decimal(order.quantity)
        filled = sum(
            Decimal(entry.quantity)
            for entry in entries
            if isinstance(entry, FillEntry) and entry.order_id == order.order_id
        )
        status = _status(order.client_id, filled, quantity, cancelled, expired)
        ended = status not in ("NEW", "PARTIALLY_FILLED")
        yield VenueOrder(
            client_id=order.client_id,
            symbol=order.symbol,
            side=order.side,
            quantity=quantity,
            received_ns=order.received_ns,
            status=status,
            filled=Decimal(filled),
            price=None if order.price is None else Decimal(order.price),
            open_until_ns=open_until_ns.get(order.order_id) if ended else None,
        )


def _open_until_ns(entries: Sequence[Any]) -> dict[int, int]:
    """Of each order, when the last thing before its last entry happened: its end was not earlier.
    Entries that have no time by our clock lie between those that do."""
    found: dict[int, int] = {}
    now_ns = 0
    for entry in entries:
        now_ns = max(now_ns, getattr(entry, "received_ns", 0))
        numbers = entry.order_ids if isinstance(entry, CancelEntry) else ()
        for number in (*numbers, getattr(entry, "order_id", None)):
            if number is not None:
                found[number] = now_ns
    return found


def _status(
    client_id: str, filled: Decimal | int, quantity: Decimal, cancelled: set[str], expired: set[str]
) -> str:
    if filled >= quantity:
        return "FILLED"
    if client_id in cancelled:
        return "CANCELED"
    if client_id in expired:
        return "EXPIRED"
    return "PARTIALLY_FILLED" if filled else "NEW"


def _fill(entry: FillEntry) -> VenueFill:
    return VenueFill(
        entry.client_id, entry.symbol, entry.side, Decimal(entry.quantity), Decimal(entry.price)
    )
