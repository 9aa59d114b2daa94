"""`harpoon bench hot`: that its floors, its node and its exchange measure what they say, and that
all contenders trade."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from websockets.asyncio.client import connect

from engine.cli import main
from engine.feed.zmq import ZmqFeed
from engine.tx import decode
from harpoon_bench import hot_feed, hot_rate
from harpoon_bench._floor import ffi, lib
from harpoon_bench.children import Child, exchange_on
from harpoon_bench.hot_relay import GREETING, READY
from harpoon_bench.rivals import Strategy
from harpoon_bench.table import QUANTILES, Row, medians
from harpoon_bench.tls_peer import SO_TIMESTAMPNS
from harpoon_bench.traffic import DEPOSIT_SAT, Messages, deposit
from tests.peers import transaction, wallet

SECOND_NS = 1_000_000_000
TWO_CORES = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="`bench hot` wants two cores, here is one"
)


# ---- rows ----------------------------------------------------------------------------------------


def every(value: int, **others: int) -> dict[str, int]:
    return {**dict.fromkeys(QUANTILES, value), **others}


def test_row_is_met_when_each_of_its_targets_is() -> None:
    ours, theirs = every(100, p99=300), every(100, p99=200)
    assert Row("", "ns", ours, "", theirs).met is None
    assert Row("", "ns", ours, "", theirs, 1.0).met is True
    assert Row("", "ns", ours, "", theirs, 1.0, 1.4).met is False
    assert Row("", "ns", ours, "", theirs, None, 1.5).met is True
    assert Row("", "ns", ours, "", theirs, None, 1.5).as_json()["target_p99"] == 1.5


def test_more_is_better_of_a_rate() -> None:
    row = Row("", "tx/s", every(400), "", every(200), 1.0)
    assert row.ratio("p50") == 0.5
    assert row.met


def test_medians_over_rounds_ignore_one_bad_round() -> None:
    assert medians([every(1), every(900), every(2)]) == every(2)


# ---- traffic -------------------------------------------------------------------------------------


def test_deposits_are_where_they_are_said_to_be() -> None:
    common = [transaction({wallet("somebody"): 1}, nonce) for nonce in range(3)]
    messages = Messages.planted(common, deposits=4, every=3, seed=1)
    assert list(messages.deposits) == [2, 5, 8, 11]
    paid = [decode(raw).outputs[0].value_sat for raw in messages.transactions]
    assert [n for n, value in enumerate(paid) if value == DEPOSIT_SAT] == [2, 5, 8, 11]
    assert len({messages.transactions[n] for n in messages.deposits}) == 4
    assert messages.at[12] == len(messages.raw)


def test_an_order_names_the_deposit_that_it_answers() -> None:
    messages = Messages((deposit(), deposit()), 1)
    txid = decode(messages.transactions[1]).txid
    assert messages.number(txid) == 1
    assert messages.number("w1") == 1


# ---- the node ------------------------------------------------------------------------------------


@pytest.fixture
def node() -> Iterator[tuple[Any, int]]:
    port = ffi.new("uint16_t *")
    publisher = lib.hp_publisher_new(port)
    yield publisher, port[0]
    lib.hp_publisher_free(publisher)


def messages_of_all_sizes() -> Messages:
    """With frames of one length byte and of eight."""
    outputs = [{wallet(str(n)): 1 + n for n in range(count)} for count in (1, 2, 200, 3)]
    return Messages(tuple(transaction(paid, n) for n, paid in enumerate(outputs)), 1)


def subscribed(node: tuple[Any, int]) -> ZmqFeed:
    """libzmq's own SUB socket."""
    feed = ZmqFeed(f"tcp://127.0.0.1:{node[1]}")
    assert lib.hp_publisher_accept(node[0], 5 * SECOND_NS) == 0
    feed.wait_connected(5)
    return feed


def drained(feed: ZmqFeed, count: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < count:
        assert feed.socket.poll(20_000), f"only {len(found)} of {count} came"
        found += [raw for raw, _ in feed.drain()]
    return found


def test_node_keeps_its_pace_and_libzmq_understands_it(node: tuple[Any, int]) -> None:
    messages = messages_of_all_sizes()
    sent_ns = ffi.new("int64_t[]", len(messages))
    with subscribed(node) as feed:
        before_ns = time.time_ns()
        code = lib.hp_publisher_paced(
            node[0], messages.raw, messages.at, len(messages), 2_000_000, sent_ns
        )
        assert code == 0
        assert tuple(drained(feed, len(messages))) == messages.transactions
        assert (feed.counters.lost, feed.counters.malformed, feed.first_sequence) == (0, 0, 0)
    due_ns = [before_ns + (number + 1) * 2_000_000 for number in range(len(messages))]
    assert all(sent >= due for sent, due in zip(sent_ns, due_ns, strict=True)), "none is early"


def test_node_in_a_hurry_loses_nothing(node: tuple[Any, int]) -> None:
    messages, total = messages_of_all_sizes(), 10_000
    with subscribed(node) as feed:
        publish = threading.Thread(
            target=lib.hp_publisher_burst,
            args=(node[0], ffi.from_buffer(messages.raw), messages.at, len(messages), total),
        )
        publish.start()
        found = drained(feed, total)
        publish.join()
        assert feed.counters.lost == 0
    assert found == list(messages.transactions) * (total // len(messages))


@pytest.mark.parametrize(
    ("says", "error"), [(b"GET / HTTP/1.1\r\n\r\n" * 4, errno.EPROTO), (b"", errno.ETIMEDOUT)]
)
def test_node_does_not_take_just_anybody(says: bytes, error: int, node: tuple[Any, int]) -> None:
    with socket.create_connection(("127.0.0.1", node[1])) as stranger:
        stranger.sendall(says)
        assert lib.hp_publisher_accept(node[0], SECOND_NS // 10) == -error


def test_node_notices_that_the_subscriber_left(node: tuple[Any, int]) -> None:
    messages = messages_of_all_sizes()
    with socket.create_connection(("127.0.0.1", node[1])) as sock:
        sock.sendall(GREETING + READY + b"\x00\x06\x01rawtx")
        assert lib.hp_publisher_accept(node[0], SECOND_NS) == 0
    code = lib.hp_publisher_burst(node[0], messages.raw, messages.at, len(messages), 1 << 20)
    assert code in (-errno.EPIPE, -errno.ECONNRESET)


# ---- the floors ----------------------------------------------------------------------------------


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return ours, listener.accept()[0]


def ring_of(way: str) -> Any:
    error = ffi.new("int *")
    ring = lib.hp_floor_ring_new(getattr(lib, f"HP_FLOOR_{way}"), error)
    if ring == ffi.NULL:
        pytest.skip(f"this kernel refuses such a ring: {os.strerror(-error[0])}")
    return ffi.gc(ring, lib.hp_floor_ring_free)


@pytest.mark.parametrize("way", ["PLAIN", "COOP", "DEFER", "SQPOLL"])
def test_a_ring_sends(way: str) -> None:
    ring, submit_ns = ring_of(way), ffi.new("int64_t *")
    ours, theirs = tcp_pair()
    with ours, theirs:
        took_ns = lib.hp_floor_ring_send_ns(ring, ours.fileno(), b"order", 5, submit_ns)
        assert 0 < submit_ns[0] <= took_ns
        assert theirs.recv(100) == b"order"


def framed(raw: bytes, sequence: int) -> bytes:
    return (
        b"\x01\x05rawtx\x03"
        + struct.pack(">Q", len(raw))
        + raw
        + b"\x00\x04"
        + struct.pack("<I", sequence)
    )


@pytest.mark.parametrize("way", ["direct", "PLAIN", "COOP", "DEFER"])
def test_relay_answers_every_third_message_however_it_is_cut(way: str) -> None:
    ring = ring_of(way) if way != "direct" else ffi.NULL
    stream = b"".join(framed(bytes(300 + n), n) for n in range(12))
    node, there = tcp_pair()
    venue, reader = tcp_pair()
    readable_ns, sent_ns = ffi.new("int64_t[]", 4), ffi.new("int64_t[]", 4)
    there.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    time.sleep(0.1)  # the kernel begins to stamp a moment after the first who asks for it

    def publish() -> None:
        for at in range(0, len(stream), 97):
            node.sendall(stream[at : at + 97])

    with node, there, venue, reader:
        publishing = threading.Thread(target=publish)
        publishing.start()
        fds = there.fileno(), venue.fileno()
        before_ns = time.time_ns()
        assert lib.hp_floor_relay(ring, *fds, b"order", 5, 3, 4, readable_ns, sent_ns) == 4
        publishing.join()
        assert reader.recv(100, socket.MSG_PEEK).startswith(b"order")
    for readable, sent in zip(readable_ns, sent_ns, strict=True):
        assert before_ns - SECOND_NS < readable <= sent


# ---- the exchange --------------------------------------------------------------------------------


@pytest.fixture
def exchange() -> Iterator[tuple[Child, dict[str, str]]]:
    """The process, and what a client has to know."""
    with exchange_on(set()) as (child, settings):
        yield child, settings


def trade(settings: dict[str, str], orders: Iterable[str]) -> list[dict[str, Any]]:
    """One session: each order's answer, and between which times (ns) it came."""

    async def session() -> list[dict[str, Any]]:
        answers = []
        tls = ssl.create_default_context(cafile=settings["ca_file"])
        async with connect(settings["ws_url"], ssl=tls, compression=None) as connection:
            for order in orders:
                before_ns = time.time_ns()
                await connection.send(order)
                answer = json.loads(await asyncio.wait_for(connection.recv(), 20))
                answers.append({**answer, "before_ns": before_ns, "after_ns": time.time_ns()})
        return answers

    return asyncio.run(session())


def placed(settings: dict[str, str], number: int) -> str:
    """A rival's order for the message of that number."""
    order = Strategy(settings).order([b"rawtx", deposit(), struct.pack("<I", number)])
    assert order is not None
    return order


def test_exchange_has_the_kernel_s_time_of_each_order(
    exchange: tuple[Child, dict[str, str]],
) -> None:
    child, settings = exchange
    answers = trade(settings, (placed(settings, number) for number in range(3)))
    assert [(a["id"], a["status"]) for a in answers] == [("w0", 200), ("w1", 200), ("w2", 200)]
    session = child.hear()
    assert session["rejections"] == {}
    assert [client_id for client_id, _ in session["orders"]] == ["w0", "w1", "w2"]
    for (_, received_ns), answer in zip(session["orders"], answers, strict=True):
        assert answer["before_ns"] < received_ns < answer["after_ns"]


def test_exchange_refuses_a_wrong_signature_and_serves_the_next_session(
    exchange: tuple[Child, dict[str, str]],
) -> None:
    child, settings = exchange
    (answer,) = trade(settings, [placed({**settings, "api_secret": "another"}, 1)])
    assert answer["error"]["code"] == -1022
    session = child.hear()
    assert session["orders"] == []
    assert list(session["rejections"].values()) == [1]
    (answer,) = trade(settings, [placed(settings, 2)])
    assert answer["status"] == 200
    assert child.hear()["rejections"] == {}


# ---- the whole -----------------------------------------------------------------------------------


def test_rivals_leave_everyday_transactions_alone() -> None:
    strategy = Strategy({"api_key": "key", "api_secret": "secret"})
    assert strategy.order([b"rawtx", deposit(DEPOSIT_SAT - 1), bytes(4)]) is None
    assert (
        strategy.order([b"rawtx", transaction({wallet("nobody"): DEPOSIT_SAT}), bytes(4)]) is None
    )


@TWO_CORES
def test_all_contenders_trade(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(
        "uvloop", reason="a rival's event loop is not installed: pip install uvloop"
    )
    monkeypatch.setattr(hot_feed, "WARM_UP", 2)
    rows = hot_feed.rows(rounds=1, deposits=5)
    names = [row.reference_name for row in rows]
    assert all(any(rival in name for name in names) for rival in hot_feed.RIVALS)
    traded = [row for row in rows if row.name.startswith("published to order received")]
    relays = 1 + len(hot_feed.RING_RELAYS)
    assert len(traded) == len(hot_feed.CONTENDERS) - relays - 1  # ours is in each row
    assert all(ns > 0 for row in traded for ns in [*row.ours.values(), *row.reference.values()])


@TWO_CORES
def test_rates() -> None:
    memory, through_socket = hot_rate.rows(rounds=1, total=2_000)
    assert memory.ours["p50"] > through_socket.ours["p50"] > 0


def test_missing_rivals_are_named_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        hot_feed.importlib.util, "find_spec", lambda name: None if name == "picows" else name
    )
    assert main(["bench", "hot"]) == 1
    assert capsys.readouterr().err == (
        "harpoon: picows to compare with cannot be imported: run "
        "`pip install 'harpoon-engine[bench]'`.\n"
    )


def test_rounds_must_be_positive(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "hot", "--rounds", "0"]) == 1
    assert "--rounds" in capsys.readouterr().err
