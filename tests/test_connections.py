"""The two sessions with the venue, in simulated time: World is the venue, the network, the hot
thread and the clocks."""

from __future__ import annotations

import heapq
import itertools
import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from engine._native import lib
from engine.clock import Instant
from engine.connections import Links
from engine.credentials import Credentials
from engine.errors import VenueError
from engine.link import NS, State, Timing
from engine.venues.binance import parse_reply
from engine.venues.binance_filters import Filters
from engine.venues.binance_limits import RateLimits, VenueLimit
from engine.venues.binance_session import SessionRequests

MS = 1_000_000
EPOCH_NS = 1_790_000_000_000 * MS
URL = "wss://venue.example/ws-api/v3"
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
HMAC = Credentials("key", api_secret="secret")
REFUSED = {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}
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
            RateLimits(),
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


# ---- starting ------------------------------------------------------------------------------------


def test_the_first_makes_the_run_ready_and_the_second_follows() -> None:
    it = World()
    it.run(0.5)
    assert it.links.ready == (0,)
    assert it.links.state(1) is State.IDLE
    assert it.preferred == 0
    assert it.links.offset_ms() in (39, 40, 41)
    assert it.filters_told[0]["BTCUSDT"].base_asset == "BTC"
    it.run(1.5)
    assert it.links.ready == (0, 1)
    assert it.preferred == 0
    assert it.notices == []
    assert [session for _, session, _ in it.connects] == [0, 1]


def test_what_a_session_is_asked_before_it_is_ready() -> None:
    it = world()
    counts = "account.rateLimits.orders"
    assert it.methods(0) == ["userDataStream.subscribe.signature", "exchangeInfo", counts]
    assert it.methods(1) == ["userDataStream.subscribe.signature", counts]
    key = Credentials("key", private_key=Ed25519PrivateKey.generate())
    it = world(credentials=key)
    assert it.methods(0) == ["session.logon", "userDataStream.subscribe", "exchangeInfo", counts]


def test_the_counts_of_the_account_reach_the_gate() -> None:
    assert VenueLimit(index=0, window_ms=10_000, limit=50, used=7) in world().limits


def test_every_address_is_tried_before_the_start_fails() -> None:
    it = World(addresses=["10.0.0.1", "10.0.0.2"], closed_ports={"10.0.0.1", "10.0.0.2"})
    it.run(5)
    assert [address for _, _, address in it.connects] == ["10.0.0.1", "10.0.0.2"]
    assert it.links.start_failure is not None
    assert "connecting to venue.example: refused; check venue.url" in str(it.links.start_failure)
    it.run(100)
    assert len(it.connects) == 2


def test_the_second_address_will_do() -> None:
    it = World(addresses=["10.0.0.1", "10.0.0.2"], closed_ports={"10.0.0.1"})
    it.run(0.5)
    assert it.links.ready == (0,)
    assert it.links.start_failure is None


def test_a_name_that_is_not_resolved() -> None:
    it = World(unresolved=VenueError("no such host"))
    it.run(1)
    assert str(it.links.start_failure) == "no such host"


@pytest.mark.parametrize(
    "method",
    ["time", "userDataStream.subscribe.signature", "exchangeInfo", "account.rateLimits.orders"],
)
def test_a_venue_that_does_not_answer_at_the_start(method: str) -> None:
    it = World(mute={method})
    it.run(12)
    assert f"is open but does not answer `{method}`" in str(it.links.start_failure)
    assert not it.wires[0].open


def test_a_log_on_that_is_refused() -> None:
    key = Credentials("key", private_key=Ed25519PrivateKey.generate())
    it = World(credentials=key, refuse={"session.logon": {"status": 401, "error": REFUSED}})
    it.run(2)
    assert "refuses the log-on (-2015: Invalid API-key" in str(it.links.start_failure)


def test_an_unknown_symbol() -> None:
    error = {"code": -1121, "msg": "Invalid symbol."}
    it = World(refuse={"exchangeInfo": {"status": 400, "error": error}})
    it.run(2)
    words = str(it.links.start_failure)
    assert "refuses `exchangeInfo` (-1121: Invalid symbol.): check the symbols" in words


@pytest.mark.parametrize("where", ["upgrade", "reply"])
def test_a_start_while_the_venue_wants_quiet(where: str) -> None:
    """It would take minutes: better said than waited for."""
    error = {"code": -1003, "msg": "Too much request weight used."}
    if where == "reply":
        it = World(refuse={"exchangeInfo": {"status": 429, "error": error}})
    else:
        reason = "WebSocket upgrade of venue.example, path / (HTTP status 429)"
        it = World(accepts=False, open_failure=(reason, lib.HP_EWS_UPGRADE))
    it.run(2)
    words = str(it.links.start_failure)
    assert "asks us to slow down (status 429" in words
    assert words.endswith("nothing is asked for 60 s: start again later")


@pytest.mark.parametrize("live", [True, False])
def test_without_user_data_a_dry_run_goes_on(live: bool) -> None:
    refusal = {"status": 401, "error": REFUSED}
    it = World(live=live, refuse={"userDataStream.subscribe.signature": refusal})
    it.run(2)
    if live:
        assert "refuses `userDataStream.subscribe.signature`" in str(it.links.start_failure)
    else:
        assert it.links.ready == (0, 1)
        assert any("-2015" in words for words in it.notices)


# ---- leaving, and coming back --------------------------------------------------------------------


def test_the_other_takes_over_when_one_is_cut() -> None:
    it = world()
    it.drop(0)
    assert it.links.ready == (1,)
    assert it.preferred == 1
    it.run(3)
    assert it.links.ready == (0, 1)
    assert it.preferred == 1
    assert "the connection was reset" in it.notices[0]


def test_both_cut_and_connected_again() -> None:
    it = world()
    it.drop(0)
    it.drop(1)
    assert it.links.preferred is None
    it.run(3)
    assert it.links.ready == (0, 1)
    assert f"connected to {URL} again" in it.notices


def test_backoff_doubles_up_to_a_minute_and_is_jittered() -> None:
    it = world()
    it.accepts = False
    it.drop(0)
    it.run(600, tick_s=0.05)
    times = [at for at, session, _ in it.connects if session == 0][1:]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(
        most / 2 - 0.2 <= wait <= most + 0.2
        for wait, most in zip(waits, [2, 4, 8, 16, 32, *[60] * 20], strict=False)
    )
    assert len(set(waits)) == len(waits)
    it.accepts = True
    it.run(62, tick_s=0.05)
    assert it.links.ready == (0, 1)
    it.run(70, tick_s=0.05)
    cut_s = it.seconds()
    it.drop(0)
    it.run(2)
    assert cut_s + 0.4 <= it.connects[-1][0] <= cut_s + 1.1


def test_connections_are_counted_over_both() -> None:
    """However fast they end, the venue sees fewer than its limit in any five minutes."""
    timing = Timing(retry_first=0.01, retry_most=0.02)
    it = world(timing=timing)
    it.accepts = False
    it.drop(0)
    it.drop(1)
    it.run(700, tick_s=0.05)
    times = [at for at, _, _ in it.connects]
    for first in times:
        assert sum(first <= at < first + 300 for at in times) <= timing.connects_most
    assert len(times) > timing.connects_most


def test_server_shutdown_replaces_one_after_the_other() -> None:
    it = world()
    first = [wire.life for wire in it.wires]
    it.links.on_shutdown(0)
    it.links.on_shutdown(1)
    it.run(10)
    assert it.links.ready == (0, 1)
    assert all(wire.life > life for wire, life in zip(it.wires, first, strict=True))
    assert sum("shuts down the server" in words for words in it.notices) == 2
    assert it.prefers == [0, 1]


def test_both_servers_are_gone_a_second_after_they_say_so() -> None:
    it = world(round_trip_ns=20 * MS)
    it.run(10)
    for session in (0, 1):
        it.links.on_shutdown(session)
        it._later(NS, session, it.drop)
    for _ in range(300):
        it.run(0.01)
        assert it.links.ready
    assert it.links.ready == (0, 1)
    assert len(it.connects) == 4


def test_the_only_session_is_kept_until_another_is_ready() -> None:
    it = world()
    it.accepts = False
    it.drop(1)
    it.run(1)
    it.links.on_shutdown(0)
    it.run(30)
    assert it.links.ready == (0,)
    it.accepts = True
    it.run(120)
    assert it.links.ready == (0, 1)
    assert it.preferred == 1


def test_one_that_is_being_left_takes_orders_again_when_the_other_breaks() -> None:
    it = world()
    it.links.on_shutdown(0)
    it.run(0.1)
    assert it.links.state(0) is State.LEAVING
    assert it.links.ready == (1,)
    it.drop(1)
    assert it.links.ready == (0,)
    assert it.preferred == 0
    it.run(10)
    assert it.links.ready == (0, 1)


def test_a_silent_session_is_left() -> None:
    it = world()
    it.wires[0].silent = True
    it.run(12)
    assert it.preferred == 1
    it.run(5)
    assert it.links.ready == (0, 1)
    assert any("has stopped answering" in words for words in it.notices)


def test_a_silent_session_that_answers_again_is_kept_if_there_is_no_other() -> None:
    it = world()
    it.accepts = False
    it.drop(1)
    it.run(1)
    life = it.wires[0].life
    it.mute = {"time"}
    it.run(12)
    it.mute = set()
    it.say(0, {"id": it.last_time_id, "status": 200, "result": {"serverTime": it.venue_ms()}})
    assert "session 0 answers again" in it.notices
    it.accepts = True
    it.run(120)
    assert it.links.ready == (0, 1)
    assert it.wires[0].life == life


def test_nobody_is_there_any_more() -> None:
    """Both are silent, and nothing can be opened: after a minute it is no session."""
    it = world()
    it.accepts = False
    for wire in it.wires:
        wire.silent = True
    it.run(80)
    assert it.links.ready == ()
    it.accepts = True
    it.run(60)
    assert it.links.ready == (0, 1)


def test_logged_out() -> None:
    it = world()
    it.wires[0].useless = True
    assert it.say(0, {"id": None, "status": 401, "error": REFUSED})
    assert it.links.ready == (1,)
    it.run(5)
    assert it.links.ready == (0, 1)
    assert any("has logged us out (-2015: " in words for words in it.notices)


def test_a_user_data_stream_that_ends_is_asked_for_again() -> None:
    it = world()
    before = it.methods(1).count("userDataStream.subscribe.signature")
    it.links.on_stream_ended(1)
    it.run(1)
    assert it.methods(1).count("userDataStream.subscribe.signature") == before + 1
    it.refuse = {"userDataStream.subscribe.signature": {"status": 400, "error": REFUSED}}
    life = it.wires[1].life
    it.links.on_stream_ended(1)
    it.run(0.5)
    it.refuse = {}
    it.run(30)
    assert it.wires[1].life > life
    assert it.links.ready == (0, 1)


def test_a_day_passes() -> None:
    """Each is renewed before its day is over, hours apart, with the other ready all the time."""
    it = world()
    ages: list[float] = []
    apart: list[float] = []
    for _ in range(3 * 24 * 4):
        before = [(wire.life, wire.opened_ns) for wire in it.wires]
        it.run(900, tick_s=9.0)
        for wire, (life, opened_ns) in zip(it.wires, before, strict=True):
            if wire.life != life:
                ages.append((it.now_ns - opened_ns) / NS / HOUR_S)
        if it.seconds() > DAY_S and all(wire.open for wire in it.wires):
            apart.append(abs(it.wires[0].opened_ns - it.wires[1].opened_ns) / NS / HOUR_S)
    assert len(ages) >= 5
    assert all(10 < age < 23.6 for age in ages)
    assert min(apart) > 5
    it.run(120)
    assert it.links.ready == (0, 1)


def test_what_grows_old_is_asked_again_on_one_session() -> None:
    it = world()
    it.run(2 * HOUR_S, tick_s=1.0)
    assert it.methods(0).count("exchangeInfo") == 3
    assert 100 <= it.methods(0).count("account.rateLimits.orders") <= 122
    assert it.methods(1).count("exchangeInfo") == 0
    assert it.methods(1).count("account.rateLimits.orders") == 1


def test_filters_that_an_order_belies_are_asked_again_once() -> None:
    it = world()
    told = len(it.filters_told)
    for _ in range(3):
        it.links.read_filters_again()
    it.run(1)
    assert it.methods(0).count("exchangeInfo") == 2
    assert len(it.filters_told) == told + 1
    it.links.read_filters_again()
    it.run(1)
    assert it.methods(0).count("exchangeInfo") == 3
    assert it.methods(1).count("exchangeInfo") == 0


def test_without_a_session_no_filters_are_asked_for() -> None:
    it = World()
    it.links.read_filters_again()
    it.start()
    assert it.methods(0).count("exchangeInfo") == 1


# ---- limits --------------------------------------------------------------------------------------


def refusal(status: int, retry_after_ms: int | None) -> dict[str, Any]:
    data = {} if retry_after_ms is None else {"data": {"retryAfter": retry_after_ms}}
    error = {"code": -1003, "msg": "Too much request weight used.", **data}
    return {"id": "somebody else's", "status": status, "error": error}


def test_429_pauses_everything_we_ask() -> None:
    it = world()
    it.run(10)
    until_ms = it.venue_ms() + 30_000
    assert not it.say(0, refusal(429, until_ms))
    assert abs(it.pauses[-1] - (it.now_ns + 30 * NS)) <= 20 * MS
    it.drop(1)
    asked, connected = len(it.asked), len(it.connects)
    it.run(29)
    assert len(it.asked) == asked
    assert len(it.connects) == connected
    assert it.bans == []
    it.run(20)
    assert it.links.ready == (0, 1)


def test_418_is_a_ban() -> None:
    it = world()
    it.say(0, refusal(418, it.venue_ms() + 600_000))
    it.say(1, refusal(418, it.venue_ms() + 600_000))
    assert len(it.bans) == 1
    assert "has banned this address (status 418" in it.bans[0]
    it.drop(0)
    it.drop(1)
    connected = len(it.connects)
    it.run(595, tick_s=0.1)
    assert len(it.connects) == connected
    it.run(70, tick_s=0.1)
    assert it.links.ready == (0, 1)


@pytest.mark.parametrize(("status", "bans"), [(418, 1), (429, 0)])
def test_an_upgrade_that_is_refused(status: int, bans: int) -> None:
    it = world()
    it.accepts = False
    it.open_failure = (
        f"WebSocket upgrade of venue.example, path /ws-api/v3 (HTTP status {status})",
        lib.HP_EWS_UPGRADE,
    )
    it.drop(1)
    it.run(10)
    assert len(it.bans) == bans
    assert len(it.pauses) == 1
    assert len(it.connects) == 3


def test_an_upgrade_that_is_refused_is_tried_again_when_the_venue_says() -> None:
    it = world()
    it.accepts = False
    it.open_failure = (
        "WebSocket upgrade of venue.example, path / (HTTP status 429, retry after 300 s)",
        lib.HP_EWS_UPGRADE,
    )
    it.drop(1)
    it.run(10)
    it.accepts = True
    connected = len(it.connects)
    it.run(285, tick_s=0.1)
    assert len(it.connects) == connected
    it.run(30, tick_s=0.1)
    assert it.links.ready == (0, 1)


# ---- clocks --------------------------------------------------------------------------------------


def test_the_offset_is_told_once_while_it_stays() -> None:
    it = world()
    it.run(600, tick_s=0.05)
    assert len(it.offsets) == 1


def test_a_step_of_our_clock_is_unknown_until_measured_anew() -> None:
    it = world()
    it.run(10)
    it.epoch_step_ns = 3_000 * MS
    it.links.tick(it.instant())
    assert it.offsets[-1] is None
    assert it.links.ready == (0, 1)
    assert any("this machine's clock was set by +3000 ms" in words for words in it.notices)
    it.run(2)
    assert it.offsets[-1] is not None
    assert abs(it.offsets[-1] - (40 - 3_000)) <= 2


def test_a_step_of_the_venues_clock_is_noticed() -> None:
    it = world()
    it.offset_ms = 900
    it.run(11)
    assert None in it.offsets or abs((it.offsets[-1] or 0) - 900) <= 2
    assert abs((it.offsets[-1] or 0) - 900) <= 2
    assert any("the venue's clock moved by" in words for words in it.notices)


def test_a_venue_without_a_time() -> None:
    it = World(refuse={"time": {"status": 200, "result": {}}})
    it.run(2)
    assert "does not tell its time" in str(it.links.start_failure)


# ---- any order of events -------------------------------------------------------------------------

session = st.sampled_from([0, 1])
events = st.one_of(
    st.tuples(st.just("run"), st.floats(0.001, 40)),
    st.tuples(st.just("drop"), session),
    st.tuples(st.just("shutdown"), session),
    st.tuples(st.just("stream"), session),
    st.tuples(st.just("silent"), session),
    st.tuples(st.just("logout"), session),
    st.tuples(st.just("accepts"), st.booleans()),
    st.tuples(st.just("step"), st.integers(-5_000, 5_000)),
    st.tuples(st.just("venue clock"), st.integers(-900, 900)),
    st.tuples(st.just("429"), session),
    st.tuples(st.just("night"), st.floats(60, 30 * HOUR_S)),
)


def happen(it: World, what: str, value: Any) -> None:
    match what:
        case "run":
            it.run(value, tick_s=0.1)
        case "night":
            it.run(value, tick_s=max(1.0, value / 1_000))
        case "drop":
            it.drop(value)
        case "shutdown":
            it.links.on_shutdown(value)
        case "stream":
            it.links.on_stream_ended(value)
        case "silent":
            it.wires[value].silent = True
        case "logout" if it.wires[value].open:
            it.wires[value].useless = True
            it.say(value, {"id": None, "status": 401, "error": REFUSED})
        case "accepts":
            it.accepts = value
        case "step":
            it.epoch_step_ns += value * MS
        case "venue clock":
            it.offset_ms = value
        case "429":
            if it.wires[value].open:
                it.say(value, refusal(429, it.venue_ms() + 20_000))


@settings(max_examples=50)
@given(seed=st.integers(0, 1000), sequence=st.lists(events, max_size=25))
def test_no_voluntary_moment_unarmed(seed: int, sequence: list[tuple[str, Any]]) -> None:
    """check() holds all the way: what Links does by itself never takes the last armed session that
    still answers; and when the trouble is over, both are ready."""
    it = World(seed=seed)
    it.start()
    for what, value in sequence:
        happen(it, what, value)
        it.check()
    it.accepts = True
    for wire in it.wires:
        wire.silent = False
    it.run(420, tick_s=0.5)
    assert it.links.ready == (0, 1)
    assert it.links.offset_ms() is not None
