"""Simulated time for engine.connections: World is the venue, the network, the hot thread and the
clocks."""

from __future__ import annotations

import heapq
import itertools
import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.clock import Instant
from engine.connections import Links
from engine.credentials import Credentials
from engine.errors import VenueError
from engine.link import NS, Timing
from engine.venues.binance import parse_reply
from engine.venues.binance_filters import Filters
from engine.venues.binance_limits import RateLimits, VenueLimit
from engine.venues.binance_session import SessionRequests

MS = 1_000_000
EPOCH_NS = 1_790_000_000_000 * MS
URL = "wss://venue.example/ws-api/v3"
HMAC = Credentials("key", api_secret="secret")
EXCHANGE_INFO = {
    "rateLimits": [
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000},
        {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 50},
        {"rateLimitType": "CONNECTIONS", "interval": "MINUTE", "intervalNum": 5, "limit": 300},
    ],
    "symbols": [
        {
            "symbol": "BTCUSDT",
            "status": "TRADING",
            "baseAsset": "BTC",
            "baseAssetPrecision": 8,
            "quoteAsset": "USDT",
            "quoteAssetPrecision": 8,
            "orderTypes": ["LIMIT", "MARKET"],
            "ocoAllowed": True,
            "filters": [],
        }
    ],
}


@dataclass
class Wire:
    """One session as the hot thread has it."""

    opening: bool = False
    open: bool = False
    held: bool = True
    silent: bool = False  # TCP believes in it, but nothing comes any more
    useless: bool = False  # the venue has ended it in words
    opened_ns: int = 0
    life: int = 0  # what belongs to an earlier connection is not delivered
    address: str = ""

    @property
    def armed(self) -> bool:
        return self.open and not self.held


@dataclass
class World:
    """Times are CLOCK_MONOTONIC ns. `refuse` answers a method with an error; `closed_ports` are
    addresses where nobody is."""

    credentials: Credentials = HMAC
    live: bool = True
    timing: Timing = field(default_factory=Timing)
    seed: int = 1
    tick_s: float = 0.01
    offset_ms: int = 40
    addresses: list[str] = field(default_factory=lambda: ["10.0.0.1"])
    unresolved: VenueError | None = None
    closed_ports: set[str] = field(default_factory=set)
    open_failure: tuple[str, int] = ("connecting to venue.example: refused", 111)
    refuse: dict[str, dict[str, Any]] = field(default_factory=dict)
    mute: set[str] = field(default_factory=set)  # methods that get no answer
    round_trip_ns: int = 4 * MS
    now_ns: int = 50 * NS
    epoch_step_ns: int = 0
    accepts: bool = True

    def __post_init__(self) -> None:
        self.wires = [Wire(), Wire()]
        self.connects: list[tuple[float, int, str]] = []  # (seconds since the start, session, to)
        self.asked: list[tuple[int, str]] = []
        self.preferred: int | None = None
        self.prefers: list[int] = []
        self.offsets: list[int | None] = []
        self.limits: list[VenueLimit] = []
        self.pauses: list[int] = []
        self.bans: list[str] = []
        self.notices: list[str] = []
        self.filters_told: list[Mapping[str, Filters]] = []
        self.voluntarily_unarmed: list[str] = []
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._start_ns = self.now_ns
        self.links = Links(
            self,
            lambda: self,
            SessionRequests(self.credentials, ("BTCUSDT",)),
            RateLimits(headroom_percent=10),
            venue=URL,
            live=self.live,
            timing=self.timing,
            rng=random.Random(self.seed),
        )

    # ---- Search ----

    def take(self) -> list[str] | None:
        if self.unresolved is not None:
            raise self.unresolved
        return list(self.addresses)

    # ---- Port ----

    def connect(self, session: int, address: str) -> None:
        wire = self.wires[session]
        assert not wire.opening
        assert not wire.open
        life = wire.life + 1
        self.wires[session] = Wire(opening=True, life=life, address=address)
        self.connects.append((self.seconds(), session, address))
        delay_ns = 3 * self.round_trip_ns
        if self.accepts and address not in self.closed_ports:
            self._later(delay_ns, session, self._opened)
        else:
            self._later(delay_ns, session, lambda n: self._end(n, *self.open_failure))

    def text(self, session: int, message: bytes) -> None:
        assert self.wires[session].open, "a request on a session that is not open"
        request = json.loads(message)
        assert re.fullmatch("[A-Za-z0-9-]{1,36}", request["id"])
        self.asked.append((session, request["method"]))
        if request["method"] == "time":
            self.last_time_id = request["id"]
        if not self.wires[session].silent and request["method"] not in self.mute:
            self._later(self.round_trip_ns // 2, session, lambda n: self._answer(n, request))

    def hold(self, session: int, held: bool) -> None:
        wire = self.wires[session]
        if held and wire.armed and not wire.useless:
            self._check_other_is_armed(session, "held")
        wire.held = held

    def prefer(self, session: int) -> None:
        assert self.wires[session].open
        self.preferred = session
        self.prefers.append(session)

    def close(self, session: int) -> None:
        wire = self.wires[session]
        if wire.armed and not wire.useless:
            self._check_other_is_armed(session, "closed")
        if wire.open or wire.opening:
            wire.held = True
            self._later(0, session, lambda n: self._end(n, "closed by us", 0))

    def clock(self, offset_ms: int | None) -> None:
        self.offsets.append(offset_ms)

    def venue_limit(self, limit: VenueLimit) -> None:
        self.limits.append(limit)

    def pause(self, until_ns: int) -> None:
        self.pauses.append(until_ns)

    def banned(self, words: str) -> None:
        self.bans.append(words)

    def filters(self, filters: Mapping[str, Filters]) -> None:
        self.filters_told.append(filters)

    def notice(self, words: str) -> None:
        self.notices.append(words)

    # ---- the venue and the hot thread ----

    def _check_other_is_armed(self, session: int, verb: str) -> None:
        if not self.wires[1 - session].armed and not self.dead(session):
            self.voluntarily_unarmed.append(f"{verb} session {session} at {self.seconds():.3f} s")

    def dead(self, session: int) -> bool:
        return self.wires[session].silent

    def _later(self, delay_ns: int, session: int, act: Callable[[int], None]) -> None:
        life = self.wires[session].life

        def unless_over() -> None:
            if self.wires[session].life == life:
                act(session)

        heapq.heappush(self._events, (self.now_ns + delay_ns, next(self._count), unless_over))

    def _opened(self, session: int) -> None:
        wire = self.wires[session]
        wire.opening, wire.open, wire.held, wire.opened_ns = False, True, True, self.now_ns
        self.links.on_opened(session)

    def _end(self, session: int, reason: str, code: int) -> None:
        wire = self.wires[session]
        if wire.open or wire.opening:
            self.wires[session] = Wire(life=wire.life + 1)
            self.links.on_closed(session, reason, code)

    def _answer(self, session: int, request: dict[str, Any]) -> None:
        reply: dict[str, Any] = {"id": request["id"], "status": 200}
        method = request["method"]
        if method in self.refuse:
            reply |= {"status": 400, **self.refuse[method]}
        elif method == "time":
            reply["result"] = {"serverTime": self.venue_ms()}
        elif method == "exchangeInfo":
            reply["result"] = EXCHANGE_INFO
        elif method == "account.rateLimits.orders":
            limit = EXCHANGE_INFO["rateLimits"][1]
            reply["result"] = [{**limit, "count": 7}]
        else:
            reply["result"] = {"subscriptionId": 0}
        self._later(self.round_trip_ns // 2, session, lambda n: self.say(n, reply))

    # ---- what a test does ----

    def instant(self) -> Instant:
        return Instant(self.now_ns, self.now_ns + EPOCH_NS + self.epoch_step_ns)

    def venue_ms(self) -> int:
        return (self.now_ns + EPOCH_NS) // MS + self.offset_ms

    def seconds(self) -> float:
        return (self.now_ns - self._start_ns) / NS

    def say(self, session: int, reply: Mapping[str, Any]) -> bool:
        """A reply that the hot thread reports, whatever was asked."""
        if self.wires[session].silent:
            return False
        parsed = parse_reply(json.dumps(reply).encode())
        assert parsed is not None
        return self.links.on_reply(session, parsed, self.now_ns)

    def drop(self, session: int) -> None:
        """The network cuts it."""
        self._end(session, "the connection was reset", 104)

    def run(self, seconds: float, tick_s: float | None = None) -> None:
        end_ns = self.now_ns + int(seconds * NS)
        tick_ns = int((tick_s or self.tick_s) * NS)
        while self.now_ns < end_ns:
            self.links.tick(self.instant())
            self.check()
            next_ns = min(self.now_ns + tick_ns, end_ns)
            while self._events and self._events[0][0] <= next_ns:
                self.now_ns, _, act = heapq.heappop(self._events)
                act()
                self.check()
            self.now_ns = next_ns

    def check(self) -> None:
        """What holds at every moment."""
        ready = self.links.ready
        assert ready == tuple(n for n in (0, 1) if self.wires[n].armed)
        assert self.links.preferred == (self.preferred if ready else None)
        assert not ready or self.preferred in ready
        assert self.voluntarily_unarmed == []

    def start(self) -> None:
        """Until both are ready."""
        self.run(5)
        assert self.links.ready == (0, 1)

    def methods(self, session: int) -> list[str]:
        """What a session was asked, its clock aside."""
        return [method for n, method in self.asked if n == session and method != "time"]


def world(**settings: Any) -> World:
    made = World(**settings)
    made.start()
    return made
