"""Binance's Spot API from the exchange's side: what a request means, is answered and leads to.

No I/O and no clock of its own: `Venue.answer` takes a text frame of the WebSocket API, the time it
came and the connection it came from, and returns a text frame; `Venue.rest` does the same for the
REST API. Events go to each connection's `deliver` meanwhile, so before the reply. Comments name the
headings of binance-spot-api-docs (web-socket-api.md unless another file is named) that a rule comes
from. What is documented there but not simulated is refused with -1020, never half done.

Simplified: one account, which all keys belong to, and one IP address; every amount with eight
decimals; a market maker who never runs out (engine.sim.book).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from engine.sim import account, events, rest, sessions
from engine.sim.account import Account
from engine.sim.call import Call, Connection, Deliver, Method, Params
from engine.sim.ledger import Entry, LedgerEntry, Origin
from engine.sim.market import MarketTrade, RandomWalk, Replay
from engine.sim.matching import MatchingEngine
from engine.sim.methods import METHODS, read_method, read_params, read_show_limits
from engine.sim.orders import ZERO
from engine.sim.rates import CONNECTION_WEIGHT, Limiter, Limits
from engine.sim.request import (
    AccountKey,
    ApiError,
    RequestId,
    SessionRevokedError,
    check_signature,
    check_timing,
    read_document,
    read_id,
    signature_payload,
    timestamp_us,
)
from engine.sim.rest import Form, RestReply
from engine.sim.symbols import SYMBOLS, Symbol

__all__ = ["SYMBOLS", "LedgerEntry", "Symbol", "Venue"]  # what servers need

NS_PER_MS = 1_000_000
OnMarket = Callable[[str, dict[str, Any]], None]  # takes a stream's name and its payload


def _nobody(*_: object) -> None:
    pass


@dataclass
class Venue:
    """The exchange's state. `record` is told of every accepted request before its reply exists, and
    of every fill; a key that is taken out of `keys` is revoked. The market stands still without a
    `seed` of its random walk or `trades`. `balances` are the account's, by asset."""

    keys: dict[str, AccountKey] = field(repr=False)  # by API key
    record: Callable[[Entry], None]
    symbols: Mapping[str, Symbol] = field(default_factory=lambda: SYMBOLS)
    seed: int | None = None
    trades: Sequence[MarketTrade] | None = None
    clock_skew_ms: int = 0
    balances: Mapping[str, Decimal] | None = None
    limits: Limits = field(default_factory=Limits)
    on_market: OnMarket = _nobody
    requests: int = 0
    rejections: Counter[str] = field(default_factory=Counter)  # by "code message"

    def __post_init__(self) -> None:
        nothing = {
            asset: ZERO for each in self.symbols.values() for asset in (each.base, each.quote)
        }
        owned = account.BALANCES if self.balances is None else self.balances
        self._engine = MatchingEngine(
            self.symbols,
            Account({**nothing, **owned}),
            self.record,
            self._publish,
            self._print_trade,
        )
        self._limiter = Limiter(self.limits)
        self._connections: dict[Connection, None] = {}  # in the order that they came
        self._tickers: dict[str, object] = {}  # as they were shown last, by symbol
        self._market: RandomWalk | Replay | None = None
        if self.trades:
            self._market = Replay(self.trades)
            for trade in reversed(self.trades):
                self._open_at(trade)
        elif self.seed is not None:
            self._market = RandomWalk(self.seed)

    # ---- connections -----------------------------------------------------------------------------

    def clock_ns(self, real_ns: int) -> int:
        """The venue's clock when CLOCK_REALTIME shows `real_ns`."""
        return real_ns + self.clock_skew_ms * NS_PER_MS

    def connect(
        self, real_ns: int, show_limits: bool = True, deliver: Deliver = _nobody
    ) -> Connection:
        """A new connection, which has its own weight. `deliver` gets its events, one JSON text
        frame each, while another method of the venue runs."""
        self._begin(real_ns)
        self._limiter.weight.count += CONNECTION_WEIGHT
        connection = Connection(self._engine.now_ms, show_limits, deliver)
        self._connections[connection] = None
        return connection

    def disconnect(self, connection: Connection) -> None:
        """It gets no events any more."""
        self._connections.pop(connection, None)

    # ---- the WebSocket API -----------------------------------------------------------------------

    def answer(self, message: str | bytes, received_ns: int, connection: Connection) -> str:
        """The reply to one frame of that connection."""
        self.requests += 1
        self._begin(received_ns)
        reply: dict[str, Any] = {"id": None, "status": 200}
        method, show_limits, weight = None, connection.show_limits, 1
        try:
            try:
                document = read_document(message)
                reply["id"] = read_id(document)
                method = read_method(document)
                params = read_params(
                    document.get("params", {}), method, connection.api_key is not None
                )
                show_limits = read_show_limits(params, show_limits)
                weight = method.weigh(params)
            finally:
                self._limiter.use(weight)
            call = self._call(connection, method, params, reply["id"], received_ns)
            self._authorize(call, method, params, signature_payload(params))
            reply["result"] = method.run(call, params)
        except ApiError as error:
            self.rejections[str(error)] += 1
            reply["status"] = error.status
            reply["error"] = error.as_json()
            if isinstance(error, SessionRevokedError):  # it answers no request
                reply["id"] = method = None
        if method and show_limits:
            reply["rateLimits"] = self._show_limits(method)
        self._finish()
        return json.dumps(reply, separators=(",", ":"))

    # ---- the REST API ----------------------------------------------------------------------------

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
        self.requests += 1
        self._begin(received_ns)
        try:
            reply = self._rest(method, path, rest.read_form(query, body), headers, received_ns)
        except ApiError as error:
            self.rejections[str(error)] += 1
            reply = rest.error_reply(error, self._limiter, self._engine.now_ms)
        self._finish()
        return reply

    def _rest(
        self,
        http_method: str,
        path: str,
        form: Form,
        headers: Mapping[str, str],
        received_ns: int,
    ) -> RestReply:
        weight = 1
        try:
            name = rest.ROUTES.get((http_method, path.removeprefix(rest.PREFIX)))
            if name is None:
                raise ApiError(-1020, "This operation is not supported.", 404)
            method = METHODS[name]
            given = dict(form.params)
            if method.signed:
                keys = [text for key, text in headers.items() if key.lower() == "x-mbx-apikey"]
                given["apiKey"] = keys[0] if keys else ""
                self._key(given["apiKey"])
            params = read_params(given, method, logged_on=False)
            weight = method.weigh(params)
        finally:
            self._limiter.use(weight)
        nobody = Connection(self._engine.now_ms, False, _nobody)
        call = self._call(nobody, method, params, None, received_ns)
        self._authorize(call, method, params, form.signed_text)
        return rest.reply(method.run(call, params), self._limiter, method.places_orders)

    # ---- the market ------------------------------------------------------------------------------

    @property
    def last_price(self) -> dict[str, Decimal]:
        """The price of each symbol's last trade; a copy."""
        return {name: book.last_price for name, book in self._engine.books.items()}

    def set_price(self, symbol: str, price: Decimal) -> None:
        """The market of `symbol` moves to `price` at once: the best bid is there and the best ask a
        tick above, and every resting order that is as good has been filled."""
        self._engine.move(self._engine.books[symbol], price)
        self._finish()

    def trade(
        self, symbol: str, price: Decimal, quantity: Decimal, side: str | None = None
    ) -> None:
        """Others trade: at most `quantity` of the resting orders that are as good is filled."""
        self._engine.trade_of_others(self._engine.books[symbol], price, quantity, side)
        self._finish()

    def step(self, real_ns: int) -> None:
        """The market moves: the seeded random walk, or the trades that are due."""
        self._begin(real_ns)
        if self._market is not None:
            self._market.step(self._engine)
        self._finish()

    def _open_at(self, trade: MarketTrade) -> None:
        if book := self._engine.books.get(trade.symbol):
            book.bid = book.last_price = trade.price

    # ---- within ----------------------------------------------------------------------------------

    def _begin(self, real_ns: int) -> None:
        now_ms = self.clock_ns(real_ns) // NS_PER_MS
        self._engine.now_ms = now_ms
        self._limiter.advance(now_ms)
        # Fills lower the count "after a short delay" (faqs/order_count_decrement.md): only now.
        self._limiter.forgive_orders(self._engine.take_credit())

    def _finish(self) -> None:
        self._engine.finish()
        if self.on_market is not _nobody:
            for name in self._engine.books:
                self._show_ticker(name)

    def _call(
        self,
        connection: Connection,
        method: Method,
        params: Params,
        request_id: RequestId,
        received_ns: int,
    ) -> Call:
        sent_ms = timestamp_us(params) // 1000 if method.signed else 0
        origin = Origin(request_id, received_ns, sent_ms)
        now_ns = self.clock_ns(received_ns)
        return Call(self._engine, self._limiter, self.keys, connection, origin, now_ns)

    def _authorize(self, call: Call, method: Method, params: Params, signed_text: str) -> None:
        """Let a signed request pass by its own key and signature, or else by its connection's logon
        ("Authorize _ad hoc_ requests")."""
        if not method.signed:
            return
        if "apiKey" in params:
            key = self._key(params["apiKey"])
            check_timing(params, call.now_ns // 1000)
            check_signature(signed_text, params["signature"], key)
            return
        if call.connection.api_key not in self.keys:
            sessions.log_out(call.connection, call.now_ms)
            raise SessionRevokedError
        check_timing(params, call.now_ns // 1000)

    def _key(self, api_key: str) -> AccountKey:
        # 401 as in "Regarding API key revocation"
        if api_key in self.keys:
            return self.keys[api_key]
        if re.fullmatch("[A-Za-z0-9]{64}", api_key):
            raise ApiError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        raise ApiError(-2014, "API-key format invalid.", 401)

    def _show_limits(self, method: Method) -> list[dict[str, Any]]:
        windows = (*self._limiter.orders, self._limiter.weight)
        return [window.show() for window in (windows if method.places_orders else windows[-1:])]

    def _publish(self, event: Mapping[str, Any]) -> None:
        """Send an event of the account to whoever has subscribed."""
        subscribed = [each for each in self._connections if each.subscription_id is not None]
        if subscribed:
            text = sessions.as_json(event)
            for connection in subscribed:
                sessions.deliver(connection, text)

    def _print_trade(
        self, symbol: str, trade_id: int, price: Decimal, quantity: Decimal, buyer_is_maker: bool
    ) -> None:
        if self.on_market is not _nobody:
            payload = events.trade(
                symbol, trade_id, price, quantity, buyer_is_maker, self._engine.now_ms
            )
            self.on_market(f"{symbol.lower()}@trade", payload)

    def _show_ticker(self, name: str) -> None:
        book = self._engine.books[name]
        ticker = (book.best("BUY"), book.best("SELL"))
        if self._tickers.get(name) != ticker:
            self._tickers[name] = ticker
            book.update_id += 1
            self.on_market(
                f"{name.lower()}@bookTicker", events.book_ticker(name, book.update_id, *ticker)
            )
