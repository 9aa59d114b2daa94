"""The exchange simulator's session authentication and Ed25519 signatures ("Session Authentication"
of web-socket-api.md), signed here and by `engine.venues.binance`."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.asyncio.client import ClientConnection

from engine.core import Engine, EngineOptions, Rule, VenueAddress
from engine.errors import ConfigError
from engine.records import Fired, Message
from engine.sim.exchange import ExchangeSim
from engine.venues.binance import (
    Reply,
    logon_request,
    order_status,
    order_template,
    parse_reply,
)
from tests.peers import PATIENCE_S, SELL, book_of, deposit
from tests.test_sim_exchange import (
    ABSENT,
    API_KEY,
    MARKET,
    ask,
    client_of,
    exchange_and_client,
    hmac_hex,
    in_a_loop,
    missing,
    now_ms,
    place,
    signed,
)

ED25519_API_KEY = "4yNzx3yWC5bS6YTwEkSRaC0nRmSQIIStAUOh1b6kqaBrTLIhjCpI5lJH8q8R8WNO"  # documented
PRIVATE_KEY = Ed25519PrivateKey.generate()
PUBLIC_PEM = PRIVATE_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
STATUS_KEYS = [
    *("apiKey", "authorizedSince", "connectedSince", "returnRateLimits", "serverTime"),
    "userDataStream",
]
BAD_SIGNATURE = {"code": -1022, "msg": "Signature for this request is not valid."}
REVOKED = {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}


def logon(
    timestamp_ms: int | None = None,
    api_key: str = ED25519_API_KEY,
    key: Ed25519PrivateKey = PRIVATE_KEY,
) -> str:
    at = now_ms() if timestamp_ms is None else timestamp_ms
    return logon_request("logon", api_key, key, at).decode()


def by_ed25519(params: dict[str, Any]) -> dict[str, Any]:
    """`params` signed by themselves, as the documents' sample script does it."""
    params = {"apiKey": ED25519_API_KEY, "timestamp": now_ms()} | params
    payload = "&".join(f"{name}={params[name]}" for name in sorted(params))
    return params | {"signature": base64.b64encode(PRIVATE_KEY.sign(payload.encode())).decode()}


def unsigned(**others: Any) -> dict[str, Any]:
    """A market order as a connection that has logged on may send it."""
    return MARKET | {"timestamp": now_ms()} | others


async def order(client: ClientConnection, params: dict[str, Any]) -> dict[str, Any]:
    return await ask(client, {"id": 7, "method": "order.place", "params": params})


async def session(client: ClientConnection, method: str) -> dict[str, Any]:
    reply = await ask(client, {"id": method, "method": f"session.{method}"})
    assert (reply["id"], reply["status"]) == (method, 200)
    assert list(reply["result"]) == STATUS_KEYS
    return dict(reply["result"])


@contextlib.asynccontextmanager
async def venue_and_client(
    query: str = "", **options: Any
) -> AsyncIterator[tuple[ExchangeSim, ClientConnection]]:
    """An exchange that knows both kinds of keys."""
    options = {"ed25519_key": (ED25519_API_KEY, PUBLIC_PEM)} | options
    async with exchange_and_client(query, **options) as (sim, client):
        yield sim, client


# ---- logging on and out --------------------------------------------------------------------------


@in_a_loop
async def test_a_connection_logs_on_orders_without_signature_and_logs_out() -> None:
    async with venue_and_client() as (sim, client):
        before = now_ms()
        reply = await ask(client, logon())
        assert (reply["id"], reply["status"]) == ("logon", 200)
        result = reply["result"]
        assert list(result) == STATUS_KEYS
        assert result["apiKey"] == ED25519_API_KEY
        assert before <= result["authorizedSince"] == result["serverTime"] <= now_ms()
        assert result["connectedSince"] <= result["authorizedSince"]
        assert (result["returnRateLimits"], result["userDataStream"]) == (True, False)

        params = unsigned()
        reply = await order(client, params)
        assert (reply["status"], reply["result"]["status"]) == (200, "FILLED")
        assert sim.ledger[0].timestamp_ms == params["timestamp"]

        status = await session(client, "status")
        assert status | {"serverTime": 0} == result | {"serverTime": 0}
        after = await session(client, "logout")
        assert (after["apiKey"], after["authorizedSince"]) == (None, None)
        assert after["connectedSince"] == result["connectedSince"]
        again = await session(client, "logout")  # which does nothing
        assert again | {"serverTime": 0} == after | {"serverTime": 0}
        code, msg = missing("apiKey")
        assert (await order(client, unsigned()))["error"] == {"code": code, "msg": msg}
        assert len(sim.ledger) == 1


@in_a_loop
async def test_the_status_before_any_logon_and_with_rate_limits_off() -> None:
    async with venue_and_client("?returnRateLimits=false") as (_, client):
        status = await session(client, "status")
        assert (status["apiKey"], status["authorizedSince"]) == (None, None)
        assert status["returnRateLimits"] is False
        reply = await ask(client, logon())
        assert list(reply) == ["id", "status", "result"]


@in_a_loop
async def test_a_logon_is_of_one_connection_only() -> None:
    async with venue_and_client() as (sim, one), client_of(sim) as two:
        assert (await ask(one, logon()))["status"] == 200
        assert (await order(two, unsigned()))["error"]["code"] == -1102
        assert (await order(one, unsigned()))["status"] == 200
        assert (await session(two, "status"))["apiKey"] is None


@in_a_loop
async def test_authentication_requests_weigh_two() -> None:
    skew_ms = -(now_ms() % 60_000)  # the venue's minute begins now, and with it a new count
    async with venue_and_client(clock_skew_ms=skew_ms) as (_, client):
        requests = (
            logon(now_ms() + skew_ms),
            {"id": 1, "method": "session.status"},
            {"id": 1, "method": "ping"},
        )
        replies = [await ask(client, request) for request in requests]
        assert [reply["rateLimits"][-1]["count"] for reply in replies] == [4, 6, 7]


# ---- who may not log on --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (lambda: logon(key=Ed25519PrivateKey.generate()), 400, -1022),
        (lambda: logon(now_ms() - 5100), 400, -1021),
        (lambda: logon(now_ms() + 2000), 400, -1021),
        (lambda: logon(api_key="A" * 64), 401, -2015),
        (lambda: logon(api_key="short"), 401, -2014),
        (lambda: logon(api_key=API_KEY), 400, -1022),
    ],
    ids=["other key", "old", "early", "unknown", "malformed", "key of the other kind"],
)
@in_a_loop
async def test_a_bad_logon_is_refused_and_the_connection_lives_on(
    request_: Callable[[], str], status: int, code: int
) -> None:
    async with venue_and_client() as (_, client):
        reply = await ask(client, request_())
        assert (reply["status"], reply["error"]["code"]) == (status, code)
        assert (await session(client, "status"))["apiKey"] is None
        assert (await ask(client, logon()))["status"] == 200


@in_a_loop
async def test_an_hmac_key_cannot_log_on() -> None:
    async with venue_and_client() as (_, client):
        request = {"id": 1, "method": "session.logon", "params": signed({})}
        reply = await ask(client, request)
        assert reply["status"] == 400
        assert reply["error"] == {"code": -4056, "msg": "HMAC_SHA256 API key is not supported."}
        assert (await order(client, unsigned()))["error"]["code"] == -1102


@pytest.mark.parametrize("name", ["apiKey", "signature", "timestamp"])
@pytest.mark.parametrize("before", [False, True], ids=["first", "again"])
@in_a_loop
async def test_a_logon_must_say_everything_each_time(name: str, before: bool) -> None:
    async with venue_and_client() as (_, client):
        if before:
            await ask(client, logon())
        request = json.loads(logon())
        del request["params"][name]
        code, msg = missing(name)
        assert (await ask(client, request))["error"] == {"code": code, "msg": msg}


@in_a_loop
async def test_a_logon_has_a_receive_window() -> None:
    async with venue_and_client() as (_, client):
        for window_ms, status in ((200, 400), (60_000, 200)):
            params = by_ed25519({"timestamp": now_ms() - 6000, "recvWindow": window_ms})
            request = {"id": 1, "method": "session.logon", "params": params}
            assert (await ask(client, request))["status"] == status


@in_a_loop
async def test_a_failed_logon_leaves_the_former_one() -> None:
    async with venue_and_client() as (_, client):
        first = (await ask(client, logon()))["result"]
        await ask(client, logon(key=Ed25519PrivateKey.generate()))
        status = await session(client, "status")
        assert status["authorizedSince"] == first["authorizedSince"]
        assert (await order(client, unsigned()))["status"] == 200


@in_a_loop
async def test_a_second_logon_changes_the_key() -> None:
    async with venue_and_client() as (sim, client):
        first = (await ask(client, logon()))["result"]
        other_key, other_private = "B" * 64, Ed25519PrivateKey.generate()
        sim.venue.keys[other_key] = other_private.public_key()
        await asyncio.sleep(0.002)
        second = (await ask(client, logon(api_key=other_key, key=other_private)))["result"]
        assert second["apiKey"] == other_key
        assert second["authorizedSince"] > first["authorizedSince"]
        assert second["connectedSince"] == first["connectedSince"]


@in_a_loop
async def test_a_revoked_key_ends_the_session_with_the_next_order() -> None:
    async with venue_and_client() as (sim, client):
        await ask(client, logon())
        revoked = sim.venue.keys.pop(ED25519_API_KEY)
        assert await order(client, unsigned()) == {"id": None, "status": 401, "error": REVOKED}
        assert (await session(client, "status"))["apiKey"] is None
        assert (await order(client, unsigned()))["error"]["code"] == -1102
        assert sim.ledger == []
        sim.venue.keys[ED25519_API_KEY] = revoked
        assert (await ask(client, logon()))["status"] == 200


# ---- orders on a connection that has logged on ---------------------------------------------------


@in_a_loop
async def test_an_order_without_signature_still_has_a_timestamp_in_time() -> None:
    async with venue_and_client() as (sim, client):
        await ask(client, logon())
        code, msg = missing("timestamp")
        assert (await order(client, MARKET))["error"] == {"code": code, "msg": msg}
        for offset_ms in (-5100, 2000):
            reply = await order(client, unsigned(timestamp=now_ms() + offset_ms))
            assert reply["error"]["code"] == -1021
        late = unsigned(timestamp=now_ms() - 5100, recvWindow=60_000)
        assert (await order(client, late))["status"] == 200
        assert len(sim.ledger) == 1


@in_a_loop
async def test_an_explicit_key_and_signature_go_before_the_logon() -> None:
    async with venue_and_client() as (_, client):
        await ask(client, logon())
        for params in (signed(MARKET), by_ed25519(MARKET)):
            assert (await order(client, params))["status"] == 200
            wrong = params | {"quantity": "0.02000"}
            assert (await order(client, wrong))["error"] == BAD_SIGNATURE
        assert (await session(client, "status"))["apiKey"] == ED25519_API_KEY


@pytest.mark.parametrize("left_out", ["apiKey", "signature"])
@pytest.mark.parametrize("value", [ABSENT, "", None], ids=["absent", "empty", "null"])
@in_a_loop
async def test_half_an_authorization_is_none(left_out: str, value: object) -> None:
    async with venue_and_client() as (_, client):
        await ask(client, logon())
        params = {k: v for k, v in by_ed25519(MARKET).items() if k != left_out}
        params |= {} if value is ABSENT else {left_out: value}
        code, msg = missing(left_out)
        assert (await order(client, params))["error"] == {"code": code, "msg": msg}


def order_by_engine(sim: ExchangeSim) -> tuple[Reply, Reply, Fired]:
    """What the engine does with such a key: log on, then fire an order without signature."""
    engine = Engine(book_of("kraken"), EngineOptions(live=True, max_orders=1))
    order = engine.add_order(order_template(SELL, ED25519_API_KEY, 5000, signed=False))
    engine.add_rule(Rule(("deposit",), None, 1, None, order))
    url = urlsplit(sim.url)
    engine.connect(
        VenueAddress("127.0.0.1", "localhost", url.port or 0, url.path, sim.ca_file, 20 * 10**9)
    )

    def reply() -> Reply:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            engine.poll(10**8)
            for event in engine.events():
                if isinstance(event, Message) and (found := parse_reply(event.text)):
                    return found
        raise AssertionError("no reply")

    engine.send_text(logon().encode())
    answered = reply()
    engine.rawtx(deposit("kraken"), time.monotonic_ns())
    (fired,) = [event for event in engine.events() if isinstance(event, Fired)]
    acked = reply()
    engine.close()
    return answered, acked, fired


@in_a_loop
async def test_the_engine_logs_on_and_orders_without_signature() -> None:
    async with ExchangeSim(ed25519_key=(ED25519_API_KEY, PUBLIC_PEM)) as sim:
        answered, acked, fired = await asyncio.to_thread(order_by_engine, sim)
    assert (answered.id, answered.status) == ("logon", 200)
    assert answered.result["apiKey"] == ED25519_API_KEY
    assert (acked.id, order_status(acked)) == (fired.client_id, "acked")
    (entry,) = sim.ledger
    assert (entry.client_id, entry.timestamp_ms) == (fired.client_id, fired.timestamp_ms)
    assert sim.rejections == {}


# ---- Ed25519 signatures of single requests -------------------------------------------------------


@in_a_loop
async def test_a_single_request_signed_with_ed25519_is_accepted() -> None:
    async with venue_and_client() as (sim, client):
        assert (await order(client, by_ed25519(MARKET)))["status"] == 200
        assert (await place(client, MARKET))["status"] == 200  # and HMAC as ever
        assert len(sim.ledger) == 2
        utf8 = by_ed25519(MARKET | {"symbol": "\uff11\uff12\uff13\uff14\uff15\uff16"})
        assert (await order(client, utf8))["error"]["code"] == -1121  # signed well: no such symbol


@pytest.mark.parametrize(
    "spoil",
    [
        lambda signature: signature.swapcase(),
        lambda signature: signature[:-4],
        lambda signature: signature + "AAAA",
        lambda signature: signature.rstrip("="),
        lambda signature: signature[:10] + "\n" + signature[10:],
        lambda signature: base64.b64decode(signature).hex(),
        lambda signature: "\uff10" * 88,
        lambda signature: "\ud800",
        lambda signature: "0" * 64,
        lambda signature: hmac_hex("apiKey"),
    ],
)
@in_a_loop
async def test_a_spoilt_ed25519_signature_is_refused(spoil: Callable[[str], str]) -> None:
    async with venue_and_client() as (sim, client):
        params = by_ed25519(MARKET)
        wrong = params | {"signature": spoil(params["signature"])}
        assert (await order(client, wrong))["error"] == BAD_SIGNATURE
        assert (await order(client, params))["status"] == 200
        assert len(sim.ledger) == 1


@in_a_loop
async def test_a_key_proves_signatures_of_its_own_kind_only() -> None:
    async with venue_and_client() as (_, client):
        by_hmac = signed(MARKET | {"apiKey": ED25519_API_KEY})
        assert (await order(client, by_hmac))["error"] == BAD_SIGNATURE
        assert (await order(client, by_ed25519({**MARKET, "apiKey": API_KEY})))["error"] == (
            BAD_SIGNATURE
        )


@in_a_loop
async def test_without_an_ed25519_key_nobody_logs_on() -> None:
    async with venue_and_client(ed25519_key=None) as (sim, client):
        assert sim.ed25519_api_key is None
        assert (await ask(client, logon()))["error"] == REVOKED


RSA_PEM = (
    rsa.generate_private_key(65537, 2048)
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
)


@pytest.mark.parametrize("pem", [b"", b"key", RSA_PEM], ids=["empty", "text", "rsa"])
def test_only_an_ed25519_public_key_is_taken(pem: bytes) -> None:
    with pytest.raises(ConfigError, match=r"no Ed25519 public key in PEM: .*-pubout"):
        ExchangeSim(ed25519_key=(ED25519_API_KEY, pem))
