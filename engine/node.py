"""The Bitcoin node of a run: whether it has answered, and whether it still publishes. What it
publishes goes to the engine without coming by here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from engine.config import FeedSettings
from engine.errors import FeedError
from engine.feed.thread import ZmqThread
from engine.feed.zmq import ZmqFeed
from engine.records import FeedNote

NO_CONNECTION = frozenset({"disconnected", "unreachable", "not-zmtp", "timed-out"})


class Node:
    """`begin()`, `answers()` until it does, `listen()`, `stop()`.

    `native` lets the engine begin with its own feeds; `offer` is what pyzmq's feed hands a
    transaction to (engine/feed/thread.py). Times are in seconds, of time.monotonic()."""

    def __init__(
        self,
        settings: FeedSettings,
        native: Callable[[], None],
        offer: Callable[[bytes, int, int], bool],
        spin: bool,
    ) -> None:
        self._settings = settings
        self._native = native
        self._offer = offer
        self._spin = spin
        self._feed: ZmqFeed | None = None
        self._thread: ZmqThread | None = None
        self._up: set[int] = set()  # endpoints of the engine's own feeds
        self._complaint = "no node has answered: check feed.endpoint"
        self._transactions = 0
        self._silent_from_s = float("inf")

    def begin(self) -> None:
        """Connect; FeedError when it is known at once that this cannot be."""
        if self._settings.source == "zmq":
            self._feed = ZmqFeed(self._settings.endpoints[0])
            self._thread = ZmqThread(self._feed, self._offer, self._spin)
        else:
            self._native()

    def answers(self) -> bool:
        """Whether one of its endpoints does."""
        if self._feed is None:
            return bool(self._up)
        try:
            self._feed.wait_connected(0)
        except FeedError as error:
            self._complaint = str(error)
            return False
        return True

    def failure(self) -> FeedError:
        """Why it does not answer."""
        return FeedError(self._complaint)

    def listen(self, now_s: float) -> None:
        """It answers; from now on it is heard."""
        self._silent_from_s = now_s
        if self._thread is not None:
            self._thread.start()

    def stop(self) -> None:
        if self._thread is not None:
            self._thread.stop()

    # ---- what is reported ------------------------------------------------------------------------

    def on_feed(self, note: FeedNote) -> None:
        """Of the engine's own feeds."""
        if note.note == "connected":
            self._up.add(note.endpoint)
        elif note.note in NO_CONNECTION:
            self._up.discard(note.endpoint)
            self._complaint = note.words

    def on_transactions(self, count: int, now_s: float) -> None:
        """How many have come so far."""
        if count > self._transactions:
            self._transactions = count
            self._silent_from_s = now_s

    def notices(self, now_s: float) -> Iterator[str]:
        """What a person should know of it; a silence again and again."""
        for notice in self._thread.notices() if self._thread else ():
            yield notice.text
        if now_s >= self._silent_from_s + self._settings.silent_after_s:
            self._silent_from_s = now_s
            yield (
                f"the node at {', '.join(self._settings.endpoints)} has published nothing for "
                f"{self._settings.silent_after_s} s: check that it is in sync and has peers."
            )
