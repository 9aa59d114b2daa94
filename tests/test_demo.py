"""The demonstration as the README shows it: three processes, and two ledgers that must agree."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from engine.demo import compare
from engine.records import STAGES
from engine.report import agree


def demo(folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess, dict]:
    out = folder / "demo.json"
    done = subprocess.run(
        [sys.executable, "-P", "-m", "engine.cli", "demo", "--json", str(out), *arguments],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done, json.loads(out.read_text())


def test_synthetic_traffic_from_the_node_to_the_ledger(tmp_path: Path) -> None:
    done, outcome = demo(tmp_path, "--count", "600", "--rate", "600", "--seed", "7")
    planted = outcome["planted"]
    found = Counter(s["kind"] for s in outcome["signals"])
    assert {kind: found[kind] for kind in planted} == planted
    assert len(outcome["orders"]) == planted["deposit"] > 0
    assert {order["status"] for order in outcome["orders"]} == {"filled"}
    assert all(agree(ours, theirs) for _, ours, theirs in joined(outcome))
    assert "the exchange's ledger" in done.stdout
    assert all(order["reply_ns"] > 0 for order in outcome["orders"])
    deposits = {s["txid"] for s in outcome["signals"] if s["kind"] == "deposit"}
    assert {order["txid"] for order in outcome["orders"]} == deposits


def joined(outcome: dict) -> list:
    return compare(outcome["orders"], outcome["ledger"])


def test_every_stage_is_measured(tmp_path: Path) -> None:
    _, outcome = demo(tmp_path, "--count", "300", "--rate", "1000")
    assert set(outcome["latency_ns"]) == set(STAGES)
    done_before = {"build", "sign", "frame", "seal"}
    for stage, row in outcome["latency_ns"].items():
        assert row["count"] > 0 or stage in done_before, stage
        if row["count"] == 0:
            continue
        assert 0 < row["p50"] <= row["p90"] <= row["p99"] <= row["p999"] <= row["max"], stage
    total, parts = outcome["latency_ns"]["fire_total"], ("risk", "journal", "send")
    assert total["max"] >= max(outcome["latency_ns"][part]["max"] for part in parts)
    assert outcome["machine"]["kernel"] == os.uname().release


def test_a_real_block(tmp_path: Path, shared_data: Path) -> None:
    block = shared_data / "blocks" / "block_617509.bin"
    book = shared_data / "exchange_addresses.csv"
    _, outcome = demo(tmp_path, "--blocks", str(block), "--book", str(book), "--rate", "2000")
    assert outcome["transactions"] == 1677
    fired = {(s["exchange"], s["net_sat"]) for s in outcome["signals"]} & {
        ("okx", 900_000_000),
        ("bitmex", 500_288_820),
    }
    assert len(fired) == 2
    ordered = {order["txid"] for order in outcome["orders"]}
    for found in outcome["signals"]:
        whale = found["kind"] == "deposit" and found["net_sat"] >= 100_000_000
        assert (found["txid"] in ordered) == whale


def command_lines(word: str) -> list[str]:
    """Of every process that has `word` in its arguments."""
    lines = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                lines.append((entry / "cmdline").read_text().replace("\0", " "))
    return [line for line in lines if word in line]


def heed_interrupts() -> None:
    """Also where the tests run in the background of a shell, which has SIGINT ignored there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_when_it_is_interrupted(tmp_path: Path, how: int) -> None:
    command = [sys.executable, "-P", "-m", "engine.cli", "demo", "--count", "5000", "--rate", "50"]
    environ = {**os.environ, "TMPDIR": str(tmp_path)}  # every child has a path below it
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=environ,
        preexec_fn=heed_interrupts,
    )
    assert process.stdout is not None
    assert "live" in process.stdout.readline()
    assert len(command_lines(str(tmp_path))) == 3
    process.send_signal(how)
    process.wait(60)
    process.stdout.close()
    deadline = time.monotonic() + 60
    while command_lines(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert command_lines(str(tmp_path)) == []


ORDER = {
    "status": "filled",
    "client_id": "hp1",
    "side": "SELL",
    "symbol": "BTCUSDT",
    "type": "MARKET",
    "quantity": "0.1",
    "price": None,
    "time_in_force": None,
    "timestamp_ms": 1,
}


@pytest.mark.parametrize(
    "field", ["side", "symbol", "type", "quantity", "price", "time_in_force", "timestamp_ms"]
)
def test_ledgers_that_differ_in_one_field_do_not_agree(field: str) -> None:
    [(key, ours, theirs)] = compare([ORDER], [{**ORDER, field: "other"}])
    assert key == "hp1"
    assert not agree(ours, theirs)


def test_an_order_that_one_side_lacks() -> None:
    assert [(ours, theirs) for _, ours, theirs in compare([ORDER], [])] == [(ORDER, None)]
    assert [(ours, theirs) for _, ours, theirs in compare([], [ORDER])] == [(None, ORDER)]
    assert compare([ORDER], [ORDER, ORDER])[1] == ("hp1", None, ORDER), "executed twice"
    assert agree(ORDER, ORDER)
    assert agree({**ORDER, "status": "acked"}, ORDER)
    assert not agree({**ORDER, "status": "rejected"}, ORDER)
    assert not agree({**ORDER, "status": "unknown"}, ORDER)
    assert not agree(ORDER, None)
    assert not agree(None, ORDER)
