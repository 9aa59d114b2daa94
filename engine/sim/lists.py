"""Order lists: OCO and OTOCO, what a request asks for and how replies show it (web-socket-api.md,
"Order lists")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from engine.sim.orders import Order, read_client_id, read_order
from engine.sim.request import ApiError
from engine.sim.symbols import Symbol

STOP_TYPES = ("STOP_LOSS", "STOP_LOSS_LIMIT")
PROFIT_TYPES = ("TAKE_PROFIT", "TAKE_PROFIT_LIMIT")


@dataclass(eq=False)
class OrderList:
    """`working` is the order that the pair waits for; an OCO has none."""

    symbol: Symbol
    client_id: str
    working: Order | None
    pair: tuple[Order, Order]  # above, below
    id: int = 0
    updated_ms: int = 0
    is_done: bool = False

    @property
    def contingency(self) -> str:
        """enums.md, "ContingencyType"; "Place new Order list - OTOCO" shows OTO for that."""
        return "OTO" if self.working else "OCO"

    @property
    def orders(self) -> list[Order]:
        return [*([self.working] if self.working else []), *self.pair]

    def siblings(self, order: Order) -> list[Order]:
        """The orders that live or die with `order`."""
        return [other for other in self.orders if other is not order]


# ---- requests ------------------------------------------------------------------------------------


def leg_names(prefix: str, group: str = "") -> dict[str, str]:
    """Where `read_order` finds the parameters of the leg `prefix`; side and quantity belong to the
    whole `group` of legs."""

    def name(first: str, rest: str) -> str:
        return f"{first}{rest}" if first else rest[0].lower() + rest[1:]

    return {
        "side": name(group, "Side"),
        "quantity": name(group, "Quantity"),
        "type": name(prefix, "Type"),
        "price": name(prefix, "Price"),
        "stopPrice": name(prefix, "StopPrice"),
        "timeInForce": name(prefix, "TimeInForce"),
        "newClientOrderId": name(prefix, "ClientOrderId"),
    }


WORKING = leg_names("working", "working")
ABOVE, BELOW = leg_names("above"), leg_names("below")
PENDING_ABOVE, PENDING_BELOW = (
    leg_names("pendingAbove", "pending"),
    leg_names("pendingBelow", "pending"),
)


def read_oco(params: Mapping[str, str], symbol: Symbol) -> OrderList:
    """Heading "Place new Order list - OCO (TRADE)"."""
    return OrderList(
        symbol,
        read_client_id(params, "listClientOrderId"),
        None,
        _read_pair(params, symbol, ABOVE, BELOW),
    )


def read_otoco(params: Mapping[str, str], symbol: Symbol) -> OrderList:
    """Heading "Place new Order list - OTOCO (TRADE)"."""
    if params["workingType"] not in ("LIMIT", "LIMIT_MAKER"):
        raise ApiError(-1014, "Unsupported order combination.")
    return OrderList(
        symbol,
        read_client_id(params, "listClientOrderId"),
        read_order(params, symbol, WORKING),
        _read_pair(params, symbol, PENDING_ABOVE, PENDING_BELOW),
    )


def _read_pair(
    params: Mapping[str, str], symbol: Symbol, above: Mapping[str, str], below: Mapping[str, str]
) -> tuple[Order, Order]:
    _check_types(params[above["side"]] == "BUY", params[above["type"]], params[below["type"]])
    return read_order(params, symbol, above), read_order(params, symbol, below)


def _check_types(buying: bool, above: str, below: str) -> None:
    """One stop loss, and opposite it something that takes a profit."""
    for leg, is_above in ((above, True), (below, False)):
        if leg not in (*STOP_TYPES, *PROFIT_TYPES, "LIMIT_MAKER"):
            raise ApiError(-1158, "Order type not supported in OCO.")
        if leg in STOP_TYPES and is_above is not buying:
            raise ApiError(*(_STOP_MUST_BE_ABOVE if buying else _STOP_MUST_BE_BELOW))
        if leg in PROFIT_TYPES and is_above is buying:
            raise ApiError(*(_PROFIT_MUST_BE_BELOW if buying else _PROFIT_MUST_BE_ABOVE))
    if above == below == "LIMIT_MAKER":
        raise ApiError(-1168, "At least one OCO order must be contingent.")
    if buying and above == "LIMIT_MAKER":
        raise ApiError(-1165, "A limit order in a buy OCO must be below.")
    if not buying and below == "LIMIT_MAKER":
        raise ApiError(-1166, "A limit order in a sell OCO must be above.")


_STOP_MUST_BE_ABOVE = -1196, "A stop loss order in a buy OCO must be above."
_STOP_MUST_BE_BELOW = -1197, "A stop loss order in a sell OCO must be below."
_PROFIT_MUST_BE_BELOW = -1198, "A take profit order in a buy OCO must be below."
_PROFIT_MUST_BE_ABOVE = -1199, "A take profit order in a sell OCO must be above."


def prices_fit(order_list: OrderList, last_price: Decimal) -> bool:
    """Whether the pair's prices lie on either side of the last one ("Price restrictions")."""
    above, below = (_restricted(leg) for leg in order_list.pair)
    return min(above) > last_price > max(below)


def _restricted(leg: Order) -> list[Decimal]:
    """A stop loss has its limit wherever it wants, all others take a profit with each price."""
    prices = (leg.stop_price,) if leg.type in STOP_TYPES else (leg.stop_price, leg.price)
    return [price for price in prices if price is not None]


# ---- replies -------------------------------------------------------------------------------------


def described(order_list: OrderList) -> dict[str, Any]:
    """Heading "Query Order list (USER_DATA)"."""
    status = statuses(order_list)
    return {
        "orderListId": order_list.id,
        "contingencyType": order_list.contingency,
        "listStatusType": status[0],
        "listOrderStatus": status[1],
        "listClientOrderId": order_list.client_id,
        "transactionTime": order_list.updated_ms,
        "symbol": order_list.symbol.name,
        "orders": [
            {
                "symbol": order.symbol.name,
                "orderId": order.id,
                "clientOrderId": order.original_client_id or order.client_id,
            }
            for order in order_list.orders
        ],
    }


def reported(order_list: OrderList, reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The reply to a request that placed or cancelled the list."""
    return described(order_list) | {"orderReports": list(reports)}


def statuses(order_list: OrderList) -> tuple[str, str]:
    """enums.md, "Order List Status" and "Order List Order Status"."""
    return ("ALL_DONE", "ALL_DONE") if order_list.is_done else ("EXEC_STARTED", "EXECUTING")
