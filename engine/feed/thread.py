"""pyzmq's feed on a thread of its own, which hands every transaction to the engine's."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator

import zmq

from engine._native import lib
from engine.feed.zmq import FeedCounters, Notice, ZmqFeed

POLL_MS = 10
FULL_S = 0.001


class ZmqThread:
    """`offer(raw, t_rx_ns, how)` takes a transaction, or says False while there is no room: libzmq
    keeps what follows, and its numbering tells what was lost. `how` is one of enum hp_offer."""

    def __init__(self, feed: ZmqFeed, offer: Callable[[bytes, int, int], bool], spin: bool) -> None:
        self._feed = feed
        self._offer = offer
        self._timeout_ms = 0 if spin else POLL_MS
        self._notices: queue.SimpleQueue[Notice] = queue.SimpleQueue()
        self._stopping = False
        self._lost = self._restarts = 0  # as of the last transaction
        self._thread = threading.Thread(target=self._work, name="zmq feed", daemon=True)

    @property
    def counters(self) -> FeedCounters:
        return self._feed.counters

    def start(self) -> None:
        self._thread.start()

    def notices(self) -> Iterator[Notice]:
        """What happened since the last call."""
        while not self._notices.empty():
            yield self._notices.get()

    def stop(self) -> None:
        self._stopping = True
        if self._thread.ident is not None:  # it was started
            self._thread.join()
        self._feed.close()

    def _how_it_follows(self) -> int:
        before = self._lost, self._restarts
        counters = self._feed.counters
        self._lost, self._restarts = counters.lost, counters.restarts
        if before[1] != self._restarts:
            return int(lib.HP_OFFER_RESTARTED)
        return int(lib.HP_OFFER_NEXT if before[0] == self._lost else lib.HP_OFFER_BEHIND_GAP)

    def _work(self) -> None:
        while not self._stopping:
            self._feed.socket.poll(self._timeout_ms, zmq.POLLIN)
            for raw, t_rx_ns in self._feed.drain():
                how = self._how_it_follows()
                while not self._offer(raw, t_rx_ns, how) and not self._stopping:
                    time.sleep(FULL_S)
            for notice in self._feed.notices():
                self._notices.put(notice)
