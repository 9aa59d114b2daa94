"""What a request method is, and what it is called with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.sim.book import Book
from engine.sim.ledger import Origin
from engine.sim.matching import MatchingEngine
from engine.sim.rates import Limiter
from engine.sim.request import AUTHORIZATION, AccountKey, ApiError

Params = Mapping[str, str]
Deliver = Callable[[str], None]  # takes an event's text frame


@dataclass(eq=False)
class Connection:
    """A client's connection: the key it has logged on with ("Session Authentication"), if any, and
    its subscription to the user data stream, of which there is one at most for the one account."""

    connected_ms: int  # both by the venue's clock
    show_limits: bool  # the URL's word on `rateLimits`
    deliver: Deliver = field(repr=False)
    api_key: str | None = field(default=None, repr=False)
    authorized_ms: int | None = None
    subscription_id: int | None = None
    subscribed_by_logon: bool = False
    subscriptions: int = 0  # in its lifetime

    def log_on(self, api_key: str, now_ms: int) -> None:
        self.api_key, self.authorized_ms = api_key, now_ms

    def log_out(self) -> None:
        self.api_key = self.authorized_ms = None


@dataclass(frozen=True)
class Call:
    """One request's circumstances, and all that it may touch."""

    engine: MatchingEngine
    limiter: Limiter
    keys: Mapping[str, AccountKey] = field(repr=False)
    connection: Connection
    origin: Origin
    now_ns: int  # the venue's clock

    @property
    def now_ms(self) -> int:
        return self.now_ns // 1_000_000

    def book(self, params: Params) -> Book:
        """The book of the parameter `symbol`."""
        book = self.engine.books.get(params["symbol"])
        if book is None:
            raise ApiError(-1121, "Invalid symbol.")
        return book


@dataclass(frozen=True)
class Method:
    """A request method: what it takes, what it costs, what its replies show, what it does.

    A signed one takes `timestamp`, `recvWindow` and AUTHORIZATION besides what is listed.
    """

    run: Callable[[Call, Params], Any]
    mandatory: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()
    not_simulated: frozenset[str] = frozenset()
    weight: int | Callable[[Params], int] = 1
    signed: bool = False
    places_orders: bool = False  # so that its replies show the order limits

    @property
    def known(self) -> frozenset[str]:
        """Every parameter it takes."""
        of_signed = (*AUTHORIZATION, "timestamp", "recvWindow") if self.signed else ()
        return self.optional.union(self.mandatory, of_signed, ("returnRateLimits",))

    def weigh(self, params: Params) -> int:
        return self.weight if isinstance(self.weight, int) else self.weight(params)
