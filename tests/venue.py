"""A client of the simulated exchange's semantics: no sockets, and a clock that it holds itself."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from engine.sim.binance import Venue
from engine.sim.ledger import Entry
from engine.sim.methods import METHODS
from engine.sim.rates import Limits
from engine.sim.rest import RestReply

API_KEY, API_SECRET = "K" * 64, "S" * 64
EPOCH_NS = 1_700_000_000 * 10**9  # a multiple of 10 s, not of a minute
PLENTY = Limits(request_weight=10**9, orders_10_s=10**9, orders_day=10**9)
BTC: dict[str, Any] = {"symbol": "BTCUSDT"}
LIMIT = BTC | {"type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01"}
MARKET = BTC | {"type": "MARKET", "quantity": "0.01"}


class Client:
    """One connection of a venue of its own, subscribed to the account's events unless told not to.

    `events` are those since the last `take_events`, `ledger` all that was recorded, `market` the
    streams' payloads."""

    def __init__(self, subscribe: bool = True, limits: Limits = PLENTY, **options: Any) -> None:
        self.ledger: list[Entry] = []
        self.events: list[dict[str, Any]] = []
        self.market: list[tuple[str, dict[str, Any]]] = []
        self.now_ns = EPOCH_NS
        self.venue = Venue(
            keys={API_KEY: API_SECRET},
            record=self.ledger.append,
            limits=limits,
            on_market=lambda stream, payload: self.market.append((stream, payload)),
            **options,
        )
        self.connection = self.venue.connect(self.now_ns, True, self._deliver)
        if subscribe:
            assert self.ask("userDataStream.subscribe.signature") == {"subscriptionId": 0}

    def _deliver(self, text: str) -> None:
        self.events.append(json.loads(text))

    def reply(self, method: str, **params: Any) -> dict[str, Any]:
        """The whole reply, a millisecond after the last one."""
        self.now_ns += 10**6
        if METHODS[method].signed:
            params = {"apiKey": API_KEY, "timestamp": self.now_ns // 10**6} | params
            payload = "&".join(f"{name}={params[name]}" for name in sorted(params))
            params["signature"] = _sign(payload)
        request = json.dumps({"id": 1, "method": method, "params": params})
        answer = self.venue.answer(request, self.now_ns, self.connection)
        return dict(json.loads(answer))

    def ask(self, method: str, **params: Any) -> Any:
        """The result."""
        reply = self.reply(method, **params)
        assert reply["status"] == 200, reply
        return reply["result"]

    def refusal(self, method: str, **params: Any) -> tuple[int, str]:
        """The error's code and message."""
        reply = self.reply(method, **params)
        assert reply["status"] == 400, reply
        return reply["error"]["code"], reply["error"]["msg"]

    def place(self, template: Mapping[str, Any] = LIMIT, **params: Any) -> Any:
        return self.ask("order.place", **{**template, "newOrderRespType": "FULL", **params})

    def status(self, client_id: str) -> Any:
        return self.ask("order.status", symbol="BTCUSDT", origClientOrderId=client_id)

    def rest(
        self, method: str, path: str, in_body: bool = False, key: str = API_KEY, **params: Any
    ) -> RestReply:
        """A REST request, signed when there are parameters that need it."""
        self.now_ns += 10**6
        text = urlencode(params)
        if "timestamp" in params:
            text += f"&signature={_sign(text)}"
        query, body = ("", text) if in_body else (text, "")
        headers = {"X-MBX-APIKEY": key}
        return self.venue.rest(method, path, query, body.encode(), headers, self.now_ns)

    def take_events(self, kind: str = "") -> list[dict[str, Any]]:
        """The events of that kind or all, without the wrapper; then none are left."""
        taken = [each["event"] for each in self.events]
        self.events.clear()
        return [event for event in taken if kind in ("", event["e"])]

    def balance(self, asset: str) -> tuple[Decimal, Decimal]:
        """Free and locked."""
        [row] = [row for row in self.ask("account.status")["balances"] if row["asset"] == asset]
        return Decimal(row["free"]), Decimal(row["locked"])


def _sign(payload: str) -> str:
    return hmac.new(API_SECRET.encode(), payload.encode(), hashlib.sha256).hexdigest()
