"""The table of request methods (web-socket-api.md), and reading a request by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.sim import public, queries, sessions, trading
from engine.sim.call import Connection, Method
from engine.sim.orders import PLAIN_NAMES
from engine.sim.request import (
    AUTHORIZATION,
    ApiError,
    RequestId,
    parameter_text,
    read_document,
    read_id,
    require,
)

_ORDER_MANDATORY = ("symbol", "side", "type")
_ORDER_OPTIONAL = frozenset(PLAIN_NAMES) | {"newOrderRespType", "selfTradePreventionMode"}
_PEGS = ("PegPriceType", "PegOffsetValue", "PegOffsetType")
_ORDER_NOT_SIMULATED = frozenset(
    {"trailingDelta", "icebergQty", "strategyId", "strategyType"}
    | {"pegPriceType", "pegOffsetValue", "pegOffsetType"}
)
_LIST_OPTIONAL = frozenset({"listClientOrderId", "newOrderRespType", "selfTradePreventionMode"})
_LEG_OPTIONAL = ("ClientOrderId", "Price", "StopPrice", "TimeInForce")
_LEG_NOT_SIMULATED = ("TrailingDelta", "IcebergQty", "StrategyId", "StrategyType", *_PEGS)


def _legs(prefixes: tuple[str, ...], names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(prefix + name for prefix in prefixes for name in names)


_PENDING = ("pendingAbove", "pendingBelow")
_OTOCO_LEGS = ("working", *_PENDING)
_STATUS_FILTER = frozenset({"symbolStatus"})
_ROWS = frozenset({"orderId", "startTime", "endTime", "limit"})

METHODS = {
    # ---- general requests, market data requests
    "ping": Method(public.ping),
    "time": Method(public.time),
    "exchangeInfo": Method(
        public.exchange_info,
        optional=frozenset({"symbol", "symbols", "permissions", "showPermissionSets"}),
        not_simulated=_STATUS_FILTER,
        weight=20,
    ),
    "depth": Method(
        public.depth,
        ("symbol",),
        frozenset({"limit"}),
        _STATUS_FILTER,
        weight=public.depth_weight,
    ),
    "ticker.price": Method(
        public.ticker_price,
        optional=frozenset({"symbol", "symbols"}),
        not_simulated=_STATUS_FILTER,
        weight=public.ticker_weight,
    ),
    "ticker.book": Method(
        public.ticker_book,
        optional=frozenset({"symbol", "symbols"}),
        not_simulated=_STATUS_FILTER,
        weight=public.ticker_weight,
    ),
    # ---- authentication requests, user data stream requests
    "session.logon": Method(sessions.logon, AUTHORIZATION, weight=2, signed=True),
    "session.status": Method(sessions.status, weight=2),
    "session.logout": Method(sessions.logout, weight=2),
    "session.subscriptions": Method(sessions.subscriptions, weight=2),
    "userDataStream.subscribe": Method(sessions.subscribe, weight=2),
    "userDataStream.subscribe.signature": Method(
        sessions.subscribe_signature, AUTHORIZATION, weight=2, signed=True
    ),
    "userDataStream.unsubscribe": Method(
        sessions.unsubscribe, optional=frozenset({"subscriptionId"}), weight=2
    ),
    # ---- trading requests
    "order.place": Method(
        trading.place,
        _ORDER_MANDATORY,
        _ORDER_OPTIONAL,
        _ORDER_NOT_SIMULATED,
        signed=True,
        places_orders=True,
    ),
    "order.test": Method(
        trading.test,
        _ORDER_MANDATORY,
        _ORDER_OPTIONAL,
        _ORDER_NOT_SIMULATED | {"computeCommissionRates"},
        signed=True,
    ),
    "order.cancel": Method(
        trading.cancel,
        ("symbol",),
        frozenset({"orderId", "origClientOrderId", "newClientOrderId", "cancelRestrictions"}),
        signed=True,
    ),
    "order.cancelReplace": Method(
        trading.cancel_replace,
        (*_ORDER_MANDATORY, "cancelReplaceMode"),
        _ORDER_OPTIONAL
        | {"cancelOrderId", "cancelOrigClientOrderId", "cancelNewClientOrderId"}
        | {"cancelRestrictions", "orderRateLimitExceededMode"},
        _ORDER_NOT_SIMULATED,
        signed=True,
        places_orders=True,
    ),
    "openOrders.cancelAll": Method(trading.cancel_all, ("symbol",), signed=True),
    "orderList.place.oco": Method(
        trading.place_oco,
        ("symbol", "side", "quantity", "aboveType", "belowType"),
        _LIST_OPTIONAL | _legs(("above", "below"), _LEG_OPTIONAL),
        _legs(("above", "below"), _LEG_NOT_SIMULATED),
        signed=True,
        places_orders=True,
    ),
    "orderList.place.otoco": Method(
        trading.place_otoco,
        (
            *("symbol", "workingType", "workingSide", "workingPrice", "workingQuantity"),
            *("pendingSide", "pendingQuantity", "pendingAboveType", "pendingBelowType"),
        ),
        _LIST_OPTIONAL | _legs(_OTOCO_LEGS, _LEG_OPTIONAL),
        _legs(_OTOCO_LEGS, _LEG_NOT_SIMULATED),
        signed=True,
        places_orders=True,
    ),
    "orderList.cancel": Method(
        trading.cancel_list,
        ("symbol",),
        frozenset({"orderListId", "listClientOrderId", "newClientOrderId"}),
        signed=True,
    ),
    # ---- account requests
    "account.status": Method(
        queries.account_status, optional=frozenset({"omitZeroBalances"}), weight=20, signed=True
    ),
    "account.rateLimits.orders": Method(queries.order_limits, weight=40, signed=True),
    "order.status": Method(
        queries.order_status,
        ("symbol",),
        frozenset({"orderId", "origClientOrderId"}),
        weight=4,
        signed=True,
    ),
    "openOrders.status": Method(
        queries.open_orders_status,
        optional=frozenset({"symbol"}),
        weight=queries.open_orders_weight,
        signed=True,
    ),
    "allOrders": Method(queries.all_orders, ("symbol",), _ROWS, weight=20, signed=True),
    "myTrades": Method(
        queries.my_trades,
        ("symbol",),
        _ROWS | {"fromId"},
        weight=queries.trades_weight,
        signed=True,
    ),
    "orderList.status": Method(
        queries.order_list_status,
        optional=frozenset({"orderListId", "origClientOrderId"}),
        weight=4,
        signed=True,
    ),
    "openOrderLists.status": Method(queries.open_order_lists_status, weight=6, signed=True),
}


@dataclass
class Request:
    """One that came over a WebSocket, as far as it can be read; `error` is where that ended."""

    show_limits: bool  # in the reply
    id: RequestId = None
    method: Method | None = None
    params: dict[str, str] = field(default_factory=dict, repr=False)
    weight: int = 1
    error: ApiError | None = None


def read_request(message: str | bytes, connection: Connection) -> Request:
    """What a frame of that connection asks for."""
    request = Request(connection.show_limits)
    try:
        document = read_document(message)
        request.id = read_id(document)
        request.method = method = read_method(document)
        given, logged_on = document.get("params", {}), connection.api_key is not None
        request.params = params = read_params(given, method, logged_on)
        request.show_limits = read_show_limits(params, request.show_limits)
        request.weight = method.weigh(params)
    except ApiError as error:
        request.error = error
    return request


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


def read_params(given: Any, method: Method, logged_on: bool) -> dict[str, str]:
    """The request's `params` as text, each known to `method`, none empty, none missing."""
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
