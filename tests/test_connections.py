"""The two sessions with the venue, in simulated time."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from engine._native import lib
from engine.credentials import Credentials
from engine.errors import VenueError
from engine.link import NS, State, Timing
from engine.venues.binance_limits import VenueLimit

from .links_world import EXCHANGE_INFO, MS, URL, World, world

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
REFUSED = {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}

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


@pytest.mark.parametrize("how", ["the time", "overloaded"])
def test_a_silent_session_that_answers_again_is_kept_if_there_is_no_other(how: str) -> None:
    it = world()
    it.accepts = False
    it.drop(1)
    it.run(1)
    life = it.wires[0].life
    it.mute = {"time"}
    it.run(12)
    it.mute = set()
    told = {"status": 200, "result": {"serverTime": it.venue_ms()}}
    it.say(0, {"id": it.last_time_id, **(told if how == "the time" else OVERLOADED)})
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


OVERLOADED = {
    "status": 503,
    "error": {"code": -1008, "msg": "Server is currently overloaded with other requests."},
}


@pytest.mark.parametrize("round_trip_ns", [4 * MS, 50 * MS])
def test_a_time_that_is_refused_is_asked_no_more_often_than_one_that_is_told(
    round_trip_ns: int,
) -> None:
    it = world(round_trip_ns=round_trip_ns)
    it.refuse = {"time": OVERLOADED}
    before = len(it.asked)
    it.run(300)
    assert 110 <= len(it.asked) - before <= 130
    assert len(it.connects) == 2, "where the venue is overloaded, what there is is kept"
    assert it.notices == []
    it.run(400, tick_s=0.1)
    assert it.offsets[-1] is None
    assert "is not known well enough" in it.notices[0]
    it.refuse = {}
    it.run(6)
    assert it.links.ready == (0, 1)
    assert it.links.offset_ms() in (39, 40, 41)


def test_a_session_that_does_not_tell_the_time_is_replaced_where_another_does() -> None:
    it = world()
    it.refuse = {"time": {"status": 400, "error": {"code": -1000, "msg": "An unknown error."}}}
    before = len(it.asked)
    it.run(300)
    assert 60 <= len(it.asked) - before <= 150  # reconnections of one, too
    assert len(it.links.ready) == 1
    it.refuse = {}
    it.run(120)
    assert it.links.ready == (0, 1)
    assert len(it.connects) > 3


def test_a_clock_that_contradicts_itself_all_the_time_is_not_asked_all_the_time() -> None:
    it = world()
    before, notices = len(it.asked), len(it.notices)
    for turn in range(6_000):
        it.offset_ms = 40 if turn % 2 else 140
        it.run(0.01)
    assert len(it.asked) - before < 100
    assert 0 < len(it.notices) - notices < 60
    it.run(30)
    assert it.links.offset_ms() is not None


@pytest.mark.parametrize("since", ["the start", "later"])
def test_counts_that_are_refused_are_asked_again_a_minute_later(since: str) -> None:
    method = "account.rateLimits.orders"
    it = World(refuse={method: OVERLOADED} if since == "the start" else {})
    it.start()
    it.refuse = {method: OVERLOADED}
    before, notices = it.methods(0).count(method), len(it.notices)
    it.run(600, tick_s=0.05)
    assert 9 <= it.methods(0).count(method) - before <= 10
    assert len(it.notices) - notices <= 10
    assert it.links.ready == (0, 1)
    it.limits.clear()
    it.refuse = {}
    it.run(62, tick_s=0.05)
    assert VenueLimit(index=0, window_ms=10_000, limit=50, used=7) in it.limits


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


def others_use(it: World, weight: int) -> None:
    """What all of this address have used in this minute, as a reply tells."""
    row = {**EXCHANGE_INFO["rateLimits"][0], "count": weight}
    it.say(0, {"id": "somebody else's", "status": 200, "result": {}, "rateLimits": [row]})


def test_a_clock_is_asked_as_long_as_there_is_any_weight_left() -> None:
    """In the headroom too: without it no order would be sent when others use all but that."""
    it = world()
    it.run(60.1 - it.venue_ms() % 60_000 / 1000)  # the beginning of a minute
    others_use(it, 5_900)
    before = len(it.asked)
    it.run(40)
    asked = it.asked[before:]
    assert {method for _, method in asked} == {"time"}
    assert 14 <= len(asked) <= 18
    others_use(it, 6_000)
    it.run(15)
    assert len(it.asked) == before + len(asked)
    it.run(30)
    assert "account.rateLimits.orders" in {method for _, method in it.asked[-20:]}
    assert len(it.offsets) == 1


def test_a_stream_is_subscribed_to_with_what_weight_there_is() -> None:
    it = world()
    it.run(60.1 - it.venue_ms() % 60_000 / 1000)
    others_use(it, 5_900)
    it.run(58)
    asked = len(it.methods(0))
    it.links.on_stream_ended(0)
    it.run(0.1)
    assert it.methods(0)[asked:] == ["userDataStream.subscribe.signature"], "before the counts"


def test_a_session_is_opened_with_what_weight_there_is() -> None:
    """Without one nothing can be cancelled."""
    it = world()
    it.drop(1)
    for _ in range(10):
        others_use(it, 5_900)
        it.run(0.5)
    assert it.links.ready == (0, 1)


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


@pytest.mark.parametrize("step_s", [-3600, 3600])
def test_a_step_of_our_clock_neither_ends_nor_lengthens_a_pause(step_s: int) -> None:
    it = world()
    it.say(0, refusal(418, it.venue_ms() + 200_000))
    it.run(10)
    asked = len(it.asked)
    it.epoch_step_ns = step_s * NS
    it.run(189)
    assert len(it.asked) == asked
    it.run(3)
    assert len(it.asked) > asked
    assert abs((it.links.offset_ms() or 0) - (40 - 1000 * step_s)) <= 2


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


@pytest.mark.parametrize("step_s", [-7200, -1, 1, 7200])
def test_a_step_of_our_clock_is_none_of_the_venues_time(step_s: int) -> None:
    """What is left when its time has come would be left hours early, or late."""
    it = world()
    it.run(10)
    it.epoch_step_ns = step_s * NS
    for _ in range(300):
        it.run(0.01)
        assert abs(it.links.venue_ms() - it.venue_ms()) <= 12  # a tick is 10
    assert it.offsets[-1] is not None


def test_after_a_sleep_the_venues_time_is_late_until_it_is_measured() -> None:
    it = world()
    it.run(10)
    before_ms = it.venue_ms()
    it.offset_ms += 3_600_000  # while CLOCK_MONOTONIC stood still
    it.epoch_step_ns = 3600 * NS
    it.links.tick(it.instant())
    assert abs(it.links.venue_ms() - before_ms) <= 2
    it.run(2)
    assert abs(it.links.venue_ms() - it.venue_ms()) <= 12
    assert it.links.offset_ms() in (39, 40, 41)


def test_a_small_step_of_our_clock_is_told_as_a_new_offset() -> None:
    it = world()
    it.epoch_step_ns = -15 * MS
    it.links.tick(it.instant())
    assert it.offsets[-1] in (54, 55, 56)
    assert abs(it.links.venue_ms() - it.venue_ms()) <= 2


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
