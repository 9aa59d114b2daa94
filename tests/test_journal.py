"""The journal through its two Python doors, `Journal` and `Reader`: while it is written, after its
writer was killed, and after somebody changed its bytes."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import records
from engine._native import lib
from engine.cli import main
from engine.errors import JournalError, NativeError
from engine.journal import Damage, Journal, Reader
from engine.records import Record

from .journals import (
    OPAQUE,
    PREAMBLE,
    SEGMENT_BYTES,
    fill,
    first_segment,
    flip,
    is_good,
    last_written,
    patch,
    payload,
    places,
    sequences,
    start_writer,
    write,
)


def damages(folder: Path) -> list[Damage]:
    return [item for item in Reader(folder) if isinstance(item, Damage)]


# ---- what is written is read ---------------------------------------------------------------------


@given(
    parts=st.lists(
        st.one_of(
            st.integers(0, 300),
            st.integers(0, lib.HP_RECORD_BYTES_MAX),
            st.just(lib.HP_RECORD_BYTES_MAX),
        ),
        max_size=8,
    )
)
@settings(max_examples=25)
def test_records_of_any_size(tmp_path_factory: pytest.TempPathFactory, parts: list[int]) -> None:
    folder = tmp_path_factory.mktemp("journal")
    texts = [random.Random(size).randbytes(size) for size in parts]
    with Journal(folder, SEGMENT_BYTES) as journal:
        for number, text in enumerate(texts):
            journal.prepare(PREAMBLE)
            journal.append(OPAQUE, text, number)
    found = [r for r in Reader(folder) if isinstance(r, Record) and r.sequence]
    assert [r.body for r in found] == [records.Unknown(OPAQUE, text) for text in texts]
    assert [(r.sequence, r.t_ns) for r in found] == [(n + 1, n) for n in range(len(texts))]


def test_a_record_that_is_too_long(tmp_path: Path) -> None:
    with Journal(tmp_path, SEGMENT_BYTES) as journal:
        journal.prepare(PREAMBLE)
        with pytest.raises(NativeError, match="longer than the journal takes"):
            journal.append(lib.HP_RECORD_NOTICE, bytes(lib.HP_RECORD_BYTES_MAX + 1), 0)
        write(journal, 3)
    assert sequences(tmp_path) == [1, 2, 3]


def test_times_since_the_epoch(tmp_path: Path) -> None:
    with Journal(tmp_path, SEGMENT_BYTES) as journal:
        write(journal, 1)
        journal.append(lib.HP_RECORD_NOTICE, b"", lib.hp_now_ns() - 3_600_000_000_000)
    _, now, earlier = Reader(tmp_path)
    assert isinstance(now, Record)
    assert isinstance(earlier, Record)
    assert abs(now.epoch_ns - time.time_ns()) < 60e9
    assert abs(now.epoch_ns - earlier.epoch_ns - 3_600_000_000_000) < 60e9


def test_a_journal_goes_on_where_the_last_run_stopped(tmp_path: Path) -> None:
    runs = set()
    for run in range(3):
        with Journal(tmp_path, SEGMENT_BYTES) as journal:
            runs.add(journal.run)
            write(journal, 10, first=1 + 10 * run)
    assert sequences(tmp_path) == list(range(1, 31))
    assert len(runs) == 3
    assert sorted(f.name for f in tmp_path.glob("*.hpj")) == [f"0000000{n}.hpj" for n in (1, 2, 3)]


def test_a_run_without_a_record_leaves_nothing(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    for _ in range(3):
        with Journal(tmp_path, SEGMENT_BYTES) as journal:
            assert journal.prepare(PREAMBLE)
    assert [f.name for f in tmp_path.glob("*.hpj")] == ["00000001.hpj"]
    assert first_segment(tmp_path).stat().st_size < 10_000  # what is not needed is given back


def test_full_segments_follow_each_other(tmp_path: Path) -> None:
    with Journal(tmp_path, SEGMENT_BYTES) as journal:
        assert journal.prepare(PREAMBLE)
        assert not journal.prepare(PREAMBLE)  # one waits already
        count = 0
        while lib.hp_journal_room(journal.handle) >= 2048:
            count += 1
            journal.append(OPAQUE, payload(count), 0)
        with pytest.raises(NativeError, match="no room"):
            journal.append(OPAQUE, bytes(2048), 0)
        assert sequences(tmp_path) == list(range(1, count + 1))
        assert not lib.hp_journal_ready(journal.handle)
        assert journal.prepare(PREAMBLE)
        assert lib.hp_journal_ready(journal.handle)
        write(journal, 5, first=count + 1)
        assert sequences(tmp_path) == list(range(1, count + 6))


def test_a_reader_is_told_what_numbers_mean(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    reader = Reader(tmp_path)
    preamble, _ = reader
    assert isinstance(preamble, Record)
    assert preamble.body == records.Preamble(PREAMBLE)
    assert (reader.names.exchange(1), reader.names.rule(0)) == ("okx", "whale")
    assert reader.names.order(0)["symbol"] == "BTCUSDT"
    assert (reader.names.exchange(7), reader.names.rule(7)) == ("exchange 7", "rule 7")
    assert (reader.names.source(lib.HP_NOBODY), reader.names.rule(None)) == ("unknown", None)


# ---- read while it is written --------------------------------------------------------------------


def test_a_reader_beside_the_writer_misses_nothing(tmp_path: Path) -> None:
    count = 30_000  # several segments
    folder = tmp_path / "journal"
    folder.mkdir()
    (folder / "lock").touch()
    writer = start_writer(folder, tmp_path / "progress", 1, count)
    reader = Reader(folder)
    expected = 1
    deadline = time.monotonic() + 60
    while expected <= count:
        assert time.monotonic() < deadline
        for record in reader:
            assert isinstance(record, Record), record
            if record.sequence:
                assert record.sequence == expected
                assert is_good(record)
                expected += 1
    assert writer.wait(30) == 0
    assert list(reader) == []
    assert reader.place().segment > 2


@pytest.mark.parametrize("seed", range(3))
def test_kill_9_at_any_moment(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    folder, progress = tmp_path / "journal", tmp_path / "progress"
    last = 0
    for _ in range(3):
        writer = start_writer(folder, progress, last + 1, 10**9)
        while last_written(progress) == 0 and writer.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.random() * 0.1)
        writer.kill()
        writer.wait()
        found = sequences(folder)
        assert found == list(range(1, len(found) + 1))
        assert 0 < last_written(progress) <= len(found)
        last = len(found)
    assert main(["journal", "verify", str(folder)]) == 0


# ---- torn tails and damage -----------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0, 1, 4, 31, 32, 33, 60])
def test_a_tail_that_was_cut(keep: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, 20)
    at = places(first_segment(tmp_path))[20]
    os.truncate(first_segment(tmp_path), at + keep)
    assert sequences(tmp_path) == list(range(1, 20))
    assert main(["journal", "verify", str(tmp_path)]) == 0
    assert (f"torn tail at {at:,}" in capsys.readouterr().out) == (keep > 0)
    fill(tmp_path, 5, first=20)  # the next run goes on
    assert sequences(tmp_path) == list(range(1, 25))


@pytest.mark.parametrize("offset", [0, 4, 7, 8, 16, 24, 28, 32, 39])
def test_a_tail_that_was_garbled(
    offset: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, 20)
    at = places(first_segment(tmp_path))[20]
    flip(first_segment(tmp_path), at + offset)
    reader = Reader(tmp_path)
    assert [r.sequence for r in reader if isinstance(r, Record)] == list(range(20))
    assert reader.place().torn
    assert list(reader) == []
    assert main(["journal", "verify", str(tmp_path)]) == 0
    assert f"torn tail at {at:,}" in capsys.readouterr().out
    fill(tmp_path, 5, first=20)
    assert sequences(tmp_path) == list(range(1, 25))
    assert [type(item) for item in reader] == [Record] * 6  # it followed to the next segment


@pytest.mark.parametrize("offset", [0, 4, 7, 8, 16, 24, 28, 32, 39])
def test_damage_in_the_middle(
    offset: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, 40)
    where = places(first_segment(tmp_path))
    flip(first_segment(tmp_path), where[20] + offset)
    assert sequences(tmp_path) == [*range(1, 20), *range(21, 41)]
    (damage,) = damages(tmp_path)
    assert (damage.place.segment, damage.place.offset) == (1, where[20])
    assert damage.place.skipped_bytes == where[21] - where[20]
    assert damage.place.missing == 1
    assert main(["journal", "verify", str(tmp_path)]) == 1
    assert f"at {where[20]:,}, 1 record missing" in capsys.readouterr().out


@pytest.mark.parametrize("data", [bytes(4096), b"\xff" * 4096, random.Random(1).randbytes(4096)])
def test_a_page_is_lost(data: bytes, tmp_path: Path) -> None:
    fill(tmp_path, 60)
    segment = first_segment(tmp_path)
    patch(segment, 8192, data)
    lost = {n for n, at in places_within(tmp_path, 60).items() if at}
    assert lost
    assert sequences(tmp_path) == [n for n in range(1, 61) if n not in lost]
    (damage,) = damages(tmp_path)
    assert damage.place.missing == len(lost)
    assert main(["journal", "verify", str(tmp_path)]) == 1


def places_within(folder: Path, count: int) -> dict[int, bool]:
    """Which records touch the second page behind the header's, by what was written."""
    begin, found = 4096 + 64 * -(-(32 + len(json.dumps(PREAMBLE))) // 64), {}
    for number in range(1, count + 1):
        end = begin + 32 + len(payload(number))
        found[number] = begin < 12288 and end > 8192
        begin += 64 * -(-(32 + len(payload(number))) // 64)
    return found


def test_a_damaged_header_costs_no_record(tmp_path: Path) -> None:
    fill(tmp_path, 10)
    flip(first_segment(tmp_path), 40)  # when it was made
    (damage,) = damages(tmp_path)
    assert (damage.place.segment, damage.place.offset) == (1, 0)
    assert sequences(tmp_path) == list(range(1, 11))
    assert main(["journal", "verify", str(tmp_path)]) == 1


def test_a_segment_of_junk_is_left_out(tmp_path: Path) -> None:
    fill(tmp_path, 10)
    (tmp_path / "00000002.hpj").write_bytes(random.Random(2).randbytes(100_000))
    fill(tmp_path, 10, first=11)
    assert sequences(tmp_path) == list(range(1, 21))
    assert [d.place.segment for d in damages(tmp_path)] == [2]
    assert main(["journal", "verify", str(tmp_path)]) == 1


def test_a_segment_of_another_version_is_left_out(tmp_path: Path) -> None:
    fill(tmp_path, 10)
    swapped = first_segment(tmp_path).read_bytes()
    (tmp_path / "00000002.hpj").write_bytes(swapped[:8] + swapped[11:7:-1] + swapped[12:])
    fill(tmp_path, 10, first=11)
    (damage,) = damages(tmp_path)
    assert "another version" in damage.words
    assert sequences(tmp_path) == list(range(1, 21))
    with pytest.raises(JournalError, match="no journal of this version"):
        Reader(tmp_path / "00000002.hpj")


def test_a_segment_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run in range(3):
        fill(tmp_path, 10, first=1 + 10 * run)
    (tmp_path / "00000002.hpj").unlink()
    (damage,) = damages(tmp_path)
    assert damage.place.missing == 10
    assert main(["journal", "verify", str(tmp_path)]) == 1
    assert "records 11 to 20 missing" in capsys.readouterr().out
    first_segment(tmp_path).unlink()  # the oldest may go: that is how room is made
    assert sequences(tmp_path) == list(range(21, 31))
    assert main(["journal", "verify", str(tmp_path)]) == 0


def test_the_end_of_a_full_segment_is_lost(tmp_path: Path) -> None:
    fill(tmp_path, 12_000)
    assert len(list(tmp_path.glob("*.hpj"))) == 2
    where = places(first_segment(tmp_path))
    last = max(where)
    os.truncate(first_segment(tmp_path), where[last - 2])
    (damage,) = damages(tmp_path)
    assert damage.place.missing == 3
    assert main(["journal", "verify", str(tmp_path)]) == 1


def test_cutting_a_file_does_not_kill_its_reader(tmp_path: Path) -> None:
    fill(tmp_path, 5_000)
    reader = iter(Reader(tmp_path))
    for _ in range(10):
        next(reader)
    os.truncate(first_segment(tmp_path), 0)
    rest = [item for item in reader if isinstance(item, Record)]
    assert all(map(is_good, rest))  # what it had read ahead, and then the end


@given(
    patches=st.lists(
        st.tuples(st.integers(0, 40_000), st.binary(min_size=1, max_size=200)), max_size=6
    ),
    cut=st.none() | st.integers(0, 40_000),
)
@settings(max_examples=60)
def test_no_damaged_record_is_given(
    tmp_path_factory: pytest.TempPathFactory, patches: list[tuple[int, bytes]], cut: int | None
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    fill(folder, 60)
    for at, data in patches:
        patch(first_segment(folder), at, data)
    if cut is not None:
        os.truncate(first_segment(folder), cut)
    found = sequences(folder)
    assert found == sorted(set(found))


def test_a_text_cannot_pass_for_a_record(tmp_path: Path) -> None:
    other = tmp_path / "other"
    fill(other, 3)
    copied = first_segment(other).read_bytes()[4096:]
    with Journal(tmp_path / "journal", SEGMENT_BYTES) as journal:
        write(journal, 1)
        forged = b"\0" * 32 + copied  # its records begin at slots here, too
        journal.append(lib.HP_RECORD_NOTICE, forged, 0)
        write(journal, 1, first=3)
    where = places(first_segment(tmp_path / "journal"))
    flip(first_segment(tmp_path / "journal"), where[2] + 4)
    assert sequences(tmp_path / "journal") == [1, 3]


# ---- where nothing can be written ----------------------------------------------------------------


def test_a_second_writer_is_told_who_writes(tmp_path: Path) -> None:
    told = rf"written by process {os.getpid()}: end that"
    with Journal(tmp_path, SEGMENT_BYTES), pytest.raises(JournalError, match=told):
        Journal(tmp_path, SEGMENT_BYTES)
    fill(tmp_path, 1)


def test_the_folders_parent_is_missing(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"make the folder .*none first"):
        Journal(tmp_path / "none" / "journal")


def test_the_folder_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="is a file: name a folder"):
        Journal(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_the_folder_is_read_only(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(JournalError, match="Permission denied; name another folder"):
        Journal(tmp_path)


def test_files_may_not_grow_so_large(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(tmp_path, SEGMENT_BYTES) as journal:
        write(journal, 1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (SEGMENT_BYTES - 1, hard))
        try:
            with pytest.raises(JournalError, match=r"cannot grow: .* \(`ulimit -f`\)"):
                journal.prepare(PREAMBLE)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert [f.name for f in tmp_path.glob("*.hpj")] == ["00000001.hpj"]
        journal.append(OPAQUE, payload(2), 0)  # what was there goes on
        write(journal, 3, first=3)
    assert sequences(tmp_path) == list(range(1, 6))
    assert not list(tmp_path.glob("*.tmp"))


def test_the_disk_is_full(tmp_path: Path) -> None:
    """A file system of 6 MB: one segment goes in, the next does not."""
    inside = ["unshare", "--user", "--map-root-user", "--mount"]
    mount = f"mount -t tmpfs -o size=6m none {tmp_path}"
    if shutil.which("unshare") is None or subprocess.run([*inside, "sh", "-c", mount]).returncode:
        pytest.skip("this process may not mount a file system of its own")
    code = (
        "import sys; from pathlib import Path; from engine.journal import Journal\n"
        "from engine.errors import JournalError\n"
        "journal = Journal(Path(sys.argv[1]) / 'j', 4 << 20); journal.prepare({})\n"
        "journal.append(12, b'x', 0)\n"
        "try:\n    journal.prepare({})\nexcept JournalError as error:\n    print(error)\n"
        "journal.append(12, b'y', 0)\n"
    )
    command = f'{mount} && exec "$@"'
    done = subprocess.run(
        [*inside, "sh", "-c", command, "sh", sys.executable, "-P", "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.search("no room for the journal .*: its next segment takes 4 MiB", done.stdout)
