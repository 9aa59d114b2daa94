"""engine.venues.binance_events: what the venue tells of orders, and whatever else may come."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.venues.binance import Reply, parse_reply
from engine.venues.binance_events import (
    Balances,
    ExecutionReport,
    OrderReport,
    Other,
    ServerShutdown,
    StreamEnded,
    Trade,
    parse_event,
    reports_in,
    trades_in,
)

# The form of user-data-stream.md, "Order Update"; the values are made up.
REPORT: dict[str, Any] = {
    "e": "executionReport",
    "E": 1700000000123,
    "s": "BTCUSDT",
    "c": "hp-the-order",
    "S": "BUY",
    "o": "LIMIT",
    "f": "GTC",
    "q": "0.03000000",
    "p": "60000.00000000",
    "P": "0.00000000",
    "F": "0.00000000",
    "g": -1,
    "C": "",
    "x": "NEW",
    "X": "NEW",
    "r": "NONE",
    "i": 4411,
    "l": "0.00000000",
    "z": "0.00000000",
    "L": "0.00000000",
    "n": "0",
    "N": None,
    "T": 1700000000120,
    "t": -1,
    "I": 88,
    "w": True,
    "m": False,
    "M": False,
    "O": 1700000000120,
    "Z": "0.00000000",
    "Y": "0.00000000",
    "Q": "0.00000000",
    "V": "NONE",
}
TRADE = {
    "x": "TRADE",
    "X": "PARTIALLY_FILLED",
    "l": "0.01000000",
    "z": "0.02000000",
    "L": "59990.00000000",
    "n": "0.00001000",
    "N": "BTC",
    "t": 77,
    "Z": "1199.90000000",
    "Y": "599.90000000",
}


def wire(event: object, **wrapper: Any) -> bytes:
    return json.dumps({"subscriptionId": 0, "event": event, **wrapper}).encode()


def report(**changes: Any) -> ExecutionReport:
    event = parse_event(wire(REPORT | changes))
    assert isinstance(event, ExecutionReport)
    return event


def test_a_new_order_is_reported() -> None:
    event = report()
    assert (event.symbol, event.side, event.type, event.execution) == (
        "BTCUSDT",
        "BUY",
        "LIMIT",
        "NEW",
    )
    assert event.event_ms == 1700000000123
    assert event.report == OrderReport("hp-the-order", "acked", 4411, Decimal(0), Decimal(0))


def test_a_trade_has_its_price_quantity_and_commission() -> None:
    assert report(**TRADE).report == OrderReport(
        client_id="hp-the-order",
        status="partially-filled",
        order_id=4411,
        filled=Decimal("0.02"),
        quote=Decimal("1199.9"),
        trades=(
            Trade(77, Decimal(59990), Decimal("0.01"), Decimal("599.9"), Decimal("0.00001"), "BTC"),
        ),
    )


def test_a_cancellation_is_of_the_original_id() -> None:
    event = report(x="CANCELED", X="CANCELED", c="web_77", C="hp-the-order")
    assert (event.client_id, event.report.status) == ("hp-the-order", "cancelled")


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"X": "REJECTED", "x": "REJECTED", "r": "INSUFFICIENT_BALANCES"}, "rejected", "INSUFF"),
        ({"X": "EXPIRED", "x": "EXPIRED", "eR": "OCO_TRIGGER"}, "expired", "OCO_TRIGGER"),
        ({"X": "EXPIRED_IN_MATCH", "x": "TRADE_PREVENTION"}, "expired", ""),
        ({"X": "PENDING_NEW"}, "acked", ""),
    ],
)
def test_every_status_has_a_word_and_its_reason(
    changes: dict[str, str], status: str, reason: str
) -> None:
    said = report(**changes).report
    assert said.status == status
    assert said.reason.startswith(reason)


def test_other_events_have_their_types() -> None:
    assert parse_event(b'{"event":{"e":"serverShutdown","E":5}}') == ServerShutdown(5)
    assert parse_event(wire({"e": "eventStreamTerminated", "E": 6})) == StreamEnded(6)
    assert parse_event(wire({"e": "listStatus", "E": 7, "g": 2})) == Other("listStatus", 7)
    balances = {"e": "outboundAccountPosition", "E": 8, "u": 8}
    rows = [{"a": "BTC", "f": "1.5", "l": "0.25"}]
    assert parse_event(wire(balances | {"B": rows})) == Balances(
        8, {"BTC": (Decimal("1.5"), Decimal("0.25"))}
    )


@pytest.mark.parametrize("name", ["e", "E", "s", "c", "S", "o", "x", "X", "i", "z", "Z"])
@pytest.mark.parametrize("value", [None, [], {}, True, 1.5, "\x1b[2J", "x" * 99, 1 << 70])
def test_a_report_in_another_form_is_none(name: str, value: object) -> None:
    assert parse_event(wire(REPORT | {name: value})) is None


@pytest.mark.parametrize("name", ["t", "L", "l", "Y", "n", "N"])
def test_a_trade_in_another_form_is_none(name: str) -> None:
    assert parse_event(wire(REPORT | TRADE | {name: ["?"]})) is None


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "1e9", "-1", "", " 1", "1" * 21, "٣"])
def test_an_amount_is_plain_digits(amount: str) -> None:
    assert parse_event(wire(REPORT | {"z": amount})) is None


def test_a_quantity_is_none_that_no_order_can_have() -> None:
    """csrc/risk.c counts in 1e-8 up to a quarter of what 64 bits hold."""
    assert report(z="23058430092.13693951").report.filled == Decimal("23058430092.13693951")
    for name in ("z", "l"):
        assert parse_event(wire(REPORT | TRADE | {name: "23058430092.13693952"})) is None
    row = {"price": "1", "quoteQty": "1", "commission": "0", "commissionAsset": "BTC", "id": 1}
    for quantity, count in (("3" * 11, None), ("3" * 10, 1)):
        trades = trades_in(Reply("1", 200, {}, rows=({**row, "qty": quantity},)))
        assert (trades and len(trades)) == count
    assert reports_in(Reply("1", 200, ROW | {"executedQty": "9" * 20})) == ()
    assert report(Z="9" * 20).report.quote == Decimal("9" * 20), "a coin may be worth millions"


def test_replies_and_garbage_are_no_events() -> None:
    for text in (b"", b"{", b"[1]", b'"a"', b'{"id":"1","status":200}', b'{"event":[]}', b"\xff"):
        assert parse_event(text) is None
    assert parse_event(b"[" * 200_000) is None


# ---- replies -------------------------------------------------------------------------------------

ROW: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "orderId": 4411,
    "orderListId": -1,
    "clientOrderId": "hp-the-order",
    "executedQty": "0.01000000",
    "cummulativeQuoteQty": "600.00000000",
    "status": "PARTIALLY_FILLED",
}
SAID = OrderReport("hp-the-order", "partially-filled", 4411, Decimal("0.01"), Decimal(600))


def test_reports_are_found_in_every_form_of_reply() -> None:
    assert reports_in(Reply("1", 200, ROW)) == (SAID,)
    assert reports_in(Reply("1", 200, {}, rows=(ROW, ROW))) == (SAID, SAID)
    listed = {"orderListId": 3, "orderReports": [ROW, ROW]}
    assert reports_in(Reply("1", 200, listed)) == (SAID, SAID)
    assert reports_in(Reply("1", 200, {}, rows=(listed, ROW))) == (SAID, SAID, SAID)
    cancelled = ROW | {"origClientOrderId": "hp-the-order", "clientOrderId": "web_3"}
    assert reports_in(Reply("1", 200, cancelled)) == (SAID,)


def test_an_acknowledgement_says_only_that() -> None:
    ack = {"symbol": "BTCUSDT", "orderId": 4411, "clientOrderId": "hp-the-order"}
    (said,) = reports_in(Reply("1", 200, ack))
    assert (said.order_id, said.status, said.filled, said.quote) == (4411, None, None, None)


def test_a_quote_that_is_not_available_is_none() -> None:
    (said,) = reports_in(Reply("1", 200, ROW | {"cummulativeQuoteQty": "-1.00000000"}))
    assert (said.filled, said.quote) == (Decimal("0.01"), None)


def test_failures_and_other_results_report_nothing() -> None:
    assert reports_in(Reply("1", 400, ROW)) == ()
    assert reports_in(Reply("1", 200, {"serverTime": 5})) == ()
    assert reports_in(Reply("1", 200, ROW | {"status": "SOMETHING"})) == ()
    assert trades_in(Reply("1", 200, {})) is None
    assert trades_in(Reply("1", 200, {}, rows=(ROW,))) is None
    assert trades_in(Reply("1", 200, {}, rows=())) == ()


# ---- whatever comes ------------------------------------------------------------------------------

keys = st.sampled_from([*REPORT, *ROW, "event", "B", "fills", "orderReports", "result", "status"])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["executionReport", "TRADE", "FILLED", "0.1", "outboundAccountPosition"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=6),
    max_leaves=8,
)


def take(text: bytes) -> None:
    parse_event(text)
    reply = parse_reply(text)
    if reply is not None:
        reports_in(reply)
        trades_in(reply)


@given(st.binary(max_size=300))
@example(b'{"event":' * 5000)
@example(b'{"id":1,"status":200,"result":' + b"9" * 5000 + b"}")
def test_any_bytes_are_taken(text: bytes) -> None:
    take(text)


@given(st.dictionaries(keys, values))
def test_any_report_is_taken(changes: dict[str, Any]) -> None:
    take(wire(REPORT | TRADE | changes))
    take(json.dumps({"id": "1", "status": 200, "result": ROW | changes}).encode())
    take(json.dumps({"id": "1", "status": 200, "result": [ROW | changes, changes]}).encode())
