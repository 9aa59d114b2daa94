"""`harpoon run` when the venue, the feed or the terminal misbehaves: it says so and goes on."""

from __future__ import annotations

import array
import fcntl
import os
import re
import signal
import socket
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from engine.report import ACCEPTED, plain
from engine.sim import authority
from engine.sim.exchange import ExchangeSim

from . import harpoon_run
from .harpoon_run import PLENTY, Line, Script, running, trading, write_config
from .peers import deposit
from .publisher import Publisher, eventually

KEYS = {"HARPOON_API_KEY": "k" * 64, "HARPOON_API_SECRET": "s" * 64}
FLAGS = ("--live", "--json-lines")


@pytest.fixture
def sim() -> Iterator[ExchangeSim]:
    with harpoon_run.exchange(hmac_key=tuple(KEYS.values()), limits=PLENTY) as sim:
        yield sim


@pytest.fixture
def node() -> Iterator[Publisher]:
    publisher = Publisher()
    yield publisher
    publisher.close()


class Feed:
    """Publishes deposits without a pause until it is told to stop."""

    def __init__(self, node: Publisher, rate: int, first: int = 0) -> None:
        self._node, self._rate, self._first, self._stop = node, rate, first, False
        self.published = 0
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join()

    def _work(self) -> None:
        began = time.monotonic()
        while not self._stop:
            number = self._first + self.published
            self._node.send(deposit("kraken", number + 1_000_000), number)
            self.published += 1
            time.sleep(max(0.0, began + self.published / self._rate - time.monotonic()))


def acked(line: Line) -> bool:
    return line["record"] == "order" and line["status"] in ACCEPTED


def config_for(sim: ExchangeSim, node: Publisher, folder: Path) -> Path:
    return write_config(
        folder,
        url=sim.url,
        stream_url=sim.stream_url,
        ca_file=sim.ca_file,
        endpoint=node.endpoint,
    )


# ---- the venue ----------------------------------------------------------------------------------


def test_one_session_closes_and_orders_go_on_without_a_pause(
    sim: ExchangeSim, node: Publisher, tmp_path: Path
) -> None:
    """None is refused, and what was on its way then is found out by the other session."""
    script = Script(sim)
    with trading(sim, node, tmp_path) as run:
        script.wait_prepared(2)
        lines: list[Line] = []
        with Feed(node, rate=100) as feed:
            for _ in range(50):
                lines.append(run.until(acked))
            sim.close_after_requests = 50  # only the one that has the orders has answered so many
            closed = run.notice("was left again")
            sim.close_after_requests = None
            for _ in range(100):
                run.until(acked)
        assert "closed" in closed["text"]
        run.settle(feed.published)
        run.process.send_signal(signal.SIGTERM)
        summary = run.record("summary")
        assert run.wait() == (0, "")
    assert summary["refused"] == 0
    assert {order["status"] for order in summary["orders"]} <= {"filled", "rejected"}
    taken = [order["client_id"] for order in summary["orders"] if order["status"] == "filled"]
    assert sorted(taken) == sorted(entry.client_id for entry in sim.ledger)


def test_a_venue_that_is_gone_is_found_again_and_orders_go_on(
    sim: ExchangeSim, node: Publisher, tmp_path: Path
) -> None:
    """The feed never pauses: what comes during the reconnection makes no orders, what comes
    after it does."""
    with trading(sim, node, tmp_path) as run, Feed(node, rate=300):
        run.until(acked)
        sim.drop_all()
        run.record("refused", limit="not-ready")
        run.notice("connected")
        run.until(acked)
        assert run.end() == (0, "")


def test_reconnections_that_fail_in_every_way_do_not_end_the_run(
    sim: ExchangeSim, node: Publisher, tmp_path: Path
) -> None:
    script = Script(sim)
    with trading(sim, node, tmp_path) as run:
        script.wait_prepared(2)
        sim.close_after_requests = 2  # in the middle of the clock's measurement
        sim.drop_all()
        run.notice("was left again")
        run.notice("was left again: the server closed the WebSocket")
        sim.refuse_upgrade_status = 503
        run.notice("503")
        sim.close_after_requests = sim.refuse_upgrade_status = None
        run.notice("connected")
        node.send(deposit("kraken", 2), 1)
        run.until(acked)
        assert run.end() == (0, "")


def test_the_server_of_one_session_is_shut_down_while_orders_flow(
    sim: ExchangeSim, node: Publisher, tmp_path: Path
) -> None:
    """The other session takes over long before the first is gone, which is opened anew elsewhere:
    no order is refused, none is lost."""
    script = Script(sim)
    with trading(sim, node, tmp_path) as run:
        script.wait_prepared(2)
        with Feed(node, rate=100) as feed:
            for _ in range(20):
                run.until(acked)
            sim.faults.next("shutdown:60s")
            run.notice("shuts down the server of session")
            for _ in range(150):
                run.until(acked)
        script.wait_prepared(3)
        run.settle(feed.published)
        run.process.send_signal(signal.SIGTERM)
        summary = run.record("summary")
        assert run.wait() == (0, "")
    assert summary["refused"] == 0
    assert {order["status"] for order in summary["orders"]} == {"filled"}
    assert len(summary["orders"]) == len(sim.ledger)


def test_what_is_no_transaction_is_said_to_be(
    sim: ExchangeSim, node: Publisher, tmp_path: Path
) -> None:
    with trading(sim, node, tmp_path) as run:
        node.send(bytes(50), 0)
        node.send(deposit("kraken", 1) + b"more", 1)
        run.notice("could not be read and were skipped: check the node")
        node.send(deposit("kraken", 2), 2)
        run.until(acked)
        assert run.end() == (0, "")


@pytest.mark.parametrize("spin", [False, True])
def test_what_came_while_the_machine_stood_still_is_old(
    sim: ExchangeSim, node: Publisher, tmp_path: Path, spin: bool
) -> None:
    """By the default of risk.max_signal_age_us, a quarter of a second."""
    with trading(sim, node, tmp_path, spin=spin) as run:
        node.send(deposit("kraken", 0), 0)
        run.until(acked)
        run.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, run.process.pid, os.WSTOPPED)  # every thread of it
        node.send(deposit("kraken", 1), 1)
        time.sleep(0.6)
        run.process.send_signal(signal.SIGCONT)
        run.record("refused", limit="signal-age")
        with Feed(node, rate=5, first=2):
            run.until(acked)
        assert run.end() == (0, "")


def test_without_its_journal_no_order_leaves(
    sim: ExchangeSim, node: Publisher, tmp_path: Path
) -> None:
    with trading(sim, node, tmp_path) as run, Feed(node, rate=50):
        run.until(acked)
        for segment in (tmp_path / "journal").glob("*.hpj"):
            segment.unlink()
        run.notice("were deleted: no order is sent any more")
        run.record("refused", limit="not-ready")
        assert run.end() == (0, "")


@pytest.mark.parametrize("server_time", [0, -1, 10**30, 10**400, 1.5, "now", None])
def test_a_venue_with_an_absurd_clock(
    sim: ExchangeSim, node: Publisher, tmp_path: Path, server_time: object
) -> None:
    def answer(request: Line, honest: object) -> object:
        if request["method"] != "time":
            return None
        return {"id": request["id"], "status": 200, "result": {"serverTime": server_time}}

    Script(sim, answer)
    with running(config_for(sim, node, tmp_path), KEYS, *FLAGS) as run:
        status, errors = run.wait()
    assert status == 1
    assert errors.startswith("harpoon: the venue")
    assert errors.count("\n") == 1
    assert "venue.url" in errors


def test_hostile_words_of_a_venue_reach_no_terminal(
    sim: ExchangeSim, node: Publisher, tmp_path: Path
) -> None:
    def answer(request: Line, honest: object) -> object:
        hostile = '{"id": "%s", "status": 400, "error": {"code": -1, "msg": "\\u001b[2J\\ud800"}}'
        return hostile % request["id"] if request["method"] == "order.place" else None

    Script(sim, answer)
    with running(config_for(sim, node, tmp_path), KEYS, "--live") as run:
        run.line("live: addresses")
        node.wait_subscriber()
        node.send(deposit("kraken", 1), 0)
        run.line("rejected")
        status, errors = run.end()
    assert (status, errors) == (0, "")
    assert "\x1b" not in run.output
    assert re.search(r"rejected +│ +1 ", run.output), "the summary is printed all the same"


def test_an_order_that_the_venue_s_filters_refuse_ends_the_start(
    sim: ExchangeSim, node: Publisher, tmp_path: Path
) -> None:
    """BTCUSDT has a step of 0.00001."""
    write_config(
        tmp_path,
        url=sim.url,
        stream_url=sim.stream_url,
        ca_file=sim.ca_file,
        endpoint=node.endpoint,
        rule={"quantity": "0.001001"},
    )
    with running(tmp_path / "harpoon.toml", KEYS, *FLAGS) as run:
        status, errors = run.wait()
    assert status == 2
    assert errors.count("\n") == 1
    assert errors.startswith("harpoon: [[rule]] 'whale': ")
    assert "quantity 0.001001 is no multiple of 0.00001" in errors


def test_a_live_run_says_first_what_it_may_do(
    sim: ExchangeSim, node: Publisher, tmp_path: Path
) -> None:
    with running(config_for(sim, node, tmp_path), KEYS, *FLAGS) as run:
        first = run.until(lambda line: True)
        run.record("ready")
        assert run.end() == (0, "")
    assert first["record"] == "allowed"
    words = "\n".join(first["lines"])
    for wanted in (
        f"real orders will be sent to {sim.url}",
        "rule 'whale': SELL 0.001 BTCUSDT MARKET for deposit of 1.00000000 BTC or more",
        "NEVER out again",
        "at most 1000000 orders in this run",
        str(tmp_path / "harpoon.latch"),
    ):
        assert wanted in words


def test_words_are_made_harmless() -> None:
    assert plain("ok \x1b[2J\u202e\ud800\x9b é") == "ok ?[2J??? é"


# ---- stopping -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_obeyed_while_the_venue_is_silent(tmp_path: Path, how: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (tmp_path / "ca").mkdir()
        url = f"wss://127.0.0.1:{silent.getsockname()[1]}/ws"
        ca_file = authority.issue(tmp_path / "ca").ca_file
        config = write_config(tmp_path, url=url, ca_file=ca_file, timeout_s=60)
        with running(config, KEYS, *FLAGS) as run:
            silent.settimeout(20)
            peer, _ = silent.accept()
            began = time.monotonic()
            assert run.end(how) == (0, "")
            assert time.monotonic() - began < 30
            peer.close()


def is_full(pipe: IO[str]) -> bool:
    """But for the ends of its pages."""
    unread = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, unread)
    return unread[0] > fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) * 3 // 4


def test_a_signal_is_obeyed_when_nobody_reads(
    sim: ExchangeSim, node: Publisher, tmp_path: Path
) -> None:
    with trading(sim, node, tmp_path) as run, Feed(node, rate=1000):
        stdout = run.process.stdout
        assert stdout is not None
        eventually(lambda: is_full(stdout))
        run.process.send_signal(signal.SIGTERM)
        run.process.wait(30)
        assert run.process.returncode == 1
        assert run.process.stderr is not None
        assert "nobody reads" in run.process.stderr.read()
