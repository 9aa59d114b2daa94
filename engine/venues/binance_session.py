"""What a session with Binance is asked before it takes orders (web-socket-api.md)."""

from __future__ import annotations

from dataclasses import dataclass

from engine.credentials import Credentials
from engine.venues import binance_requests
from engine.venues.binance import logon_request, request
from engine.venues.binance_requests import Auth, Stamp, signed

RECV_WINDOW_MS = 5000  # the venue's own default ("Timing security")


@dataclass(frozen=True, slots=True)
class SessionRequests:
    """The requests of one account. With an Ed25519 key a session logs on and signs nothing more;
    `timestamp_ms` is venue time."""

    credentials: Credentials
    symbols: tuple[str, ...]

    @property
    def logs_on(self) -> bool:
        return self.credentials.private_key is not None

    @property
    def subscribe_method(self) -> str:
        suffix = "" if self.logs_on else ".signature"
        return f"userDataStream.subscribe{suffix}"

    def exchange_info(self, request_id: str) -> bytes:
        """Heading "Exchange information", of our symbols."""
        return request(request_id, "exchangeInfo", {"symbols": list(self.symbols)})

    def logon(self, request_id: str, timestamp_ms: int) -> bytes:
        """Heading "Log in with API key (SIGNED)"; where logs_on."""
        key = self.credentials.private_key
        assert key is not None
        return logon_request(request_id, self.credentials.api_key, key, timestamp_ms)

    def subscribe(self, request_id: str, timestamp_ms: int) -> bytes:
        return binance_requests.subscribe(request_id, self._stamp(timestamp_ms))

    def order_counts(self, request_id: str, timestamp_ms: int) -> bytes:
        """Heading "Unfilled Order Count (USER_DATA)"."""
        return signed(request_id, "account.rateLimits.orders", {}, self._stamp(timestamp_ms))

    def _stamp(self, timestamp_ms: int) -> Stamp:
        return Stamp(Auth.of(self.credentials), timestamp_ms, RECV_WINDOW_MS)
