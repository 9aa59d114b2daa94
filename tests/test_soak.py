"""Time that runs faster, and a short run of tests/soak.py in it; `make soak` is the long one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import fast_time
import pytest
import soak

pytestmark = pytest.mark.skipif(fast_time.missing() is not None, reason=str(fast_time.missing()))

FACTOR = 50
WAIT_S = 10  # simulated: 0.2 s
WAITS = """
import asyncio, json, queue, select, socket, ssl, threading, time, zmq

def lock():
    held = threading.Lock()
    held.acquire()
    held.acquire(timeout=WAIT_S)

def condition():
    changed = threading.Condition()
    with changed:
        changed.wait(WAIT_S)

def receive():
    ours, theirs = socket.socketpair()
    ours.settimeout(WAIT_S)
    try:
        ours.recv(1)
    except TimeoutError:
        pass

def poll():
    select.poll().poll(1000 * WAIT_S)

def epoll():
    select.epoll().poll(WAIT_S)

def messages():
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        socket.bind("tcp://127.0.0.1:0")
        socket.poll(1000 * WAIT_S)

ways = {
    "sleep": lambda: time.sleep(WAIT_S),
    "lock": lock,
    "condition": condition,
    "recv": receive,
    "select": lambda: select.select([], [], [], WAIT_S),
    "poll": poll,
    "epoll": epoll,
    "asyncio": lambda: asyncio.run(asyncio.sleep(WAIT_S)),
    "zmq": messages,
}
took_s = {}
for name, wait in ways.items():
    began = time.monotonic(), time.time()
    wait()
    took_s[name] = time.monotonic() - began[0], time.time() - began[1]
print(json.dumps({"took_s": took_s, "epoch_s": time.time(), "monotonic_s": time.monotonic()}))
"""


def test_clocks_run_faster_and_waits_end_earlier(tmp_path: Path) -> None:
    began_s, began_epoch_s = time.monotonic(), time.time()
    environ = fast_time.environment(fast_time.build(tmp_path), FACTOR)
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"WAIT_S = {WAIT_S}\n{WAITS}"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    real_s = time.monotonic() - began_s
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    for name, (took_s, took_epoch_s) in said["took_s"].items():
        assert took_s >= WAIT_S * 0.999, f"{name} comes back too early"
        assert abs(took_s - took_epoch_s) < 1, f"{name}: the clocks go apart"
    waited_s = WAIT_S * len(said["took_s"])
    assert waited_s <= said["monotonic_s"] - began_s <= FACTOR * real_s
    assert waited_s <= said["epoch_s"] - began_epoch_s <= FACTOR * (real_s + 0.1)
    assert real_s < waited_s / 2


def test_twenty_minutes() -> None:
    """Of memory it finds only what grows by 5 MB meanwhile; everything else as the long one."""
    plan = soak.Plan(20 * 60, 45, cut_every_s=8 * 60)
    outcome = soak.play(plan)
    complaints = soak.complaints(outcome, slope_most=15.0)
    # Other tests may hold a process up for 0.1 s, which are 4.5 s here.
    held_up = re.compile("has stopped answering|answers again$|^only 5 orders for 6 whales$")
    assert [words for words in complaints if not held_up.search(words)] == []
    # Every whale has its order, or a limit that held it up said so.
    assert len(outcome.entries()) + outcome.refused.total() >= plan.whales
    assert len(outcome.samples) >= 3 * plan.duration_s // plan.sample_every_s
    assert sum("again" in words for words in outcome.notices), "the venue has cut"


# ---- what is complained of -----------------------------------------------------------------------


def outcome(**changes: Any) -> soak.Outcome:
    """A run of an hour that is as it should be, but for the changes."""
    plan = soak.Plan(3600, 60)
    order = {"client_id": "hp-1", "status": "acked", "side": "SELL", "symbol": "BTCUSDT"}
    order |= {"type": "MARKET", "quantity": "0.00100", "price": None, "time_in_force": None}
    order |= {"timestamp_ms": 1, "reason": ""}
    orders = [{**order, "client_id": f"hp-{number}"} for number in range(plan.whales)]
    found = soak.Outcome(plan)
    found.samples = [
        soak.Sample(name, t_s, 50_000, 10, 3)
        for t_s in range(0, 3601, 120)
        for name in soak.PROCESSES
    ]
    found.published = plan.transactions
    found.summary = {"stats": {"transactions": plan.transactions}, "orders": orders}
    found.ledger = [dict(order) for order in orders]
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def test_a_good_run_is_not_complained_of() -> None:
    good = outcome(notices=Counter({"connected to wss://x again": 2}))
    assert soak.complaints(good) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"published": 3}, "3 transactions were published and"),
        ({"ledger": []}, "only 0 orders for"),
        ({"notices": Counter({"the journal is full": 2})}, "2 times: the journal is full"),
    ],
)
def test_a_bad_run_is_complained_of(changes: dict[str, Any], words: str) -> None:
    assert any(words in complaint for complaint in soak.complaints(outcome(**changes)))


def test_growth_is_complained_of() -> None:
    bad = outcome()
    bad.samples = [
        soak.Sample(s.process, s.t_s, s.memory_kb + int(s.t_s * 2), s.files, s.threads)
        if s.process == "node"
        else soak.Sample(s.process, s.t_s, s.memory_kb, 10 + int(s.t_s > 1800), s.threads)
        for s in bad.samples
    ]
    complaints = soak.complaints(bad)
    assert "node: memory grows by 7.03 MB an hour" in complaints
    assert "engine: 10 files have become 11" in complaints


def test_orders_that_differ_are_complained_of() -> None:
    bad = outcome()
    bad.ledger[3]["quantity"] = "0.00200"
    bad.summary["orders"][4] |= {"status": "unknown", "reason": "no answer for 10 s"}
    complaints = soak.complaints(bad)
    assert "2 orders differ from the exchange's ledger" in complaints
    assert "1 orders ended as unknown (no answer for 10 s)" in complaints
