"""What the venue lets us ask, and how much of that is used."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.venues.binance import Reply, dicts, parse_reply
from engine.venues.binance_limits import (
    BAN_MS_LEAST,
    BAN_MS_MOST,
    WEIGHT_DEFAULT,
    WEIGHTS,
    RateLimits,
    VenueLimit,
    upgrade_refusal,
)

MINUTE = 60_000
NOON = 1_790_000_000_000 // MINUTE * MINUTE  # venue time, at the beginning of a minute


def limit(kind: str, interval: str, number: int, most: int, count: int | None = None) -> Any:
    entry = {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": most}
    return entry if count is None else {**entry, "count": count}


def weight(count: int | None = None, most: int = 1000) -> Any:
    return limit("REQUEST_WEIGHT", "MINUTE", 1, most, count)


def orders(number: int, most: int, count: int | None = None) -> Any:
    return limit("ORDERS", "SECOND", number, most, count)


def reply(status: int, retry_after: Any = None, limits: Any = ()) -> Reply:
    error = {"code": -1003, "msg": "Too much.", "data": {"retryAfter": retry_after}}
    text = json.dumps({"id": "x", "status": status, "error": error, "rateLimits": list(limits)})
    found = parse_reply(text.encode())
    assert found is not None
    return found


def test_weight_is_counted_up_to_the_headroom() -> None:
    limits = RateLimits(headroom_percent=20)
    limits.on_limits([weight(most=100)], NOON)
    asked = 0
    while limits.may_ask("exchangeInfo", NOON + asked):
        limits.count("exchangeInfo", NOON + asked)
        asked += 1
    assert asked == 4  # of 20 each, up to 80
    assert not limits.may_ask("time", NOON + MINUTE - 1)
    assert limits.may_ask("exchangeInfo", NOON + MINUTE)  # the venue's minute, not ours


def test_what_is_urgent_has_the_headroom_too_but_no_more() -> None:
    limits = RateLimits(headroom_percent=20)
    limits.on_limits([weight(80, most=100)], NOON)
    asked = 0
    assert not limits.may_ask("order.cancel", NOON)
    while limits.may_ask("order.cancel", NOON, urgent=True):
        limits.count("order.cancel", NOON)
        asked += 1
    assert asked == 20  # of 1 each
    limits.on_limits([weight(80, most=100)], NOON)
    assert limits.may_ask("myTrades", NOON, urgent=True)
    limits.on_reply(reply(429, NOON + 7_000), NOON)
    assert not limits.may_ask("order.cancel", NOON, urgent=True)


def test_replies_correct_the_count() -> None:
    limits = RateLimits(headroom_percent=0)
    limits.on_reply(reply(200, limits=[weight(995)]), NOON)
    assert limits.may_ask("order.status", NOON)
    limits.count("order.status", NOON)
    assert not limits.may_ask("order.status", NOON)
    limits.on_reply(reply(200, limits=[weight(10)]), NOON)
    assert limits.may_ask("order.status", NOON)


def test_what_holds_before_the_venue_has_said_anything() -> None:
    limits = RateLimits(headroom_percent=0)
    for _ in range(WEIGHT_DEFAULT // WEIGHTS["account.rateLimits.orders"]):
        assert limits.may_ask("account.rateLimits.orders", NOON)
        limits.count("account.rateLimits.orders", NOON)
    assert not limits.may_ask("account.rateLimits.orders", NOON)


def test_a_second_window_counts_too() -> None:
    limits = RateLimits(headroom_percent=0)
    limits.on_limits([weight(), limit("REQUEST_WEIGHT", "SECOND", 10, 30)], NOON)
    limits.count("exchangeInfo", NOON)
    assert not limits.may_ask("exchangeInfo", NOON + 9_999)
    assert limits.may_ask("exchangeInfo", NOON + 10_000)


def test_orders_are_told_when_the_venue_tells_of_them() -> None:
    limits = RateLimits(headroom_percent=10)
    assert limits.order_news(NOON) == []
    limits.on_limits([limit("ORDERS", "DAY", 1, 160_000), orders(10, 50), weight()], NOON)
    assert limits.order_news(NOON) == [
        VenueLimit(0, 10_000, 50, 0),
        VenueLimit(1, 86_400_000, 160_000, 0),
    ]
    assert limits.order_news(NOON) == []
    limits.on_limits([orders(10, 50, 12)], NOON)
    assert limits.order_news(NOON)[0] == VenueLimit(0, 10_000, 50, 12)
    limits.on_limits([orders(10, 50)], NOON)  # exchangeInfo again: it knows of no count
    assert limits.order_news(NOON) == []
    limits.on_limits([orders(10, 60, 3)], NOON)
    assert limits.order_news(NOON + 10_000)[0] == VenueLimit(0, 10_000, 60, 0)


def test_429_pauses_until_the_venue_says() -> None:
    limits = RateLimits(headroom_percent=10)
    pause = limits.on_reply(reply(429, NOON + 7_000), NOON)
    assert pause is not None
    assert not pause.ban
    assert pause.until_venue_ms == NOON + 7_000
    assert "asks us to slow down (status 429: Too much.); nothing is asked for 7 s" in pause.words
    assert limits.paused(NOON + 6_999)
    assert not limits.may_ask("time", NOON + 6_999)
    assert limits.may_ask("time", NOON + 7_000)
    assert limits.on_reply(reply(429, NOON + 7_000), NOON + 1) is None  # known already


def test_a_ban_during_a_pause_is_told_and_never_shortens_it() -> None:
    limits = RateLimits(headroom_percent=10)
    limits.on_reply(reply(429, NOON + 600_000), NOON)
    ban = limits.on_reply(reply(418, NOON + 300_000), NOON)
    assert ban is not None
    assert ban.ban
    assert ban.until_venue_ms == NOON + 600_000
    assert limits.on_reply(reply(418, NOON + 300_000), NOON) is None


@pytest.mark.parametrize("retry_after", [None, "soon", 1.5, True, 0, -(10**20), 10**30])
@pytest.mark.parametrize("status", [418, 429])
def test_a_pause_is_within_the_documented_bounds(status: int, retry_after: Any) -> None:
    pause = RateLimits(headroom_percent=10).on_reply(reply(status, retry_after), NOON)
    assert pause is not None
    least = BAN_MS_LEAST if status == 418 else 1_000
    assert least <= pause.until_venue_ms - NOON <= BAN_MS_MOST


def test_other_errors_are_no_pause() -> None:
    limits = RateLimits(headroom_percent=10)
    assert limits.on_reply(reply(400, NOON + 7_000), NOON) is None
    assert not limits.paused(NOON)


@pytest.mark.parametrize(
    "entry",
    [
        {},
        limit("ORDERS", "FORTNIGHT", 1, 5, 5),
        limit("ORDERS", "SECOND", 0, 5, 5),
        limit("ORDERS", "SECOND", 10, -1, 5),
        limit("ORDERS", "SECOND", 10, True, 5),
        limit("RAW_REQUESTS", "MINUTE", 5, 5, 5),
        limit("CONNECTIONS", "MINUTE", 5, 300, 299),
        {**orders(10, 5, 5), "rateLimitType": None},
        {**orders(10, 5, 5), "intervalNum": 10**30},
        {**orders(10, 5, 5), "interval": ["SECOND"]},
    ],
)
def test_what_is_no_limit_of_ours_changes_nothing(entry: Any) -> None:
    limits = RateLimits(headroom_percent=10)
    limits.on_limits([entry], NOON)
    assert limits.order_news(NOON) == []
    assert limits.may_ask("exchangeInfo", NOON)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["rateLimitType", "interval", "intervalNum", "limit", "count", "x"]
                ),
                inner | st.sampled_from(["ORDERS", "REQUEST_WEIGHT", "MINUTE", "DAY"]),
            )
        ),
    )
)
def test_whatever_the_venue_sends(rows: Any) -> None:
    limits = RateLimits(headroom_percent=10)
    limits.on_limits(dicts(rows), NOON)
    for told in limits.order_news(NOON):
        assert told.window_ms > 0
        assert 0 <= told.limit <= 10**9
        assert 0 <= told.used <= 10**9


@pytest.mark.parametrize(
    ("reason", "refusal"),
    [
        ("WebSocket upgrade of venue.example, path /ws (HTTP status 418): refused", (418, None)),
        ("WebSocket upgrade of venue.example, path /ws (HTTP status 429)", (429, None)),
        ("upgrade of x, path / (HTTP status 429, retry after 30 s): refused", (429, 30)),
        ("WebSocket upgrade of venue.example, path /418", None),
        ("", None),
    ],
)
def test_how_an_upgrade_was_refused(reason: str, refusal: tuple[int, int | None] | None) -> None:
    assert upgrade_refusal(reason) == refusal
