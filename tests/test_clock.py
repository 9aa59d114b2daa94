"""The venue's clock, with simulated clocks on both sides."""

from __future__ import annotations

import bisect
import json
import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.clock import (
    BURST,
    DRIFT_PPM,
    EVERY_NS,
    SLACK_NS,
    STEP_NS,
    Instant,
    StepWatch,
    VenueClock,
    read_clocks,
)
from engine.errors import VenueError
from engine.venues.binance import Reply, parse_reply

MS = 1_000_000
EPOCH_NS = 1_790_000_000_000 * MS


@dataclass
class World:
    """True time, CLOCK_REALTIME `skew_ns` off the venue's, which runs `drift_ppm` too fast."""

    skew_ns: int = 0
    drift_ppm: float = 0.0
    now_ns: int = 7_000 * MS
    clock: VenueClock = field(default_factory=VenueClock)
    asked: int = 0

    def instant(self) -> Instant:
        return Instant(self.now_ns, self.now_ns + EPOCH_NS)

    def venue_ns(self) -> int:
        return EPOCH_NS + self.now_ns + self.skew_ns + int(self.now_ns * self.drift_ppm / 1e6)

    def offset_ms(self) -> float:
        """The truth."""
        return (self.venue_ns() - self.now_ns - EPOCH_NS) / MS

    def ask(self, there_ns: int, back_ns: int, stamp: object = None) -> str | None:
        """One request and its answer."""
        self.asked += 1
        request = json.loads(self.clock.ask(f"time-{self.asked}", self.now_ns))
        assert request == {"id": f"time-{self.asked}", "method": "time"}
        self.now_ns += there_ns
        server_ms = self.venue_ns() // MS if stamp is None else stamp
        self.now_ns += back_ns
        answer = {"id": request["id"], "status": 200, "result": {"serverTime": server_ms}}
        reply = parse_reply(json.dumps(answer).encode())
        assert reply is not None
        assert self.clock.asked(reply.id)
        return self.clock.answer(reply, self.now_ns, self.instant())

    def burst(self, there_ns: int = MS, back_ns: int = MS) -> None:
        for _ in range(BURST):
            assert self.ask(there_ns, back_ns) is None

    def wait(self, ns: int) -> None:
        self.now_ns += ns


def test_unknown_until_there_are_enough_samples() -> None:
    world = World(skew_ns=250 * MS)
    for _ in range(BURST - 1):
        assert world.ask(MS, MS) is None
        assert world.clock.offset_ms(world.instant()) is None
    world.ask(MS, MS)
    assert world.clock.offset_ms(world.instant()) in (249, 250, 251)


delays = st.integers(0, 400 * MS)


Exchanges = list[tuple[int, int, int]]  # there, back, and the pause after it


def error_ms(world: World, exchanges: Exchanges) -> float | None:
    """How wrong it is in the end; None when it says that it does not know."""
    for there_ns, back_ns, pause_ns in exchanges:
        assert world.ask(there_ns, back_ns) is None
        world.wait(pause_ns)
    offset_ms = world.clock.offset_ms(world.instant())
    return None if offset_ms is None else abs(offset_ms - world.offset_ms())


@given(
    skew_ms=st.integers(-80_000_000, 80_000_000),
    drift_ppm=st.floats(-DRIFT_PPM, DRIFT_PPM),
    exchanges=st.lists(st.tuples(delays, delays, st.integers(0, 600_000 * MS)), min_size=BURST),
)
def test_the_truth_is_within_the_uncertainty(
    skew_ms: int, drift_ppm: float, exchanges: Exchanges
) -> None:
    """However long and lopsided the delays, however the clocks drift within the bound: the least
    uncertainty that it claims is no less than its error."""

    def error_at(most_ms: int) -> float | None:
        return error_ms(World(skew_ms * MS, drift_ppm, clock=VenueClock(most_ms)), exchanges)

    least = bisect.bisect_left(range(1_000), True, key=lambda most: error_at(most) is not None)
    error = error_at(least)
    assert error is not None
    assert error <= least + 0.51


@given(exchanges=st.lists(st.tuples(delays, delays), min_size=BURST))
def test_the_shortest_round_trip_bounds_the_uncertainty(exchanges: list[tuple[int, int]]) -> None:
    best_ms = min(there + back for there, back in exchanges) / 2 / MS
    age_ms = sum(there + back for there, back in exchanges) / MS
    uncertainty_ms = best_ms + 0.5 + SLACK_NS / MS + age_ms * DRIFT_PPM / 1e6
    world = World(clock=VenueClock(math.ceil(uncertainty_ms + 0.01)))
    for there_ns, back_ns in exchanges:
        world.ask(there_ns, back_ns)
    assert world.clock.offset_ms(world.instant()) is not None


def test_one_quick_answer_outweighs_many_slow_ones() -> None:
    world = World(skew_ns=-40 * MS)
    for _ in range(BURST):
        world.ask(300 * MS, 0)  # by itself this looks like 150 ms more
    world.ask(MS // 2, MS // 2)
    offset_ms = world.clock.offset_ms(world.instant())
    assert offset_ms is not None
    assert abs(offset_ms + 40) <= 2


def test_uncertainty_grows_until_it_is_too_much() -> None:
    world = World(clock=VenueClock(uncertainty_ms_most=50))
    world.burst()
    world.wait(90_000 * MS)  # 45 ms at 500 ppm
    assert world.clock.offset_ms(world.instant()) is not None
    world.wait(20_000 * MS)
    assert world.clock.offset_ms(world.instant()) is None
    world.ask(MS, MS)
    assert world.clock.offset_ms(world.instant()) is not None


def test_a_link_too_slow_to_know_the_time_by() -> None:
    world = World(clock=VenueClock(uncertainty_ms_most=250))
    world.burst(400 * MS, 400 * MS)
    assert world.clock.measured
    assert world.clock.offset_ms(world.instant()) is None


def test_a_clock_that_drifts_beyond_the_bound_is_noticed() -> None:
    world = World(drift_ppm=5 * DRIFT_PPM)
    world.burst()
    alarms = []
    for _ in range(20):
        world.wait(EVERY_NS)
        alarms.append(world.ask(MS, MS))
    assert any(alarms)


@pytest.mark.parametrize("jump_ms", [-300, -20, 20, 300])
def test_a_venue_that_sets_its_clock_is_measured_anew(jump_ms: int) -> None:
    world = World()
    world.burst()
    world.skew_ns += jump_ms * MS
    alarm = world.ask(MS, MS)
    assert alarm is not None
    assert "the venue's clock moved by" in alarm
    assert world.clock.offset_ms(world.instant()) is None
    assert world.clock.due(world.now_ns)
    world.burst()
    offset_ms = world.clock.offset_ms(world.instant())
    assert offset_ms is not None
    assert abs(offset_ms - jump_ms) <= 2


def test_what_was_forgotten_is_not_answered_later() -> None:
    """The request was under way when the machine slept."""
    world = World()
    world.burst()
    request = json.loads(world.clock.ask("time-x", world.now_ns))
    world.clock.forget()
    reply = Reply(request["id"], 200, {"serverTime": (EPOCH_NS + world.now_ns) // MS + 5_000})
    assert world.clock.answer(reply, world.now_ns, world.instant()) is None
    for _ in range(BURST - 1):
        world.ask(MS, MS)
    assert world.clock.offset_ms(world.instant()) is None  # that was no sample
    world.ask(MS, MS)
    assert world.clock.offset_ms(world.instant()) in (-1, 0, 1)


def test_one_request_at_a_time_and_a_burst_at_first() -> None:
    world = World()
    for _ in range(BURST):
        assert world.clock.due(world.now_ns)
        world.ask(MS, MS)
    assert not world.clock.due(world.now_ns + EVERY_NS - 1)
    assert world.clock.due(world.now_ns + EVERY_NS)
    world.clock.ask("time-x", world.now_ns)
    assert not world.clock.due(world.now_ns + 10 * EVERY_NS)
    assert world.clock.silent_ns(world.now_ns + 3 * MS) == 3 * MS


@pytest.mark.parametrize("stamp", ["1", 1.5, True, [], 10**30, -1, 0, EPOCH_NS])
def test_what_is_no_time_is_refused(stamp: object) -> None:
    with pytest.raises(VenueError, match="check"):
        World().ask(MS, MS, stamp)


def test_a_refusal_is_no_time() -> None:
    world = World()
    world.clock.ask("time-1", world.now_ns)
    with pytest.raises(VenueError, match="-1003: too much"):
        world.clock.answer(
            Reply("time-1", 429, {}, -1003, "too much"), world.now_ns, world.instant()
        )
    assert world.clock.silent_ns(world.now_ns) == 0
    assert not world.clock.due(world.now_ns + EVERY_NS - 1)
    assert world.clock.due(world.now_ns + EVERY_NS)


def test_a_venue_that_sets_its_clock_again_and_again_is_not_asked_at_once_each_time() -> None:
    world = World()
    world.burst()
    for jump_ms in (300, -300):
        world.skew_ns += jump_ms * MS
        assert world.ask(MS, MS) is not None
    assert not world.clock.due(world.now_ns + EVERY_NS - 1)
    assert world.clock.due(world.now_ns + EVERY_NS)


# ---- our own clock -------------------------------------------------------------------------------


@pytest.mark.parametrize("step_ns", [-3_600_000 * MS, -STEP_NS, STEP_NS, 3_600_000 * MS])
def test_a_step_is_told_once(step_ns: int) -> None:
    watch = StepWatch()
    assert watch.step_ns(Instant(0, EPOCH_NS)) == 0
    assert watch.step_ns(Instant(MS, EPOCH_NS + MS)) == 0
    assert watch.step_ns(Instant(2 * MS, EPOCH_NS + 2 * MS + step_ns)) == step_ns
    assert watch.step_ns(Instant(3 * MS, EPOCH_NS + 3 * MS + step_ns)) == 0


def test_small_steps_add_up() -> None:
    watch = StepWatch()
    steps = [watch.step_ns(Instant(n, EPOCH_NS + n + n * STEP_NS // 3)) for n in range(7)]
    assert [step != 0 for step in steps] == [False, False, False, True, False, False, True]


def test_a_small_step_moves_the_offset_at_once() -> None:
    world = World()
    world.burst()
    now = world.instant()
    before = world.clock.offset_ms(now)
    after = world.clock.offset_ms(Instant(now.mono_ns, now.epoch_ns + 15 * MS))
    assert before is not None
    assert after is not None
    assert abs(after - before + 15) <= 1


def test_both_clocks_are_read_together() -> None:
    apart = [(now := read_clocks()).epoch_ns - now.mono_ns for _ in range(20)]
    assert max(apart) - min(apart) < STEP_NS
