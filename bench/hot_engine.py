"""The engine as a contender of `bench hot`: a process of its own, from the node's publication to the
order on the wire."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import zmq

from engine.book import Book, default_entries
from engine.core import Closed, Engine, EngineOptions, Fired, Message, Rule, VenueAddress
from engine.errors import HarpoonError
from engine.feed.zmq import ZmqFeed
from engine.venues import binance
from harpoon_bench.children import say

Settings = dict[str, Any]
POLL_MS = 10  # as `harpoon run`
CONNECT_S = 10.0


class Contender:
    """Trades until as many orders are answered as were asked for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._left: int = settings["orders"]
        self._sent: dict[str, int] = {}  # CLOCK_MONOTONIC ns at which the order's send returned
        self._engine = _engine(settings)

    def by_pyzmq(self) -> None:
        """The loop of engine/runner.py without its clockwork."""
        engine, timeout_ms = self._engine, 0 if self._settings["spin"] else POLL_MS
        with ZmqFeed(self._settings["feed"]) as feed:
            feed.wait_connected(CONNECT_S)
            os.sched_setaffinity(0, {self._settings["cpu"]})  # this thread, not libzmq's
            say(ready=True)
            poller = zmq.Poller()
            poller.register(feed.socket, zmq.POLLIN)
            poller.register(engine.fileno(), zmq.POLLIN)
            while self._left > 0:
                poller.poll(timeout_ms)
                for raw, t_rx_ns in feed.drain():
                    if engine.rawtx(raw, t_rx_ns):
                        self._events()
                engine.poll()
                self._events()

    def _events(self) -> None:
        for event in self._engine.events():
            if isinstance(event, Fired):
                self._sent[event.client_id] = event.sent_ns
            elif isinstance(event, Message):
                self._left -= 1
            elif isinstance(event, Closed):
                raise HarpoonError(f"the exchange of the benchmark has left: {event.reason}")

    def report(self) -> None:
        offset_ns = time.time_ns() - time.monotonic_ns()
        say(sent={client_id: ns + offset_ns for client_id, ns in self._sent.items()})
        self._engine.close()


def _engine(settings: Settings) -> Engine:
    """Connected, with one rule."""
    engine = Engine(Book(default_entries()), EngineOptions(live=True, max_orders=1 << 62))
    engine.set_key(settings["api_secret"])
    spec = binance.OrderSpec("BTCUSDT", "SELL", "MARKET", "0.00100")
    order = engine.add_order(binance.order_template(spec, settings["api_key"], 5000))
    engine.add_rule(Rule(("deposit",), None, settings["min_sat"], None, order))
    url = urlsplit(settings["url"])
    assert url.hostname is not None
    assert url.port is not None
    engine.connect(
        VenueAddress(
            ip=url.hostname,
            host=url.hostname,
            port=url.port,
            path=url.path,
            ca_file=Path(settings["ca_file"]),
            timeout_ns=5_000_000_000,
        )
    )
    return engine


if __name__ == "__main__":
    contender = Contender(json.loads(sys.argv[1]))
    contender.by_pyzmq()
    contender.report()
