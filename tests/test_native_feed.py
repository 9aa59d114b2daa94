"""The engine's own subscriber, through the engine: real libzmq publishers, and strangers.

What needs a clock, a byte at a time or a peer that breaks the protocol is in tests/c/feed.c."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from engine.core import Engine, EngineOptions
from engine.feed.native import FeedAddress, resolve_endpoint
from engine.records import Block, Body, FeedNote, Signal
from engine.tx import walk_block
from tests.peers import book_of, deposit, engine_for, txid_of
from tests.publisher import PATIENCE_S, Publisher

TX_BYTES_MAX = 4_000_000


class Listener:
    """An engine that listens to the given endpoints, worked step by step."""

    def __init__(self, *endpoints: str, sequence: bool = False):
        self.engine = engine_for(EngineOptions())
        for number, endpoint in enumerate(endpoints):
            assert self.engine.add_feed(resolve_endpoint(endpoint, sequence)) == number
        self.told: list[Body] = []

    def until(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not happened():
            assert time.monotonic() < deadline, f"it did not happen; notes: {self.notes()}"
            self.engine.poll(20_000_000)

    def watch(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.engine.poll(20_000_000)

    def notes(self) -> list[FeedNote]:
        """All so far."""
        self.told += self.engine.events()
        return [event for event in self.told if isinstance(event, FeedNote)]

    def kinds(self) -> list[str]:
        return [note.note for note in self.notes()]

    def signals(self) -> list[str]:
        """Their txids."""
        self.told += self.engine.events()
        return [event.txid for event in self.told if isinstance(event, Signal)]

    def arrived(self) -> int:
        return self.engine.stats()["transactions"]


@contextmanager
def listening(*endpoints: str, sequence: bool = False) -> Iterator[Listener]:
    listener = Listener(*endpoints, sequence=sequence)
    try:
        yield listener
    finally:
        listener.engine.close()


def connect(listener: Listener, *nodes: Publisher) -> None:
    """Until every node knows what is subscribed to."""
    for node in nodes:
        listener.until(lambda node=node: bool(node.socket.poll(0)))  # type: ignore[misc]
        node.wait_subscriber()


@pytest.fixture
def node() -> Iterator[Publisher]:
    publisher = Publisher()
    yield publisher
    publisher.close()


@pytest.fixture
def feed(node: Publisher, each_transport: str) -> Iterator[Listener]:
    with listening(node.endpoint) as listener:
        connect(listener, node)
        assert listener.kinds() == ["connected"]
        yield listener


def test_transactions_arrive_whole_and_in_order(node: Publisher, feed: Listener) -> None:
    sent = [deposit("kraken", nonce) for nonce in range(500)]
    for number, raw in enumerate(sent):
        node.send(raw, number)
    feed.until(lambda: feed.arrived() >= 500)
    assert feed.signals() == [txid_of(raw) for raw in sent]
    assert feed.kinds() == ["connected"]
    assert feed.engine.stats()["malformed"] == 0


def test_real_blocks_arrive_as_they_are(shared_data: Path, node: Publisher, feed: Listener) -> None:
    raws = list(walk_block((shared_data / "blocks" / "block_757739.bin").read_bytes()))
    for number, raw in enumerate(raws):
        node.send(bytes(raw), number)
    feed.until(lambda: feed.arrived() >= len(raws))
    stats = feed.engine.stats()
    assert (stats["transactions"], stats["malformed"], stats["coinbases"]) == (len(raws), 0, 1)
    assert feed.kinds() == ["connected"]


@pytest.mark.parametrize("endpoint", ["ipc://{}/node", "tcp://[::1]:0", "tcp://localhost:0"])
def test_every_sort_of_endpoint(endpoint: str, tmp_path: Path) -> None:
    if "::1" in endpoint and not has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    node = Publisher(endpoint.format(tmp_path).replace("localhost", "127.0.0.1"))
    try:
        port = node.endpoint.rpartition(":")[2]
        ours = endpoint.format(tmp_path).replace(":0", f":{port}")
        with listening(ours) as listener:
            connect(listener, node)
            node.send(deposit("kraken"), 0)
            listener.until(lambda: listener.arrived() == 1)
            assert listener.signals() == [txid_of(deposit("kraken"))]
            assert ours in listener.notes()[0].words
    finally:
        node.close()


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_of_two_nodes_the_first_copy_counts() -> None:
    nodes = [Publisher(), Publisher()]
    try:
        with listening(*(node.endpoint for node in nodes)) as listener:
            connect(listener, *nodes)
            for number in range(20):
                for node in nodes:
                    node.send(deposit("kraken", number), number + 7)
            nodes[1].send(deposit("kraken", 20), 27)
            nodes[0].send(deposit("kraken", 21), 28)  # its number 27 never came
            listener.until(lambda: listener.arrived() == 42)
            assert sorted(listener.signals()) == sorted(
                txid_of(deposit("kraken", number)) for number in range(22)
            )
            assert listener.engine.stats()["copies"] == 20
            *connected, gap = listener.notes()
            assert {(note.note, note.endpoint) for note in connected} == {
                ("connected", 0),
                ("connected", 1),
            }
            assert (gap.note, gap.endpoint, gap.count) == ("gap", 0, 1)
    finally:
        for node in nodes:
            node.close()


HASH = bytes(range(32))


def test_the_sequence_topic_tells_of_blocks(node: Publisher) -> None:
    with listening(node.endpoint, sequence=True) as listener:
        connect(listener, node)
        node.wait_subscriber(b"sequence")
        node.send(HASH + b"C", 5, b"sequence")
        node.send(HASH + b"A" + bytes(8), 6, b"sequence")
        node.send(HASH + b"D", 8, b"sequence")
        node.send(deposit("kraken"), 0)
        listener.until(lambda: listener.arrived() == 1)
        assert listener.kinds() == ["connected", "gap"]
        gap = listener.notes()[1]
        assert (gap.count, gap.node_sequence) == (1, 8)
        assert "-zmqpubsequencehwm" in gap.words
        blocks = [event for event in listener.told if isinstance(event, Block)]
        assert [(block.hash, block.connected) for block in blocks] == [
            (HASH.hex(), True),  # Bitcoin Core sends them as they are displayed
            (HASH.hex(), False),
        ]


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([b"rawtx"], "1 frames"),
        ([b"rawtx", b"tx"], "2 frames"),
        ([b"rawtx", b"tx", b"\0\0\0\0", b"more"], "4 frames"),
        ([b"rawtx", *[b""] * 200], "201 frames"),
        ([b"rawtx2", b"tx", b"\0\0\0\0"], "'rawtx2'"),
        ([b"rawtx", b"tx", b""], "0 bytes"),
        ([b"rawtx", b"tx", b"\0" * 8], "8 bytes"),
        ([b"rawtx", b"tx", bytes(TX_BYTES_MAX)], "4000000 bytes"),
    ],
)
def test_wrong_frames_are_told_and_skipped(
    node: Publisher, feed: Listener, frames: list[bytes], words: str
) -> None:
    node.send(deposit("kraken", 1), 5)
    node.socket.send_multipart(frames)
    node.send(deposit("kraken", 2), 6)
    feed.until(lambda: feed.arrived() == 2)
    assert len(feed.signals()) == 2
    _, note = feed.notes()
    assert (note.note, note.count) == ("malformed", 1)
    assert words in note.words
    assert node.endpoint in note.words


def test_a_flood_of_wrong_messages_makes_few_notes(node: Publisher, feed: Listener) -> None:
    for _ in range(5000):
        node.socket.send_multipart([b"rawtx", b"tx"])
    node.send(deposit("kraken"), 0)
    feed.until(lambda: sum(note.count for note in feed.notes()) == 5000)
    assert len(feed.notes()) < 1000
    assert feed.arrived() == 1


LAST = 2**32 - 1


@pytest.mark.parametrize(
    ("sequences", "lost", "restarts"),
    [
        ([0, 1, 2], 0, 0),
        ([9000, 9001], 0, 0),  # where we came in is no gap
        ([0, 2], 1, 0),
        ([10, 14, 15, 17], 4, 0),
        ([LAST - 1, LAST, 0, 1], 0, 0),
        ([LAST - 1, 1], 2, 0),
        ([7, 7], 0, 1),
        ([100, 0, 1], 0, 1),
        ([100, 99, 105], 5, 1),
        ([0, 2**31], 2**31 - 1, 0),
        ([0, 2**31 + 1], 0, 1),
    ],
)
def test_the_numbering_tells_of_losses_and_restarts(
    node: Publisher, feed: Listener, sequences: list[int], lost: int, restarts: int
) -> None:
    for nonce, sequence in enumerate(sequences):
        node.send(deposit("kraken", nonce), sequence)
    feed.until(lambda: feed.arrived() == len(sequences))
    notes = feed.notes()[1:]
    gaps = [note for note in notes if note.note == "gap"]
    assert sum(note.count for note in gaps) == lost
    assert [int(note.words.split()[0]) for note in gaps] == [note.count for note in gaps]
    assert [note.note for note in notes].count("restart") == restarts == len(notes) - len(gaps)
    assert all(node.endpoint in note.words for note in notes)
    assert len(feed.signals()) == len(sequences)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Bound by nobody who listens: connections are refused, and no other test gets the port."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def test_a_node_that_is_not_there(closed_port: int) -> None:
    endpoint = f"tcp://127.0.0.1:{closed_port}"
    with listening(endpoint) as listener:
        listener.watch(1.0)  # several retries
        (note,) = listener.notes()
        assert note.note == "unreachable"
        for words in (endpoint, "does not answer", "refused", f"-zmqpubrawtx={endpoint}"):
            assert words in note.words


def test_a_node_that_starts_later(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/node"
    with listening(endpoint) as listener:
        listener.watch(0.3)
        assert listener.kinds() == ["unreachable"]
        assert f"-zmqpubrawtx=unix:{tmp_path}/node" in listener.notes()[0].words
        node = Publisher(endpoint)
        try:
            connect(listener, node)
            node.send(deposit("kraken"), 0)
            listener.until(lambda: listener.arrived() == 1)
            assert listener.kinds() == ["unreachable", "connected"]
        finally:
            node.close()


def test_a_node_that_restarts(node: Publisher, feed: Listener) -> None:
    node.send(deposit("kraken", 1), 41)
    feed.until(lambda: feed.arrived() == 1)
    node.close()
    feed.until(lambda: feed.kinds() == ["connected", "disconnected"])
    feed.watch(0.5)
    successor = Publisher(node.endpoint)
    try:
        connect(feed, successor)
        successor.send(deposit("kraken", 2), 0)
        feed.until(lambda: feed.arrived() == 2)
    finally:
        successor.close()
    assert feed.kinds()[:4] == ["connected", "disconnected", "connected", "restart"]


def test_an_oversized_message_costs_a_reconnection_only(node: Publisher, feed: Listener) -> None:
    node.send(deposit("kraken", 1), 0)
    node.send(bytes(TX_BYTES_MAX + 1), 1)
    feed.until(lambda: feed.kinds() == ["connected", "disconnected", "connected"])
    assert "4000000 bytes" in feed.notes()[1].words
    feed.until(lambda: node.has_heard(b"\x01rawtx"))
    node.send(deposit("kraken", 2), 2)
    feed.until(lambda: feed.arrived() == 2)
    assert feed.kinds()[3:] == ["gap"]


def test_the_largest_message_that_is_let_through(node: Publisher, feed: Listener) -> None:
    for number in range(3):
        node.send(bytes(TX_BYTES_MAX), number)
        node.send(deposit("kraken", number), number + 3)
    feed.until(lambda: feed.arrived() == 6)
    assert len(feed.signals()) == 3
    assert "disconnected" not in feed.kinds()


def test_a_publisher_with_heartbeats_keeps_us() -> None:
    """libzmq pings, and closes a connection from which no answer comes."""
    node = Publisher(options={zmq.HEARTBEAT_IVL: 50, zmq.HEARTBEAT_TIMEOUT: 200})
    try:
        with listening(node.endpoint) as listener:
            connect(listener, node)
            listener.watch(1.0)
            node.send(deposit("kraken"), 0)
            listener.until(lambda: listener.arrived() == 1)
            assert listener.kinds() == ["connected"]
    finally:
        node.close()


# ---- strangers -----------------------------------------------------------------------------------


def assert_stranger(endpoint: str, words: str) -> None:
    with listening(endpoint) as listener:
        listener.until(lambda: bool(listener.notes()))
        listener.watch(0.3)  # one complaint only
        (note,) = listener.notes()
        assert note.note == "not-zmtp"
        assert f"what answers at {endpoint} is not a ZeroMQ publisher" in note.words
        assert words in note.words


def test_another_kind_of_zeromq_socket_is_told() -> None:
    node = Publisher(kind=zmq.REP)
    try:
        assert_stranger(node.endpoint, "type 'REP'")
    finally:
        node.close()


def test_a_publisher_that_wants_keys_is_told() -> None:
    if not zmq.has("curve"):
        pytest.skip("this libzmq has no CURVE")
    options = {zmq.CURVE_SECRETKEY: zmq.curve_keypair()[1], zmq.CURVE_SERVER: 1}
    node = Publisher(options=options)
    try:
        assert_stranger(node.endpoint, "mechanism 'CURVE'")
    finally:
        node.close()


@contextmanager
def server(answer: bytes | None) -> Iterator[str]:
    """Its endpoint; None: it closes at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    if answer is None:
                        continue
                    connection.recv(64)
                    connection.sendall(answer)
                    connection.recv(10_000)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE_S)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "without a word"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x" * 100, "HTTP, as bitcoind's RPC port does"),
        (b"\x15\x03\x03\x00\x02\x02\x32", "TLS"),
        (b"\xff" + bytes(8) + b"\x7f\x01\x01\0\0", "before 3.0"),
        (b"\xf9\xbe\xb4\xd9version" + bytes(100), "no greeting"),
    ],
)
def test_a_server_of_something_else_is_told(answer: bytes | None, words: str) -> None:
    with server(answer) as endpoint:
        assert_stranger(endpoint, words)


@pytest.mark.parametrize(
    ("ip", "path"), [("localhost", None), ("127.0.0.1x", None), (None, "x" * 108), (None, None)]
)
def test_what_is_no_address_is_refused(ip: str | None, path: str | None) -> None:
    engine = Engine(book_of("kraken"))
    with pytest.raises(Exception, match="the feed tcp://node"):
        engine.add_feed(FeedAddress("tcp://node", ip, 1, path, False))
