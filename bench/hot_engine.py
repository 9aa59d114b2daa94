"""The engine as a contender of `bench hot`, a process of its own: from the node's publication to
the order on the wire, or, with `transactions`, until so many are decoded and matched."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from engine.errors import HarpoonError
from engine.feed.native import resolve_endpoint
from engine.feed.thread import ZmqThread
from engine.feed.zmq import ZmqFeed
from engine.records import Closed, FeedNote, Fired, Message, Opened
from harpoon_bench.children import as_child, say
from harpoon_bench.engines import LIVE, address_of, engine_for

TICK_S = 0.002  # as `harpoon run`
PATIENCE_S = 20.0


class Contender:
    """As `harpoon run` has it: the engine's thread alone on its core, all other threads on the
    rest."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        cpu: int = settings["cpu"]
        os.sched_setaffinity(0, os.sched_getaffinity(0) - {cpu} or {cpu})
        options = replace(LIVE, spin=settings["spin"], cpu=cpu, transport=settings["transport"])
        self._engine = engine_for(settings, options)
        self._hot = threading.Thread(target=self._engine.run)
        self._open = self._hears_node = False
        self._answers = 0
        self._sent: list[Fired] = []

    @contextmanager
    def native(self) -> Iterator[None]:
        self._engine.add_feed(resolve_endpoint(self._settings["feed"], sequence=False))
        with self._running():
            self._engine.command_listen()
            self._wait(lambda: self._hears_node)
            yield

    @contextmanager
    def pyzmq(self) -> Iterator[None]:
        with self._running():
            feed = ZmqFeed(self._settings["feed"])
            feed.wait_connected(PATIENCE_S)
            # Where its thread spun too, node and exchange starved on their one core.
            thread = ZmqThread(feed, self._engine.offer_rawtx, spin=False)
            thread.start()
            yield
            thread.stop()

    @contextmanager
    def _running(self) -> Iterator[None]:
        self._hot.start()
        try:
            self._engine.command_connect(address_of(self._settings))
            self._wait(lambda: self._open)
            self._engine.command_hold(False, 0)
            yield
        finally:
            self._engine.command_stop()
            self._hot.join()

    def work(self) -> None:
        """Until all that is due has come."""
        answers, transactions = self._settings.get("orders"), self._settings.get("transactions")
        if answers:
            self._wait(lambda: self._answers >= answers)
        if transactions:
            self._wait(lambda: self._engine.stats()["transactions"] >= transactions)

    def _wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline or not self._hot.is_alive():
                raise HarpoonError("what the benchmark waits for does not come: try again.")
            time.sleep(TICK_S)
            self._take_records()

    def _take_records(self) -> None:
        for event in self._engine.events():
            if isinstance(event, Fired):
                self._sent.append(event)
            elif isinstance(event, Message):
                self._answers += 1
            elif isinstance(event, Opened):
                self._open = True
            elif isinstance(event, FeedNote):
                self._hears_node = event.note == "connected"
            elif isinstance(event, Closed):
                raise HarpoonError(f"the exchange of the benchmark has left: {event.reason}")

    def report(self, over_ns: int) -> None:
        """After the run."""
        to_epoch_ns = time.time_ns() - time.monotonic_ns()
        say(
            over_ns=over_ns,
            stats=self._engine.stats(),
            txids={fired.client_id: fired.txid for fired in self._sent},
            sent_ns={fired.client_id: fired.sent_ns + to_epoch_ns for fired in self._sent},
        )


def _compete(feed: str, settings: dict[str, Any]) -> None:
    contender = Contender(settings)
    with {"native": contender.native, "pyzmq": contender.pyzmq}[feed]():
        say(ready=True)
        contender.work()
        over_ns = time.monotonic_ns()
    contender.report(over_ns)


if __name__ == "__main__":
    as_child(lambda: _compete(sys.argv[1], json.loads(sys.argv[2])))
