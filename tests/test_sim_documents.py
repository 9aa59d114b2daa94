"""What the simulated exchange answers and tells has the keys of the documents' examples, in their
order (web-socket-api.md, user-data-stream.md, web-socket-streams.md, by the names of headings)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.venue import BTC, MARKET, Client

# "Place new order (TRADE)", "Cancel order (TRADE)", "Query order (USER_DATA)"
ACK = ["symbol", "orderId", "orderListId", "clientOrderId", "transactTime"]
PROGRESS = [
    *("price", "origQty", "executedQty", "origQuoteOrderQty", "cummulativeQuoteQty", "status"),
    *("timeInForce", "type", "side"),
]
RESULT = [*ACK, *PROGRESS, "workingTime", "selfTradePreventionMode"]
STOP_RESULT = [*ACK, *PROGRESS, "stopPrice", "workingTime", "selfTradePreventionMode"]
CANCELED = [
    *("symbol", "origClientOrderId", "orderId", "orderListId", "clientOrderId", "transactTime"),
    *(*PROGRESS, "selfTradePreventionMode"),
]
STOP_CANCELED = [*CANCELED[:-1], "stopPrice", "selfTradePreventionMode"]
STATUS = [
    *("symbol", "orderId", "orderListId", "clientOrderId", "price", "origQty", "executedQty"),
    *("cummulativeQuoteQty", "status", "timeInForce", "type", "side", "stopPrice", "icebergQty"),
    *("time", "updateTime", "isWorking", "workingTime", "origQuoteOrderQty"),
    "selfTradePreventionMode",
]
# "Account trade history (USER_DATA)"
TRADE = [
    *("symbol", "id", "orderId", "orderListId", "price", "qty", "quoteQty", "commission"),
    *("commissionAsset", "time", "isBuyer", "isMaker", "isBestMatch"),
]
# "Query Order list (USER_DATA)"
LIST = [
    *("orderListId", "contingencyType", "listStatusType", "listOrderStatus", "listClientOrderId"),
    *("transactionTime", "symbol", "orders"),
]
# "Account information (USER_DATA)"
ACCOUNT = [
    *("makerCommission", "takerCommission", "buyerCommission", "sellerCommission", "canTrade"),
    *("canWithdraw", "canDeposit", "commissionRates", "brokered", "requireSelfTradePrevention"),
    *("preventSor", "updateTime", "accountType", "balances", "permissions", "uid"),
]
RATE_LIMIT = ["rateLimitType", "interval", "intervalNum", "limit", "count"]
# "Exchange information"
SYMBOL = [
    *("symbol", "status", "baseAsset", "baseAssetPrecision", "quoteAsset", "quotePrecision"),
    *("quoteAssetPrecision", "baseCommissionPrecision", "quoteCommissionPrecision", "orderTypes"),
    *("icebergAllowed", "ocoAllowed", "otoAllowed", "opoAllowed", "quoteOrderQtyMarketAllowed"),
    *("allowTrailingStop", "cancelReplaceAllowed", "amendAllowed", "pegInstructionsAllowed"),
    *("isSpotTradingAllowed", "isMarginTradingAllowed", "filters", "permissions"),
    *("permissionSets", "defaultSelfTradePreventionMode", "allowedSelfTradePreventionModes"),
]
FILTERS = {  # filters.md
    "PRICE_FILTER": {"minPrice", "maxPrice", "tickSize"},
    "LOT_SIZE": {"minQty", "maxQty", "stepSize"},
    "MARKET_LOT_SIZE": {"minQty", "maxQty", "stepSize"},
    "PERCENT_PRICE_BY_SIDE": {
        *("bidMultiplierUp", "bidMultiplierDown", "askMultiplierUp", "askMultiplierDown"),
        "avgPriceMins",
    },
    "NOTIONAL": {
        *("minNotional", "applyMinToMarket", "maxNotional", "applyMaxToMarket", "avgPriceMins"),
    },
    "MAX_NUM_ORDERS": {"maxNumOrders"},
}
# user-data-stream.md, "Order Update": without `v`, which is of self-trade prevention
REPORT = [*"eEscSofqpPFgCxXrilzLnNTtIwmMOZYQWV"]
REPORT_NOT_WORKING = [key for key in REPORT if key != "W"]
LIST_STATUS = [*"eEsgclLrCTO"]

STOP = BTC | {"type": "STOP_LOSS", "side": "SELL", "stopPrice": "59000", "quantity": "0.01"}
OCO = BTC | {"side": "SELL", "quantity": "0.01", "aboveType": "LIMIT_MAKER", "abovePrice": "61000"}
OCO |= {"belowType": "STOP_LOSS", "belowStopPrice": "59000", "listClientOrderId": "list"}


@pytest.fixture
def client() -> Client:
    return Client()


def test_orders_placed_queried_and_cancelled(client: Client) -> None:
    assert list(client.place(side="BUY", price="50000", newOrderRespType="ACK")) == ACK
    result = client.place(
        side="BUY", price="50000", newOrderRespType="RESULT", newClientOrderId="limit"
    )
    assert list(result) == RESULT
    assert list(client.place(MARKET, side="SELL")) == [*RESULT, "fills"]
    expired = client.place(side="BUY", price="50000", timeInForce="IOC", newClientOrderId="ioc")
    assert list(expired) == [*RESULT, "expiryReason", "fills"]
    stop = client.place(STOP, newOrderRespType="RESULT", newClientOrderId="stop")
    assert list(stop) == STOP_RESULT
    assert list(client.status("limit")) == list(client.status("stop")) == STATUS
    assert list(client.status("ioc")) == [*STATUS, "expiryReason"]
    for method, params in (("openOrders.status", {}), ("allOrders", BTC)):
        assert {*STATUS} <= {*client.ask(method, **params)[0]}
    for name, keys in (("limit", CANCELED), ("stop", STOP_CANCELED)):
        assert list(client.ask("order.cancel", **BTC, origClientOrderId=name)) == keys
    [trade] = client.ask("myTrades", **BTC)
    assert list(trade) == TRADE
    [left] = client.ask("openOrders.cancelAll", **BTC)
    assert list(left) == CANCELED


def test_order_lists(client: Client) -> None:
    placed = client.ask("orderList.place.oco", **OCO)
    assert list(placed) == [*LIST, "orderReports"]
    assert [list(each) for each in placed["orders"]] == [["symbol", "orderId", "clientOrderId"]] * 2
    assert [list(each) for each in placed["orderReports"]] == [RESULT, STOP_RESULT]
    assert list(client.ask("orderList.status", origClientOrderId="list")) == LIST
    [is_open] = client.ask("openOrderLists.status")
    assert list(is_open) == LIST
    cancelled = client.ask("orderList.cancel", **BTC, listClientOrderId="list")
    assert list(cancelled) == [*LIST, "orderReports"]
    assert [list(each) for each in cancelled["orderReports"]] == [CANCELED, STOP_CANCELED]


def test_the_account(client: Client) -> None:
    account = client.ask("account.status")
    assert list(account) == ACCOUNT
    assert list(account["commissionRates"]) == ["maker", "taker", "buyer", "seller"]
    assert list(account["balances"][0]) == ["asset", "free", "locked"]
    limits = client.ask("account.rateLimits.orders")
    assert [list(limit) for limit in limits] == [RATE_LIMIT] * 2


def test_zero_balances_can_be_left_out() -> None:
    client = Client(balances={"BTC": Decimal(1)})
    for flag, assets in (("false", ["BTC", "ETH", "SOL", "USDT"]), ("true", ["BTC"])):
        shown = client.ask("account.status", omitZeroBalances=flag)["balances"]
        assert [row["asset"] for row in shown] == assets


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({}, ["BTCUSDT", "ETHUSDT", "SOLUSDT"]),
        ({"symbol": "ETHUSDT"}, ["ETHUSDT"]),
        ({"symbols": ["SOLUSDT", "BTCUSDT"]}, ["SOLUSDT", "BTCUSDT"]),
        ({"permissions": ["SPOT", "MARGIN"]}, ["BTCUSDT", "ETHUSDT", "SOLUSDT"]),
        ({"permissions": "MARGIN"}, []),
    ],
)
def test_exchange_info(client: Client, params: dict[str, Any], names: list[str]) -> None:
    info = client.ask("exchangeInfo", **params)
    assert list(info) == ["timezone", "serverTime", "rateLimits", "exchangeFilters", "symbols"]
    assert [list(limit) for limit in info["rateLimits"]] == [RATE_LIMIT[:-1]] * 4
    assert [row["symbol"] for row in info["symbols"]] == names
    for row in info["symbols"]:
        assert list(row) == SYMBOL
        shown = {each["filterType"]: each.keys() - {"filterType"} for each in row["filters"]}
        assert shown == FILTERS


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"symbol": "BTCUSDT", "symbols": ["ETHUSDT"]}, -1128),
        ({"symbol": "BTCUSDT", "permissions": ["SPOT"]}, -1128),
        ({"symbols": ["BTCUSDT", "BTCUSDT"]}, -1151),
        ({"symbols": ["BTCUSDT", "NONE"]}, -1121),
        ({"symbols": "[1]"}, -1135),
        ({"symbols": [["BTCUSDT"]]}, -1130),
        ({"symbolStatus": "TRADING"}, -1020),
        ({"showPermissionSets": "maybe"}, -1130),
    ],
)
def test_what_exchange_info_refuses(client: Client, params: dict[str, Any], code: int) -> None:
    assert client.refusal("exchangeInfo", **params)[0] == code


def test_market_data(client: Client) -> None:
    ticker = client.ask("ticker.book", symbol="ETHUSDT")
    assert list(ticker) == ["symbol", "bidPrice", "bidQty", "askPrice", "askQty"]
    assert Decimal(ticker["askPrice"]) - Decimal(ticker["bidPrice"]) == Decimal("0.01")
    both = client.ask("ticker.book", symbols=["BTCUSDT", "ETHUSDT"])
    assert [each["symbol"] for each in both] == ["BTCUSDT", "ETHUSDT"]
    assert client.ask("ticker.price", symbol="SOLUSDT") == {
        "symbol": "SOLUSDT",
        "price": "150.00000000",
    }
    assert len(client.ask("ticker.price")) == 3
    depth = client.ask("depth", symbol="BTCUSDT", limit=5)
    assert list(depth) == ["lastUpdateId", "bids", "asks"]
    assert depth["bids"] == sorted(depth["bids"], key=lambda row: -Decimal(row[0]))
    assert len(depth["asks"]) == 5
    assert client.refusal("depth", symbol="BTCUSDT", limit=0)[0] == -1130
    assert client.refusal("ticker.book", symbol="BTCUSDT", symbols=["BTCUSDT"])[0] == -1128


def test_events_of_an_order(client: Client) -> None:
    client.place(side="BUY", price="60000.01", quantity="2", newClientOrderId="o")
    new, trade, position = client.take_events()
    assert list(new) == list(trade) == REPORT
    assert (new["x"], new["n"], new["N"], new["t"]) == ("NEW", "0", None, -1)
    assert (trade["x"], trade["X"], trade["N"]) == ("TRADE", "PARTIALLY_FILLED", "BTC")
    assert list(position) == ["e", "E", "u", "B"]
    assert [list(row) for row in position["B"]] == [["a", "f", "l"]] * 2
    client.ask("order.cancel", **BTC, origClientOrderId="o")
    [cancelled] = client.take_events("executionReport")
    assert list(cancelled) == REPORT
    client.place(STOP)
    [waiting, _] = client.take_events()
    assert list(waiting) == REPORT_NOT_WORKING
    client.place(side="BUY", price="50000", timeInForce="FOK")
    [_, expired, _] = client.take_events()
    assert list(expired) == [*REPORT, "eR"]


def test_events_of_a_list(client: Client) -> None:
    client.ask("orderList.place.oco", **OCO)
    [status] = client.take_events("listStatus")
    assert list(status) == LIST_STATUS
    assert [list(row) for row in status["O"]] == [["s", "i", "c"]] * 2


def test_events_are_wrapped_with_their_subscription(client: Client) -> None:
    client.place(side="BUY", price="50000")
    assert [list(each) for each in client.events] == [["subscriptionId", "event"]] * 2


def test_market_streams(client: Client) -> None:
    client.market.clear()
    client.place(side="BUY", price="60000.01", quantity="2")
    trade, ticker = client.market
    assert trade[0] == "btcusdt@trade"
    assert list(trade[1]) == [*"eEstpqTmM"]
    assert (trade[1]["p"], trade[1]["q"]) == ("60000.01000000", "1.20000000")
    assert trade[1]["m"] is False
    assert ticker[0] == "btcusdt@bookTicker"
    assert list(ticker[1]) == [*"usbBaA"]
    assert (ticker[1]["b"], ticker[1]["B"]) == ("60000.01000000", "0.80000000")
    client.market.clear()
    client.ask("ping")
    assert client.market == []  # nothing has changed
