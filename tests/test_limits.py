"""Each limit of the risk gate through the engine, and the orders that no template makes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from engine.core import Engine, EngineOptions, Limits, Rule, Settlement
from engine.errors import NativeError
from engine.feed.native import resolve_endpoint
from engine.records import REFUSALS, Body, Command, Fired, Intent, Terms
from engine.venues.binance import order_template

from . import peers
from .peers import (
    API_KEY,
    BTC,
    COINBASE,
    SECRET,
    SELL,
    TEXT,
    Connection,
    Server,
    book_of,
    deposit,
)
from .publisher import PATIENCE_S, Publisher
from .risk_model import E8, S

LIVE = EngineOptions(live=True, max_orders=1 << 40)
BUY = Terms(quantity_e8=E8 // 100, price_e8=0, market=0, is_sell=False)
AT_LIMIT = replace(BUY, price_e8=60_000 * E8)
SALE = replace(BUY, is_sell=True)
CHEAP = replace(SALE, price_e8=100 * E8)
ONE = replace(BUY, quantity_e8=E8)
SMALL = Terms(quantity_e8=1, price_e8=E8 + E8 // 2, market=0, is_sell=False)
NOTIONAL = 600 * E8  # of either
BID, ASK = 59_999 * E8, 60_001 * E8


@dataclass
class Desk:
    """An engine that buys 0.01 at about 60,000 for every deposit, and its venue."""

    engine: Engine
    peer: Connection
    deposits: int = 0

    def tell(self, *commands: Callable[[], None]) -> list[str | None]:
        """Have the commands carried out: what was wrong with each."""
        for command in commands:
            command()
            self.engine.poll()
        return [event.error for event in self.events(Command)]

    def events(self, kind: type[Body]) -> list[Any]:
        return [event for event in self.engine.events() if isinstance(event, kind)]

    def price(self, bid: int = BID, ask: int = ASK, age_ns: int = 0) -> None:
        now = time.monotonic_ns()
        assert not self.tell(lambda: self.engine.command_price(0, bid, ask, now - age_ns))

    def deposit(self, exchange: str = "kraken", value_sat: int = 5 * BTC, age_ns: int = 0) -> Any:
        """Which limit refuses the order of one more deposit."""
        self.deposits += 1
        raw = deposit(exchange, self.deposits, value_sat)
        self.engine.rawtx(raw, time.monotonic_ns() - age_ns)
        (fired,) = self.events(Fired)
        return fired.refusal

    def order(self, client_id: str = "hx-1", **words: Any) -> Fired:
        """One of our own: what became of it."""
        facts = {"terms": replace(BUY, is_sell=True), "timestamp_ms": 7, **words}
        text = json.dumps({"id": client_id}).encode()
        self.engine.command_order(text, client_id=client_id, **facts)
        self.engine.poll()
        (fired,) = self.events(Fired)
        assert isinstance(fired, Fired)
        return fired


@contextmanager
def desk(
    server: Server,
    limits: Limits | None,
    terms: Terms | None = BUY,
    options: EngineOptions = LIVE,
    before: Callable[[Engine], None] | None = None,
) -> Iterator[Desk]:
    """Two rules, the second for deposits below 1 BTC, with a price and a clock. Entries of other
    runs have bought and sold the same, and exits may close it."""
    engine = Engine(book_of("kraken", "okx"), replace(options, transport=peers.TRANSPORT))
    if limits is not None:
        engine.set_limits(limits)
    assert engine.add_market() == 0
    engine.set_key(SECRET)
    for least_sat in (BTC, 1):
        order = engine.add_order(order_template(SELL, API_KEY, 5000))
        if terms is not None:
            engine.set_terms(order, terms)
        engine.add_rule(Rule(("deposit",), None, least_sat, None, order))
    for is_sell in (False, True):
        engine.settle(Settlement(0, is_sell, 0, E8))
    engine.connect(server.address())
    peer = server.connection()
    if before is not None:  # of which a second may be over soon
        before(engine)
    try:
        desk = Desk(engine, peer)
        engine.set_clock_offset(0)
        desk.price()
        yield desk
    finally:
        peer.sock.close()
        engine.close()


# ---- a limit each --------------------------------------------------------------------------------

Trial = Callable[[Desk], list[str | None]]


def two(desk: Desk) -> list[str | None]:
    return [desk.deposit(), desk.deposit()]


def one(desk: Desk) -> list[str | None]:
    return [desk.deposit()]


def tiny(desk: Desk) -> list[str | None]:
    desk.price(9999, 9999)
    return [desk.deposit()]


def exchanges(desk: Desk) -> list[str | None]:
    return [desk.deposit("kraken"), desk.deposit("kraken", BTC // 2), desk.deposit("okx")]


def rules(desk: Desk) -> list[str | None]:
    return [desk.deposit(), desk.deposit(), desk.deposit(value_sat=BTC // 2)]


def old(desk: Desk) -> list[str | None]:
    return [desk.deposit(age_ns=S), desk.deposit()]


def late(desk: Desk) -> list[str | None]:
    desk.price(age_ns=2 * S)
    stale = desk.deposit()
    desk.price()
    return [stale, desk.deposit()]


def wide(desk: Desk) -> list[str | None]:
    desk.price(BID, BID + 300 * E8)
    wide = desk.deposit()
    desk.price()
    return [wide, desk.deposit()]


def clock(desk: Desk) -> list[str | None]:
    found = []
    for offset_ms in (None, 501, -501, 500, -500):
        assert desk.tell(lambda o=offset_ms: desk.engine.command_clock(o)) == [None]
        found.append(desk.deposit())
    return found


def settled(desk: Desk) -> list[str | None]:
    found = [desk.deposit(), desk.deposit()]
    end = Settlement(0, False, BUY.quantity_e8)
    assert desk.tell(lambda: desk.engine.command_settle(end)) == [None]
    return [*found, desk.deposit()]


def venue(desk: Desk) -> list[str | None]:
    """Of 10, one is kept for exits."""
    day_ms = 86_400_000
    assert desk.tell(lambda: desk.engine.command_venue_limit(1, day_ms, 10, 8)) == [None]
    found = [desk.deposit(), desk.deposit()]
    assert desk.order(reduces=True).refusal is None
    assert desk.order("hx-2", reduces=True).refusal == "venue-limit"
    for limit, used in ((3, 0), (10, 4)):  # two were ours, whatever the venue has counted by then
        told = desk.tell(lambda a=limit, b=used: desk.engine.command_venue_limit(1, day_ms, a, b))
        assert told == [None]
        found.append(desk.deposit())
    return found


def lists(desk: Desk) -> list[str | None]:
    """A list is two orders to the venue."""
    assert desk.tell(lambda: desk.engine.command_venue_limit(1, 86_400_000, 4, 0)) == [None]
    found = [
        desk.order(f"hx-{i}", reduces=True, orders=n).refusal for i, n in enumerate((2, 1, 2, 1))
    ]
    return [*found, desk.deposit()]


def paused(desk: Desk) -> list[str | None]:
    found = []
    for pause_ns in (60 * S, -1):
        until = time.monotonic_ns() + pause_ns
        assert desk.tell(lambda u=until: desk.engine.command_pause(u)) == [None]
        found.append(desk.deposit())
    return found


def disabled(desk: Desk) -> list[str | None]:
    assert desk.tell(lambda: desk.engine.command_enable(0, False)) == [None]
    refused = desk.deposit()
    assert desk.deposit(value_sat=BTC // 2) is None, "the other template"
    assert desk.tell(lambda: desk.engine.command_enable(0, True)) == [None]
    return [refused, desk.deposit()]


TRIALS: list[tuple[str, Limits, Terms | None, Trial, list[int]]] = [
    ("exchange-cooldown", Limits(exchange_cooldown_ns=10**12), BUY, exchanges, [0, 1, 0]),
    ("order-notional", Limits(max_order_notional_e8=NOTIONAL), AT_LIMIT, one, [0]),
    ("order-notional", Limits(max_order_notional_e8=NOTIONAL - 1), AT_LIMIT, one, [1]),
    ("order-notional", Limits(max_order_notional_e8=ASK // 100), BUY, one, [0]),
    ("order-notional", Limits(max_order_notional_e8=ASK // 100 - 1), BUY, one, [1]),
    # A MARKET order may fill as far off as the spread may be wide.
    ("order-notional", Limits(max_order_notional_e8=ASK // 100, price_band_bp=9), BUY, one, [1]),
    ("order-notional", Limits(max_order_notional_e8=0), AT_LIMIT, one, [1]),
    ("order-notional", Limits(max_order_notional_e8=BID // 100), SALE, one, [0]),
    ("order-notional", Limits(max_order_notional_e8=BID // 100 - 1), SALE, one, [1]),
    # A LIMIT sale fills at the bid or better.
    ("order-notional", Limits(max_order_notional_e8=BID // 100), CHEAP, one, [0]),
    ("order-notional", Limits(max_order_notional_e8=BID // 100 - 1), CHEAP, one, [1]),
    # What is no whole number of 1e-8 is rounded up: 1.5, and 9999.9999.
    ("order-notional", Limits(max_order_notional_e8=2), SMALL, one, [0]),
    ("order-notional", Limits(max_order_notional_e8=1), SMALL, one, [1]),
    ("order-notional", Limits(max_order_notional_e8=9999, price_band_bp=1), ONE, tiny, [1]),
    ("total-notional", Limits(max_total_notional_e8=2 * NOTIONAL - 1), AT_LIMIT, two, [0, 1]),
    ("position", Limits(max_position_notional_e8=2 * NOTIONAL - 1), AT_LIMIT, two, [0, 1]),
    ("position", Limits(max_position_notional_e8=NOTIONAL), AT_LIMIT, settled, [0, 1, 0]),
    ("rate-second", Limits(max_orders_per_second=1), None, two, [0, 1]),
    ("rate-second", Limits(max_orders_per_second=0), None, one, [1]),
    ("rate-minute", Limits(max_orders_per_minute=1), None, two, [0, 1]),
    ("rate-hour", Limits(max_orders_per_hour=1), None, two, [0, 1]),
    ("rate-day", Limits(max_orders_per_day=1), None, two, [0, 1]),
    ("signal-age", Limits(max_signal_age_ns=S // 2), None, old, [1, 0]),
    ("price-stale", Limits(max_order_notional_e8=1 << 60, max_price_age_ns=S), BUY, late, [1, 0]),
    ("price-stale", Limits(price_band_bp=100, max_price_age_ns=S), AT_LIMIT, late, [1, 0]),
    ("price-stale", Limits(max_total_notional_e8=1 << 60), None, one, [1]),
    ("price-band", Limits(price_band_bp=10), BUY, wide, [1, 0]),
    ("price-band", Limits(price_band_bp=10), AT_LIMIT, wide, [1, 0]),
    ("price-band", Limits(price_band_bp=10), replace(BUY, price_e8=60_061 * E8), one, [1]),
    ("clock", Limits(max_clock_offset_ms=500), None, clock, [1, 1, 1, 0, 0]),
    ("clock", Limits(), None, clock, [1, 0, 0, 0, 0]),
    ("unresolved", Limits(max_unresolved=1), BUY, settled, [0, 1, 0]),
    ("venue-limit", Limits(venue_headroom_percent=10), BUY, venue, [0, 1, 1, 0]),
    ("venue-limit", Limits(), BUY, lists, [0, 0, 1, 0, 1]),
    ("venue-limit", Limits(), None, paused, [1, 0]),
    ("filter", Limits(), None, disabled, [1, 0]),
]


@pytest.mark.parametrize(("code", "limits", "terms", "trial", "refused"), TRIALS)
def test_a_limit_refuses_by_its_own_code(
    server: Server, code: str, limits: Limits, terms: Terms | None, trial: Trial, refused: list[int]
) -> None:
    with desk(server, limits, terms) as found:
        assert trial(found) == [code if no else None for no in refused]


@pytest.fixture
def node() -> Iterator[Publisher]:
    publisher = Publisher()
    yield publisher
    publisher.close()


@pytest.mark.usefixtures("each_transport")
def test_what_waits_while_the_engine_stands_still_grows_old(
    server: Server, node: Publisher
) -> None:
    def listen(engine: Engine) -> None:
        engine.add_feed(resolve_endpoint(node.endpoint, False))

    def refusals(count: int) -> list[str | None]:
        found: list[Fired] = []
        deadline = time.monotonic() + PATIENCE_S
        while len(found) < count:
            assert time.monotonic() < deadline
            still.engine.poll(10_000_000)
            found += still.events(Fired)
        return [fired.refusal for fired in found]

    with desk(server, Limits(max_signal_age_ns=S // 2), None, before=listen) as still:
        while not node.socket.poll(0):
            still.engine.poll(10_000_000)
        node.wait_subscriber()
        for number in range(3):
            node.send(deposit("kraken", number), number)
        time.sleep(0.6)
        assert refusals(3) == ["signal-age"] * 3
        for number in range(3, 50):  # the first of them, but on a machine that stands still itself
            still.engine.poll()  # finds that nothing waits
            node.send(deposit("kraken", number), number)
            if refusals(1) == [None]:
                break
        else:
            pytest.fail("what comes afterwards is no news either")


def test_the_cooldown_is_a_rule_s_own(server: Server) -> None:
    with desk(server, None, options=replace(LIVE, cooldown_ns=10**12)) as found:
        assert rules(found) == [None, "cooldown", None]


def test_without_limits_there_are_none(server: Server) -> None:
    with desk(server, None, None) as found:
        assert [found.deposit(age_ns=10**12) for _ in range(50)] == [None] * 50


def test_what_limits_cannot_be() -> None:
    engine = Engine(book_of("kraken"))
    for limits in (
        Limits(max_orders_per_day=(1 << 18) + 1),
        Limits(max_signal_age_ns=-1),
        Limits(price_band_bp=10_001),
        Limits(venue_headroom_percent=101),
    ):
        with pytest.raises(NativeError, match="out of its bounds"):
            engine.set_limits(limits)
    engine.set_limits(Limits())
    with pytest.raises(NativeError, match="out of its bounds"):
        engine.set_limits(Limits())


def test_terms_that_make_no_sense() -> None:
    engine = Engine(book_of("kraken"))
    order = engine.add_order(order_template(SELL, API_KEY, 5000))
    with pytest.raises(NativeError):
        engine.set_terms(order, BUY)  # there is no market yet
    engine.add_market()
    engine.set_terms(order, BUY)
    for terms in (replace(BUY, quantity_e8=0), replace(BUY, price_e8=-1), replace(BUY, market=1)):
        with pytest.raises(NativeError):
            engine.set_terms(order, terms)
    with pytest.raises(NativeError):
        engine.set_terms(order + 1, BUY)


def test_the_documentation_has_every_code() -> None:
    page = Path(__file__).parents[1] / "docs" / "risk.md"
    rows = [line.split("|")[1] for line in page.read_text().splitlines() if line.startswith("| `")]
    codes = [code for row in rows for code in re.findall("`(.+?)`", row)]
    assert sorted(codes) == sorted(REFUSALS.values())


# ---- the feed ------------------------------------------------------------------------------------


def test_behind_a_long_silence_everything_is_in_doubt(server: Server) -> None:
    limits = Limits(max_feed_silence_ns=S)
    with desk(server, limits) as found:
        start = time.monotonic_ns()

        def at(seconds: float, exchange: str = "kraken") -> str | None:
            found.deposits += 1
            raw = deposit(exchange, found.deposits)
            found.engine.rawtx(raw, start + int(seconds * S))
            (fired,) = found.events(Fired)
            refusal: str | None = fired.refusal
            return refusal

        assert at(0) is None, "before the first there is no silence"
        assert at(1) is None
        assert [at(2.001), at(2.1), at(2.3)] == ["feed"] * 3, "they may have waited somewhere"
        assert at(2.6) is None, "the burst is over"
        found.engine.rawtx(COINBASE, start + 10 * S)
        assert at(10.01) == "in-block", "and a block is a block"


# ---- over a restart ------------------------------------------------------------------------------


def test_what_former_runs_did_counts(server: Server) -> None:
    def yesterday(engine: Engine) -> None:
        engine.count_past(23 * 3600 * S, NOTIONAL, 1, "okx")
        engine.count_past(30 * S, NOTIONAL, 0, "kraken")
        engine.count_past(25 * 3600 * S, 1000 * NOTIONAL, 0, "kraken")
        engine.count_past(-5, 0, None, None)  # an exit; the clock was set back

    def refusal(exchange: str = "okx", cooldown_s: int = 0, **limits: int) -> Any:
        options = replace(LIVE, cooldown_ns=cooldown_s * S)
        with desk(server, Limits(**limits), AT_LIMIT, options, yesterday) as found:
            return found.deposit(exchange)

    assert refusal(max_orders_per_second=1) == "rate-second"
    assert refusal(max_orders_per_minute=2) == "rate-minute"
    assert refusal(max_orders_per_hour=3) is None
    assert refusal(max_orders_per_day=3) == "rate-day"
    assert refusal(max_total_notional_e8=3 * NOTIONAL - 1) == "total-notional"
    assert refusal(max_total_notional_e8=3 * NOTIONAL) is None
    assert refusal(cooldown_s=60) == "cooldown"
    assert refusal(cooldown_s=29) is None
    assert refusal("kraken", exchange_cooldown_ns=60 * S) == "exchange-cooldown"
    assert refusal("okx", exchange_cooldown_ns=60 * S) is None


def test_a_rule_or_an_exchange_that_is_gone_leaves_the_other(server: Server) -> None:
    """A renamed rule, or an exchange that left the book."""

    def yesterday(engine: Engine) -> None:
        engine.count_past(30 * S, NOTIONAL, 0, None)
        engine.count_past(30 * S, NOTIONAL, None, "okx")

    options = replace(LIVE, cooldown_ns=60 * S)
    limits = Limits(exchange_cooldown_ns=60 * S)
    with desk(server, limits, AT_LIMIT, options, yesterday) as found:
        assert found.deposit("kraken") == "cooldown"
        assert found.deposit("okx", BTC // 2) == "exchange-cooldown"
        assert found.deposit("kraken", BTC // 2) is None


def test_what_former_runs_left_open_and_hold(server: Server) -> None:
    is_open = Settlement(0, False, BUY.quantity_e8)

    def left(engine: Engine) -> None:
        engine.set_position(0, BUY.quantity_e8)
        engine.expose(is_open)

    limits = Limits(max_position_notional_e8=2 * NOTIONAL, max_unresolved=2)
    with desk(server, limits, AT_LIMIT, before=left) as found:
        assert found.deposit() == "position"
        filled = replace(is_open, filled_e8=is_open.quantity_e8)
        assert found.tell(lambda: found.engine.command_settle(filled)) == [None]
        assert found.deposit() == "position", "what was open is held now"
    with desk(server, limits, replace(AT_LIMIT, is_sell=True), before=left) as found:
        assert found.deposit() is None, "which lessens it"
        assert found.deposit() == "unresolved"


def test_an_order_of_unknown_quantity_is_not_unresolved_for_good(server: Server) -> None:
    """The journal has lost its quantity, so that its end could not be told from a correction."""
    limits = Limits(max_unresolved=1)
    lost = Settlement(0, False, 0)
    with desk(server, limits, before=lambda engine: engine.expose(lost)) as found:
        assert found.deposit() is None
        assert found.tell(lambda: found.engine.command_settle(lost)) == [None]
        assert found.deposit() == "unresolved"


# ---- dry-run -------------------------------------------------------------------------------------


def test_a_dry_run_counts_what_it_would_send_but_nothing_stays_open(server: Server) -> None:
    limits = Limits(
        max_orders_per_day=3, max_unresolved=1, max_position_notional_e8=NOTIONAL + NOTIONAL // 2
    )
    dry = EngineOptions(max_orders=100)
    with desk(server, limits, AT_LIMIT, dry) as found:
        assert [found.deposit() for _ in range(4)] == [None, None, None, "rate-day"]
        end = Settlement(0, False, BUY.quantity_e8)
        assert found.tell(lambda: found.engine.command_settle(end)) != [None]


# ---- orders that no template makes ---------------------------------------------------------------


def test_an_exit_goes_out_with_its_intent_before_it(server: Server) -> None:
    with desk(server, Limits()) as found:
        terms = Terms(BUY.quantity_e8, 61_000 * E8, 0, True)
        found.engine.command_order(b"an order", terms, "hx-1", 7, parent="hp-1", reduces=True)
        found.engine.poll()
        bodies = list(found.engine.events())
        assert found.peer.frame() == (TEXT, b"an order")
    intent = next(body for body in bodies if isinstance(body, Intent))
    fired = next(body for body in bodies if isinstance(body, Fired))
    assert bodies.index(intent) < bodies.index(fired)
    assert (intent.client_id, intent.parent, intent.terms) == ("hx-1", "hp-1", terms)
    assert (intent.live, intent.reduces, intent.rule, intent.timestamp_ms) == (True, True, None, 7)
    assert (intent.order, fired.order) == (0xFFFF, 0xFFFF)
    assert (fired.client_id, fired.refusal, fired.error) == ("hx-1", None, None)
    assert (fired.rule, fired.dry_run, fired.timestamp_ms) == (None, False, 7)
    assert fired.sent_ns > 0


def test_an_exit_passes_where_an_entry_does_not(server: Server) -> None:
    """What lessens a position is not held up by limits that are there to keep it small."""
    nothing = Limits(
        max_order_notional_e8=0,
        max_total_notional_e8=0,
        max_position_notional_e8=0,
        max_orders_per_second=0,
        max_orders_per_day=0,
        price_band_bp=0,
        max_clock_offset_ms=0,
        max_unresolved=0,
    )
    with desk(server, nothing, options=replace(LIVE, max_orders=0)) as found:
        found.tell(lambda: found.engine.command_clock(None))
        assert found.order("hx-1", reduces=False).refusal == "clock"
        assert found.order("hx-1", reduces=True).refusal is None


def test_an_order_of_ours_that_is_no_exit_has_an_entry_s_limits(server: Server) -> None:
    sale = replace(AT_LIMIT, is_sell=True)
    with desk(server, Limits(max_total_notional_e8=2 * NOTIONAL), AT_LIMIT) as found:
        assert found.deposit() is None
        assert found.order("hx-1", terms=sale).refusal is None
        assert found.order("hx-2", terms=sale).refusal == "total-notional"
        assert found.deposit() == "total-notional"


def test_exits_use_up_rates_and_positions_but_not_totals(server: Server) -> None:
    sale = replace(AT_LIMIT, is_sell=True)
    with desk(server, Limits(max_orders_per_minute=2), AT_LIMIT) as found:
        assert found.order("hx-1", reduces=True).refusal is None
        assert [found.deposit(), found.deposit()] == [None, "rate-minute"]
    with desk(server, Limits(max_total_notional_e8=NOTIONAL, max_unresolved=1), AT_LIMIT) as found:
        assert found.order("hx-1", terms=sale, reduces=True).refusal is None
        assert found.deposit() is None
    with desk(server, Limits(max_position_notional_e8=NOTIONAL), sale) as found:
        assert found.order("hx-1", terms=sale, reduces=True).refusal is None
        assert found.deposit() == "position"
        end = Settlement(0, True, sale.quantity_e8, reduces=True)
        assert found.tell(lambda: found.engine.command_settle(end)) == [None]
        assert found.deposit() is None


def test_exits_close_no_more_than_entries_have_brought(server: Server) -> None:
    """1 coin was bought, and 1 sold, by entries."""
    half = replace(SALE, quantity_e8=E8 // 2)
    end = Settlement(0, True, half.quantity_e8, reduces=True)
    with desk(server, Limits()) as found:

        def leave(client_id: str, terms: Terms, **words: int) -> str | None:
            return found.order(client_id, terms=terms, reduces=True, **words).refusal

        def settle(settlement: Settlement) -> None:
            assert found.tell(lambda: found.engine.command_settle(settlement)) == [None]

        assert leave("hx-1", half, orders=2) is None, "a list closes its quantity once"
        assert leave("hx-2", half) is None
        assert leave("hx-3", SALE) == "exit-size"
        settle(end)
        assert leave("hx-3", half) is None, "of the first nothing was filled"
        settle(replace(end, filled_e8=half.quantity_e8))
        assert leave("hx-4", SALE) == "exit-size", "what is closed is not left"
        assert found.deposit() is None
        assert leave("hx-4", SALE) == "exit-size", "what may be filled is not entered"
        settle(Settlement(0, False, BUY.quantity_e8, BUY.quantity_e8))
        assert leave("hx-4", SALE) is None
        assert leave("hx-5", replace(BUY, quantity_e8=E8)) is None, "the other side has its own"
        assert leave("hx-6", BUY) == "exit-size"


def test_what_an_exit_fills_beyond_its_quantity_is_no_other_entry_s(server: Server) -> None:
    half = replace(SALE, quantity_e8=E8 // 2)
    ends = Settlement(0, True, half.quantity_e8, E8, True), Settlement(0, True, 0, E8, True)
    with desk(server, Limits()) as found:
        assert found.order("hx-1", terms=half, reduces=True).refusal is None
        for end in ends:  # what an exchange that contradicts itself makes of it
            assert found.tell(lambda e=end: found.engine.command_settle(e)) == [None]
        assert found.order("hx-2", terms=half, reduces=True).refusal is None
        assert found.order("hx-3", terms=half, reduces=True).refusal == "exit-size"


def test_an_exit_of_a_former_run_has_its_room(server: Server) -> None:
    """It is at the exchange already, even if nobody knows its entry any more."""
    left = Settlement(0, True, E8, reduces=True)
    one = replace(SALE, quantity_e8=E8)
    with desk(server, Limits(), before=lambda engine: engine.expose(left)) as found:
        assert found.order("hx-1", terms=one, reduces=True).refusal is None
        assert found.order("hx-2", terms=SALE, reduces=True).refusal == "exit-size"
        filled = replace(left, filled_e8=E8)
        assert found.tell(lambda: found.engine.command_settle(filled)) == [None]
        assert found.order("hx-2", terms=SALE, reduces=True).refusal == "exit-size"


def test_no_client_id_is_ordered_twice_in_a_run(server: Server) -> None:
    with desk(server, Limits()) as found:
        found.engine.hold(True)
        assert found.order("hx-1", reduces=True).refusal == "not-ready"
        found.engine.hold(False)
        assert found.order("hx-1", reduces=True).refusal is None, "nothing had left"
        assert found.order("hx-1", reduces=True).refusal == "duplicate"
        assert found.order("hx-11", reduces=True).refusal is None
        found.engine.kill()
        assert found.order("hx-2", reduces=True).refusal == "killed"


def test_in_dry_run_an_exit_stays_here(server: Server) -> None:
    with desk(server, Limits(), options=EngineOptions(max_orders=9)) as found:
        fired = found.order("hx-1", reduces=True)
        assert (fired.dry_run, fired.refusal, fired.sent_ns) == (True, None, 0)
        assert found.order("hx-1", reduces=True).refusal == "duplicate"
        large = replace(SALE, quantity_e8=2 * E8)
        assert found.order("hx-2", terms=large, reduces=True).refusal is None, "none has entered"
        assert found.peer.is_silent()


@pytest.mark.parametrize(
    "words",
    [
        {"client_id": ""},
        {"client_id": "x" * 37},
        {"parent": "x" * 37},
        {"terms": replace(BUY, market=1)},
        {"terms": replace(BUY, quantity_e8=0)},
        {"message": b""},
        {"message": b"x" * 8192},
    ],
)
def test_a_request_that_makes_no_sense_is_no_order(server: Server, words: dict[str, Any]) -> None:
    facts = {"message": b"x", "terms": BUY, "client_id": "x" * 36, "timestamp_ms": 1, "parent": ""}
    with desk(server, Limits()) as found:
        (error,) = found.tell(lambda: found.engine.command_order(**{**facts, **words}))
        assert error == "an argument makes no sense"
        assert found.tell(lambda: found.engine.command_order(**facts)) == [None]
        assert found.peer.frame() == (TEXT, b"x")


# ---- commands ------------------------------------------------------------------------------------


def test_commands_that_are_refused_change_nothing(server: Server) -> None:
    with desk(server, Limits(price_band_bp=10), BUY) as found:
        engine, now = found.engine, time.monotonic_ns()
        errors = found.tell(
            lambda: engine.command_price(1, BID, ASK, now),
            lambda: engine.command_price(0, 0, ASK, now),
            lambda: engine.command_price(0, ASK, BID, now),
            lambda: engine.command_price(0, BID, ASK + E8 * 1000, now + 3600 * S),
            lambda: engine.command_settle(Settlement(0, False, 1)),
            lambda: engine.command_venue_limit(4, 1000, 1, 0),
            lambda: engine.command_venue_limit(0, 0, 0, 0),
            lambda: engine.command_enable(2, False),
            lambda: engine.command_enable(-1, False),
        )
        assert len(errors) == 9
        assert None not in errors
        assert found.deposit() is None


def test_a_disabled_template_is_not_armed(server: Server) -> None:
    with desk(server, Limits()) as found:
        engine = found.engine

        def arm() -> None:
            deadline = time.monotonic() + PATIENCE_S
            while not (engine.armed(0) and engine.armed(1)):
                assert time.monotonic() < deadline
                engine.poll()

        arm()
        found.tell(lambda: engine.command_enable(0, False))
        for _ in range(100):
            engine.poll()
        assert (engine.armed(0), engine.armed(1)) == (False, True)
        found.tell(lambda: engine.command_enable(0, True))
        arm()
