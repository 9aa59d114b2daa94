"""pyzmq's feed on a thread of its own, which hands every transaction to the engine's."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator

import zmq

from engine.feed.zmq import FeedCounters, Notice, ZmqFeed

POLL_MS = 10
FULL_S = 0.001


class ZmqThread:
    """`offer(raw, t_rx_ns)` takes a transaction, or says False while there is no room: libzmq keeps
    what follows, and its numbering tells what was lost."""

    def __init__(self, feed: ZmqFeed, offer: Callable[[bytes, int], bool], spin: bool) -> None:
        self._feed = feed
        self._offer = offer
        self._timeout_ms = 0 if spin else POLL_MS
        self._notices: queue.SimpleQueue[Notice] = queue.SimpleQueue()
        self._stopping = False
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
        self._thread.join()
        self._feed.close()

    def _work(self) -> None:
        while not self._stopping:
            self._feed.socket.poll(self._timeout_ms, zmq.POLLIN)
            for raw, t_rx_ns in self._feed.drain():
                while not self._offer(raw, t_rx_ns) and not self._stopping:
                    time.sleep(FULL_S)
            for notice in self._feed.notices():
                self._notices.put(notice)
