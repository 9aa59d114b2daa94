"""An order: what a request asks for, what became of it, and how replies show it.

Comments name the headings of web-socket-api.md unless another file is named.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from engine.sim.request import (
    CLIENT_ID_PATTERN,
    ApiError,
    eight,
    matching,
    read_amount,
    read_choice,
    require,
)
from engine.sim.symbols import ORDER_TYPES, Symbol

ZERO = Decimal(0)
# "Place new order (TRADE)", the table of mandatory parameters. What of all these a type does not
# need it does not take either; MARKET takes one of two.
MANDATORY_BY_TYPE = {
    "LIMIT": ("timeInForce", "price", "quantity"),
    "LIMIT_MAKER": ("price", "quantity"),
    "MARKET": ("quantity",),
    "STOP_LOSS": ("quantity", "stopPrice"),
    "STOP_LOSS_LIMIT": ("timeInForce", "price", "quantity", "stopPrice"),
    "TAKE_PROFIT": ("quantity", "stopPrice"),
    "TAKE_PROFIT_LIMIT": ("timeInForce", "price", "quantity", "stopPrice"),
}
TERMS = ("timeInForce", "price", "quantity", "quoteOrderQty", "stopPrice")
CONTINGENT = frozenset(kind for kind, names in MANDATORY_BY_TYPE.items() if "stopPrice" in names)
TIMES_IN_FORCE = frozenset({"GTC", "IOC", "FOK"})  # enums.md, "Time in force"
RESPONSE_TYPES = ("ACK", "RESULT", "FULL")  # enums.md, "Order Response Type"
OPEN = frozenset({"NEW", "PENDING_NEW", "PARTIALLY_FILLED"})  # enums.md, "Order status"
# The parameters of a single order, under the names that errors use; legs of a list have others.
PLAIN_NAMES = {name: name for name in (*TERMS, "side", "type", "newClientOrderId")}


@dataclass(frozen=True)
class Fill:
    """An order's part in one trade; the commission is in the asset that it received."""

    trade_id: int
    price: Decimal
    quantity: Decimal
    commission: Decimal
    commission_asset: str
    is_maker: bool
    time_ms: int


@dataclass(eq=False)
class Order:
    """`price` is None without a limit, `stop_price` without a trigger, `time_in_force` where the
    request had none; `quote_quantity` is 0 unless the order was sized in the quote asset."""

    symbol: Symbol
    side: str
    type: str
    client_id: str
    quantity: Decimal
    price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: str | None = None
    quote_quantity: Decimal = ZERO

    id: int = 0
    list_id: int = -1
    status: str = "NEW"
    expiry_reason: str = ""
    original_client_id: str = ""  # the one before the order was cancelled
    executed: Decimal = ZERO
    quote_executed: Decimal = ZERO
    created_ms: int = 0
    updated_ms: int = 0
    working_ms: int = -1  # since when it can trade; -1: not yet
    rank: int = 0  # in the queue at its price
    fills: list[Fill] = field(default_factory=list)

    @property
    def is_buy(self) -> bool:
        return self.side == "BUY"

    @property
    def is_open(self) -> bool:
        return self.status in OPEN

    @property
    def remaining(self) -> Decimal:
        return self.quantity - self.executed

    @property
    def limit(self) -> Decimal:
        """Its price, 0 without one."""
        return self.price or ZERO

    @property
    def immediacy(self) -> str:
        """GTC, IOC or FOK, whatever the type."""
        return self.time_in_force or "GTC"

    @property
    def triggers_above(self) -> bool:
        """Whether its stop price lies above the market ("Trigger order price rules")."""
        return self.is_buy == self.type.startswith("STOP_LOSS")

    @property
    def locks(self) -> Decimal:
        """What it keeps of the asset that it would pay with."""
        if not self.is_open:
            return ZERO
        if not self.is_buy:
            return self.remaining
        waiting_at = self.stop_price if self.working_ms < 0 else None
        return self.remaining * (self.price or waiting_at or ZERO)

    @property
    def pays_with(self) -> str:
        return self.symbol.quote if self.is_buy else self.symbol.base

    @property
    def receives(self) -> str:
        return self.symbol.base if self.is_buy else self.symbol.quote


# ---- requests ------------------------------------------------------------------------------------


def read_order(
    params: Mapping[str, str], symbol: Symbol, names: Mapping[str, str] = PLAIN_NAMES
) -> Order:
    """The order that `params` describe under `names`, every value legal by itself; the filters come
    after."""
    side, order_type = params[names["side"]], params[names["type"]]
    if side not in ("BUY", "SELL"):
        raise ApiError(-1117, "Invalid side.")
    if order_type not in ORDER_TYPES:
        raise ApiError(-1116, "Invalid orderType.")
    given = {term for term in TERMS if names.get(term) in params}
    _check_terms(given, order_type, params, names)
    if params.get(names["timeInForce"], "GTC") not in TIMES_IN_FORCE:
        raise ApiError(-1115, "Invalid timeInForce.")
    amounts = {term: read_amount(params, names[term]) for term in TERMS[1:] if term in given}
    return Order(
        symbol=symbol,
        side=side,
        type=order_type,
        client_id=read_client_id(params, names["newClientOrderId"]),
        quantity=amounts.get("quantity", ZERO),
        price=amounts.get("price"),
        stop_price=amounts.get("stopPrice"),
        time_in_force=params.get(names["timeInForce"]),
        quote_quantity=amounts.get("quoteOrderQty", ZERO),
    )


def _check_terms(
    given: set[str], order_type: str, params: Mapping[str, str], names: Mapping[str, str]
) -> None:
    mandatory: tuple[str, ...] = MANDATORY_BY_TYPE[order_type]
    if order_type == "MARKET" and "quoteOrderQty" in given:
        if "quantity" in given:
            raise ApiError(-1128, "Combination of optional parameters invalid.")
        mandatory = ("quoteOrderQty",)
    require(params, tuple(names[term] for term in mandatory))
    for term in TERMS:
        if term in given and term not in mandatory:
            raise ApiError(-1106, f"Parameter '{names[term]}' sent when not required.")


def read_client_id(params: Mapping[str, str], name: str) -> str:
    """The client's own id under `name`, or one that is made here."""
    if name not in params:
        return secrets.token_hex(11)
    return matching(params, name, CLIENT_ID_PATTERN)


def read_response_type(params: Mapping[str, str], default: str) -> str:
    """ACK, RESULT or FULL."""
    return read_choice(params, "newOrderRespType", RESPONSE_TYPES) or default


# ---- replies -------------------------------------------------------------------------------------


def placed(order: Order, response_type: str) -> dict[str, Any]:
    """Heading "Place new order (TRADE)": the reply in the form that `newOrderRespType` chose."""
    reply: dict[str, Any] = {
        "symbol": order.symbol.name,
        "orderId": order.id,
        "orderListId": order.list_id,
        "clientOrderId": order.client_id,
        "transactTime": order.updated_ms,
    }
    if response_type == "ACK":
        return reply
    reply |= _progress(order)
    reply["workingTime"] = order.working_ms
    reply["selfTradePreventionMode"] = "NONE"
    _add_expiry_reason(reply, order)
    if response_type == "FULL":
        reply["fills"] = [_fill(fill) for fill in order.fills]
    return reply


def cancelled(order: Order) -> dict[str, Any]:
    """Heading "Cancel order (TRADE)": the reply about one order."""
    return {
        "symbol": order.symbol.name,
        "origClientOrderId": order.original_client_id,
        "orderId": order.id,
        "orderListId": order.list_id,
        "clientOrderId": order.client_id,
        "transactTime": order.updated_ms,
        **_progress(order),
        "selfTradePreventionMode": "NONE",
    }


def described(order: Order) -> dict[str, Any]:
    """Heading "Query order (USER_DATA)"."""
    reply = {
        "symbol": order.symbol.name,
        "orderId": order.id,
        "orderListId": order.list_id,
        "clientOrderId": order.client_id,
        "price": eight(order.limit),
        "origQty": eight(order.quantity),
        "executedQty": eight(order.executed),
        "cummulativeQuoteQty": eight(order.quote_executed),
        "status": order.status,
        "timeInForce": order.immediacy,
        "type": order.type,
        "side": order.side,
        "stopPrice": eight(order.stop_price or ZERO),
        "icebergQty": eight(ZERO),
        "time": order.created_ms,
        "updateTime": order.updated_ms,
        "isWorking": order.working_ms >= 0,
        "workingTime": order.working_ms,
        "origQuoteOrderQty": eight(order.quote_quantity),
        "selfTradePreventionMode": "NONE",
    }
    _add_expiry_reason(reply, order)
    return reply


def traded(order: Order, fill: Fill) -> dict[str, Any]:
    """Heading "Account trade history (USER_DATA)": one row."""
    return {
        "symbol": order.symbol.name,
        "id": fill.trade_id,
        "orderId": order.id,
        "orderListId": order.list_id,
        "price": eight(fill.price),
        "qty": eight(fill.quantity),
        "quoteQty": eight(fill.price * fill.quantity),
        "commission": eight(fill.commission),
        "commissionAsset": fill.commission_asset,
        "time": fill.time_ms,
        "isBuyer": order.is_buy,
        "isMaker": fill.is_maker,
        "isBestMatch": True,
    }


def _progress(order: Order) -> dict[str, Any]:
    progress = {
        "price": eight(order.limit),
        "origQty": eight(order.quantity),
        "executedQty": eight(order.executed),
        "origQuoteOrderQty": eight(order.quote_quantity),
        "cummulativeQuoteQty": eight(order.quote_executed),
        "status": order.status,
        "timeInForce": order.immediacy,
        "type": order.type,
        "side": order.side,
    }
    if order.stop_price is not None:  # "Conditional fields in Order Responses"
        progress["stopPrice"] = eight(order.stop_price)
    return progress


def _add_expiry_reason(reply: dict[str, Any], order: Order) -> None:
    if order.expiry_reason:
        reply["expiryReason"] = order.expiry_reason


def _fill(fill: Fill) -> dict[str, Any]:
    return {
        "price": eight(fill.price),
        "qty": eight(fill.quantity),
        "commission": eight(fill.commission),
        "commissionAsset": fill.commission_asset,
        "tradeId": fill.trade_id,
    }
