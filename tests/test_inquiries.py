"""engine.inquiries, as engine.lifecycle uses it: what is asked again, and how often."""

from __future__ import annotations

import pytest
from order_life import (
    ID,
    SENT_MS,
    S,
    half_told,
    known,
    trades_reply,
)

from engine import client_ids
from engine.venues.binance import Reply


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
