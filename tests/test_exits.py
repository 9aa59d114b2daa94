"""engine.exits: when and how an entry is left."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from exit_life import (
    BOTH,
    BOUNDS,
    BUY,
    MARKET,
    NOBODY_HOLDS,
    D,
    act,
    entry,
    exit_of,
    exits,
    placed,
)
from hypothesis import given
from hypothesis import strategies as st
from order_life import ID, SPEC, S, entry_id

from engine import client_ids
from engine.exit_plan import Bounds, ExitPlan, targets
from engine.exits import Cancel, Exits, Left, Place
from engine.lifecycle import KEPT

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


def test_more_than_was_ordered_is_not_left() -> None:
    assert placed(exits(order=entry("99999"))).quantity == D("0.01")


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


def test_a_price_that_is_forgotten_is_none() -> None:
    made = exits(market=NOBODY_HOLDS)
    made.on_price("BTCUSDT", D(50_000), D(50_001), S)
    made.forget_prices()
    assert act(made, 1) is None
    made.on_price("BTCUSDT", D(50_000), D(50_001), S)
    assert placed(made, 1).kind == client_ids.MARKET


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
