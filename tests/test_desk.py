"""engine.desk and engine.allowance: what is done about orders, and what a run says it may do."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

from engine.allowance import allowance
from engine.config import load
from engine.core import Settlement
from engine.desk import Desk, Moment, market_of
from engine.exits import ExitPlan, Place
from engine.prices import Price
from engine.records import Closed, Fired, Intent, Message, Names, Record, Terms
from engine.report import Line
from engine.venues.binance_filters import Filters, Notional, Steps
from engine.venues.binance_requests import Auth

DAY_NS = 86_400 * 10**9
NOW_NS = 10**18
ENTRY = "hp00112233445566778899-0000000000001"
OF_ANOTHER_RUN = "hpffff2233445566778899-0000000000001"
SPEC = {"symbol": "BTCUSDT", "side": "SELL", "type": "MARKET", "quantity": "0.002"}
NAMES = Names(exchanges=("kraken",), rules=("whale",), orders=(SPEC,), markets=("BTCUSDT",))
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


def record(body: object, epoch_ns: int = NOW_NS - DAY_NS // 2, hands_off: str = "") -> Record:
    names = replace(NAMES, hands_off=hands_off)
    return Record(1, 1, epoch_ns, 1, body, names)  # type: ignore[arg-type]


def intent(live: bool = True) -> Intent:
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
        timestamp_ms=1_700_000_000_000,
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


def filled() -> Message:
    """The reply to the entry, in full."""
    fill = {"price": "60000", "qty": "0.002", "commission": "0.12", "commissionAsset": "USDT"}
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
    made = Desk(wire, ("BTCUSDT",), plans, Auth("k" * 64, b"s"), 5000, lines.append, live)
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


def test_what_former_runs_did_counts_in_this_one() -> None:
    wire = Wire()
    made = restored(wire, [record(intent()), record(fired()), record(filled())])
    assert wire.positions == {0: -200_000}
    assert wire.exposed == []
    assert wire.counted == [(DAY_NS // 2, 121 * 10**8, 1, "kraken")], "the rule by its name"
    assert made.summary() == [], "it is no order of this run"
    made.work(Moment(10, 1_700_000_100_000, session=0))
    assert len(wire.orders) == 1, "but its position is left by this one"


def test_an_order_of_a_former_run_without_an_answer_counts_as_filled_and_is_asked_for() -> None:
    wire = Wire()
    made = restored(wire, [record(intent()), record(fired()), record(Closed("cut", 104, True, 0))])
    assert wire.exposed == [Settlement(0, True, 200_000)]
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
    restored(wire, [record(intent(), NOW_NS - 2 * DAY_NS)])
    assert wire.counted == []


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


def test_the_venues_rules_as_exits_want_them() -> None:
    market = market_of(FILTERS)
    assert (market.tick_size, market.step_size) == (Decimal("0.01"), Decimal("0.00001"))
    assert (market.min_quantity, market.min_notional) == (Decimal("0.00001"), Decimal(5))


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
