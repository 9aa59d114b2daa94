"""Journals for the tests: payloads that tell their sequence number, and processes that write."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from engine._native import lib
from engine.journal import Journal, Reader
from engine.records import Record, Unknown

PREAMBLE = {
    "exchanges": ["binance", "okx"],
    "rules": ["whale"],
    "orders": [{"symbol": "BTCUSDT", "side": "SELL", "type": "MARKET", "quantity": "0.001"}],
    "mode": "dry-run",
    "version": "0.1.0",
    "pid": 4711,
}
SEGMENT_BYTES = lib.HP_SEGMENT_BYTES_MIN
OPAQUE = 1000  # a kind of record that has any payload


def payload(sequence: int) -> bytes:
    """0 to about 1,000 bytes that no other record has."""
    return sequence.to_bytes(8, "little") * (sequence * 2654435761 % 125)


def write(journal: Journal, count: int, first: int = 1) -> None:
    """`count` messages from sequence number `first` on, a new segment ready at any time."""
    for sequence in range(first, first + count):
        journal.prepare(PREAMBLE)
        journal.append(OPAQUE, payload(sequence), lib.hp_now_ns())


def fill(folder: Path, count: int, first: int = 1) -> None:
    """A run of its own that writes so many."""
    with Journal(folder, SEGMENT_BYTES) as journal:
        write(journal, count, first)


def is_good(record: Record) -> bool:
    """It says what its sequence number lets expect."""
    return record.sequence == 0 or record.body == Unknown(OPAQUE, payload(record.sequence))


def sequences(folder: Path) -> list[int]:
    """Of all records that can be read; each is as it was written."""
    found = [record for record in Reader(folder) if isinstance(record, Record)]
    assert all(map(is_good, found))
    return [record.sequence for record in found if record.sequence]


def places(file: Path) -> dict[int, int]:
    """Where each record lies in its segment, by sequence number."""
    reader = Reader(file)
    return {r.sequence: reader.place().offset for r in reader if isinstance(r, Record)}


def patch(file: Path, at: int, data: bytes) -> None:
    with file.open("r+b") as out:
        out.seek(at)
        out.write(data)


def flip(file: Path, at: int) -> None:
    patch(file, at, bytes([file.read_bytes()[at] ^ 0x10]))


def first_segment(folder: Path) -> Path:
    return folder / "00000001.hpj"


_WRITER = """
import mmap, sys
from pathlib import Path
from engine._native import lib
from engine.journal import Journal
from tests.journals import OPAQUE, PREAMBLE, SEGMENT_BYTES, payload

folder, first, count, progress = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
with open(progress, "r+b") as file, Journal(folder, SEGMENT_BYTES) as journal:
    written = mmap.mmap(file.fileno(), 8)
    for sequence in range(first, first + count):
        journal.prepare(PREAMBLE)
        journal.append(OPAQUE, payload(sequence), lib.hp_now_ns())
        written[:] = sequence.to_bytes(8, "little")
"""


def start_writer(folder: Path, progress: Path, first: int, count: int) -> subprocess.Popen[bytes]:
    """A process that writes `count` records and keeps the number of the last in `progress`."""
    progress.write_bytes(bytes(8))
    root = str(Path(__file__).resolve().parents[1])
    code = f"import sys; sys.path.append({root!r})\n{_WRITER}"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code, str(folder), str(first), str(count), str(progress)]
    )


def last_written(progress: Path) -> int:
    return int.from_bytes(progress.read_bytes(), "little")
