"""engine.exits and engine.desk before the risk gate: over whatever is lost, refused, unknown or
restarted, `exit-size` refuses no exit that closes what its entry has left."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.stateful import invariant

from engine.core import Limits, Settlement
from engine.desk import Desk
from engine.exits import Place
from engine.records import Body, Intent, Record, Terms
from engine.venues.binance_requests import Auth

from .order_life import ID
from .risk_model import E8, Candidate, Gate, Market
from .test_exits_machine import MARKET, World

ENTERED = Terms(E8 // 100, 0, 0, False)  # what the entry of a World would buy


class GuardedWorld(World):
    """With a desk over orders and exits, and a gate behind the ring of commands. It is the desk's
    Wire and Past."""

    def __init__(self) -> None:
        super().__init__()
        self.behind: list[Settlement] = []  # in the ring, behind an exit
        self.restarted = False

    def start(self) -> None:
        self.gate = Gate(Limits(), max_orders=10, cooldown_ns=0, markets=[Market()])
        self.desk = Desk(
            self,
            ("BTCUSDT",),
            {"whale": self.plan},
            Auth("k" * 64, b"s"),
            5000,
            lambda line: None,
            live=True,
            max_price_age_ns=0,
        )
        self.orders, self.exits = self.desk.orders, self.desk.exits
        self.exits.set_market("BTCUSDT", MARKET)

    def restart(self) -> None:
        self.restarted = True
        self.posted.clear()
        self.behind.clear()
        self.start()
        self.desk.restore(self.journal, self, self.now_ns, ("whale",), frozenset({"kraken"}))

    def write(self, body: Body) -> None:
        if isinstance(body, Intent) and not body.parent:
            self.gate.count(candidate(ENTERED))
        super().write(body)

    def fold(self, record: Record) -> None:
        self.desk.on_record(record)

    def send(self, place: Place, fate: str) -> None:
        terms = Terms(int(place.quantity * E8), 0, 0, place.side == "SELL")
        exit_order = candidate(terms, reduces=True)
        assert self.gate.check(exit_order) is None
        self.gate.count(exit_order)
        for settlement in self.behind:
            assert self.gate.settle(settlement)
        self.behind.clear()
        super().send(place, fate)

    def room_e8(self) -> int:
        market = self.gate.markets[0]
        return market.entered[False] - market.exiting[True]

    # ---- what the desk tells the gate ----

    def settle(self, settlement: Settlement) -> None:
        if self.posted:
            self.behind.append(settlement)
        else:
            assert self.gate.settle(settlement)

    def set_position(self, market: int, position_e8: int) -> None:
        self.gate.markets[market].position = position_e8

    def expose(self, order: Settlement) -> None:
        assert self.gate.expose(order)

    def count_past(self, *counted: object) -> None:
        """No limit asks for it."""

    # ---- what must hold ----

    @invariant()
    def an_entry_takes_nothing_from_others(self) -> None:
        """Each adds what it has left to the sum, so no exit of another is refused for it."""
        assert self.room_e8() >= 0

    def teardown(self) -> None:
        super().teardown()
        if self.book and not self.restarted:
            opened = self.book[ID].filled
            closed = sum(each.filled for each in self.book.values()) - opened
            assert self.room_e8() == (opened - closed) * E8 // 1000
            more = Terms(self.room_e8() + 1, 0, 0, True)
            assert self.gate.check(candidate(more, reduces=True)) == "exit-size"


def candidate(terms: Terms, reduces: bool = False) -> Candidate:
    return Candidate(0, 0, terms, rule=None, exchange=0, reduces=reduces)


TestGuardedWorld = GuardedWorld.TestCase
TestGuardedWorld.settings = settings(
    max_examples=150,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
