"""engine.exits: when and how an entry is left."""

from __future__ import annotations

import itertools
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from order_life import ID, SENT_MS, SPEC, S, entry_id

from engine import client_ids
from engine.exit_plan import Bounds, ExitPlan, Market, targets
from engine.exits import Action, Cancel, Exits, Left, Place
from engine.lifecycle import KEPT
from engine.order import Leg, Order
from engine.venues.binance import OrderSpec

D = Decimal
BOUNDS = Bounds(min_quantity=D("0.00001"), min_notional=D(5))
MARKET = Market(D("0.01"), D("0.00001"), resting=BOUNDS, at_market=BOUNDS)
BOTH = ExitPlan(None, 100, 50)
BUY = OrderSpec("BTCUSDT", "BUY", "LIMIT", "0.01000000", "60000.00", "IOC")
NOBODY_HOLDS = replace(MARKET, oco_allowed=False, order_types=frozenset({"LIMIT", "MARKET"}))


def entry(
    filled: str = "0.01", spec: OrderSpec = BUY, end: str | None = "filled", price: int = 60_000
) -> Order:
    amount = D(filled)
    leg = Leg(ID, D(spec.quantity), 7, True, amount, amount * price, traded=amount, end=end)
    return Order(ID, spec, (leg,), rule="whale", timestamp_ms=SENT_MS, fired=True)


def exit_of(place: Place, status: str, filled: str = "0", **more: Any) -> Order:
    """The exit as the orders have it: `sent`, `acked`, `unknown` or an end, of its first leg."""
    end = status if status not in ("sent", "acked", "unknown") else None
    here = status not in ("sent", "unknown")
    first, *others = client_ids.legs_of(place.client_id)
    other_end = "expired" if end == "filled" else end
    legs = (
        Leg(first, place.quantity, 8, here, filled=D(filled), end=end),
        *(Leg(leg, place.quantity, 9, here, end=other_end) for leg in others),
    )
    spec = OrderSpec(place.symbol, place.side, "MARKET" if place.kind == "m" else "LIMIT", "1")
    return Order(
        place.client_id, spec, legs, place.parent, fired=True, doubt=status == "unknown", **more
    )


def exits(plan: ExitPlan = BOTH, order: Order | None = None, market: Market = MARKET) -> Exits:
    """With a price that is far from every target, and never too old."""
    made = Exits({"whale": plan}, max_price_age_ns=10**18)
    made.set_market("BTCUSDT", market)
    made.on_price("BTCUSDT", D(60_000), D(60_001), 0)
    made.on_order(order or entry())
    return made


def act(made: Exits, second: float = 0) -> Action | None:
    found = made.actions(int(second * S), SENT_MS + int(second * 1000))
    assert len(found) < 2
    return found[0] if found else None


def placed(made: Exits, second: float = 0) -> Place:
    action = act(made, second)
    assert isinstance(action, Place)
    return action


# ---- what is sent --------------------------------------------------------------------------------


def test_profit_and_loss_make_one_list_around_the_entry_price() -> None:
    place = placed(exits())
    assert (place.kind, place.side, place.quantity) == (client_ids.OCO, "SELL", D("0.01"))
    assert (place.take_price, place.stop_price) == (D("60600.00"), D("59700.00"))
    assert (place.parent, place.client_id) == (ID, client_ids.exit_id(ID, client_ids.OCO, 0))


def test_an_entry_that_sold_is_left_by_buying() -> None:
    place = placed(exits(order=entry(spec=SPEC)))
    assert (place.side, place.take_price, place.stop_price) == ("BUY", D("59400.00"), D("60300.00"))


def test_one_reason_makes_one_order() -> None:
    take = placed(exits(ExitPlan(None, 100, None)))
    assert (take.kind, take.take_price, take.stop_price) == (
        client_ids.TAKE_PROFIT,
        D("60600.00"),
        None,
    )
    stop = placed(exits(ExitPlan(None, None, 50)))
    assert (stop.kind, stop.take_price, stop.stop_price) == (
        client_ids.STOP_LOSS,
        None,
        D("59700.00"),
    )


@given(
    st.decimals(min_value=1, max_value=100_000, places=4),
    st.integers(1, 9_000),
    st.sampled_from(["0.01", "0.1", "0.00001", "1"]),
    st.sampled_from(["BUY", "SELL"]),
)
def test_targets_are_on_the_tick_and_never_nearer_than_asked(
    price: Decimal, bp: int, tick: str, side: str
) -> None:
    order = entry(spec=replace(BUY, side=side))
    order = order.with_leg(replace(order.legs[0], quote=order.filled * price))
    market = replace(MARKET, tick_size=D(tick))
    take, stop = targets(order, ExitPlan(None, bp, bp), market)
    away = price * bp / 10_000
    low, high = (stop, take) if side == "BUY" else (take, stop)
    assert high is not None
    assert high - D(tick) < price + away <= high
    assert high % D(tick) == 0
    if low is None:
        assert price - away < D(tick), "there is no such price"
    else:
        assert 0 < low <= price - away < low + D(tick)
        assert low % D(tick) == 0


@pytest.mark.parametrize(("stop", "kind"), [(50, client_ids.STOP_LOSS), (None, None)])
def test_a_profit_that_no_price_can_reach_is_left_out(stop: int | None, kind: str | None) -> None:
    sold = entry(spec=replace(BUY, side="SELL"))
    for bp in (9_999, 10_000, 20_000):
        made = exits(ExitPlan(60, bp, stop), sold, replace(MARKET, tick_size=D(10)))
        action = act(made)
        assert isinstance(action, Place) == (kind is not None)
        if isinstance(action, Place):
            assert (action.kind, action.take_price) == (kind, None)
            made.on_order(exit_of(action, "cancelled"))
        assert placed(made, 60).kind == client_ids.MARKET


def test_a_base_asset_commission_and_the_step_make_the_quantity_smaller() -> None:
    order = replace(entry(), fees=(("BNB", D("0.3")), ("BTC", D("0.0000101"))))
    assert placed(exits(order=order)).quantity == D("0.00998")
    sold = replace(entry(spec=SPEC), fees=(("USDT", D("0.6")),))
    assert placed(exits(order=sold)).quantity == D("0.01")


# ---- when ----------------------------------------------------------------------------------------


def test_nothing_is_sent_before_the_entry_has_ended_and_its_fills_are_known() -> None:
    made = exits(order=entry("0.004", end=None))
    assert act(made) is None
    half = entry("0.004", end="expired")
    made.on_order(half.with_leg(replace(half.legs[0], traded=D("0.003"))))
    assert act(made) is None, "its commission is not known"
    made.on_order(half)
    assert placed(made).quantity == D("0.004")


def test_an_entry_without_a_fill_or_a_plan_or_of_a_dry_run_is_left_alone() -> None:
    assert act(exits(order=entry("0", end="expired"))) is None
    assert act(exits(order=replace(entry(), rule="another"))) is None
    assert act(exits(order=replace(entry(), live=False))) is None


def test_nothing_is_sent_before_the_market_is_known() -> None:
    made = Exits({"whale": BOTH})
    made.on_order(entry())
    assert act(made) is None
    made.set_market("BTCUSDT", MARKET)
    placed(made)


def test_when_the_time_is_over_what_rests_is_cancelled_and_then_sold_at_market() -> None:
    made = exits(ExitPlan(60, 100, 50))
    oco = placed(made)
    made.on_order(exit_of(oco, "acked"))
    assert act(made, 59.9) is None
    cancel = act(made, 60)
    take_leg, _ = client_ids.legs_of(oco.client_id)
    assert cancel == Cancel(take_leg, "BTCUSDT", 8)
    assert act(made, 61) is None, "it has been asked for"
    assert act(made, 65) == cancel, "and is asked for again"
    made.on_order(exit_of(oco, "cancelled", "0.004"))
    place = placed(made, 66)
    assert (place.kind, place.quantity) == (client_ids.MARKET, D("0.006"))
    assert place.client_id == client_ids.exit_id(ID, client_ids.MARKET, 1)
    made.on_order(exit_of(place, "filled", "0.006"))
    assert act(made, 67) is None
    assert (made.left(), made.take_notices()) == ([], [])


def test_an_entry_that_rests_is_cancelled_when_the_time_is_over() -> None:
    made = exits(ExitPlan(60), entry("0.004", SPEC, end=None))
    assert act(made, 59) is None
    assert act(made, 60) == Cancel(ID, "BTCUSDT", 7)
    made.on_order(entry("0.004", SPEC, end="cancelled"))
    assert placed(made, 61).quantity == D("0.004")


def test_while_venue_time_is_not_known_no_time_is_over_but_prices_are_heeded() -> None:
    made = exits(ExitPlan(0, 100, 50), market=NOBODY_HOLDS)
    assert made.actions(10**6 * S, None) == []
    made.on_price("BTCUSDT", D(59_700), D(59_701), 0)
    (place,) = made.actions(10**6 * S, None)
    assert isinstance(place, Place)
    assert place.kind == client_ids.MARKET


@pytest.mark.parametrize("bid", ["60600", "59700"])
def test_an_entry_that_rests_is_cancelled_when_what_it_has_filled_should_be_left(bid: str) -> None:
    rests = replace(BUY, time_in_force="GTC")
    made = exits(order=entry("0.004", rests, end=None))
    made.on_price("BTCUSDT", D("60599.99"), D("60600"), 0)
    assert act(made) is None
    made.on_price("BTCUSDT", D(bid), D(bid) + 1, 0)
    assert act(made, 1) == Cancel(ID, "BTCUSDT", 7)
    made.on_price("BTCUSDT", D("60000"), D("60001"), 0)
    made.on_order(entry("0.005", rests, end="cancelled"))
    place = placed(made, 2)
    assert (place.kind, place.quantity) == (client_ids.MARKET, D("0.005"))


def test_an_entry_that_rests_unfilled_has_no_price_to_be_left_at() -> None:
    made = exits(order=entry("0", replace(BUY, time_in_force="GTC"), end=None))
    made.on_price("BTCUSDT", D("50000"), D("50001"), 0)
    assert act(made) is None


def test_a_plan_with_only_a_time_waits_for_it() -> None:
    made = exits(ExitPlan(60))
    made.on_price("BTCUSDT", D(30_000), D(30_001), 0)
    assert act(made, 59) is None
    assert placed(made, 60).kind == client_ids.MARKET


@pytest.mark.parametrize("price", ["60600", "59700", "50000"])
def test_a_price_that_is_there_already_is_taken_at_market(price: str) -> None:
    made = exits()
    made.on_price("BTCUSDT", D(price), D(price) + 1, 0)
    assert placed(made).kind == client_ids.MARKET


def aging() -> Exits:
    made = Exits({"whale": BOTH}, max_price_age_ns=20 * S)
    made.set_market("BTCUSDT", MARKET)
    made.on_price("BTCUSDT", D(59_000), D(59_001), 100 * S)
    return made


@pytest.mark.parametrize(("second", "kind"), [(120, client_ids.MARKET), (121, client_ids.OCO)])
def test_a_price_that_is_too_old_is_none(second: int, kind: str) -> None:
    made = aging()
    made.on_order(entry())
    assert placed(made, second).kind == kind
    assert made.take_notices() == []


def test_what_is_watched_here_without_a_price_is_told_once() -> None:
    made = aging()
    made.set_market("BTCUSDT", NOBODY_HOLDS)
    assert act(made, 200) is None
    assert made.take_notices() == [], "nothing is held"
    made.on_order(entry())
    for second in (201, 202):
        assert act(made, second) is None
    (words,) = made.take_notices()
    assert "the price of BTCUSDT is not known" in words
    made.on_price("BTCUSDT", D(60_000), D(60_001), 210 * S)
    assert act(made, 210) is None
    assert made.take_notices() == []
    assert act(made, 231) is None
    assert made.take_notices() == [words]


def test_a_list_at_the_venue_needs_no_price() -> None:
    made = aging()
    made.on_order(entry())
    oco = placed(made, 200)
    assert act(made, 201) is None
    made.on_order(exit_of(oco, "acked"))
    assert act(made, 202) is None
    assert made.take_notices() == []


# ---- where the venue does not hold it ------------------------------------------------------------


@pytest.mark.parametrize(("bid", "leaves"), [("60599.99", False), ("60600", True), ("59700", True)])
def test_without_lists_at_the_venue_the_price_is_watched_here(bid: str, leaves: bool) -> None:
    made = exits(market=NOBODY_HOLDS)
    assert act(made) is None
    made.on_price("BTCUSDT", D(bid), D(bid) + 1, 0)
    action = act(made, 1)
    assert (isinstance(action, Place) and action.kind == client_ids.MARKET) == leaves


def test_a_list_that_is_refused_is_held_here() -> None:
    made = exits()
    oco = placed(made)
    made.on_order(
        exit_of(oco, "rejected", code=-2010, reason="-2010: OCO orders are not supported")
    )
    assert "watched here" in made.take_notices()[0]
    assert act(made, 100) is None
    made.on_price("BTCUSDT", D(59_700), D(59_701), 0)
    assert placed(made, 101).client_id == client_ids.exit_id(ID, client_ids.MARKET, 1)


@pytest.mark.parametrize(
    ("code", "reason", "again_s"),
    [
        (None, "never arrived at the venue (connection reset)", 1),
        (None, "never arrived at the venue (the run that sent it has ended)", 1),
        (-1007, "never arrived at the venue (-1007: Timeout waiting for response)", 1),
        (-1003, "-1003: Too many requests queued.", 1),
        (-1013, "-1013: Market is closed.", 1),
        (-2010, "-2010: Account has insufficient balance for requested action.", 1),
        (-2010, "-2010: Order would trigger immediately.", 1),
        (-2010, "-2010: Stop loss orders are not supported for this symbol.", 3600),
        (-1158, "-1158: Order type not supported in OCO.", 3600),
        (-1013, "-1013: Filter failure: MAX_NUM_ALGO_ORDERS", 3600),
        (-1013, "-1013: Filter failure: PERCENT_PRICE_BY_SIDE", 3600),
    ],
)
def test_a_resting_exit_that_fails_is_placed_again(
    code: int | None, reason: str, again_s: int
) -> None:
    """After a second, or after an hour where it would be refused again until then."""
    made = exits()
    oco = placed(made)
    made.on_order(exit_of(oco, "rejected", code=code, reason=reason))
    assert act(made, 1) is None
    assert act(made, again_s + 0.9) is None
    assert placed(made, again_s + 1).client_id == client_ids.exit_id(ID, client_ids.OCO, 1)


POOR = {"code": -2010, "reason": "-2010: Account has insufficient balance for requested action."}


def sold(made: Exits, have: str, seconds: range = range(3600)) -> tuple[Decimal, int]:
    """What is sold to a venue where the account has so much, in how many orders."""
    rest, orders = D(have), 0
    for second in seconds:
        action = act(made, second)
        if isinstance(action, Place):
            orders += 1
            fits = action.quantity <= rest
            rest -= action.quantity if fits else 0
            end = exit_of(action, "filled", str(action.quantity)) if fits else None
            made.on_order(end or exit_of(action, "rejected", **POOR))
    return D(have) - rest, orders


@pytest.mark.parametrize(
    ("have", "step", "most_orders"),
    [
        ("0.00999", "0.00001", 3),  # a commission of 0.1 %
        ("0.00995", "0.00001", 12),
        ("0.009", "0.001", 3),
        ("0.005", "0.005", 3),
    ],
)
def test_what_a_commission_took_that_nobody_told_is_not_sold(
    have: str, step: str, most_orders: int
) -> None:
    made = exits(ExitPlan(0), market=replace(MARKET, step_size=D(step)))
    quantity, orders = sold(made, have)
    assert quantity == D(have)
    assert orders <= most_orders
    assert made.left() == []
    assert "too little" in made.take_notices()[-1]


def test_what_is_lacking_beyond_any_commission_is_waited_for() -> None:
    made = exits(ExitPlan(0))
    assert sold(made, "0.009", range(600))[0] == 0
    assert sold(made, "0.01", range(600, 700))[0] == D("0.01")


def test_what_cannot_be_bought_back_for_want_of_balance_is_not_made_less() -> None:
    made = exits(ExitPlan(0), entry(spec=SPEC))
    made.on_order(exit_of(placed(made), "rejected", **POOR))
    assert act(made, 1) is None
    assert placed(made, 2).quantity == D("0.01")


def test_more_than_was_ordered_is_not_left() -> None:
    assert placed(exits(order=entry("99999"))).quantity == D("0.01")


def test_what_a_resting_exit_waits_for_does_not_keep_it_from_being_left_at_market() -> None:
    made = exits()
    for second in (0, 100, 200, 300, 400):
        oco = placed(made, second)
        made.on_order(exit_of(oco, "rejected", code=-1013, reason="-1013: Market is closed."))
        assert act(made, second) is None
    made.on_price("BTCUSDT", D(59_700), D(59_701), 0)
    assert placed(made, 401).kind == client_ids.MARKET


def test_resting_exits_that_fail_leave_ids_for_the_market() -> None:
    made = exits(ExitPlan(10**6, 100, 50))
    second, attempts = 0, 0
    while isinstance(place := act(made, second), Place):
        assert place.client_id == client_ids.exit_id(ID, client_ids.OCO, attempts)
        made.on_order(exit_of(place, "rejected", code=-1013, reason="-1013: Market is closed."))
        assert act(made, second) is None
        second, attempts = second + 60, attempts + 1
    assert act(made, 10**6 - 1) is None
    assert placed(made, 10**6).client_id == client_ids.exit_id(ID, client_ids.MARKET, attempts)
    assert 500 < attempts < client_ids.ATTEMPTS_MAX - 500


def test_once_reached_it_is_left_even_when_the_price_comes_back() -> None:
    made = exits(market=NOBODY_HOLDS)
    made.on_price("BTCUSDT", D(59_700), D(59_701), 0)
    first = placed(made)
    made.on_order(exit_of(first, "rejected", code=-1015))
    made.on_price("BTCUSDT", D(60_000), D(60_001), 0)
    assert act(made, 1) is None, "a pause"
    assert placed(made, 2.1).client_id == client_ids.exit_id(ID, client_ids.MARKET, 1)


def test_a_take_profit_that_is_partly_filled_still_has_its_stop() -> None:
    """The venue cancels the stop of a list as soon as the other order trades."""
    made = exits()
    oco = placed(made)
    order = exit_of(oco, "acked", "0.004")
    made.on_order(order.with_leg(replace(order.legs[1], end="expired")))
    made.on_price("BTCUSDT", D(60_000), D(60_001), 0)
    assert act(made, 1) is None
    made.on_price("BTCUSDT", D(59_700), D(59_701), 0)
    assert isinstance(act(made, 2), Cancel)


# ---- never twice ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["sent", "unknown"])
def test_while_an_exit_may_be_alive_nothing_else_is_sent(status: str) -> None:
    made = exits(ExitPlan(60, 100, 50))
    oco = placed(made)
    assert act(made, 100) is None, "handed out, and nothing heard of it"
    made.on_order(exit_of(oco, status))
    assert act(made, 200) is None, "what may not be there cannot be cancelled either"
    assert made.left() == [Left(ID, "BTCUSDT", "BUY", D("0.01"), f"its exit is {status}")]


def test_a_restart_knows_the_exits_of_the_journal() -> None:
    made = exits()
    oco = placed(made)
    again = exits()
    again.on_order(exit_of(oco, "unknown"))
    assert act(again, 100) is None
    again.on_order(exit_of(oco, "rejected", code=-2013))
    assert again.take_notices()
    fresh = exits()
    assert placed(fresh) == oco, "what was not written has not been sent: the same id again"


@pytest.mark.parametrize(
    ("reason", "expected"), [("duplicate", [1, 2, 4, 8, 16, 32]), ("venue-limit", [1] * 60)]
)
def test_an_exit_that_the_gate_refuses_is_tried_again_under_its_id_with_pauses(
    reason: str, expected: list[int]
) -> None:
    """The pauses grow, but for what passes within seconds."""
    made = exits()
    first = placed(made)
    seconds = []
    for tenth in range(700):
        action = act(made, tenth / 10)
        if action is None and not seconds:
            made.on_refused(first.client_id, reason)
            seconds.append(tenth / 10)
        elif isinstance(action, Place):
            assert action == first
            seconds.append(tenth / 10)
            made.on_refused(action.client_id, reason)
    pauses = [round(b - a) for a, b in itertools.pairwise(seconds)]
    assert pauses[: len(expected)] == expected
    assert len(made.take_notices()) == 1, "the same words once"


def pauses(made: Exits, status: str, seconds: int, filled: str = "0") -> list[int]:
    """Between the exits of so many seconds, each of which is acked and ends a moment later."""
    at = []
    for tenth in range(10 * seconds):
        action = act(made, tenth / 10)
        if isinstance(action, Place):
            at.append(tenth / 10)
            made.on_order(exit_of(action, "acked"))
            made.on_order(exit_of(action, status, filled))
    return [round(b - a) for a, b in itertools.pairwise(at)]


@pytest.mark.parametrize("plan", [ExitPlan(0), BOTH])
def test_an_exit_that_the_venue_takes_and_ends_at_once_is_tried_again_with_pauses(
    plan: ExitPlan,
) -> None:
    """Like a MARKET order into an empty book: it is NEW, and then EXPIRED."""
    assert pauses(exits(plan), "expired", 200) == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_fill_makes_the_next_pause_short() -> None:
    assert pauses(exits(ExitPlan(0)), "expired", 10, "0.00001") == [1] * 9


def test_an_exit_that_has_rested_for_long_makes_the_next_pause_short() -> None:
    made = exits()
    for second in (0, 2, 5):
        made.on_order(exit_of(placed(made, second), "expired"))
        assert act(made, second) is None
    oco = placed(made, 10)
    made.on_order(exit_of(oco, "acked"))
    assert act(made, 70) is None
    made.on_order(exit_of(oco, "cancelled"))
    assert act(made, 70) is None
    placed(made, 71)


def test_an_exit_that_somebody_cancels_is_placed_again_and_reported() -> None:
    made = exits()
    oco = placed(made)
    made.on_order(exit_of(oco, "acked"))
    made.on_order(exit_of(oco, "cancelled"))
    assert act(made, 0) is None
    assert placed(made, 1.1).client_id == client_ids.exit_id(ID, client_ids.OCO, 1)
    assert "is cancelled" in made.take_notices()[0]


def test_what_is_told_twice_changes_nothing() -> None:
    made = exits()
    oco = placed(made)
    for _ in range(3):
        made.on_order(exit_of(oco, "rejected", code=-1015))
        made.on_order(entry())
    assert len(made.take_notices()) == 1
    assert act(made, 0) is None
    assert placed(made, 1.1).client_id == client_ids.exit_id(ID, client_ids.OCO, 1)


def test_a_position_that_was_left_is_not_left_again_when_its_entry_is_told_again() -> None:
    made = exits()
    oco = placed(made)
    made.on_order(exit_of(oco, "filled", "0.01"))
    assert act(made, 1) is None
    made.on_order(entry())
    made.on_order(exit_of(oco, "filled", "0.01"))
    assert act(made, 2) is None


@pytest.mark.parametrize("before", ["0", "0.004"])
def test_what_an_entry_fills_after_it_was_taken_for_ended_is_left_too(before: str) -> None:
    made = exits(order=entry(before, end="rejected" if before == "0" else "expired"))
    if before != "0":
        made.on_order(exit_of(placed(made), "filled", before))
    assert act(made, 1) is None
    made.on_order(entry("0.01"))
    place = placed(made, 2)
    assert place.quantity == D("0.01") - D(before)
    assert place.client_id == client_ids.exit_id(ID, client_ids.OCO, int(before != "0"))
    made.on_order(exit_of(place, "filled", str(place.quantity)))
    assert act(made, 3) is None
    assert (made.left(), made.take_notices()) == ([], [])


def test_an_exit_that_rests_after_it_was_rejected_is_cancelled_for_the_next() -> None:
    made = exits()
    first = placed(made)
    made.on_order(exit_of(first, "rejected"))
    assert act(made, 1) is None
    second = placed(made, 2)
    made.on_order(exit_of(second, "acked"))
    assert act(made, 3) is None
    made.on_order(exit_of(first, "acked"))
    assert act(made, 4) == Cancel(client_ids.legs_of(first.client_id)[0], "BTCUSDT", 8)
    made.on_order(exit_of(first, "cancelled"))
    assert act(made, 60) is None
    made.on_order(exit_of(second, "filled", "0.01"))
    made.on_order(exit_of(first, "acked"))
    assert isinstance(act(made, 66), Cancel), "also when all is closed already"


def test_an_entry_that_rests_after_it_was_rejected_is_cancelled_in_time() -> None:
    made = exits(ExitPlan(60), entry("0", SPEC, end="rejected"))
    made.on_order(entry("0", SPEC, end=None))
    assert act(made, 59) is None
    assert act(made, 60) == Cancel(ID, "BTCUSDT", 7)


# ---- dust, and the end ---------------------------------------------------------------------------


def test_what_is_too_little_for_an_order_is_reported_once_and_stays() -> None:
    made = exits(order=entry("0.00005", end="expired"))
    assert act(made) is None
    (words,) = made.take_notices()
    assert words.startswith("0.00005 BTCUSDT")
    assert act(made, 100) is None
    assert (made.left(), made.take_notices()) == ([], [])


def test_less_than_a_step_is_no_news() -> None:
    order = replace(entry(), fees=(("BTC", D("0.000001")),))
    made = exits(order=order)
    oco = placed(made)
    made.on_order(exit_of(oco, "filled", "0.00999"))
    assert act(made, 1) is None
    assert (made.left(), made.take_notices()) == ([], [])


@pytest.mark.parametrize("words", ["NOTIONAL", "LOT_SIZE", "MARKET_LOT_SIZE", "MIN_NOTIONAL"])
def test_what_the_filters_refuse_is_tried_again_by_rules_that_are_read_again(words: str) -> None:
    made = exits(ExitPlan(0))
    place = placed(made)
    assert not made.take_doubts()
    reason = f"-1013: Filter failure: {words}"
    made.on_order(exit_of(place, "rejected", code=-1013, reason=reason))
    assert made.take_doubts()
    assert not made.take_doubts(), "once"
    assert act(made, 1) is None
    made.set_market("BTCUSDT", replace(MARKET, step_size=D("0.004")))
    assert placed(made, 2).quantity == D("0.008")


@pytest.mark.parametrize("reason", ["-1013: Market is closed.", "-2010: No.", ""])
def test_other_refusals_are_no_reason_to_read_the_rules_again(reason: str) -> None:
    made = exits()
    made.on_order(exit_of(placed(made), "rejected", code=-1013, reason=reason))
    assert not made.take_doubts()


@pytest.mark.parametrize(
    "bounds",
    [
        replace(BOUNDS, max_quantity=D("0.004")),
        # At twice the price: the venue takes an average, and that may be above the last one.
        replace(BOUNDS, max_notional=2 * 60_000 * D("0.004")),
    ],
)
def test_more_than_one_order_may_have_is_left_in_parts(bounds: Bounds) -> None:
    made = exits(ExitPlan(0), market=replace(MARKET, at_market=bounds))
    made.on_price("BTCUSDT", D(60_000), D(60_001), 0)
    quantities = []
    for second in range(3):
        place = placed(made, second)
        quantities.append(place.quantity)
        made.on_order(exit_of(place, "filled", str(place.quantity)))
    assert quantities == [D("0.004"), D("0.004"), D("0.002")]
    assert act(made, 4) is None
    assert (made.left(), made.take_notices()) == ([], [])


def test_a_resting_exit_may_have_more_than_one_at_market() -> None:
    bounds = Bounds(D("0.00001"), D("0.004"), D(5), D(300))
    made = exits(market=replace(MARKET, at_market=bounds))
    assert placed(made).quantity == D("0.01")
    dear = replace(BOUNDS, max_notional=60_600 * D("0.006"))
    made = exits(market=replace(MARKET, resting=dear))
    assert placed(made).quantity == D("0.006"), "at the higher of its prices"


def test_what_is_too_little_at_this_price_is_left_at_another() -> None:
    made = exits(ExitPlan(60), entry("0.0001"))
    made.on_price("BTCUSDT", D(49_000), D(49_001), 0)
    assert act(made, 61) is None
    assert "too little for an order now" in made.take_notices()[0]
    made.on_price("BTCUSDT", D(49_500), D(49_501), 0)
    assert act(made, 62) is None
    assert (made.left(), made.take_notices()) == ([], [])
    made.on_price("BTCUSDT", D(50_000), D(50_001), 0)
    assert placed(made, 63).quantity == D("0.0001")


def test_what_may_only_not_rest_for_being_too_little_is_watched_here() -> None:
    made = exits(
        order=entry("0.00008"), market=replace(MARKET, at_market=Bounds(min_quantity=D("0.00001")))
    )
    assert act(made) is None
    assert "watched here" in made.take_notices()[0]
    assert [left.quantity for left in made.left()] == [D("0.00008")]
    made.on_price("BTCUSDT", D(59_700), D(59_701), 0)
    assert placed(made, 1).kind == client_ids.MARKET


def test_after_the_kill_nothing_is_sent_and_what_is_open_is_told() -> None:
    made = exits(ExitPlan(60, 100, 50))
    made.kill()
    assert act(made, 0) is None
    assert act(made, 100) is None
    assert made.left() == [Left(ID, "BTCUSDT", "BUY", D("0.01"), "no exit is on its way")]


def test_entries_that_are_left_are_forgotten_only_behind_many_others() -> None:
    made = exits()
    oco = placed(made)
    made.on_order(exit_of(oco, "filled", "0.01"))
    for number in range(2, KEPT + 2):
        if number == KEPT + 1:
            made.on_order(entry())
            assert act(made) is None, "known to be left"
        nothing = entry("0", end="expired")
        made.on_order(replace(nothing, client_id=entry_id(number)))
    made.on_order(entry())
    assert isinstance(act(made), Place), "as if it were new: by then nobody tells of it"
