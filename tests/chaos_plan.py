"""What one chaos run is going to do: drawn from its seed alone, pure data."""

from __future__ import annotations

import random
from dataclasses import dataclass
from decimal import Decimal

from builders import Input, Output, coin, transaction
from peers import BTC, wallet

EXCHANGES = ("kraken", "okx", "gemini")
LAST_PRICE = {"BTCUSDT": Decimal("60000"), "ETHUSDT": Decimal("3000")}
QUANTITY = {"BTCUSDT": Decimal("0.001"), "ETHUSDT": Decimal("0.02")}  # 60 USDT each
STEP = {"BTCUSDT": Decimal("0.00001"), "ETHUSDT": Decimal("0.0001")}  # of a quantity
COMMISSION = Decimal("0.001")  # of the simulated exchange, out of what is bought
DAY_S = 86_400.0
MANY_COINS = 12  # more than an intent lists (HP_INTENT_OUTPOINTS)


@dataclass(frozen=True)
class Payment:
    """A transaction that spends `coins` and pays each of `exchanges`; `version` makes another txid
    of what is the same otherwise."""

    coins: tuple[int, ...]
    exchanges: tuple[str, ...]
    value_sat: int
    version: int = 1

    def raw(self) -> bytes:
        outputs = [Output(self.value_sat, wallet(exchange)) for exchange in self.exchanges]
        return transaction(
            [Input(coin(number)) for number in self.coins],
            [*outputs, Output(BTC, wallet("somebody"))],
            self.version,
        )


@dataclass(frozen=True)
class RulePlan:
    """A [[rule]]: an order for whatever is paid to `exchange`."""

    exchange: str
    symbol: str
    side: str
    type: str
    price: Decimal | None
    time_in_force: str | None
    exits: tuple[tuple[str, int], ...] = ()

    @property
    def quantity(self) -> Decimal:
        return QUANTITY[self.symbol]


@dataclass(frozen=True)
class Moment:
    """Something that happens `at_s` after the engine was ready. `payments` are numbers of the
    plan's; `value` and `words` say how much and what, where the act has such."""

    at_s: float
    act: str
    payments: tuple[int, ...] = ()
    value: float = 0
    words: str = ""


@dataclass(frozen=True)
class Life:
    """The engine from one start to its end: killed when the venue has taken so many orders of it,
    or after `length_s`; or told to end then. An `impatient` one is killed soon after its start,
    ready or not. `faults` are the venue's, with their chances: from the start if it is a
    `rough_start`, which few starts survive, else from when the engine is ready. `skew_ms` is what
    the venue's clock is ahead from the start."""

    moments: tuple[Moment, ...]
    faults: tuple[str, ...]
    rough_start: bool
    length_s: float
    kill: bool
    kill_at_order: int | None = None
    impatient: bool = False
    reset_latch: bool = False
    skew_ms: int = 0


@dataclass(frozen=True)
class Plan:
    """`logs_on` with an Ed25519 key, else each order is signed by HMAC. `lifetime_s` is the venue's
    24 hours. `limits` is the table [risk]."""

    seed: int
    source: str
    transport: str
    logs_on: bool
    lifetime_s: float
    ping_interval_s: float
    market_moves: bool
    rules: tuple[RulePlan, ...]
    limits: dict[str, int | str]
    payments: tuple[Payment, ...]
    lives: tuple[Life, ...]
    probes: tuple[int, ...]  # payments of the last life, in which nothing goes wrong


def draw(seed: int) -> Plan:
    """The same seed, the same plan."""
    chance = random.Random(seed)
    rules = tuple(_rule(chance, exchange) for exchange in EXCHANGES)
    limits = _limits(chance)
    payments: list[Payment] = []
    lives = tuple(_life(chance, payments) for _ in range(chance.randint(1, 3)))
    probes = tuple(_fresh(chance, payments) for _ in range(3))
    return Plan(
        seed=seed,
        source=chance.choice(("native", "native", "native", "zmq")),
        transport=chance.choice(("io_uring", "syscall")),
        logs_on=chance.random() < 0.3,
        lifetime_s=chance.choice((DAY_S, DAY_S, round(chance.uniform(0.8, 3), 3))),
        ping_interval_s=chance.choice((0.1, 1, 20)),
        market_moves=chance.random() < 0.3,
        rules=rules,
        limits=limits,
        payments=tuple(payments),
        lives=lives,
        probes=probes,
    )


def _rule(chance: random.Random, exchange: str) -> RulePlan:
    """One that fills at once, one that cannot, or one that rests. Whatever has exits has a time
    stop among them."""
    symbol = chance.choice(tuple(LAST_PRICE))
    side = chance.choice(("BUY", "SELL"))
    last = LAST_PRICE[symbol]
    better, worse = (last * Decimal("0.995"), last * Decimal("1.005"))[
        :: 1 if side == "SELL" else -1
    ]
    kind, price, time_in_force = chance.choice(
        (
            ("MARKET", None, None),
            ("MARKET", None, None),
            ("LIMIT", better, "IOC"),
            ("LIMIT", better, "GTC"),
            ("LIMIT", worse, "GTC"),
            ("LIMIT", worse, "FOK"),
        )
    )
    return RulePlan(exchange, symbol, side, kind, price, time_in_force, _exits(chance))


def _exits(chance: random.Random) -> tuple[tuple[str, int], ...]:
    return chance.choice(
        (
            (),
            (("exit_after_s", 1),),
            (("exit_after_s", 1), ("take_profit_bp", 50)),
            (("exit_after_s", 2), ("take_profit_bp", 40), ("stop_loss_bp", 40)),
        )
    )


def _limits(chance: random.Random) -> dict[str, int | str]:
    """Mostly one or two that bite; what is not drawn is out of the way."""
    limits: dict[str, int | str] = {
        "max_orders": 100_000,
        "cooldown_s": 0,
        "exchange_cooldown_s": 0,
        "max_orders_per_second": 1_000,
        "max_orders_per_minute": 10_000,
        "max_orders_per_hour": 10_000,
        "max_orders_per_day": 10_000,
        "max_order_notional": "100",
        "max_total_notional": "10000000",
        "max_position_notional": "10000000",
        "max_unresolved": 1_000,
        "price_band_bp": 1_000,
        "max_price_age_ms": 60_000,
        "max_clock_offset_ms": 1_000,
        "max_signal_age_us": 60_000_000,
    }
    tight: dict[str, int | str] = {
        "max_orders": chance.randint(1, 12),
        "cooldown_s": chance.randint(1, 2),
        "exchange_cooldown_s": chance.randint(1, 2),
        "max_orders_per_second": chance.randint(1, 6),
        "max_orders_per_minute": chance.randint(5, 30),
        "max_orders_per_day": chance.randint(5, 30),
        "max_total_notional": str(60 * chance.randint(3, 30)),
        "max_position_notional": str(60 * chance.randint(1, 8)),
        "max_unresolved": chance.randint(1, 8),
        "price_band_bp": chance.randint(20, 70),
        "max_price_age_ms": chance.randint(200, 1_500),
        "max_clock_offset_ms": chance.choice((100, 300)),
    }
    for name in chance.sample(sorted(tight), chance.choice((0, 0, 1, 1, 2))):
        limits[name] = tight[name]
    return limits


# ---- transactions --------------------------------------------------------------------------------


def _fresh(chance: random.Random, payments: list[Payment]) -> int:
    """One that spends what no other does; its number."""
    first = sum(len(payment.coins) for payment in payments)
    many = MANY_COINS if chance.random() < 0.15 else chance.randint(1, 3)
    exchanges = tuple(chance.sample(EXCHANGES, 2 if chance.random() < 0.1 else 1))
    coins = tuple(range(first, first + many))
    payments.append(Payment(coins, exchanges, chance.randint(5 * BTC, 500 * BTC)))
    return len(payments) - 1


def _replacement(chance: random.Random, payments: list[Payment]) -> int:
    """One that spends a coin of an earlier one, perhaps among others."""
    old = chance.choice(payments)
    number = _fresh(chance, payments)
    new = payments[number]
    coins = (*new.coins, chance.choice(old.coins)) if chance.random() < 0.5 else old.coins
    payments[number] = Payment(coins, old.exchanges, old.value_sat + BTC, version=2)
    return number


def _published(chance: random.Random, payments: list[Payment]) -> int:
    dice = chance.random()
    if not payments or dice < 0.6:
        return _fresh(chance, payments)
    if dice < 0.8:
        return _replacement(chance, payments)
    return chance.randrange(len(payments))


# ---- lives ---------------------------------------------------------------------------------------

# What can happen, and how often beside the others; chaos_run.py says what it is. The names of
# faults are engine/sim/faults.py's.
NODE_ACTS = {"reorder": 3, "gap": 3, "block": 3, "node-restart": 2, "garbage": 2}
VENUE_ACTS = {"fault": 9, "drop-all": 3, "price": 3, "skew": 2, "shut-down": 2, "refuse": 2}
ENGINE_ACTS = {"pause": 4, "latch": 1, "signal": 1}
FAULTS = (
    *("drop-before", "drop-after", "status-503", "error-1006", "error-1007", "429:300ms"),
    *("418:1s", "delay:300ms", "stop-reading", "garbage", "not-json", "huge", "shutdown:300ms"),
    *("reject", "lose-event", "duplicate-event", "reorder-event", "split", "coalesce", "no-pong"),
    *("lose-quote", "lose-quote"),
    *("late:3s", "lost-1007"),
)
REFUSALS = (429, 418, 500, 503)
SKEWS_MS = (-2_000, -400, 30, 700, 5_000)


def _life(chance: random.Random, payments: list[Payment]) -> Life:
    length_s = round(chance.uniform(0.5, 1.5), 3)
    acts = ["publish"] * chance.randint(4, 16)
    for names, most in ((NODE_ACTS, 2), (VENUE_ACTS, 5), (ENGINE_ACTS, 1)):
        acts += chance.choices(tuple(names), tuple(names.values()), k=chance.randint(0, most))
    moments = [_moment(chance, payments, act, length_s) for act in acts]
    kill = chance.random() < 0.75
    return Life(
        moments=tuple(sorted(moments, key=lambda moment: moment.at_s)),
        faults=_faults(chance),
        rough_start=chance.random() < 0.15,
        length_s=length_s,
        kill=kill,
        kill_at_order=chance.randint(1, 6) if kill and chance.random() < 0.6 else None,
        impatient=chance.random() < 0.1,
        reset_latch=chance.random() < 0.5,
        skew_ms=chance.choice(SKEWS_MS) if chance.random() < 0.2 else 0,
    )


def _faults(chance: random.Random) -> tuple[str, ...]:
    """With their chances, during a whole life; a quarter of the lives have none."""
    names = set(chance.sample(FAULTS, chance.choice((0, 1, 2, 3))))
    return tuple(
        spec if spec == "lose-quote" else _with_chance(spec, chance.choice((0.03, 0.1, 0.3)))
        for spec in sorted(names)
    )


def _with_chance(spec: str, probability: float) -> str:
    name, colon, duration = spec.partition(":")
    return f"{name}={probability}{colon}{duration}"


def _moment(chance: random.Random, payments: list[Payment], act: str, length_s: float) -> Moment:
    at_s = round(chance.uniform(0, length_s), 4)
    match act:
        case "publish" | "reorder" | "block":
            several = range(chance.randint(1, 5))
            numbers = tuple(_published(chance, payments) for _ in several)
            return Moment(at_s, act, payments=numbers)
        case "gap":
            return Moment(at_s, act, value=chance.randint(1, 2_000))
        case "fault":
            return Moment(at_s, act, words=chance.choice(FAULTS))
        case "price":
            symbol = chance.choice(tuple(LAST_PRICE))
            return Moment(at_s, act, value=chance.randint(-60, 60), words=symbol)
        case "skew":
            return Moment(at_s, act, value=chance.choice(SKEWS_MS))
        case "refuse":
            return Moment(at_s, act, value=chance.choice(REFUSALS))
        case "pause":
            return Moment(at_s, act, value=round(chance.uniform(0.02, 0.6), 3))
        case _:
            return Moment(at_s, act)
