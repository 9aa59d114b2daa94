"""A request of Binance's Spot WebSocket API from the exchange's side: whether it can be read, and
whether it is signed well and in time. Sources are named as in engine.sim.binance."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

# Timing security
RECV_WINDOW_DEFAULT_MS = "5000"
RECV_WINDOW_MAX_MS = 60000
TIMESTAMP_AHEAD_MAX_US = 1_000_000
# "General API Information" takes milliseconds or microseconds and does not say how they are told
# apart. Milliseconds need 15 digits only in the year 5138, microseconds have had 16 since 2001.
MICROSECONDS_FROM = 10**14

DECIMALS = 8  # of every amount in the documented replies
CLIENT_ID_PATTERN = r"[a-zA-Z0-9-_]{1,36}"  # fix-api.md, "Client order ID fields"
# The documents name the error (-1100) but not these ranges, which the venue's answers show.
LONG_PATTERN = r"[0-9]{1,20}"
DECIMAL_PATTERN = r"([0-9]{1,20})(\.[0-9]{1,20})?"
RECV_WINDOW_PATTERN = r"([0-9]{1,20})(\.[0-9]{1,3})?"

RequestId = int | str | None
AccountKey = str | Ed25519PublicKey  # what proves a signature: an HMAC secret, or a public key


class ApiError(Exception):
    """A refusal out of errors.md; `status` is the HTTP-like one of "Status codes"."""

    def __init__(
        self, code: int, msg: str, status: int = 400, data: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(f"{code} {msg}")
        self.code = code
        self.msg = msg
        self.status = status
        self.data = data

    def as_json(self) -> dict[str, Any]:
        """The error as a reply shows it."""
        error: dict[str, Any] = {"code": self.code, "msg": self.msg}
        return error if self.data is None else error | {"data": self.data}


class SessionRevokedError(ApiError):
    """The key that the connection logged on with is gone ("Regarding API key revocation")."""

    def __init__(self) -> None:
        super().__init__(-2015, "Invalid API-key, IP, or permissions for action.", 401)


# ---- requests: "Request format" ------------------------------------------------------------------


class NumberText(str):
    """A JSON number with a fraction or exponent as it was written: what is signed is this text."""


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ApiError(-1101, "Duplicate values for a parameter detected.")
    return members


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON (RFC 8259 6)")


def read_document(message: str | bytes) -> dict[str, Any]:
    """The JSON object of a text frame; anything else, a binary frame too, is -1135."""
    document = None
    if isinstance(message, str):
        try:
            document = json.loads(
                message,
                parse_float=NumberText,
                parse_constant=_refuse_constant,
                object_pairs_hook=_unique_members,
            )
        except (ValueError, RecursionError):
            document = None
    if not isinstance(document, dict):
        raise ApiError(-1135, "Invalid JSON Request")
    return document


def read_id(document: Mapping[str, Any]) -> RequestId:
    """The request's `id`. The documents call a string arbitrary; the venue takes these only."""
    if "id" in document:
        request_id = document["id"]
        if request_id is None or type(request_id) is int:
            return request_id
        if type(request_id) is str and re.fullmatch(CLIENT_ID_PATTERN, request_id):
            return request_id
    raise ApiError(
        -1135,
        "Invalid 'id' in JSON request; expected an integer, "
        f"a string matching '^{CLIENT_ID_PATTERN}$', or null.",
    )


def parameter_text(name: str, value: object) -> str:
    """A parameter's value as the signature payload has it; null counts as empty. A list of
    texts is JSON, as it is in a query string."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int)):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return json.dumps(value, separators=(",", ":"))
    raise ApiError(-1130, f"Data sent for parameter '{name}' is not valid.")


def require(params: Mapping[str, str], names: tuple[str, ...]) -> None:
    """-1102 unless each of `names` is there and not empty."""
    for name in names:
        if not params.get(name):
            raise ApiError(
                -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
            )


def matching(params: Mapping[str, str], name: str, pattern: str) -> str:
    """The parameter `name`; -1100 unless all of it matches."""
    value = params[name]
    if not re.fullmatch(pattern, value):
        raise ApiError(
            -1100, f"Illegal characters found in parameter '{name}'; legal range is '^{pattern}$'."
        )
    return value


def read_long(params: Mapping[str, str], name: str) -> int:
    """The parameter `name` as a whole number, -1100 when it is none."""
    return int(matching(params, name, LONG_PATTERN))


def read_choice(params: Mapping[str, str], name: str, choices: Collection[str]) -> str | None:
    """The parameter `name`, None when absent; -1130 unless it is one of `choices`."""
    value = params.get(name)
    if value is not None and value not in choices:
        raise ApiError(-1130, f"Data sent for parameter '{name}' is not valid.")
    return value


def read_texts(params: Mapping[str, str], name: str) -> list[str]:
    """The parameter `name`, a JSON array of different strings or one string by itself."""
    text = params[name]
    if not text.startswith("["):
        return [text]
    try:
        texts = json.loads(text)
    except (ValueError, RecursionError):
        texts = None
    if not isinstance(texts, list) or not all(isinstance(item, str) for item in texts):
        raise ApiError(-1135, f"JSON sent for parameter '{name}' is not valid")
    if len(set(texts)) != len(texts):
        raise ApiError(-1151, "Symbol is present multiple times in the list.")
    return texts


def eight(amount: Decimal) -> str:
    """An amount as the replies show it."""
    return f"{amount:.{DECIMALS}f}"


def read_amount(params: Mapping[str, str], name: str) -> Decimal:
    """The parameter `name` as an amount; -1100 or -1111 when it is none."""
    text = matching(params, name, DECIMAL_PATTERN)
    if len(text.partition(".")[2].rstrip("0")) > DECIMALS:
        raise ApiError(-1111, f"Parameter '{name}' has too much precision.")
    return Decimal(text)


# ---- "Request security" --------------------------------------------------------------------------

AUTHORIZATION = ("apiKey", "signature")  # what a connection that has logged on may leave out


def signature_payload(params: Mapping[str, str]) -> str:
    """What is signed: all but `signature`, sorted by name ("SIGNED request example (HMAC)")."""
    return "&".join(f"{name}={params[name]}" for name in sorted(params) if name != "signature")


def check_signature(text: str, signature: str, key: AccountKey) -> None:
    """-1022 unless `signature` is that of `text` ("Signature Case Sensitivity"): HMAC-SHA256 in hex
    of either case, or Ed25519 in base64."""
    # JSON can spell a lone surrogate (RFC 8259 8.2), which strict UTF-8 refuses to encode.
    payload = text.encode("utf-8", "surrogatepass")
    if isinstance(key, str):
        good = signature.lower() == hmac.new(key.encode(), payload, hashlib.sha256).hexdigest()
    else:
        good = _verifies(key, signature, payload)
    if not good:
        raise ApiError(-1022, "Signature for this request is not valid.")


def _verifies(key: Ed25519PublicKey, signature: str, payload: bytes) -> bool:
    try:
        key.verify(base64.b64decode(signature, validate=True), payload)
    except (ValueError, InvalidSignature):
        return False
    return True


def read_time_us(params: Mapping[str, str], name: str) -> int:
    """The parameter `name`, a time in milliseconds or microseconds."""
    time = read_long(params, name)
    return time if time >= MICROSECONDS_FROM else time * 1000


def check_timing(params: Mapping[str, str], now_us: int) -> None:
    """-1021 when a second ahead of the venue or older than `recvWindow` ("Timing security")."""
    sent_us = read_time_us(params, "timestamp")
    window = {"recvWindow": RECV_WINDOW_DEFAULT_MS, **params}
    window_ms = Decimal(matching(window, "recvWindow", RECV_WINDOW_PATTERN))
    if window_ms > RECV_WINDOW_MAX_MS:
        raise ApiError(
            -1102,
            f"'recvWindow' contains unexpected value. Cannot be greater than {RECV_WINDOW_MAX_MS}.",
        )
    if sent_us >= now_us + TIMESTAMP_AHEAD_MAX_US:
        raise ApiError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
    if now_us - sent_us > window_ms * 1000:
        raise ApiError(-1021, "Timestamp for this request is outside of the recvWindow.")
