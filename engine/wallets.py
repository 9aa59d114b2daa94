"""The address book of a run: the shipped one and the user's files, bad rows told and left out. Many
addresses are built once into a file, `harpoon book --out FILE.book`, which every run then opens."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.book import Book, default_entries, load
from engine.errors import BookError
from engine.report import plain

BUILT_SUFFIX = ".book"


def open_book(files: Sequence[Path], default: bool, warn: Callable[[str], object]) -> Book:
    """BookError when a file cannot be used at all; `warn` hears of each bad row. A built book
    stands alone: what else it should hold is built into it."""
    built = [file for file in files if file.suffix == BUILT_SUFFIX]
    if not built:
        return _read_book(files, default, warn)
    if len(files) > 1 or default:
        raise BookError(
            f"{built[0]} is a built book and stands alone: build the other files into it with "
            f"`harpoon book --out {built[0]} FILE...`, and set default = false in [book]"
        )
    return Book.open(built[0])


def _read_book(files: Sequence[Path], default: bool, warn: Callable[[str], object]) -> Book:
    entries = default_entries() if default else []
    for file in files:
        loaded, errors = load(file)
        entries += loaded
        for error in errors:
            warn(f"skipped: {error}")
    return Book(entries)


def add_book_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--book",
        type=Path,
        action="append",
        default=[],
        metavar="CSV",
        help="an address book (.csv, .toml or .book) beside the shipped one; repeatable",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="a .csv or .toml book")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE.book", help="the file to write"
    )
    parser.add_argument(
        "--no-default", action="store_true", help="leave out the wallets that come with harpoon"
    )


def run(options: argparse.Namespace) -> int:
    if options.out.suffix != BUILT_SUFFIX:
        raise BookError(f"{options.out} must end in {BUILT_SUFFIX}: that is how a run knows it")
    book = _read_book(options.files, not options.no_default, warn)
    book.save(options.out)
    print(f"{options.out}: addresses {len(book):,}, exchanges {len(book.exchanges())}")
    return 0


def warn(words: str) -> None:
    """One line on standard error, whatever a file put into it."""
    print(plain(words), file=sys.stderr)
