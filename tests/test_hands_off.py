"""engine.hands_off: the mark that a kill and a reset leave beside the latch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine import assemble, runner
from engine.cli import main
from engine.config import load
from engine.core import Engine
from engine.credentials import credentials
from engine.errors import LatchError
from engine.hands_off import mark_file, mark_of, set_mark
from engine.latch import Latch
from engine.sim.authority import CertificateFiles

from .harpoon_run import write_config
from .peers import book_of


@pytest.fixture
def latch(tmp_path: Path) -> Path:
    path = tmp_path / "harpoon.latch"
    Latch(path)
    return path


def command(name: str, latch: Path, *flags: str) -> int:
    return main([name, "--latch", str(latch), *flags])


def test_a_kill_marks_and_so_does_a_reset(latch: Path) -> None:
    assert mark_of(latch) == ""
    assert command("kill", latch) == 0
    killed = mark_of(latch)
    assert killed
    assert command("reset", latch) == 2
    assert mark_of(latch) == killed, "that only told"
    assert command("reset", latch, "--yes") == 0
    assert mark_of(latch) not in ("", killed)
    assert Latch(latch).state() is None


def test_a_kill_marks_though_the_latch_is_taken_away(latch: Path) -> None:
    assert command("kill", latch) == 0
    latch.unlink()
    assert mark_of(latch)


def test_a_reset_while_a_run_starts_ends_it(
    tmp_path: Path, files: CertificateFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has not read what the reset has just made a person's."""
    config = load(write_config(tmp_path, url="wss://127.0.0.1:1/ws", ca_file=files.ca_file))
    Latch(config.risk.latch).set("stop")

    def make_engine(*arguments: Any) -> Engine:
        Latch(config.risk.latch).reset()
        return assemble.make_engine(*arguments)

    monkeypatch.setattr(runner, "make_engine", make_engine)
    keys = credentials(config.venue, {"HARPOON_API_KEY": "k" * 64, "HARPOON_API_SECRET": "s" * 64})
    with pytest.raises(LatchError, match="was reset while this run started: start it again"):
        runner.Runner(config, keys, book_of("kraken"), lambda _line: None)


@pytest.mark.parametrize("how", ["set", "not set", "gone"])
def test_exits_may_be_resumed(latch: Path, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("kill", latch) == 0
    if how == "not set":
        Latch(latch).reset()
    if how == "gone":
        latch.unlink()
    assert command("reset", latch, "--resume-exits") == (2 if how == "set" else 0)
    assert mark_of(latch), "without --yes it only tells"
    assert command("reset", latch, "--yes", "--resume-exits") == 0
    assert mark_of(latch) == ""
    assert "the next run leaves the positions" in capsys.readouterr().out


@pytest.mark.parametrize("data", [b"", b"1700000000000\n", b"\xff\x00", b"x" * 10**5])
def test_whatever_is_there_is_a_mark(latch: Path, data: bytes) -> None:
    mark_file(latch).write_bytes(data)
    assert 1 <= len(mark_of(latch)) <= 64


def test_where_no_mark_can_be(latch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The kill counts all the same; a reset waits."""
    mark_file(latch).mkdir()
    with pytest.raises(LatchError, match="make it readable"):
        mark_of(latch)
    with pytest.raises(LatchError, match="make it writable"):
        set_mark(latch)
    assert command("kill", latch) == 0
    assert "make it writable" in capsys.readouterr().out
    assert command("reset", latch, "--yes") == 1
    assert "make it writable" in capsys.readouterr().err
    assert command("reset", latch, "--yes", "--resume-exits") == 1
    assert Latch(latch).state() is not None
