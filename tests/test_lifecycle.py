"""engine.lifecycle: what is believed of an order, from its sending to its last answer."""

from __future__ import annotations

import json

import pytest

from engine.lifecycle import Order, Orders
from engine.venues.binance import OrderSpec, Reply, parse_reply

SPEC = OrderSpec("BTCUSDT", "SELL", "LIMIT", "0.01000000", price="52000.00", time_in_force="GTC")
ACK = Reply("hp1", 200, {"orderId": 1})
REFUSAL = Reply("hp1", 400, {}, code=-2010, message="Account has insufficient balance.")
SILENCE = Reply("hp1", 504, {}, code=-1007, message="Timeout waiting for response.")


def order(client_id: str = "hp1", status: str = "sent", reason: str = "") -> Order:
    return Order(
        client_id=client_id,
        spec=SPEC,
        status=status,
        txid="ab" * 32,
        exchange="kraken",
        timestamp_ms=1_645_423_376_532,
        sent_ns=0 if status == "unknown" else 1_000,
        reason=reason,
    )


def orders(*those: Order) -> Orders:
    book = Orders()
    for each in those or (order(),):
        book.add(each)
    return book


def status(book: Orders, client_id: str = "hp1") -> str:
    (found,) = [each for each in book.all() if each.client_id == client_id]
    return found.status


def test_an_acknowledgement_settles_an_order() -> None:
    book = orders()
    assert (len(book), book.waiting()) == (1, 1)
    settled = book.on_reply(ACK, 5_000)
    assert settled is not None
    assert (settled.status, settled.replied_ns, settled.reason) == ("acked", 5_000, "")
    assert settled.as_json()["reply_ns"] == 4_000
    assert (len(book), book.waiting(), book.all()) == (1, 0, [settled])


def test_a_refusal_says_why() -> None:
    settled = orders().on_reply(REFUSAL, 5_000)
    assert settled is not None
    assert settled.status == "rejected"
    assert settled.reason == "-2010: Account has insufficient balance."


def test_a_refusal_without_a_code_says_its_status() -> None:
    settled = orders().on_reply(Reply("hp1", 403, {}), 5_000)
    assert settled is not None
    assert (settled.status, settled.reason) == ("rejected", "status 403")


@pytest.mark.parametrize(("first", "believed"), [(ACK, "acked"), (REFUSAL, "rejected")])
@pytest.mark.parametrize("second", [ACK, REFUSAL, SILENCE])
def test_the_first_answer_stands(first: Reply, believed: str, second: Reply) -> None:
    book = orders()
    book.on_reply(first, 5_000)
    before = book.all()
    assert book.on_reply(second, 6_000) is None
    assert book.all() == before
    assert status(book) == believed


def test_a_timeout_is_never_a_rejection_and_a_later_answer_settles_it() -> None:
    book = orders()
    doubtful = book.on_reply(SILENCE, 5_000)
    assert doubtful is not None
    assert doubtful.status == "unknown"
    assert doubtful.reason == "-1007: Timeout waiting for response."
    assert book.waiting() == 0
    settled = book.on_reply(ACK, 9_000)
    assert settled is not None
    assert (settled.status, settled.reason, settled.replied_ns) == ("acked", "", 9_000)


@pytest.mark.parametrize(("late", "believed"), [(ACK, "acked"), (REFUSAL, "rejected")])
def test_the_end_of_the_session_leaves_orders_unknown_until_an_answer(
    late: Reply, believed: str
) -> None:
    answered, dry = order("hp2"), order("hp3", "dry-run")
    book = orders(order("hp1"), answered, dry, order("hp4"))
    book.on_reply(Reply("hp2", 200, {}), 5_000)
    lost = book.on_session_end("the connection was reset")
    assert [(each.client_id, each.status, each.reason) for each in lost] == [
        ("hp1", "unknown", "the connection was reset"),
        ("hp4", "unknown", "the connection was reset"),
    ]
    assert [status(book, f"hp{i}") for i in (1, 2, 3, 4)] == [
        "unknown",
        "acked",
        "dry-run",
        "unknown",
    ]
    assert book.on_session_end("again") == []
    assert book.waiting() == 0
    book.on_reply(late, 9_000)
    assert (status(book), status(book, "hp4")) == (believed, "unknown")


def test_an_order_whose_send_was_cut_short_can_still_be_answered() -> None:
    book = orders(order(status="unknown", reason="the connection was reset"))
    settled = book.on_reply(ACK, 9_000)
    assert settled is not None
    assert settled.status == "acked"
    assert settled.as_json()["reply_ns"] is None, "it was never known when it left"


@pytest.mark.parametrize("reply_id", ["hp", "hp11", "None", "", "HP1"])
def test_an_answer_to_something_else_is_not_ours(reply_id: str) -> None:
    book = orders()
    assert book.on_reply(Reply(reply_id, 200, {}), 5_000) is None
    assert status(book) == "sent"


def test_a_dry_order_is_not_settled_by_a_stranger() -> None:
    book = orders(order(status="dry-run"))
    assert book.on_reply(ACK, 5_000) is None
    assert status(book) == "dry-run"


def test_what_is_told_of_an_order_is_json() -> None:
    assert json.loads(json.dumps(order().as_json())) == {
        "client_id": "hp1",
        "side": "SELL",
        "symbol": "BTCUSDT",
        "type": "LIMIT",
        "quantity": "0.01000000",
        "price": "52000.00",
        "time_in_force": "GTC",
        "status": "sent",
        "txid": "ab" * 32,
        "exchange": "kraken",
        "timestamp_ms": 1_645_423_376_532,
        "reason": "",
        "reply_ns": None,
    }


def test_a_reply_off_the_wire_finds_its_order() -> None:
    reply = parse_reply(b'{"id":"hp1","status":200,"result":{"symbol":"BTCUSDT","orderId":1}}')
    assert reply is not None
    settled = orders().on_reply(reply, 2_500)
    assert settled is not None
    assert settled.as_json()["reply_ns"] == 1_500
