"""`harpoon run` when the venue, the feed or the terminal misbehaves: it says so and goes on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from websockets.sync.server import Server, ServerConnection, serve

from engine.address import address_of
from engine.report import plain
from engine.sim import authority
from engine.sim.exchange import ExchangeSim
from tests.peers import deposit, wallet

KEYS = ("k" * 64, "s" * 64)
CONFIG = """
[engine]
mode = "live"
[feed]
endpoint = "{endpoint}"
[venue]
url = "{url}"
ca_file = "{ca_file}"
timeout_s = {timeout_s}
[risk]
max_orders = 1000000
cooldown_s = 0
[book]
files = ["book.csv"]
[[rule]]
name = "whale"
min_btc = "1"
side = "SELL"
symbol = "BTCUSDT"
type = "MARKET"
quantity = "0.001"
"""


class Run:
    """`harpoon run --live --json-lines` as a process."""

    def __init__(self, config: Path) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "engine.cli", "run", "--live", "--json-lines"),
                *("--config", str(config)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "HARPOON_API_KEY": KEYS[0], "HARPOON_API_SECRET": KEYS[1]},
        )

    def until(self, wanted: Callable[[dict], bool]) -> dict:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            record = json.loads(line)
            if wanted(record):
                return record
        assert self.process.stderr is not None
        raise AssertionError(f"it ended before: {self.process.stderr.read()}")

    def ready(self) -> dict:
        return self.until(lambda record: record["record"] == "ready")

    def notice(self, words: str) -> dict:
        return self.until(lambda r: r["record"] == "notice" and words in r["text"])

    def order(self, status: str) -> dict:
        return self.until(lambda r: r["record"] == "order" and r["status"] == status)

    def end(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=15)
        return self.process.returncode, errors


@pytest.fixture
def node() -> Iterator[tuple[zmq.Socket, str]]:
    with zmq.Context() as context, context.socket(zmq.PUB) as publisher:
        publisher.linger = 0
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        yield publisher, f"tcp://127.0.0.1:{port}"


class Feed:
    """Publishes deposits without a pause until it is told to stop."""

    def __init__(self, publisher: zmq.Socket, rate: int) -> None:
        self._publisher, self._rate, self._stop = publisher, rate, False
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join()

    def _work(self) -> None:
        began, number = time.monotonic(), 0
        while not self._stop:
            raw = deposit("kraken", number + 1_000_000)
            self._publisher.send_multipart([b"rawtx", raw, number.to_bytes(4, "little")])
            number += 1
            time.sleep(max(0.0, began + number / self._rate - time.monotonic()))


@pytest.fixture
def configured(tmp_path: Path, node: tuple[zmq.Socket, str]) -> Callable[..., Path]:
    def write(url: str, ca_file: Path, timeout_s: int = 5) -> Path:

        address = address_of(wallet("kraken"))
        (tmp_path / "book.csv").write_text(f"address,exchange\n{address},kraken\n")
        config = tmp_path / "harpoon.toml"
        config.write_text(
            CONFIG.format(endpoint=node[1], url=url, ca_file=ca_file, timeout_s=timeout_s)
        )
        return config

    return write


@pytest.fixture
def exchange() -> Iterator[ExchangeSim]:
    """The simulator in a thread of this process, so that a test can tell it to misbehave."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    sim = ExchangeSim(hmac_key=KEYS)
    asyncio.run_coroutine_threadsafe(sim.start(), loop).result(10)
    yield sim
    asyncio.run_coroutine_threadsafe(sim.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def rogue(tmp_path: Path) -> Iterator[Callable[[Callable[[dict], object]], tuple[str, Path]]]:
    """A WebSocket server that answers a request with whatever a test makes of it."""
    servers: list[tuple[Server, threading.Thread]] = []

    def start(answer: Callable[[dict], object]) -> tuple[str, Path]:
        (tmp_path / "rogue").mkdir()
        files = authority.issue(tmp_path / "rogue")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate_file, files.key_file)

        def converse(connection: ServerConnection) -> None:
            for message in connection:
                reply = answer(json.loads(message))
                if reply is not None:
                    connection.send(reply if isinstance(reply, str) else json.dumps(reply))

        server = serve(converse, "127.0.0.1", 0, ssl=context)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return f"wss://127.0.0.1:{server.socket.getsockname()[1]}/ws", files.ca_file

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()


def honest(request: dict) -> dict[str, Any]:
    """What a venue answers: its time, or that the order was taken."""
    result = {"serverTime": int(time.time() * 1000)} if request["method"] == "time" else {}
    return {"id": request["id"], "status": 200, "result": result}


# ---- the venue ----------------------------------------------------------------------------------


def test_a_venue_that_closes_is_found_again_and_orders_go_on(
    exchange: ExchangeSim, configured: Callable[..., Path], node: tuple[zmq.Socket, str]
) -> None:
    """The feed never pauses: what comes during the reconnection makes no orders, what comes
    after it does."""
    run = Run(configured(exchange.url, exchange.ca_file))
    run.ready()
    with Feed(node[0], rate=300):
        run.order("acked")
        exchange.close_after_requests = 1  # every connection, at its next answer
        run.notice("closed")
        exchange.close_after_requests = None
        run.until(lambda r: r["record"] == "refused" and r["limit"] == "not-ready")
        run.notice("connected")
        run.order("acked")
    assert run.end() == (0, "")


def test_reconnections_that_fail_in_every_way_do_not_end_the_run(
    exchange: ExchangeSim, configured: Callable[..., Path], node: tuple[zmq.Socket, str]
) -> None:
    run = Run(configured(exchange.url, exchange.ca_file))
    run.ready()
    exchange.close_after_requests = 2  # in the middle of the clock's measurement
    publish(node[0], deposit("kraken", 1))
    run.notice("closed")
    run.notice("was left again")
    exchange.close_after_requests = None
    exchange.refuse_upgrade_status = 503
    run.notice("503")
    exchange.refuse_upgrade_status = None
    run.notice("connected")
    run.until(lambda record: record["record"] == "progress")  # what waited is behind us
    publish(node[0], deposit("kraken", 2), 1)
    run.order("acked")
    assert run.end() == (0, "")


def test_what_is_no_transaction_is_said_to_be(
    exchange: ExchangeSim, configured: Callable[..., Path], node: tuple[zmq.Socket, str]
) -> None:
    run = Run(configured(exchange.url, exchange.ca_file))
    run.ready()
    publish(node[0], bytes(50), 0)
    publish(node[0], deposit("kraken", 1) + b"more", 1)
    run.notice("could not be read and were skipped: check the node")
    publish(node[0], deposit("kraken", 2), 2)
    run.order("acked")
    assert run.end() == (0, "")


def test_without_its_journal_no_order_leaves(
    exchange: ExchangeSim,
    configured: Callable[..., Path],
    node: tuple[zmq.Socket, str],
    tmp_path: Path,
) -> None:
    run = Run(configured(exchange.url, exchange.ca_file))
    run.ready()
    with Feed(node[0], rate=50):
        run.order("acked")
        for segment in (tmp_path / "journal").glob("*.hpj"):
            segment.unlink()
        run.notice("were deleted: no order is sent any more")
        run.until(lambda r: r["record"] == "refused" and r["limit"] == "not-ready")
    assert run.end() == (0, "")


def publish(publisher: zmq.Socket, raw: bytes, number: int = 0) -> None:
    publisher.send_multipart([b"rawtx", raw, number.to_bytes(4, "little")])


@pytest.mark.parametrize("server_time", [0, -1, 10**30, 10**400, 1.5, "now", None])
def test_a_venue_with_an_absurd_clock(
    rogue: Callable[..., tuple[str, Path]], configured: Callable[..., Path], server_time: object
) -> None:
    def answer(request: dict) -> object:
        return {**honest(request), "result": {"serverTime": server_time}}

    run = Run(configured(*rogue(answer)))
    _, errors = run.process.communicate(timeout=15)
    assert run.process.returncode == 1
    assert errors.startswith("harpoon: the venue")
    assert errors.count("\n") == 1
    assert "venue.url" in errors


def test_hostile_words_of_a_venue_reach_no_terminal(
    rogue: Callable[..., tuple[str, Path]],
    configured: Callable[..., Path],
    node: tuple[zmq.Socket, str],
) -> None:
    def answer(request: dict) -> object:
        if request["method"] == "time":
            return honest(request)
        hostile = '{"id": "%s", "status": 400, "error": {"code": -1, "msg": "\\u001b[2J\\ud800"}}'
        return hostile % request["id"]

    config = configured(*rogue(answer))
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "engine.cli", "run", "--live", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "HARPOON_API_KEY": KEYS[0], "HARPOON_API_SECRET": KEYS[1]},
    )
    try:
        assert process.stdout is not None
        assert b"live" in process.stdout.readline()
        while b"connected to the node" not in process.stdout.readline():
            pass
        time.sleep(0.3)  # a subscription reaches a PUB socket a moment after its connection
        publish(node[0], deposit("kraken", 1))
        line = b""
        while b"rejected" not in line:
            line = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=15)
    finally:
        process.kill()
    assert b"\x1b" not in line + rest
    assert errors == b""
    assert b"rejected" in rest, "the summary is printed all the same"


def test_words_are_made_harmless() -> None:
    assert plain("ok \x1b[2J\u202e\ud800\x9b é") == "ok ?[2J??? é"


# ---- stopping -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_obeyed_while_the_venue_is_silent(
    configured: Callable[..., Path], tmp_path: Path, how: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (tmp_path / "ca").mkdir()
        url = f"wss://127.0.0.1:{silent.getsockname()[1]}/ws"
        run = Run(configured(url, authority.issue(tmp_path / "ca").ca_file, timeout_s=60))
        silent.settimeout(20)
        peer, _ = silent.accept()
        began = time.monotonic()
        run.process.send_signal(how)
        _, errors = run.process.communicate(timeout=15)
        peer.close()
    assert time.monotonic() - began < 5
    assert (run.process.returncode, errors) == (0, "")


def test_a_signal_is_obeyed_when_nobody_reads(
    exchange: ExchangeSim, configured: Callable[..., Path], node: tuple[zmq.Socket, str]
) -> None:
    run = Run(configured(exchange.url, exchange.ca_file))
    run.ready()
    with Feed(node[0], rate=1000):
        time.sleep(2)  # some 2000 records: more than a pipe holds
        run.process.send_signal(signal.SIGTERM)
        try:
            run.process.wait(30)
        finally:
            run.process.kill()
    assert run.process.stdout is not None
    assert run.process.stderr is not None
    assert run.process.returncode == 1
    assert "nobody reads" in run.process.stderr.read()
    run.process.stdout.close()
    run.process.stderr.close()
