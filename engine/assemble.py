"""From the settings to an engine that could trade: templates, rules, markets and limits."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from engine import __version__
from engine.book import Book
from engine.config import Config, RiskSettings, RuleSettings
from engine.core import Engine, EngineOptions, Limits, Rule
from engine.credentials import Credentials
from engine.errors import BookError, ConfigError
from engine.feed.native import resolve_endpoint
from engine.journal import Journal
from engine.latch import Latch
from engine.records import Terms
from engine.venues import binance

ACCOUNT_DIGITS = 16  # enough to tell keys apart
_E8 = 10**8


def order_spec(rule: RuleSettings) -> binance.OrderSpec:
    """The order that a rule asks for."""
    return binance.OrderSpec(
        symbol=rule.symbol,
        side=rule.side,
        type=rule.type,
        quantity=rule.quantity,
        price=rule.price,
        time_in_force=rule.time_in_force,
    )


def markets(config: Config) -> tuple[str, ...]:
    """The symbols that are traded; their places are what the engine calls a market."""
    return tuple(dict.fromkeys(rule.symbol for rule in config.rules))


def e8(amount: str) -> int:
    """A decimal in 1e-8 units; what is finer is rounded away from zero, so that no limit is passed
    by it."""
    scaled = Decimal(amount) * _E8
    return int(scaled) + (scaled != int(scaled))


def terms(spec: binance.OrderSpec, symbols: tuple[str, ...]) -> Terms:
    """What the risk gate has to know of an order."""
    return Terms(
        market=symbols.index(spec.symbol),
        is_sell=spec.side == "SELL",
        quantity_e8=e8(spec.quantity),
        price_e8=0 if spec.price is None else e8(spec.price),
    )


def limits(risk: RiskSettings) -> Limits:
    return Limits(
        exchange_cooldown_ns=risk.exchange_cooldown_s * 1_000_000_000,
        max_order_notional_e8=risk.max_order_notional,
        max_total_notional_e8=risk.max_total_notional,
        max_position_notional_e8=risk.max_position_notional,
        max_orders_per_second=risk.max_orders_per_second,
        max_orders_per_minute=risk.max_orders_per_minute,
        max_orders_per_hour=risk.max_orders_per_hour,
        max_orders_per_day=risk.max_orders_per_day,
        max_signal_age_ns=risk.max_signal_age_us * 1000,
        max_feed_silence_ns=risk.max_feed_silence_s * 1_000_000_000,
        max_price_age_ns=risk.max_price_age_ms * 1_000_000,
        price_band_bp=risk.price_band_bp,
        max_clock_offset_ms=risk.max_clock_offset_ms,
        max_unresolved=risk.max_unresolved,
        venue_headroom_percent=risk.venue_headroom_percent,
    )


def rearm_ns(rearm_ms: int, recv_window_ms: int) -> int:
    """The age at which an order that waits is renewed. It may be fired at twice that, and must be
    well inside the venue's window then."""
    return min(rearm_ms * 1_000_000, recv_window_ms * 1_000_000 // 4)


def account(config: Config, credentials: Credentials) -> str:
    """Whose orders a journal has: the exchange's address, and of the API key only a digest."""
    digest = hashlib.sha256(credentials.api_key.encode()).hexdigest()
    return f"{config.venue.host}:{config.venue.port} {digest[:ACCOUNT_DIGITS]}"


def preamble(
    config: Config, credentials: Credentials, book: Book, hands_off: str
) -> dict[str, Any]:
    """What the numbers in a journal mean, and who wrote it. `hands_off`: engine/hands_off.py."""
    return {
        "version": __version__,
        "pid": os.getpid(),
        "mode": "live" if config.engine.live else "dry-run",
        "venue": config.venue.url,
        "account": account(config, credentials),
        "hands_off": hands_off,
        "feeds": list(config.feed.endpoints),
        "exchanges": book.exchanges_by_id(),
        "markets": list(markets(config)),
        "rules": [rule.name for rule in config.rules],
        "orders": [asdict(order_spec(rule)) for rule in config.rules],
    }


def make_engine(
    config: Config,
    credentials: Credentials,
    book: Book,
    journal: Journal,
    latch: Latch,
    hands_off: str,
) -> Engine:
    """An engine that is set up but knows nothing of earlier runs yet. ConfigError for what only the
    address book or the host's name service can tell."""
    engine = Engine(book, _options(config), journal, preamble(config, credentials, book, hands_off))
    engine.set_limits(limits(config.risk))
    engine.use_latch(latch)
    for _ in markets(config):
        engine.add_market()
    if credentials.api_secret is not None:
        engine.set_key(credentials.api_secret)
    for rule in config.rules:
        _add_rule(engine, config, credentials, rule)
    if config.feed.source == "native":
        for endpoint in config.feed.endpoints:
            engine.add_feed(resolve_endpoint(endpoint, config.feed.sequence))
    return engine


def _options(config: Config) -> EngineOptions:
    return EngineOptions(
        live=config.engine.live,
        min_signal_sat=config.engine.min_signal_sat,
        sweep_inputs_min=config.engine.sweep_inputs_min,
        max_orders=config.risk.max_orders,
        cooldown_ns=config.risk.cooldown_s * 1_000_000_000,
        transport=config.engine.transport,
        cpu=config.engine.cpu,
        spin=config.engine.spin,
        rearm_ns=rearm_ns(config.engine.rearm_ms, config.venue.recv_window_ms),
    )


def _add_rule(engine: Engine, config: Config, credentials: Credentials, rule: RuleSettings) -> None:
    spec = order_spec(rule)
    template = binance.order_template(
        spec,
        credentials.api_key,
        config.venue.recv_window_ms,
        signed=credentials.api_secret is not None,
    )
    order = engine.add_order(template)
    engine.set_terms(order, terms(spec, markets(config)))
    try:
        engine.add_rule(
            Rule(
                kinds=rule.kinds,
                exchange=rule.exchange,
                min_net_sat=rule.min_sat,
                max_net_sat=rule.max_sat,
                order=order,
            )
        )
    except BookError as error:
        raise ConfigError(f"[[rule]] {rule.name!r} exchange: {error}") from error
