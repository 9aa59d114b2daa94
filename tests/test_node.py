"""engine.node: whether the node of a run is there, and speaks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from engine.config import FeedSettings
from engine.node import Node
from engine.records import FeedNote

from .publisher import Publisher, eventually

ENDPOINTS = ("tcp://127.0.0.1:1", "tcp://127.0.0.2:1")


def node(
    source: str = "native",
    endpoints: tuple[str, ...] = ENDPOINTS,
    native: Callable[[], None] = lambda: None,
) -> Node:
    settings = FeedSettings(endpoints, source, sequence=False, silent_after_s=60)
    return Node(settings, native, lambda *transaction: True, spin=False)


def note(words: str, endpoint: int) -> FeedNote:
    return FeedNote(words, endpoint, 0, 0, 0, f"{words} {endpoint}")


def test_the_engines_own_feeds_answer_while_one_of_them_is_connected() -> None:
    begun: list[bool] = []
    made = node(native=lambda: begun.append(True))
    made.begin()
    assert begun == [True]
    assert not made.answers()
    assert "check feed.endpoint" in str(made.failure())
    for words, endpoint, answers in (
        ("unreachable", 0, False),
        ("connected", 1, True),
        ("connected", 0, True),
        ("gap", 0, True),
        ("disconnected", 1, True),
        ("timed-out", 0, False),
    ):
        made.on_feed(note(words, endpoint))
        assert made.answers() == answers
    assert str(made.failure()) == "timed-out 0"
    made.stop()


def test_pyzmqs_feed_answers_when_the_publisher_does() -> None:
    publisher = Publisher()
    made = node("zmq", (publisher.endpoint,))
    made.begin()
    eventually(made.answers)
    made.listen(0)
    publisher.wait_subscriber()
    made.stop()
    publisher.close()


def test_where_nobody_answers_pyzmqs_feed_says_so() -> None:
    made = node("zmq")
    made.begin()
    assert not made.answers()
    assert "does not answer" in str(made.failure())
    made.stop()


@pytest.mark.parametrize("transactions", [False, True])
def test_a_silence_is_told_again_and_again(transactions: bool) -> None:
    made = node()
    assert list(made.notices(1e9)) == [], "it is not heard yet"
    made.listen(1000)
    told = []
    for second in range(1000, 1200):
        if transactions:
            made.on_transactions((second - 1000) // 50, second)
        told += [second for words in made.notices(second) if "nothing for 60 s" in words]
    assert told == ([] if transactions else [1060, 1120, 1180])
