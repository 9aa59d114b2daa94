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
from engine.sim.ledger import Entry, Origin
from engine.sim.market import MarketTrade, RandomWalk, Replay
from engine.sim.matching import MatchingEngine
from engine.sim.methods import Request, read_params, read_request
from engine.sim.orders import ZERO
from engine.sim.rates import CONNECTION_WEIGHT, Limiter, Limits
from engine.sim.request import (
    AccountKey,
    ApiError,
    RequestId,
    SessionRevokedError,
    check_signature,
    check_timing,
    read_time_us,
    signature_payload,
)
from engine.sim.rest import Form, RestReply
from engine.sim.symbols import SYMBOLS, Symbol

NS_PER_MS = 1_000_000
OnMarket = Callable[[str, dict[str, Any]], None]  # takes a stream's name and its payload


def _nobody(*_: object) -> None:
    pass


@dataclass
class Venue:
    """The exchange's state.

    `record` is told of every accepted request before its reply exists, and of every fill. The
    market stands still without a `seed` of its random walk or `trades`; `on_market` hears of it.
    `balances` are the account's, by asset. `keys` (one that is taken out is revoked),
    `clock_skew_ms`, `limits` and `on_market` may be changed at any time.
    """

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
        self._limiter = Limiter()
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

    @property
    def is_banned(self) -> bool:
        """Whether the address is, of which all clients come ("IP limits")."""
        return self._engine.now_ms < self._limiter.banned_until_ms

    # ---- the WebSocket API -----------------------------------------------------------------------

    def answer(
        self,
        message: str | bytes,
        received_ns: int,
        connection: Connection,
        now_ns: int | None = None,
    ) -> str:
        """The reply to one frame of that connection, which is executed as soon as it was received
        or else at `now_ns`: its time and signature are as good then as they were before."""
        self.requests += 1
        now_ns = now_ns or received_ns
        self._begin(now_ns)
        request = read_request(message, connection)
        try:
            self._limiter.use(request.weight)
            result = self._execute(request, received_ns, now_ns, connection)
            reply = self._as_json(request, {"status": 200, "result": result})
        except ApiError as error:
            self.rejections[str(error)] += 1
            reply = self._refuse(request, error)
        self._finish()
        return reply

    def fail(
        self, message: str | bytes, now_ns: int, connection: Connection, error: ApiError
    ) -> str:
        """The reply to such a frame when something went wrong behind it: `error`, whatever it asks
        for, which is neither executed nor counted."""
        self._set_clock(now_ns)
        return self._refuse(read_request(message, connection), error)

    def _execute(
        self, request: Request, received_ns: int, now_ns: int, connection: Connection
    ) -> Any:
        if request.error is not None:
            raise request.error
        method, params = request.method, request.params
        assert method is not None  # without an error
        call = self._call(connection, method, params, request.id, received_ns, now_ns)
        self._authorize(call, method, params, signature_payload(params))
        return method.run(call, params)

    def _refuse(self, request: Request, error: ApiError) -> str:
        if isinstance(error, SessionRevokedError):  # it answers no request
            request.id = request.method = None
        return self._as_json(request, {"status": error.status, "error": error.as_json()})

    def _as_json(self, request: Request, outcome: dict[str, Any]) -> str:
        reply = {"id": request.id} | outcome
        if request.method is not None and request.show_limits:
            reply["rateLimits"] = self._show_limits(request.method)
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
        now_ns: int | None = None,
    ) -> RestReply:
        """The reply to one HTTP request; `query` and `body` as they came, undecoded. `now_ns` as in
        `answer`."""
        self.requests += 1
        now_ns = now_ns or received_ns
        self._begin(now_ns)
        try:
            form = rest.read_form(query, body)
            reply = self._rest(method, path, form, headers, received_ns, now_ns)
        except ApiError as error:
            self.rejections[str(error)] += 1
            reply = rest.error_reply(error, self._limiter, self._engine.now_ms)
        self._finish()
        return reply

    def fail_rest(self, now_ns: int, error: ApiError) -> RestReply:
        """As `fail`."""
        self._set_clock(now_ns)
        return rest.error_reply(error, self._limiter, self._engine.now_ms)

    def _rest(
        self,
        http_method: str,
        path: str,
        form: Form,
        headers: Mapping[str, str],
        received_ns: int,
        now_ns: int,
    ) -> RestReply:
        weight = 1
        try:
            rest.check_format(headers)
            method = rest.find_method(http_method, path)
            params = dict(form.params)
            if method.signed:
                params["apiKey"] = rest.read_api_key(headers)
                self._key(params["apiKey"])
            params = read_params(params, method, logged_on=False)
            weight = method.weigh(params)
        finally:
            self._limiter.use(weight)
        nobody = Connection(self._engine.now_ms, False, _nobody)
        call = self._call(nobody, method, params, None, received_ns, now_ns)
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
            book.quote(trade.price, trade.price)

    # ---- within ----------------------------------------------------------------------------------

    def _set_clock(self, real_ns: int) -> None:
        self._engine.now_ms = self.clock_ns(real_ns) // NS_PER_MS
        self._limiter.advance(self._engine.now_ms, self.limits)

    def _begin(self, real_ns: int) -> None:
        self._set_clock(real_ns)
        # Fills lower the count "after a short delay" (faqs/order_count_decrement.md): only now.
        self._limiter.forgive_orders(self._engine.take_credit())

    def _finish(self) -> None:
        self._engine.finish()
        if self.on_market is not _nobody:
            for name in self._engine.take_moved():
                self._show_ticker(name)

    def _call(
        self,
        connection: Connection,
        method: Method,
        params: Params,
        request_id: RequestId,
        received_ns: int,
        now_ns: int,
    ) -> Call:
        sent_ms = read_time_us(params, "timestamp") // 1000 if method.signed else 0
        origin = Origin(request_id, received_ns, sent_ms)
        clock_ns = self.clock_ns(now_ns)
        return Call(self._engine, self._limiter, self.keys, connection, origin, clock_ns)

    def _authorize(self, call: Call, method: Method, params: Params, signed_text: str) -> None:
        """Let a signed request pass by its own key and signature, or else by its connection's logon
        ("Authorize _ad hoc_ requests")."""
        if not method.signed:
            return
        received_us = self.clock_ns(call.origin.received_ns) // 1000
        if "apiKey" in params:
            key = self._key(params["apiKey"])
            check_timing(params, received_us)
            check_signature(signed_text, params["signature"], key)
            return
        if call.connection.api_key not in self.keys:
            sessions.log_out(call.connection, call.now_ms)
            raise SessionRevokedError
        check_timing(params, received_us)

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
