"""The kill latch: a file that stops engines, whatever becomes of them or of it."""

from __future__ import annotations

import itertools
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from engine.cli import main
from engine.core import Engine, EngineOptions
from engine.errors import LatchError
from engine.latch import Latch
from engine.records import Fired, Notice, Stats

from .hot import running
from .peers import PATIENCE_S, SELL, Connection, Rig, Server, deposit, engine_for

LIVE = EngineOptions(live=True, max_orders=1 << 40)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "harpoon.latch"


@pytest.fixture
def latch(path: Path) -> Latch:
    return Latch(path)


@contextmanager
def connected(server: Server, latch: Latch) -> Iterator[Rig]:
    engine = engine_for(LIVE, SELL)
    engine.use_latch(latch)
    engine.connect(server.address())
    peer = server.connection()
    try:
        yield Rig(engine, peer)
    finally:
        peer.sock.close()
        engine.close()


def in_another_process(code: str, path: Path) -> subprocess.CompletedProcess[str]:
    """`code` has the latch at `path` as `latch`."""
    head = (
        "from engine.latch import Latch; from pathlib import Path; import os, signal, sys, time\n"
        "latch = Latch(Path(sys.argv[1]))\n"
    )
    words = [sys.executable, "-P", "-c", head + code, str(path)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60)


# ---- the file ------------------------------------------------------------------------------------


def test_a_new_latch_is_not_set_and_is_ours_alone(latch: Latch, path: Path) -> None:
    assert latch.state() is None
    assert latch.is_there()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == [path.name], "nothing is left of its making"


def test_everybody_sees_it_set_and_the_first_reason_stays(latch: Latch, path: Path) -> None:
    before_ms = time.time_ns() // 10**6
    Latch(path).set("fat finger é")
    latch.set("another")
    state = latch.state()
    assert state is not None
    assert state.reason == "fat finger é"
    assert state.set_at_ms is not None
    assert before_ms <= state.set_at_ms <= time.time_ns() // 10**6
    latch.reset()
    assert Latch(path).state() is None
    latch.reset()
    assert latch.state() is None


def test_a_reason_of_any_length(latch: Latch) -> None:
    latch.set("x" * 10_000)
    state = latch.state()
    assert state is not None
    assert state.reason == "x" * 255


def test_it_survives_the_process_that_set_it(latch: Latch, path: Path) -> None:
    done = in_another_process("latch.set('before the end'); os.kill(os.getpid(), 9)", path)
    assert done.returncode == -signal.SIGKILL
    state = latch.state()
    assert state is not None
    assert state.reason == "before the end"


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut short": lambda data: data[:-1],
    "too long": lambda data: data + b"\0",
    "zeros": lambda data: bytes(len(data)),
    "another word": lambda data: data[:8] + b"\1" + data[9:],
    "another magic": lambda data: b"X" + data[1:],
    "something else": lambda data: b"[risk]\nlatch = 'this.toml'\n",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_latch_counts_as_set(
    damage: Callable[[bytes], bytes], path: Path, server: Server
) -> None:
    Latch(path)
    written = damage(path.read_bytes())
    path.write_bytes(written)
    latch = Latch(path)
    state = latch.state()
    assert state is not None
    assert "remove it" in state.reason
    assert not latch.is_there()
    with pytest.raises(LatchError, match="remove it"):
        latch.reset()
    with connected(server, latch) as wire:
        assert wire.engine.killed
        assert wire.deposit(1).refusal == "killed"
    path.unlink()
    assert Latch(path).state() is None


def test_setting_what_never_was_a_latch_leaves_it_alone(path: Path) -> None:
    path.write_text("my only copy")
    Latch(path).set("careless")
    assert path.read_text() == "my only copy"


@pytest.mark.parametrize("data", [b"", b"HPLATCH1 and no more"])
def test_setting_a_damaged_one_makes_it_whole(latch: Latch, path: Path, data: bytes) -> None:
    path.write_bytes(data)
    latch.set("anyway")
    state = Latch(path).state()
    assert state is not None
    assert state.reason == "anyway"


def test_where_there_can_be_no_latch(tmp_path: Path) -> None:
    with pytest.raises(LatchError, match="make the folder"):
        Latch(tmp_path / "absent" / "harpoon.latch")
    with pytest.raises(LatchError, match=r"risk\.latch"):
        Latch(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "unmounted" / "harpoon.latch")
    with pytest.raises(LatchError, match=r"link to .*unmounted.*remove the link"):
        Latch(tmp_path / "link")


def test_a_latch_named_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Latch(Path("here.latch")).is_there()


def test_two_that_come_first_make_one(path: Path) -> None:
    made: list[Latch] = []
    threads = [threading.Thread(target=lambda: made.append(Latch(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert all(latch.is_there() and latch.state() is None for latch in made)


# ---- engines -------------------------------------------------------------------------------------


def test_it_stops_a_running_engine_and_a_reset_does_not_help(
    server: Server, latch: Latch, path: Path
) -> None:
    with connected(server, latch) as wire:
        assert wire.deposit(1).refusal is None
        assert not wire.engine.killed
        Latch(path).set("test")
        assert wire.deposit(2).refusal == "killed"
        assert wire.engine.killed
        Latch(path).reset()
        assert wire.deposit(3).refusal == "killed"
    with connected(server, Latch(path)) as wire:
        assert wire.deposit(4).refusal is None


def test_set_and_reset_between_two_orders(server: Server, latch: Latch) -> None:
    with connected(server, latch) as wire:
        latch.set("short")
        latch.reset()
        assert wire.deposit(1).refusal == "killed"


def test_an_engine_that_starts_with_it_set(server: Server, latch: Latch) -> None:
    latch.set("yesterday")
    with connected(server, latch) as wire:
        assert wire.deposit(1).refusal == "killed"


def test_the_engine_sets_it_too(server: Server, latch: Latch, path: Path) -> None:
    with connected(server, latch) as wire:
        assert wire.engine.kill()
        assert wire.deposit(1).refusal == "killed"
    state = Latch(path).state()
    assert state is not None
    assert state.reason == "the running engine was told to stop"


def test_a_latch_that_cannot_be_written_is_told_of(server: Server, path: Path) -> None:
    """A disk that fails, played by a limit on the size of files."""
    with connected(server, Latch(path)) as wire:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
            assert not wire.engine.kill()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert wire.deposit(1).refusal == "killed", "this engine is stopped all the same"


def test_a_parked_engine_tells_a_kill_at_once(latch: Latch) -> None:
    """One without a rule sleeps from one record of its counters to the next, a second."""
    engine = engine_for(LIVE)
    engine.use_latch(latch)
    with running(engine) as hot:
        before = len(hot.all(Stats))
        hot.until(lambda: len(hot.all(Stats)) > before)
        began_ns = time.monotonic_ns()
        engine.kill()
        hot.until(lambda: hot.all(Notice))
        (told_ns,) = [each.t_ns for each in hot.records if isinstance(each.body, Notice)]
        assert told_ns - began_ns < 500_000_000


def until_killed(engine: Engine) -> list[str]:
    """Poll without an order until the engine has noticed: what it says of it."""
    words: list[str] = []
    deadline = time.monotonic() + PATIENCE_S
    while not words:
        assert time.monotonic() < deadline, "it does not notice"
        engine.poll(50_000_000)
        words += [event.words for event in engine.events() if isinstance(event, Notice)]
    return words


def test_without_an_order_it_is_noticed_within_a_second_or_so(
    server: Server, latch: Latch, path: Path
) -> None:
    with connected(server, latch) as wire:
        wire.engine.poll()
        Latch(path).set("test")
        assert until_killed(wire.engine) == ["killed: no order is sent any more"]


def end_removed(path: Path) -> None:
    path.unlink()


def end_replaced(path: Path) -> None:
    path.unlink()
    Latch(path)


def end_emptied(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("end", [end_removed, end_replaced, end_emptied])
def test_a_latch_that_is_gone_is_there_no_more(
    latch: Latch, path: Path, end: Callable[[Path], None]
) -> None:
    """It could not stop anybody, so who controls an engine stops it (tests/test_trading.py)."""
    end(path)
    assert not latch.is_there()


def test_the_engine_itself_does_not_look_at_the_path(
    server: Server, latch: Latch, path: Path
) -> None:
    """A file system that hangs would hang orders and Pongs."""
    with connected(server, latch) as wire:
        path.unlink()
        wire.engine.poll(1_200_000_000)
        wire.engine.poll()
        assert any(isinstance(event, Stats) for event in wire.engine.events()), "it had a look"
        assert wire.deposit(1).refusal is None


def test_an_engine_in_full_fire_stops_at_once(server: Server, latch: Latch, path: Path) -> None:
    """After the call of another process has returned, at most the order that was being sent."""
    engine = engine_for(LIVE, SELL)
    engine.use_latch(latch)
    words = "latch.set('test'); print(time.monotonic_ns())"
    with running(engine) as hot, ThreadPoolExecutor(2) as pool:
        peer = hot.connect(server)
        pool.submit(drain, peer)
        flip: Future[subprocess.CompletedProcess[str]] | None = None
        deadline = time.monotonic() + 60
        for nonce in itertools.count():
            engine.offer_rawtx(deposit("kraken", nonce), time.monotonic_ns())
            hot.read()
            if not flip and len(hot.all(Fired)) > 50:
                flip = pool.submit(in_another_process, words, path)
            if engine.killed and flip and flip.done():
                break
            assert time.monotonic() < deadline, "it goes on"
        peer.sock.close()
        hot.stop()
    flipped_ns = int(flip.result().stdout)
    fired = [event for event in hot.all(Fired) if event.refusal != "not-ready"]
    sent = [event for event in fired if event.refusal is None]
    assert sum(event.sent_ns > flipped_ns for event in sent) <= 1
    first = next(i for i, event in enumerate(fired) if event.refusal == "killed")
    assert len(sent) == first > 50, "it was firing"
    assert {event.refusal for event in fired[first:]} == {"killed"}


def drain(peer: Connection) -> None:
    with suppress(OSError):
        while peer.sock.recv(1 << 16):
            pass


# ---- the commands --------------------------------------------------------------------------------


def test_kill_and_reset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "harpoon.toml"
    config.write_text("[risk]\nlatch = 'the.latch'\n[engine]\nmode = 'a mistake'\n")
    latch = Latch(tmp_path / "the.latch")
    assert main(["reset", "--config", str(config)]) == 0
    assert "not set" in capsys.readouterr().out
    assert main(["kill", "--config", str(config), "--reason", "wild \x1b[2J prices"]) == 0
    assert latch.state() is not None
    assert "no order leaves" in capsys.readouterr().out

    assert main(["reset", "--config", str(config)]) == 2
    told = capsys.readouterr().out
    assert "wild ?[2J prices" in told
    assert time.strftime("%Y-%m-%d") in told
    assert "--yes would reset it" in told
    assert latch.state() is not None

    assert main(["kill", "--latch", str(latch.path)]) == 0
    assert "was set already" in capsys.readouterr().out
    assert main(["reset", "--latch", str(latch.path), "--yes"]) == 0
    assert "wild ?[2J prices" in capsys.readouterr().out
    assert latch.state() is None


def test_kill_where_no_engine_has_been(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "harpoon.toml"
    config.write_text("")
    assert main(["reset", "--config", str(config), "--yes"]) == 0
    assert not (tmp_path / "harpoon.latch").exists()
    assert main(["kill", "--config", str(config)]) == 0
    assert "is it the right file?" in capsys.readouterr().out
    assert Latch(tmp_path / "harpoon.latch").state() is not None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("[risk", "--latch"), ("[risk]\nlatch = 7", "quotation marks"), (None, "cannot be read")],
)
def test_kill_by_a_configuration_that_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, complaint: str
) -> None:
    config = tmp_path / "harpoon.toml"
    if text is not None:
        config.write_text(text)
    assert main(["kill", "--config", str(config)]) == 2
    assert complaint in capsys.readouterr().err


def test_reset_of_a_damaged_latch_tells_the_cure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x"
    path.write_text("")
    assert main(["reset", "--latch", str(path), "--yes"]) == 1
    assert "remove it" in capsys.readouterr().err
