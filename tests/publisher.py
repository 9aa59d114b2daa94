"""A node's end of a feed, for the tests of both feeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import zmq

PATIENCE_S = 20.0


class Publisher:
    """XPUB is PUB that also tells when somebody has subscribed, here each time: also when who had
    subscribed before has not quite left."""

    def __init__(
        self,
        endpoint: str = "tcp://127.0.0.1:0",
        kind: int = zmq.XPUB,
        options: Mapping[int, int | bytes] | None = None,
    ) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(kind)
        self.socket.set(zmq.SNDHWM, 0)
        if kind == zmq.XPUB:
            self.socket.set(zmq.XPUB_VERBOSER, 1)
        self.socket.set(zmq.IPV6, int("[" in endpoint))
        for option, value in (options or {}).items():
            self.socket.set(option, value)
        eventually(lambda: self.bound(endpoint))
        self.endpoint = self.socket.get_string(zmq.LAST_ENDPOINT)

    def bound(self, endpoint: str) -> bool:
        """False while a predecessor has not quite left."""
        try:
            self.socket.bind(endpoint)
        except zmq.ZMQError as error:
            if error.errno != zmq.EADDRINUSE:
                raise
            return False
        return True

    def wait_subscriber(self, topic: bytes = b"rawtx") -> None:
        assert self.socket.poll(PATIENCE_S * 1000), "nobody subscribed"
        assert self.socket.recv() == b"\x01" + topic

    def wait_gone(self, topic: bytes = b"rawtx") -> None:
        assert self.socket.poll(PATIENCE_S * 1000), "nobody left"
        assert self.socket.recv() == b"\x00" + topic

    def has_heard(self, word: bytes) -> bool:
        """Whether it has come by now, whatever came before."""
        while self.socket.poll(0):
            if self.socket.recv() == word:
                return True
        return False

    def send(self, raw: bytes, sequence: int, topic: bytes = b"rawtx") -> None:
        self.socket.send_multipart((topic, raw, sequence.to_bytes(4, "little")))

    def close(self) -> None:
        self.context.destroy(linger=0)


def eventually(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
