"""Binance's Spot WebSocket API from the exchange's side: what a request means, what is answered.

No I/O and no clock of its own: `Venue.answer` takes a text frame, the time it came and the
connection it came from, and returns a text frame. Comments name the headings of
binance-spot-api-docs (web-socket-api.md unless another file is named) that a rule comes from. What
is documented there but not simulated is refused with -1020, never half done.

Simplified: an order fills at the last price or not at all; no balances, no commission;
rate limits are counted and shown, never enforced.
"""

from __future__ import annotations

import itertools
import json
import re
import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from engine.sim.market import MarketTrade
from engine.sim.request import (
    AUTHORIZATION,
    CLIENT_ID_PATTERN,
    DECIMALS,
    AccountKey,
    ApiError,
    RequestId,
    SessionRevokedError,
    check_signature,
    check_timing,
    matching,
    parameter_text,
    read_amount,
    read_document,
    read_id,
    require,
    timestamp_us,
)
from engine.sim.rest import RestReply

NS_PER_MS = 1_000_000

# ---- "Place new order (TRADE)" -------------------------------------------------------------------


@dataclass(frozen=True)
class Symbol:
    """A market and its filters (filters.md, "LOT_SIZE" and "NOTIONAL")."""

    min_qty: Decimal
    max_qty: Decimal
    step_size: Decimal
    min_notional: Decimal
    first_price: Decimal


SYMBOLS = {
    name: Symbol(
        min_qty=Decimal(step),
        max_qty=Decimal("9000"),
        step_size=Decimal(step),
        min_notional=Decimal("5"),
        first_price=Decimal(price),
    )
    for name, step, price in (
        ("BTCUSDT", "0.00001", "60000.00"),
        ("ETHUSDT", "0.0001", "3000.00"),
        ("SOLUSDT", "0.001", "150.00"),
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
    timestamp_ms: int  # as the client sent it
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
    require(params, MANDATORY_BY_TYPE[order_type])
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
        client_id=matching(identified, "newClientOrderId", CLIENT_ID_PATTERN),
        side=params["side"],
        symbol=params["symbol"],
        type=order_type,
        quantity=read_amount(params, "quantity"),
        price=read_amount(params, "price") if "price" in params else None,
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


Deliver = Callable[[str], None]  # takes an event's text frame
Market = Callable[[str, dict[str, Any]], None]  # takes a stream's name and its payload


def _nobody(*_: object) -> None:
    pass


@dataclass
class Connection:
    """A client's connection: the key it has logged on with ("Session Authentication"), if any."""

    connected_ms: int  # both by the venue's clock
    show_limits: bool  # the URL's word on `rateLimits`
    deliver: Deliver = field(default=_nobody, repr=False)
    api_key: str | None = field(default=None, repr=False)
    authorized_ms: int | None = None

    def log_on(self, api_key: str, now_ms: int) -> None:
        self.api_key, self.authorized_ms = api_key, now_ms

    def log_out(self) -> None:
        self.api_key = self.authorized_ms = None


@dataclass(frozen=True)
class Call:
    """The circumstances of one request."""

    connection: Connection
    request_id: RequestId
    received_ns: int  # CLOCK_REALTIME
    now_ns: int  # the venue's clock

    @property
    def now_ms(self) -> int:
        return self.now_ns // NS_PER_MS


@dataclass(frozen=True)
class Method:
    """A request method: what it takes, what it costs, which limits its replies show, what it does.

    A signed one takes `timestamp`, `recvWindow` and AUTHORIZATION besides what is listed.
    """

    run: Callable[[Venue, Mapping[str, str], Call], dict[str, Any]]
    mandatory: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()
    not_simulated: frozenset[str] = frozenset()
    limits: tuple[RateLimit, ...] = (REQUEST_WEIGHT,)
    weight: int = 1
    signed: bool = False

    @property
    def known(self) -> frozenset[str]:
        """Every parameter it takes."""
        of_signed = (*AUTHORIZATION, "timestamp", "recvWindow") if self.signed else ()
        return self.optional.union(self.mandatory, of_signed, ("returnRateLimits",))


@dataclass
class Venue:
    """The exchange's state. `record` is told of every accepted order before its reply exists; a
    key that is taken out of `keys` is revoked."""

    keys: dict[str, AccountKey] = field(repr=False)  # by API key
    record: Callable[[Any], None]
    symbols: Mapping[str, Symbol] = field(default_factory=lambda: SYMBOLS)
    seed: int | None = None
    trades: Sequence[MarketTrade] | None = None
    clock_skew_ms: int = 0
    balances: Mapping[str, Decimal] | None = None
    on_market: Market = _nobody
    requests: int = 0
    rejections: Counter[str] = field(default_factory=Counter)  # by "code message"

    def __post_init__(self) -> None:
        self.last_price = {name: symbol.first_price for name, symbol in self.symbols.items()}
        self._open_client_ids: set[str] = set()
        self._order_ids = itertools.count(1)
        self._trade_ids = itertools.count(1)
        self._usage = {limit: Usage() for limit in (ORDERS_10_SECONDS, ORDERS_DAY, REQUEST_WEIGHT)}

    def clock_ns(self, real_ns: int) -> int:
        """The venue's clock when CLOCK_REALTIME shows `real_ns`."""
        return real_ns + self.clock_skew_ms * NS_PER_MS

    def connect(
        self, real_ns: int, show_limits: bool = True, deliver: Deliver = _nobody
    ) -> Connection:
        """A new connection, which has its own weight. `deliver` gets its events, one JSON text
        frame each, while `answer`, `rest` or `step` runs."""
        now_ns = self.clock_ns(real_ns)
        self._use(REQUEST_WEIGHT, CONNECTION_WEIGHT, now_ns)
        return Connection(now_ns // NS_PER_MS, show_limits, deliver)

    def disconnect(self, connection: Connection) -> None:
        """It gets no events any more."""
        connection.deliver = _nobody

    def set_price(self, symbol: str, price: Decimal) -> None:
        """The market of `symbol` moves to `price` at once."""
        self.last_price[symbol] = price

    def step(self, real_ns: int) -> None:
        """The market moves: the seeded random walk, or the trades that are due."""

    def rest(
        self,
        method: str,
        path: str,
        query: str,
        body: bytes,
        headers: Mapping[str, str],
        received_ns: int,
    ) -> RestReply:
        """The reply to one HTTP request; `query` and `body` as they came, undecoded."""
        text = json.dumps({"code": -1020, "msg": "This operation is not supported."})
        return RestReply(404, {"Content-Type": "application/json;charset=UTF-8"}, text)

    def answer(self, message: str | bytes, received_ns: int, connection: Connection) -> str:
        """The reply to one frame of that connection."""
        self.requests += 1
        now_ns = self.clock_ns(received_ns)
        reply: dict[str, Any] = {"id": None, "status": 200}
        method, show_limits = None, connection.show_limits
        self._use(REQUEST_WEIGHT, 1, now_ns)
        try:
            document = read_document(message)
            reply["id"] = read_id(document)
            method = read_method(document)
            self._use(REQUEST_WEIGHT, method.weight - 1, now_ns)
            params = read_params(document, method, connection.api_key is not None)
            show_limits = read_show_limits(params, show_limits)
            call = Call(connection, reply["id"], received_ns, now_ns)
            reply["result"] = self._run(method, params, call)
        except ApiError as error:
            self.rejections[str(error)] += 1
            reply["status"] = error.status
            reply["error"] = {"code": error.code, "msg": error.msg}
            if isinstance(error, SessionRevokedError):  # it answers no request
                reply["id"] = method = None
        if method and show_limits:
            reply["rateLimits"] = [self._show(limit, now_ns) for limit in method.limits]
        return json.dumps(reply, separators=(",", ":"))

    def ping(self, params: Mapping[str, str], call: Call) -> dict[str, Any]:
        """Heading "Test connectivity"."""
        return {}

    def time(self, params: Mapping[str, str], call: Call) -> dict[str, Any]:
        """Heading "Check server time"."""
        return {"serverTime": call.now_ms}

    def session_logon(self, params: Mapping[str, str], call: Call) -> dict[str, Any]:
        """Heading "Log in with API key (SIGNED)": only Ed25519 keys can."""
        if isinstance(self.keys[params["apiKey"]], str):
            # errors.md lacks this code, which the venue's answers show.
            raise ApiError(-4056, "HMAC_SHA256 API key is not supported.")
        call.connection.log_on(params["apiKey"], call.now_ms)
        return self.session_status(params, call)

    def session_logout(self, params: Mapping[str, str], call: Call) -> dict[str, Any]:
        """Heading "Log out of the session"."""
        call.connection.log_out()
        return self.session_status(params, call)

    def session_status(self, params: Mapping[str, str], call: Call) -> dict[str, Any]:
        """Heading "Query session status"."""
        return {
            "apiKey": call.connection.api_key,
            "authorizedSince": call.connection.authorized_ms,
            "connectedSince": call.connection.connected_ms,
            "returnRateLimits": call.connection.show_limits,
            "serverTime": call.now_ms,
            "userDataStream": False,
        }

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
            time_ms=call.now_ms,
        )
        self._use(ORDERS_10_SECONDS, 1, call.now_ns)
        self._use(ORDERS_DAY, 1, call.now_ns)
        self.record(_ledger_entry(order, execution.order_id, timestamp_us(params), call))
        return order_reply(order, execution)

    def _run(self, method: Method, params: Mapping[str, str], call: Call) -> dict[str, Any]:
        if method.signed:
            self._authorize(params, call)
        return method.run(self, params, call)

    def _authorize(self, params: Mapping[str, str], call: Call) -> None:
        """Let the request pass by its own key and signature, or else by its connection's logon
        ("Authorize _ad hoc_ requests")."""
        if "apiKey" in params:
            key = self._key(params["apiKey"])
            check_timing(params, call.now_ns // 1000)
            check_signature(params, key)
            return
        if call.connection.api_key not in self.keys:
            call.connection.log_out()
            raise SessionRevokedError
        check_timing(params, call.now_ns // 1000)

    def _key(self, api_key: str) -> AccountKey:
        # 401 as in "Regarding API key revocation"
        if api_key in self.keys:
            return self.keys[api_key]
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


_ORDER_MANDATORY = ("symbol", "side", "type")
_ORDER_OPTIONAL = frozenset(
    {"timeInForce", "price", "quantity", "newClientOrderId", "newOrderRespType"}
)
_ORDER_NOT_SIMULATED = frozenset(
    {"quoteOrderQty", "stopPrice", "trailingDelta", "icebergQty", "strategyId", "strategyType"}
    | {"selfTradePreventionMode", "pegPriceType", "pegOffsetValue", "pegOffsetType"}
)

METHODS = {
    "ping": Method(Venue.ping),
    "time": Method(Venue.time),
    "session.logon": Method(Venue.session_logon, AUTHORIZATION, weight=2, signed=True),
    "session.status": Method(Venue.session_status, weight=2),
    "session.logout": Method(Venue.session_logout, weight=2),
    "order.place": Method(
        Venue.order_place,
        _ORDER_MANDATORY,
        _ORDER_OPTIONAL,
        _ORDER_NOT_SIMULATED,
        limits=(ORDERS_10_SECONDS, ORDERS_DAY, REQUEST_WEIGHT),
        signed=True,
    ),
    "order.test": Method(
        Venue.order_test,
        _ORDER_MANDATORY,
        _ORDER_OPTIONAL,
        _ORDER_NOT_SIMULATED | {"computeCommissionRates"},
        signed=True,
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


def read_params(document: Mapping[str, Any], method: Method, logged_on: bool) -> dict[str, str]:
    """The request's `params` as text, each known to `method`, none empty, none missing."""
    given = document.get("params", {})
    if not isinstance(given, dict):
        raise ApiError(-1135, "Invalid 'params' in JSON request; expected an object.")
    if not given.keys().isdisjoint(method.not_simulated):
        raise ApiError(-1020, "This operation is not supported.")
    if not given.keys() <= method.known:
        raise ApiError(-1103, "An unknown parameter was sent.")
    params = {name: parameter_text(name, value) for name, value in given.items()}
    require(params, method.mandatory)
    if method.signed:
        if not logged_on or not given.keys().isdisjoint(AUTHORIZATION):
            require(params, AUTHORIZATION)
        require(params, ("timestamp",))
    for name, value in params.items():
        if not value:
            raise ApiError(-1105, f"Parameter '{name}' was empty.")
    return params


def read_show_limits(params: Mapping[str, str], default: bool) -> bool:
    """Whether the reply has `rateLimits` ("How to show/hide rate limit information")."""
    value = params.get("returnRateLimits")
    if value is None:
        return default
    if value not in ("true", "false"):
        raise ApiError(-1130, "Data sent for parameter 'returnRateLimits' is not valid.")
    return value == "true"
