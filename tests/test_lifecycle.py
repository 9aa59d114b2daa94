"""engine.lifecycle: what is believed of an order, from its intent to its end."""

from __future__ import annotations

import itertools
import json
from decimal import Decimal

import pytest
from order_life import (
    BUY,
    ID,
    OCO,
    SENT_MS,
    SPEC,
    STOP,
    TAKE,
    S,
    ack,
    entry_id,
    event,
    exit_intent,
    fired,
    half_told,
    intent,
    known,
    names,
    refusal,
    result,
    sent,
    sent_oco,
    silence,
    status,
    trade,
    trades_reply,
)

from engine import client_ids
from engine.lifecycle import KEPT, Orders, Settlement
from engine.venues.binance import Reply, parse_reply

CERTAIN_MS = SENT_MS + 5_000 + 15_000  # the window, and the grace behind it
DAY_NS = 86_400 * S


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


# ---- refusals and silence ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (refusal(words="Account has insufficient balance."), "-2010: Account has insufficient"),
        (Reply(ID, 403, {}), "status 403"),
        (Reply(ID, 429, {}, code=-1003, message="Slow down."), "-1003: Slow down."),
    ],
)
def test_a_refusal_says_why_and_is_settled_with_nothing_filled(answer: Reply, reason: str) -> None:
    orders = sent()
    (order,) = orders.on_reply(answer, 5_000)
    assert order.status == "rejected"
    assert order.reason.startswith(reason)
    assert order.code == answer.code
    assert orders.take_settlements() == [
        Settlement(ID, "BTCUSDT", "SELL", Decimal("0.01"), Decimal(0))
    ]
    assert orders.queries_due(DAY_NS, CERTAIN_MS) == []


@pytest.mark.parametrize(
    "answer",
    [
        silence(),
        Reply(ID, 503, {}),
        Reply(ID, 409, {}),
        Reply(ID, 400, {}, code=-1006, message="An unexpected response was received."),
        Reply(ID, 400, {}, code=-1001, message="Internal error; unable to process your request."),
        refusal(words="Duplicate order sent."),
    ],
    ids=["timeout", "503", "partly", "-1006", "-1001", "duplicate"],
)
def test_what_may_have_been_executed_is_unknown_not_rejected(answer: Reply) -> None:
    orders = sent()
    (order,) = orders.on_reply(answer, 5_000)
    assert order.status == "unknown"
    assert orders.take_settlements() == []
    (query,) = orders.queries_due(6_000, SENT_MS + 100)
    assert (query.asks, query.client_id, query.order_id) == (client_ids.STATUS, ID, None)
    assert query.request_id != ID


def test_a_failed_send_and_silence_and_a_lost_connection_are_unknown() -> None:
    failed, mute, lost, other = map(entry_id, (1, 2, 3, 4))
    orders = Orders()
    orders.on_intent(intent(failed), names(), 500)
    (order,) = orders.on_fired(fired(failed, error="Broken pipe", sent_ns=0))
    assert (order.status, order.reason) == ("unknown", "Broken pipe")
    for client_id, session, sent_ns in ((mute, 0, 1_000), (lost, 1, 8 * S), (other, 0, 8 * S)):
        orders.on_intent(intent(client_id), names(), sent_ns)
        orders.on_fired(fired(client_id, session=session, sent_ns=sent_ns))
    assert orders.overdue(10 * S, 10) == []
    assert [o.client_id for o in orders.overdue(11 * S, 10)] == [mute]
    (order,) = orders.on_session_end(1, "reset by the peer")
    assert (order.client_id, order.status, order.reason) == (lost, "unknown", "reset by the peer")
    assert status(orders, other) == "sent", "its session is still there"
    assert orders.on_session_end(1, "again") == []


def test_a_late_answer_settles_an_unknown_order() -> None:
    orders = sent()
    orders.on_reply(silence(), 5_000)
    (order,) = orders.on_reply(ack(), 9_000)
    assert (order.status, order.reason) == ("acked", "")
    orders = sent()
    orders.on_session_end(0, "gone")
    (order,) = orders.on_reply(refusal(), 9_000)
    assert order.status == "rejected"


# ---- unknown is resolved by asking ---------------------------------------------------------------


def test_a_venue_that_does_not_answer_is_asked_again_with_growing_pauses() -> None:
    orders = sent()
    orders.on_reply(silence(), 0)
    asked_s = [s for s in range(400) if orders.queries_due(s * S, SENT_MS + s)]
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked_s)]
    assert pauses[:7] == [1, 2, 4, 8, 16, 32, 60]
    assert set(pauses[7:]) == {60}


def test_an_order_is_rejected_only_when_it_cannot_arrive_any_more() -> None:
    orders = sent()
    orders.on_reply(silence(), 0)
    missing = refusal(client_ids.request_id(client_ids.STATUS, ID), -2013, "Order does not exist.")
    for second, venue_ms in ((1, SENT_MS), (60, CERTAIN_MS - 1), (120, CERTAIN_MS)):
        assert orders.queries_due(second * S, venue_ms)
        assert orders.on_reply(missing, second * S) == []
        assert status(orders) == "unknown"
    assert orders.on_reply(missing, 180 * S) == [], "nothing has been asked"
    assert orders.queries_due(240 * S, CERTAIN_MS + 1)
    (order,) = orders.on_reply(missing, 241 * S)
    assert order.status == "rejected"
    assert "never arrived" in order.reason
    assert orders.take_settlements() == [
        Settlement(ID, "BTCUSDT", "SELL", Decimal("0.01"), Decimal(0))
    ]


def test_an_answer_to_an_early_question_does_not_count_for_a_late_one() -> None:
    orders = sent()
    orders.on_reply(silence(), 0)
    missing = refusal(client_ids.request_id(client_ids.STATUS, ID), -2013, "Order does not exist.")
    assert orders.queries_due(1 * S, SENT_MS)
    assert orders.queries_due(60 * S, CERTAIN_MS + 1)
    assert orders.on_reply(missing, 61 * S) == []
    assert status(orders) == "unknown"


def test_the_answer_to_a_question_resolves_whatever_id_the_venue_gives_the_order() -> None:
    """A cancellation renames the order that it cancels."""
    orders = sent()
    orders.on_reply(silence(), 0)
    asks = client_ids.request_id(client_ids.STATUS, ID)
    said = result("x9", "CANCELED", "0.004", "208")
    (order,) = orders.on_reply(reply(said, asks), 9_000)
    assert (order.status, order.filled, order.average) == (
        "cancelled",
        Decimal("0.004"),
        Decimal(52000),
    )


def test_an_archived_order_expired_without_a_fill() -> None:
    orders = sent()
    orders.on_session_end(0, "gone")
    asks = client_ids.request_id(client_ids.STATUS, ID)
    (order,) = orders.on_reply(refusal(asks, -2026, "archived"), 9_000)
    assert (order.status, order.filled) == ("expired", 0)


@pytest.mark.parametrize("code", [-1003, -1007, -2013])
def test_an_acknowledged_order_is_not_doubted(code: int) -> None:
    orders = sent()
    orders.on_reply(ack(), 0)
    orders.on_session_end(0, "gone")
    (query,) = orders.queries_due(S, CERTAIN_MS + 1)
    assert query.order_id == 7
    assert orders.on_reply(refusal(query.request_id, code, "?"), 2 * S) == []
    assert status(orders) == "acked"


def test_open_orders_are_asked_about_now_and_then_and_when_events_may_be_lost() -> None:
    orders = sent()
    orders.on_reply(ack(), 0)
    assert orders.queries_due(0, SENT_MS) == []
    assert orders.queries_due(59 * S, SENT_MS) == []
    assert len(orders.queries_due(60 * S, SENT_MS)) == 1
    orders.check_all()
    assert len(orders.queries_due(60 * S, SENT_MS)) == 1
    quick = Orders()
    quick.on_intent(intent(), names(BUY), 0)
    quick.on_fired(fired())
    quick.on_reply(ack(), 0)
    assert quick.queries_due(0, SENT_MS) == []
    assert len(quick.queries_due(2 * S, SENT_MS)) == 1, "an IOC order should have ended by now"


# ---- fills ---------------------------------------------------------------------------------------


def test_fills_in_any_order_and_twice_count_once() -> None:
    first = event("PARTIALLY_FILLED", "0.002", trades=(trade(1, "0.002"),))
    second = event("FILLED", "0.01", trades=(trade(2, "0.008", "53000"),))
    for sequence in ((first, second), (second, first), (second, second, first, first)):
        orders = sent()
        for each in sequence:
            orders.on_event(each, 5_000)
        order = known(orders)
        assert (order.status, order.filled, order.fills_known) == ("filled", Decimal("0.01"), True)
        assert order.fee("USDT") == Decimal("0.2")
        assert sorted(f.trade_id or 0 for f in orders.take_fills()) == [1, 2]
        assert len(orders.take_settlements()) == 1
        assert orders.take_notices() == []


def test_a_report_before_the_acknowledgement_and_a_late_one_after_the_end() -> None:
    orders = sent()
    (order,) = orders.on_event(event("NEW"), 2_000)
    assert (order.status, order.reply_ns) == ("acked", None)
    orders.on_event(event("FILLED", "0.01", trades=(trade(1, "0.01"),)), 3_000)
    (order,) = orders.on_reply(ack(), 4_000)
    assert (order.status, order.reply_ns) == ("filled", 3_000)
    assert orders.on_reply(ack(), 5_000) == []
    assert orders.on_event(event("NEW"), 5_000) == []
    assert orders.take_notices() == []


def test_a_fill_known_by_its_quantity_first_waits_for_its_trade() -> None:
    orders = sent()
    asks = client_ids.request_id(client_ids.STATUS, ID)
    (order,) = orders.on_reply(reply(result(status="FILLED", filled="0.01", quote="520"), asks), 0)
    assert (order.status, order.fills_known, order.complete) == ("filled", False, False)
    assert orders.take_fills() == []
    assert len(orders.take_settlements()) == 1, "the end does not wait for the commission"
    (order,) = orders.on_event(event("FILLED", "0.01", trades=(trade(1, "0.01"),)), 5_000)
    assert order.complete
    assert [f.quantity for f in orders.take_fills()] == [Decimal("0.01")]
    assert orders.take_settlements() == []


def test_trades_that_were_lost_are_asked_for() -> None:
    orders = half_told()
    assert orders.queries_due(0, SENT_MS) == [], "their events may still come"
    (query,) = orders.queries_due(2 * S, SENT_MS)
    assert (query.asks, query.order_id) == (client_ids.TRADES, 7)
    assert orders.on_reply(trades_reply((1, "0.00200000")), 3 * S) == []
    (order,) = orders.on_reply(trades_reply((1, "0.00200000"), (2, "0.00800000")), 3 * S)
    assert order.complete
    assert [(f.trade_id, f.commission) for f in orders.take_fills()] == [(2, Decimal("0.1"))]
    assert orders.take_notices() == []


def test_trades_that_the_venue_does_not_tell_are_estimated_and_said_to_be() -> None:
    orders = half_told()
    refused = refusal(client_ids.request_id(client_ids.TRADES, ID), -1020, "Not supported.")
    (order,) = orders.on_reply(refused, 3 * S)
    assert (order.complete, order.fees_known) == (True, False)
    (fill,) = orders.take_fills()
    assert (fill.trade_id, fill.quantity, fill.price) == (None, Decimal("0.008"), Decimal(52000))
    assert "commission" in orders.take_notices()[0]
    late = event("FILLED", "0.01", trades=(trade(2, "0.008"),))
    assert orders.on_event(late, 4 * S) == [], "that is what was estimated"
    assert (orders.take_fills(), orders.take_notices()) == ([], [])


def test_a_full_reply_has_the_trades() -> None:
    orders = sent()
    row = {
        "price": "52000.00",
        "qty": "0.01000000",
        "commission": "0.52",
        "commissionAsset": "USDT",
        "tradeId": 4,
    }
    said = result(status="FILLED", filled="0.01000000", quote="520.00", fills=[row])
    (order,) = orders.on_reply(reply(said), 5_000)
    assert (order.status, order.complete, order.fee("USDT")) == ("filled", True, Decimal("0.52"))
    assert [f.trade_id for f in orders.take_fills()] == [4]


@pytest.mark.parametrize(
    ("told", "believed"),
    [("CANCELED", "cancelled"), ("EXPIRED", "expired"), ("EXPIRED_IN_MATCH", "expired")],
)
def test_what_ends_an_order_is_told_apart_and_its_part_is_settled(told: str, believed: str) -> None:
    orders = sent()
    asks = client_ids.request_id(client_ids.STATUS, ID)
    (order,) = orders.on_reply(reply(result(status=told, filled="0.004", quote="208"), asks), 0)
    assert (order.status, order.filled) == (believed, Decimal("0.004"))
    assert orders.take_settlements() == [
        Settlement(ID, "BTCUSDT", "SELL", Decimal("0.01"), Decimal("0.004"))
    ]


def test_cancelling_everything_reports_every_order_and_the_legs_of_lists() -> None:
    one, two = entry_id(1), entry_id(2)
    oco = client_ids.exit_id(two, client_ids.OCO, 0)
    orders = sent(one, two)
    orders.on_intent(exit_intent(oco, two, "0.01", sell=True), names(), 600)
    orders.on_fired(fired(oco))
    cancelled = {"status": "CANCELED", "clientOrderId": "web_1"}
    rows = (
        result(one) | cancelled | {"origClientOrderId": one},
        {
            "orderListId": 3,
            "orderReports": [
                result(leg) | cancelled | {"origClientOrderId": leg}
                for leg in client_ids.legs_of(oco)
            ],
        },
    )
    changed = orders.on_reply(Reply("kill-1", 200, {}, rows=rows), 9_000)
    assert [(o.client_id, o.status) for o in changed] == [(one, "cancelled"), (oco, "cancelled")]
    assert status(orders, two) == "sent"


# ---- contradictions ------------------------------------------------------------------------------


def test_a_refusal_of_what_was_filled_is_reported_and_not_believed() -> None:
    orders = sent()
    orders.on_event(event("FILLED", "0.01", trades=(trade(1, "0.01"),)), 2_000)
    orders.on_reply(refusal(), 3_000)
    assert status(orders) == "filled"
    (words,) = orders.take_notices()
    assert words.startswith(f"{ID} (filled): the venue now says rejected -2010")
    assert orders.on_event(event("REJECTED"), 4_000) == []
    assert len(orders.take_notices()) == 1


def test_a_fill_of_what_was_refused_counts_and_is_settled_by_a_correction() -> None:
    orders = sent()
    orders.on_reply(refusal(), 2_000)
    orders.take_settlements()
    (order,) = orders.on_event(event("FILLED", "0.01", trades=(trade(1, "0.01"),)), 3_000)
    assert (order.status, order.filled) == ("filled", Decimal("0.01"))
    assert "had rejected" in orders.take_notices()[0]
    assert orders.take_settlements() == [
        Settlement(ID, "BTCUSDT", "SELL", Decimal(0), Decimal("0.01"))
    ]
    assert len(orders.take_fills()) == 1


def test_an_acknowledgement_does_not_undo_a_refusal_but_is_reported() -> None:
    orders = sent()
    orders.on_reply(refusal(), 2_000)
    assert orders.on_reply(ack(), 3_000) == []
    assert status(orders) == "rejected"
    assert "now says acked" in orders.take_notices()[0]


def test_an_end_stays_and_another_is_reported() -> None:
    orders = sent()
    orders.on_event(event("CANCELED", "0.004"), 2_000)
    orders.on_event(event("EXPIRED", "0.004"), 3_000)
    assert status(orders) == "cancelled"
    assert "says expired of an order that was cancelled" in orders.take_notices()[0]
    orders.on_event(event("NEW"), 4_000)
    assert (status(orders), orders.take_notices()) == ("cancelled", [])


def test_more_than_was_ordered_is_reported() -> None:
    orders = sent()
    (order,) = orders.on_event(event("FILLED", "0.02", trades=(trade(1, "0.02"),)), 2_000)
    assert (order.status, order.filled) == ("filled", Decimal("0.01")), "nor does it size an exit"
    assert "more than was ordered" in orders.take_notices()[0]
    (settled,) = orders.take_settlements()
    assert settled.filled == Decimal("0.01")


def test_trades_beyond_the_cumulative_quantity_do_not_count() -> None:
    orders = sent()
    orders.on_event(event("PARTIALLY_FILLED", "0.002", trades=(trade(1, "0.002"),)), 2_000)
    orders.on_event(event("PARTIALLY_FILLED", "0.002", trades=(trade(2, "0.002"),)), 2_000)
    assert known(orders).filled == Decimal("0.002")
    assert len(orders.take_fills()) == 1
    assert "trade 2" in orders.take_notices()[0]


# ---- lists ---------------------------------------------------------------------------------------


def test_a_list_is_one_order_with_two_legs() -> None:
    orders = sent_oco()
    order = known(orders, OCO)
    assert (order.parent, order.spec.side, order.spec.type) == (ID, "SELL", "OCO")
    assert (order.spec.symbol, order.quantity) == ("BTCUSDT", Decimal("0.01"))
    reports = [result(TAKE, order_id=8), result(STOP, order_id=9)]
    (order,) = orders.on_reply(reply({"orderListId": 2, "orderReports": reports}, OCO), 5_000)
    assert (order.status, [leg.order_id for leg in order.legs]) == ("acked", [8, 9])
    orders.on_event(event("EXPIRED", client_id=STOP, order_id=9, reason="OCO_TRIGGER"), 6_000)
    assert status(orders, OCO) == "acked"
    filled = event("FILLED", "0.01", TAKE, trades=(trade(5, "0.01"),), order_id=8)
    (order,) = orders.on_event(filled, 7_000)
    assert (order.status, order.filled) == ("filled", Decimal("0.01"))
    (settled,) = orders.take_settlements()
    assert (settled.client_id, settled.filled) == (OCO, Decimal("0.01"))
    assert orders.get(TAKE) == order


def test_of_an_unknown_list_both_legs_are_asked_about() -> None:
    orders = sent_oco()
    orders.on_reply(silence(OCO), 0)
    queries = orders.queries_due(S, CERTAIN_MS + 1)
    assert [q.client_id for q in queries] == [TAKE, STOP]
    for query in queries:
        orders.on_reply(refusal(query.request_id, -2013, "Order does not exist."), 2 * S)
    assert status(orders, OCO) == "rejected"
    assert known(orders, OCO).reason == (
        "never arrived at the venue (-1007: Timeout waiting for response.)"
    )


def test_the_id_of_a_list_is_that_of_no_order_at_the_venue() -> None:
    """Whoever reports on it means something else."""
    orders = sent_oco()
    assert orders.on_event(event("FILLED", "0.01", client_id=OCO), 1_000) == []
    for asks in (client_ids.STATUS, client_ids.TRADES, client_ids.CANCEL):
        assert orders.on_reply(reply(result(OCO), client_ids.request_id(asks, OCO)), 2_000) == []
    assert (orders.strangers, status(orders, OCO), orders.take_notices()) == (4, "sent", [])


def test_a_cancellation_that_fails_asks_what_there_is() -> None:
    orders = sent_oco()
    orders.on_reply(ack(OCO), 0)
    orders.queries_due(0, SENT_MS)
    failed = refusal(client_ids.request_id(client_ids.CANCEL, TAKE), -2011, "Unknown order sent.")
    assert orders.on_reply(failed, S) == []
    assert [q.client_id for q in orders.queries_due(S, SENT_MS)] == [TAKE, STOP]


# ---- strangers and bounds ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "client_id", ["", "web_9f", "hp1", ID[:-1], ID + "0", entry_id(1, "f" * 20)]
)
def test_orders_of_others_are_counted_and_nothing_else(client_id: str) -> None:
    orders = sent()
    assert orders.on_event(event("FILLED", "0.01", client_id), 2_000) == []
    assert orders.on_reply(Reply(client_id, 200, result(client_id)), 2_000) == []
    assert status(orders) == "sent"
    assert (orders.strangers, orders.take_notices()) == (2, [])


def test_an_order_of_ours_that_is_not_in_the_journal_is_reported_loudly() -> None:
    orders = sent()
    assert orders.on_event(event("NEW", client_id=entry_id(2)), 2_000) == []
    assert "not in the journal" in orders.take_notices()[0]


def test_complete_orders_are_kept_up_to_a_bound_and_late_events_for_others_change_nothing() -> None:
    orders = Orders()
    count = KEPT + 10
    for number in range(count):
        client_id = entry_id(number)
        orders.on_intent(intent(client_id), names(), 500)
        orders.on_fired(fired(client_id))
        done = event("FILLED", "0.01", client_id, trades=(trade(number, "0.01"),))
        orders.on_event(done, 2_000)
    assert (len(orders), len(orders.all())) == (count, KEPT)
    assert orders.counts == {"filled": count}
    assert len(orders.take_settlements()) == count
    assert orders.get(entry_id(9)) is None
    assert orders.on_event(event("FILLED", "0.01", entry_id(9)), 2_000) == []
    assert (orders.late, orders.strangers, orders.take_notices()) == (1, 0, [])


def test_what_is_told_of_an_order_is_json() -> None:
    orders = sent()
    orders.on_event(event("PARTIALLY_FILLED", "0.002", trades=(trade(1, "0.002"),)), 2_000)
    assert json.loads(json.dumps(known(orders).as_json())) == {
        "client_id": ID,
        "parent": "",
        "side": "SELL",
        "symbol": "BTCUSDT",
        "type": "LIMIT",
        "quantity": "0.01000000",
        "price": "52000.00",
        "time_in_force": "GTC",
        "status": "partially-filled",
        "filled": "0.002",
        "average": "52000.00000000",
        "fees": {"USDT": "0.1"},
        "txid": "ab" * 32,
        "exchange": "kraken",
        "timestamp_ms": SENT_MS,
        "reason": "",
        "reply_ns": None,
    }


# ---- off the wire --------------------------------------------------------------------------------


def test_messages_off_the_wire_find_their_order() -> None:
    orders = sent()
    orders.on_message(json.dumps({"id": ID, "status": 200, "result": ack().result}).encode(), 2_500)
    assert (status(orders), known(orders).reply_ns) == ("acked", 1_500)
    report = {
        "e": "executionReport",
        "E": SENT_MS,
        "s": "BTCUSDT",
        "c": "web_1",
        "C": ID,
        "S": "SELL",
        "o": "LIMIT",
        "x": "CANCELED",
        "X": "CANCELED",
        "r": "NONE",
        "i": 7,
        "z": "0.00000000",
        "Z": "0.00000000",
    }
    wrapped = json.dumps({"subscriptionId": 0, "event": report}).encode()
    (order,) = orders.on_message(wrapped, 3_000)
    assert order.status == "cancelled", "C is the id of the order that is cancelled"
    assert orders.on_message(b"\xff{", 4_000) == []


# ---- restart -------------------------------------------------------------------------------------


def test_a_restart_knows_positions_open_orders_and_what_is_unknown() -> None:
    done, open_, hanging, cut = map(entry_id, (1, 2, 3, 4))
    first = sent(done, open_, hanging)
    first.on_intent(intent(cut), names(), 700)
    for orders in (first,):
        orders.on_event(event("FILLED", "0.01", done, trades=(trade(1, "0.01"),)), 2_000)
        orders.on_reply(ack(open_, 8), 2_000)
    changed = first.end_former_runs()
    assert {o.client_id for o in changed} == {hanging, cut}
    assert {o.client_id: o.status for o in first.all()} == {
        done: "filled",
        open_: "acked",
        hanging: "unknown",
        cut: "unknown",
    }
    asked = {query.client_id for query in first.queries_due(0, SENT_MS)}
    assert asked == {open_, hanging, cut}, "at once, whatever this run's clock says"
    assert first.overdue(DAY_NS, 10) == []
    assert known(first, hanging).reply_ns is None


def test_an_order_that_the_journal_does_not_describe_is_reported() -> None:
    orders = Orders()
    orders.on_intent(intent(order=5), names(), 500)
    assert known(orders).spec.symbol == "?"
    assert "does not say what the order" in orders.take_notices()[0]


def test_a_reply_off_the_wire_can_be_an_array() -> None:
    reply_ = parse_reply(b'{"id":"a","status":200,"result":[{"symbol":"BTCUSDT"},7]}')
    assert reply_ is not None
    assert (reply_.result, reply_.rows) == ({}, ({"symbol": "BTCUSDT"},))
