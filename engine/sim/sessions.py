"""The methods about the connection itself (web-socket-api.md, "Authentication requests" and "User
Data Stream requests", by the names of their headings)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from engine.sim import events
from engine.sim.call import Call, Connection, Params
from engine.sim.request import ApiError, read_long

SUBSCRIPTIONS_MAX = 65_535  # of a connection in its lifetime


def logon(call: Call, params: Params) -> dict[str, Any]:
    """Heading "Log in with API key (SIGNED)": only Ed25519 keys can."""
    if isinstance(call.keys[params["apiKey"]], str):
        # errors.md lacks this code, which the venue's answers show.
        raise ApiError(-4056, "HMAC_SHA256 API key is not supported.")
    call.connection.log_on(params["apiKey"], call.now_ms)
    return status(call, params)


def logout(call: Call, params: Params) -> dict[str, Any]:
    """Heading "Log out of the session"; "Unsubscribe from User Data Stream" tells what it ends."""
    log_out(call.connection, call.now_ms)
    return status(call, params)


def log_out(connection: Connection, now_ms: int) -> None:
    """Forget the key, and end the subscription that rested on it."""
    connection.log_out()
    if connection.subscribed_by_logon:
        _end_subscription(connection, now_ms)


def status(call: Call, params: Params) -> dict[str, Any]:
    """Heading "Query session status"."""
    connection = call.connection
    return {
        "apiKey": connection.api_key,
        "authorizedSince": connection.authorized_ms,
        "connectedSince": connection.connected_ms,
        "returnRateLimits": connection.show_limits,
        "serverTime": call.now_ms,
        "userDataStream": connection.subscription_id is not None,
    }


def subscribe(call: Call, params: Params) -> dict[str, Any]:
    """Heading "Subscribe to User Data Stream (USER_STREAM)"."""
    if call.connection.api_key not in call.keys:
        raise ApiError(-1002, "You are not authorized to execute this request.", 401)
    return _subscribe(call.connection, by_logon=True)


def subscribe_signature(call: Call, params: Params) -> dict[str, Any]:
    """Heading "Subscribe to User Data Stream through signature subscription (USER_STREAM)"."""
    return _subscribe(call.connection, by_logon=False)


def _subscribe(connection: Connection, by_logon: bool) -> dict[str, Any]:
    if connection.subscription_id is not None:
        raise ApiError(-2035, "User Data Stream subscription already active.")
    if connection.subscriptions >= SUBSCRIPTIONS_MAX:
        raise ApiError(-2042, "Maximum subscription ID reached for this connection.")
    connection.subscription_id = connection.subscriptions
    connection.subscribed_by_logon = by_logon
    connection.subscriptions += 1
    return {"subscriptionId": connection.subscription_id}


def unsubscribe(call: Call, params: Params) -> dict[str, Any]:
    """Heading "Unsubscribe from User Data Stream"."""
    connection = call.connection
    given = read_long(params, "subscriptionId") if "subscriptionId" in params else None
    if given not in (None, connection.subscription_id):
        raise ApiError(-2036, "User Data Stream subscription not active.")
    if connection.subscription_id is not None:
        _end_subscription(connection, call.now_ms)
    return {}


def subscriptions(call: Call, params: Params) -> list[dict[str, Any]]:
    """Heading "Listing all subscriptions"."""
    subscription_id = call.connection.subscription_id
    return [] if subscription_id is None else [{"subscriptionId": subscription_id}]


def deliver(connection: Connection, event: str) -> None:
    """Send an event's JSON if the connection has subscribed ("Event format")."""
    if connection.subscription_id is not None:
        connection.deliver(f'{{"subscriptionId":{connection.subscription_id},"event":{event}}}')


def as_json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


def _end_subscription(connection: Connection, now_ms: int) -> None:
    deliver(connection, as_json(events.stream_terminated(now_ms)))
    connection.subscription_id = None
    connection.subscribed_by_logon = False
