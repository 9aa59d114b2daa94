"""The risk gate: each limit through the engine, and all of them together against a plain model."""

from __future__ import annotations

import random
import shutil
import subprocess
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine._native import lib
from engine.core import Limits, Settlement
from engine.records import REFUSALS, Terms

from .native import CSRC, SANITIZED, TESTS
from .risk_model import E8, Candidate, Gate, Market, S

STEPS = 1000
EXAMPLES = 100
CODES = {name: number for number, name in REFUSALS.items()}
T0 = 10**6 * S

# ---- the gate beside a plain model ---------------------------------------------------------------


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tests/c/risk.c, which answers a script line by line."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc")
    binary = tmp_path_factory.mktemp("risk") / "risk"
    sources = [str(TESTS / "c" / "risk.c"), str(CSRC / "risk.c")]
    flags = ["-std=c11", "-D_GNU_SOURCE", f"-I{CSRC}", f"-I{TESTS / 'c'}", *SANITIZED]
    subprocess.run(["gcc", *flags, *sources, "-o", str(binary)], check=True)
    return binary


@dataclass
class Story:
    """A random life of a gate: what it is told and asked, and what the model says to it."""

    dice: random.Random
    lines: list[str] = field(default_factory=list)
    expected: list[int] = field(default_factory=list)
    open: list[Settlement] = field(default_factory=list)
    now: int = T0

    def __post_init__(self) -> None:
        self.unit = self.dice.choice([E8, E8, 3])  # of a quantity; small ones are rounded
        limits = self.limits()
        self.model = Gate(
            limits,
            max_orders=self.dice.choice([3, 50, 1000, 1000]),
            cooldown_ns=self.dice.choice([0, 1, S, 90 * S]),
            markets=[Market(), Market()],
        )
        numbers = (lib.HP_NO_LIMIT if value is None else value for value in astuple(limits))
        self.lines += [
            f"{self.model.max_orders} {self.model.cooldown_ns} {len(self.model.markets)}",
            " ".join(map(str, numbers)),
        ]

    def limits(self) -> Limits:
        dice, unit = self.dice, self.unit
        share = dice.choice([0.15, 0.4, 0.8])

        def one(*values: int) -> int | None:
            return dice.choice(values) if dice.random() < share else None

        return Limits(
            exchange_cooldown_ns=dice.choice([0, S, 100 * S]),
            max_order_notional_e8=one(100 * unit, 200 * unit, 300 * unit),
            max_total_notional_e8=one(500 * unit, 5000 * unit),
            max_position_notional_e8=one(0, 200 * unit, 900 * unit),
            max_orders_per_second=one(0, 1, 2, 5),
            max_orders_per_minute=one(1, 3, 20),
            max_orders_per_hour=one(1, 5, 40),
            max_orders_per_day=one(2, 10, 100),
            max_signal_age_ns=one(0, 10**6, S),
            max_price_age_ns=one(0, S, 600 * S),
            price_band_bp=one(0, 50, 500, 10_000),
            max_clock_offset_ms=one(0, 500),
            max_unresolved=one(0, 1, 4),
            venue_headroom_percent=dice.choice([0, 10, 33, 100]),
        )

    def tell(self, letter: str, *numbers: int, answer: int) -> None:
        self.lines.append(f"{letter} {' '.join(str(int(n)) for n in numbers)}")
        self.expected.append(answer)

    def pass_time(self) -> None:
        little, much = (0, 0, 1, 10**6, S - 1, S), (30 * S, 60 * S, 3600 * S, 86400 * S)
        self.now += self.dice.choice(little if self.dice.random() < 0.8 else much)

    # ---- steps ----------------------------------------------------------------------------------

    def order(self) -> None:
        dice, market = self.dice, self.dice.randrange(2)
        price = dice.choice([0, dice.randrange(95 * E8, 105 * E8), 100 * E8])
        quantity = dice.choice([dice.randrange(1, 3 * self.unit), self.unit])
        terms = Terms(quantity, price, market, dice.random() < 0.5)
        candidate = Candidate(
            now_ns=self.now,
            rx_ns=self.now - dice.choice([0, 0, 10**6, 10**6 + 1, S, S + 1]),
            terms=terms if dice.random() < 0.97 else None,
            rule=dice.choice([None, 0, 1, 63]),
            exchange=dice.randrange(3),
            ready=dice.random() < 0.97,
            journal=dice.random() < 0.97,
            enabled=dice.random() < 0.97,
            doubt=dice.choice([None] * 20 + ["in-block", "feed"]),
            reduces=dice.random() < 0.1,
            live=dice.random() < 0.95,
            orders=dice.choice([1, 1, 2]),
        )
        refusal = self.model.check(candidate)
        if refusal is None:
            self.model.count(candidate)
            if candidate.live and candidate.terms is not None:
                self.open.append(
                    Settlement(market, terms.is_sell, terms.quantity_e8, reduces=candidate.reduces)
                )
        asked = candidate.terms or replace(terms, quantity_e8=0, market=0)
        self.tell(
            "o",
            *(candidate.now_ns, candidate.rx_ns, asked.quantity_e8, asked.price_e8),
            *(asked.market, asked.is_sell, -1 if candidate.rule is None else candidate.rule),
            *(candidate.exchange, candidate.ready, candidate.journal, candidate.enabled),
            *(CODES[candidate.doubt] if candidate.doubt else 0, candidate.reduces, candidate.live),
            candidate.orders,
            answer=CODES[refusal] if refusal else lib.HP_ALLOWED,
        )

    def price(self) -> None:
        bid = self.dice.choice([self.dice.randrange(98 * E8, 102 * E8), 100 * E8, 0])
        ask = bid + self.dice.choice([0, 1, E8 // 2, 6 * E8, -1])
        numbers = (self.dice.randrange(3), bid, ask, self.now - self.dice.choice([0, S, -1]))
        self.answer("p", *numbers, self.now, taken=self.model.price(*numbers, self.now))

    def settle(self) -> None:
        if self.open and self.dice.random() < 0.9:
            ended = self.open.pop(self.dice.randrange(len(self.open)))
        else:  # nothing that was open
            ended = Settlement(self.dice.randrange(2), False, E8 << 20)
        amounts = [0, ended.quantity_e8, ended.quantity_e8 // 3, ended.quantity_e8 + 1]
        filled = self.dice.choice(amounts)
        ended = replace(ended, filled_e8=filled)
        taken = self.model.settle(ended)
        self.tell("s", *astuple(ended), answer=0 if taken else -34)

    def expose(self) -> None:
        quantity = self.dice.choice([self.unit, self.unit, self.unit, 0])
        order = Settlement(
            *(self.dice.randrange(2), self.dice.random() < 0.5, quantity),
            reduces=self.dice.random() < 0.2,
        )
        self.open.append(order)
        self.answer("e", *astuple(order), taken=self.model.expose(order))

    def past(self) -> None:
        t_ns = self.now - self.dice.choice([-5, 0, S, 50 * S, 3000 * S, 86400 * S])
        rule = self.dice.choice([None, 0, 1])
        exchange = self.dice.choice([None, 0, 1, 2])
        notional = self.dice.randrange(100 * self.unit)
        taken = self.model.past(t_ns, self.now, notional, rule, exchange)
        names = (-1 if rule is None else rule, lib.HP_NOBODY if exchange is None else exchange)
        self.answer("h", t_ns, self.now, notional, *names, taken=taken)

    def clock(self) -> None:
        offset = self.dice.choice([None, 0, 499, -500, 501])
        self.model.clock_ms = offset
        self.tell("c", -(1 << 63) if offset is None else offset, answer=0)

    def venue(self) -> None:
        window_ms = self.dice.choice([10_000, 86_400_000, 1, 0])
        numbers = (self.dice.randrange(4), window_ms)
        used = (self.dice.choice([0, 3, 20]), self.dice.randrange(20))
        taken = self.model.venue_limit(*numbers, *used, self.now)
        self.answer("v", *numbers, *used, self.now, taken=taken)

    def venue_clock(self) -> None:
        ahead_ns = self.dice.choice([0, 5 * S, -5 * S, 3600 * S])
        self.model.venue_clock(ahead_ns)
        self.tell("a", ahead_ns, answer=0)

    def pause(self) -> None:
        self.model.pause_until = self.now + self.dice.choice([0, 1, 30 * S])
        self.tell("u", self.model.pause_until, answer=0)

    def position(self) -> None:
        market = self.dice.randrange(2)
        position = self.dice.randrange(-4 * self.unit, 4 * self.unit)
        self.model.markets[market].position = position
        self.tell("q", market, position, answer=0)

    def tidy(self) -> None:
        self.tell("t", self.now, answer=0)

    def answer(self, letter: str, *numbers: int, taken: bool) -> None:
        self.tell(letter, *numbers, answer=0 if taken else -lib.HP_ECONFIG)

    def live(self, steps: int) -> None:
        seldom = (self.clock, self.venue, self.venue_clock, self.pause, self.position, self.tidy)
        before_the_run = (self.past, self.expose)
        for _ in range(self.dice.choice([0, 3, 30])):
            self.dice.choice(before_the_run)()
        often = (self.order,) * 8 + (self.price,) * 2 + (self.settle,) * 3
        share = self.dice.choice([0.01, 0.05, 0.3])
        for _ in range(steps):
            self.pass_time()
            self.dice.choice(seldom if self.dice.random() < share else often)()


@given(seed=st.integers(0, 2**32))
@settings(max_examples=EXAMPLES)
def test_the_gate_is_the_model(replay: Path, seed: int) -> None:
    story = Story(random.Random(seed))
    story.live(STEPS)
    done = subprocess.run(
        [str(replay), "replay"],
        input="\n".join(story.lines) + "\n",
        capture_output=True,
        text=True,
        check=True,
    )
    answers = list(map(int, done.stdout.split()))
    for number, (said, wanted) in enumerate(zip(answers, story.expected, strict=True)):
        step = story.lines[number + 2]
        assert said == wanted, f"step {number}: {step}: {REFUSALS.get(said, said)}"


def test_the_stories_meet_every_limit() -> None:
    """Or the test above would show little."""
    met = set()
    for seed in range(60):
        story = Story(random.Random(seed))
        story.live(STEPS)
        orders = (i for i, line in enumerate(story.lines[2:]) if line.startswith("o"))
        met |= {REFUSALS.get(story.expected[i]) for i in orders}
    assert met == {None, *REFUSALS.values()} - {"killed", "duplicate"}
