"""The checks of a chaos run can fail: each finds what it is for in evidence that was doctored, and
nothing in evidence that is good."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from builders import txid_of
from chaos_checks import (
    Belief,
    Evidence,
    Quote,
    VenueFill,
    VenueOrder,
    WrittenIntent,
    WrongClock,
    violations,
)
from chaos_plan import Payment, RulePlan, draw

S = 1_000_000_000
START = 1_700_000_000 * S
LIMITS: dict[str, int | str] = {
    "max_orders": 3,
    "cooldown_s": 2,
    "exchange_cooldown_s": 2,
    "max_orders_per_second": 1,
    "max_orders_per_minute": 3,
    "max_orders_per_hour": 5,
    "max_orders_per_day": 5,
    "max_order_notional": "100",
    "max_total_notional": "200",
    "max_position_notional": "150",
    "max_unresolved": 1,
    "price_band_bp": 50,
    "max_price_age_ms": 1_000,
    "max_clock_offset_ms": 1_000,
}
PAYMENTS = [
    Payment((1, 2), ("kraken",), 10),
    Payment((3,), ("okx",), 10),
    Payment((2, 4), ("kraken",), 11),
]
TXIDS = {txid_of(payment.raw()): payment for payment in PAYMENTS}
RULES = {
    "kraken": RulePlan("kraken", "BTCUSDT", "SELL", "MARKET", None, None, (("exit_after_s", 1),)),
    "okx": RulePlan("okx", "BTCUSDT", "BUY", "MARKET", None, None),
}
QUANTITY, PRICE = Decimal("0.001"), Decimal(60_000)


def intent(client_id: str, payment: int, at_s: float, run: str = "run") -> WrittenIntent:
    at_ns = int(at_s * S)
    exchange = PAYMENTS[payment].exchanges[0]
    txid = list(TXIDS)[payment]
    return WrittenIntent(
        client_id, (client_id,), txid, exchange, exchange, "", run, at_ns, START + at_ns
    )


def leg(client_id: str, parent: WrittenIntent, at_s: float) -> WrittenIntent:
    """An exit's intent."""
    at_ns = int(at_s * S)
    return replace(
        parent,
        client_id=client_id,
        legs=(client_id,),
        rule=None,
        parent=parent.client_id,
        trigger_ns=at_ns,
        epoch_ns=START + at_ns,
    )


def order(client_id: str, side: str, at_s: float, status: str = "FILLED") -> VenueOrder:
    filled = QUANTITY if status == "FILLED" else Decimal(0)
    at_ns = START + int(at_s * S) + 300_000
    ended_ns = None if status == "NEW" else at_ns
    return VenueOrder(client_id, "BTCUSDT", side, QUANTITY, at_ns, status, filled, PRICE, ended_ns)


def fill(client_id: str, side: str) -> VenueFill:
    return VenueFill(client_id, "BTCUSDT", side, QUANTITY, PRICE)


def quote(at_s: float, price: int = 60_000, symbol: str = "BTCUSDT") -> Quote:
    return Quote(int(at_s * S), symbol, Decimal(price) - 1, Decimal(price) + 1)


ENTRY, OTHER = intent("hp1", 0, 1), intent("hp2", 1, 4)
GOOD = Evidence(
    rules=RULES,
    limits=LIMITS,
    txids=TXIDS,
    probes=[list(TXIDS)[1]],
    verdicts=[(txid, "") for txid in TXIDS],
    intents=[ENTRY, OTHER, leg("hx1", ENTRY, 2.5)],
    orders=[order("hp1", "SELL", 1), order("hx1", "BUY", 2.5), order("hp2", "BUY", 4)],
    fills=[fill("hp1", "SELL"), fill("hx1", "BUY"), fill("hp2", "BUY")],
    beliefs={name: Belief("filled", QUANTITY) for name in ("hp1", "hx1", "hp2")},
    latched=[(5 * S, 9 * S)],
    quotes=[quote(0.5), quote(0.6, 3_000, "ETHUSDT"), quote(3.5)],
    clocks=[WrongClock(0, 9 * S, 900)],
    losses=[],
    ends=[],
)


def found(**doctored: object) -> set[str]:
    """The checks that complain about GOOD with these changes."""
    return {words.split(":")[0] for words in violations(replace(GOOD, **doctored))}  # type: ignore[arg-type]


def with_order(new: WrittenIntent, status: str = "FILLED") -> dict[str, object]:
    """The changes that one more order makes, which the engine knows to be filled."""
    side = RULES[new.exchange].side
    at_s = new.trigger_ns / S
    return {
        "intents": [*GOOD.intents, new],
        "orders": [*GOOD.orders, order(new.client_id, side, at_s, status)],
        "fills": [*GOOD.fills, fill(new.client_id, side)],
        "beliefs": {**GOOD.beliefs, new.client_id: Belief("filled", QUANTITY)},
    }


def with_limits(**limits: int | str) -> set[str]:
    return found(limits={**LIMITS, **limits})


def test_good_evidence_has_no_violation() -> None:
    assert violations(GOOD) == []


# ---- orders --------------------------------------------------------------------------------------


def test_an_order_without_its_intent() -> None:
    assert "orders_without_intent" in found(intents=GOOD.intents[1:])


def test_an_intent_that_was_written_after_its_order() -> None:
    late = replace(ENTRY, epoch_ns=ENTRY.epoch_ns + S)
    assert found(intents=[late, *GOOD.intents[1:]]) == {"orders_without_intent"}


def test_an_order_that_the_venue_has_twice() -> None:
    assert found(orders=[*GOOD.orders, GOOD.orders[0]]) == {"orders_twice"}


def test_a_client_id_with_two_intents() -> None:
    assert "orders_twice" in found(intents=[*GOOD.intents, ENTRY])


@pytest.mark.parametrize("payment", [0, 2], ids=["the same", "its replacement"])
def test_a_signal_with_two_orders(payment: int) -> None:
    """Even one that never came to the venue."""
    again = intent("hp3", payment, 9)
    beliefs = {**GOOD.beliefs, "hp3": Belief("rejected", Decimal(0))}
    assert found(intents=[*GOOD.intents, again], beliefs=beliefs) == {"signals_twice"}


def test_an_order_for_a_transaction_that_was_never_published() -> None:
    assert found(txids={}) == {"signals_twice"}


# ---- beliefs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "belief",
    [
        Belief("unknown", Decimal(0)),
        Belief("acked", Decimal(0)),
        Belief("rejected", Decimal(0)),
        Belief("filled", QUANTITY / 2),
        Belief("partially-filled", QUANTITY),
    ],
)
def test_a_belief_that_is_not_the_ledgers(belief: Belief) -> None:
    assert found(beliefs={**GOOD.beliefs, "hp2": belief}) == {"beliefs_that_are_wrong"}


def test_an_order_that_the_engine_has_forgotten() -> None:
    beliefs = {name: belief for name, belief in GOOD.beliefs.items() if name != "hp2"}
    assert found(beliefs=beliefs) == {"beliefs_that_are_wrong"}


@pytest.mark.parametrize("status", ["filled", "unknown", "sent"])
def test_belief_in_an_order_that_never_came_to_the_venue(status: str) -> None:
    lost = intent("hp3", 1, 9)
    beliefs = {**GOOD.beliefs, "hp3": Belief(status, Decimal(0))}
    doctored = found(intents=[GOOD.intents[0], lost, GOOD.intents[2]], beliefs=beliefs)
    assert "beliefs_that_are_wrong" in doctored


def oco(take_profit: str, stop_loss: str, belief: Belief) -> set[str]:
    """What is found when the entry has an order list with legs of that status for its exit."""
    both = replace(leg("hx1", ENTRY, 2.5), legs=("hxt", "hxs"))
    return found(
        intents=[ENTRY, OTHER, both],
        orders=[
            GOOD.orders[0],
            order("hxt", "BUY", 2.5, take_profit),
            order("hxs", "BUY", 2.5, stop_loss),
            GOOD.orders[2],
        ],
        fills=[GOOD.fills[0], fill("hxt", "BUY"), GOOD.fills[2]],
        beliefs={**GOOD.beliefs, "hx1": belief},
    )


def test_an_order_list_is_one_exit() -> None:
    nothing = Decimal(0)
    assert oco("FILLED", "EXPIRED", Belief("filled", QUANTITY)) == set()
    assert oco("NEW", "NEW", Belief("acked", nothing)) == {"positions_left"}
    assert "beliefs_that_are_wrong" in oco("NEW", "NEW", Belief("filled", QUANTITY))
    assert "positions_left" in oco("CANCELED", "CANCELED", Belief("cancelled", nothing))
    assert "positions_left" in oco("FILLED", "FILLED", Belief("filled", 2 * QUANTITY))


def test_a_position_without_its_exit() -> None:
    orders = [order("hp1", "SELL", 1), order("hx1", "BUY", 2.5, "CANCELED"), GOOD.orders[2]]
    assert "positions_left" in found(orders=orders)


def test_exits_for_more_than_was_entered() -> None:
    again = leg("hx2", ENTRY, 3)
    assert found(
        intents=[*GOOD.intents, again],
        orders=[*GOOD.orders, order("hx2", "BUY", 3)],
        beliefs={**GOOD.beliefs, "hx2": Belief("filled", QUANTITY)},
    ) == {"positions_left"}


# ---- limits --------------------------------------------------------------------------------------


def test_too_many_orders_in_a_run() -> None:
    assert with_limits(max_orders=1) == {"limits_of_a_run_exceeded"}


def test_a_restart_counts_anew() -> None:
    intents = [ENTRY, replace(OTHER, run="another"), GOOD.intents[2]]
    assert found(intents=intents, limits={**LIMITS, "max_orders": 1}) == set()


@pytest.mark.parametrize("name", ["minute", "hour", "day"])
def test_too_many_orders_in_a_window(name: str) -> None:
    assert with_limits(**{f"max_orders_per_{name}": 1}) == {"rates_exceeded"}


def test_too_many_orders_in_a_second_that_two_runs_share() -> None:
    close = replace(OTHER, trigger_ns=ENTRY.trigger_ns + S // 2, run="another")
    assert found(intents=[ENTRY, close, GOOD.intents[2]]) == {"rates_exceeded"}


def test_an_order_within_the_cooldown_of_its_rule() -> None:
    payments = {**TXIDS, "f" * 64: Payment((9,), ("kraken",), 1)}
    soon = replace(
        ENTRY, client_id="hp3", legs=("hp3",), txid="f" * 64, trigger_ns=int(2.5 * S), run="another"
    )
    limits = {**LIMITS, "max_total_notional": "1000", "exchange_cooldown_s": 0}
    doctored = found(**with_order(soon), txids=payments, limits=limits)
    assert "cooldowns_broken" in doctored
    limits |= {"cooldown_s": 0, "exchange_cooldown_s": 2}
    assert "cooldowns_broken" in found(**with_order(soon), txids=payments, limits=limits)
    limits |= {"exchange_cooldown_s": 1}
    assert "cooldowns_broken" not in found(**with_order(soon), txids=payments, limits=limits)


def test_an_order_that_is_too_large() -> None:
    assert with_limits(max_order_notional="50") == {"notionals_exceeded"}


def test_orders_that_are_too_large_together() -> None:
    assert with_limits(max_total_notional="100") == {"notionals_exceeded"}


def test_a_position_that_is_too_large() -> None:
    """Also one that was closed again."""
    assert with_limits(max_position_notional="50") == {"positions_exceeded"}
    fills = [GOOD.fills[0], GOOD.fills[0], GOOD.fills[0], *[GOOD.fills[1]] * 3]
    assert "positions_exceeded" in found(fills=fills)


def test_an_exit_may_make_a_position_larger() -> None:
    fills = [GOOD.fills[2], GOOD.fills[1]]
    assert found(fills=fills, limits={**LIMITS, "max_position_notional": "60"}) == set()


@pytest.mark.parametrize("until_s", [4.1, None])
def test_an_order_while_too_many_are_open(until_s: float | None) -> None:
    open_until_ns = None if until_s is None else START + int(until_s * S)
    orders = [replace(GOOD.orders[0], open_until_ns=open_until_ns), *GOOD.orders[1:]]
    assert found(orders=orders) == {"unresolved_exceeded"}
    assert found(orders=orders, limits={**LIMITS, "max_unresolved": 2}) == set()


def test_an_exit_that_is_open_is_no_unresolved_one() -> None:
    orders = [GOOD.orders[0], replace(GOOD.orders[1], open_until_ns=None), GOOD.orders[2]]
    assert found(orders=orders) == set()


def test_an_order_without_a_fresh_price() -> None:
    """What was on its way for as long as a process may stand still counts as fresh."""
    assert found(quotes=GOOD.quotes[:2]) == {"prices_that_are_stale"}, "of the second entry"
    assert found(quotes=[GOOD.quotes[0], quote(1.4)]) == {"prices_that_are_stale"}
    assert found(quotes=[GOOD.quotes[0], quote(1.6)]) == set()
    assert found(quotes=[GOOD.quotes[0], quote(4.1)]) == {"prices_that_are_stale"}, "a later one"
    assert found(quotes=[quote(0.5), quote(3.5, symbol="ETHUSDT")]) == {"prices_that_are_stale"}


def test_an_order_whose_price_is_out_of_the_band() -> None:
    assert found(quotes=[quote(0.5), quote(3.5, 60_302)]) == {"prices_out_of_band"}
    assert found(quotes=[quote(0.5), quote(3.5, 59_600)]) == {"prices_out_of_band"}
    assert found(quotes=[quote(0.5), quote(3.5, 60_300)]) == set()
    assert found(quotes=[quote(0.5), quote(3.0), quote(3.5, 60_400)]) == set(), "it may be late"
    assert found(quotes=[quote(0.5), quote(2.0), quote(2.4, 60_400)]) == {"prices_out_of_band"}
    market = [replace(order, price=None) for order in GOOD.orders]
    assert found(quotes=[quote(0.5), quote(3.5, 60_400)], orders=market) == set()


def test_an_order_while_the_clocks_disagree() -> None:
    assert found(clocks=[WrongClock(3 * S, 5 * S, 1_100)]) == {"orders_by_a_wrong_clock"}
    assert found(clocks=[WrongClock(3 * S, 5 * S, -1_100)]) == {"orders_by_a_wrong_clock"}
    assert found(clocks=[WrongClock(5 * S, 9 * S, 9_999)]) == set()
    assert with_limits(max_clock_offset_ms=800) == {"orders_by_a_wrong_clock"}


def test_an_order_while_the_kill_latch_is_set() -> None:
    assert found(latched=[(3 * S, 9 * S)]) == {"orders_while_latched"}
    assert found(latched=[(2 * S, 3 * S)]) == {"orders_while_latched"}, "an exit, too"


def test_a_probe_that_makes_no_order() -> None:
    (probe,) = GOOD.probes
    assert found(verdicts=[]) == {"probes_without_verdict"}
    assert found(verdicts=[(probe, "not-ready")]) == {"probes_without_verdict"}
    assert found(verdicts=[(probe, "max-orders")]) == set(), "a limit is an excuse"


def test_what_is_told_of_journal_and_processes() -> None:
    assert found(losses=["a gap"]) == {"journal_losses"}
    assert found(ends=["a traceback"]) == {"bad_ends"}


# ---- plans ---------------------------------------------------------------------------------------


def test_a_seed_is_a_plan() -> None:
    assert draw(7) == draw(7)
    assert draw(7) != draw(8)


def test_plans_try_everything() -> None:
    """Within the first hundred seeds."""
    plans = [draw(seed) for seed in range(1, 101)]
    lives = [life for plan in plans for life in plan.lives]
    acts = {moment.act for life in lives for moment in life.moments}
    assert acts == {
        *("publish", "reorder", "gap", "block", "node-restart", "garbage"),
        *("fault", "drop-all", "price", "skew", "shut-down", "refuse"),
        *("pause", "latch", "signal"),
    }
    assert sum(any(life.kill for life in plan.lives) for plan in plans) > 70
    assert sum(life.kill_at_order is not None for life in lives) > 50
    assert {life.impatient for life in lives} == {True, False}
    assert sum("lose-quote" in life.faults for life in lives) > 5
    assert sum(abs(life.skew_ms) > 1_000 for life in lives) > 5
    for name in ("price_band_bp", "max_price_age_ms", "max_clock_offset_ms", "max_unresolved"):
        assert len({plan.limits[name] for plan in plans}) > 2, name
    assert any(len(payment.coins) > 8 for plan in plans for payment in plan.payments)


def test_whatever_is_published_spends_its_own_coins_or_replaces() -> None:
    payments = draw(3).payments
    first = {payment.coins[0] for payment in payments if payment.version == 1}
    assert len(first) == sum(payment.version == 1 for payment in payments)
    assert any(payment.version == 2 for payment in payments)
