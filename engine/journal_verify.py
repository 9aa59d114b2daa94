"""Read every segment of a journal to its end, and say what is lost. A record that its writer did
not finish is no loss; that is how a process ends that was killed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.errors import JournalError
from engine.journal import SEGMENTS, Damage, Place, Reader
from engine.journal_rows import iso_time
from engine.report import plain


@dataclass(frozen=True, slots=True)
class Segment:
    """What one file holds. `first` and `last` are sequence numbers, 0 when there are none; `end` is
    where the last record in it ends, None when it cannot be read. `losses` says what is wrong."""

    file: Path
    first: int
    last: int
    records: int
    end: Place | None
    losses: tuple[str, ...]


def segments(path: Path) -> Iterator[Segment]:
    """Those of a folder in order, or the one file; JournalError for what is no journal."""
    Reader(path)
    last = 0
    for file in sorted(path.glob(SEGMENTS)) if path.is_dir() else [path]:
        try:
            segment = read(file, last)
        except JournalError as error:
            segment = Segment(file, 0, 0, 0, None, (str(error),))
        last = segment.last or last
        yield segment


def read(file: Path, before: int) -> Segment:
    """`before` is the last sequence number of the segment in front of it, 0 when there is none."""
    reader = Reader(file)
    losses = []
    records = first = last = 0
    for item in reader:
        if isinstance(item, Damage):
            losses.append(item.words)
        elif item.sequence:
            records += 1
            first = first or item.sequence
            last = item.sequence
    if before and first and first != before + 1:
        losses.insert(0, f"records {before + 1:,} to {first - 1:,} missing before it")
    return Segment(file, first, last, records, reader.place(), tuple(losses))


def line(segment: Segment) -> str:
    """One line for a person."""
    name, end = segment.file.name, segment.end
    verdict = f"DAMAGED: {'; '.join(segment.losses)}" if segment.losses else "good"
    if end is None:
        return f"{name}  {verdict}"
    if end.torn:
        verdict += f", torn tail at {end.offset:,}"
    numbers = f"{segment.first:,} to {segment.last:,}" if segment.records else "none yet"
    made = iso_time(end.created_epoch_ns)[:19]
    return f"{name}  run {end.run[:8]}  {made}  records {numbers}  bytes {end.offset:,}  {verdict}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("journal", type=Path, metavar="JOURNAL", help="its folder, or a segment")


def run(options: argparse.Namespace) -> int:
    damaged = False
    found = False
    for segment in segments(options.journal):
        found = True
        damaged |= bool(segment.losses)
        print(plain(line(segment)))
    if not found:
        print(plain(f"{options.journal}: nothing recorded yet"))
    return 1 if damaged else 0
