"""engine.lifecycle against a plain reference: an honest venue whose messages are lost, late, twice
and out of order, with restarts in between."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from order_life import ID, SENT_MS, S, ack, fired, intent, names, result

from engine import client_ids
from engine.inquiries import Query
from engine.lifecycle import Fill, Orders
from engine.order import Order
from engine.records import Body, Closed, Message, Record

QUANTITY, PRICE = 10, 52_000  # in thousandths of a coin
ARRIVES_MS = SENT_MS + 5_000 + 10_000  # its window, and the longest that the venue is at work on it
CERTAIN_MS = SENT_MS + 5_000 + 15_000
VENUE_WORD = {"filled": "FILLED", "cancelled": "CANCELED", "expired": "EXPIRED"}


@dataclass(frozen=True)
class Said:
    """A message of the venue, and what a reader knows from it."""

    text: bytes
    accepted: bool = False
    refused: bool = False
    filled: int = 0
    end: str = ""
    trade: int | None = None
    once: bool = False  # an answer to a question: it comes once or never


def coins(thousandths: int) -> str:
    return f"{Decimal(thousandths) / 1000:.8f}"


class Venue:
    """The truth about one order."""

    def __init__(self) -> None:
        self.order_id: int | None = None
        self.refused = False
        self.fills: list[int] = []
        self.end = ""

    @property
    def filled(self) -> int:
        return sum(self.fills)

    @property
    def word(self) -> str:
        return VENUE_WORD.get(self.end) or ("PARTIALLY_FILLED" if self.fills else "NEW")

    def knows(self, **facts: Any) -> dict[str, Any]:
        return {"accepted": True, "filled": self.filled, "end": self.end} | facts

    def report(self, execution: str, quantity: int = 0) -> Said:
        """An executionReport of what has just happened."""
        event: dict[str, Any] = {
            "e": "executionReport",
            "E": SENT_MS,
            "s": "BTCUSDT",
            "c": "web_1" if execution == "CANCELED" else ID,
            "C": ID if execution == "CANCELED" else "",
            "S": "SELL",
            "o": "LIMIT",
            "x": execution,
            "X": self.word,
            "r": "NONE",
            "i": self.order_id,
            "z": coins(self.filled),
            "Z": coins(self.filled * PRICE),
        }
        if quantity:
            event |= {
                "t": len(self.fills),
                "l": coins(quantity),
                "L": str(PRICE),
                "Y": coins(quantity * PRICE),
                "n": "0.10000000",
                "N": "USDT",
            }
        trade = len(self.fills) if quantity else None
        text = json.dumps({"subscriptionId": 0, "event": event}).encode()
        return Said(text, **self.knows(trade=trade))

    def answer(self, query: Query) -> list[Said]:
        if self.order_id is None:
            return [error(query.request_id, 400, -2013)]
        if query.asks == client_ids.STATUS:
            row: Any = result(
                ID, self.word, coins(self.filled), coins(self.filled * PRICE), self.order_id
            )
            return [said(query.request_id, row, once=True, **self.knows())]
        rows = [
            {
                "id": number,
                "price": str(PRICE),
                "qty": coins(quantity),
                "quoteQty": coins(quantity * PRICE),
                "commission": "0.10000000",
                "commissionAsset": "USDT",
            }
            for number, quantity in enumerate(self.fills, 1)
        ]
        return [said(query.request_id, rows, once=True)]


def said(request_id: str, result_: object, **facts: Any) -> Said:
    text = json.dumps({"id": request_id, "status": 200, "result": result_}).encode()
    return Said(text, **facts)


def error(request_id: str, status: int, code: int, **facts: Any) -> Said:
    message = {"id": request_id, "status": status, "error": {"code": code, "msg": "No."}}
    return Said(json.dumps(message).encode(), once=True, **facts)


class Lives(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.venue = Venue()
        self.journal: list[Record] = []
        self.pool: list[Said] = []
        self.heard: list[Said] = []
        self.fired = self.doubted = False
        self.now_ns, self.venue_ms = S, SENT_MS
        self.start()

    def start(self) -> None:
        self.orders = Orders(recv_window_ms=5_000)
        self.fills: list[Fill] = []
        self.settled = 0

    def write(self, body: Body) -> list[Order]:
        record = Record(len(self.journal) + 1, self.now_ns, 0, 1, body, names())
        self.journal.append(record)
        return self.orders.on_record(record)

    # ---- what we do ----

    @initialize()
    def intend(self) -> None:
        self.write(intent())

    @precondition(lambda self: not self.fired)
    @rule(failed=st.booleans())
    def fire(self, failed: bool) -> None:
        self.write(fired(sent_ns=0 if failed else self.now_ns, error="broken" if failed else None))
        self.fired = True
        self.doubted |= failed

    @rule(seconds=st.sampled_from([1, 3, 11, 70]))
    def wait(self, seconds: int) -> None:
        self.now_ns += seconds * S
        self.venue_ms += seconds * 1000
        self.doubted |= bool(self.orders.overdue(self.now_ns, 10))

    @rule()
    def ask(self) -> None:
        for query in self.orders.queries_due(self.now_ns, self.venue_ms):
            self.pool += self.venue.answer(query)

    @precondition(lambda self: self.fired)
    @rule()
    def lose_the_session(self) -> None:
        self.write(Closed("reset by the peer", 104, True, 0))
        self.doubted = True

    @precondition(lambda self: self.fired)
    @rule()
    def restart(self) -> None:
        """kill -9, and a new run that reads the journal; the answers to old questions are gone."""
        self.start()
        for record in self.journal:
            self.orders.on_record(record)
        self.orders.end_former_runs()
        self.doubted = True
        self.pool = [each for each in self.pool if not each.once]
        self.orders.take_settlements()
        self.settled = int(self.order.ended)

    # ---- what the venue does ----

    @precondition(lambda self: self.venue.order_id is None and self.venue_ms <= ARRIVES_MS)
    @rule(form=st.sampled_from(["ACK", "RESULT", "timeout"]))
    def accept(self, form: str) -> None:
        if self.venue.refused:
            return
        self.venue.order_id = 7
        self.pool.append(self.venue.report("NEW"))
        if form == "ACK":
            self.pool.append(said(ID, ack().result, accepted=True))
        elif form == "RESULT":
            self.pool.append(said(ID, result(), accepted=True))
        else:
            self.pool.append(error(ID, 504, -1007))

    @precondition(lambda self: self.venue.order_id is None and not self.venue.refused)
    @rule()
    def refuse(self) -> None:
        self.venue.refused = True
        self.pool.append(error(ID, 400, -2010, refused=True))

    @precondition(lambda self: self.venue.order_id is not None and not self.venue.end)
    @rule(quantity=st.integers(1, QUANTITY))
    def fill(self, quantity: int) -> None:
        quantity = min(quantity, QUANTITY - self.venue.filled)
        self.venue.fills.append(quantity)
        if self.venue.filled == QUANTITY:
            self.venue.end = "filled"
        self.pool.append(self.venue.report("TRADE", quantity))

    @precondition(lambda self: self.venue.order_id is not None and not self.venue.end)
    @rule(end=st.sampled_from(["cancelled", "expired"]))
    def end(self, end: str) -> None:
        self.venue.end = end
        self.pool.append(self.venue.report("CANCELED" if end == "cancelled" else "EXPIRED"))

    # ---- what arrives ----

    @precondition(lambda self: self.pool)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.pool) - 1))
        message = self.pool[index]
        if message.once:
            del self.pool[index]
        self.doubted |= b"-1007" in message.text
        self.heard.append(message)
        self.write(Message(message.text, 0))

    # ---- what must hold ----

    @property
    def order(self) -> Order:
        order = self.orders.get(ID)
        assert order is not None
        return order

    def expected(self) -> str:
        """The reference: what has been heard, in whatever sequence."""
        ends = {message.end for message in self.heard if message.end}
        if ends:
            return ends.pop()
        if any(message.filled for message in self.heard):
            return "partially-filled"
        if any(message.accepted for message in self.heard):
            return "acked"
        if any(message.refused for message in self.heard):
            return "rejected"
        if self.doubted:
            return "unknown"
        return "sent" if self.fired else "intent"

    @invariant()
    def is_as_the_reference_says(self) -> None:
        if not self.journal:
            return
        expected, order = self.expected(), self.order
        if order.status == "rejected" and expected != "rejected":
            assert expected == "unknown"
            assert self.venue.order_id is None, "rejected, and the venue has it"
            assert self.venue_ms > CERTAIN_MS
        else:
            assert order.status == expected
        assert order.filled == Decimal(max([0, *(m.filled for m in self.heard)])) / 1000
        assert self.orders.take_notices() == [], "an honest venue gives no reason to complain"

    @invariant()
    def counts_everything_once(self) -> None:
        if not self.journal:
            return
        self.fills += self.orders.take_fills()
        numbers = [fill.trade_id for fill in self.fills]
        assert len(numbers) == len(set(numbers))
        told = {m.trade for m in self.heard if m.trade is not None}
        assert told <= set(numbers) <= set(range(1, len(self.venue.fills) + 1))
        for settlement in self.orders.take_settlements():
            self.settled += 1
            assert settlement.quantity == Decimal(QUANTITY) / 1000
            assert settlement.filled == self.order.filled
        assert self.settled == int(self.order.ended)

    def teardown(self) -> None:
        """A venue that answers resolves everything, without another order."""
        if not self.fired:
            return
        for _ in range(40):
            self.wait(70)
            for query in self.orders.queries_due(self.now_ns, self.venue_ms):
                for message in self.venue.answer(query):
                    self.heard.append(message)
                    self.write(Message(message.text, 0))
            self.is_as_the_reference_says()
            self.counts_everything_once()
        if self.venue.order_id is None:
            assert self.order.status == "rejected"
            return
        truth = self.venue.end or ("partially-filled" if self.venue.fills else "acked")
        assert self.order.status == truth
        if self.venue.end:
            assert self.order.complete
            told = sorted(self.fills, key=lambda fill: fill.trade_id or 0)
            assert [fill.quantity * 1000 for fill in told] == self.venue.fills


TestLives = Lives.TestCase
TestLives.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
