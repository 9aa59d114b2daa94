"""Binance's Spot WebSocket API from the exchange's side: what a request means, what is answered.

No I/O and no clock of its own: `Venue.answer` takes a text frame and the time it came, and returns
a text frame. Comments name the headings of binance-spot-api-docs (web-socket-api.md unless another
file is named) that a rule comes from. What is documented there but not simulated is refused with
-1020, never half done.

Simplified: one symbol; an order fills at the last price or not at all; no balances, no commission;
rate limits are counted and shown, never enforced.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import re
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

NS_PER_MS = 1_000_000

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


class ApiError(Exception):
    """A refusal out of errors.md; `status` is the HTTP-like one of "Status codes"."""

    def __init__(self, code: int, msg: str, status: int = 400) -> None:
        super().__init__(f"{code} {msg}")
        self.code = code
        self.msg = msg
        self.status = status


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


def _text(name: str, value: object) -> str:
    """A parameter's value as the signature payload has it; null counts as empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int)):
        return str(value)
    raise ApiError(-1130, f"Data sent for parameter '{name}' is not valid.")


def read_params(document: Mapping[str, Any], method: Method) -> dict[str, str]:
    """The request's `params` as text, each known to `method`, none empty, none missing."""
    given = document.get("params", {})
    if not isinstance(given, dict):
        raise ApiError(-1135, "Invalid 'params' in JSON request; expected an object.")
    if not given.keys().isdisjoint(method.not_simulated):
        raise ApiError(-1020, "This operation is not supported.")
    if not given.keys() <= {*method.mandatory, *method.optional}:
        raise ApiError(-1103, "An unknown parameter was sent.")
    params = {name: _text(name, value) for name, value in given.items()}
    _require(params, method.mandatory)
    for name, value in params.items():
        if not value:
            raise ApiError(-1105, f"Parameter '{name}' was empty.")
    return params


def _require(params: Mapping[str, str], names: tuple[str, ...]) -> None:
    for name in names:
        if not params.get(name):
            raise ApiError(
                -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
            )


def _matching(params: Mapping[str, str], name: str, pattern: str) -> str:
    value = params[name]
    if not re.fullmatch(pattern, value):
        raise ApiError(
            -1100, f"Illegal characters found in parameter '{name}'; legal range is '^{pattern}$'."
        )
    return value


def _amount(params: Mapping[str, str], name: str) -> Decimal:
    text = _matching(params, name, DECIMAL_PATTERN)
    if len(text.partition(".")[2].rstrip("0")) > DECIMALS:
        raise ApiError(-1111, f"Parameter '{name}' has too much precision.")
    return Decimal(text)


# ---- "Request security" --------------------------------------------------------------------------


def signature_payload(params: Mapping[str, str]) -> str:
    """What is signed: all but `signature`, sorted by name ("SIGNED request example (HMAC)")."""
    return "&".join(f"{name}={params[name]}" for name in sorted(params) if name != "signature")


def check_signature(params: Mapping[str, str], api_secret: str) -> None:
    """-1022 unless `signature` is the payload's HMAC-SHA256 in hex of either case."""
    # JSON can spell a lone surrogate (RFC 8259 8.2), which strict UTF-8 refuses to encode.
    payload = signature_payload(params).encode("utf-8", "surrogatepass")
    expected = hmac.new(api_secret.encode(), payload, hashlib.sha256).hexdigest()
    if params["signature"].lower() != expected:
        raise ApiError(-1022, "Signature for this request is not valid.")


def timestamp_us(params: Mapping[str, str]) -> int:
    """The request's `timestamp`, sent in milliseconds or microseconds."""
    timestamp = int(_matching(params, "timestamp", LONG_PATTERN))
    return timestamp if timestamp >= MICROSECONDS_FROM else timestamp * 1000


def check_timing(params: Mapping[str, str], now_us: int) -> None:
    """-1021 when a second ahead of the venue or older than `recvWindow` ("Timing security")."""
    sent_us = timestamp_us(params)
    window = {"recvWindow": RECV_WINDOW_DEFAULT_MS, **params}
    window_ms = Decimal(_matching(window, "recvWindow", RECV_WINDOW_PATTERN))
    if window_ms > RECV_WINDOW_MAX_MS:
        raise ApiError(
            -1102,
            f"'recvWindow' contains unexpected value. Cannot be greater than {RECV_WINDOW_MAX_MS}.",
        )
    if sent_us >= now_us + TIMESTAMP_AHEAD_MAX_US:
        raise ApiError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
    if now_us - sent_us > window_ms * 1000:
        raise ApiError(-1021, "Timestamp for this request is outside of the recvWindow.")


# ---- "Place new order (TRADE)" -------------------------------------------------------------------


@dataclass(frozen=True)
class Symbol:
    """A market and its filters (filters.md, "LOT_SIZE" and "NOTIONAL")."""

    min_qty: Decimal
    max_qty: Decimal
    step_size: Decimal
    min_notional: Decimal


SYMBOLS = {
    "BTCUSDT": Symbol(
        min_qty=Decimal("0.00001"),
        max_qty=Decimal("9000"),
        step_size=Decimal("0.00001"),
        min_notional=Decimal("5"),
    )
}

# enums.md, "Order types", "Time in force", "Order Response Type"
ORDER_TYPES_NOT_SIMULATED = frozenset(
    {"LIMIT_MAKER", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"}
)
MANDATORY_BY_TYPE = {"LIMIT": ("timeInForce", "price", "quantity"), "MARKET": ("quantity",)}
NOT_REQUIRED_BY_TYPE = {"LIMIT": (), "MARKET": ("timeInForce", "price")}
TIMES_IN_FORCE = frozenset({"GTC", "IOC", "FOK"})
RESPONSE_TYPES = frozenset({"ACK", "RESULT", "FULL"})
EXPIRY_REASONS = {  # enums.md, "Expiry Reasons"
    "IOC": "UNFILLED_IOC_QUANTITY_EXPIRED",
    "FOK": "UNFILLED_FOK_ORDER_EXPIRED",
}


@dataclass(frozen=True)
class Order:
    """What `order.place` asks for; `price` and `time_in_force` are None for a MARKET order."""

    client_id: str
    side: str
    symbol: str
    type: str
    quantity: Decimal
    price: Decimal | None
    time_in_force: str | None
    response_type: str


@dataclass(frozen=True)
class Execution:
    """What became of an order: `price` is None when nothing was filled."""

    order_id: int
    trade_id: int
    status: str
    price: Decimal | None
    time_ms: int


@dataclass(frozen=True)
class LedgerEntry:
    """An accepted order, its amounts in plain decimals as the client sent them."""

    client_id: str
    side: str
    symbol: str
    type: str
    quantity: str
    price: str | None
    time_in_force: str | None
    order_id: int
    timestamp_ms: int  # as the client signed it
    received_ns: int  # CLOCK_REALTIME, whatever clock the venue pretends to have
    request_id: RequestId


def read_order(params: Mapping[str, str]) -> Order:
    """The order that `params` describe, every value legal by itself; the filters come after."""
    if params["symbol"] not in SYMBOLS:
        raise ApiError(-1121, "Invalid symbol.")
    if params["side"] not in ("BUY", "SELL"):
        raise ApiError(-1117, "Invalid side.")
    order_type = params["type"]
    if order_type in ORDER_TYPES_NOT_SIMULATED:
        raise ApiError(-1020, "This operation is not supported.")
    if order_type not in MANDATORY_BY_TYPE:
        raise ApiError(-1116, "Invalid orderType.")
    _require(params, MANDATORY_BY_TYPE[order_type])
    for name in NOT_REQUIRED_BY_TYPE[order_type]:
        if name in params:
            raise ApiError(-1106, f"Parameter '{name}' sent when not required.")
    if params.get("timeInForce", "GTC") not in TIMES_IN_FORCE:
        raise ApiError(-1115, "Invalid timeInForce.")
    response_type = params.get("newOrderRespType", "FULL")  # the default of LIMIT and MARKET
    if response_type not in RESPONSE_TYPES:
        raise ApiError(-1130, "Data sent for parameter 'newOrderRespType' is not valid.")
    identified = {"newClientOrderId": secrets.token_hex(16), **params}
    return Order(
        client_id=_matching(identified, "newClientOrderId", CLIENT_ID_PATTERN),
        side=params["side"],
        symbol=params["symbol"],
        type=order_type,
        quantity=_amount(params, "quantity"),
        price=_amount(params, "price") if "price" in params else None,
        time_in_force=params.get("timeInForce"),
        response_type=response_type,
    )


def check_filters(order: Order, last_price: Decimal) -> None:
    """-1013 unless filters.md lets the order through; a MARKET order counts at the last price."""
    symbol = SYMBOLS[order.symbol]
    in_range = symbol.min_qty <= order.quantity <= symbol.max_qty
    if not in_range or order.quantity % symbol.step_size:
        raise ApiError(-1013, "Filter failure: LOT_SIZE")
    price = last_price if order.price is None else order.price
    if price * order.quantity < symbol.min_notional:
        raise ApiError(-1013, "Filter failure: NOTIONAL")


def match(order: Order, last_price: Decimal) -> str:
    """The order's status at once: FILLED at the last price, or NEW (GTC) or EXPIRED (IOC, FOK)."""
    if order.price is None:
        return "FILLED"
    if order.price >= last_price if order.side == "BUY" else order.price <= last_price:
        return "FILLED"
    return "NEW" if order.time_in_force == "GTC" else "EXPIRED"


def order_reply(order: Order, execution: Execution) -> dict[str, Any]:
    """`result` in the form that `newOrderRespType` chose: ACK, RESULT or FULL."""
    reply: dict[str, Any] = {
        "symbol": order.symbol,
        "orderId": execution.order_id,
        "orderListId": -1,
        "clientOrderId": order.client_id,
        "transactTime": execution.time_ms,
    }
    if order.response_type == "ACK":
        return reply
    executed = Decimal(0) if execution.price is None else order.quantity
    reply |= {
        "price": _eight(order.price or Decimal(0)),
        "origQty": _eight(order.quantity),
        "executedQty": _eight(executed),
        "origQuoteOrderQty": _eight(Decimal(0)),
        "cummulativeQuoteQty": _eight(executed * (execution.price or Decimal(0))),
        "status": execution.status,
        "timeInForce": order.time_in_force or "GTC",
        "type": order.type,
        "side": order.side,
        "workingTime": execution.time_ms,
        "selfTradePreventionMode": "NONE",
    }
    if execution.status == "EXPIRED":  # "Conditional fields in Order Responses"
        reply["expiryReason"] = EXPIRY_REASONS[order.time_in_force or ""]
    if order.response_type == "FULL":
        reply["fills"] = _fills(order, execution)
    return reply


def _fills(order: Order, execution: Execution) -> list[dict[str, Any]]:
    if execution.price is None:
        return []
    fill = {
        "price": _eight(execution.price),
        "qty": _eight(order.quantity),
        "commission": _eight(Decimal(0)),
        "commissionAsset": "BNB",
        "tradeId": execution.trade_id,
    }
    return [fill]


def _eight(amount: Decimal) -> str:
    return f"{amount:.{DECIMALS}f}"


# ---- "Rate limits" -------------------------------------------------------------------------------


@dataclass(frozen=True)
class RateLimit:
    """One limit as the replies show it."""

    rate_limit_type: str
    interval: str
    interval_num: int
    limit: int
    window_ms: int


ORDERS_10_SECONDS = RateLimit("ORDERS", "SECOND", 10, 50, 10_000)
ORDERS_DAY = RateLimit("ORDERS", "DAY", 1, 160_000, 86_400_000)
REQUEST_WEIGHT = RateLimit("REQUEST_WEIGHT", "MINUTE", 1, 6000, 60_000)
CONNECTION_WEIGHT = 2  # "IP limits"


@dataclass
class Usage:
    """How much of a limit is used in the current window; windows start at multiples of their
    length ("How to interpret rate limits")."""

    window: int = 0
    count: int = 0

    def add(self, limit: RateLimit, amount: int, now_ms: int) -> int:
        """Count `amount` more and return the current window's total."""
        window = now_ms // limit.window_ms
        if window != self.window:
            self.window, self.count = window, 0
        self.count += amount
        return self.count


# ---- the venue -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """The circumstances of one request."""

    request_id: RequestId
    received_ns: int  # CLOCK_REALTIME
    now_ns: int  # the venue's clock


@dataclass(frozen=True)
class Method:
    """A request method: what it takes, which limits its replies show, what it does."""

    run: Callable[[Venue, Mapping[str, str], Call], dict[str, Any]]
    mandatory: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset({"returnRateLimits"})
    not_simulated: frozenset[str] = frozenset()
    limits: tuple[RateLimit, ...] = (REQUEST_WEIGHT,)


@dataclass
class Venue:
    """The exchange's state. `record` is told of every accepted order before its reply exists."""

    api_key: str = field(repr=False)
    api_secret: str = field(repr=False)
    last_price: dict[str, Decimal]
    record: Callable[[LedgerEntry], None]
    clock_skew_ms: int = 0
    requests: int = 0
    rejections: Counter[str] = field(default_factory=Counter)  # by "code message"

    def __post_init__(self) -> None:
        self._open_client_ids: set[str] = set()
        self._order_ids = itertools.count(1)
        self._trade_ids = itertools.count(1)
        self._usage = {limit: Usage() for limit in (ORDERS_10_SECONDS, ORDERS_DAY, REQUEST_WEIGHT)}

    def clock_ns(self, real_ns: int) -> int:
        """The venue's clock when CLOCK_REALTIME shows `real_ns`."""
        return real_ns + self.clock_skew_ms * NS_PER_MS

    def connected(self, real_ns: int) -> None:
        """Count a new connection."""
        self._use(REQUEST_WEIGHT, CONNECTION_WEIGHT, self.clock_ns(real_ns))

    def answer(self, message: str | bytes, received_ns: int, show_limits: bool) -> str:
        """The reply to one frame. `show_limits` is the connection's default for `rateLimits`."""
        self.requests += 1
        now_ns = self.clock_ns(received_ns)
        reply: dict[str, Any] = {"id": None, "status": 200}
        method = None
        self._use(REQUEST_WEIGHT, 1, now_ns)
        try:
            document = read_document(message)
            reply["id"] = read_id(document)
            method = read_method(document)
            params = read_params(document, method)
            show_limits = read_show_limits(params, show_limits)
            reply["result"] = self._run(method, params, Call(reply["id"], received_ns, now_ns))
        except ApiError as error:
            self.rejections[str(error)] += 1
            reply["status"] = error.status
            reply["error"] = {"code": error.code, "msg": error.msg}
        if method and show_limits:
            reply["rateLimits"] = [self._show(limit, now_ns) for limit in method.limits]
        return json.dumps(reply, separators=(",", ":"))

    def ping(self, params: Mapping[str, str], call: Call) -> dict[str, Any]:
        """Heading "Test connectivity"."""
        return {}

    def time(self, params: Mapping[str, str], call: Call) -> dict[str, Any]:
        """Heading "Check server time"."""
        return {"serverTime": call.now_ns // NS_PER_MS}

    def order_test(self, params: Mapping[str, str], call: Call) -> dict[str, Any]:
        """Heading "Test new order (TRADE)": everything but the matching engine."""
        self._checked_order(params)
        return {}

    def order_place(self, params: Mapping[str, str], call: Call) -> dict[str, Any]:
        """Heading "Place new order (TRADE)"."""
        order = self._checked_order(params)
        # Only among open orders: a client id is free again once its order is filled or expired.
        if order.client_id in self._open_client_ids:
            raise ApiError(-2010, "Duplicate order sent.")
        last_price = self.last_price[order.symbol]
        status = match(order, last_price)
        if status == "NEW":
            self._open_client_ids.add(order.client_id)
        execution = Execution(
            order_id=next(self._order_ids),
            trade_id=next(self._trade_ids),
            status=status,
            price=last_price if status == "FILLED" else None,
            time_ms=call.now_ns // NS_PER_MS,
        )
        self._use(ORDERS_10_SECONDS, 1, call.now_ns)
        self._use(ORDERS_DAY, 1, call.now_ns)
        self.record(_ledger_entry(order, execution.order_id, timestamp_us(params), call))
        return order_reply(order, execution)

    def _run(self, method: Method, params: Mapping[str, str], call: Call) -> dict[str, Any]:
        if "signature" in method.mandatory:
            self._check_key(params["apiKey"])
            check_timing(params, call.now_ns // 1000)
            check_signature(params, self.api_secret)
        return method.run(self, params, call)

    def _check_key(self, api_key: str) -> None:
        # 401 as in "Regarding API key revocation"
        if api_key == self.api_key:
            return
        if re.fullmatch("[A-Za-z0-9]{64}", api_key):
            raise ApiError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        raise ApiError(-2014, "API-key format invalid.", 401)

    def _checked_order(self, params: Mapping[str, str]) -> Order:
        order = read_order(params)
        check_filters(order, self.last_price[order.symbol])
        return order

    def _use(self, limit: RateLimit, amount: int, now_ns: int) -> int:
        return self._usage[limit].add(limit, amount, now_ns // NS_PER_MS)

    def _show(self, limit: RateLimit, now_ns: int) -> dict[str, Any]:
        return {
            "rateLimitType": limit.rate_limit_type,
            "interval": limit.interval,
            "intervalNum": limit.interval_num,
            "limit": limit.limit,
            "count": self._use(limit, 0, now_ns),
        }


def _ledger_entry(order: Order, order_id: int, sent_us: int, call: Call) -> LedgerEntry:
    return LedgerEntry(
        client_id=order.client_id,
        side=order.side,
        symbol=order.symbol,
        type=order.type,
        quantity=f"{order.quantity:f}",
        price=None if order.price is None else f"{order.price:f}",
        time_in_force=order.time_in_force,
        order_id=order_id,
        timestamp_ms=sent_us // 1000,
        received_ns=call.received_ns,
        request_id=call.request_id,
    )


_ORDER_MANDATORY = ("symbol", "side", "type", "apiKey", "signature", "timestamp")
_ORDER_OPTIONAL = frozenset(
    {"timeInForce", "price", "quantity", "newClientOrderId", "newOrderRespType"}
    | {"recvWindow", "returnRateLimits"}
)
_ORDER_NOT_SIMULATED = frozenset(
    {"quoteOrderQty", "stopPrice", "trailingDelta", "icebergQty", "strategyId", "strategyType"}
    | {"selfTradePreventionMode", "pegPriceType", "pegOffsetValue", "pegOffsetType"}
)

METHODS = {
    "ping": Method(Venue.ping),
    "time": Method(Venue.time),
    "order.place": Method(
        Venue.order_place,
        _ORDER_MANDATORY,
        _ORDER_OPTIONAL,
        _ORDER_NOT_SIMULATED,
        limits=(ORDERS_10_SECONDS, ORDERS_DAY, REQUEST_WEIGHT),
    ),
    "order.test": Method(
        Venue.order_test,
        _ORDER_MANDATORY,
        _ORDER_OPTIONAL,
        _ORDER_NOT_SIMULATED | {"computeCommissionRates"},
    ),
}


def read_method(document: Mapping[str, Any]) -> Method:
    """The request's `method`, which may carry the version ("v3/order.place").

    The documents do not say what an unknown one is answered; -1020 of errors.md fits best.
    """
    name = document.get("method")
    if not isinstance(name, str):
        raise ApiError(-1135, "Invalid JSON Request")
    method = METHODS.get(name.removeprefix("v3/"))
    if method is None:
        raise ApiError(-1020, "This operation is not supported.")
    return method


def read_show_limits(params: Mapping[str, str], default: bool) -> bool:
    """Whether the reply has `rateLimits` ("How to show/hide rate limit information")."""
    value = params.get("returnRateLimits")
    if value is None:
        return default
    if value not in ("true", "false"):
        raise ApiError(-1130, "Data sent for parameter 'returnRateLimits' is not valid.")
    return value == "true"
