"""The user data stream of the simulated exchange: who gets which events, from when and until when
(web-socket-api.md, "User Data Stream requests")."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.venue import BTC, LIMIT, Client

PRIVATE_KEY = Ed25519PrivateKey.generate()
ED25519_KEY = "E" * 64
BUY = LIMIT | {"side": "BUY", "price": "50000"}
ACTIVE = (-2035, "User Data Stream subscription already active.")
INACTIVE = (-2036, "User Data Stream subscription not active.")


def log_on(client: Client) -> dict[str, Any]:
    client.venue.keys[ED25519_KEY] = PRIVATE_KEY.public_key()
    params = {"apiKey": ED25519_KEY, "timestamp": client.now_ns // 10**6}
    payload = "&".join(f"{name}={params[name]}" for name in sorted(params))
    params["signature"] = base64.b64encode(PRIVATE_KEY.sign(payload.encode())).decode()
    request = {"id": 1, "method": "session.logon", "params": params}
    reply = json.loads(client.venue.answer(json.dumps(request), client.now_ns, client.connection))
    assert reply["status"] == 200
    return dict(reply["result"])


def terminated(client: Client) -> list[int]:
    """The subscriptions that were told that they have ended."""
    return [
        each["subscriptionId"]
        for each in client.events
        if each["event"]["e"] == "eventStreamTerminated"
    ]


def test_events_come_after_a_subscription_and_before_the_reply() -> None:
    client = Client(subscribe=False)
    client.ask("order.place", **BUY)
    assert client.events == []
    assert client.ask("session.status")["userDataStream"] is False
    client.ask("userDataStream.subscribe.signature")
    assert client.ask("session.status")["userDataStream"] is True
    client.ask("order.place", **BUY)
    assert [each["subscriptionId"] for each in client.events] == [0, 0]


def test_every_subscribed_connection_gets_them_until_it_has_gone() -> None:
    client = Client()
    heard: list[str] = []
    other = client.venue.connect(client.now_ns, True, heard.append)
    silent = client.venue.connect(client.now_ns, True, heard.append)
    log_on(client)
    first, client.connection = client.connection, other
    client.ask("userDataStream.subscribe.signature")
    client.ask("order.place", **BUY)
    assert len(heard) == len(client.events) == 2
    client.venue.disconnect(other)
    client.venue.disconnect(silent)
    client.connection = first
    client.ask("order.place", **BUY)
    assert (len(heard), len(client.events)) == (2, 4)


def test_one_subscription_at_a_time_and_ids_go_up() -> None:
    client = Client(subscribe=False)
    for expected in range(3):
        assert client.ask("userDataStream.subscribe.signature") == {"subscriptionId": expected}
        assert client.refusal("userDataStream.subscribe.signature") == ACTIVE
        assert client.ask("session.subscriptions") == [{"subscriptionId": expected}]
        assert client.refusal("userDataStream.unsubscribe", subscriptionId=9) == INACTIVE
        assert client.ask("userDataStream.unsubscribe", subscriptionId=expected) == {}
        assert client.ask("session.subscriptions") == []
    assert terminated(client) == [0, 1, 2]
    assert client.ask("userDataStream.unsubscribe") == {}
    client.ask("order.place", **BUY)
    assert len(client.events) == 3


def test_a_subscription_without_a_signature_needs_a_logon() -> None:
    client = Client(subscribe=False)
    reply = client.reply("userDataStream.subscribe")
    assert (reply["status"], reply["error"]["code"]) == (401, -1002)
    log_on(client)
    assert client.ask("userDataStream.subscribe") == {"subscriptionId": 0}
    client.ask("order.place", **BUY)
    assert len(client.events) == 2


def test_logging_out_ends_the_subscription_of_the_logon_only() -> None:
    client = Client(subscribe=False)
    log_on(client)
    client.ask("userDataStream.subscribe")
    assert client.ask("session.logout")["userDataStream"] is False
    assert terminated(client) == [0]
    client.ask("userDataStream.subscribe.signature")
    log_on(client)
    assert client.ask("session.logout")["userDataStream"] is True
    assert terminated(client) == [0]


def test_a_revoked_key_ends_its_subscription() -> None:
    client = Client(subscribe=False)
    log_on(client)
    client.ask("userDataStream.subscribe")
    del client.venue.keys[ED25519_KEY]
    unsigned = {
        "id": 1,
        "method": "account.status",
        "params": {"timestamp": client.now_ns // 10**6},
    }
    reply = json.loads(client.venue.answer(json.dumps(unsigned), client.now_ns, client.connection))
    assert (reply["id"], reply["error"]["code"]) == (None, -2015)
    assert terminated(client) == [0]


def test_events_carry_the_venues_time() -> None:
    client = Client()
    client.venue.clock_skew_ms = 5000
    client.ask("order.place", **BUY, timestamp=client.now_ns // 10**6 + 5000)
    [report, position] = client.take_events()
    assert (
        report["E"] == report["T"] == report["O"] == position["u"] == client.now_ns // 10**6 + 5000
    )
    found = client.ask(
        "order.status", **BTC, orderId=report["i"], timestamp=client.now_ns // 10**6 + 5000
    )
    assert found["time"] == report["O"]
