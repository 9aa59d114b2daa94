"""Address books: which exchange an address belongs to.

Read from CSV or TOML, written as CSV, and built into the C table the engine looks scripts up in.
A label is what somebody published, not proof, so every entry says where it comes from.
"""

from __future__ import annotations

import csv
import difflib
import io
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

from engine._native import check, ffi, lib, text
from engine.address import address_of, script_of
from engine.errors import BookError, HarpoonError

KINDS = ("", "hot", "cold", "deposit", "learned")  # by enum hp_wallet
_COLUMNS = ("address", "exchange", "label", "source", "kind", "added")
_MANDATORY_COLUMNS = ("address", "exchange")
_WALLET_KEYS = ("address", "exchange", "note")
_NAME_BYTES_MAX = 63  # HP_EXCHANGE_NAME_MAX
_LABEL_BYTES_MAX = 4095  # HP_LABEL_MAX
_SEEDS_MOST = 3
_EPOCH = date(1970, 1, 1)
_DAY_S = 86_400


@dataclass(frozen=True)
class BookEntry:
    """One address and the exchange it is said to be of; AddressError or BookError if it cannot be.

    The exchange's name is kept in lower case. `source` is where the claim comes from, `kind` one of
    KINDS, `added` the day since when it is known.
    """

    address: str
    exchange: str
    label: str = ""
    source: str = ""
    kind: str = ""
    added: date | None = None
    script: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "script", script_of(self.address))
        object.__setattr__(self, "exchange", _lowered(self.exchange))
        if not self.exchange:
            raise BookError(f"{self.address} has no exchange: write its name")
        if not (self.exchange + self.label + self.source).isprintable():
            raise BookError(
                f"{self.address} has a line break or control character beside it: take it out"
            )
        if len(self.exchange.encode()) > _NAME_BYTES_MAX:
            raise BookError(
                f"the exchange of {self.address} has a name of more than {_NAME_BYTES_MAX} "
                "bytes: shorten it"
            )
        if len(self.label.encode()) > _LABEL_BYTES_MAX:
            raise BookError(f"the label of {self.address} is too long: shorten it")
        if self.kind not in KINDS:
            raise BookError(
                f"{self.address} is of the kind {self.kind!r}: write hot, cold, deposit, learned "
                "or nothing"
            )


Loaded = tuple[list[BookEntry], list[BookError]]


def load(path: Path) -> Loaded:
    """The entries of a book, .csv or .toml by its name, and an error for every bad row.

    BookError when the file cannot be read at all, or has no good row.
    """
    loaders: Mapping[str, Callable[[Path], Loaded]] = {".csv": load_csv, ".toml": load_toml}
    loader = loaders.get(path.suffix.lower())
    if loader is None:
        raise BookError(f"{path}: an address book is a .csv or a .toml file: rename or convert it")
    return loader(path)


def load_csv(path: Path) -> Loaded:
    """As load(). The header names the columns: address, exchange and, if wanted, label, source,
    kind, added."""
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    entries: list[BookEntry] = []
    errors: list[BookError] = []
    try:
        columns = _header(path, next(reader, []))
        for cells in filter(None, reader):
            where = f"{path}: line {reader.line_num}"
            try:
                entries.append(_csv_entry(columns, cells, f"{path.name} line {reader.line_num}"))
            except HarpoonError as error:
                errors.append(BookError(f"{where}: {error}"))
    except csv.Error as error:
        raise BookError(
            f"{path}: line {reader.line_num}: not valid CSV ({error}): check the quotation marks"
        ) from error
    return _some(path, entries, errors)


def load_toml(path: Path) -> Loaded:
    """As load(). The file has [[wallet]] tables: address, exchange and, if wanted, note."""
    return _parse_toml(_read_text(path), path)


def default_entries() -> list[BookEntry]:
    """The book that comes with harpoon."""
    resource = files("engine").joinpath("default_book.toml")
    entries, errors = _parse_toml(resource.read_text("utf-8"), Path("default_book.toml"))
    if errors:
        raise errors[0]
    return entries


def export_csv(entries: Iterable[BookEntry], path: Path) -> None:
    """Write a book that load_csv() reads back."""
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_COLUMNS)
            writer.writerows([getattr(entry, column) for column in _COLUMNS] for entry in entries)
    except OSError as error:
        raise BookError(
            f"{path}: cannot be written: {error.strerror}: choose another file"
        ) from error


class Book:
    """A table from scriptPubKey to exchange, which never changes.

    `handle` is the C table; it lives as long as this object, which must outlive whoever uses it.
    """

    def __init__(self, entries: Iterable[BookEntry], like: Book | None = None) -> None:
        """`like`: exchanges that this book has get the same ids. BookError when two exchanges claim
        one address."""
        self._entries: dict[bytes, BookEntry] = {}
        for entry in entries:
            known = self._entries.setdefault(entry.script, entry)
            if known.exchange != entry.exchange:
                raise BookError(
                    f"{entry.address} is {known.exchange!r} according to {_origin(known)} but "
                    f"{entry.exchange!r} according to {_origin(entry)}: remove one of the two"
                )
        first_names = like.exchanges_by_id() if like else []
        code = self._build(first_names)
        for _ in range(_SEEDS_MOST - 1):
            if code != -lib.HP_EBOOK_CROWDED:
                break
            code = self._build(first_names)
        check(code, "building the address book")
        self._ids: dict[str, int] = _ids(self.handle)

    def _build(self, first_names: Iterable[str]) -> int:
        """Under a seed of its own; what hp_book_build() says."""
        handle = lib.hp_book_new(max(len(self._entries), 1), os.urandom(16))
        if handle == ffi.NULL:
            raise BookError(f"memory is short for a book of {len(self._entries)} addresses")
        self.handle: Any = ffi.gc(handle, lib.hp_book_free)
        for name in first_names:
            check(lib.hp_book_exchange(self.handle, name.encode()), name)
        self._add_entries()
        return int(lib.hp_book_build(self.handle))

    @classmethod
    def open(cls, path: Path, verify: bool = False) -> Book:
        """A book that save() wrote; BookError when it is not one. Up to 64 MiB are read into memory
        and checked to their end. A larger one is mapped: there at once, shared by all processes
        that open it, and to be replaced by a rename only; `verify` reads it to its end first."""
        error = ffi.new("int *")
        handle = lib.hp_book_open(os.fsencode(path), error)
        if handle == ffi.NULL:
            raise BookError(f"{path}: cannot be used: {_reason(error[0])}")
        book = cls.__new__(cls)
        book._entries = {}
        book.handle = ffi.gc(handle, lib.hp_book_free)
        book._ids = _ids(book.handle)
        if verify and (code := lib.hp_book_verify(book.handle)) < 0:
            raise BookError(f"{path}: cannot be used: {_reason(code)}")
        return book

    def save(self, path: Path) -> None:
        """Write what open() reads, whole or not at all. Where the claims come from is not kept."""
        code = lib.hp_book_save(self.handle, os.fsencode(path))
        if code < 0:
            raise BookError(f"{path}: cannot be written: {_reason(code)}: choose another file")

    def _add_entries(self) -> None:
        owners: dict[tuple[str, str, str, date | None], int] = {}
        for script, entry in self._entries.items():
            claim = (entry.exchange, entry.label, entry.kind, entry.added)
            if claim not in owners:
                owners[claim] = self._add_owner(entry)
            what = f"{entry.address} ({entry.exchange})"
            check(lib.hp_book_add(self.handle, script, len(script), owners[claim]), what)

    def _add_owner(self, entry: BookEntry) -> int:
        what = f"{entry.address} ({entry.exchange})"
        owner = ffi.new(
            "hp_owner *",
            {
                "added_at_s": _seconds(entry.added) if entry.added else 0,
                "label": check(lib.hp_book_label(self.handle, entry.label.encode()), what),
                "exchange": check(lib.hp_book_exchange(self.handle, entry.exchange.encode()), what),
                "kind": KINDS.index(entry.kind),
            },
        )
        return check(lib.hp_book_owner(self.handle, owner), what)

    def __len__(self) -> int:
        return int(lib.hp_book_count(self.handle))

    def find(self, address_or_script: str | bytes) -> str | None:
        """The exchange an address or a scriptPubKey belongs to, or None."""
        script = _script(address_or_script)
        exchange = lib.hp_book_find(self.handle, script, len(script))
        return None if exchange == lib.HP_NOBODY else self.exchange_name(exchange)

    def entry(self, address_or_script: str | bytes) -> BookEntry | None:
        """What the book says about an address or a scriptPubKey, or None. A book that was opened
        does not know its sources."""
        script = _script(address_or_script)
        return self._entries.get(script) or self._entry_of_table(script)

    def _entry_of_table(self, script: bytes) -> BookEntry | None:
        owner = ffi.new("hp_owner *")
        if not lib.hp_book_lookup(self.handle, script, len(script), owner):
            return None
        address = address_of(script)
        assert address is not None, "only scripts with an address are in a book"
        return BookEntry(
            address,
            self.exchange_name(owner.exchange),
            text(lib.hp_book_label_text(self.handle, owner.label)),
            kind=KINDS[owner.kind] if owner.kind < len(KINDS) else "",
            added=_day(owner.added_at_s),
        )

    def exchanges_by_id(self) -> list[str]:
        """The names of all exchanges, in the order of their ids."""
        return list(self._ids)

    def has_ids_of(self, other: Book) -> bool:
        """Every exchange of the other book has the same id in this one."""
        return self._ids.items() >= other._ids.items()

    def exchange_name(self, exchange: int) -> str:
        """The name of an exchange id of the C table, "" when it has none."""
        return text(lib.hp_book_name(self.handle, exchange))

    def exchange_id(self, name: str) -> int:
        """The C table's id of an exchange; BookError when the book has no address of it."""
        known = self._ids.get(_lowered(name))
        if known is not None:
            return known
        close = difflib.get_close_matches(_lowered(name), self._ids, n=1)
        cure = f"did you mean {close[0]!r}?" if close else "add a book that has some"
        raise BookError(f"the address book has no address of exchange {name!r}: {cure}")

    def exchanges(self) -> list[str]:
        """The names of all exchanges, sorted."""
        return sorted(self._ids)


def _ids(handle: Any) -> dict[str, int]:
    """The exchanges of a built C table, in the order of their ids."""
    ids: dict[str, int] = {}
    for number in range(lib.HP_EXCHANGES_MAX):
        name = text(lib.hp_book_name(handle, number))
        if not name:
            break
        ids[name] = number
    return ids


def _reason(code: int) -> str:
    return os.strerror(-code) if -code < lib.HP_ETX_TRUNCATED else text(lib.hp_strerror(code))


def _seconds(day: date) -> int:
    return (day - _EPOCH).days * _DAY_S


def _day(added_at_s: int) -> date | None:
    try:
        return _EPOCH + timedelta(seconds=added_at_s) if added_at_s else None
    except OverflowError:  # a file may hold any number
        return None


def _lowered(exchange: str) -> str:
    return exchange.strip().lower()


def _script(address_or_script: str | bytes) -> bytes:
    return script_of(address_or_script) if isinstance(address_or_script, str) else address_or_script


def _origin(entry: BookEntry) -> str:
    return entry.source or "an entry without a source"


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BookError(f"{path}: cannot be read: {error.strerror}: check the path") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise BookError(f"{path}: line {line} is not UTF-8: save the file as UTF-8") from error


def _some(path: Path, entries: list[BookEntry], errors: list[BookError]) -> Loaded:
    if entries:
        return entries, errors
    if errors:
        raise BookError(
            f"{path}: not one row is good, the first of {len(errors)} is bad: {errors[0]}"
        )
    raise BookError(f"{path}: holds no address: add one")


def _header(path: Path, cells: list[str]) -> list[str]:
    columns = [cell.strip().lower() for cell in cells]
    wanted = f"the first line must be {','.join(_COLUMNS)} (all but the first two may be left out)"
    for column in columns:
        if column not in _COLUMNS or columns.count(column) > 1:
            raise BookError(f"{path}: line 1: unknown or repeated column {column!r}: {wanted}")
    for column in _MANDATORY_COLUMNS:
        if column not in columns:
            raise BookError(f"{path}: line 1: there is no column {column!r}: {wanted}")
    return columns


def _csv_entry(columns: list[str], cells: list[str], where: str) -> BookEntry:
    if len(cells) != len(columns):
        raise BookError(
            f"{cells[0][:90]!r}: {len(cells)} cells where the header has {len(columns)}: "
            "add what is missing or put a cell with a comma in quotation marks"
        )
    row = dict(zip(columns, (cell.strip() for cell in cells), strict=True))
    row["source"] = row.get("source") or where
    added = row.pop("added", "")
    return BookEntry(**row, added=_parsed_day(added) if added else None)


def _parsed_day(cell: str) -> date:
    try:
        return date.fromisoformat(cell)
    except ValueError as error:
        raise BookError(f"{cell[:90]!r} is not a day: write it as 2024-10-19") from error


def _parse_toml(content: str, path: Path) -> Loaded:
    try:
        tables = tomllib.loads(content)
    except (ValueError, RecursionError) as error:
        raise BookError(f"{path}: not valid TOML ({error}): correct it there") from error
    wallets = tables.pop("wallet", [])
    if tables or not isinstance(wallets, list):
        raise BookError(f"{path}: an address book has [[wallet]] tables and nothing else")
    entries: list[BookEntry] = []
    errors: list[BookError] = []
    for number, wallet in enumerate(wallets, 1):
        try:
            entries.append(_toml_entry(wallet, f"{path.name} wallet {number}"))
        except HarpoonError as error:
            errors.append(BookError(f"{path}: wallet {number}: {error}"))
    return _some(path, entries, errors)


def _toml_entry(wallet: object, where: str) -> BookEntry:
    if not isinstance(wallet, dict):
        raise BookError(f"{wallet!r} is not a table: write [[wallet]] above its keys")
    for key, value in wallet.items():
        if key not in _WALLET_KEYS or not isinstance(value, str):
            raise BookError(f"key {key!r} is unknown or no string: use address, exchange and note")
    for key in ("address", "exchange"):
        if key not in wallet:
            raise BookError(f"{key} is missing: add it")
    return BookEntry(wallet["address"], wallet["exchange"], wallet.get("note", ""), where)
