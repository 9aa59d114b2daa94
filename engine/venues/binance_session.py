"""What a session with Binance is asked before it takes orders (web-socket-api.md)."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from engine.config import Credentials
from engine.venues.binance import (
    logon_request,
    request,
    signature_payload,
)


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
        """Headings "Subscribe to User Data Stream" and, where nobody logs on, "... through
        signature subscription"."""
        if self.logs_on:
            return request(request_id, self.subscribe_method)
        return request(request_id, self.subscribe_method, self._signed(timestamp_ms))

    def order_counts(self, request_id: str, timestamp_ms: int) -> bytes:
        """Heading "Unfilled Order Count (USER_DATA)"."""
        return request(request_id, "account.rateLimits.orders", self._signed(timestamp_ms))

    def _signed(self, timestamp_ms: int) -> dict[str, str | int]:
        if self.logs_on:
            return {"timestamp": timestamp_ms}
        params: dict[str, str | int] = {
            "apiKey": self.credentials.api_key,
            "timestamp": timestamp_ms,
        }
        secret = (self.credentials.api_secret or "").encode()
        payload = signature_payload(params).encode()
        return {**params, "signature": hmac.new(secret, payload, hashlib.sha256).hexdigest()}
