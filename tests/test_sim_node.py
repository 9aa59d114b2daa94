"""The node simulator as a process of its own, heard through libzmq."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import pytest
import zmq
from bitcoin.core import CBlock, CTransaction

from engine.book import Book, load
from engine.core import Engine, EngineOptions
from engine.feed.zmq import ZmqFeed
from engine.records import Signal
from tests.peers import news

PATIENCE_S = 20.0


class Node:
    """`harpoon sim node`, with the two lines that it says."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "engine.cli", "sim", "node", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def hears(self) -> dict[str, Any]:
        line: dict[str, Any] = json.loads(_pipe(self.process.stdout).readline())
        return line

    def go(self) -> None:
        _pipe(self.process.stdin).write(b"go\n")
        _pipe(self.process.stdin).flush()

    def end(self) -> tuple[int, str]:
        """Exit status, and what else it said on standard output."""
        status = self.process.wait(PATIENCE_S)
        return status, _pipe(self.process.stdout).read().decode()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            _pipe(pipe).close()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


@pytest.fixture
def start() -> Iterator[Callable[..., Node]]:
    nodes: list[Node] = []

    def start_one(*arguments: object) -> Node:
        nodes.append(Node(*map(str, arguments)))
        return nodes[-1]

    yield start_one
    for node in nodes:
        node.close()


def hear_all(node: Node, ready: dict[str, Any]) -> tuple[list[bytes], ZmqFeed]:
    """Subscribe, let it start, and receive everything that it has."""
    with ZmqFeed(ready["endpoint"]) as feed:
        node.go()
        received: list[bytes] = []
        while len(received) < ready["transactions"]:
            assert feed.socket.poll(PATIENCE_S * 1000), f"only {len(received)} arrived"
            received += [raw for raw, _ in feed.drain()]
        return received, feed


PLANTED = ("--deposits", 6, "--change-backs", 8, "--sweeps", 4)
UNHEARD = ("--start-on-stdin", "--rate", 20_000, "--count", 500, *PLANTED)
SYNTHETIC = ("--await-subscriber", *UNHEARD)


def test_everything_is_published_once_in_order_and_numbered(start: Callable[..., Node]) -> None:
    node = start(*SYNTHETIC)
    ready = node.hears()
    assert set(ready) == {"endpoint", "transactions", "planted", "book", "pid"}
    assert ready["transactions"] == 500
    assert ready["planted"] == {"deposit": 6, "withdrawal": 6, "internal": 2, "sweep": 4}
    assert ready["book"] is None
    assert ready["pid"] == node.process.pid
    assert ready["endpoint"].startswith("tcp://127.0.0.1:")
    received, feed = hear_all(node, ready)
    assert len(set(received)) == 500
    assert feed.first_sequence == 0
    assert (feed.counters.messages, feed.counters.lost, feed.counters.restarts) == (500, 0, 0)
    done = node.hears()
    assert done["published"] == 500
    assert done["elapsed_s"] >= 499 / 20_000
    assert node.process.poll() is None
    node.process.terminate()
    assert node.end() == (0, "")


def test_it_waits_for_a_subscriber_to_everything(start: Callable[..., Node]) -> None:
    node = start("--await-subscriber", "--sequence", "--count", 50, "--rate", 100_000, *PLANTED)
    endpoint = node.hears()["endpoint"]
    context = zmq.Context()
    try:
        subscriber = context.socket(zmq.SUB)
        subscriber.connect(endpoint)
        subscriber.subscribe(b"rawtx")
        assert not subscriber.poll(200)
        subscriber.subscribe(b"sequence")
        for number in range(100):
            assert subscriber.poll(PATIENCE_S * 1000)
            topic, _, sequence = subscriber.recv_multipart()
            assert topic == (b"sequence" if number % 2 else b"rawtx")
            assert sequence == (number // 2).to_bytes(4, "little")
    finally:
        context.destroy(linger=0)


def test_whoever_started_it_can_go_before_a_subscriber_comes(start: Callable[..., Node]) -> None:
    node = start(*SYNTHETIC)
    node.hears()
    node.go()
    _pipe(node.process.stdin).close()
    assert node.end() == (0, "")


def test_the_frames_are_bitcoinds(start: Callable[..., Node]) -> None:
    """Straight from a SUB socket: nothing of the engine reads them."""
    node = start(*SYNTHETIC)
    ready = node.hears()
    context = zmq.Context()
    try:
        subscriber = context.socket(zmq.SUB)
        subscriber.subscribe(b"")
        subscriber.connect(ready["endpoint"])
        node.go()
        for number in range(500):
            assert subscriber.poll(PATIENCE_S * 1000)
            topic, _, sequence = subscriber.recv_multipart()
            assert (topic, sequence) == (b"rawtx", number.to_bytes(4, "little"))
        assert not subscriber.poll(100)
    finally:
        context.destroy(linger=0)


def test_with_sequence_each_transaction_has_entered_the_mempool(
    start: Callable[..., Node],
) -> None:
    node = start(*SYNTHETIC, "--count", 50, "--sequence")
    ready = node.hears()
    context = zmq.Context()
    try:
        subscriber = context.socket(zmq.SUB)
        subscriber.subscribe(b"")
        subscriber.connect(ready["endpoint"])
        node.go()
        for number in range(50):
            assert subscriber.poll(PATIENCE_S * 1000)
            _, raw, _ = subscriber.recv_multipart()
            txid = CTransaction.deserialize(raw).GetTxid()[::-1]
            entered = txid + b"A" + number.to_bytes(8, "little")
            frames = [b"sequence", entered, number.to_bytes(4, "little")]
            assert subscriber.recv_multipart() == frames
    finally:
        context.destroy(linger=0)


def test_what_it_planted_is_what_the_engine_finds(
    start: Callable[..., Node], tmp_path: Path
) -> None:
    node = start(*SYNTHETIC, "--whale-btc", "2.5", "--book-out", tmp_path / "book.csv")
    ready = node.hears()
    assert ready["book"] == str(tmp_path / "book.csv")
    entries, errors = load(Path(ready["book"]))
    assert errors == []
    engine = Engine(Book(entries), EngineOptions(min_signal_sat=0))
    kinds: Counter[object] = Counter()
    for raw in hear_all(node, ready)[0]:
        engine.rawtx(raw, 0)
        for found in news(engine):
            assert isinstance(found, Signal)
            signal_ = found.as_json()
            kinds[signal_["kind"]] += 1
            assert signal_["kind"] == "internal" or found.net_sat >= 250_000_000
    assert kinds == ready["planted"]


def test_the_seed_makes_the_transactions(start: Callable[..., Node]) -> None:
    def published(seed: int) -> list[bytes]:
        node = start(*SYNTHETIC, "--seed", seed)
        return hear_all(node, node.hears())[0]

    assert published(3) == published(3)
    assert published(3) != published(4)


def test_real_blocks_are_replayed_without_their_coinbases(
    start: Callable[..., Node], shared_data: Path
) -> None:
    files = [shared_data / "blocks" / f"block_{height}.bin" for height in (757739, 757753)]
    node = start("--start-on-stdin", "--await-subscriber", "--rate", 20_000, "--blocks", *files)
    ready = node.hears()
    assert (ready["planted"], ready["book"]) == ({}, None)
    blocks = [CBlock.deserialize(file.read_bytes()) for file in files]
    theirs = [tx.serialize() for block in blocks for tx in block.vtx[1:]]
    assert ready["transactions"] == len(theirs) == 62 + 80
    assert hear_all(node, ready)[0] == theirs


# ---- faults --------------------------------------------------------------------------------------


Heard = tuple[list[tuple[int, bytes]], dict[str, Any]]


def hear_numbers(node: Node) -> Heard:
    """Let it start; every number and transaction that it sends, and its last line. What it sends
    while it has no subscriber, behind a restart, never comes."""
    ready = node.hears()
    said = _pipe(node.process.stdout)
    context = zmq.Context()
    try:
        subscriber = context.socket(zmq.SUB)
        subscriber.set(zmq.RECONNECT_IVL, 10)
        subscriber.subscribe(b"rawtx")
        subscriber.connect(ready["endpoint"])
        poller = zmq.Poller()
        poller.register(subscriber, zmq.POLLIN)
        poller.register(said, zmq.POLLIN)
        node.go()
        heard: list[tuple[int, bytes]] = []
        done: dict[str, Any] = {}
        while not done or len(heard) < done["messages"]:
            patience_s = 0.5 if "restart" in done.get("faults", {}) else PATIENCE_S
            come = dict(poller.poll(patience_s * 1000))
            if subscriber in come:
                _, raw, number = subscriber.recv_multipart()
                heard.append((int.from_bytes(number, "little"), raw))
            elif come:
                done = node.hears()
                poller.unregister(said)
            else:
                break
        assert not subscriber.poll(100)
        return heard, done
    finally:
        context.destroy(linger=0)


def test_transactions_are_lost_doubled_and_reordered_as_the_seed_says(
    start: Callable[..., Node],
) -> None:
    everything = dict(hear_numbers(start(*SYNTHETIC))[0])

    def heard(*faults: str) -> tuple[list[int], list[bytes], dict[str, int]]:
        flags = [word for fault in faults for word in ("--fault", fault)]
        pairs, done = hear_numbers(start(*SYNTHETIC, *flags))
        return [n for n, _ in pairs], [raw for _, raw in pairs], done["faults"]

    numbers, raws, applied = heard("drop=0.1")
    assert 20 <= applied["drop"] <= 90
    assert len(numbers) == 500 - applied["drop"]
    assert [everything[number] for number in numbers] == raws
    assert heard("drop=0.1") == (numbers, raws, applied)

    numbers, raws, applied = heard("duplicate=0.1")
    assert numbers == list(range(500 + applied["duplicate"]))
    assert list(dict.fromkeys(raws)) == list(everything.values())

    numbers, raws, applied = heard("reorder=0.1")
    assert [everything[number] for number in numbers] == raws
    assert sorted(numbers) == list(range(500)) != numbers

    numbers, raws, applied = heard("gap=0.004")
    assert len(numbers) < 500
    assert [everything[number] for number in numbers] == raws
    assert 1 <= applied["gap"] <= 10


def test_each_second_transaction_changes_places_when_all_are_to(
    start: Callable[..., Node],
) -> None:
    heard, done = hear_numbers(start(*SYNTHETIC, "--fault", "reorder"))
    assert [number for number, _ in heard] == [place ^ 1 for place in range(500)]
    assert (done["faults"], done["messages"]) == ({"reorder": 250}, 500)


def test_no_gap_begins_within_another(start: Callable[..., Node]) -> None:
    heard, done = hear_numbers(start(*SYNTHETIC, "--fault", "gap"))
    assert (heard, done["messages"], done["faults"]) == ([], 0, {"gap": 5})


def test_a_restarted_node_counts_from_zero(start: Callable[..., Node]) -> None:
    node = start(*SYNTHETIC, "--rate", 150, "--fault", "restart=0.003")  # 0.7 s to come back in
    heard, done = hear_numbers(node)
    numbers = [number for number, _ in heard]
    applied = done["faults"]["restart"]
    falls = sum(after < before for before, after in pairwise(numbers))
    assert 1 <= falls <= applied


def test_a_stall_is_caught_up_and_a_late_transaction_changes_its_place(
    start: Callable[..., Node],
) -> None:
    node = start(*SYNTHETIC, "--fault", "stall=0.002:300ms")
    heard, done = hear_numbers(node)
    assert len(heard) == 500
    assert done["elapsed_s"] >= 0.3 * done["faults"]["stall"] > 0
    everything = [raw for _, raw in hear_numbers(start(*SYNTHETIC))[0]]
    late, _ = hear_numbers(start(*SYNTHETIC, "--fault", "delay=0.1:5ms"))
    assert [number for number, _ in late] == list(range(500))
    assert [raw for _, raw in late] != everything
    assert sorted(raw for _, raw in late) == sorted(everything)


def test_a_fault_that_is_none_gets_one_sentence(start: Callable[..., Node]) -> None:
    node = start("--fault", "drop-before")
    assert node.end() == (2, "")
    told = _pipe(node.process.stderr).read().decode()
    assert told.startswith("harpoon: 'drop-before' is not a fault: ")
    assert "drop, gap, duplicate" in told


# ---- pace ----------------------------------------------------------------------------------------


def test_the_rate_is_kept_and_not_exceeded(start: Callable[..., Node]) -> None:
    node = start(*UNHEARD, "--rate", 1000)
    ready = node.hears()
    began = time.monotonic()
    node.go()
    done = node.hears()
    assert time.monotonic() - began >= 499 / 1000
    assert done["elapsed_s"] >= 499 / 1000
    assert ready["transactions"] == 500


def test_a_late_transaction_does_not_shift_the_rest(start: Callable[..., Node]) -> None:
    """Stopped for 1.5 of the 2 s that it takes: it catches up, where a relative pace would not."""
    node = start(*UNHEARD, "--rate", 250)
    node.hears()
    node.go()
    time.sleep(0.2)
    node.process.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    time.sleep(1.5)
    stopped_s = time.monotonic() - stopped
    node.process.send_signal(signal.SIGCONT)
    assert 499 / 250 <= node.hears()["elapsed_s"] < 499 / 250 + 0.9 * stopped_s


# ---- its end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_before_it_starts(
    start: Callable[..., Node], number: signal.Signals
) -> None:
    node = start(*UNHEARD)
    node.hears()
    node.process.send_signal(number)
    assert node.end() == (0, "")


def test_a_signal_ends_it_without_standard_input(start: Callable[..., Node]) -> None:
    node = start("--count", 100, "--rate", 100_000)
    node.hears()
    assert node.hears()["published"] == 100
    _pipe(node.process.stdin).close()  # nobody asked to start on it, so it means nothing
    time.sleep(0.2)
    assert node.process.poll() is None
    node.process.terminate()
    assert node.end() == (0, "")


@pytest.mark.parametrize("when", ["before", "while", "after"])
def test_it_does_not_outlive_whoever_started_it(start: Callable[..., Node], when: str) -> None:
    node = start(*UNHEARD, "--rate", 1 if when == "while" else 100_000)
    node.hears()
    if when != "before":
        node.go()
    if when == "after":
        assert node.hears()["published"] == 500
    _pipe(node.process.stdin).close()
    assert node.end() == (0, "")


def test_a_subscriber_that_does_not_read_loses_nothing(start: Callable[..., Node]) -> None:
    """More than the sockets' buffers hold waits for it in the node."""
    node = start("--start-on-stdin", "--await-subscriber", "--rate", 1_000_000, "--count", 20_000)
    ready = node.hears()
    context = zmq.Context()
    try:
        subscriber = context.socket(zmq.SUB)
        subscriber.set(zmq.RCVHWM, 1)
        subscriber.set(zmq.RCVBUF, 4096)
        subscriber.subscribe(b"rawtx")
        subscriber.connect(ready["endpoint"])
        node.go()
        assert node.hears()["published"] == 20_000
        for number in range(20_000):
            assert subscriber.poll(PATIENCE_S * 1000)
            assert subscriber.recv_multipart()[2] == number.to_bytes(4, "little")
    finally:
        context.destroy(linger=0)


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--endpoint", "tcp://0.0.0.0:0"], 2, "--listen-anywhere"),
        (["--endpoint", "tcp://*:0"], 2, "--listen-anywhere"),
        (["--endpoint", "tcp://[::]:0"], 2, "--listen-anywhere"),
        (["--endpoint", "tcp://192.0.2.1:0"], 2, "tcp://192.0.2.1:0 is not on loopback"),
        (["--endpoint", "tcp://192.0.2.1:0", "--listen-anywhere"], 1, "cannot publish at"),
        (["--endpoint", "http://127.0.0.1:0"], 2, "is not on loopback"),
        (["--endpoint", "tcp://127.0.0.1"], 2, "is not on loopback"),
        (["--blocks", "absent.bin"], 1, "absent.bin"),
        (["--blocks", __file__], 1, "is no raw block"),
        (["--blocks", __file__, "--book-out", "x.csv"], 2, "--book-out"),
        (["--book-out", "/dev/null/x.csv"], 2, "/dev/null/x.csv"),
        (["--count", "10"], 2, "cannot be planted among 10"),
        (["--deposits", "-1"], 2, "negative"),
        (["--whale-btc", "0"], 2, "a whale of 0 satoshis"),
        (["--whale-btc", "much"], 2, "--whale-btc"),
        (["--rate", "0"], 2, "'0' is not a rate"),
        (["--rate", "inf"], 2, "'inf' is not a rate"),
        (["--rate", "fast"], 2, "'fast' is not a rate"),
    ],
)
def test_wrong_usage_is_one_sentence(
    start: Callable[..., Node], arguments: list[str], status: int, words: str
) -> None:
    node = start(*arguments)
    assert node.end() == (status, "")
    said = _pipe(node.process.stderr).read().decode()
    assert words in said.splitlines()[-1]
    assert "Traceback" not in said


def test_a_port_that_is_taken_is_told(start: Callable[..., Node]) -> None:
    endpoint = start("--count", 100).hears()["endpoint"]
    second = start("--count", 100, "--endpoint", endpoint)
    assert second.end() == (1, "")
    said = _pipe(second.process.stderr).read().decode()
    assert f"cannot publish at {endpoint} (Address already in use)" in said


@pytest.mark.parametrize("transport", ["tcp://127.0.0.2:0", "tcp://localhost:0", "ipc://{}/node"])
def test_other_local_endpoints_are_fine(
    start: Callable[..., Node], tmp_path: Path, transport: str
) -> None:
    ready = start("--count", 100, "--endpoint", transport.format(tmp_path)).hears()
    with ZmqFeed(ready["endpoint"]) as feed:
        feed.wait_connected(PATIENCE_S)
    assert os.path.exists(f"{tmp_path}/node") == transport.startswith("ipc")
