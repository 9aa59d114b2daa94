"""`harpoon latency`: percentiles of a journal's orders, as a table, bars, JSON and a picture."""

from __future__ import annotations

import json
import re
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from engine import core
from engine._native import ffi, lib
from engine.cli import main
from engine.errors import JournalError
from engine.journal import Journal
from engine.latency import Latency, bars, duration, latencies
from engine.records import STAGES

from .journals import PREAMBLE, SEGMENT_BYTES, fill, first_segment, flip, places

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """`harpoon latency ...`: its exit status, what it printed, what it complained about."""

    def run(*words: str) -> tuple[int, str, str]:
        status = main(["latency", *words])
        return status, *capsys.readouterr()

    return run


def orders(folder: Path, stages: Sequence[dict[str, int]]) -> None:
    """A journal with an order for each of `stages`, its durations by name."""
    with Journal(folder, SEGMENT_BYTES) as journal:
        for stage_ns in stages:
            journal.prepare(PREAMBLE)
            fields = {"stage_ns": [stage_ns.get(stage, -1) for stage in STAGES]}
            order = ffi.new("hp_order_event *", fields)
            journal.append(lib.HP_RECORD_ORDER, bytes(ffi.buffer(order)), lib.hp_now_ns())


@pytest.fixture
def thousand(tmp_path: Path) -> Path:
    """send took 1 to 1,000 us; every tenth order went no further than decide."""
    folder = tmp_path / "journal"
    orders(
        folder,
        [
            {"decode": 100, "decide": 0, **({"send": n * 1000} if n % 10 else {})}
            for n in range(1000, 0, -1)
        ],
    )
    return folder


def test_stages_are_the_engines() -> None:
    assert STAGES == core.STAGES


def test_percentiles_are_exact(thousand: Path) -> None:
    decode, decide, send = latencies(thousand)
    assert decode.summary() == {"count": 1000, **dict.fromkeys(("p50", "p90", "p99"), 100)} | {
        "p999": 100,
        "max": 100,
    }
    assert decide.summary()["max"] == 0
    told = sorted(n * 1000 for n in range(1, 1001) if n % 10)
    assert send.summary() == {
        "count": 900,
        "p50": told[449],
        "p90": told[809],
        "p99": told[890],
        "p999": told[899],
        "max": 999_000,
    }


@pytest.mark.parametrize(("count", "rank"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_the_median_of_few(count: int, rank: int) -> None:
    assert Latency("send", list(range(1, count + 1))).at(0.5) == rank
    assert Latency("send", list(range(1, count + 1))).at(1.0) == count


def test_the_table_and_the_bars(thousand: Path, say: Say) -> None:
    status, out, err = say(str(thousand))
    assert (status, err) == (0, "")
    assert re.search(r"send .* 900 .* 499\.00 .* 899\.00 .* 989\.00 .* 999\.00 .* 999\.00", out)
    lines = out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "#" in next(line for line in lines if line.startswith("send"))
    assert not set(out) & set("█▓▒░·")  # not a terminal: plain


@pytest.mark.parametrize("marks", ["12345", "█▓▒░·"])
def test_bars_end_where_the_percentiles_are(marks: str) -> None:
    spread = Latency("send", sorted([1_000] * 50 + [10_000] * 40 + [100_000] * 9 + [1_000_000]))
    narrow = Latency("decode", [1_000])
    send, decode, axis, key = bars([spread, narrow], marks)
    start = send.index(marks[0])
    ends = [send.rindex(mark) + 1 - start for mark in marks if mark in send]
    assert ends[:3] == [1, 20, 40]  # 1 us is the beginning of the axis, 1 ms its end
    assert ends[-1] == 60
    assert decode.strip().split() == ["decode", marks[0]]
    assert re.fullmatch(r" +\|1 us +\|10 us +\|100 us +\|", axis)
    assert key.endswith(f"{marks[4]} max")


@pytest.mark.parametrize("ns", [0, 1, 10**9, 2**62])
def test_bars_of_any_duration(ns: int) -> None:
    lines = bars([Latency("a", [ns]), Latency("b", [0, 1])], "#=+-.")
    assert all(len(line) <= 80 for line in lines)


def test_durations_in_words() -> None:
    assert [duration(10.0**n) for n in (0, 2, 3, 5, 6, 9)] == [
        *("1 ns", "100 ns", "1 us", "100 us", "1 ms", "1 s")
    ]


def test_json(thousand: Path, say: Say, tmp_path: Path) -> None:
    assert say(str(thousand), "--json", str(tmp_path / "l.json"))[0] == 0
    found = json.loads((tmp_path / "l.json").read_text())
    assert list(found) == ["decode", "decide", "send"]
    assert found["send"]["max"] == 999_000


@pytest.mark.parametrize("count", [1, 500])
def test_a_picture(count: int, say: Say, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="there is no matplotlib")
    orders(tmp_path / "journal", [dict.fromkeys(STAGES, 100 * n + 50) for n in range(count)])
    status, out, _ = say(str(tmp_path / "journal"), "--png", str(tmp_path / "picture"))
    assert status == 0
    assert "up to" not in out  # the picture is there instead of the bars
    data = (tmp_path / "picture").read_bytes()
    assert data.startswith(b"\x89PNG\r\n")
    width, height = struct.unpack(">II", data[16:24])
    assert width > height > 500


def test_a_picture_without_matplotlib(
    thousand: Path, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "engine.latency_plot", raising=False)
    status, _, err = say(str(thousand), "--png", str(tmp_path / "picture.png"))
    assert status == 1
    assert "pip install 'harpoon-engine[plot]'" in err


def test_a_picture_that_cannot_be_written(thousand: Path, say: Say, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="there is no matplotlib")
    status, _, err = say(str(thousand), "--png", str(tmp_path / "none" / "picture.png"))
    assert status == 1
    assert re.fullmatch(r"harpoon: cannot write .*picture\.png \(No such .* --png\n", err)


def test_a_loss_is_told(tmp_path: Path, say: Say) -> None:
    orders(tmp_path, [{"send": 5}] * 9)
    flip(first_segment(tmp_path), places(first_segment(tmp_path))[5] + 50)
    status, out, err = say(str(tmp_path))
    assert status == 0
    assert "1 record missing" in err
    assert re.search("send .* 8 ", out)


def test_no_orders(tmp_path: Path, say: Say) -> None:
    fill(tmp_path, 0)
    with pytest.raises(JournalError, match="has no orders"):
        latencies(tmp_path)
    fill(tmp_path, 10)
    status, out, err = say(str(tmp_path))
    assert (status, out) == (1, "")
    assert re.fullmatch(r"harpoon: the journal .* has no orders: .*\n", err)


@pytest.mark.parametrize("name", ["junk", "missing", "folder"])
def test_what_is_no_journal(name: str, tmp_path: Path, say: Say) -> None:
    (tmp_path / "junk").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "folder").mkdir()
    status, out, err = say(str(tmp_path / name))
    assert (status, out) == (1, "")
    assert re.fullmatch(rf"harpoon: .*{name}.*\n", err)
