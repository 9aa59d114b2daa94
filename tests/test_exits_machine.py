"""engine.exits and engine.lifecycle together: whatever is lost, refused, unknown or restarted,
no more is closed than was opened, and in the end nothing stays open."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from order_life import BUY, ID, SENT_MS, S, exit_intent, fired, intent, names, result

from engine import client_ids
from engine.exit_plan import Bounds, ExitPlan, Market
from engine.exits import Cancel, Exits, Place
from engine.lifecycle import Orders
from engine.records import Body, Closed, Message, Record

MOST_AT_MARKET = 4
BOUNDS = Bounds(min_quantity=Decimal("0.001"), min_notional=Decimal(5))
MARKET = Market(
    Decimal("0.01"),
    Decimal("0.001"),
    resting=BOUNDS,
    at_market=replace(BOUNDS, max_quantity=Decimal(MOST_AT_MARKET) / 1000),
)
AFTER_S = 120
WINDOW_MS = 15_000  # an order that has not arrived by then never does
WORDS = {"cancelled": "CANCELED", "expired": "EXPIRED", "filled": "FILLED"}
# Placed, and then: what the reply is. "late": it arrives when time has gone by; "lost": never.
FATES = ["ACK", "late", "RESULT", "timeout", "mute", "lost", "busy", "refused"]


def coins(thousandths: int) -> str:
    return f"{Decimal(thousandths) / 1000:.8f}"


@dataclass
class Resting:
    """An order at the venue."""

    client_id: str
    order_id: int
    quantity: int
    siblings: tuple[str, ...] = ()
    fills: list[int] = field(default_factory=list)
    end: str = ""

    @property
    def filled(self) -> int:
        return sum(self.fills)

    @property
    def word(self) -> str:
        return WORDS.get(self.end) or ("PARTIALLY_FILLED" if self.fills else "NEW")

    def row(self) -> dict[str, Any]:
        quote = coins(self.filled * 60_000)
        return result(self.client_id, self.word, coins(self.filled), quote, self.order_id)


class World(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.journal: list[Record] = []
        self.book: dict[str, Resting] = {}
        self.in_flight: list[tuple[int, Place]] = []  # until when each may arrive
        self.posted: list[Place] = []  # in the command ring
        self.pool: list[bytes] = []
        self.trade_id = 0
        self.now_ns, self.venue_ms = S, SENT_MS
        self.fee = 0
        self.plan = ExitPlan()
        self.entry = BUY
        self.kinds: set[str] = set()

    # ---- our side ----

    def start(self) -> None:
        self.orders = Orders(recv_window_ms=5000)
        self.exits = Exits({"whale": self.plan})
        self.exits.set_market("BTCUSDT", MARKET)

    def write(self, body: Body) -> None:
        record = Record(len(self.journal) + 1, self.now_ns, 0, 1, body, names(self.entry))
        self.journal.append(record)
        self.fold(record)

    def fold(self, record: Record) -> None:
        for order in self.orders.on_record(record):
            self.exits.on_order(order)

    @initialize(
        filled=st.sampled_from([10, 9, 5, 1, 0]),
        fee=st.booleans(),
        bounds=st.sampled_from([(100, 100), (100, None), (None, 100), (None, None)]),
        prompt=st.sampled_from([True, True, True, False]),
        rests=st.booleans(),
        denied=st.sampled_from([True, False, False]),
    )
    def enter(
        self,
        filled: int,
        fee: bool,
        bounds: tuple[int | None, int | None],
        prompt: bool,
        rests: bool,
        denied: bool,
    ) -> None:
        """`denied`: the venue says that it rejects the order, and has it all the same."""
        self.plan = ExitPlan(AFTER_S, *bounds)
        self.fee = int(fee and filled > 0)
        self.entry = replace(BUY, time_in_force="GTC" if rests else "IOC")
        self.start()
        self.write(intent())
        self.write(fired())
        if denied:
            self.tell({"id": ID, "status": 400, "error": {"code": -2010, "msg": "No."}})
            self.hear_all()
        entry = self.arrive(ID, 10)
        if filled:
            self.fill(entry, filled)
        if filled < 10 and not rests:
            self.finish(entry, "expired")
        if prompt:
            self.hear_all()

    def restart(self) -> None:
        """kill -9 and a new run: what was handed out and not written is forgotten."""
        self.posted.clear()
        self.start()
        for record in self.journal:
            self.fold(record)
        for order in self.orders.end_former_runs():
            self.exits.on_order(order)

    @rule(data=st.data(), heard=st.booleans(), seconds=st.sampled_from([2, 6, 11]))
    def turn(self, data: st.DataObject, heard: bool, seconds: int) -> None:
        self.wait(seconds)
        if heard:
            self.hear_all()
        self.ask()
        for action in self.exits.actions(self.now_ns, self.venue_ms):
            if isinstance(action, Cancel):
                self.cancel(action, data.draw(st.sampled_from(["heard", "mute", "lost"])))
            else:
                self.post(
                    action, data.draw(st.sampled_from(["sent", "sent", "slow", "gate"])), data
                )

    def post(self, place: Place, outcome: str, data: st.DataObject) -> None:
        """Into the command ring, and through the risk gate."""
        assert place.quantity > 0
        assert place.kind != client_ids.MARKET or place.quantity * 1000 <= MOST_AT_MARKET
        self.kinds.add(place.kind)
        if outcome == "gate":
            self.exits.on_refused(place.client_id, "not-ready")
        elif outcome == "slow":
            self.posted.append(place)
        else:
            self.send(place, data.draw(st.sampled_from(FATES)))

    @precondition(lambda self: self.posted)
    @rule(fate=st.sampled_from(FATES))
    def hot_thread_comes_to_it(self, fate: str) -> None:
        self.send(self.posted.pop(0), fate)

    def send(self, place: Place, fate: str) -> None:
        """Into the journal, and to the venue."""
        sell = place.side == "SELL"
        self.write(
            exit_intent(place.client_id, place.parent, str(place.quantity), sell, self.venue_ms)
        )
        self.write(fired(place.client_id, sent_ns=self.now_ns))
        if fate == "late":
            self.in_flight.append((self.venue_ms + WINDOW_MS, place))
        elif fate == "lost":
            pass
        elif fate in ("busy", "refused"):
            code = -1015 if fate == "busy" else -2010
            self.tell({"id": place.client_id, "status": 400, "error": {"code": code, "msg": "No."}})
        else:
            self.take(place)
            if fate == "timeout":
                error = {"code": -1007, "msg": "Timeout"}
                self.tell({"id": place.client_id, "status": 504, "error": error})
            elif fate in ("ACK", "RESULT"):
                rows = [self.book[leg].row() for leg in client_ids.legs_of(place.client_id)]
                if fate == "ACK":
                    rows = [{n: r[n] for n in ("orderId", "clientOrderId")} for r in rows]
                listed = {"orderListId": 3, "orderReports": rows}
                found = rows[0] if len(rows) == 1 else listed
                self.tell({"id": place.client_id, "status": 200, "result": found})

    def ask(self) -> None:
        for query in self.orders.queries_due(self.now_ns, self.venue_ms):
            resting = self.book.get(query.client_id)
            reply: dict[str, Any] = {"id": query.request_id, "status": 200}
            if resting is None:
                error = {"code": -2013, "msg": "Order does not exist."}
                reply = {"id": query.request_id, "status": 400, "error": error}
            elif query.asks == client_ids.STATUS:
                reply["result"] = resting.row()
            else:
                reply["result"] = []  # the trades are told by events, sooner or later
            self.hear(json.dumps(reply).encode())

    @rule(
        trouble=st.sampled_from(["none", "none", "session", "restart"]), seconds=st.integers(1, 90)
    )
    def time_goes_by(self, trouble: str, seconds: int) -> None:
        if trouble == "session":
            self.write(Closed("reset by the peer", 104, True, 0))
        elif trouble == "restart":
            self.restart()
        self.wait(seconds)

    def wait(self, seconds: int) -> None:
        self.now_ns += seconds * S
        self.venue_ms += seconds * 1000
        self.in_flight = [each for each in self.in_flight if each[0] >= self.venue_ms]
        for order in self.orders.overdue(self.now_ns, 10):
            self.exits.on_order(order)

    @rule(price=st.sampled_from([59_000, 59_400, 60_000, 60_600, 61_000]))
    def move(self, price: int) -> None:
        self.exits.on_price("BTCUSDT", Decimal(price), Decimal(price + 1), self.now_ns)

    # ---- the venue ----

    def arrive(self, client_id: str, quantity: int, siblings: tuple[str, ...] = ()) -> Resting:
        resting = Resting(client_id, len(self.book) + 7, quantity, siblings)
        assert client_id not in self.book, "the same id twice"
        self.book[client_id] = resting
        self.report(resting, "NEW")
        return resting

    def take(self, place: Place) -> None:
        legs = client_ids.legs_of(place.client_id)
        for leg in legs:
            siblings = tuple(each for each in legs if each != leg)
            self.arrive(leg, int(place.quantity * 1000), siblings)
        if place.kind == client_ids.MARKET:
            resting = self.book[place.client_id]
            self.fill(resting, resting.quantity)

    @precondition(lambda self: self.in_flight)
    @rule()
    def arrive_late(self) -> None:
        self.take(self.in_flight.pop()[1])

    def live(self) -> list[Resting]:
        return [each for each in self.book.values() if not each.end]

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def trade(self, data: st.DataObject) -> None:
        resting = data.draw(st.sampled_from(self.live()))
        self.fill(resting, data.draw(st.integers(1, resting.quantity - resting.filled)))

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def somebody_cancels(self, data: st.DataObject) -> None:
        self.finish(data.draw(st.sampled_from(self.live())), "cancelled")

    def fill(self, resting: Resting, quantity: int) -> None:
        resting.fills.append(quantity)
        self.trade_id += 1
        if resting.filled == resting.quantity:
            resting.end = "filled"
        self.report(resting, "TRADE", quantity)
        for sibling in resting.siblings:
            if not self.book[sibling].end:
                self.finish(self.book[sibling], "expired")

    def finish(self, resting: Resting, end: str) -> None:
        resting.end = end
        self.report(resting, WORDS[end])
        for sibling in resting.siblings:
            if end == "cancelled" and not self.book[sibling].end:
                self.finish(self.book[sibling], "cancelled")

    def cancel(self, cancel: Cancel, fate: str) -> None:
        if fate == "lost":
            return
        resting = self.book[cancel.client_id]
        reply: dict[str, Any] = {"id": cancel.request_id, "status": 400}
        if resting.end:
            reply["error"] = {"code": -2011, "msg": "Unknown order sent."}
        else:
            self.finish(resting, "cancelled")
            row = resting.row() | {"origClientOrderId": resting.client_id, "clientOrderId": "x"}
            reply |= {"status": 200, "result": row}
        if fate == "heard":
            self.tell(reply)

    def report(self, resting: Resting, execution: str, quantity: int = 0) -> None:
        cancelled = execution == "CANCELED"
        event: dict[str, Any] = {
            "e": "executionReport",
            "E": self.venue_ms,
            "s": "BTCUSDT",
            "c": "x" if cancelled else resting.client_id,
            "C": resting.client_id if cancelled else "",
            "S": "SELL",
            "o": "LIMIT",
            "x": execution,
            "X": resting.word,
            "r": "NONE",
            "i": resting.order_id,
            "z": coins(resting.filled),
            "Z": coins(resting.filled * 60_000),
            "t": self.trade_id,
            "l": coins(quantity),
            "L": "60000.00",
            "Y": coins(quantity * 60_000),
            "n": f"{Decimal(self.fee) / 10_000:.8f}" if resting.client_id == ID else "0.01",
            "N": "BTC" if resting.client_id == ID else "USDT",
        }
        self.tell({"subscriptionId": 0, "event": event})

    # ---- between them ----

    def tell(self, message: dict[str, Any]) -> None:
        self.pool.append(json.dumps(message).encode())

    def hear(self, text: bytes) -> None:
        self.write(Message(text, 0))

    @precondition(lambda self: self.pool)
    @rule()
    def hear_everything(self) -> None:
        self.hear_all()

    def hear_all(self) -> None:
        pool, self.pool = self.pool, []
        for text in pool:
            self.hear(text)

    @precondition(lambda self: self.pool)
    @rule(data=st.data(), again=st.booleans())
    def hear_one(self, data: st.DataObject, again: bool) -> None:
        index = data.draw(st.integers(0, len(self.pool) - 1))
        text = self.pool[index] if again else self.pool.pop(index)
        self.hear(text)

    # ---- what must hold ----

    @invariant()
    def never_more_is_closed_than_was_opened(self) -> None:
        if ID not in self.book:
            return
        exits = [each for each in self.book.values() if each.client_id != ID]
        closed = sum(each.filled for each in exits)
        lists = {each.client_id[24:]: each.quantity - each.filled for each in exits if not each.end}
        flying = sum(int(place.quantity * 1000) for _, place in self.in_flight)
        opened = self.book[ID].filled
        assert closed + sum(lists.values()) + flying <= opened

    def teardown(self) -> None:
        """The venue answers, and time goes by: the position is left."""
        if ID not in self.book:
            return
        for _ in range(40):
            self.wait(61)
            self.hear_all()
            while self.posted:
                self.send(self.posted.pop(), "ACK")
            self.ask()
            for action in self.exits.actions(self.now_ns, self.venue_ms):
                if isinstance(action, Cancel):
                    self.cancel(action, "heard")
                else:
                    self.send(action, "ACK")
            self.never_more_is_closed_than_was_opened()
        held = 10 * self.book[ID].filled - self.fee * len(self.book[ID].fills)
        closed = sum(10 * each.filled for each in self.book.values() if each.client_id != ID)
        assert 0 <= held - closed < 10, "less than a step is dust"
        assert self.exits.left() == []
        assert self.live() == []


TestWorld = World.TestCase
TestWorld.settings = settings(
    max_examples=150,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
