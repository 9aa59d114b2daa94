"""Transactions from block files, and from a node through libzmq: real sockets at both ends."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from bitcoin.core import CBlock, Hash
from bitcoin.core.serialize import VarIntSerializer

from engine._native import lib
from engine.errors import FeedError
from engine.feed.replay import read_block, transactions
from engine.feed.synthetic import Plan, Traffic
from engine.feed.thread import ZmqThread
from engine.feed.zmq import DRAIN_MAX, MESSAGE_BYTES_MAX, NOTICES_MAX, NoticeKind, ZmqFeed
from tests.publisher import PATIENCE_S, Publisher, eventually

# ---- block files ---------------------------------------------------------------------------------


def some_transactions(count: int) -> list[bytes]:
    return [tx.raw for tx in Traffic(seed=7, whale_sat=1).transactions(Plan(count))]


def block_of(raw_transactions: list[bytes], count: bytes | None = None) -> bytes:
    """A raw block with regtest's proof of work: every second header has it."""
    bits = (0x207FFFFF).to_bytes(4, "little")
    headers = (bytes(72) + bits + nonce.to_bytes(4, "little") for nonce in range(1000))
    header = next(h for h in headers if int.from_bytes(Hash(h), "little") < 0x7FFFFF << 232)
    return (
        header
        + (count or VarIntSerializer.serialize(len(raw_transactions)))
        + b"".join(raw_transactions)
    )


@pytest.mark.parametrize("count", [1, 252, 253, 1000])
def test_a_block_file_is_its_transactions(tmp_path: Path, count: int) -> None:
    raw = some_transactions(count)
    file = tmp_path / "block.bin"
    file.write_bytes(block_of(raw))
    assert [bytes(tx) for tx in read_block(file)] == raw


REAL_BLOCKS = (
    *("100000", "300025", "413567", "481829", "482683"),
    *("562500", "617509", "757739", "757753", "866342"),
)


@pytest.mark.parametrize("height", REAL_BLOCKS)
def test_real_blocks_are_cut_as_bitcoinlib_cuts_them(shared_data: Path, height: str) -> None:
    file = shared_data / "blocks" / f"block_{height}.bin"
    theirs = CBlock.deserialize(file.read_bytes()).vtx
    ours = read_block(file)
    assert theirs[0].is_coinbase()
    assert [bytes(tx) for tx in ours] == [tx.serialize() for tx in theirs]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "0 bytes"),
        (b"\x01" * 80, "80 bytes"),
        (block_of(some_transactions(3)).hex().encode(), "proof of work"),
        (b"\xf9\xbe\xb4\xd9\x00\x01\x00\x00" + block_of(some_transactions(3)), "proof of work"),
        (bytes(1000), "proof of work"),
        (b"\xff" * 1000, "proof of work"),
        (block_of([])[:80] + b"\0", "without a transaction"),
        (block_of([b""])[:80] + b"\xfd\x01", "without a transaction"),
        (block_of(some_transactions(3), count=b"\x04"), "transaction 4 of 4"),
        (block_of(some_transactions(3), count=b"\xfd\x03\xff"), "of 65283"),
        (block_of(some_transactions(3), count=b"\xff" * 9), f"of {2**64 - 1}"),
        (block_of(some_transactions(3), count=b"\x02"), "bytes behind its 2 transactions"),
        (block_of(some_transactions(3)) + b"\0", "1 bytes behind its 3 transactions"),
    ],
)
def test_what_is_no_block_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "wrong.bin"
    file.write_bytes(content)
    with pytest.raises(FeedError) as caught:
        read_block(file)
    assert str(file) in str(caught.value)
    assert words in str(caught.value)
    assert "getblock" in str(caught.value)


def test_a_block_cut_anywhere_is_refused() -> None:
    block = block_of(some_transactions(4))
    for end in range(len(block)):
        with pytest.raises(FeedError, match=r"cut\.bin"):
            list(transactions(block[:end], "cut.bin"))


def test_a_damaged_block_never_gives_more_than_its_own_bytes() -> None:
    whole = block_of(some_transactions(3))
    for at in range(80, len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        try:
            parts = list(transactions(bytes(damaged)))
        except FeedError:
            continue
        assert b"".join(parts) == damaged[81:]


@pytest.mark.parametrize("name", ["absent.bin", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(FeedError, match="cannot be read") as caught:
        read_block(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


# ---- a node --------------------------------------------------------------------------------------


@pytest.fixture
def node() -> Iterator[Publisher]:
    publisher = Publisher()
    yield publisher
    publisher.close()


@pytest.fixture
def feed(node: Publisher) -> Iterator[ZmqFeed]:
    with ZmqFeed(node.endpoint) as feed:
        feed.wait_connected(PATIENCE_S)
        node.wait_subscriber()
        assert [notice.kind for notice in feed.notices()] == [NoticeKind.CONNECTED]
        yield feed


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Bound by nobody who listens: connections are refused, and no other test gets the port."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def receive(feed: ZmqFeed, count: int) -> list[bytes]:
    """The next `count` transactions."""
    poller = zmq.Poller()
    poller.register(feed.socket, zmq.POLLIN)
    received: list[bytes] = []
    while len(received) < count:
        assert poller.poll(PATIENCE_S * 1000), f"{len(received)} of {count} transactions arrived"
        received += [raw for raw, _ in feed.drain()]
    assert len(received) == count
    return received


def test_transactions_arrive_whole_in_order_and_stamped(node: Publisher, feed: ZmqFeed) -> None:
    sent = some_transactions(50)
    before_ns = time.monotonic_ns()
    for number, raw in enumerate(sent):
        node.send(raw, number)
    stamped: list[tuple[bytes, int]] = []
    eventually(lambda: stamped.extend(feed.drain()) or len(stamped) >= len(sent))
    assert [raw for raw, _ in stamped] == sent
    times_ns = [before_ns, *(t_rx_ns for _, t_rx_ns in stamped), time.monotonic_ns()]
    assert times_ns == sorted(times_ns)
    assert feed.first_sequence == 0
    assert feed.counters.messages == 50
    assert feed.notices() == []
    assert list(feed.drain()) == []


def test_a_flood_is_handed_over_in_portions(node: Publisher, feed: ZmqFeed) -> None:
    for number in range(2 * DRAIN_MAX + 1):
        node.send(b"tx", number)
    portions: list[int] = []
    while sum(portions) <= 2 * DRAIN_MAX:
        assert feed.socket.poll(PATIENCE_S * 1000)
        portions.append(len(list(feed.drain())))
    assert max(portions) <= DRAIN_MAX
    assert feed.counters.lost == 0


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([b"rawtx"], "1 frames"),
        ([b"rawtx", b"tx"], "2 frames"),
        ([b"rawtx", b"tx", b"\0\0\0\0", b"more"], "4 frames"),
        ([b"rawtx", *[b""] * 200], "201 frames"),
        ([b"rawtx2", b"tx", b"\0\0\0\0"], "b'rawtx2'"),
        ([b"rawtx", b"tx", b""], "0 bytes"),
        ([b"rawtx", b"tx", b"\0" * 8], "8 bytes"),
    ],
)
def test_wrong_frames_are_told_and_skipped(
    node: Publisher, feed: ZmqFeed, frames: list[bytes], words: str
) -> None:
    node.send(b"first", 5)
    node.socket.send_multipart(frames)
    node.send(b"second", 6)
    assert receive(feed, 2) == [b"first", b"second"]
    (notice,) = feed.notices()
    assert notice.kind is NoticeKind.MALFORMED
    assert words in notice.text
    assert node.endpoint in notice.text
    assert (feed.counters.messages, feed.counters.malformed, feed.counters.lost) == (2, 1, 0)


def test_notices_that_nobody_takes_stay_bounded(node: Publisher, feed: ZmqFeed) -> None:
    for _ in range(NOTICES_MAX + 100):
        node.socket.send_multipart([b"rawtx", b"tx"])
    node.send(b"last", 0)
    assert receive(feed, 1) == [b"last"]
    assert len(feed.notices()) == NOTICES_MAX
    assert feed.counters.malformed == NOTICES_MAX + 100


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
    node: Publisher, feed: ZmqFeed, sequences: list[int], lost: int, restarts: int
) -> None:
    for sequence in sequences:
        node.send(b"tx", sequence)
    receive(feed, len(sequences))
    assert feed.first_sequence == sequences[0]
    assert (feed.counters.lost, feed.counters.restarts) == (lost, restarts)
    notices = feed.notices()
    gaps = [notice.text for notice in notices if notice.kind is NoticeKind.GAP]
    assert sum(int(text.split()[0]) for text in gaps) == lost
    assert len(notices) - len(gaps) == restarts
    assert all(notice.kind is NoticeKind.RESTART for notice in notices if notice.text not in gaps)
    assert all(node.endpoint in notice.text for notice in notices)


def test_a_node_that_is_not_there(closed_port: int) -> None:
    endpoint = f"tcp://127.0.0.1:{closed_port}"
    with ZmqFeed(endpoint) as feed:
        with pytest.raises(FeedError) as caught:
            feed.wait_connected(0.5)
        for words in (endpoint, "does not answer", f"-zmqpubrawtx={endpoint}", "feed.endpoint"):
            assert words in str(caught.value)
        time.sleep(0.5)  # several retries
        (notice,) = feed.notices()
        assert notice.kind is NoticeKind.UNREACHABLE
        assert notice.text == str(caught.value)
        assert not feed.connected
        assert list(feed.drain()) == []


def test_a_node_that_starts_later(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/node"
    with ZmqFeed(endpoint) as feed:
        with pytest.raises(FeedError, match=f"-zmqpubrawtx=unix:{tmp_path}/node"):
            feed.wait_connected(0)
        node = Publisher(endpoint)
        try:
            feed.wait_connected(PATIENCE_S)
            node.wait_subscriber()
            node.send(b"tx", 0)
            assert receive(feed, 1) == [b"tx"]
            assert feed.connected
            assert feed.notices()[-1].kind is NoticeKind.CONNECTED
        finally:
            node.close()


def test_a_node_that_restarts(node: Publisher, feed: ZmqFeed) -> None:
    node.send(b"before", 41)
    assert receive(feed, 1) == [b"before"]
    node.close()
    kinds: list[NoticeKind] = []

    def told() -> bool:
        kinds.extend(notice.kind for notice in feed.notices())
        return bool(kinds)

    eventually(told)
    assert kinds == [NoticeKind.DISCONNECTED]
    assert not feed.connected
    successor = Publisher(node.endpoint)
    try:
        feed.wait_connected(PATIENCE_S)
        successor.wait_subscriber()
        successor.send(b"after", 0)
        assert receive(feed, 1) == [b"after"]
    finally:
        successor.close()
    kinds = [notice.kind for notice in feed.notices()]
    assert kinds[:2] == [NoticeKind.CONNECTED, NoticeKind.RESTART]
    assert feed.counters.connections == 2


def test_an_oversized_message_costs_a_reconnection_only(node: Publisher, feed: ZmqFeed) -> None:
    node.send(b"before", 0)
    node.send(bytes(MESSAGE_BYTES_MAX + 1), 1)
    assert receive(feed, 1) == [b"before"]
    kinds: list[NoticeKind] = []

    def reconnected() -> bool:
        kinds.extend(notice.kind for notice in feed.notices())
        return kinds == [NoticeKind.DISCONNECTED, NoticeKind.CONNECTED]

    eventually(reconnected)
    eventually(lambda: node.has_heard(b"\x01rawtx"))
    node.send(b"after", 2)
    assert receive(feed, 1) == [b"after"]
    assert feed.counters.lost == 1


def test_the_largest_message_that_is_let_through(node: Publisher, feed: ZmqFeed) -> None:
    node.send(bytes(MESSAGE_BYTES_MAX), 0)
    assert [len(raw) for raw in receive(feed, 1)] == [MESSAGE_BYTES_MAX]


def assert_stranger(endpoint: str) -> None:
    with ZmqFeed(endpoint) as feed:
        with pytest.raises(FeedError, match="is not a ZeroMQ publisher") as caught:
            feed.wait_connected(1.0)
        assert endpoint in str(caught.value)
        kinds = [notice.kind for notice in feed.notices()]
        assert kinds in ([NoticeKind.NOT_A_PUBLISHER], [])  # a silent one is given 30 s
        assert not feed.connected


def test_another_kind_of_zeromq_socket_is_told() -> None:
    node = Publisher(kind=zmq.REP)
    try:
        assert_stranger(node.endpoint)
    finally:
        node.close()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x" * 100])
def test_a_server_of_something_else_is_told(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    if answer:
                        connection.recv(64)
                        connection.sendall(answer)
                    else:
                        connection.recv(10_000)
                        connection.recv(10_000)

        server = threading.Thread(target=serve)
        server.start()
        try:
            assert_stranger(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            server.join(PATIENCE_S)


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "tcp://",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:*",
        "tcp://*:28332",
        "127.0.0.1:28332",
        "http://127.0.0.1:28332",
        "inproc://node",
        "ipc://" + "x" * 200,
    ],
)
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(FeedError, match="no endpoint of a node") as caught:
        ZmqFeed(endpoint)
    assert repr(endpoint) in str(caught.value)
    assert "tcp://HOST:PORT" in str(caught.value)


def test_the_thread_says_how_each_transaction_follows() -> None:
    """A gap or a restart makes what follows suspicious, and is found out here."""
    taken: list[tuple[bytes, int]] = []

    def take(raw: bytes, _t_rx_ns: int, how: int) -> bool:
        taken.append((raw, how))
        return len(taken) != 2  # once there is no room, and it is offered again

    publisher = Publisher()
    feed = ZmqThread(ZmqFeed(publisher.endpoint), take, spin=False)
    feed.start()
    publisher.wait_subscriber()
    for number, raw in ((7, b"a"), (8, b"b"), (10, b"c"), (11, b"d"), (3, b"e"), (4, b"f")):
        publisher.send(raw, number)
    eventually(lambda: len(taken) == 7)
    feed.stop()
    publisher.close()
    following, gap, restart = lib.HP_OFFER_NEXT, lib.HP_OFFER_BEHIND_GAP, lib.HP_OFFER_RESTARTED
    assert taken == [
        *((b"a", following), (b"b", following), (b"b", following)),
        *((b"c", gap), (b"d", following), (b"e", restart), (b"f", following)),
    ]


def test_a_thread_that_never_began_can_be_stopped() -> None:
    ZmqThread(ZmqFeed("tcp://127.0.0.1:9"), lambda *_: True, spin=False).stop()
