"""The engine as a contender of `bench hot`, a process of its own: from the node's publication to
the order on the wire, or, with `transactions`, until so many are decoded and matched."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import zmq

from engine.core import Closed, Fired, Message
from engine.errors import HarpoonError
from engine.feed.zmq import ZmqFeed
from harpoon_bench.children import as_child, say
from harpoon_bench.engines import connected_engine

POLL_MS = 10  # as `harpoon run`
CONNECT_S = 10.0


class Contender:
    def __init__(self, settings: dict[str, Any]) -> None:
        self._endpoint: str = settings["feed"]
        self._timeout_ms = 0 if settings["spin"] else POLL_MS
        self._cpu: int = settings["cpu"]
        self._answers_due: int = settings.get("orders", 0)
        self._transactions_due: int = settings.get("transactions", 0)
        self._sent_ns: dict[str, int] = {}  # by client id; CLOCK_MONOTONIC when send returned
        self._lost = 0
        self._engine = connected_engine(settings)

    def by_pyzmq(self) -> None:
        """The loop of engine/runner.py without its clockwork."""
        engine = self._engine
        with ZmqFeed(self._endpoint) as feed:
            feed.wait_connected(CONNECT_S)
            os.sched_setaffinity(0, {self._cpu})  # this thread, not libzmq's
            say(ready=True)
            poller = zmq.Poller()
            poller.register(feed.socket, zmq.POLLIN)
            poller.register(engine.fileno(), zmq.POLLIN)
            while self._answers_due > 0 or feed.counters.messages < self._transactions_due:
                poller.poll(self._timeout_ms)
                for raw, t_rx_ns in feed.drain():
                    if engine.rawtx(raw, t_rx_ns):
                        self._events()
                engine.poll()
                self._events()
            self._lost = feed.counters.lost

    def _events(self) -> None:
        for event in self._engine.events():
            if isinstance(event, Fired):
                self._sent_ns[event.client_id] = event.sent_ns
            elif isinstance(event, Message):
                self._answers_due -= 1
            elif isinstance(event, Closed):
                raise HarpoonError(f"the exchange of the benchmark has left: {event.reason}")

    def report(self) -> None:
        over_ns = time.monotonic_ns()
        to_epoch_ns = time.time_ns() - over_ns
        sent_ns = {client_id: ns + to_epoch_ns for client_id, ns in self._sent_ns.items()}
        say(over_ns=over_ns, lost=self._lost, sent_ns=sent_ns)
        self._engine.close()


# The native feed's loop belongs here: "native", beside the interface it replaces.
FEEDS: dict[str, Callable[[Contender], None]] = {"pyzmq": Contender.by_pyzmq}


def _compete(feed: str, settings: dict[str, Any]) -> None:
    contender = Contender(settings)
    FEEDS[feed](contender)
    contender.report()


if __name__ == "__main__":
    as_child(lambda: _compete(sys.argv[1], json.loads(sys.argv[2])))
