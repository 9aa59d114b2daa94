"""Binance Spot over its WebSocket API (binance-spot-api-docs, web-socket-api.md): what an order
looks like on the wire, and what a reply means."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine._native import lib

CLIENT_ID_SLOT = "c" * lib.HP_CLIENT_ID_LEN
TIMESTAMP_SLOT = "1" * lib.HP_TIMESTAMP_LEN
SIGNATURE_SLOT = "s" * lib.HP_SIGNATURE_LEN

# errors.md: the order may have been executed although the reply is an error (-1000 and -1001 say
# nothing of it, -1006 and -1007 say so).
OUTCOME_UNKNOWN_CODES = frozenset({-1000, -1001, -1006, -1007})
# errors.md, "Messages for -1010...": the id "is already in use", so there is an order of that id.
DUPLICATE_ORDER = "Duplicate order sent."
PARTIAL_FAILURE = 409  # heading "Status codes": a part of the request succeeded


@dataclass(frozen=True, slots=True)
class OrderSpec:
    """An order as a rule asks for it. Quantity and price are decimal strings, sent as they are."""

    symbol: str
    side: str
    type: str
    quantity: str
    price: str | None = None
    time_in_force: str | None = None


@dataclass(frozen=True, slots=True)
class OrderTemplate:
    """The string to sign and the JSON to send, with the offsets of the slots the C side patches.
    Without signature `payload` is empty and the offsets into it and of the signature are 0."""

    payload: bytes
    body: bytes
    payload_client_id_at: int
    payload_timestamp_at: int
    body_request_id_at: int
    body_client_id_at: int
    body_timestamp_at: int
    body_signature_at: int


@dataclass(frozen=True, slots=True)
class Reply:
    """A response (heading "Response format"): `status` is HTTP-like, `code` and `message` are of
    its error, `retry_after_ms` an epoch time. `rows` are a result that is an array."""

    id: str
    status: int
    result: dict[str, Any]
    code: int | None = None
    message: str = ""
    retry_after_ms: int | None = None
    rows: tuple[dict[str, Any], ...] | None = None
    rate_limits: tuple[dict[str, Any], ...] = ()


def order_params(spec: OrderSpec, api_key: str | None, recv_window_ms: int) -> dict[str, str | int]:
    """Every parameter of `order.place` but the signature, with the slots still in it."""
    params: dict[str, str | int] = {
        "symbol": spec.symbol,
        "side": spec.side,
        "type": spec.type,
        "quantity": spec.quantity,
        "newClientOrderId": CLIENT_ID_SLOT,
        "newOrderRespType": "ACK",
        "recvWindow": recv_window_ms,
        "timestamp": int(TIMESTAMP_SLOT),
    }
    if api_key is not None:
        params["apiKey"] = api_key
    if spec.price is not None:
        params["price"] = spec.price
    if spec.time_in_force is not None:
        params["timeInForce"] = spec.time_in_force
    return params


def signature_payload(params: Mapping[str, str | int]) -> str:
    """Heading "SIGNED request example (HMAC)", step 1: `name=value`, sorted, joined by &."""
    return "&".join(f"{name}={params[name]}" for name in sorted(params))


def order_template(
    spec: OrderSpec, api_key: str, recv_window_ms: int, signed: bool = True
) -> OrderTemplate:
    """The template of one rule's order. With `signed` False it has neither key nor signature, for
    a connection that has logged on (heading "Session Authentication")."""
    params = order_params(spec, api_key if signed else None, recv_window_ms)
    payload = signature_payload(params).encode() if signed else b""
    if signed:
        params["signature"] = SIGNATURE_SLOT
    body = request(CLIENT_ID_SLOT, "order.place", params)
    return OrderTemplate(
        payload=payload,
        body=body,
        payload_client_id_at=_behind(payload, b"&newClientOrderId=") if signed else 0,
        payload_timestamp_at=_behind(payload, b"&timestamp=") if signed else 0,
        body_request_id_at=_behind(body, b'"id":"'),
        body_client_id_at=_behind(body, b'"newClientOrderId":"'),
        body_timestamp_at=_behind(body, b'"timestamp":'),
        body_signature_at=_behind(body, b'"signature":"') if signed else 0,
    )


def _behind(text: bytes, name: bytes) -> int:
    return text.index(name) + len(name)


def request(request_id: str, method: str, params: Mapping[str, object] | None = None) -> bytes:
    """Heading "Request format"."""
    message: dict[str, object] = {"id": request_id, "method": method}
    if params:
        message["params"] = params
    return json.dumps(message, separators=(",", ":")).encode()


def time_request(request_id: str) -> bytes:
    """Heading "Check server time"."""
    return request(request_id, "time")


def ed25519_signature(private_key: Ed25519PrivateKey, payload: str) -> str:
    """Heading "SIGNED Request Example (Ed25519)", step 2: base64 of the UTF-8 text's signature."""
    return base64.b64encode(private_key.sign(payload.encode())).decode()


def logon_request(
    request_id: str, api_key: str, private_key: Ed25519PrivateKey, timestamp_ms: int
) -> bytes:
    """Heading "Log in with API key (SIGNED)". Once it is answered with status 200, requests of this
    connection need neither key nor signature; Ed25519 keys only. `timestamp_ms` is venue time."""
    params: dict[str, str | int] = {"apiKey": api_key, "timestamp": timestamp_ms}
    signature = ed25519_signature(private_key, signature_payload(params))
    return request(request_id, "session.logon", {**params, "signature": signature})


def parse_reply(text: bytes) -> Reply | None:
    """A response; None for anything else (an event, or not what the documents describe)."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or type(message.get("status")) is not int:
        return None
    found, error = message.get("result"), message.get("error")
    error = error if isinstance(error, dict) else {}
    data = error.get("data")
    retry_after = data.get("retryAfter") if isinstance(data, dict) else None
    return Reply(
        id=str(message.get("id")),
        status=message["status"],
        result=found if isinstance(found, dict) else {},
        code=error["code"] if type(error.get("code")) is int else None,
        message=str(error.get("msg", "")),
        retry_after_ms=retry_after if type(retry_after) is int else None,
        rows=dicts(found) if isinstance(found, list) else None,
        rate_limits=dicts(message.get("rateLimits")),
    )


def dicts(rows: object) -> tuple[dict[str, Any], ...]:
    """The objects of an array; what is none is skipped."""
    return tuple(row for row in rows if isinstance(row, dict)) if isinstance(rows, list) else ()


def order_status(reply: Reply) -> str:
    """`acked`, `rejected`, or `unknown` where the order may have been executed all the same
    (heading "Status codes" and OUTCOME_UNKNOWN_CODES)."""
    if reply.status == 200:
        return "acked"
    refused = 400 <= reply.status < 500 and reply.status != PARTIAL_FAILURE
    refused = refused and reply.message != DUPLICATE_ORDER
    return "rejected" if refused and reply.code not in OUTCOME_UNKNOWN_CODES else "unknown"
