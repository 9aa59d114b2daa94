"""An order as it leaves, checked by other people's code: the `websockets` library parses the frame,
`json` the body, `hmac` the signature. And engine.venues.binance against the venue's documents."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import queue
import re
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from engine.core import Engine, EngineOptions, Rule, VenueAddress
from engine.errors import NativeError
from engine.records import Fired, Message, Record
from engine.sim import authority
from engine.venues.binance import (
    OrderSpec,
    Reply,
    ed25519_signature,
    logon_request,
    order_params,
    order_status,
    order_template,
    parse_reply,
    signature_payload,
    time_request,
)
from tests.peers import (
    API_KEY,
    BTC,
    PATIENCE_S,
    SECRET,
    SELL,
    book_of,
    deposit,
    engine_for,
    news,
    transaction,
    txid_of,
    wallet,
)

LIVE = EngineOptions(live=True, max_orders=100)
BUY = OrderSpec("ETHUSDT", "BUY", "LIMIT", "1.50000000", price="2500.10", time_in_force="IOC")


# ---- a venue made of other people's code ---------------------------------------------------------


@dataclass
class Venue:
    """What the `websockets` library understood of what we said."""

    address: VenueAddress
    texts: queue.Queue[str] = field(default_factory=queue.Queue)
    paths: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    ends: queue.Queue[ConnectionClosed] = field(default_factory=queue.Queue)

    def request(self) -> dict[str, Any]:
        """The next request, as JSON without duplicate keys."""

        def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            assert len(dict(pairs)) == len(pairs)
            return dict(pairs)

        decoded = json.loads(self.texts.get(timeout=PATIENCE_S), object_pairs_hook=unique)
        assert isinstance(decoded, dict)
        return decoded

    def handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.paths.append(connection.request.path)
        self.hosts.append(connection.request.headers["Host"])
        try:
            while True:
                message = connection.recv()
                assert isinstance(message, str)
                self.texts.put(message)
                connection.send(json.dumps({"id": json.loads(message)["id"], "status": 200}))
        except ConnectionClosed as end:
            self.ends.put(end)


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Venue]:
    files = authority.issue(tmp_path_factory.mktemp("ca"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate_file, files.key_file)
    venue = Venue(
        VenueAddress("127.0.0.1", "localhost", 0, "/ws-api/v3", files.ca_file, 20 * 10**9)
    )
    with serve(venue.handle, "127.0.0.1", 0, ssl=context) as server:
        port = server.socket.getsockname()[1]
        venue.address = VenueAddress(
            "127.0.0.1", "localhost", port, "/ws-api/v3", files.ca_file, 20 * 10**9
        )
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield venue
        server.shutdown()
        thread.join()


def assert_signed(params: dict[str, Any]) -> None:
    """Heading "SIGNED request example (HMAC)", with Python's hmac."""
    unsigned = sorted((name, value) for name, value in params.items() if name != "signature")
    payload = "&".join(f"{name}={value}" for name, value in unsigned)
    expected = hmac.new(SECRET.encode(), payload.encode(), hashlib.sha256).hexdigest()
    assert params["signature"] == expected


def fire(engine: Engine, raw: bytes) -> list[Fired]:
    engine.rawtx(raw, time.monotonic_ns())
    return [event for event in news(engine) if isinstance(event, Fired)]


# ---- the order on the wire -----------------------------------------------------------------------


@pytest.mark.parametrize("offset_ms", [0, 86_400_000, -3_600_000])
@pytest.mark.parametrize("spec", [SELL, BUY], ids=["market", "limit"])
def test_the_order_that_arrives_is_the_rule_s(
    venue: Venue, spec: OrderSpec, offset_ms: int
) -> None:
    engine = engine_for(LIVE, spec)
    engine.set_clock_offset(offset_ms)
    engine.connect(venue.address)
    raw = deposit("kraken")
    before_ms = time.time_ns() // 1_000_000
    (fired,) = fire(engine, raw)
    after_ms = time.time_ns() // 1_000_000

    request = venue.request()
    params = request.pop("params")
    assert request == {"id": fired.client_id, "method": "order.place"}
    assert_signed(params)
    assert re.fullmatch("[0-9a-f]{64}", params.pop("signature"))
    assert before_ms + offset_ms <= params["timestamp"] <= after_ms + offset_ms
    assert params.pop("timestamp") == fired.timestamp_ms
    wanted = {
        "symbol": spec.symbol,
        "side": spec.side,
        "type": spec.type,
        "quantity": spec.quantity,
        "price": spec.price,
        "timeInForce": spec.time_in_force,
        "newClientOrderId": fired.client_id,
        "newOrderRespType": "ACK",
        "recvWindow": 5000,
        "apiKey": API_KEY,
    }
    assert params == {name: value for name, value in wanted.items() if value is not None}
    assert (fired.txid, fired.exchange) == (txid_of(raw), "kraken")
    assert (fired.refusal, fired.error, fired.dry_run) == (None, None, False)
    assert 0 < time.monotonic_ns() - fired.sent_ns < 10**10
    engine.close()


@pytest.mark.parametrize("spec", [SELL, BUY], ids=["market", "limit"])
def test_an_order_without_signature_needs_no_key_and_is_the_smaller_one(
    venue: Venue, spec: OrderSpec
) -> None:
    engine = Engine(book_of("kraken"), LIVE)
    order = engine.add_order(order_template(spec, API_KEY, 5000, signed=False))
    engine.add_rule(Rule(("deposit",), None, 1, None, order))
    engine.connect(venue.address)
    lengths = {}
    for nonce in range(3):
        if nonce == 2:
            engine.set_key(SECRET)  # which signs nothing here
        engine.poll(0)  # and rehearses
        (fired,) = fire(engine, deposit("kraken", nonce))
        text = venue.texts.get(timeout=PATIENCE_S)
        lengths[nonce] = len(text)
        request = json.loads(text)
        wanted = order_params(spec, None, 5000)
        wanted |= {"newClientOrderId": fired.client_id, "timestamp": fired.timestamp_ms}
        assert request == {"id": fired.client_id, "method": "order.place", "params": wanted}
        assert (fired.refusal, fired.error, fired.dry_run) == (None, None, False)
    engine.close()
    signed = len(order_template(spec, API_KEY, 5000).body)
    left_out = f',"apiKey":"{API_KEY}","signature":"{"0" * 64}"'
    assert set(lengths.values()) == {signed - len(left_out)}


def test_signed_and_unsigned_orders_leave_one_engine(venue: Venue) -> None:
    engine = Engine(book_of("kraken", "okx"), LIVE)
    engine.set_key(SECRET)
    orders = [engine.add_order(order_template(SELL, API_KEY, 5000, s)) for s in (False, True)]
    engine.add_rule(Rule(("deposit",), "okx", 1, None, orders[0]))
    engine.add_rule(Rule(("deposit",), "kraken", 1, None, orders[1]))
    engine.connect(venue.address)
    for nonce in range(4):
        fire(engine, deposit("okx", nonce))
        assert venue.request()["params"].keys().isdisjoint({"apiKey", "signature"})
        fire(engine, deposit("kraken", 100 + nonce))
        assert_signed(venue.request()["params"])
    engine.close()


def test_the_reply_comes_back_with_the_order_s_id(venue: Venue) -> None:
    engine = engine_for(LIVE, SELL)
    engine.connect(venue.address)
    (fired,) = fire(engine, deposit("okx"))
    venue.request()
    messages: list[Record] = []
    deadline = time.monotonic() + PATIENCE_S
    while not messages and time.monotonic() < deadline:
        engine.poll(10**8)
        messages = [r for r in engine.records() if isinstance(r.body, Message)]
    assert isinstance(messages[0].body, Message)
    reply = parse_reply(messages[0].body.text)
    assert reply is not None
    assert (reply.id, order_status(reply)) == (fired.client_id, "acked")
    assert fired.sent_ns < messages[0].t_ns
    engine.close()


def test_each_rule_fires_its_own_order(venue: Venue) -> None:
    engine = Engine(book_of("kraken", "okx"), LIVE)
    engine.set_key(SECRET)
    sell, buy = (engine.add_order(order_template(s, API_KEY, 5000)) for s in (SELL, BUY))
    engine.add_rule(Rule(("deposit",), "okx", 2 * BTC, None, buy))
    engine.add_rule(Rule(("deposit",), None, 1, 9 * BTC, sell))
    engine.connect(venue.address)
    cases = [
        (deposit("kraken", 1, 9 * BTC), "BTCUSDT", 1),
        (deposit("okx", 2, 2 * BTC), "ETHUSDT", 0),
        (deposit("okx", 3, 2 * BTC - 1), "BTCUSDT", 1),
    ]
    for raw, symbol, rule in cases:
        (fired,) = fire(engine, raw)
        params = venue.request()["params"]
        assert (params["symbol"], fired.rule) == (symbol, rule)
        assert_signed(params)
    assert fire(engine, deposit("kraken", 4, 9 * BTC + 1)) == []
    engine.close()


def test_two_exchanges_in_one_transaction_get_two_orders(venue: Venue) -> None:
    engine = engine_for(LIVE, SELL)
    engine.connect(venue.address)
    raw = transaction({wallet("kraken"): BTC, wallet("okx"): 2 * BTC})
    fired = fire(engine, raw)
    assert [f.exchange for f in fired] == ["kraken", "okx"]
    assert [venue.request()["id"] for _ in fired] == [f.client_id for f in fired]
    assert fired[0].client_id != fired[1].client_id
    engine.close()


def test_a_thousand_orders_in_a_row_are_all_right(venue: Venue) -> None:
    """More than one draw of random masks, and no state left over from one order in the next."""
    engine = engine_for(EngineOptions(live=True, max_orders=1100), SELL)
    engine.connect(venue.address)
    fired = [f for nonce in range(1100) for f in fire(engine, deposit("kraken", nonce))]
    for f in fired:
        request = venue.request()
        assert (request["id"], request["params"]["timestamp"]) == (f.client_id, f.timestamp_ms)
        assert_signed(request["params"])
    assert len({f.client_id for f in fired}) == 1100
    engine.close()


def test_the_websockets_library_sees_a_proper_request_and_a_proper_goodbye(venue: Venue) -> None:
    while not venue.ends.empty():
        venue.ends.get()
    engine = engine_for(LIVE)
    engine.connect(venue.address)
    engine.send_text(time_request("clock"))
    assert venue.request() == {"id": "clock", "method": "time"}
    engine.close()
    end = venue.ends.get(timeout=PATIENCE_S)
    assert end.rcvd is not None
    assert end.sent is not None
    assert (end.rcvd.code, end.sent.code, end.rcvd_then_sent) == (1000, 1000, True)
    assert venue.paths[-1] == "/ws-api/v3"
    assert venue.hosts[-1] == f"localhost:{venue.address.port}"


# ---- the client order id -------------------------------------------------------------------------


def dry_ids(venue: Venue, *raws: bytes) -> list[str]:
    """The client ids of the orders that a new engine would send for these transactions."""
    engine = engine_for(EngineOptions(max_orders=100), SELL)
    engine.connect(venue.address)
    ids = [fired.client_id for raw in raws for fired in fire(engine, raw)]
    engine.close()
    return ids


def test_no_client_id_is_given_twice_in_a_run_or_by_two_runs(venue: Venue) -> None:
    both = transaction({wallet("kraken"): BTC, wallet("okx"): BTC}, 7)
    raws = [deposit("kraken", 1), deposit("kraken", 2), both]
    ids, others = dry_ids(venue, *raws), dry_ids(venue, *raws)
    assert len({*ids, *others}) == 2 * 4
    for client_id in ids:
        assert re.fullmatch(r"[a-zA-Z0-9-_]{1,36}", client_id)  # the venue's own pattern
        assert re.fullmatch(r"hp[0-9a-f]{20}-[0-9a-f]{13}", client_id)
    assert [client_id.rpartition("-")[0] for client_id in ids] == [ids[0].rpartition("-")[0]] * 4
    numbers = [int(client_id.rpartition("-")[2], 16) for client_id in ids]
    assert numbers == list(range(numbers[0], numbers[0] + 4))


# ---- templates -----------------------------------------------------------------------------------

# Nobody's symbol or key needs quotes or ampersands, but a template must not come apart over them.
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
decimals = st.from_regex(r"[0-9]{1,8}(\.[0-9]{1,8})?", fullmatch=True)
specs = st.builds(
    OrderSpec,
    symbol=words,
    side=st.sampled_from(["BUY", "SELL"]),
    type=st.sampled_from(["MARKET", "LIMIT"]),
    quantity=decimals,
    price=st.none() | decimals,
    time_in_force=st.none() | st.sampled_from(["GTC", "IOC", "FOK"]),
)
keys = st.from_regex(r"[a-zA-Z0-9]{64}", fullmatch=True) | st.sampled_from(
    ["c" * 64, "s" * 64, "1" * 64, "newClientOrderId", "timestamp"]
)


def patched(text: bytes, slots: dict[int, bytes]) -> str:
    for at, value in slots.items():
        text = text[:at] + value + text[at + len(value) :]
    return text.decode()


@settings(deadline=None)
@given(specs, keys, st.integers(1, 60_000))
def test_a_patched_template_without_signature_is_the_request_built_from_scratch(
    spec: OrderSpec, key: str, window_ms: int
) -> None:
    client_id, timestamp = "hp" + "0f" * 17, 1_645_423_376_532
    t = order_template(spec, key, window_ms, signed=False)
    assert (t.payload, t.payload_client_id_at, t.payload_timestamp_at) == (b"", 0, 0)
    assert t.body_signature_at == 0
    slots = (t.body_request_id_at, t.body_client_id_at)
    ids = {at: client_id.encode() for at in slots}
    body = patched(t.body, {**ids, t.body_timestamp_at: str(timestamp).encode()})
    params = order_params(spec, None, window_ms)
    params |= {"newClientOrderId": client_id, "timestamp": timestamp}
    assert "apiKey" not in params
    assert json.loads(body) == {"id": client_id, "method": "order.place", "params": params}


@settings(deadline=None)
@given(specs, keys, st.integers(1, 60_000))
def test_a_patched_template_is_the_request_built_from_scratch(
    spec: OrderSpec, key: str, window_ms: int
) -> None:
    client_id, timestamp, signature = "hp" + "0f" * 17, 1_645_423_376_532, "5a" * 32
    t = order_template(spec, key, window_ms)
    body = patched(
        t.body,
        {
            t.body_request_id_at: client_id.encode(),
            t.body_client_id_at: client_id.encode(),
            t.body_timestamp_at: str(timestamp).encode(),
            t.body_signature_at: signature.encode(),
        },
    )
    params = order_params(spec, key, window_ms)
    params |= {"newClientOrderId": client_id, "timestamp": timestamp}
    assert json.loads(body) == {
        "id": client_id,
        "method": "order.place",
        "params": {**params, "signature": signature},
    }
    payload = patched(
        t.payload,
        {
            t.payload_client_id_at: client_id.encode(),
            t.payload_timestamp_at: str(timestamp).encode(),
        },
    )
    assert payload == signature_payload(params)


DOCUMENTED = [  # web-socket-api.md, "SIGNED request example (HMAC)": ASCII, then not
    (
        {
            "symbol": "BTCUSDT",
            "side": "SELL",
            "type": "LIMIT",
            "timeInForce": "GTC",
            "quantity": "0.01000000",
            "price": "52000.00",
            "recvWindow": 100,
            "timestamp": 1645423376532,
            "apiKey": API_KEY,
        },
        f"apiKey={API_KEY}&price=52000.00&quantity=0.01000000&recvWindow=100&side=SELL"
        "&symbol=BTCUSDT&timeInForce=GTC&timestamp=1645423376532&type=LIMIT",
        "aa1b5712c094bc4e57c05a1a5c1fd8d88dcd628338ea863fec7b88e59fe2db24",
    ),
    (
        {
            "symbol": "１２３４５６",  # noqa: RUF001
            "side": "BUY",
            "type": "LIMIT",
            "timeInForce": "GTC",
            "quantity": "1.00000000",
            "price": "0.10000000",
            "recvWindow": 5000,
            "timestamp": 1645423376532,
            "apiKey": API_KEY,
        },
        f"apiKey={API_KEY}&price=0.10000000&quantity=1.00000000&recvWindow=5000&side=BUY"
        "&symbol=１２３４５６&timeInForce=GTC&timestamp=1645423376532&type=LIMIT",  # noqa: RUF001
        "b33892ae8e687c939f4468c6268ddd4c40ac1af18ad19a064864c47bae0752cd",
    ),
]


@pytest.mark.parametrize(("params", "payload", "signature"), DOCUMENTED)
def test_the_documented_payloads(
    params: dict[str, str | int], payload: str, signature: str
) -> None:
    assert signature_payload(params) == payload
    assert hmac.new(SECRET.encode(), payload.encode(), hashlib.sha256).hexdigest() == signature


# fix-api.md, "How to sign Logon <A> request": the one Ed25519 key that the documents publish with a
# signature it made. Of the keys of the other examples not even the public half is there.
DOCUMENTED_PEM = b"""-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIIJEYWtGBrhACmb9Dvy+qa8WEf0lQOl1s4CLIAB9m89u
-----END PRIVATE KEY-----
"""


def documented_key() -> Ed25519PrivateKey:
    key = load_pem_private_key(DOCUMENTED_PEM, None)
    assert isinstance(key, Ed25519PrivateKey)
    return key


def test_the_documented_ed25519_signature() -> None:
    payload = "\x01".join(["A", "EXAMPLE", "SPOT", "1", "20240627-11:17:25.223"])
    assert ed25519_signature(documented_key(), payload) == (
        "4MHXelVVcpkdwuLbl6n73HQUXUf1dse2PCgT1DYqW9w8AVZ1RACFGM+5UdlGPrQHrgtS3CvsRURC1oj73j8gCA=="
    )


def test_a_logon_is_signed_like_any_request() -> None:
    request = json.loads(logon_request("logon-1", API_KEY, documented_key(), 1649729878532))
    signature = base64.b64decode(request["params"].pop("signature"), validate=True)
    assert request == {
        "id": "logon-1",
        "method": "session.logon",
        "params": {"apiKey": API_KEY, "timestamp": 1649729878532},
    }
    payload = f"apiKey={API_KEY}&timestamp=1649729878532"
    documented_key().public_key().verify(signature, payload.encode())  # raises when it is wrong


def test_an_order_for_a_symbol_beyond_ascii_is_signed_in_utf_8(venue: Venue) -> None:
    symbol = str(DOCUMENTED[1][0]["symbol"])
    engine = engine_for(LIVE, OrderSpec(symbol, "BUY", "MARKET", "1"))
    engine.connect(venue.address)
    fire(engine, deposit("kraken"))
    params = venue.request()["params"]
    assert params["symbol"] == symbol
    assert_signed(params)
    engine.close()


def test_a_template_that_does_not_fit_is_refused() -> None:
    engine = engine_for(LIVE)
    with pytest.raises(NativeError, match=r"adding an order template: .*bounds"):
        engine.add_order(
            order_template(OrderSpec("X" * 2000, "SELL", "MARKET", "1"), API_KEY, 5000)
        )


# ---- replies -------------------------------------------------------------------------------------


def test_the_documented_success() -> None:
    reply = parse_reply(
        b'{"id": "e2a85d9f", "status": 200, "result": {"symbol": "BTCUSDT", "orderId": 12510053279,'
        b' "status": "NEW"}, "rateLimits": [{"rateLimitType": "ORDERS", "count": 12}]}'
    )
    assert reply == Reply(
        id="e2a85d9f",
        status=200,
        result={"symbol": "BTCUSDT", "orderId": 12510053279, "status": "NEW"},
        rate_limits=({"rateLimitType": "ORDERS", "count": 12},),
    )
    assert order_status(reply) == "acked"


def test_the_documented_refusal() -> None:
    words = "Account has insufficient balance for requested action."
    reply = parse_reply(
        b'{"id": "e2a85d9f", "status": 400, "error": {"code": -2010, "msg": "%s"}}' % words.encode()
    )
    assert reply == Reply(id="e2a85d9f", status=400, result={}, code=-2010, message=words)
    assert order_status(reply) == "rejected"


@pytest.mark.parametrize("status", [418, 429])
def test_when_to_try_again_is_in_the_error_s_data(status: int) -> None:
    """As in the example of a ban, heading "IP limits"."""
    reply = parse_reply(
        b'{"id": "fc93", "status": %d, "error": {"code": -1003, "msg": "Way too much", "data":'
        b' {"serverTime": 1659142907531, "retryAfter": 1659146400000}}, "rateLimits": []}' % status
    )
    assert reply is not None
    assert (reply.code, reply.retry_after_ms) == (-1003, 1659146400000)
    assert order_status(reply) == "rejected"


@pytest.mark.parametrize(
    ("status", "code", "believed"),
    [
        (200, None, "acked"),
        (400, -1013, "rejected"),
        (400, -1021, "rejected"),
        (400, -1006, "unknown"),
        (400, -1007, "unknown"),
        (403, None, "rejected"),
        (409, -2021, "unknown"),
        (418, -1003, "rejected"),
        (429, -1015, "rejected"),
        (500, -1000, "unknown"),
        (503, -1008, "unknown"),
        (504, -1007, "unknown"),
        (0, None, "unknown"),
        (302, None, "unknown"),
        (-400, -2010, "unknown"),
        (10**30, None, "unknown"),
    ],
)
def test_only_a_clear_refusal_is_a_rejection(status: int, code: int | None, believed: str) -> None:
    error = {} if code is None else {"code": code, "msg": "?"}
    reply = parse_reply(json.dumps({"id": "x", "status": status, "error": error}).encode())
    assert reply is not None
    assert order_status(reply) == believed


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"200",
        b'"status"',
        b"\xff\xfe\x00",
        b'{"status": 200',
        b'{"id": "x"}',
        b'{"id": "x", "status": null}',
        b'{"id": "x", "status": "200"}',
        b'{"id": "x", "status": 200.0}',
        b'{"id": "x", "status": true}',
        b'{"id": "x", "status": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"status": ' + b'{"a":' * 100_000,
        b'{"event": {"e": "serverShutdown", "E": 1770123456789}}',
        b'{"subscriptionId": 0, "event": {"e": "outboundAccountPosition"}}',
    ],
)
def test_what_is_no_response_is_none(text: bytes) -> None:
    assert parse_reply(text) is None


@pytest.mark.parametrize(
    "error",
    [
        None,
        [],
        "no",
        7,
        {"code": None, "msg": None, "data": None},
        {"code": "-1", "msg": 5, "data": []},
        {"code": True, "data": {"retryAfter": "soon"}},
        {"data": {"retryAfter": None}},
        {"data": {"retryAfter": 1.5}},
    ],
)
def test_an_odd_error_is_still_a_refusal(error: object) -> None:
    reply = parse_reply(json.dumps({"id": None, "status": 400, "error": error}).encode())
    assert reply is not None
    assert (reply.code, reply.retry_after_ms, reply.result) == (None, None, {})
    assert isinstance(reply.message, str)
    assert order_status(reply) == "rejected"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(("id", "status", "result", "error", "rateLimits"), json_values),
    )
    | json_values
)
def test_no_json_breaks_the_parser(value: object) -> None:
    reply = parse_reply(json.dumps(value).encode())
    if reply is not None:
        assert order_status(reply) in ("acked", "rejected", "unknown")


@settings(deadline=None)
@given(st.binary())
def test_no_bytes_break_the_parser(data: bytes) -> None:
    parse_reply(data)
