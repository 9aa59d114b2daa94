"""One of the two sessions with the venue, as far as it is known. What is done with it is decided in
engine/connections.py."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from engine.clock import VenueClock
from engine.errors import VenueError

NS = 1_000_000_000


class Search(Protocol):
    """engine.addresses.Search."""

    def take(self) -> list[str] | None: ...


@dataclass(frozen=True, slots=True)
class Timing:
    """In seconds; what the venue demands is cited from web-socket-api.md."""

    answer: float = 10.0  # for a request of ours, and to open; "timeout of 10 seconds"
    silent: float = 5.0  # a `time` request without an answer for so long: a missed heartbeat
    dead: float = 60.0  # for so long: nobody is there
    renew: float = 23 * 3600.0  # "only valid for 24 hours"
    renew_jitter: float = 1800.0
    apart: float = 6 * 3600.0  # the renewals of the two, at least
    second: float = 1.0  # the second session opens so long after the first
    retry_first: float = 1.0
    retry_most: float = 60.0
    settled: float = 60.0  # ready for so long: the next retry is a first one again
    connects_window: float = 300.0  # "300 connections per attempt every 5 minutes"
    connects_most: int = 100
    drain: float = 11.0  # a session that is left may answer for so long what it was asked
    drain_dying: float = 1.0
    filters: float = 3600.0  # exchangeInfo is asked anew
    counts: float = 60.0  # account.rateLimits.orders is


class State(Enum):
    """IDLE waits for its time to connect; CONNECTING searches an address and opens; PREPARING is
    open and held; READY takes orders; LEAVING takes none any more and will be closed."""

    IDLE = "idle"
    CONNECTING = "connecting"
    PREPARING = "preparing"
    READY = "ready"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True)
class Parting:
    """Why a session shall be left; `drain_s` is what it then is given for its last answers."""

    words: str
    drain_s: float
    is_silence: bool = False


@dataclass(slots=True)
class Link:
    """One session, as far as it is known. Times are CLOCK_MONOTONIC ns."""

    number: int
    state: State = State.IDLE
    since_ns: int = 0  # it is in this state
    clock: VenueClock = field(default_factory=VenueClock)
    search: Search | None = None
    candidates: list[str] = field(default_factory=list)  # addresses not tried yet
    steps: deque[str] = field(default_factory=deque)  # methods to ask before it is ready
    asked: dict[str, tuple[str, int]] = field(default_factory=dict)  # id: (method, sent)
    parting: Parting | None = None
    failure: VenueError | None = None  # why it was given up
    complaint: str = ""  # the last one
    close_ns: int | None = None  # while LEAVING: when to close; None: it has been told to
    closed_ns: int = 0  # when it was told to
    retry_ns: int = 0
    retry_s: float = 0.0
    renew_ns: int = 0

    def enter(self, state: State, now_ns: int) -> None:
        self.state, self.since_ns = state, now_ns

    def for_s(self, now_ns: int) -> float:
        """How long it has been in its state."""
        return (now_ns - self.since_ns) / NS

    def start_anew(self) -> None:
        """What was of the last connection is not of the next."""
        self.clock = VenueClock()
        self.steps.clear()
        self.asked.clear()
        self.parting = None
        self.failure = None
        self.close_ns = None
