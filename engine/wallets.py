"""The address book of a run: the shipped one and the user's files, bad rows told and left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from engine.book import Book, default_entries, load


def open_book(files: Iterable[Path], default: bool, warn: Callable[[str], object]) -> Book:
    """BookError when a file cannot be used at all; `warn` hears of each bad row."""
    entries = default_entries() if default else []
    for file in files:
        loaded, errors = load(file)
        entries += loaded
        for error in errors:
            warn(f"skipped: {error}")
    return Book(entries)
