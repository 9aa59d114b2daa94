"""The venue's clock, from its answers to `time` on the session that orders use."""

from __future__ import annotations

import time
from dataclasses import dataclass

from engine.errors import VenueError
from engine.venues import binance

SAMPLES = 3
OFFSET_MS_MOST = 86_400_000  # HP_ECONFIG beyond; a venue that is a day off is not one


@dataclass(frozen=True, slots=True)
class _Asked:
    sent_ns: int
    sent_ms: float


class VenueClock:
    """A measurement is SAMPLES requests, each sent when the one before is answered; that with the
    shortest round trip sets `offset_ms`, the venue's clock minus ours. None before the first."""

    def __init__(self) -> None:
        self.offset_ms: int | None = None
        self._asked: dict[str, _Asked] = {}
        self._samples: list[tuple[int, int]] = []  # (round trip ns, offset ms)

    @property
    def waiting(self) -> bool:
        """A request has no answer yet."""
        return bool(self._asked)

    def begin(self) -> bytes:
        """The first request of a measurement; what was asked before is forgotten."""
        self._asked.clear()
        self._samples.clear()
        return self._request()

    def asked(self, request_id: str) -> bool:
        return request_id in self._asked

    def answer(self, reply: binance.Reply, t_ns: int) -> bytes | None:
        """A reply to a request of ours, taken off the wire at t_ns: the next request, or None when
        the measurement is complete. VenueError when it is no time that can be."""
        asked = self._asked.pop(reply.id)
        server_ms = reply.result.get("serverTime")
        if reply.status != 200 or type(server_ms) is not int:
            raise VenueError(
                f"the venue does not tell its time ({reply.code}: {reply.message}): check that "
                "venue.url is the exchange's WebSocket API"
            )
        round_trip_ns = t_ns - asked.sent_ns
        middle_ms = round(asked.sent_ms + round_trip_ns / 2e6)
        if abs(server_ms - middle_ms) > OFFSET_MS_MOST:
            raise VenueError(
                f"the venue's clock ({str(server_ms)[:30]} ms) and ours ({middle_ms} ms) are more "
                "than a day apart: correct this machine's clock, or check venue.url"
            )
        self._samples.append((round_trip_ns, server_ms - middle_ms))
        if len(self._samples) < SAMPLES:
            return self._request()
        self.offset_ms = min(self._samples)[1]
        return None

    def _request(self) -> bytes:
        request_id = f"time-{time.monotonic_ns()}"
        self._asked[request_id] = _Asked(time.monotonic_ns(), time.time() * 1000)
        return binance.time_request(request_id)
