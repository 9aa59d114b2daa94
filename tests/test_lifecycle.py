"""engine.lifecycle: what is believed of an order, from its intent to its end."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from order_life import (
    ID,
    RUN,
    S,
    SENT_MS,
    SPEC,
    ack,
    entry_id,
    event,
    exit_intent,
    fired,
    intent,
    names,
    refusal,
    result,
    silence,
    trade,
)

from engine import client_ids
from engine.lifecycle import KEPT, Orders, Settlement
from engine.order import Order
from engine.venues.binance import Reply, parse_reply

CERTAIN_MS = SENT_MS + 5_000 + 15_000  # the window, and the grace behind it
DAY_NS = 86_400 * S


def sent(*ids: str) -> Orders:
    orders = Orders()
    for client_id in ids or (ID,):
        orders.on_intent(intent(client_id), names(), 500)
        orders.on_fired(fired(client_id))
    return orders


def known(orders: Orders, client_id: str = ID) -> Order:
    order = orders.get(client_id)
    assert order is not None
    return order


def status(orders: Orders, client_id: str = ID) -> str:
    return known(orders, client_id).status


def reply(result_: dict[str, object], request_id: str = ID) -> Reply:
    return Reply(request_id, 200, result_)


# ---- the way to the venue ------------------------------------------------------------------------


def test_an_order_goes_from_its_intent_to_its_acknowledgement() -> None:
    orders = Orders()
    (order,) = orders.on_intent(intent(), names(), 500)
    assert (order.status, order.spec, order.rule) == ("intent", SPEC, "whale")
    (order,) = orders.on_fired(fired())
    assert (order.status, order.sent_ns, orders.waiting()) == ("sent", 1_000, 1)
    (order,) = orders.on_reply(ack(), 5_000)
    assert (order.status, order.reply_ns, order.reason) == ("acked", 4_000, "")
    assert (len(orders), orders.waiting(), orders.open()) == (1, 0, [order])
    assert orders.take_settlements() == []


def test_a_dry_run_order_is_over_at_once_and_nothing_touches_it() -> None:
    orders = Orders()
    orders.on_intent(intent(live=False), names(), 500)
    (order,) = orders.on_fired(fired(dry_run=True, sent_ns=0))
    assert order.status == "dry-run"
    assert orders.take_settlements() == [
        Settlement(ID, "BTCUSDT", "SELL", Decimal("0.01"), Decimal(0))
    ]
    assert orders.on_reply(ack(), 5_000) == []
    assert orders.on_reply(refusal(), 5_000) == []
    assert orders.on_event(event("FILLED", "0.01"), 5_000) == []
    assert orders.take_notices() == [f"{ID} (dry-run): the venue reports an order of a dry run"]
    assert orders.on_session_end(0, "gone") == orders.overdue(DAY_NS, 10) == []
    assert status(orders) == "dry-run"
    assert orders.queries_due(DAY_NS, CERTAIN_MS) == []
