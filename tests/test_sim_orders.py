"""Orders of every type on the simulated exchange: what they trade, lock and cost, and how they end
(web-socket-api.md, "Trading requests"; filters.md)."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Any

import pytest

from engine.sim.symbols import SYMBOLS
from tests.venue import BTC, LIMIT, MARKET, Client

BID, ASK, TICK = Decimal("60000.00"), Decimal("60000.01"), Decimal("0.01")
DUPLICATE = (-2010, "Duplicate order sent.")
UNKNOWN = (-2011, "Unknown order sent.")
INSUFFICIENT = (-2010, "Account has insufficient balance for requested action.")


@pytest.fixture
def client() -> Client:
    return Client()


def fills(result: dict[str, Any]) -> list[tuple[str, str]]:
    return [(fill["price"], fill["qty"]) for fill in result["fills"]]


# ---- trading with the market ---------------------------------------------------------------------


def test_a_large_order_takes_level_after_level_and_the_rest_stays_in_front(client: Client) -> None:
    sold = client.place(side="SELL", price="59999.99", quantity="5", newClientOrderId="big")
    assert fills(sold) == [
        ("60000.00000000", "1.20000000"),
        ("59999.99000000", "0.70000000"),
    ]
    assert (sold["status"], sold["executedQty"]) == ("PARTIALLY_FILLED", "1.90000000")
    assert sold["cummulativeQuoteQty"] == "113999.99300000"
    # The market maker has stepped back from it.
    depth = client.ask("depth", symbol="BTCUSDT", limit=2)
    assert depth["asks"] == [["59999.99000000", "3.10000000"], ["60000.01000000", "1.20000000"]]
    assert [price for price, _ in depth["bids"]] == ["59999.98000000", "59999.97000000"]
    client.venue.trade("BTCUSDT", Decimal("60001"), Decimal("0.1"), "BUY")
    assert client.status("big")["executedQty"] == "2.00000000"
    client.venue.set_price("BTCUSDT", Decimal("60001"))
    assert client.status("big")["status"] == "FILLED"


def test_a_market_order_beyond_the_book_expires_with_what_it_got(client: Client) -> None:
    sold = client.place(MARKET, side="SELL", quantity="120")
    assert len(sold["fills"]) == 100
    assert (sold["status"], sold["expiryReason"]) == ("EXPIRED", "INSUFFICIENT_LIQUIDITY")
    assert 0 < Decimal(sold["executedQty"]) < 120


def test_fill_or_kill_is_all_or_nothing_and_immediate_or_cancel_is_not(client: Client) -> None:
    killed = client.place(side="BUY", price=str(ASK), quantity="1.3", timeInForce="FOK")
    assert (killed["status"], killed["fills"]) == ("EXPIRED", [])
    assert killed["expiryReason"] == "UNFILLED_FOK_ORDER_EXPIRED"
    partial = client.place(side="BUY", price=str(ASK), quantity="1.3", timeInForce="IOC")
    assert (partial["status"], partial["executedQty"]) == ("EXPIRED", "1.20000000")
    assert partial["expiryReason"] == "UNFILLED_IOC_QUANTITY_EXPIRED"
    filled = client.place(side="BUY", price=str(ASK + TICK), quantity="1.3", timeInForce="FOK")
    assert filled["status"] == "FILLED"
    assert client.ask("openOrders.status") == []


@pytest.mark.parametrize(
    ("side", "budget", "quantity"),
    [("BUY", "600.1", "0.01000000"), ("SELL", "600", "0.01000000"), ("BUY", "5.3", "0.00008000")],
)
def test_a_quote_quantity_buys_as_much_as_it_pays_for(
    client: Client, side: str, budget: str, quantity: str
) -> None:
    done = client.place(BTC, type="MARKET", side=side, quoteOrderQty=budget)
    assert (done["status"], done["executedQty"], done["origQty"]) == ("FILLED", quantity, quantity)
    assert Decimal(done["cummulativeQuoteQty"]) <= Decimal(done["origQuoteOrderQty"])
    assert Decimal(done["origQuoteOrderQty"]) == Decimal(budget)


def test_a_quote_quantity_beyond_the_book_expires(client: Client) -> None:
    done = client.place(BTC, type="MARKET", side="BUY", quoteOrderQty="7000000")
    assert (done["status"], done["expiryReason"]) == ("EXPIRED", "INSUFFICIENT_LIQUIDITY")


@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_a_quote_quantity_is_no_way_round_the_largest_market_order(
    client: Client, side: str
) -> None:
    """8,000,000 USDT are 133 BTC, of which MARKET_LOT_SIZE allows 120."""
    terms = {"type": "MARKET", "side": side, "quoteOrderQty": "8000000"}
    assert client.refusal("order.place", **BTC, **terms) == (
        -1013,
        "Filter failure: MARKET_LOT_SIZE",
    )
    assert client.ledger == []


def test_resting_orders_trade_by_price_and_then_by_time(client: Client) -> None:
    for name, price in (("c", "59990"), ("a", "59991"), ("b", "59991"), ("d", "59989")):
        client.place(side="BUY", price=price, newClientOrderId=name)
    client.take_events()
    client.venue.trade("BTCUSDT", Decimal("59990"), Decimal("0.025"), "SELL")
    trades = [event for event in client.take_events("executionReport") if event["x"] == "TRADE"]
    assert [(event["c"], event["l"], event["L"]) for event in trades] == [
        ("a", "0.01000000", "59991.00000000"),
        ("b", "0.01000000", "59991.00000000"),
        ("c", "0.00500000", "59990.00000000"),
    ]
    assert all(event["m"] for event in trades)
    assert [client.status(name)["status"] for name in "abcd"] == [
        *("FILLED", "FILLED", "PARTIALLY_FILLED", "NEW")
    ]


def test_the_account_can_trade_with_itself(client: Client) -> None:
    client.place(side="SELL", price="60000.01", newClientOrderId="maker")
    taker = client.place(side="BUY", price="60000.01", newClientOrderId="taker")
    assert (taker["status"], client.status("maker")["status"]) == ("FILLED", "FILLED")
    [made, taken] = [event for event in client.take_events("executionReport") if event["t"] > 0]
    assert (made["c"], made["m"], taken["c"], taken["m"]) == ("maker", True, "taker", False)
    assert made["t"] == taken["t"]


@pytest.mark.parametrize(("side", "price"), [("BUY", "60000.01"), ("SELL", "60000.00")])
def test_a_limit_maker_never_takes(client: Client, side: str, price: str) -> None:
    maker = BTC | {"type": "LIMIT_MAKER", "side": side, "quantity": "0.01"}
    taken = (-2010, "Order would immediately match and take.")
    assert client.refusal("order.place", **maker, price=price) == taken
    behind = ASK if side == "SELL" else BID
    reply = client.ask("order.place", **maker, price=str(behind))
    assert list(reply) == ["symbol", "orderId", "orderListId", "clientOrderId", "transactTime"]
    assert client.status(reply["clientOrderId"])["timeInForce"] == "GTC"


# ---- stop prices ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order_type", "side", "stop", "before", "reached"),
    [
        ("STOP_LOSS", "SELL", "59000", "59000.01", "59000"),
        ("STOP_LOSS", "BUY", "61000", "60999.99", "61000"),
        ("TAKE_PROFIT", "SELL", "61000", "60999.99", "61000"),
        ("TAKE_PROFIT", "BUY", "59000", "59000.01", "59000"),
    ],
)
@pytest.mark.parametrize("limited", [False, True])
def test_a_stop_price_starts_an_order_when_it_is_reached(
    client: Client,
    order_type: str,
    side: str,
    stop: str,
    before: str,
    reached: str,
    limited: bool,
) -> None:
    terms = {"side": side, "quantity": "0.01", "stopPrice": stop, "newClientOrderId": "stop"}
    if limited:  # at a limit that rests, then
        order_type += "_LIMIT"
        away = "1000" if side == "SELL" else "-1000"
        terms |= {"price": str(Decimal(stop) + Decimal(away)), "timeInForce": "GTC"}
    placed = client.place(BTC, type=order_type, **terms)
    assert (placed["status"], placed["workingTime"]) == ("NEW", -1)
    assert Decimal(placed["stopPrice"]) == Decimal(stop)
    client.venue.set_price("BTCUSDT", Decimal(before))
    waiting = client.status("stop")
    assert (waiting["status"], waiting["isWorking"]) == ("NEW", False)
    client.venue.set_price("BTCUSDT", Decimal(reached))
    done = client.status("stop")
    assert (done["status"], done["isWorking"]) == ("NEW" if limited else "FILLED", True)
    [first, second, *trades] = client.take_events("executionReport")
    assert (first["x"], first["w"], "W" in first) == ("NEW", False, False)
    assert (second["x"], second["w"], "W" in second) == ("NEW", True, True)
    assert [event["x"] for event in trades] == ([] if limited else ["TRADE"])


@pytest.mark.parametrize(
    ("order_type", "side", "stop"),
    [
        ("STOP_LOSS", "SELL", "60000"),
        ("STOP_LOSS", "BUY", "59999"),
        ("TAKE_PROFIT", "SELL", "60000"),
        ("TAKE_PROFIT", "BUY", "60001"),
    ],
)
def test_a_stop_price_on_the_wrong_side_is_refused(
    client: Client, order_type: str, side: str, stop: str
) -> None:
    terms = {"type": order_type, "side": side, "stopPrice": stop, "quantity": "0.01"}
    refusal = client.refusal("order.place", **BTC, **terms)
    assert refusal == (-2010, "Order would trigger immediately.")
    [event] = client.take_events()
    assert (event["x"], event["X"]) == ("REJECTED", "REJECTED")
    assert event["r"] == "STOP_PRICE_WOULD_TRIGGER_IMMEDIATELY"


def test_an_order_can_trigger_the_next(client: Client) -> None:
    """A large sale goes through the first stop price, whose sale goes through the second."""
    for name, stop in (("first", "59999.95"), ("second", "59999.90")):
        order = BTC | {"type": "STOP_LOSS", "side": "SELL", "stopPrice": stop, "quantity": "12"}
        client.place(order, newClientOrderId=name)
    reply = client.place(MARKET, side="SELL", quantity="6")
    assert reply["status"] == "FILLED"
    assert [client.status(name)["status"] for name in ("first", "second")] == ["FILLED"] * 2


# ---- balances ------------------------------------------------------------------------------------

POOR = {"BTC": Decimal("0.5"), "USDT": Decimal("1000")}


def test_open_orders_lock_what_they_would_pay() -> None:
    client = Client(balances=POOR)
    client.place(side="BUY", price="50000", quantity="0.01", newClientOrderId="bid")
    client.place(side="SELL", price="70000", quantity="0.2", newClientOrderId="ask")
    assert client.balance("USDT") == (500, 500)
    assert client.balance("BTC") == (Decimal("0.3"), Decimal("0.2"))
    refused = client.refusal("order.place", **LIMIT, side="BUY", price="50001")
    assert refused == INSUFFICIENT
    client.take_events()
    client.ask("order.cancel", symbol="BTCUSDT", origClientOrderId="bid")
    assert client.balance("USDT") == (1000, 0)
    [position] = client.take_events("outboundAccountPosition")
    assert position["B"] == [{"a": "USDT", "f": "1000.00000000", "l": "0.00000000"}]


def test_commission_is_a_thousandth_of_what_is_received() -> None:
    client = Client(balances=POOR)
    client.place(MARKET, side="SELL", quantity="0.1")
    assert client.balance("BTC") == (Decimal("0.4"), 0)
    assert client.balance("USDT") == (Decimal(7000) - 6, 0)
    bought = client.place(MARKET, side="BUY", quantity="0.1")
    assert bought["fills"][0]["commissionAsset"] == "BTC"
    assert client.balance("BTC") == (Decimal("0.4999"), 0)


def test_a_better_price_than_the_limit_frees_the_difference() -> None:
    client = Client(balances=POOR)
    client.place(side="BUY", price="61000", quantity="0.01")
    assert client.balance("USDT") == (Decimal("399.9999"), 0)


@pytest.mark.parametrize(
    "order",
    [
        MARKET | {"side": "SELL", "quantity": "0.50001"},
        MARKET | {"side": "BUY", "quantity": "0.01667"},
        LIMIT | {"side": "SELL", "quantity": "0.50001", "price": "70000"},
        BTC | {"type": "STOP_LOSS", "side": "BUY", "quantity": "0.016", "stopPrice": "62500.01"},
    ],
)
def test_what_the_account_has_not_got_is_refused_and_told(order: dict[str, Any]) -> None:
    client = Client(balances=POOR)
    assert client.refusal("order.place", **order) == INSUFFICIENT
    [event] = client.take_events()
    assert (event["x"], event["r"]) == ("REJECTED", "INSUFFICIENT_BALANCES")
    assert client.ledger == []


def test_a_stop_that_has_become_too_dear_expires() -> None:
    client = Client(balances=POOR)
    stop = BTC | {"type": "STOP_LOSS", "side": "BUY", "quantity": "0.016", "stopPrice": "62500"}
    client.place(stop, newClientOrderId="stop")
    assert client.balance("USDT") == (0, 1000)
    client.venue.set_price("BTCUSDT", Decimal("63000"))
    done = client.status("stop")
    assert (done["status"], done["expiryReason"]) == ("EXPIRED", "REJECTED")
    assert client.balance("USDT") == (1000, 0)


# ---- filters -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "name"),
    [
        (LIMIT | {"price": "60000.001"}, "PRICE_FILTER"),
        (LIMIT | {"price": "1000000.01"}, "PRICE_FILTER"),
        (LIMIT | {"price": "12000.00", "quantity": "0.01"}, None),
        (LIMIT | {"price": "11999.99"}, "PERCENT_PRICE_BY_SIDE"),
        (LIMIT | {"price": "300000.01"}, "PERCENT_PRICE_BY_SIDE"),
        (LIMIT | {"price": "50000", "quantity": "0.000001"}, "LOT_SIZE"),
        (LIMIT | {"price": "50000", "quantity": "0.00010"}, None),
        (LIMIT | {"price": "50000", "quantity": "0.00009"}, "NOTIONAL"),
        (LIMIT | {"price": "60000", "quantity": "150.00001"}, "NOTIONAL"),
        (MARKET | {"quantity": "120.00001"}, "MARKET_LOT_SIZE"),
        (MARKET | {"quantity": "0.00008"}, "NOTIONAL"),
        (BTC | {"type": "MARKET", "quoteOrderQty": "4.99"}, "NOTIONAL"),
        (BTC | {"type": "STOP_LOSS", "quantity": "1", "stopPrice": "1.001"}, "PRICE_FILTER"),
        (BTC | {"type": "STOP_LOSS", "quantity": "0.0001", "stopPrice": "4e4"}, "LIKE A NUMBER"),
    ],
)
@pytest.mark.parametrize("method", ["order.place", "order.test"])
def test_filters(client: Client, order: dict[str, Any], name: str | None, method: str) -> None:
    reply = client.reply(method, **order, side="SELL" if "stopPrice" in order else "BUY")
    if name is None:
        assert reply["status"] == 200
    elif name == "LIKE A NUMBER":
        assert reply["error"]["code"] == -1100
    else:
        assert reply["error"] == {"code": -1013, "msg": f"Filter failure: {name}"}
        assert client.ledger == []


def test_the_number_of_open_orders_is_limited() -> None:
    few = {"BTCUSDT": dataclasses.replace(SYMBOLS["BTCUSDT"], max_num_orders=2)}
    client = Client(symbols=few)
    oco = {"side": "SELL", "quantity": "0.01", "aboveType": "LIMIT_MAKER", "abovePrice": "61000"}
    oco |= {"belowType": "STOP_LOSS", "belowStopPrice": "59000"}
    client.place(side="BUY", price="50000", newClientOrderId="one")
    full = (-1013, "Filter failure: MAX_NUM_ORDERS")
    assert client.refusal("orderList.place.oco", **BTC, **oco) == full
    client.place(side="BUY", price="50000")
    assert client.refusal("order.place", **LIMIT, side="BUY", price="50000") == full
    client.ask("order.cancel", symbol="BTCUSDT", origClientOrderId="one")
    client.place(side="BUY", price="50000")


# ---- ids, queries, cancels -----------------------------------------------------------------------


def test_an_order_is_found_by_either_id_and_by_both_only_when_they_agree(client: Client) -> None:
    one = client.place(side="BUY", price="50000", newClientOrderId="one")
    two = client.place(side="BUY", price="50000", newClientOrderId="two")
    ask = {"symbol": "BTCUSDT", "orderId": one["orderId"]}
    assert client.ask("order.status", **ask)["clientOrderId"] == "one"
    assert client.ask("order.status", **ask, origClientOrderId="one")["orderId"] == one["orderId"]
    disagree = (-2039, "Client order ID is not correct for this order ID.")
    assert client.refusal("order.status", **ask, origClientOrderId="two") == disagree
    assert client.refusal("order.cancel", **ask, origClientOrderId="two") == disagree
    missing = (-2013, "Order does not exist.")
    assert client.refusal("order.status", symbol="BTCUSDT", orderId=99) == missing
    assert client.refusal("order.status", symbol="ETHUSDT", orderId=two["orderId"]) == missing
    neither = "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!"
    assert client.refusal("order.status", symbol="BTCUSDT") == (-1102, neither)
    assert client.refusal("order.cancel", symbol="BTCUSDT") == (-1102, neither)


def test_a_client_id_finds_the_latest_order_that_had_it(client: Client) -> None:
    for _ in range(2):
        done = client.place(MARKET, side="SELL", newClientOrderId="again")
    assert client.status("again")["orderId"] == done["orderId"]


def test_a_cancel_frees_the_client_id_and_is_found_under_both(client: Client) -> None:
    client.place(side="BUY", price="50000", newClientOrderId="mine")
    assert (
        client.refusal("order.place", **LIMIT, side="BUY", price="1", newClientOrderId="mine")[0]
        == -1013
    )
    refused = client.refusal(
        "order.place", **LIMIT, side="BUY", price="50000", newClientOrderId="mine"
    )
    assert refused == DUPLICATE
    cancel = {"symbol": "BTCUSDT", "origClientOrderId": "mine", "newClientOrderId": "gone"}
    reply = client.ask("order.cancel", **cancel)
    assert (reply["origClientOrderId"], reply["clientOrderId"]) == ("mine", "gone")
    [*_, event] = client.take_events("executionReport")
    assert (event["x"], event["C"], event["c"]) == ("CANCELED", "mine", "gone")
    for name in ("mine", "gone"):
        assert client.status(name)["status"] == "CANCELED"
    assert client.refusal("order.cancel", **cancel) == UNKNOWN
    client.place(side="BUY", price="50000", newClientOrderId="mine")
    assert client.status("mine")["status"] == "NEW"


def test_a_client_id_is_one_symbols(client: Client) -> None:
    btc = LIMIT | {"side": "BUY", "price": "50000", "newClientOrderId": "same"}
    eth = btc | {"symbol": "ETHUSDT", "price": "2000"}
    ids = [client.ask("order.place", **params)["orderId"] for params in (btc, eth)]
    for params in (btc, eth):
        assert client.refusal("order.place", **params) == DUPLICATE
    for symbol, order_id in zip(("BTCUSDT", "ETHUSDT"), ids, strict=True):
        named = {"symbol": symbol, "origClientOrderId": "same"}
        assert client.ask("order.status", **named)["orderId"] == order_id
        assert client.ask("order.cancel", **named)["orderId"] == order_id
        assert client.ask("order.status", **named)["status"] == "CANCELED"
    assert client.refusal("order.status", symbol="SOLUSDT", origClientOrderId="same")[0] == -2013


@pytest.mark.parametrize(
    ("restriction", "filled", "refusal"),
    [
        ("ONLY_NEW", False, None),
        ("ONLY_NEW", True, "Order was not canceled due to cancel restrictions."),
        ("ONLY_PARTIALLY_FILLED", True, None),
        ("ONLY_PARTIALLY_FILLED", False, "Order was not canceled due to cancel restrictions."),
        ("NEVER", False, "Invalid cancelRestrictions"),
    ],
)
def test_cancel_restrictions(
    client: Client, restriction: str, filled: bool, refusal: str | None
) -> None:
    client.place(side="BUY", price="60000", newClientOrderId="o")
    if filled:
        client.venue.trade("BTCUSDT", Decimal(60000), Decimal("0.001"))
    cancel = {"symbol": "BTCUSDT", "origClientOrderId": "o", "cancelRestrictions": restriction}
    reply = client.reply("order.cancel", **cancel)
    assert reply.get("error", {}).get("msg") == refusal


def test_cancel_all_is_of_one_symbol(client: Client) -> None:
    client.place(side="BUY", price="50000", newClientOrderId="one")
    client.place(side="BUY", price="50000", newClientOrderId="two")
    client.place(side="BUY", price="2000", symbol="ETHUSDT", newClientOrderId="eth")
    reply = client.ask("openOrders.cancelAll", symbol="BTCUSDT")
    assert [each["origClientOrderId"] for each in reply] == ["one", "two"]
    assert [each["clientOrderId"] for each in client.ask("openOrders.status")] == ["eth"]
    assert client.refusal("openOrders.cancelAll", symbol="BTCUSDT") == UNKNOWN
    assert client.ask("openOrders.status", symbol="BTCUSDT") == []


@pytest.mark.parametrize("method", ["allOrders", "myTrades"])
@pytest.mark.parametrize("units", [1, 1000])  # milliseconds, or microseconds
def test_a_history_begins_and_ends_at_a_time(client: Client, method: str, units: int) -> None:
    ids = []
    for _ in range(3):
        ids.append(client.place(MARKET, side="SELL")["orderId"])
        at_ms = client.now_ns // 10**6
    for times, expected in (
        ({"startTime": (at_ms - 1) * units}, ids[1:]),
        ({"endTime": (at_ms - 1) * units}, ids[:2]),
        ({"startTime": (at_ms - 1) * units, "endTime": (at_ms - 1) * units}, ids[1:2]),
        ({"startTime": at_ms * units + 1}, []),
    ):
        found = client.ask(method, symbol="BTCUSDT", **times)
        assert [row["orderId"] for row in found] == expected


# ---- cancel and replace --------------------------------------------------------------------------

NEW = LIMIT | {"side": "BUY", "price": "49000", "newClientOrderId": "new"}
OLD = {"cancelOrigClientOrderId": "old"}
TAKING = BTC | {"side": "BUY", "type": "LIMIT_MAKER", "price": "60001", "quantity": "0.01"}


@pytest.mark.parametrize(
    ("mode", "old", "new", "status", "results"),
    [
        ("STOP_ON_FAILURE", OLD, NEW, 200, ("SUCCESS", "SUCCESS")),
        ("STOP_ON_FAILURE", {"cancelOrderId": 9}, NEW, 400, ("FAILURE", "NOT_ATTEMPTED")),
        ("STOP_ON_FAILURE", OLD, TAKING, 409, ("SUCCESS", "FAILURE")),
        ("ALLOW_FAILURE", OLD, NEW, 200, ("SUCCESS", "SUCCESS")),
        ("ALLOW_FAILURE", {"cancelOrderId": 9}, NEW, 409, ("FAILURE", "SUCCESS")),
        ("ALLOW_FAILURE", OLD, TAKING, 409, ("SUCCESS", "FAILURE")),
        ("ALLOW_FAILURE", {"cancelOrderId": 9}, TAKING, 400, ("FAILURE", "FAILURE")),
    ],
)
def test_cancel_and_replace(
    client: Client,
    mode: str,
    old: dict[str, Any],
    new: dict[str, Any],
    status: int,
    results: tuple[str, str],
) -> None:
    client.place(side="BUY", price="50000", newClientOrderId="old")
    reply = client.reply("order.cancelReplace", cancelReplaceMode=mode, **old, **new)
    assert reply["status"] == status
    if status == 200:
        data = reply["result"]
    else:
        code, msg = (-2021, "partially failed") if status == 409 else (-2022, "failed")
        assert reply["error"]["code"] == code
        assert reply["error"]["msg"] == f"Order cancel-replace {msg}."
        data = reply["error"]["data"]
    assert list(data) == ["cancelResult", "newOrderResult", "cancelResponse", "newOrderResponse"]
    assert (data["cancelResult"], data["newOrderResult"]) == results
    is_open = {each["clientOrderId"] for each in client.ask("openOrders.status")}
    assert ("old" in is_open) is (results[0] != "SUCCESS")
    assert ("new" in is_open) is (results[1] == "SUCCESS")


def test_a_replacement_may_have_the_same_client_id(client: Client) -> None:
    client.place(side="BUY", price="50000", newClientOrderId="old")
    same = NEW | {"newClientOrderId": "old"}
    client.ask("order.cancelReplace", cancelReplaceMode="STOP_ON_FAILURE", **OLD, **same)
    assert client.status("old")["price"] == "49000.00000000"


def test_filters_are_looked_at_before_anything_is_cancelled(client: Client) -> None:
    client.place(side="BUY", price="50000", newClientOrderId="old")
    bad = NEW | {"price": "49000.001"}
    refusal = client.refusal("order.cancelReplace", cancelReplaceMode="ALLOW_FAILURE", **OLD, **bad)
    assert refusal == (-1013, "Filter failure: PRICE_FILTER")
    assert client.status("old")["status"] == "NEW"


@pytest.mark.parametrize("mode", ["STOP_ON_FAILURE", "ALLOW_FAILURE"])
@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({}, -1102),
        ({"cancelOrderId": "abc"}, -1100),
        (OLD | {"cancelRestrictions": "BANANA"}, -1145),
        (OLD | {"cancelNewClientOrderId": "\u00e9 \u00e9"}, -1100),
    ],
)
def test_a_replacement_that_cannot_be_read_attempts_nothing(
    client: Client, mode: str, bad: dict[str, Any], code: int
) -> None:
    client.place(side="BUY", price="50000", newClientOrderId="old")
    reply = client.reply("order.cancelReplace", cancelReplaceMode=mode, **bad, **NEW)
    assert (reply["status"], reply["error"]["code"]) == (400, code)
    assert "data" not in reply["error"]
    assert [each["clientOrderId"] for each in client.ask("openOrders.status")] == ["old"]
    assert reply["rateLimits"][0]["count"] == 1
