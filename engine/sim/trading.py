"""The methods that place and cancel orders (web-socket-api.md, "Trading requests", by the names of
its headings)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.sim import lists
from engine.sim.call import Call, Params
from engine.sim.filters import check_filters
from engine.sim.lists import OrderList
from engine.sim.orders import (
    Order,
    cancelled,
    placed,
    read_client_id,
    read_order,
    read_response_type,
)
from engine.sim.request import ApiError, read_choice, read_long

CANCEL_RESTRICTIONS = {"ONLY_NEW": "NEW", "ONLY_PARTIALLY_FILLED": "PARTIALLY_FILLED"}
REPLACE_MODES = ("STOP_ON_FAILURE", "ALLOW_FAILURE")
EXCEEDED_MODES = ("DO_NOTHING", "CANCEL_ONLY")


# ---- single orders -------------------------------------------------------------------------------


def place(call: Call, params: Params) -> dict[str, Any]:
    """Heading "Place new order (TRADE)"."""
    order, response_type = _read(call, params)
    call.limiter.check_orders(1)
    call.engine.place(order, call.origin)
    call.limiter.count_orders(1)
    return placed(order, response_type)


def test(call: Call, params: Params) -> dict[str, Any]:
    """Heading "Test new order (TRADE)": everything but the matching engine."""
    _read(call, params)
    return {}


def cancel(call: Call, params: Params) -> dict[str, Any]:
    """Heading "Cancel order (TRADE)"."""
    cancellation = _read_cancellation(params, "orderId", "origClientOrderId", "newClientOrderId")
    order = _to_cancel(call, params, cancellation)
    return _cancel(call, order, cancellation.client_id, "cancel")


def cancel_replace(call: Call, params: Params) -> dict[str, Any]:
    """Heading "Cancel and replace order (TRADE)"."""
    mode = read_choice(params, "cancelReplaceMode", REPLACE_MODES)
    exceeded_mode = read_choice(params, "orderRateLimitExceededMode", EXCEEDED_MODES)
    # What cannot be read has no result of its own: nothing is attempted.
    cancellation = _read_cancellation(
        params, "cancelOrderId", "cancelOrigClientOrderId", "cancelNewClientOrderId"
    )
    order, response_type = _read(call, params)

    def cancel_old() -> dict[str, Any]:
        old = _to_cancel(call, params, cancellation)
        _cancel(call, old, cancellation.client_id, "replace")
        return cancelled(old)

    def place_new() -> dict[str, Any]:
        if exceeded:
            raise exceeded
        call.engine.place(order, call.origin)
        return placed(order, response_type)

    exceeded = _exceeded(call)
    if exceeded and exceeded_mode != "CANCEL_ONLY":
        raise exceeded
    if not exceeded:
        call.limiter.count_orders(1)  # whatever becomes of it
    cancel_result, cancel_response = _attempt(cancel_old)
    if exceeded and cancel_result == "FAILURE" and mode == "STOP_ON_FAILURE":
        raise exceeded  # the table of results has 429 there
    new_result, new_response = "NOT_ATTEMPTED", None
    if cancel_result == "SUCCESS" or mode == "ALLOW_FAILURE":
        new_result, new_response = _attempt(place_new)
    data = {
        "cancelResult": cancel_result,
        "newOrderResult": new_result,
        "cancelResponse": cancel_response,
        "newOrderResponse": new_response,
    }
    succeeded = [cancel_result, new_result].count("SUCCESS")
    if succeeded == 1:
        raise ApiError(-2021, "Order cancel-replace partially failed.", 409, data)
    if succeeded == 0:
        raise ApiError(-2022, "Order cancel-replace failed.", 400, data)
    return data


def _attempt(do: Callable[[], dict[str, Any]]) -> tuple[str, dict[str, Any] | None]:
    try:
        return "SUCCESS", do()
    except ApiError as error:
        return "FAILURE", {"code": error.code, "msg": error.msg}


def _exceeded(call: Call) -> ApiError | None:
    try:
        call.limiter.check_orders(1)
    except ApiError as error:
        return error
    return None


def cancel_all(call: Call, params: Params) -> list[dict[str, Any]]:
    """Heading "Cancel open orders (TRADE)"."""
    orders = call.engine.open_orders(call.book(params).symbol.name)
    if not orders:
        raise ApiError(-2011, "Unknown order sent.")
    call.engine.cancel(orders, read_client_id({}, ""), call.origin, "cancel-all")
    singles = [cancelled(order) for order in orders if order.list_id < 0]
    ended_lists = dict.fromkeys(order.list_id for order in orders if order.list_id >= 0)
    return singles + [
        _cancelled_list(
            call.engine.lists[list_id], [order for order in orders if order.list_id == list_id]
        )
        for list_id in ended_lists
    ]


def _read(call: Call, params: Params) -> tuple[Order, str]:
    """The order, which the filters let through, and the form of its reply."""
    book = call.book(params)
    order = read_order(params, book.symbol)
    response_type = read_response_type(
        params, "FULL" if order.type in ("LIMIT", "MARKET") else "ACK"
    )
    _check_self_trade_prevention(params)
    check_filters(order, book.last_price, len(call.engine.open_orders(book.symbol.name)))
    return order, response_type


def _check_self_trade_prevention(params: Params) -> None:
    if params.get("selfTradePreventionMode", "NONE") != "NONE":
        raise ApiError(-1020, "This operation is not supported.")


@dataclass(frozen=True)
class OrderName:
    """How a request names an order: by the venue's id, the client's or both."""

    order_id: int | None
    client_id: str | None


def read_order_name(params: Params, id_name: str, client_id_name: str) -> OrderName:
    """-1102 when there is neither ("Notes" of "Cancel order")."""
    if not params.keys() & {id_name, client_id_name}:
        raise ApiError(
            -1102,
            f"Param '{client_id_name}' or '{id_name}' must be sent, but both were empty/null!",
        )
    order_id = read_long(params, id_name) if id_name in params else None
    return OrderName(order_id, params.get(client_id_name))


def find(call: Call, params: Params, name: OrderName) -> Order | None:
    """The order of that name, None when the symbol has none."""
    symbol = call.book(params).symbol
    if name.order_id is not None:
        order = call.engine.orders.get(name.order_id)
    else:
        order = call.engine.order_by_client_id(symbol.name, name.client_id or "")
    if order is None or order.symbol is not symbol:
        return None
    if name.client_id not in (None, order.client_id, order.original_client_id):
        raise ApiError(-2039, "Client order ID is not correct for this order ID.")
    return order


@dataclass(frozen=True)
class Cancellation:
    """Which order to cancel, in which status (None: any open one), and its client id then."""

    name: OrderName
    status: str | None
    client_id: str


def _read_cancellation(
    params: Params, id_name: str, client_id_name: str, new_client_id_name: str
) -> Cancellation:
    name = read_order_name(params, id_name, client_id_name)
    restriction = params.get("cancelRestrictions")
    if restriction is not None and restriction not in CANCEL_RESTRICTIONS:
        raise ApiError(-1145, "Invalid cancelRestrictions")
    status = CANCEL_RESTRICTIONS[restriction] if restriction is not None else None
    return Cancellation(name, status, read_client_id(params, new_client_id_name))


def _to_cancel(call: Call, params: Params, cancellation: Cancellation) -> Order:
    order = find(call, params, cancellation.name)
    if order is None or not order.is_open:
        raise ApiError(-2011, "Unknown order sent.")
    if cancellation.status not in (None, order.status):
        raise ApiError(-2011, "Order was not canceled due to cancel restrictions.")
    return order


def _cancel(call: Call, order: Order, client_id: str, entry: str) -> dict[str, Any]:
    orders = call.engine.with_list(order)
    call.engine.cancel(orders, client_id, call.origin, entry)
    if order.list_id < 0:
        return cancelled(order)
    return _cancelled_list(call.engine.lists[order.list_id], orders)


# ---- order lists ---------------------------------------------------------------------------------


def place_oco(call: Call, params: Params) -> dict[str, Any]:
    """Heading "Place new Order list - OCO (TRADE)"."""
    return _place_list(call, params, lists.read_oco(params, call.book(params).symbol))


def place_otoco(call: Call, params: Params) -> dict[str, Any]:
    """Heading "Place new Order list - OTOCO (TRADE)"."""
    return _place_list(call, params, lists.read_otoco(params, call.book(params).symbol))


def _place_list(call: Call, params: Params, order_list: OrderList) -> dict[str, Any]:
    # The documents do not say which form is the default; the examples are RESULT.
    response_type = read_response_type(params, "RESULT")
    _check_self_trade_prevention(params)
    orders = order_list.orders
    book = call.book(params)
    open_orders = len(call.engine.open_orders(book.symbol.name)) + len(orders) - 1
    for order in orders:
        check_filters(order, book.last_price, open_orders)
    call.limiter.check_orders(len(orders))
    call.engine.place_list(order_list, call.origin)
    call.limiter.count_orders(len(orders))
    return lists.reported(order_list, [placed(order, response_type) for order in orders])


def cancel_list(call: Call, params: Params) -> dict[str, Any]:
    """Heading "Cancel Order list (TRADE)"."""
    found = find_list(call, params, "listClientOrderId")
    if found is None or found.is_done or found.symbol is not call.book(params).symbol:
        raise ApiError(-2011, "Unknown order sent.")
    orders = [order for order in found.orders if order.is_open]
    client_id = read_client_id(params, "newClientOrderId")
    call.engine.cancel(orders, client_id, call.origin, "cancel")
    return _cancelled_list(found, orders)


def find_list(call: Call, params: Params, client_id_name: str) -> OrderList | None:
    """The list that `orderListId` or the client's id means."""
    if "orderListId" not in params and client_id_name not in params:
        raise ApiError(
            -1102,
            f"Param '{client_id_name}' or 'orderListId' must be sent, but both were empty/null!",
        )
    if "orderListId" not in params:
        return call.engine.list_by_client_id(params[client_id_name])
    found = call.engine.lists.get(read_long(params, "orderListId"))
    if found and params.get(client_id_name, found.client_id) != found.client_id:
        return None
    return found


def _cancelled_list(order_list: OrderList, orders: list[Order]) -> dict[str, Any]:
    return lists.reported(order_list, [cancelled(order) for order in orders])
