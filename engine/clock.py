"""The venue's clock, from its answers to `time` on a session, and steps of our own. Nothing here
reads a clock but read_clocks(): time is an argument."""

from __future__ import annotations

import time
from dataclasses import dataclass

from engine.errors import VenueError
from engine.venues import binance

BURST = 6  # samples before the clock is known
EVERY_NS = 5_000_000_000
# adjtime(3) slews by 500 ppm at most, and a quartz is within 100.
DRIFT_PPM = 500
# A venue tells whole milliseconds, may round them, and has machines that differ a little.
GRANULARITY_NS = 1_000_000
SLACK_NS = 3_000_000
UNCERTAINTY_MS_MOST = 250  # the venue refuses what is 1000 ms early ("Timing security")
OFFSET_NS_MOST = 86_400 * 1_000_000_000  # HP_ECONFIG beyond; a venue that is a day off is not one
STEP_NS = 20_000_000
_READS = 3


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment on two clocks: CLOCK_MONOTONIC and, since the epoch, CLOCK_REALTIME."""

    mono_ns: int
    epoch_ns: int

    @property
    def apart_ns(self) -> int:
        return self.epoch_ns - self.mono_ns

    def offset_ms(self, ahead_ns: int) -> int:
        """What CLOCK_REALTIME lacks to a clock that is so far ahead of CLOCK_MONOTONIC."""
        return round((ahead_ns - self.apart_ns) / 1e6)


def read_clocks() -> Instant:
    """Now. Of a few readings the quickest: between two clocks a thread may lose its turn."""
    best: tuple[int, Instant] | None = None
    for _ in range(_READS):
        before = time.monotonic_ns()
        epoch = time.time_ns()
        gap = time.monotonic_ns() - before
        if best is None or gap < best[0]:
            best = gap, Instant(before + gap // 2, epoch)
    assert best is not None
    return best[1]


class StepWatch:
    """Notices that CLOCK_REALTIME was set, or that the machine slept: the one thing that moves it
    against CLOCK_MONOTONIC, since what slews one of them slews both."""

    def __init__(self) -> None:
        self._apart_ns: int | None = None

    def step_ns(self, now: Instant) -> int:
        """By how much it was moved since the last call; 0 below STEP_NS."""
        step = 0 if self._apart_ns is None else now.apart_ns - self._apart_ns
        if self._apart_ns is not None and abs(step) < STEP_NS:
            return 0
        self._apart_ns = now.apart_ns
        return step


@dataclass(frozen=True, slots=True)
class _Bounds:
    """At CLOCK_MONOTONIC `at_ns` the venue's clock minus that one was within these."""

    low_ns: int
    high_ns: int
    at_ns: int

    def later(self, at_ns: int) -> _Bounds:
        drift = max(0, at_ns - self.at_ns) * DRIFT_PPM // 1_000_000
        return _Bounds(self.low_ns - drift, self.high_ns + drift, at_ns)

    @property
    def middle_ns(self) -> int:
        return (self.low_ns + self.high_ns) // 2


class VenueClock:
    """The clock of one session's venue, by the minimum round trip.

    The venue stamped its answer at some moment between our sending and receiving, so a sample
    bounds its clock by an interval as wide as the round trip. Intervals widen with age by
    DRIFT_PPM and all hold at once: their intersection is what is known, never wider than the
    interval of the quickest answer, and samples that have grown old count for nothing by
    themselves. An empty intersection means that one of the two clocks was moved."""

    def __init__(self, uncertainty_ms_most: int = UNCERTAINTY_MS_MOST) -> None:
        self._most_ns = uncertainty_ms_most * 1_000_000
        self._bounds: _Bounds | None = None
        self._samples = 0
        self._asked: tuple[str, int] | None = None  # (request id, sent ns)
        self._void = False  # what it is answered says nothing about now
        self._moved_ns: int | None = None  # when an answer contradicted those before
        self._next_ns = 0

    @property
    def measured(self) -> bool:
        """There were enough samples since the beginning, or since forget()."""
        return self._samples >= BURST

    def due(self, now_ns: int) -> bool:
        """A request should leave now; one at a time."""
        return self._asked is None and now_ns >= self._next_ns

    def silent_ns(self, now_ns: int) -> int:
        """How long a request has been waiting for its answer; 0 when none is."""
        return 0 if self._asked is None else now_ns - self._asked[1]

    def ask(self, request_id: str, now_ns: int) -> bytes:
        """The request, which has to be sent at once."""
        self._asked = request_id, now_ns
        self._void = False
        return binance.time_request(request_id)

    def asked(self, request_id: str) -> bool:
        return self._asked is not None and self._asked[0] == request_id

    def answer(self, reply: binance.Reply, t_ns: int, now: Instant) -> str | None:
        """The reply to what asked() knows, taken off the wire at t_ns (CLOCK_MONOTONIC). A sentence
        when it contradicts the answers before, which are forgotten then; VenueError when it is no
        time that can be, which is asked again no sooner than a known clock is."""
        assert self._asked is not None
        sent_ns = self._asked[1]
        self._asked = None
        self._next_ns = t_ns + EVERY_NS
        server_ns = _server_ms(reply, now) * 1_000_000
        if self._void:
            self._next_ns = t_ns
            return None
        sample = _Bounds(
            server_ns - SLACK_NS - t_ns, server_ns + GRANULARITY_NS + SLACK_NS - sent_ns, t_ns
        )
        known = self._bounds.later(t_ns) if self._bounds else sample
        low, high = max(known.low_ns, sample.low_ns), min(known.high_ns, sample.high_ns)
        if low > high:
            moved_ns = sample.middle_ns - known.middle_ns
            self.forget()
            self._take(sample)
            if self._moved_ns is not None and t_ns - self._moved_ns < EVERY_NS:
                self._next_ns = t_ns + EVERY_NS  # it does so all the time
            self._moved_ns = t_ns
            return (
                f"the venue's clock moved by {moved_ns // 1_000_000:+d} ms against ours: no "
                "order is sent until it is measured anew"
            )
        self._take(_Bounds(low, high, t_ns))
        return None

    def _take(self, bounds: _Bounds) -> None:
        self._bounds = bounds
        self._samples += 1
        self._next_ns = bounds.at_ns + (EVERY_NS if self.measured else 0)

    def forget(self) -> None:
        """Nothing that was measured, or is being measured, says anything any more."""
        self._bounds = None
        self._samples = 0
        self._next_ns = 0
        self._void = True

    def ahead_ns(self, mono_ns: int) -> int | None:
        """The venue's clock minus CLOCK_MONOTONIC; None while it is not known well enough."""
        if self._bounds is None or not self.measured:
            return None
        bounds = self._bounds.later(mono_ns)
        if bounds.high_ns - bounds.low_ns > 2 * self._most_ns:
            return None
        return bounds.middle_ns

    def offset_ms(self, now: Instant) -> int | None:
        """The venue's clock minus CLOCK_REALTIME; None as with ahead_ns()."""
        ahead_ns = self.ahead_ns(now.mono_ns)
        return None if ahead_ns is None else now.offset_ms(ahead_ns)


def _server_ms(reply: binance.Reply, now: Instant) -> int:
    server_ms = reply.result.get("serverTime")
    if reply.status != 200 or type(server_ms) is not int:
        raise VenueError(
            f"the venue does not tell its time ({reply.code}: {reply.message}): check that "
            "venue.url is the exchange's WebSocket API"
        )
    if abs(server_ms * 1_000_000 - now.epoch_ns) > OFFSET_NS_MOST:
        raise VenueError(
            f"the venue's clock ({str(server_ms)[:30]} ms) and ours ({now.epoch_ns // 1_000_000} "
            "ms) are more than a day apart: correct this machine's clock, or check venue.url"
        )
    return server_ms
