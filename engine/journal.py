"""The journal (csrc/journal.c): `Journal` for the process that writes a folder, `Reader` for all
who read it, while it is written or long after."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from engine._native import check, ffi, lib, text
from engine.errors import JournalError
from engine.records import Names, Preamble, Record, decode

SEGMENT_BYTES: int = lib.HP_SEGMENT_BYTES
SEGMENTS = "*.hpj"


class Journal:
    """This process's journal in `folder`, which is made when it is absent. JournalError when it is
    another's, or cannot be written."""

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        error = ffi.new("int *")
        handle = lib.hp_journal_open(os.fsencode(folder), segment_bytes, error)
        if handle == ffi.NULL:
            raise JournalError(_unwritable(folder, segment_bytes, -error[0]))
        self.folder = folder
        self.segment_bytes = segment_bytes
        self._handle: Any = handle

    @property
    def handle(self) -> Any:
        """The hp_journal *, for the engine. NULL once closed."""
        return self._handle

    @property
    def run(self) -> bytes:
        """16 random bytes that tell this run from all others."""
        return bytes(ffi.buffer(lib.hp_journal_run(self._handle), 16))

    def prepare(self, preamble: Mapping[str, Any] | bytes) -> bool:
        """Have a segment waiting: True when one was made. `preamble`, as JSON if it is bytes, says
        what the numbers in its records mean: `exchanges` and `rules` by name, `orders`, `mode`,
        `version`, `pid`."""
        data = preamble if isinstance(preamble, bytes) else json.dumps(preamble).encode()
        code = lib.hp_journal_prepare(self._handle, data, len(data))
        if code < 0:
            raise JournalError(_unwritable(self.folder, self.segment_bytes, -code))
        return bool(code)

    def append(self, kind: int, payload: bytes, t_ns: int) -> None:
        """One record of enum hp_record_kind, by the writer's thread."""
        check(
            lib.hp_journal_append(
                self._handle, kind, t_ns, ffi.from_buffer(payload), len(payload), ffi.NULL, 0
            ),
            f"writing to the journal {self.folder}",
        )

    def close(self) -> None:
        """Once nothing writes to it any more."""
        lib.hp_journal_close(self._handle)
        self._handle = ffi.NULL

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reader stands; fields as in hp_journal_place."""

    segment: int
    offset: int
    skipped_bytes: int
    missing: int
    created_epoch_ns: int
    run: str
    torn: bool


@dataclass(frozen=True, slots=True)
class Damage:
    """Something of the journal is lost. `words` says what."""

    place: Place
    words: str


class Reader:
    """The records of a journal's folder, or of one of its segments. Iterating gives all that are
    there now; iterating again, those that came since. `kinds` (of enum hp_record_kind): only these,
    and what says that something is lost. JournalError for what is no journal."""

    def __init__(self, path: Path, kinds: Container[int] | None = None) -> None:
        error = ffi.new("int *")
        handle = lib.hp_journal_reader_open(os.fsencode(path), error)
        if handle == ffi.NULL:
            raise JournalError(_unreadable(path, -error[0]))
        self._handle: Any = ffi.gc(handle, lib.hp_journal_reader_close)
        self._record = ffi.new("hp_record *")
        self._payload = ffi.new("const uint8_t **")
        self._epoch_ns = ffi.new("int64_t *")
        self._place = ffi.new("hp_journal_place *")
        self._kinds = kinds
        self.names = Names()

    def skip(self) -> None:
        """Before the first step: leave out what the folder holds by now."""
        lib.hp_journal_reader_skip(self._handle)

    def __iter__(self) -> Iterator[Record | Damage]:
        while code := lib.hp_journal_reader_next(
            self._handle, self._record, self._payload, self._epoch_ns
        ):
            if code < 0:
                yield self._read_damage(code)
            elif self._wants(self._record.kind):
                yield self._read_record()

    def _wants(self, kind: int) -> bool:
        return self._kinds is None or kind in self._kinds or kind == lib.HP_RECORD_PREAMBLE

    def place(self) -> Place:
        """What the last step was about; behind the last record, where the next will be."""
        p = self._place
        lib.hp_journal_reader_place(self._handle, p)
        return Place(
            segment=p.segment,
            offset=p.offset,
            skipped_bytes=p.skipped_bytes,
            missing=p.missing,
            created_epoch_ns=p.created_epoch_ns,
            run=bytes(p.run).hex(),
            torn=bool(p.torn),
        )

    def _segment(self) -> int:
        lib.hp_journal_reader_place(self._handle, self._place)
        return int(self._place.segment)

    def _read_record(self) -> Record:
        record = self._record
        payload = bytes(ffi.buffer(self._payload[0], record.payload_len))
        body = decode(record.kind, payload, self.names)
        if isinstance(body, Preamble):
            self.names = Names.of(body.facts)
        return Record(
            sequence=record.sequence,
            t_ns=record.t_ns,
            epoch_ns=self._epoch_ns[0],
            segment=self._segment(),
            body=body,
            names=self.names,
        )

    def _read_damage(self, code: int) -> Damage:
        place = self.place()
        if code == -lib.HP_EJOURNAL_FILE:
            return Damage(place, "written by another version of harpoon, left out")
        what = f"{place.skipped_bytes:,} bytes damaged" if place.skipped_bytes else "a gap"
        return Damage(place, f"{what} at {place.offset:,}, {_missing(place.missing)}")


def _missing(records: int) -> str:
    return "1 record missing" if records == 1 else f"{records:,} records missing"


def _unwritable(folder: Path, segment_bytes: int, code: int) -> str:
    if code == lib.HP_EJOURNAL_LOCKED:
        return (
            f"the journal {folder} is written by {_writer(folder)}: end that first, or name "
            "another folder"
        )
    if code in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"there is no room for the journal {folder}: its next segment takes "
            f"{segment_bytes >> 20} MiB; free some, or name a folder on another disk"
        )
    if code == errno.EFBIG:
        return (
            f"the journal {folder} cannot grow: its segments take {segment_bytes >> 20} MiB and "
            "this process may not write files so large (`ulimit -f`)"
        )
    if code == errno.ENOENT:
        return f"the journal {folder} cannot be made: make the folder {folder.parent} first"
    if code in (errno.ENOTDIR, errno.EEXIST):
        return f"the journal {folder} is a file: name a folder, which may be absent"
    return f"the journal {folder} cannot be written: {_reason(code)}; name another folder"


def _writer(folder: Path) -> str:
    try:
        pid = int((folder / "lock").read_text())
    except (OSError, ValueError):
        return "another process"
    return f"process {pid}"


def _unreadable(path: Path, code: int) -> str:
    if code == lib.HP_EJOURNAL_FILE:
        return f"{path} is no journal of this version: name the folder that a run wrote"
    return f"the journal {path} cannot be read: {_reason(code)}; name the folder that a run wrote"


def _reason(code: int) -> str:
    return text(lib.hp_strerror(code)) if code >= lib.HP_ETX_TRUNCATED else os.strerror(code)
