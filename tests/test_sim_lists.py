"""OCO and OTOCO on the simulated exchange (web-socket-api.md, "Order lists")."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.venue import BTC, LIMIT, Client

SELL_OCO = BTC | {
    "side": "SELL",
    "quantity": "0.01",
    "listClientOrderId": "list",
    "aboveType": "LIMIT_MAKER",
    "abovePrice": "61000",
    "aboveClientOrderId": "profit",
    "belowType": "STOP_LOSS",
    "belowStopPrice": "59000",
    "belowClientOrderId": "loss",
}
BUY_OCO = BTC | {
    "side": "BUY",
    "quantity": "0.01",
    "aboveType": "STOP_LOSS_LIMIT",
    "abovePrice": "61100",
    "aboveStopPrice": "61000",
    "aboveTimeInForce": "GTC",
    "aboveClientOrderId": "loss",
    "belowType": "TAKE_PROFIT",
    "belowStopPrice": "59000",
    "belowClientOrderId": "profit",
}
OTOCO = BTC | {
    "workingType": "LIMIT",
    "workingSide": "BUY",
    "workingPrice": "59000",
    "workingQuantity": "0.01",
    "workingTimeInForce": "GTC",
    "workingClientOrderId": "entry",
    "pendingSide": "SELL",
    "pendingQuantity": "0.00999",
    "pendingAboveType": "LIMIT_MAKER",
    "pendingAbovePrice": "61000",
    "pendingAboveClientOrderId": "profit",
    "pendingBelowType": "STOP_LOSS_LIMIT",
    "pendingBelowStopPrice": "58000",
    "pendingBelowPrice": "57900",
    "pendingBelowTimeInForce": "GTC",
    "pendingBelowClientOrderId": "loss",
}


PROFIT_LIMIT = {"aboveType": "TAKE_PROFIT_LIMIT", "aboveTimeInForce": "GTC"}


@pytest.fixture
def client() -> Client:
    return Client(balances={"BTC": Decimal("0.01"), "USDT": Decimal(1000)})


def statuses(client: Client, *names: str) -> list[str]:
    return [client.status(name)["status"] for name in names]


def list_statuses(client: Client) -> list[tuple[str, str]]:
    return [(event["l"], event["L"]) for event in client.take_events("listStatus")]


# ---- OCO -----------------------------------------------------------------------------------------


def test_an_oco_locks_for_one_of_its_orders(client: Client) -> None:
    reply = client.ask("orderList.place.oco", **SELL_OCO)
    assert (reply["contingencyType"], reply["listOrderStatus"]) == ("OCO", "EXECUTING")
    assert [each["clientOrderId"] for each in reply["orders"]] == ["profit", "loss"]
    assert {each["orderListId"] for each in reply["orderReports"]} == {reply["orderListId"]}
    assert client.balance("BTC") == (0, Decimal("0.01"))


def test_an_oco_that_buys_locks_the_dearer_of_the_two() -> None:
    client = Client(balances={"USDT": Decimal(611)})
    client.ask("orderList.place.oco", **BUY_OCO)
    assert client.balance("USDT") == (0, 611)
    client.ask("order.cancel", symbol="BTCUSDT", origClientOrderId="loss")
    assert client.balance("USDT") == (611, 0)


@pytest.mark.parametrize(
    ("price", "done", "expired"), [("61000", "profit", "loss"), ("59000", "loss", "profit")]
)
def test_whichever_works_first_ends_the_other(
    client: Client, price: str, done: str, expired: str
) -> None:
    client.ask("orderList.place.oco", **SELL_OCO)
    client.venue.set_price("BTCUSDT", Decimal(price))
    assert statuses(client, done, expired) == ["FILLED", "EXPIRED"]
    assert client.status(expired)["expiryReason"] == "OCO_TRIGGER"
    assert list_statuses(client) == [("EXEC_STARTED", "EXECUTING"), ("ALL_DONE", "ALL_DONE")]
    assert client.balance("BTC") == (0, 0)
    assert client.ask("openOrderLists.status") == []
    found = client.ask("orderList.status", origClientOrderId="list")
    assert (found["listStatusType"], found["listOrderStatus"]) == ("ALL_DONE", "ALL_DONE")


def test_a_first_partial_fill_ends_the_other_and_the_list_goes_on(client: Client) -> None:
    client.ask("orderList.place.oco", **SELL_OCO)
    client.venue.trade("BTCUSDT", Decimal("61000"), Decimal("0.004"), "BUY")
    assert statuses(client, "profit", "loss") == ["PARTIALLY_FILLED", "EXPIRED"]
    assert client.balance("BTC") == (0, Decimal("0.006"))
    assert [each["listClientOrderId"] for each in client.ask("openOrderLists.status")] == ["list"]
    client.venue.set_price("BTCUSDT", Decimal("61000"))
    assert statuses(client, "profit") == ["FILLED"]
    assert list_statuses(client)[-1] == ("ALL_DONE", "ALL_DONE")


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("order.cancel", {"origClientOrderId": "loss", "newClientOrderId": "gone"}),
        ("orderList.cancel", {"listClientOrderId": "list"}),
        ("orderList.cancel", {"orderListId": 1}),
        ("openOrders.cancelAll", {}),
    ],
)
def test_an_oco_is_cancelled_as_a_whole(
    client: Client, method: str, params: dict[str, Any]
) -> None:
    client.ask("orderList.place.oco", **SELL_OCO)
    reply = client.ask(method, symbol="BTCUSDT", **params)
    [cancelled] = reply if isinstance(reply, list) else [reply]
    assert cancelled["listOrderStatus"] == "ALL_DONE"
    assert [each["origClientOrderId"] for each in cancelled["orderReports"]] == ["profit", "loss"]
    assert [each["clientOrderId"] for each in cancelled["orders"]] == ["profit", "loss"]
    assert statuses(client, "profit", "loss") == ["CANCELED", "CANCELED"]
    assert list_statuses(client)[-1] == ("ALL_DONE", "ALL_DONE")
    assert client.balance("BTC") == (Decimal("0.01"), 0)
    unknown = (-2011, "Unknown order sent.")
    assert client.refusal("orderList.cancel", **BTC, listClientOrderId="list") == unknown


@pytest.mark.parametrize(
    ("template", "change", "refusal"),
    [
        (SELL_OCO, {"belowType": "LIMIT", "belowPrice": "1"}, -1158),
        (SELL_OCO, {"side": "BOTH"}, -1117),
        (SELL_OCO, {"belowPrice": "59000"}, -1106),
        (BUY_OCO, {"aboveStopPrice": None}, -1102),
        (BUY_OCO, {"aboveTrailingDelta": 10}, -1020),
        (SELL_OCO, {"abovePrice": "60000", "belowStopPrice": "59000"}, -2010),
        (SELL_OCO, {"belowStopPrice": "60000"}, -2010),
        (SELL_OCO, PROFIT_LIMIT | {"abovePrice": "60000", "aboveStopPrice": "62000"}, -2010),
        (SELL_OCO, PROFIT_LIMIT | {"abovePrice": "62000", "aboveStopPrice": "60000"}, -2010),
        (
            BUY_OCO | {"belowType": "TAKE_PROFIT_LIMIT", "belowTimeInForce": "GTC"},
            {"belowPrice": "60000"},
            -2010,
        ),
        (SELL_OCO, {"aboveClientOrderId": "loss"}, -2010),
        (SELL_OCO, {"quantity": "0.0100001"}, -1013),
        (SELL_OCO, {"quantity": "0.02"}, -2010),
    ],
)
def test_an_oco_that_cannot_be_is_refused(
    client: Client, template: dict[str, Any], change: dict[str, Any], refusal: int
) -> None:
    params = {name: value for name, value in (template | change).items() if value is not None}
    assert client.refusal("orderList.place.oco", **params)[0] == refusal
    assert client.ask("openOrders.status") == []
    assert client.ledger == []


def test_a_limit_takes_the_profit_where_the_trigger_does(client: Client) -> None:
    prices = {"abovePrice": "60000.01", "aboveStopPrice": "62000"}
    client.ask("orderList.place.oco", **SELL_OCO | PROFIT_LIMIT | prices)
    assert statuses(client, "profit", "loss") == ["NEW", "NEW"]


@pytest.mark.parametrize(
    ("side", "above", "below", "code"),
    [
        ("SELL", "LIMIT_MAKER", "LIMIT_MAKER", -1168),
        ("BUY", "LIMIT_MAKER", "STOP_LOSS", -1196),
        ("BUY", "LIMIT_MAKER", "TAKE_PROFIT", -1165),
        ("SELL", "TAKE_PROFIT", "LIMIT_MAKER", -1166),
        ("SELL", "STOP_LOSS", "TAKE_PROFIT", -1197),
        ("BUY", "TAKE_PROFIT", "STOP_LOSS", -1198),
        ("SELL", "LIMIT_MAKER", "TAKE_PROFIT", -1199),
        ("SELL", "LIMIT_MAKER", "MARKET", -1158),
    ],
)
def test_the_types_of_an_oco_go_together(
    client: Client, side: str, above: str, below: str, code: int
) -> None:
    terms = {"LIMIT_MAKER": {"Price": "60000"}, "MARKET": {}}
    params: dict[str, Any] = BTC | {"side": side, "quantity": "0.01"}
    for prefix, order_type in (("above", above), ("below", below)):
        leg = {"Type": order_type} | terms.get(order_type, {"StopPrice": "60000"})
        params |= {prefix + name: value for name, value in leg.items()}
    assert client.refusal("orderList.place.oco", **params)[0] == code


def test_prices_of_an_oco_that_do_not_fit_are_told_in_events(client: Client) -> None:
    client.refusal("orderList.place.oco", **SELL_OCO | {"belowStopPrice": "60000"})
    events = client.take_events()
    assert [(event["x"], event["r"]) for event in events] == [("REJECTED", "OCO_BAD_PRICES")] * 2


def test_a_list_id_is_taken_while_the_list_is_open(client: Client) -> None:
    client.ask("orderList.place.oco", **SELL_OCO)
    again = BUY_OCO | {"listClientOrderId": "list", "aboveClientOrderId": "x"}
    again |= {"belowClientOrderId": "y"}
    duplicate = (-2010, "Duplicate order sent.")
    assert client.refusal("orderList.place.oco", **again) == duplicate
    client.ask("openOrders.cancelAll", symbol="BTCUSDT")
    client.ask("orderList.place.oco", **again)


# ---- OTOCO ---------------------------------------------------------------------------------------


def test_the_pair_of_an_otoco_waits_for_the_working_order(client: Client) -> None:
    reply = client.ask("orderList.place.otoco", **OTOCO)
    assert reply["contingencyType"] == "OTO"
    assert [each["status"] for each in reply["orderReports"]] == ["NEW", *["PENDING_NEW"] * 2]
    assert client.balance("BTC") == (Decimal("0.01"), 0)
    client.venue.trade("BTCUSDT", Decimal("59000"), Decimal("0.004"), "SELL")
    assert statuses(client, "entry", "profit", "loss") == [
        *("PARTIALLY_FILLED", "PENDING_NEW", "PENDING_NEW")
    ]
    client.venue.set_price("BTCUSDT", Decimal("59000"))
    assert statuses(client, "entry", "profit", "loss") == ["FILLED", "NEW", "NEW"]
    assert client.balance("BTC") == (Decimal("0.01"), Decimal("0.00999"))
    client.venue.set_price("BTCUSDT", Decimal("57950"))
    assert statuses(client, "profit", "loss") == ["EXPIRED", "FILLED"]
    assert list_statuses(client)[-1] == ("ALL_DONE", "ALL_DONE")


def test_the_reply_is_from_before_the_pair_is_placed(client: Client) -> None:
    reply = client.ask("orderList.place.otoco", **OTOCO | {"workingPrice": "60001"})
    assert [each["status"] for each in reply["orderReports"]] == [
        *("FILLED", "PENDING_NEW", "PENDING_NEW")
    ]
    assert statuses(client, "profit", "loss") == ["NEW", "NEW"]


def test_a_working_order_that_expires_takes_the_pair_along(client: Client) -> None:
    client.ask("orderList.place.otoco", **OTOCO | {"workingTimeInForce": "IOC"})
    assert statuses(client, "entry", "profit", "loss") == ["EXPIRED"] * 3
    assert client.status("profit")["expiryReason"] == "OTO_PHASE_ONE_EXPIRED"
    assert list_statuses(client)[-1] == ("ALL_DONE", "ALL_DONE")


@pytest.mark.parametrize("change", [{"pendingQuantity": "0.03"}, {"pendingAbovePrice": "59000"}])
def test_a_pair_that_cannot_be_placed_any_more_expires(
    client: Client, change: dict[str, Any]
) -> None:
    client.ask("orderList.place.otoco", **OTOCO | change)
    client.venue.set_price("BTCUSDT", Decimal("59000"))
    assert statuses(client, "entry", "profit", "loss") == ["FILLED", "EXPIRED", "EXPIRED"]
    assert client.status("profit")["expiryReason"] == "REJECTED"


def test_an_otoco_is_cancelled_as_a_whole_and_later_what_is_left(client: Client) -> None:
    client.ask("orderList.place.otoco", **OTOCO)
    client.ask("order.cancel", symbol="BTCUSDT", origClientOrderId="profit")
    assert statuses(client, "entry", "profit", "loss") == ["CANCELED"] * 3
    client.ask("orderList.place.otoco", **OTOCO)
    client.venue.set_price("BTCUSDT", Decimal("59000"))
    reply = client.ask("order.cancel", symbol="BTCUSDT", origClientOrderId="profit")
    assert [each["origClientOrderId"] for each in reply["orderReports"]] == ["profit", "loss"]
    assert statuses(client, "entry", "profit") == ["FILLED", "CANCELED"]


def test_the_working_order_must_have_a_limit(client: Client) -> None:
    market = OTOCO | {"workingType": "MARKET"}
    assert client.refusal("orderList.place.otoco", **market)[0] == -1014
    client.place(LIMIT, side="BUY", price="50000", newClientOrderId="entry")
    assert client.refusal("orderList.place.otoco", **OTOCO)[0] == -2010
