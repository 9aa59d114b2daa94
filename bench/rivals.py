"""What people write in Python for the same task, as well as the libraries' documentation tells:
pyzmq, python-bitcoinlib, a dict of scripts, json, hmac, and one of three WebSocket libraries, on
Python's own event loop and on uvloop.

Less is asked of it than of the engine: no look at the inputs, no limits, nothing remembered. Of
each library the way is taken that was fastest here, with one exception: the threaded client of
websockets was up to a quarter faster than its asyncio one, but over TLS it hangs now and then
(bench/BENCHMARKS.md)."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import ssl
import sys
import time
from collections.abc import AsyncIterable, Callable, Coroutine
from typing import Any

import zmq
import zmq.asyncio

from engine.address import script_of
from engine.book import default_entries
from harpoon_bench.children import as_child, say
from harpoon_bench.traffic import DEPOSIT_SAT

Settings = dict[str, Any]


class Strategy:
    """From a raw transaction to an order's text."""

    def __init__(self, settings: Settings) -> None:
        from bitcoin.core import CTransaction

        self._deserialize = CTransaction.deserialize
        self._exchanges = {script_of(e.address): e.exchange for e in default_entries()}
        self._api_key: str = settings["api_key"]
        self._secret: bytes = settings["api_secret"].encode()

    def order(self, frames: list[bytes]) -> str | None:
        _, raw, sequence = frames
        tx = self._deserialize(raw)
        paid: dict[str, int] = {}
        for output in tx.vout:
            exchange = self._exchanges.get(output.scriptPubKey)
            if exchange is not None:
                paid[exchange] = paid.get(exchange, 0) + output.nValue
        if any(value_sat >= DEPOSIT_SAT for value_sat in paid.values()):
            return self._request(f"w{int.from_bytes(sequence, 'little')}")
        return None

    def _request(self, client_id: str) -> str:
        timestamp = time.time_ns() // 1_000_000
        payload = (
            f"apiKey={self._api_key}&newClientOrderId={client_id}&newOrderRespType=ACK"
            f"&quantity=0.00100&recvWindow=5000&side=SELL&symbol=BTCUSDT"
            f"&timestamp={timestamp}&type=MARKET"
        )
        signature = hmac.new(self._secret, payload.encode(), hashlib.sha256).hexdigest()
        return json.dumps(
            {
                "id": client_id,
                "method": "order.place",
                "params": {
                    "symbol": "BTCUSDT",
                    "side": "SELL",
                    "type": "MARKET",
                    "quantity": "0.00100",
                    "newClientOrderId": client_id,
                    "newOrderRespType": "ACK",
                    "recvWindow": 5000,
                    "timestamp": timestamp,
                    "apiKey": self._api_key,
                    "signature": signature,
                },
            }
        )


class Countdown:
    """Answers that are still to come."""

    def __init__(self, count: int) -> None:
        self._left = count
        self.over = asyncio.Event()

    def answered(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.over.set()


def subscribe(context: zmq.Context[Any], settings: Settings) -> Any:
    feed = context.socket(zmq.SUB)
    feed.set(zmq.RCVHWM, 0)
    feed.subscribe(b"rawtx")
    feed.connect(settings["feed"])
    say(ready=True)
    return feed


def tls(settings: Settings) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=settings["ca_file"])


async def with_websockets(settings: Settings) -> None:
    from websockets.asyncio.client import connect

    async with connect(settings["ws_url"], ssl=tls(settings), compression=None) as connection:
        await trade(settings, connection.send, connection)


async def with_aiohttp(settings: Settings) -> None:
    from aiohttp import ClientSession

    async with (
        ClientSession() as session,
        session.ws_connect(settings["ws_url"], ssl=tls(settings)) as connection,
    ):
        await trade(settings, connection.send_str, connection)


async def trade(
    settings: Settings,
    send: Callable[[str], Coroutine[Any, Any, None]],
    answers: AsyncIterable[object],
) -> None:
    """The order is sent by the coroutine that received the transaction: no task between."""
    strategy, left = Strategy(settings), Countdown(settings["orders"])
    feed = subscribe(zmq.asyncio.Context.instance(), settings)

    async def act() -> None:
        while True:
            order = strategy.order(await feed.recv_multipart())
            if order is not None:
                await send(order)

    acting = asyncio.create_task(act())
    async for _ in answers:
        left.answered()
        if left.over.is_set():
            break
    acting.cancel()
    say(done=True)


async def with_picows(settings: Settings) -> None:
    """Its send is no coroutine, so the event loop can watch libzmq's descriptor itself, without
    zmq.asyncio. ZMQ_FD is edge-triggered: each time everything is taken."""
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

    strategy, answers = Strategy(settings), Countdown(settings["orders"])

    class Listener(WSListener):
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            answers.answered()

    transport, _ = await ws_connect(Listener, settings["ws_url"], ssl_context=tls(settings))
    feed = subscribe(zmq.Context.instance(), settings)

    def readable() -> None:
        while feed.get(zmq.EVENTS) & zmq.POLLIN:
            order = strategy.order(feed.recv_multipart(zmq.NOBLOCK))
            if order is not None:
                transport.send(WSMsgType.TEXT, order.encode())

    asyncio.get_running_loop().add_reader(feed.get(zmq.FD), readable)
    readable()
    await answers.over.wait()
    transport.disconnect()
    say(done=True)


RIVALS: dict[str, Callable[[Settings], Coroutine[Any, Any, None]]] = {
    "websockets": with_websockets,
    "aiohttp": with_aiohttp,
    "picows": with_picows,
}
LOOPS = ("asyncio", "uvloop")


def compete(rival: str, loop: str, settings: Settings) -> None:
    if loop == "asyncio":
        asyncio.run(RIVALS[rival](settings))
        return
    import uvloop

    uvloop.run(RIVALS[rival](settings))


if __name__ == "__main__":
    as_child(lambda: compete(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
