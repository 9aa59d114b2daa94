"""What a session with Binance is asked before it takes orders."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine.credentials import Credentials
from engine.venues.binance_session import SessionRequests

NOW_MS = 1_747_385_641_636
SYMBOLS = ("BTCUSDT", "ETHUSDT")
BY_SECRET = SessionRequests(Credentials("key", api_secret="secret"), SYMBOLS)
PRIVATE_KEY = Ed25519PrivateKey.generate()
BY_LOGON = SessionRequests(Credentials("key", private_key=PRIVATE_KEY), SYMBOLS)


def hmac_hex(payload: str) -> str:
    return hmac.new(b"secret", payload.encode(), hashlib.sha256).hexdigest()


def test_with_a_secret_every_request_is_signed() -> None:
    assert not BY_SECRET.logs_on
    signed = {
        "apiKey": "key",
        "recvWindow": 5000,
        "timestamp": NOW_MS,
        "signature": hmac_hex(f"apiKey=key&recvWindow=5000&timestamp={NOW_MS}"),
    }
    for request, method in (
        (BY_SECRET.subscribe("a", NOW_MS), "userDataStream.subscribe.signature"),
        (BY_SECRET.order_counts("a", NOW_MS), "account.rateLimits.orders"),
    ):
        assert json.loads(request) == {"id": "a", "method": method, "params": signed}


def test_with_a_private_key_only_the_log_on_is() -> None:
    assert BY_LOGON.logs_on
    logon = json.loads(BY_LOGON.logon("a", NOW_MS))
    assert logon["method"] == "session.logon"
    signature = base64.b64decode(logon["params"].pop("signature"))
    PRIVATE_KEY.public_key().verify(signature, f"apiKey=key&timestamp={NOW_MS}".encode())
    assert json.loads(BY_LOGON.subscribe("b", NOW_MS)) == {
        "id": "b",
        "method": "userDataStream.subscribe",
    }
    counts = json.loads(BY_LOGON.order_counts("c", NOW_MS))
    assert counts["params"] == {"recvWindow": 5000, "timestamp": NOW_MS}


def test_the_rules_of_our_symbols_are_asked() -> None:
    assert json.loads(BY_SECRET.exchange_info("a")) == {
        "id": "a",
        "method": "exchangeInfo",
        "params": {"symbols": ["BTCUSDT", "ETHUSDT"]},
    }
