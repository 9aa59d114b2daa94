"""What the venue lets us ask, and how much of that is used (web-socket-api.md, heading "Rate
limits"): counted here, corrected by what its replies say. Nothing here reads a clock; `venue_ms`
is venue time in milliseconds since the epoch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.venues.binance import Reply

# The line "Weight" below each method's heading.
WEIGHTS: Mapping[str, int] = {
    "connect": 2,  # "IP limits"
    "time": 1,
    "exchangeInfo": 20,
    "session.logon": 2,
    "order.place": 1,
    "order.cancel": 1,
    "order.status": 4,
    "account.rateLimits.orders": 40,
    "myTrades": 20,
    "userDataStream.subscribe": 2,
    "userDataStream.subscribe.signature": 2,
}
_INTERVALS_MS = {"SECOND": 1000, "MINUTE": 60_000, "HOUR": 3_600_000, "DAY": 86_400_000}
_NUMBER_MOST = 10**9  # of a count or a limit: beyond is nonsense
WEIGHT_DEFAULT = 6000  # until exchangeInfo has told
SLOW_DOWN, BANNED = 429, 418
# "IP bans ... scale in duration for repeat offenders, from 2 minutes to 3 days".
BAN_MS_LEAST, BAN_MS_MOST = 120_000, 3 * 86_400_000
PAUSE_MS_LEAST, PAUSE_MS_UNTOLD = 1_000, 60_000
ORDER_LIMITS_MOST = 4  # hp_venue_limit.index


@dataclass(frozen=True, slots=True)
class VenueLimit:
    """One ORDERS limit, for the engine's gate: so many of the venue's orders in a window that
    begins at multiples of window_ms, and how many it counted; fields as in hp_venue_limit."""

    index: int
    window_ms: int
    limit: int
    used: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is asked until then. `ban`: the venue has banned our address (status 418)."""

    until_venue_ms: int
    ban: bool
    words: str


class _Window:
    """A limit of so many in each window of venue time ("How to interpret rate limits")."""

    def __init__(self, window_ms: int, limit: int = 0) -> None:
        self.window_ms, self.limit = window_ms, limit
        self._number = 0
        self._used = 0

    def used(self, venue_ms: int) -> int:
        return self._used if venue_ms // self.window_ms == self._number else 0

    def set(self, used: int, venue_ms: int) -> None:
        self._number, self._used = venue_ms // self.window_ms, used


class RateLimits:
    """Of one address and account, over all its connections. Of each limit `headroom_percent` is
    left for what is urgent, and for what others ask from the same address."""

    def __init__(self, headroom_percent: int) -> None:
        self._headroom_percent = headroom_percent
        self._weights = {60_000: _Window(60_000, WEIGHT_DEFAULT)}
        self._orders: dict[int, _Window] = {}
        self._news = False  # about orders
        self._pause: Pause | None = None

    # ---- what the venue says ---------------------------------------------------------------------

    def on_limits(self, limits: Iterable[Mapping[str, Any]], venue_ms: int) -> None:
        """A `rateLimits` array: of exchangeInfo (limits only), of any reply, or the result of
        account.rateLimits.orders (with counts). What is of another form is skipped."""
        for kind, window_ms, limit, count in _read(limits):
            if kind == "CONNECTIONS":
                continue
            windows = self._orders if kind == "ORDERS" else self._weights
            window = windows.setdefault(window_ms, _Window(window_ms))
            self._news |= kind == "ORDERS" and (count is not None or limit != window.limit)
            window.limit = limit
            if count is not None:
                window.set(count, venue_ms)

    def on_reply(self, reply: Reply, venue_ms: int) -> Pause | None:
        """Any reply: its counts correct ours. A new Pause when it says 429 or 418."""
        self.on_limits(reply.rate_limits, venue_ms)
        if reply.status not in (SLOW_DOWN, BANNED):
            return None
        return self.refused(reply.status, reply.retry_after_ms, venue_ms, reply.message)

    def refused(
        self, status: int, retry_after_ms: int | None, venue_ms: int, message: str = ""
    ) -> Pause | None:
        """429 or 418, of a reply or in answer to an upgrade: the pause it asks for, within the
        documented bounds whatever it says. None when one that is no shorter is known already."""
        ban = status == BANNED
        least, most = (BAN_MS_LEAST, BAN_MS_MOST) if ban else (PAUSE_MS_LEAST, BAN_MS_MOST)
        wait = retry_after_ms - venue_ms if retry_after_ms is not None else None
        if wait is None:
            wait = BAN_MS_LEAST if ban else PAUSE_MS_UNTOLD
        until = venue_ms + min(max(wait, least), most)
        seconds = -(-(until - venue_ms) // 1000)
        what = "has banned this address" if ban else "asks us to slow down"
        says = f": {message[:200]}" if message else ""
        words = f"the venue {what} (status {status}{says}); nothing is asked for {seconds} s"
        if self._pause is not None and until <= self._pause.until_venue_ms:
            if self._pause.ban or not ban:
                return None
            until = self._pause.until_venue_ms
        self._pause = Pause(until, ban, words)
        return self._pause

    # ---- what we may do --------------------------------------------------------------------------

    def paused(self, venue_ms: int) -> bool:
        return self._pause is not None and venue_ms < self._pause.until_venue_ms

    def may_ask(self, method: str, venue_ms: int, *, urgent: bool = False) -> bool:
        """There is room for this method's weight, in the headroom too where it is urgent, and no
        pause."""
        weight, percent = WEIGHTS[method], 100 if urgent else 100 - self._headroom_percent
        return not self.paused(venue_ms) and all(
            window.used(venue_ms) + weight <= window.limit * percent // 100
            for window in self._weights.values()
        )

    def count(self, method: str, venue_ms: int) -> None:
        """It was asked, whether or not there was room."""
        for window in self._weights.values():
            window.set(window.used(venue_ms) + WEIGHTS[method], venue_ms)

    def order_news(self, venue_ms: int) -> list[VenueLimit]:
        """Every limit of orders, the shortest window first, if the venue has told of one since the
        last call."""
        if not self._news:
            return []
        self._news = False
        windows = sorted(self._orders.values(), key=lambda window: window.window_ms)
        return [
            VenueLimit(index, window.window_ms, window.limit, window.used(venue_ms))
            for index, window in enumerate(windows[:ORDER_LIMITS_MOST])
        ]


def _read(limits: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, int, int, int | None]]:
    """(type, window ms, limit, count) of each entry that is as documented."""
    for entry in limits:
        kind = entry.get("rateLimitType")
        unit = _INTERVALS_MS.get(str(entry.get("interval")))
        number, limit, count = (_natural(entry.get(k)) for k in ("intervalNum", "limit", "count"))
        if kind not in ("REQUEST_WEIGHT", "ORDERS", "CONNECTIONS") or not (unit and number):
            continue
        if limit is not None:
            yield str(kind), unit * number, limit, count


def _natural(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= _NUMBER_MOST else None


_REFUSED = re.compile(r"\(HTTP status ([0-9]{3})(?:, retry after ([0-9]{1,9}) s)?\)")


def upgrade_refusal(reason: str) -> tuple[int, int | None] | None:
    """The HTTP status that refused an upgrade and the seconds of its Retry-After, from the words of
    a Closed record."""
    found = _REFUSED.search(reason)
    return (int(found[1]), int(found[2]) if found[2] else None) if found else None
