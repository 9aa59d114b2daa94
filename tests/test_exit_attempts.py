"""engine.exits: what becomes of an exit that fails."""

from __future__ import annotations

import itertools
from dataclasses import replace
from decimal import Decimal

import pytest
from exit_life import BOTH, MARKET, D, act, entry, exit_of, exits, placed
from order_life import ID, SPEC

from engine import client_ids
from engine.exit_plan import ExitPlan
from engine.exits import Exits, Place


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


def test_the_next_run_does_not_wait_for_what_this_one_did() -> None:
    oco = placed(exits())
    again = exits()
    reason = "-1013: Filter failure: MAX_NUM_ALGO_ORDERS"
    again.on_order(exit_of(oco, "rejected", code=-1013, reason=reason))
    assert placed(again, 0).client_id == client_ids.exit_id(ID, client_ids.OCO, 1)


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


# ---- when ----------------------------------------------------------------------------------------


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


# ---- a balance that does not suffice -------------------------------------------------------------


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
