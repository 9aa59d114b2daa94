"""Write a journal's records to a file: JSON lines (.jsonl), or Parquet (.parquet) with the extra
`store`. Every record of one kind has the same columns."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from engine.errors import JournalError
from engine.journal import Damage, Reader
from engine.journal_rows import COLUMNS, row
from engine.wallets import warn

Row = dict[str, Any]

_BATCH_ROWS = 10_000
_BOOLS = frozenset(("live", "armed", "dry_run", "connected", "was_open", "is_sell", "reduces"))
_TEXTS = frozenset(
    (
        *("record", "time", "txid", "kind", "exchange", "source", "rule_name", "status"),
        *("client_id", "refusal", "error", "text", "cipher", "reason", "note", "words", "hash"),
        *("payload", "facts", "command", "parent"),
    )
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("journal", type=Path, metavar="JOURNAL", help="its folder, or a segment")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the .jsonl or .parquet to write"
    )


def run(options: argparse.Namespace) -> int:
    """1 when some of the journal is lost: what is left is written, and each loss is told."""
    writers = {".jsonl": write_json_lines, ".parquet": write_parquet}
    write = writers.get(options.out.suffix)
    if write is None:
        raise JournalError(f"{options.out} must end in .jsonl or .parquet: that says what to write")
    losses: list[Damage] = []
    reader = Reader(options.journal)
    try:
        count = write(options.out, _rows(reader, losses))
    except OSError as error:
        raise JournalError(
            f"cannot write {options.out} ({error.strerror}): choose another place for --out"
        ) from error
    print(f"{options.out}: records {count:,}")
    return 1 if losses else 0


def _rows(reader: Reader, losses: list[Damage]) -> Iterator[Row]:
    for item in reader:
        if isinstance(item, Damage):
            losses.append(item)
            warn(f"segment {item.place.segment}: {item.words}")
        else:
            yield row(item)


def write_json_lines(file: Path, rows: Iterable[Row]) -> int:
    """How many were written."""
    count = 0
    with file.open("w") as out:
        for line in rows:
            out.write(json.dumps(line) + "\n")
            count += 1
    return count


def write_parquet(file: Path, rows: Iterable[Row]) -> int:
    """How many were written. All kinds are in one table: a row has what its kind has."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise JournalError(
            f"{file} needs pyarrow: `pip install 'harpoon-engine[store]'`, or name a .jsonl file"
        ) from error
    schema = pyarrow.schema([(name, _parquet_type(pyarrow, name)) for name in COLUMNS])
    count = 0
    lines = map(_flat, rows)
    with parquet.ParquetWriter(file, schema) as out:
        while batch := list(islice(lines, _BATCH_ROWS)):
            try:
                table = pyarrow.Table.from_pylist(batch, schema)
            except (OverflowError, pyarrow.ArrowException) as error:
                raise JournalError(
                    f"{file} cannot hold a number of this journal ({error}): name a .jsonl file"
                ) from error
            out.write_table(table)
            count += len(batch)
    return count


def _flat(line: Row) -> Row:
    """A preamble's facts differ from run to run: they stay JSON."""
    return {**line, "facts": json.dumps(line["facts"])} if "facts" in line else line


def _parquet_type(pyarrow: Any, column: str) -> Any:
    if column in _TEXTS:
        return pyarrow.string()
    if column in _BOOLS:
        return pyarrow.bool_()
    if column == "outpoints":
        return pyarrow.list_(pyarrow.string())
    if column == "outputs":
        output = [("vout", pyarrow.int64()), ("value_sat", pyarrow.int64())]
        return pyarrow.list_(pyarrow.struct([*output, ("address", pyarrow.string())]))
    return pyarrow.int64()
