"""engine.desk and engine.allowance: what is done about orders, and what a run says it may do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import client_ids
from engine._native import lib
from engine.allowance import allowance
from engine.config import load
from engine.core import Settlement
from engine.desk import Desk, Moment, market_of
from engine.exit_plan import Bounds, ExitPlan
from engine.exits import Place
from engine.prices import Price
from engine.records import COMMANDS, Closed, Command, Fired, Intent, Message, Names, Record, Terms
from engine.report import Line
from engine.venues.binance_filters import Filters, Notional, Steps
from engine.venues.binance_requests import Auth

DAY_NS = 86_400 * 10**9
LEFT_MS = 1_700_000_000_000  # when the order of these tests left, venue time
NOW_NS = LEFT_MS * 10**6 + DAY_NS // 2
ENTRY = "hp00112233445566778899-0000000000001"
OF_ANOTHER_RUN = "hpffff2233445566778899-0000000000001"
SPEC = {"symbol": "BTCUSDT", "side": "SELL", "type": "MARKET", "quantity": "0.002"}
NAMES = Names(exchanges=("kraken",), rules=("whale",), orders=(SPEC,), markets=("BTCUSDT",))
ACK = {"id": ENTRY, "status": 200, "result": {"orderId": 7, "clientOrderId": ENTRY}}
FILTERS = Filters(
    symbol="BTCUSDT",
    status="TRADING",
    base_asset="BTC",
    quote_asset="USDT",
    base_precision=8,
    quote_precision=8,
    order_types=frozenset({"LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS"}),
    oco_allowed=True,
    lot=Steps(Decimal("0.00001"), Decimal(9000), Decimal("0.00001")),
    market_lot=Steps(Decimal(0), Decimal(100), Decimal(0)),
    price=Steps(Decimal("0.01"), Decimal(10**6), Decimal("0.01")),
    notional=(Notional(least=Decimal(5), least_of_market=True),),
    buy_band=None,
    sell_band=None,
)


@dataclass
class Wire:
    """What the engine is told, before its run and in it."""

    texts: list[dict] = field(default_factory=list)
    orders: list[tuple[str, Terms, str]] = field(default_factory=list)
    settled: list[Settlement] = field(default_factory=list)
    positions: dict[int, int] = field(default_factory=dict)
    exposed: list[Settlement] = field(default_factory=list)
    counted: list[tuple] = field(default_factory=list)

    def ask(self, session: int, method: str, message: bytes) -> None:
        self.texts.append(json.loads(message))
        assert self.texts[-1]["method"] == method

    def settle(self, settlement: Settlement) -> None:
        self.settled.append(settlement)

    def place(self, message: bytes, terms: Terms, place: Place, timestamp_ms: int) -> None:
        assert json.loads(message)["id"] == place.client_id
        self.orders.append((place.client_id, terms, place.parent))

    def set_position(self, market: int, position_e8: int) -> None:
        self.positions[market] = position_e8

    def expose(self, order: Settlement) -> None:
        self.exposed.append(order)

    def count_past(self, *counted: object) -> None:
        self.counted.append(counted)


def record(body: object, epoch_ns: int = LEFT_MS * 10**6, hands_off: str = "") -> Record:
    names = replace(NAMES, hands_off=hands_off)
    return Record(1, 1, epoch_ns, 1, body, names)  # type: ignore[arg-type]


def intent(live: bool = True, timestamp_ms: int = LEFT_MS) -> Intent:
    return Intent(
        client_id=ENTRY,
        txid="11" * 32,
        kind="deposit",
        exchange="kraken",
        net_sat=10**10,
        order=0,
        rule=0,
        live=live,
        armed=True,
        timestamp_ms=timestamp_ms,
        t_rx_ns=1,
        t_trigger_ns=1,
        n_in=1,
        outpoints=(),
        terms=Terms(200_000, 0, 0, True),
        notional_e8=121 * 10**8,
    )


def fired() -> Fired:
    return Fired(
        client_id=ENTRY,
        txid="11" * 32,
        exchange="kraken",
        order=0,
        rule=0,
        dry_run=False,
        refusal=None,
        error=None,
        armed=True,
        timestamp_ms=1_700_000_000_000,
        sent_ns=1,
        session=0,
        stage_ns={},
    )


def filled(commission: str = "0.12", asset: str = "USDT") -> Message:
    """The reply to the entry, in full."""
    fill = {"price": "60000", "qty": "0.002", "commission": commission, "commissionAsset": asset}
    result = {
        "symbol": "BTCUSDT",
        "orderId": 7,
        "clientOrderId": ENTRY,
        "origQty": "0.002",
        "executedQty": "0.002",
        "cummulativeQuoteQty": "120",
        "status": "FILLED",
        "fills": [{**fill, "tradeId": 3}],
    }
    return Message(json.dumps({"id": ENTRY, "status": 200, "result": result}).encode(), 0)


def desk(wire: Wire, *, live: bool = True, said: list[Line] | None = None) -> Desk:
    plans = {"whale": ExitPlan(take_profit_bp=50, stop_loss_bp=30)}
    lines: list[Line] = [] if said is None else said
    made = Desk(wire, ("BTCUSDT",), plans, Auth("k" * 64, b"s"), 5000, lines.append, live, 0)
    made.on_filters([FILTERS])
    return made


def restored(
    wire: Wire,
    records: list[Record],
    *,
    rules: tuple[str, ...] = ("other", "whale"),
    hands_off: str = "",
    live: bool = True,
    said: list[Line] | None = None,
) -> Desk:
    made = desk(wire, live=live, said=said)
    made.restore(records, wire, NOW_NS, rules, frozenset({"kraken"}), hands_off)
    made.on_filters([FILTERS])
    return made


def test_an_entry_that_fills_is_settled_told_and_covered() -> None:
    wire, said = Wire(), []
    made = desk(wire, said=said)
    for body in (intent(), fired(), filled()):
        made.on_record(record(body))
    assert wire.settled == [Settlement(0, True, 200_000, 200_000)]
    assert [line["status"] for line in said if line["record"] == "order"] == ["sent", "filled"]
    assert [line["net"] for line in said if line["record"] == "position"] == ["-0.002"]
    made.work(Moment(10, 1_700_000_000_100, session=None))
    assert wire.orders == [], "without a session nothing is sent"
    made.work(Moment(20, 1_700_000_000_100, session=1))
    ((exit_id, terms, parent),) = wire.orders
    assert (parent, terms.is_sell, terms.quantity_e8) == (ENTRY, False, 200_000)
    assert exit_id.startswith("hx00112233445566778899-")
    made.work(Moment(30, 1_700_000_000_200, session=1))
    assert len(wire.orders) == 1, "once"


@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_the_gate_holds_what_the_position_is_also_after_a_commission_in_coins(side: str) -> None:
    names = replace(NAMES, orders=({**SPEC, "side": side},))
    bodies = (intent(), fired(), filled("0.000002", "BTC"))
    records = [replace(record(body), names=names) for body in bodies]
    wire, later = Wire(), Wire()
    made = desk(wire)
    for each in records:
        made.on_record(each)
    held = sum(-each.filled_e8 if each.is_sell else each.filled_e8 for each in wire.settled)
    assert held == (199_800 if side == "BUY" else -200_200)
    assert sum(each.quantity_e8 for each in wire.settled) == 200_000, "one order has ended"
    assert held == int(made.positions.of("BTCUSDT").net * 10**8)
    restored(later, records)
    assert later.positions == {0: held}


def test_an_exit_that_the_hot_thread_refuses_as_a_command_is_tried_again() -> None:
    wire, said = Wire(), []
    made = desk(wire, said=said)
    for body in (intent(), fired(), filled()):
        made.on_record(record(body))
    name = COMMANDS[lib.HP_COMMAND_ORDER]
    made.on_record(record(Command(name, 1, "an argument makes no sense", None)))
    made.work(Moment(20, 1_700_000_000_100, session=1))
    made.on_record(record(Command("text", 1, "not so", None)))
    made.on_record(record(Command(name, 1, None, None)))
    made.work(Moment(5 * 10**9, 1_700_000_005_100, session=1))
    assert len(wire.orders) == 1, "that was something else"
    made.on_record(record(Command(name, 1, "an argument makes no sense", None)))
    made.work(Moment(6 * 10**9, 1_700_000_006_100, session=1))
    made.work(Moment(8 * 10**9, 1_700_000_008_100, session=1))
    assert [client_id for client_id, _, _ in wire.orders] == 2 * [wire.orders[0][0]]
    words = [line["text"] for line in said if line["record"] == "notice"]
    assert words[0] == f"the exit of {ENTRY} was refused: an argument makes no sense"


def test_what_former_runs_did_counts_in_this_one() -> None:
    wire = Wire()
    made = restored(wire, [record(intent()), record(fired()), record(filled())])
    assert wire.positions == {0: -200_000}
    assert wire.exposed == []
    assert wire.settled == [Settlement(0, True, 0, 200_000)], "for exits to close"
    assert wire.counted == [(DAY_NS // 2, 121 * 10**8, 1, "kraken")], "the rule by its name"
    assert made.summary() == [], "it is no order of this run"
    made.work(Moment(10, 1_700_000_100_000, session=0))
    assert len(wire.orders) == 1, "but its position is left by this one"


def test_what_an_exit_of_a_former_run_is_on_its_way_for_no_other_may_close() -> None:
    leaving = replace(
        intent(),
        client_id="hx00112233445566778899-m000000000001",
        parent=ENTRY,
        order=0xFFFF,
        rule=None,
        terms=Terms(150_000, 0, 0, False),
    )
    wire = Wire()
    restored(wire, [record(body) for body in (intent(), fired(), filled(), leaving)])
    assert wire.exposed == [Settlement(0, False, 150_000, reduces=True)]
    assert wire.settled == [Settlement(0, True, 0, 50_000)]
    assert wire.positions == {0: -200_000}


def test_an_order_of_a_former_run_without_an_answer_counts_as_filled_and_is_asked_for() -> None:
    wire = Wire()
    made = restored(wire, [record(intent()), record(fired()), record(Closed("cut", 104, True, 0))])
    assert wire.exposed == [Settlement(0, True, 200_000)]
    assert wire.settled == [], "nothing is known to have been entered"
    assert wire.positions == {0: 0}
    made.work(Moment(10, 1_700_000_100_000, session=0))
    assert [text["method"] for text in wire.texts] == ["order.status"]
    assert wire.texts[0]["params"]["origClientOrderId"] == ENTRY
    assert wire.orders == []
    assert [order["status"] for order in made.summary()] == ["unknown"]


def test_a_dry_run_leaves_alone_what_a_live_one_has_left_open() -> None:
    wire = Wire()
    made = restored(wire, [record(intent()), record(fired()), record(filled())], live=False)
    made.kill()
    made.work(Moment(10, 1_700_000_100_000, session=0))
    assert (wire.orders, wire.texts) == ([], [])


def test_what_was_open_when_the_engine_was_stopped_is_a_persons() -> None:
    said: list[Line] = []
    wire = Wire()
    records = [record(intent()), record(fired()), record(filled())]
    made = restored(wire, records, hands_off="a", said=said)
    made.work(Moment(10, 1_700_000_100_000, session=0))
    assert (wire.orders, wire.texts) == ([], [])
    assert wire.positions == {0: 0}, "who knows whether it is closed already?"
    (told,) = [line["text"] for line in said]
    assert ENTRY in told
    assert "SELL 0.002 BTCUSDT" in told
    assert not made.has_open()


def test_what_no_plan_would_have_left_is_handed_over_aloud_too() -> None:
    said: list[Line] = []
    wire = Wire()
    names = replace(NAMES, rules=("without a plan",))
    records = [replace(record(body), names=names) for body in (intent(), fired(), filled())]
    restored(wire, records, hands_off="a", said=said)
    assert wire.positions == {0: 0}
    assert [f"the position of {ENTRY} is yours to close" in line["text"] for line in said] == [True]


def test_what_this_run_cannot_end_does_not_keep_it() -> None:
    """A position of a symbol that no rule trades any more."""
    names = replace(NAMES, orders=({**SPEC, "symbol": "ETHUSDT"},), markets=("ETHUSDT",))
    records = [replace(record(body), names=names) for body in (intent(), fired(), filled())]
    made = restored(Wire(), records)
    assert [left.symbol for left in made.exits.left()] == ["ETHUSDT"]
    assert not made.has_open()


def test_an_order_that_the_venue_has_lost_neither_keeps_a_run_nor_is_cancelled() -> None:
    wire = Wire()
    made = desk(wire)
    for body in (intent(), fired(), Message(json.dumps(ACK).encode(), 0)):
        made.on_record(record(body))
    assert made.has_open()
    made.on_record(record(Closed("cut", 104, True, 0)))
    asked = client_ids.request_id(client_ids.STATUS, ENTRY)
    denial = {"id": asked, "status": 400, "error": {"code": -2013, "msg": "No such order."}}
    for day in range(3):
        made.work(Moment((1 + day * 86_500) * 10**9, LEFT_MS + day * 86_500_000, session=0))
        assert wire.texts[-1]["method"] == "order.status"
        made.on_record(record(Message(json.dumps(denial).encode(), 0)))
        if not made.has_open():
            break
    assert not made.has_open()
    made.kill()
    before = len(wire.texts)
    made.work(Moment(400_000 * 10**9, LEFT_MS + 400_000_000, session=0))
    assert wire.texts[before:] == []


def test_a_mark_counts_once() -> None:
    """What a run enters after it has begun with the mark is left by it, and by the next ones."""
    wire, said = Wire(), []
    records = [record(body, hands_off="a") for body in (intent(), fired(), filled())]
    made = restored(wire, records, hands_off="a", said=said)
    made.work(Moment(10, 1_700_000_100_000, session=0))
    assert len(wire.orders) == 1
    assert wire.positions == {0: -200_000}
    assert said == []
    assert restored(Wire(), records, hands_off="b").has_open() is False


def test_a_mark_that_a_former_run_began_with_still_counts() -> None:
    """Without a record of an order that run cannot have made one, and it is as if it had not been:
    so with the mark of this run, too."""
    wire = Wire()
    before = [record(body) for body in (intent(), fired(), filled())]
    other = replace(intent(), client_id=OF_ANOTHER_RUN)
    after = [record(other, hands_off="a"), record(Closed("cut", 104, True, 0), hands_off="a")]
    for hands_off in ("a", ""):
        wire = Wire()
        made = restored(wire, before + after, hands_off=hands_off)
        made.work(Moment(10, 1_700_000_100_000, session=0))
        assert wire.positions == {0: 0}
        asked = {text["params"].get("origClientOrderId") for text in wire.texts}
        assert asked == {OF_ANOTHER_RUN}, "and only that is ours"


def test_what_rests_of_a_persons_position_is_cancelled() -> None:
    """Its fill, which may come before, changes no position of ours; what is open of it counts."""
    wire, said = Wire(), []
    records = [record(intent()), record(fired()), record(Closed("cut", 104, True, 0))]
    made = restored(wire, records, hands_off="a", said=said)
    assert [line["text"].split()[0] for line in said] == [ENTRY]
    assert wire.exposed == [Settlement(0, True, 200_000)]
    for seconds in (1, 2, 7):
        made.work(Moment(seconds * 10**9, 1_700_000_000_100, session=0))
    cancels = [text for text in wire.texts if text["method"] == "order.cancel"]
    assert [text["params"]["origClientOrderId"] for text in cancels] == [ENTRY] * 2
    assert made.has_open()
    made.on_record(record(filled()))
    assert wire.settled == [Settlement(0, True, 200_000, 0)]
    made.work(Moment(13 * 10**9, 1_700_000_012_100, session=0))
    assert wire.orders == [], "the rest is theirs"
    assert len([text for text in wire.texts if text["method"] == "order.cancel"]) == 2


def test_a_dry_run_cancels_nothing_of_a_persons() -> None:
    wire, said = Wire(), []
    other = replace(intent(), client_id=OF_ANOTHER_RUN, live=False)
    records = [record(intent()), record(fired()), record(other, hands_off="a")]
    made = restored(wire, records, live=False, said=said)
    made.work(Moment(10, 1_700_000_000_100, session=0))
    assert {text["method"] for text in wire.texts} <= {"order.status"}
    assert said == []


def test_a_position_that_no_rule_looks_after_any_more_is_told() -> None:
    said: list[Line] = []
    records = [record(intent()), record(fired()), record(filled())]
    restored(Wire(), records, rules=("renamed",), said=said)
    (notice,) = said
    assert "no rule looks after" in notice["text"]
    assert ENTRY in notice["text"]
    said.clear()
    restored(Wire(), records, said=said)
    assert said == []


def test_orders_of_dry_runs_and_of_days_ago_do_not_count() -> None:
    wire = Wire()
    restored(wire, [record(intent(live=False))])
    days_ago = intent(timestamp_ms=LEFT_MS - DAY_NS // 10**6)
    restored(wire, [record(days_ago, NOW_NS - 2 * DAY_NS)])
    assert wire.counted == []


def test_an_order_is_as_old_as_the_later_of_two_clocks_says() -> None:
    """The journal's lags when the system's clock is set forward or the machine sleeps; the time in
    the order is wrong when ours was and the venue's not known."""
    two_days, hour_ms = 2 * DAY_NS, 3600 * 1000
    for timestamp_ms, epoch_ns, age_ns in (
        (LEFT_MS, NOW_NS - two_days, DAY_NS // 2),
        (LEFT_MS - 48 * hour_ms, NOW_NS - DAY_NS // 4, DAY_NS // 4),
        (LEFT_MS + 13 * hour_ms, NOW_NS - two_days, 0),
    ):
        wire = Wire()
        restored(wire, [record(intent(timestamp_ms=timestamp_ms), epoch_ns)])
        assert [age for age, *_ in wire.counted] == [age_ns]


def test_a_kill_cancels_what_is_ours_again_and_again() -> None:
    wire, said = Wire(), []
    made = desk(wire, said=said)
    for body in (intent(), fired()):
        made.on_record(record(body))
    made.kill()
    made.work(Moment(10, 1_700_000_000_100, session=None))
    for seconds in (1, 2, 7):
        made.work(Moment(seconds * 10**9, 1_700_000_000_100, session=0))
    cancels = [text for text in wire.texts if text["method"] == "order.cancel"]
    assert len(cancels) == 2, "5 s between them"
    for cancel in cancels:
        assert cancel["params"]["origClientOrderId"] == ENTRY
        assert made.orders.asked(cancel["id"])
    made.on_record(record(filled()))
    made.on_price(Price("BTCUSDT", 59_000 * 10**8, 59_001 * 10**8, 1))
    made.work(Moment(13 * 10**9, 1_700_000_012_100, session=0))
    assert [text for text in wire.texts if text["method"] == "order.cancel"] == cancels
    assert wire.orders == [], "no exit after a kill"


def test_a_question_may_have_to_wait_where_a_cancel_and_an_exit_need_not() -> None:
    other = replace(intent(), client_id=ENTRY[:-1] + "2")
    wire = Wire()
    made = desk(wire)
    for body in (intent(), fired(), filled(), other, Closed("cut", 104, True, 0)):
        made.on_record(record(body))
    made.work(Moment(10, 1_700_000_000_100, session=0, may_query=False))
    assert [parent for _, _, parent in wire.orders] == [ENTRY]
    made.kill()
    made.work(Moment(20, 1_700_000_000_100, session=0, may_query=False))
    assert {text["method"] for text in wire.texts} == {"order.cancel"}
    made.work(Moment(30, 1_700_000_000_100, session=0))
    assert wire.texts[-1]["method"] == "order.status"
    assert wire.texts[-1]["params"]["origClientOrderId"] == other.client_id


# ---- whatever the venue says ---------------------------------------------------------------------

EXITS = [client_ids.exit_id(ENTRY, leg, attempt) for leg in "otsm" for attempt in (0, 1)]
AMOUNTS = ["0", "0.002", "60000", "120", "9" * 20, "0." + "0" * 19 + "1", "23058430092"]
NONSENSE = [None, "", "-1", "1e9", "NaN", 1.5, True, -1, 0, 7, 10**18, 10**40, [], {}, "x" * 99]
ids = st.sampled_from([ENTRY, *EXITS])
amounts = st.sampled_from(AMOUNTS)
statuses = st.sampled_from(["NEW", "PARTIALLY_FILLED", "FILLED", "CANCELED", "EXPIRED", "REJECTED"])
numbers = st.sampled_from([3, 4, -1, 1 << 62])
assets = st.sampled_from(["BTC", "USDT", "BNB", "BTCUSDT", ""])
fills = st.fixed_dictionaries(
    {
        **dict.fromkeys(("price", "qty", "quoteQty", "commission"), amounts),
        "commissionAsset": assets,
        "id": numbers,
        "tradeId": numbers,
    }
)
rows = st.fixed_dictionaries(
    {"clientOrderId": ids, "orderId": numbers},
    optional={
        "status": statuses,
        "fills": st.lists(fills, max_size=2),
        "origClientOrderId": ids,
        **dict.fromkeys(("executedQty", "cummulativeQuoteQty"), amounts),
    },
)
events = st.fixed_dictionaries(
    {
        "e": st.just("executionReport"),
        "E": numbers,
        "s": st.just("BTCUSDT"),
        "c": ids,
        "S": st.just("SELL"),
        "o": st.just("MARKET"),
        "x": st.sampled_from(["NEW", "TRADE"]),
        "X": statuses,
        "i": numbers,
        "t": numbers,
        "N": assets,
        **dict.fromkeys(("z", "Z", "l", "L", "Y", "n"), amounts),
    }
)
errors = st.fixed_dictionaries(
    {
        "code": st.sampled_from([-2013, -2010, -1003, -1007, -1013, -1021, -2011, -2026]),
        "msg": st.sampled_from(
            ["", "Filter failure: LOT_SIZE", "Duplicate order sent.", "x" * 999]
        ),
    }
)


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """A text of a documented form, with any value in some of its places."""
    if draw(st.booleans()):
        event = draw(events) | draw(noise(events))
        return json.dumps({"subscriptionId": 0, "event": event}).encode()
    asks = draw(st.sampled_from("hsct"))
    message: dict[str, Any] = {"id": client_ids.request_id(asks, draw(ids))}
    if draw(st.booleans()):
        status = draw(st.sampled_from([400, 403, 409, 418, 429, 500, 503, 10**30]))
        return json.dumps(message | {"status": status, "error": draw(errors)}).encode()
    row = st.builds(dict.__or__, rows, noise(rows))
    result = draw(row | st.lists(fills | row, max_size=3) | st.sampled_from(NONSENSE))
    if isinstance(result, dict) and draw(st.booleans()):
        result = {"orderListId": 3, "orderReports": draw(st.lists(row, max_size=3))}
    return json.dumps(message | {"status": 200, "result": result}).encode()


def noise(form: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return form.flatmap(
        lambda row: st.dictionaries(
            st.sampled_from(list(row)), st.sampled_from(NONSENSE), max_size=1
        )
    )


class Bounded(Wire):
    """It refuses what the engine has no room for."""

    def settle(self, settlement: Settlement) -> None:
        assert 0 <= settlement.quantity_e8 <= 200_000
        assert 0 <= settlement.filled_e8 <= 400_000, "at most what both legs of a list are"
        super().settle(settlement)

    def place(self, message: bytes, terms: Terms, place: Place, timestamp_ms: int) -> None:
        assert 0 < terms.quantity_e8 <= 200_000, "no more is left than was ordered"
        assert 0 <= terms.price_e8 < 1 << 61
        super().place(message, terms, place, timestamp_ms)

    def set_position(self, market: int, position_e8: int) -> None:
        assert abs(position_e8) < 1 << 62
        super().set_position(market, position_e8)


def life(made: Desk, wire: Wire, said: list[bytes]) -> Iterator[Record]:
    """The records of an entry and its exits, with what the venue says in between."""
    yield record(intent())
    yield record(fired())
    known = 0
    for second, text in enumerate(said, 1):
        yield record(Message(text, 0))
        made.work(Moment(second * 61 * 10**9, 1_700_000_000_100 + second * 61_000, session=0))
        for client_id, terms, parent in wire.orders[known:]:
            exit_ = {"client_id": client_id, "parent": parent, "terms": terms, "reduces": True}
            yield record(replace(intent(), order=0xFFFF, rule=None, txid="", **exit_))
            yield record(replace(fired(), client_id=client_id))
        known = len(wire.orders)


@settings(max_examples=300, deadline=None)
@given(st.booleans(), st.lists(texts(), max_size=12), st.booleans())
def test_whatever_the_venue_says_the_desk_goes_on(
    honest: bool, said: list[bytes], buys: bool
) -> None:
    """So does the next run with the same journal. An `honest` venue is so about the entry."""
    if honest:
        said.insert(0, filled().text)
    wire, records = Bounded(), []
    made = desk(wire)
    made.on_price(Price("BTCUSDT", 60_000 * 10**8, 60_001 * 10**8, 1))
    for each in life(made, wire, said):
        names = replace(NAMES, orders=({**SPEC, "side": "BUY"},)) if buys else NAMES
        records.append(replace(each, names=names))
        made.on_record(records[-1])
    json.dumps([made.summary(), [position.as_json() for position in made.positions.all()]])
    made.open_words()
    again = restored(Bounded(), records)
    for order in made.orders.all():
        former = again.orders.get(order.client_id)
        assert former is not None
        assert former.filled == order.filled
    again.work(Moment(10, 1_700_000_100_000, session=0))


def test_the_venues_rules_as_exits_want_them() -> None:
    market = market_of(FILTERS)
    assert (market.tick_size, market.step_size) == (Decimal("0.01"), Decimal("0.00001"))
    least = Decimal("0.00001")
    assert market.resting == Bounds(least, Decimal(9000), Decimal(5))
    assert market.at_market == Bounds(least, Decimal(100), Decimal(5))
    loose = Notional(least=Decimal(5), most=Decimal(10_000))
    market = market_of(replace(FILTERS, notional=(loose,)))
    assert market.resting == Bounds(least, Decimal(9000), Decimal(5), Decimal(10_000))
    assert market.at_market == Bounds(least, Decimal(100))


def test_a_live_run_says_what_it_may_do(tmp_path: Path) -> None:
    path = tmp_path / "harpoon.toml"
    path.write_text(
        """
[engine]
mode = "live"
[feed]
endpoint = "tcp://127.0.0.1:28332"
[venue]
url = "wss://example.com/ws"
stream_url = "wss://example.com"
[risk]
max_order_notional = "250.5"
[[rule]]
name = "in and out"
min_btc = "100"
side = "SELL"
symbol = "BTCUSDT"
type = "MARKET"
quantity = "0.01"
take_profit_bp = 50
[[rule]]
name = "for good"
min_btc = "10"
max_btc = "99"
exchange = "kraken"
side = "BUY"
symbol = "ETHUSDT"
type = "LIMIT"
price = "3000"
quantity = "1"
exit_after_s = 0
"""
    )
    words = "\n".join(allowance(load(path)))
    assert "SELL 0.01 BTCUSDT MARKET for deposit of 100.00000000 BTC or more, any exchange" in words
    assert "out again at a price 0.5 % better, or after 3600 s" in words
    assert (
        "BUY 1 ETHUSDT LIMIT at 3000 (IOC) for deposit of 10.00000000 to 99.00000000 BTC" in words
    )
    assert "NEVER out again by itself" in words
    assert "at most 250.5 an order" in words
    assert "at most 10 orders in this run, 1 a second" in words
