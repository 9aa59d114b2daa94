"""The market streams of the simulated exchange (web-socket-streams.md), on a port of their own.

`/ws/<stream>[/<stream>]` gives raw payloads, `/stream?streams=<stream>/<stream>` combined ones, and
SUBSCRIBE, UNSUBSCRIBE, LIST_SUBSCRIPTIONS, SET_PROPERTY and GET_PROPERTY change that. There are
`<symbol>@bookTicker` and `<symbol>@trade`; others are refused.

Simplified: a best bid and ask is sent at once to a new subscriber and again every HEARTBEAT_S while
it does not change. The venue sends changes only, but of a real market there are many a second.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from websockets.frames import CloseCode

from engine.sim.faults import MARKET_FAULTS
from engine.sim.websocket import Clients, Draw, Habits, Peer

NS_PER_S = 1_000_000_000
HEARTBEAT_S = 1.0
MAX_STREAMS = 1024  # "WebSocket Limits", of one connection
MAX_MESSAGES_PER_S = 5
# "Live Subscribing/Unsubscribing to streams" says alphanumeric, but clients send UUIDs.
REQUEST_ID = re.compile("[a-zA-Z0-9-]{0,36}")

SIMULATED = "only <symbol>@bookTicker and <symbol>@trade are simulated"

Payload = dict[str, Any]


class RequestError(Exception):
    """A refusal out of "Error Messages"."""

    def __init__(self, code: int, msg: str) -> None:
        super().__init__(msg)
        self.answer = {"code": code, "msg": msg}


class Streams(Clients):
    """The port's clients, and what the market says to them."""

    def __init__(self, habits: Habits, draw: Draw) -> None:
        super().__init__(habits, draw)
        self.quotes: dict[str, Payload] = {}  # the latest of every bookTicker stream
        self.on_quote: Callable[[Payload], None] = lambda _: None  # one is sent to somebody
        self._said: set[str] = set()  # since the last heartbeat

    def new_peer(self) -> StreamPeer:
        return StreamPeer(self)

    def beat(self) -> None:
        """Every HEARTBEAT_S: the quotes that have not changed since are said again."""
        for stream in self.quotes.keys() - self._said:
            self.publish(stream, self.quotes[stream])
        self._said.clear()

    def publish(self, stream: str, payload: Payload) -> None:
        """To those who have subscribed to it."""
        if stream.endswith("@bookTicker"):
            self.quotes[stream] = payload
            self._said.add(stream)
        for peer in list(self.peers):
            if isinstance(peer, StreamPeer) and stream in peer.streams:
                peer.say(stream, payload)


class StreamPeer(Peer):
    """A subscriber, and what it has subscribed to in that order."""

    def __init__(self, clients: Streams) -> None:
        super().__init__(clients)
        self._market = clients
        self.streams: dict[str, None] = {}
        self._is_combined = False
        self._messages = (0, 0)  # the current second and how many have come in it

    def refuse(self) -> tuple[HTTPStatus, str] | None:
        if self.path not in ("/stream", "/ws") and not self.path.startswith("/ws/"):
            return HTTPStatus.NOT_FOUND, "only /ws/<stream> and /stream?streams= are served here\n"
        if unknown := not_simulated(self._listed()):
            return HTTPStatus.BAD_REQUEST, f"{unknown}: {SIMULATED}\n"
        return super().refuse()

    def opened(self) -> None:
        self._is_combined = self.path == "/stream"
        self._subscribe(self._listed())

    def received(self, message: str | bytes) -> None:
        second = time.monotonic_ns() // NS_PER_S
        count = self._messages[1] + 1 if self._messages[0] == second else 1
        self._messages = second, count
        if count > MAX_MESSAGES_PER_S:
            self.close(CloseCode.POLICY_VIOLATION)
            return
        answer: dict[str, Any]
        request_id: object = None
        try:
            request = read_request(message)
            request_id = request["id"]
            answer = {"result": self._answer(request["method"], request.get("params", []))}
        except RequestError as error:
            answer = error.answer
        self.send(json.dumps(answer | {"id": request_id}, separators=(",", ":")))

    def announce_shutdown(self, now_ms: int) -> None:
        """Heading "Server Shutdown"."""
        self.say("!serverShutdown", {"e": "serverShutdown", "E": now_ms})

    def say(self, stream: str, payload: Payload) -> None:
        if stream.endswith("@bookTicker"):
            if self.draw(MARKET_FAULTS):
                return
            self._market.on_quote(payload)
        document = {"stream": stream, "data": payload} if self._is_combined else payload
        self.send(json.dumps(document, separators=(",", ":")))

    def _listed(self) -> list[str]:
        """The streams that the URL names."""
        combined = parse_qs(self.query).get("streams", [""])[0]
        listed = combined if self.path == "/stream" else self.path.removeprefix("/ws")
        return [name for name in listed.split("/") if name]

    def _answer(self, method: str, params: list[Any]) -> object:
        match method:
            case "SUBSCRIBE":
                names = _names(params)
                if unknown := not_simulated(names):
                    raise RequestError(2, f"Invalid request: {unknown}: {SIMULATED}")
                self._subscribe(names)
            case "UNSUBSCRIBE":
                for name in _names(params):
                    self.streams.pop(name, None)
            case "LIST_SUBSCRIPTIONS":
                return list(self.streams)
            case "SET_PROPERTY":
                _check_property(params, 2)
                if not isinstance(params[1], bool):
                    raise RequestError(1, "Invalid value type: expected Boolean")
                self._is_combined = params[1]
            case "GET_PROPERTY":
                _check_property(params, 1)
                return self._is_combined
            case _:
                raise RequestError(2, f"Invalid request: unknown variant `{method}`")
        return None

    def _subscribe(self, names: list[str]) -> None:
        """A name that no market has is taken and stays silent."""
        new = dict.fromkeys(name for name in names if name not in self.streams)
        if len(self.streams) + len(new) > MAX_STREAMS:
            self.close(CloseCode.POLICY_VIOLATION)
            return
        self.streams |= new
        for name in new:
            if name in self._market.quotes:
                self.say(name, self._market.quotes[name])


def not_simulated(names: list[str]) -> str | None:
    """The first stream, if any, that would stay silent whatever the market does."""
    return next((n for n in names if not n.endswith(("@bookTicker", "@trade"))), None)


def read_request(message: str | bytes) -> dict[str, Any]:
    """A subscriber's message, which has `method` and `id`; RequestError unless it can be read."""
    try:
        request = json.loads(message)
    except (ValueError, RecursionError):
        raise RequestError(3, "Invalid JSON: expected value at line 1 column 1") from None
    if not isinstance(request, dict) or not isinstance(request.get("method"), str):
        raise RequestError(2, "Invalid request: missing field `method`")
    if not isinstance(request.get("params", []), list):
        raise RequestError(2, "Invalid request: invalid type for `params`, expected a sequence")
    request_id = request.setdefault("id", None)
    if type(request_id) is int or request_id is None:
        return request
    if isinstance(request_id, str) and REQUEST_ID.fullmatch(request_id):
        return request
    raise RequestError(2, "Invalid request: request ID must be an unsigned integer")


def _names(params: list[Any]) -> list[str]:
    if not all(isinstance(name, str) for name in params):
        raise RequestError(2, "Invalid request: stream name must be a string")
    return params


def _check_property(params: list[Any], length: int) -> None:
    if len(params) > length:
        raise RequestError(2, "Invalid request: too many parameters")
    if not params or not isinstance(params[0], str):
        raise RequestError(2, "Invalid request: property name must be a string")
    if params[0] != "combined" or len(params) < length:
        raise RequestError(0, "Unknown property")
