"""Rate limits: request weight by IP address, unfilled orders by account (web-socket-api.md, "Rate
limits"). The simulated venue has one of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.sim.request import ApiError

CONNECTION_WEIGHT = 2  # "IP limits"; the ban's shortest and longest time are also from there
BAN_MS, BAN_MAX_MS = 120_000, 259_200_000


@dataclass(frozen=True)
class Limits:
    """What is allowed. `patience` is how many requests may be refused in a row before the address
    is banned (the documents only say "repeatedly")."""

    request_weight: int = 6000
    orders_10_s: int = 50
    orders_day: int = 160_000
    patience: int = 10


@dataclass
class Window:
    """One limit and how much of it is used; windows start at multiples of their length ("How to
    interpret rate limits")."""

    rate_limit_type: str
    interval: str
    interval_num: int
    limit: int
    window_ms: int
    start_ms: int = 0
    count: int = 0

    def advance(self, now_ms: int) -> None:
        start_ms = now_ms - now_ms % self.window_ms
        if start_ms != self.start_ms:
            self.start_ms, self.count = start_ms, 0

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.window_ms

    def describe(self) -> dict[str, Any]:
        """The limit as `exchangeInfo` has it."""
        return {
            "rateLimitType": self.rate_limit_type,
            "interval": self.interval,
            "intervalNum": self.interval_num,
            "limit": self.limit,
        }

    def show(self) -> dict[str, Any]:
        """The limit and its use as replies have it."""
        return self.describe() | {"count": self.count}


CONNECTIONS = Window("CONNECTIONS", "MINUTE", 5, 300, 300_000)  # "Connection limits"


class Limiter:
    """Counts, and refuses what is too much."""

    def __init__(self, limits: Limits) -> None:
        self.weight = Window("REQUEST_WEIGHT", "MINUTE", 1, limits.request_weight, 60_000)
        self.orders = (
            Window("ORDERS", "SECOND", 10, limits.orders_10_s, 10_000),
            Window("ORDERS", "DAY", 1, limits.orders_day, 86_400_000),
        )
        self.banned_until_ms = 0
        self._now_ms = 0
        self._patience = limits.patience
        self._refused = 0  # in a row
        self._bans = 0

    def advance(self, now_ms: int) -> None:
        """It is `now_ms` by the venue's clock."""
        self._now_ms = now_ms
        for window in (self.weight, *self.orders):
            window.advance(now_ms)

    def use(self, weight: int) -> None:
        """Count a request's weight. 429 when that is too much; 418 during a ban, which more
        requests make longer ("IP limits")."""
        self.weight.count += weight
        banned = self._now_ms < self.banned_until_ms
        if not banned and self.weight.count <= self.weight.limit:
            self._refused = 0
            return
        self._refused += 1
        if self._refused >= self._patience:
            self._refused = 0
            self.banned_until_ms = self._now_ms + min(BAN_MS << self._bans, BAN_MAX_MS)
            self._bans += 1
            banned = True
        if banned:
            raise self._refusal(
                418,
                -1003,
                f"Way too much request weight used; IP banned until {self.banned_until_ms}. "
                "Please use WebSocket Streams for live updates to avoid bans.",
                self.banned_until_ms,
            )
        raise self._refusal(
            429,
            -1003,
            f"Too much request weight used; current limit is {self.weight.limit} request weight "
            "per 1 MINUTE. Please use WebSocket Streams for live updates to avoid polling the API.",
            self.weight.end_ms,
        )

    def check_orders(self, orders: int) -> None:
        """429 unless that many more may be placed ("Unfilled Order Count")."""
        for window in self.orders:
            if window.count + orders > window.limit:
                raise self._refusal(
                    429,
                    -1015,
                    f"Too many new orders; current limit is {window.limit} orders per "
                    f"{window.interval_num} {window.interval}.",
                    window.end_ms,
                )

    def count_orders(self, orders: int) -> None:
        for window in self.orders:
            window.count += orders

    def forgive_orders(self, orders: int) -> None:
        """Orders have begun to fill (faqs/order_count_decrement.md)."""
        for window in self.orders:
            window.count = max(window.count - orders, 0)

    def _refusal(self, status: int, code: int, msg: str, retry_ms: int) -> ApiError:
        return ApiError(code, msg, status, {"serverTime": self._now_ms, "retryAfter": retry_ms})
