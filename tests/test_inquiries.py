"""engine.inquiries, as engine.lifecycle uses it: what is asked again, and how often."""

from __future__ import annotations

import pytest
from order_life import (
    ID,
    OCO,
    SENT_MS,
    STOP,
    TAKE,
    S,
    ack,
    event,
    half_told,
    known,
    refusal,
    sent,
    sent_oco,
    status,
    trades_reply,
)

from engine import client_ids
from engine.order import Order
from engine.venues.binance import Reply

DAY_NS = 86_400 * S


def test_an_order_that_the_venue_denies_for_a_day_is_asked_about_no_more() -> None:
    """A testnet is emptied now and then."""
    orders = sent()
    orders.on_reply(ack(), 0)
    missing = refusal(client_ids.request_id(client_ids.STATUS, ID), -2013, "Order does not exist.")

    def deny(hour: int) -> list[Order]:
        orders.check_all()
        assert len(orders.queries_due(hour * 3600 * S, SENT_MS + hour * 3_600_000)) == 1
        return orders.on_reply(missing, hour * 3600 * S)

    assert deny(1) == deny(20) == []
    orders.on_event(event("NEW"), 21 * 3600 * S)
    assert deny(22) == deny(46) == []
    assert (status(orders), orders.take_notices()) == ("acked", [])
    (order,) = deny(47)
    assert (order.status, orders.open()) == ("unknown", [order])
    (words,) = orders.take_notices()
    assert "look at the account by hand" in words
    orders.check_all()
    assert orders.queries_due(90 * DAY_NS, SENT_MS) == []
    assert orders.take_settlements() == [], "it counts as filled"
    (order,) = orders.on_event(event("PARTIALLY_FILLED", "0.002"), 91 * DAY_NS)
    assert order.status == "partially-filled"
    assert len(orders.queries_due(92 * DAY_NS, SENT_MS)) == 0
    assert len(orders.queries_due(93 * DAY_NS, SENT_MS)) == 1


def test_a_list_is_lost_when_both_legs_are() -> None:
    orders = sent_oco()
    orders.on_reply(ack(OCO), 0)
    for leg, believed in ((TAKE, "acked"), (STOP, "unknown")):
        missing = refusal(client_ids.request_id(client_ids.STATUS, leg), -2013, "Does not exist.")
        for day in (1, 3):
            orders.check_all()
            orders.queries_due(day * DAY_NS, SENT_MS + day * 86_400_000)
            orders.on_reply(missing, day * DAY_NS)
        assert status(orders, OCO) == believed


@pytest.mark.parametrize(
    ("status_", "code"), [(429, -1003), (418, -1003), (400, -1021), (503, -1008), (400, -2015)]
)
def test_a_question_about_trades_that_is_refused_for_now_is_asked_again(
    status_: int, code: int
) -> None:
    orders = half_told()
    request_id = client_ids.request_id(client_ids.TRADES, ID)
    asked = 0
    for second in range(2, 60):
        if orders.queries_due(second * S, SENT_MS):
            asked += 1
            assert orders.on_reply(Reply(request_id, status_, {}, code=code), second * S) == []
    assert asked > 4
    assert (orders.take_fills(), orders.take_notices()) == ([], [])
    (order,) = orders.on_reply(trades_reply((1, "0.002"), (2, "0.008")), 60 * S)
    assert (order.complete, order.fees_known) == (True, True)


def test_a_question_about_trades_is_not_refused_for_ever() -> None:
    """A position whose commissions are not known yet is not left."""
    orders = half_told()
    request_id = client_ids.request_id(client_ids.TRADES, ID)
    for second in range(2, 200):
        if orders.queries_due(second * S, SENT_MS):
            orders.on_reply(Reply(request_id, 503, {}, code=-1008), second * S)
    assert (known(orders).complete, known(orders).fees_known) == (True, False)
