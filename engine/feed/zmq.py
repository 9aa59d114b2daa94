"""A node's `rawtx` publications through libzmq (pyzmq).

Bitcoin Core sends three frames a message: the topic, the transaction, and a 4-byte little-endian
number that counts the topic's messages (Bitcoin Core, doc/zmq.md). What the node or the network
between does wrong never raises here: it becomes a `Notice` and a counter. libzmq connects and
reconnects in the background, so whether anybody answers is known from its socket monitor only."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType

import zmq
from zmq.utils.monitor import recv_monitor_message

from engine.errors import FeedError

TOPIC = b"rawtx"
SEQUENCE_BYTES = 4
_SEQUENCES = 2 ** (8 * SEQUENCE_BYTES)

# A new block publishes its whole content at once, some 5,000 messages. Twenty blocks fit; beyond
# that libzmq stops reading, the node drops, and the sequence numbers tell how much.
RECEIVE_QUEUE_MESSAGES = 100_000
# Bounds what a peer can make libzmq allocate: twice the largest transaction that there can be, so
# that one that is merely too large still arrives and is reported as such.
MESSAGE_BYTES_MAX = 8_000_000
DRAIN_MAX = 1_000  # a flood must not keep the caller from the other sockets it serves
NOTICES_MAX = 1_000  # the counters go on counting when nobody takes the notices

# A node that vanished without a FIN is noticed after idle + interval * count = 25 s.
KEEPALIVE_IDLE_S = 10
KEEPALIVE_INTERVAL_S = 5
KEEPALIVE_COUNT = 3
CONNECT_TIMEOUT_MS = 5_000  # the kernel's own, two minutes, is too long without a word
RECONNECT_AFTER_S = 1.0

_EVENTS = (
    zmq.Event.CONNECTED
    | zmq.Event.CLOSED
    | zmq.Event.CONNECT_RETRIED
    | zmq.Event.HANDSHAKE_SUCCEEDED
    | zmq.Event.DISCONNECTED
)


class NoticeKind(StrEnum):
    """The first four are about the connection, the others about messages."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    UNREACHABLE = "unreachable"
    NOT_A_PUBLISHER = "not-a-publisher"
    MALFORMED = "malformed"
    GAP = "gap"
    RESTART = "restart"


@dataclass(frozen=True)
class Notice:
    """Something about the feed that a user should know; `text` is one sentence."""

    kind: NoticeKind
    text: str


@dataclass
class FeedCounters:
    """Since the feed was made."""

    messages: int = 0  # well-formed ones
    malformed: int = 0  # wrong frames; not handed on
    lost: int = 0  # by the node's own numbering
    restarts: int = 0  # the numbering went back
    connections: int = 0


class ZmqFeed:
    """A SUB socket on a node's rawtx endpoint, tcp://HOST:PORT or ipc://PATH; FeedError when it is
    neither. For one thread: poll `socket` for POLLIN with zmq.Poller (its ZMQ_FD alone is
    edge-triggered), then call `drain()` and `notices()`."""

    def __init__(self, endpoint: str) -> None:
        if not endpoint.startswith(("tcp://", "ipc://")):
            raise _no_endpoint(endpoint, "another transport")
        self.endpoint = endpoint
        self.connected = False  # as of the last notices() or wait_connected()
        self.first_sequence: int | None = None
        self.counters = FeedCounters()
        self._next_sequence = 0
        self._notices: deque[Notice] = deque(maxlen=NOTICES_MAX)
        self._trouble = self._unreachable()  # why there is no connection, if there is none
        self._complained = False  # one complaint until the connection stands again
        self._gave_up_at: float | None = None
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.SUB)
        self._configure()
        self._monitor = self.socket.get_monitor_socket(_EVENTS)
        try:
            self.socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise _no_endpoint(endpoint, zmq.strerror(error.errno or 0)) from error

    def __enter__(self) -> ZmqFeed:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._context.destroy(linger=0)

    def drain(self) -> Iterator[tuple[bytes, int]]:
        """What has arrived, at most DRAIN_MAX transactions, without waiting: each with the
        CLOCK_MONOTONIC ns at which libzmq had handed it over."""
        for _ in range(DRAIN_MAX):
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            t_rx_ns = time.monotonic_ns()
            if self._well_formed(frames):
                self._count(int.from_bytes(frames[2], "little"))
                yield frames[1], t_rx_ns

    def notices(self) -> list[Notice]:
        """What happened since the last call, oldest first. To be called regularly: it also tracks
        the connection, and makes it anew where libzmq would not."""
        while self._monitor.poll(0):
            self._connection_event()
        if self._gave_up_at is not None and time.monotonic() > self._gave_up_at + RECONNECT_AFTER_S:
            self._reconnect()
        notices = list(self._notices)
        self._notices.clear()
        return notices

    def wait_connected(self, timeout_s: float) -> None:
        """Returns once the node has answered as a ZeroMQ publisher, else raises FeedError."""
        deadline = time.monotonic() + timeout_s
        while not self.connected:
            left_ms = max(0, int((deadline - time.monotonic()) * 1000))
            if not self._monitor.poll(left_ms):
                raise FeedError(self._trouble.text)
            self._connection_event()

    def _configure(self) -> None:
        socket = self.socket
        socket.set(zmq.RCVHWM, RECEIVE_QUEUE_MESSAGES)
        socket.set(zmq.MAXMSGSIZE, MESSAGE_BYTES_MAX)
        socket.set(zmq.TCP_KEEPALIVE, 1)
        socket.set(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S)
        socket.set(zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL_S)
        socket.set(zmq.TCP_KEEPALIVE_CNT, KEEPALIVE_COUNT)
        socket.set(zmq.CONNECT_TIMEOUT, CONNECT_TIMEOUT_MS)
        # Only where it is asked for: with it `localhost` may mean ::1, where bitcoind is not bound.
        socket.set(zmq.IPV6, int("[" in self.endpoint))
        socket.subscribe(TOPIC)

    # ---- messages ----------------------------------------------------------------------------

    def _well_formed(self, frames: list[bytes]) -> bool:
        if len(frames) != 3:
            what = f"{len(frames)} frames in a message instead of 3"
        elif frames[0] != TOPIC:
            what = f"the topic {frames[0][:20]!r} instead of {TOPIC!r}"
        elif len(frames[2]) != SEQUENCE_BYTES:
            what = f"a sequence number of {len(frames[2])} bytes instead of {SEQUENCE_BYTES}"
        else:
            return True
        self.counters.malformed += 1
        self._notify(
            NoticeKind.MALFORMED,
            f"{self.endpoint} sent {what}, which was ignored: check that a Bitcoin Core node "
            "publishes there.",
        )
        return False

    def _count(self, sequence: int) -> None:
        self.counters.messages += 1
        if self.first_sequence is None:
            self.first_sequence = sequence
        elif sequence != self._next_sequence:
            self._out_of_sequence(sequence)
        self._next_sequence = (sequence + 1) % _SEQUENCES

    def _out_of_sequence(self, sequence: int) -> None:
        ahead = (sequence - self._next_sequence) % _SEQUENCES
        if ahead < _SEQUENCES // 2:
            self.counters.lost += ahead
            self._notify(
                NoticeKind.GAP,
                f"{ahead} transactions from {self.endpoint} were lost before number {sequence} "
                "(its queue was full, or the connection was cut): raise bitcoind's "
                "-zmqpubrawtxhwm.",
            )
            return
        self.counters.restarts += 1
        self._notify(
            NoticeKind.RESTART,
            f"the numbering of {self.endpoint} went back to {sequence} where {self._next_sequence} "
            "was due, so the node was restarted and an unknown number of transactions is lost: "
            "nothing to do if that was meant.",
        )

    # ---- connection --------------------------------------------------------------------------

    def _connection_event(self) -> None:
        """libzmq's order: CONNECTED or CLOSED (refused, unreachable); after CONNECTED either
        HANDSHAKE_SUCCEEDED or DISCONNECTED. An unknown host name is a CONNECT_RETRIED alone."""
        match recv_monitor_message(self._monitor)["event"]:
            case zmq.Event.CONNECTED:
                self._trouble = self._not_a_publisher()
            case zmq.Event.CLOSED:
                self._trouble = self._unreachable()
            case zmq.Event.HANDSHAKE_SUCCEEDED:
                self._opened()
            case zmq.Event.DISCONNECTED:
                self._gave_up_at = time.monotonic()
                self._complain(self._disconnected() if self.connected else self._trouble)
                self.connected = False
            case zmq.Event.CONNECT_RETRIED:
                self._gave_up_at = None
                self._complain(self._trouble)

    def _opened(self) -> None:
        self.connected = True
        self._complained = False
        self.counters.connections += 1
        # After a reconnection libzmq subscribes again only when the socket is used next.
        self.socket.get(zmq.EVENTS)
        self._notify(NoticeKind.CONNECTED, f"connected to the node at {self.endpoint}.")

    def _reconnect(self) -> None:
        """libzmq itself never tries again after a breach of the protocol, such as a message above
        MESSAGE_BYTES_MAX: it disconnects without the CONNECT_RETRIED that follows otherwise."""
        self._gave_up_at = None
        with contextlib.suppress(zmq.ZMQError):  # libzmq may have forgotten the endpoint
            self.socket.disconnect(self.endpoint)
        self.socket.connect(self.endpoint)

    def _complain(self, notice: Notice) -> None:
        if not self._complained:
            self._complained = True
            self._notices.append(notice)

    def _unreachable(self) -> Notice:
        published_at = self.endpoint.replace("ipc://", "unix:")  # bitcoind's way to write it
        return Notice(
            NoticeKind.UNREACHABLE,
            f"the node at {self.endpoint} does not answer (no connection, retrying): start "
            f"bitcoind with -zmqpubrawtx={published_at} or correct feed.endpoint.",
        )

    def _not_a_publisher(self) -> Notice:
        return Notice(
            NoticeKind.NOT_A_PUBLISHER,
            f"what answers at {self.endpoint} is not a ZeroMQ publisher (retrying): correct "
            "feed.endpoint, or the -zmqpubrawtx of bitcoind.",
        )

    def _disconnected(self) -> Notice:
        return Notice(
            NoticeKind.DISCONNECTED,
            f"the connection to the node at {self.endpoint} was lost, and with it what is "
            "published meanwhile (retrying): start bitcoind again if it has stopped.",
        )

    def _notify(self, kind: NoticeKind, text: str) -> None:
        self._notices.append(Notice(kind, text))


def _no_endpoint(endpoint: str, reason: str) -> FeedError:
    return FeedError(
        f"feed.endpoint {endpoint!r} is no endpoint of a node ({reason}): write it as "
        "tcp://HOST:PORT or ipc://PATH, the same as bitcoind's -zmqpubrawtx."
    )
