"""What a journal and a venue say of an order, for the tests of engine/lifecycle.py and others."""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from typing import Any

from engine import client_ids
from engine.lifecycle import Orders
from engine.order import Order
from engine.records import Fired, Intent, Names, Terms
from engine.venues.binance import OrderSpec, Reply
from engine.venues.binance_events import STATUSES, ExecutionReport, OrderReport, Trade

RUN = "0123456789abcdef0123"
SPEC = OrderSpec("BTCUSDT", "SELL", "LIMIT", "0.01000000", price="52000.00", time_in_force="GTC")
BUY = OrderSpec("BTCUSDT", "BUY", "LIMIT", "0.01000000", price="60000.00", time_in_force="IOC")
SENT_MS = 1_645_423_376_532
S = 1_000_000_000


def entry_id(number: int = 1, run: str = RUN) -> str:
    return f"hp{run}-{number:013x}"


ID = entry_id()


def names(spec: OrderSpec = SPEC) -> Names:
    return Names(
        exchanges=("kraken",), rules=("whale",), orders=(asdict(spec),), markets=("BTCUSDT",)
    )


def intent(client_id: str = ID, **changes: Any) -> Intent:
    facts: dict[str, Any] = {
        "client_id": client_id,
        "txid": "ab" * 32,
        "kind": "deposit",
        "exchange": "kraken",
        "net_sat": 10**10,
        "order": 0,
        "rule": 0,
        "live": True,
        "armed": True,
        "timestamp_ms": SENT_MS,
        "t_rx_ns": 100,
        "t_trigger_ns": 200,
        "n_in": 1,
        "outpoints": (),
    }
    return Intent(**(facts | changes))


def exit_intent(
    client_id: str, parent: str, quantity: str, sell: bool, timestamp_ms: int = SENT_MS
) -> Intent:
    terms = Terms(int(Decimal(quantity) * 10**8), 0, 0, sell)
    return intent(
        client_id,
        parent=parent,
        terms=terms,
        order=0xFFFF,
        rule=None,
        timestamp_ms=timestamp_ms,
    )


def fired(client_id: str = ID, **changes: Any) -> Fired:
    facts: dict[str, Any] = {
        "client_id": client_id,
        "txid": "ab" * 32,
        "exchange": "kraken",
        "order": 0,
        "rule": 0,
        "dry_run": False,
        "refusal": None,
        "error": None,
        "armed": True,
        "timestamp_ms": SENT_MS,
        "sent_ns": 1_000,
        "stage_ns": {},
        "session": 0,
    }
    return Fired(**(facts | changes))


def ack(client_id: str = ID, order_id: int = 7) -> Reply:
    """The form ACK of "Place new order"."""
    result = {
        "symbol": "BTCUSDT",
        "orderId": order_id,
        "orderListId": -1,
        "clientOrderId": client_id,
        "transactTime": SENT_MS,
    }
    return Reply(client_id, 200, result)


def result(
    client_id: str = ID,
    status: str = "NEW",
    filled: str = "0",
    quote: str = "0",
    order_id: int = 7,
    **more: Any,
) -> dict[str, Any]:
    """An order as `order.status` and the form RESULT have it."""
    return {
        "symbol": "BTCUSDT",
        "orderId": order_id,
        "orderListId": -1,
        "clientOrderId": client_id,
        "origQty": "0.01000000",
        "executedQty": filled,
        "cummulativeQuoteQty": quote,
        "status": status,
        **more,
    }


def refusal(request_id: str = ID, code: int = -2010, words: str = "No.") -> Reply:
    return Reply(request_id, 400, {}, code=code, message=words)


def silence(request_id: str = ID) -> Reply:
    return Reply(request_id, 504, {}, code=-1007, message="Timeout waiting for response.")


def trade(number: int, quantity: str, price: str = "52000", fee: str = "0.1") -> Trade:
    q, p = Decimal(quantity), Decimal(price)
    return Trade(number, p, q, p * q, Decimal(fee), "USDT")


def event(
    status: str,
    filled: str = "0",
    client_id: str = ID,
    trades: tuple[Trade, ...] = (),
    quote: str | None = None,
    order_id: int = 7,
    reason: str = "",
) -> ExecutionReport:
    """An executionReport as engine/venues/binance_events.py reads it."""
    return ExecutionReport(
        symbol="BTCUSDT",
        side="SELL",
        type="LIMIT",
        execution="TRADE" if trades else "NEW",
        event_ms=SENT_MS,
        report=OrderReport(
            client_id=client_id,
            status=STATUSES[status],
            order_id=order_id,
            filled=Decimal(filled),
            quote=Decimal(quote) if quote is not None else Decimal(filled) * 52000,
            trades=trades,
            reason=reason,
        ),
    )


def sent(*ids: str) -> Orders:
    orders = Orders()
    for client_id in ids or (ID,):
        orders.on_intent(intent(client_id), names(), 500)
        orders.on_fired(fired(client_id))
    return orders


def known(orders: Orders, client_id: str = ID) -> Order:
    order = orders.get(client_id)
    assert order is not None
    return order


def status(orders: Orders, client_id: str = ID) -> str:
    return known(orders, client_id).status


def trades_reply(*rows: tuple[int, str]) -> Reply:
    """Heading "Account trade history"."""
    return Reply(
        client_ids.request_id(client_ids.TRADES, ID),
        200,
        {},
        rows=tuple(
            {
                "symbol": "BTCUSDT",
                "id": number,
                "orderId": 7,
                "price": "52000.00",
                "qty": quantity,
                "quoteQty": str(Decimal(quantity) * 52000),
                "commission": "0.1",
                "commissionAsset": "USDT",
            }
            for number, quantity in rows
        ),
    )


def half_told() -> Orders:
    """Filled, of which one trade of 0.002 is known."""
    orders = sent()
    orders.on_event(event("PARTIALLY_FILLED", "0.002", trades=(trade(1, "0.002"),)), 2_000)
    orders.on_event(event("FILLED", "0.01"), 3_000)
    orders.take_fills()
    return orders


OCO = client_ids.exit_id(ID, client_ids.OCO, 0)
TAKE, STOP = client_ids.legs_of(OCO)


def sent_oco() -> Orders:
    orders = sent()
    orders.on_intent(exit_intent(OCO, ID, "0.01", sell=True), names(), 600)
    orders.on_fired(fired(OCO))
    return orders
