"""What to ask the venue about orders, and when to ask again."""

from __future__ import annotations

from dataclasses import dataclass

from engine import client_ids
from engine.order import Leg, Order

NS_PER_S = 1_000_000_000
AGAIN_FIRST_S = 1.0
AGAIN_MOST_S = 60.0
AT_ONCE_S = 2.0  # what should have ended by now has not
RESTING_S = 60.0  # an event may have been lost without any sign of it
TRADES_S = 2.0  # the events of fills that we know of may still come
TRADES_TRIES = 8

# Behind its window an order may still be processed: "APIs have a timeout of 10 seconds when
# processing a request" (General API Information). And what answers queries may lag behind.
GRACE_MS = 15_000


@dataclass(frozen=True, slots=True)
class Query:
    """A question about one order: `asks` is client_ids.STATUS or TRADES, `client_id` that of the
    leg, `order_id` the venue's where it is known (TRADES always has it)."""

    asks: str
    symbol: str
    client_id: str
    order_id: int | None

    @property
    def request_id(self) -> str:
        return client_ids.request_id(self.asks, self.client_id)


@dataclass(slots=True)
class _Asked:
    asks: str
    next_ns: int
    tries: int = 0
    # Venue time of the oldest question without an answer: the answer that comes may be to that.
    oldest_ms: int | None = None


class Inquiries:
    """Which questions are due, by leg."""

    def __init__(self, recv_window_ms: int, grace_ms: int) -> None:
        self._certain_ms = recv_window_ms + grace_ms
        self._asked: dict[str, _Asked] = {}

    def due(self, order: Order, now_ns: int, venue_ms: int) -> list[Query]:
        """What to ask now of this order; it counts as asked."""
        queries = []
        for leg in order.legs:
            asks, delay_s = _wanted(order, leg)
            if asks is None:
                self._asked.pop(leg.client_id, None)
                continue
            asked = self._asked.get(leg.client_id)
            if asked is None or asked.asks != asks:
                asked = self._asked[leg.client_id] = _Asked(asks, now_ns + _ns(delay_s))
            if now_ns >= asked.next_ns:
                asked.next_ns = now_ns + _ns(min(AGAIN_FIRST_S * 2**asked.tries, AGAIN_MOST_S))
                asked.tries += 1
                if asked.oldest_ms is None:
                    asked.oldest_ms = venue_ms
                queries.append(Query(asks, order.spec.symbol, leg.client_id, leg.order_id))
        return queries

    def answered(self, client_id: str, final: bool) -> int | None:
        """An answer has come: venue time at which it was asked at the earliest, None when nothing
        was asked. A `final` one told what it was asked; the next question has the usual delay."""
        asked = self._asked.get(client_id)
        if asked is None:
            return None
        oldest_ms, asked.oldest_ms = asked.oldest_ms, None
        if final:
            del self._asked[client_id]
        return oldest_ms

    def tries(self, client_id: str) -> int:
        asked = self._asked.get(client_id)
        return asked.tries if asked else 0

    def soon(self, order: Order) -> None:
        """Something may have been missed: ask without delay."""
        for leg in order.legs:
            asks, _ = _wanted(order, leg)
            if asks is not None:
                oldest = self._asked.pop(leg.client_id, None)
                self._asked[leg.client_id] = _Asked(
                    asks, 0, oldest_ms=oldest.oldest_ms if oldest else None
                )

    def forget(self, order: Order) -> None:
        for leg in order.legs:
            self._asked.pop(leg.client_id, None)

    def certain(self, order: Order, asked_ms: int | None) -> bool:
        """An order that the venue did not have at that time (its own) can never arrive: it comes
        too late for its `recvWindow` (heading "Timing security")."""
        return asked_ms is not None and asked_ms > order.timestamp_ms + self._certain_ms


def _wanted(order: Order, leg: Leg) -> tuple[str | None, float]:
    """What should be asked about a leg, and with what delay at first."""
    if leg.end is not None:
        wanted = leg.trades_missing and leg.order_id is not None
        return (client_ids.TRADES if wanted else None), TRADES_S
    if leg.lost:
        return None, 0
    if order.status == "unknown":
        return client_ids.STATUS, 0
    if not leg.accepted and order.status in ("intent", "sent"):
        return None, 0
    return client_ids.STATUS, AT_ONCE_S if order.ends_at_once else RESTING_S


def _ns(seconds: float) -> int:
    return int(seconds * NS_PER_S)
