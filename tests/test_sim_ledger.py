"""Random requests and market moves on the simulated exchange: the ledger, the events, the replies
and the balances tell one story; the book and the account keep their rules whatever comes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from engine.sim.ledger import CancelEntry, ExpiryEntry, FillEntry, LedgerEntry, ListEntry
from engine.sim.symbols import SYMBOLS
from tests.venue import Client

REQUESTS = 250
START = {"BTC": Decimal(5), "ETH": Decimal(30), "USDT": Decimal(200_000)}
# Thin levels, so that orders are larger than what is there.
MARKETS = {
    name: replace(SYMBOLS[name], level_qty=Decimal("0.1")) for name in ("BTCUSDT", "ETHUSDT")
}
TICK = Decimal("0.01")


class Trader:
    """Somebody who sends whatever comes to mind, a good part of it refused."""

    def __init__(self, seed: int) -> None:
        self.client = Client(symbols=MARKETS, balances=START, seed=seed)
        self.reports: list[dict[str, Any]] = []
        self.positions: dict[str, tuple[Decimal, Decimal]] = {}
        self._random = random.Random(seed)
        self._acts = [
            *[self._place] * 8,
            *[self._cancel, self._replace, self._oco, self._otoco] * 2,
            *[self._step, self._jump, self._trade] * 3,
            self._cancel_all,
        ]

    def act(self) -> None:
        self._random.choice(self._acts)()
        for event in self.client.take_events():
            if event["e"] == "executionReport":
                self.reports.append(event)
            elif event["e"] == "outboundAccountPosition":
                for row in event["B"]:
                    self.positions[row["a"]] = Decimal(row["f"]), Decimal(row["l"])

    def _symbol(self) -> str:
        return self._random.choice(list(MARKETS))

    def _price(self, symbol: str, most: int = 40) -> Decimal:
        """Within `most` ticks of the last one."""
        return self.client.venue.last_price[symbol] + self._random.randint(-most, most) * TICK

    def _quantity(self) -> str:
        return str(Decimal(self._random.randint(1, 100)) / 100)

    def _terms(self, symbol: str) -> dict[str, Any]:
        kinds = ("LIMIT", "LIMIT", "LIMIT", "MARKET", "LIMIT_MAKER", "STOP_LOSS")
        kind = self._random.choice((*kinds, "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"))
        terms: dict[str, Any] = {"symbol": symbol, "side": self._side(), "type": kind}
        if kind == "MARKET" and self._random.random() < 0.4:
            return terms | {"quoteOrderQty": str(self._random.randint(5, 5000))}
        terms["quantity"] = self._quantity()
        if "LIMIT" in kind:
            terms["price"] = str(self._price(symbol))
        if kind.endswith("LIMIT"):
            terms["timeInForce"] = self._random.choice(("GTC", "GTC", "IOC", "FOK"))
        if "_LOSS" in kind or "_PROFIT" in kind:
            terms["stopPrice"] = str(self._price(symbol))
        if self._random.random() < 0.3:  # taken now and then
            terms["newClientOrderId"] = f"mine-{self._random.randint(0, 5)}"
        return terms

    def _side(self) -> str:
        return self._random.choice(("BUY", "SELL"))

    def _any_order_id(self) -> int:
        return self._random.randint(1, 1 + len(self.client.ledger))

    def _place(self) -> None:
        self.client.reply("order.place", **self._terms(self._symbol()))

    def _cancel(self) -> None:
        is_open = self.client.ask("openOrders.status")
        order_id = self._random.choice(is_open)["orderId"] if is_open else self._any_order_id()
        self.client.reply("order.cancel", symbol=self._symbol(), orderId=order_id)

    def _replace(self) -> None:
        mode = self._random.choice(("STOP_ON_FAILURE", "ALLOW_FAILURE"))
        ids = {"cancelReplaceMode": mode, "cancelOrderId": self._any_order_id()}
        self.client.reply("order.cancelReplace", **ids, **self._terms(self._symbol()))

    def _cancel_all(self) -> None:
        self.client.reply("openOrders.cancelAll", symbol=self._symbol())

    def _oco(self) -> None:
        symbol, side, quantity = self._symbol(), self._side(), self._quantity()
        last = self.client.venue.last_price[symbol]
        above, below = (last + sign * self._random.randint(-2, 30) * TICK for sign in (1, -1))
        stop, profit = ("above", "below") if side == "BUY" else ("below", "above")
        prices = {"above": str(above), "below": str(below)}
        self.client.reply(
            "orderList.place.oco",
            symbol=symbol,
            side=side,
            quantity=quantity,
            **{f"{stop}Type": "STOP_LOSS", f"{stop}StopPrice": prices[stop]},
            **{f"{profit}Type": "LIMIT_MAKER", f"{profit}Price": prices[profit]},
        )

    def _otoco(self) -> None:
        symbol, price = self._symbol(), self._price(self._symbol())
        last = self.client.venue.last_price[symbol]
        self.client.reply(
            "orderList.place.otoco",
            symbol=symbol,
            workingType="LIMIT",
            workingSide="BUY",
            workingPrice=str(price),
            workingQuantity=self._quantity(),
            workingTimeInForce=self._random.choice(("GTC", "IOC")),
            pendingSide="SELL",
            pendingQuantity=self._quantity(),
            pendingAboveType="LIMIT_MAKER",
            pendingAbovePrice=str(last + 20 * TICK),
            pendingBelowType="STOP_LOSS_LIMIT",
            pendingBelowStopPrice=str(last - 20 * TICK),
            pendingBelowPrice=str(last - 30 * TICK),
            pendingBelowTimeInForce="GTC",
        )

    def _step(self) -> None:
        self.client.now_ns += 10**8
        self.client.venue.step(self.client.now_ns)

    def _jump(self) -> None:
        symbol = self._symbol()
        self.client.venue.set_price(symbol, self._price(symbol, 60))

    def _trade(self) -> None:
        symbol = self._symbol()
        side = self._random.choice(("BUY", "SELL", None))
        quantity = Decimal(self._quantity())
        self.client.venue.trade(symbol, self._price(symbol), quantity, side)


@pytest.fixture(scope="module", params=range(8))
def trader(request: pytest.FixtureRequest) -> Trader:
    """After its requests; the rules that hold at every moment have been looked at after each."""
    trader = Trader(request.param)
    for _ in range(REQUESTS):
        trader.act()
        check_account(trader.client)
        check_books(trader.client)
    return trader


def check_account(client: Client) -> None:
    """No balance is negative."""
    for row in client.ask("account.status")["balances"]:
        assert Decimal(row["free"]) >= 0, row
        assert Decimal(row["locked"]) >= 0, row


def check_books(client: Client) -> None:
    """The book is not crossed."""
    for row in client.ask("ticker.book"):
        assert Decimal(row["bidPrice"]) < Decimal(row["askPrice"]), row


def placed(client: Client) -> dict[int, LedgerEntry]:
    return {each.order_id: each for each in client.ledger if isinstance(each, LedgerEntry)}


def fills(client: Client) -> list[FillEntry]:
    return [each for each in client.ledger if isinstance(each, FillEntry)]


def executed(client: Client) -> Mapping[int, Decimal]:
    total: Counter[int] = Counter()
    for fill in fills(client):
        total[fill.order_id] += Decimal(fill.quantity)  # type: ignore[assignment]
    return total


def replayed_totals(client: Client) -> dict[str, Decimal]:
    """What the account owns, by the ledger."""
    totals = dict(START)
    for fill in fills(client):
        sign = 1 if fill.side == "BUY" else -1
        base = fill.symbol.removesuffix("USDT")
        totals[base] += sign * Decimal(fill.quantity)
        totals["USDT"] -= sign * Decimal(fill.quantity) * Decimal(fill.price)
        totals[fill.commission_asset] -= Decimal(fill.commission)
    return totals


def replayed_open(client: Client) -> set[int]:
    """The open orders, by the ledger."""
    orders, done = placed(client), executed(client)
    ended = {
        order_id for order_id, each in orders.items() if done[order_id] == Decimal(each.quantity)
    }
    for entry in client.ledger:
        if isinstance(entry, CancelEntry):
            ended.update(entry.order_ids)
        elif isinstance(entry, ExpiryEntry):
            ended.add(entry.order_id)
    return orders.keys() - ended


def test_much_has_happened(trader: Trader) -> None:
    """Else the other tests say little."""
    entries = Counter(each.entry for each in trader.client.ledger)
    assert entries["order"] > 80
    assert entries["fill"] > 80
    assert entries["expiry"] > 10
    assert entries.keys() >= {"list", "cancel"}
    assert {each["X"] for each in trader.reports} >= {"PARTIALLY_FILLED", "EXPIRED", "CANCELED"}
    assert len(trader.client.venue.rejections) > 3


def test_the_ledger_leads_to_the_balances(trader: Trader) -> None:
    owned = {asset: sum(trader.client.balance(asset)) for asset in START}
    assert owned == replayed_totals(trader.client)


def test_the_ledger_leads_to_the_open_orders(trader: Trader) -> None:
    is_open = {each["orderId"] for each in trader.client.ask("openOrders.status")}
    assert is_open == replayed_open(trader.client)


def test_locked_is_what_open_orders_need(trader: Trader) -> None:
    """The larger need of an OCO's two orders, nothing for what is not placed yet."""
    needs: dict[tuple[str, object], Decimal] = {}
    for order in trader.client.ask("openOrders.status"):
        if order["status"] == "PENDING_NEW":
            continue
        left = Decimal(order["origQty"]) - Decimal(order["executedQty"])
        is_buy = order["side"] == "BUY"
        price = Decimal(order["price"]) or Decimal(order["stopPrice"])
        asset = "USDT" if is_buy else order["symbol"].removesuffix("USDT")
        together = ("list", order["orderListId"]) if order["orderListId"] > 0 else order["orderId"]
        need = left * price if is_buy else left
        needs[asset, together] = max(needs.get((asset, together), Decimal(0)), need)
    for asset in START:
        locked = sum(need for (of, _), need in needs.items() if of == asset)
        assert trader.client.balance(asset)[1] == locked


def test_nothing_is_filled_beyond_its_quantity_or_its_limit(trader: Trader) -> None:
    orders = placed(trader.client)
    for order_id, quantity in executed(trader.client).items():
        assert 0 < quantity <= Decimal(orders[order_id].quantity)
    for fill in fills(trader.client):
        price = orders[fill.order_id].price
        if price is not None:
            better = Decimal(price) - Decimal(fill.price)
            assert better * (1 if fill.side == "BUY" else -1) >= 0


def test_commission_is_a_thousandth_of_what_is_received(trader: Trader) -> None:
    for fill in fills(trader.client):
        quantity, price = Decimal(fill.quantity), Decimal(fill.price)
        received = quantity if fill.side == "BUY" else quantity * price
        assert 0 <= received / 1000 - Decimal(fill.commission) < Decimal("1e-8")


def test_events_add_up(trader: Trader) -> None:
    """Cumulative figures are sums of the last ones; every trade is in the ledger, and the other way
    round; execution ids go up."""
    quantity: dict[int, Decimal] = {}
    quote: dict[int, Decimal] = {}
    told = []
    for event in trader.reports:
        last, price = Decimal(event["l"]), Decimal(event["L"])
        order_id = event["i"]
        quantity[order_id] = quantity.get(order_id, Decimal(0)) + last
        quote[order_id] = quote.get(order_id, Decimal(0)) + last * price
        assert Decimal(event["z"]) == quantity[order_id] <= Decimal(event["q"])
        assert Decimal(event["Z"]) == quote[order_id]
        assert Decimal(event["Y"]) == last * price
        assert (event["x"] == "TRADE") is (last > 0) is (event["t"] > 0)
        if event["x"] == "TRADE":
            told.append((event["t"], order_id, last, price, Decimal(event["n"]), event["m"]))
    assert told == [
        (
            *(fill.trade_id, fill.order_id, Decimal(fill.quantity), Decimal(fill.price)),
            *(Decimal(fill.commission), fill.maker),
        )
        for fill in fills(trader.client)
    ]
    ids = [event["I"] for event in trader.reports]
    assert ids == sorted(set(ids))


def test_the_status_is_what_the_last_event_said(trader: Trader) -> None:
    last = {event["i"]: event for event in trader.reports if event["x"] != "REJECTED"}
    assert last.keys() == placed(trader.client).keys()
    for order_id, event in last.items():
        status = trader.client.ask("order.status", symbol=event["s"], orderId=order_id)
        assert (status["status"], status["executedQty"]) == (event["X"], event["z"])
        assert status["cummulativeQuoteQty"] == event["Z"]
        assert (status["clientOrderId"], status["updateTime"]) == (event["c"], event["T"])
        assert status["workingTime"] == event.get("W", -1)


def test_after_its_end_an_order_is_not_heard_of_again(trader: Trader) -> None:
    ended = set()
    for event in trader.reports:
        assert event["i"] not in ended
        if event["X"] in ("FILLED", "CANCELED", "EXPIRED", "REJECTED"):
            ended.add(event["i"])


def test_the_last_account_update_is_the_account(trader: Trader) -> None:
    for asset, balance in trader.positions.items():
        assert trader.client.balance(asset) == balance


def test_list_entries_name_their_orders(trader: Trader) -> None:
    orders = placed(trader.client)
    for entry in trader.client.ledger:
        if isinstance(entry, ListEntry):
            assert {orders[order_id].order_list_id for order_id in entry.order_ids} == {
                entry.order_list_id
            }


def test_the_trades_are_the_accounts_history(trader: Trader) -> None:
    history = [
        (row["id"], row["orderId"])
        for symbol in MARKETS
        for row in trader.client.ask("myTrades", symbol=symbol, limit=1000)
    ]
    expected = [(fill.trade_id, fill.order_id) for fill in fills(trader.client)]
    assert sorted(history) == sorted(expected)


def test_price_time_priority(trader: Trader) -> None:
    """No order was filled as a maker while another of its side rested at a better price, or at the
    same price since longer."""
    working: dict[int, dict[str, Any]] = {}
    arrived: dict[int, int] = {}
    for event in trader.reports:
        order_id = event["i"]
        if event["x"] == "TRADE" and event["m"]:
            sign = 1 if event["S"] == "BUY" else -1
            rank = (-sign * Decimal(event["p"]), arrived[order_id])
            for other_id, other in working.items():
                if other_id != order_id and (other["s"], other["S"]) == (event["s"], event["S"]):
                    assert rank < (-sign * Decimal(other["p"]), arrived[other_id])
        is_resting = event["w"] and Decimal(event["p"]) > 0
        if is_resting and (event["x"] == "NEW" or event["m"] or order_id in working):
            arrived.setdefault(order_id, event["I"])
            working[order_id] = event
        elif not event["w"]:
            working.pop(order_id, None)
