"""What a live run is about to be allowed to do, in sentences, before it does any of it."""

from __future__ import annotations

from engine.config import Config, RiskSettings, RuleSettings
from engine.report import btc

_UNIT = 10**8  # of a notional


def allowance(config: Config) -> list[str]:
    """One sentence for the whole, one for each rule, and the limits."""
    return [
        f"live: real orders will be sent to {config.venue.url} for every transaction that a rule "
        "chooses, as far as the limits let them:",
        *(_rule(rule) for rule in config.rules),
        *_limits(config.risk),
        f"`harpoon kill` or `kill -USR1` stops all orders and cancels what is open; the latch is "
        f"{config.risk.latch}",
    ]


def _rule(rule: RuleSettings) -> str:
    price = "" if rule.price is None else f" at {rule.price} ({rule.time_in_force})"
    most = "" if rule.max_sat is None else f" to {btc(rule.max_sat)}"
    return (
        f"rule {rule.name!r}: {rule.side} {rule.quantity} {rule.symbol} {rule.type}{price} for "
        f"{', '.join(rule.kinds)} of {btc(rule.min_sat)}{most} BTC"
        f"{'' if most else ' or more'}, {rule.exchange or 'any exchange'}; {_exit(rule)}"
    )


def _exit(rule: RuleSettings) -> str:
    ways = []
    if rule.take_profit_bp:
        ways.append(f"at a price {_percent(rule.take_profit_bp)} better")
    if rule.stop_loss_bp:
        ways.append(f"at one {_percent(rule.stop_loss_bp)} worse")
    if rule.exit_after_s:
        ways.append(f"after {rule.exit_after_s} s")
    return f"out again {', or '.join(ways)}" if ways else "NEVER out again by itself"


def _percent(bp: int) -> str:
    return f"{bp / 100:g} %"


def _limits(risk: RiskSettings) -> list[str]:
    return [
        f"at most {risk.max_orders} orders in this run, {risk.max_orders_per_second} a second, "
        f"{risk.max_orders_per_minute} a minute, {risk.max_orders_per_hour} an hour, "
        f"{risk.max_orders_per_day} in 24 hours; {risk.cooldown_s} s between two of a rule, "
        f"{risk.exchange_cooldown_s} s between two for an exchange; {risk.max_unresolved} without "
        "a known end",
        f"in each symbol's quote asset at most {_amount(risk.max_order_notional)} an order, "
        f"{_amount(risk.max_total_notional)} in 24 hours, "
        f"{_amount(risk.max_position_notional)} in one position",
    ]


def _amount(notional: int) -> str:
    return f"{notional // _UNIT:,}" + (
        f".{notional % _UNIT:08d}".rstrip("0") if notional % _UNIT else ""
    )
