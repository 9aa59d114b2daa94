"""engine.book: CSV and TOML in, CSV out, the C table behind Book, and the book that is shipped."""

from __future__ import annotations

import csv
import os
import tempfile
from collections import Counter
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.address import address_of, script_of
from engine.book import (
    Book,
    BookEntry,
    default_entries,
    export_csv,
    load,
    load_csv,
    load_toml,
)
from engine.core import Engine
from engine.errors import AddressError, BookError, NativeError, TxError
from engine.wallets import open_book

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
ADDRESSES_CSV = SHARED / "exchange_addresses.csv"
BULK_CSV = SHARED / "exchange_addresses_bitmex_bulk.csv"

P2PKH = "1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH"
P2SH = "31h1vYVSYuKP6AhS86fbRdMw9XHieotbST"
P2WPKH = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"
P2TR = "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0"
BAD = P2PKH[:-1] + "h"


def shared(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path} is not there: the data of ../shared is not beside this checkout")
    return path


def written(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def program(version: int, length: int) -> str:
    opcode = 0x50 + version if version else 0
    address = address_of(bytes([opcode, length]) + bytes(range(length)))
    assert address is not None
    return address


# ---- entries -----------------------------------------------------------------------------------


def test_an_entry_knows_its_script_and_lowers_the_exchange() -> None:
    entry = BookEntry(P2TR, " Binance ", "cold", "somebody")
    assert entry.exchange == "binance"
    assert entry.script == script_of(P2TR)


@pytest.mark.parametrize(
    ("exchange", "label", "reason"),
    [
        ("", "", "has no exchange"),
        ("  ", "", "has no exchange"),
        ("x" * 64, "", "more than 63 bytes"),
        ("é" * 32, "", "more than 63 bytes"),
        ("a\0b", "", "control character"),
        ("a\x1b[31m", "", "control character"),
        ("kraken", "two\nlines", "line break"),
    ],
)
def test_an_entry_that_cannot_be(exchange: str, label: str, reason: str) -> None:
    with pytest.raises(BookError, match=reason) as refusal:
        BookEntry(P2PKH, exchange, label)
    assert P2PKH in str(refusal.value)


def test_an_entry_with_a_wrong_address() -> None:
    with pytest.raises(AddressError, match="checksum"):
        BookEntry(BAD, "kraken")


# ---- CSV ---------------------------------------------------------------------------------------


def test_csv_with_every_column(tmp_path: Path) -> None:
    path = written(
        tmp_path, "b.csv", f'address,exchange,label,source\n{P2PKH},Kraken,"cold, old",a;b\n'
    )
    assert load(path) == ([BookEntry(P2PKH, "kraken", "cold, old", "a;b")], [])


def test_csv_with_kind_and_day(tmp_path: Path) -> None:
    rows = f"{P2PKH},a,hot,2024-10-19\n{P2SH},a,,\n{P2TR},a,warm,\n{P2TR},a,,19.10.2024\n"
    entries, errors = load(written(tmp_path, "b.csv", f"address,exchange,kind,added\n{rows}"))
    assert [(e.kind, e.added) for e in entries] == [("hot", date(2024, 10, 19)), ("", None)]
    assert ["'warm'" in str(errors[0]), "'19.10.2024'" in str(errors[1])] == [True, True]
    assert "write hot, cold, deposit, learned" in str(errors[0])
    export_csv(entries, tmp_path / "again.csv")
    assert load(tmp_path / "again.csv") == (entries, [])


def test_csv_with_the_mandatory_columns_in_any_order_after_a_bom(tmp_path: Path) -> None:
    content = f"\ufeffExchange , address\r\nokx,{P2SH}\r\n\r\n796, {P2TR} \r\n"
    entries, errors = load_csv(written(tmp_path, "mine.CSV", content))
    assert not errors
    assert [(e.address, e.exchange, e.label) for e in entries] == [
        (P2SH, "okx", ""),
        (P2TR, "796", ""),
    ]
    assert [e.source for e in entries] == ["mine.CSV line 2", "mine.CSV line 4"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (f"{BAD},kraken,,", f"'{BAD}' is not a mainnet Bitcoin address: its checksum is wrong"),
        (",kraken,,", "'' is not a mainnet Bitcoin address"),
        (f"{P2PKH},,,", f"{P2PKH} has no exchange"),
        (f"{P2PKH},kraken", f"'{P2PKH}': 2 cells where the header has 4"),
        (f"{P2PKH},kraken,cold,old,x", "5 cells where the header has 4"),
        (f'{P2PKH},kraken,"a\0b",', "control character"),
        (f"{P2PKH},kraken,{'x' * 4096},", "is too long"),
    ],
)
def test_a_bad_csv_row_is_named_and_the_others_stay(tmp_path: Path, row: str, reason: str) -> None:
    content = f"address,exchange,label,source\n{P2SH},okx,,x\n{row}\n{P2TR},okx,,x\n"
    path = written(tmp_path, "b.csv", content)
    entries, errors = load(path)
    assert [entry.address for entry in entries] == [P2SH, P2TR]
    assert len(errors) == 1
    assert str(errors[0]).startswith(f"{path}: line 3: ")
    assert reason in str(errors[0])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "line 1: there is no column 'address'"),
        (b"address\n", "line 1: there is no column 'exchange'"),
        (b"adress,exchange\n", "line 1: unknown or repeated column 'adress'"),
        (b"address,exchange,Address\n", "unknown or repeated column 'address'"),
        (f"{P2PKH},kraken\n".encode(), "line 1: unknown or repeated column"),
        (b"address,exchange\n", "holds no address"),
        (f"address,exchange\n{BAD},x\n{BAD},y\n".encode(), "the first of 2 is bad: "),
        (f'address,exchange\n{P2PKH},"kraken\n'.encode(), "line 2: not valid CSV"),
        (f"address,exchange\n{P2PKH},{'x' * 200_000}\n".encode(), "line 2: not valid CSV"),
        (b"address,exchange\n\n\xff\n", "line 3 is not UTF-8"),
    ],
)
def test_a_csv_file_that_cannot_be_used(tmp_path: Path, content: bytes, reason: str) -> None:
    path = written(tmp_path, "b.csv", content)
    with pytest.raises(BookError) as refusal:
        load(path)
    assert reason in str(refusal.value)
    assert str(refusal.value).startswith(f"{path}: ")


@given(st.binary(max_size=200))
def test_any_bytes_give_entries_or_a_book_error(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("b.csv", "b.toml"):
            path = Path(folder, name)
            for start in (b"", b"address,exchange\n", b"[[wallet]]\n"):
                path.write_bytes(start + content)
                with pytest.raises(BookError):
                    load(path)


def test_a_file_that_is_not_there_or_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(BookError, match="cannot be read: No such file"):
        load(tmp_path / "none.csv")
    with pytest.raises(BookError, match="cannot be read"):
        load_toml(tmp_path)
    with pytest.raises(BookError, match=r"a \.csv or a \.toml file"):
        load(tmp_path / "book.json")


words = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=9)
phrases = st.lists(words, max_size=3).map(" ".join)


@given(
    st.lists(
        st.builds(
            BookEntry,
            st.binary(min_size=20, max_size=20).map(lambda h: address_of(b"\0\x14" + h)),
            words,
            phrases,
            phrases.filter(bool),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_exported_is_loaded_again(entries: list[BookEntry]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "b.csv")
        export_csv(entries, path)
        assert load(path) == (entries, [])


def test_export_to_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(BookError, match="cannot be written"):
        export_csv([BookEntry(P2PKH, "kraken")], tmp_path / "none" / "b.csv")


# ---- TOML --------------------------------------------------------------------------------------


def test_toml(tmp_path: Path) -> None:
    content = f"""
[[wallet]]
address = "{P2WPKH}"
exchange = "Gate"
note = "hot"
[[wallet]]
address = "{P2TR}"
exchange = "gate"
"""
    path = written(tmp_path, "b.toml", content)
    assert load(path) == (
        [
            BookEntry(P2WPKH, "gate", "hot", "b.toml wallet 1"),
            BookEntry(P2TR, "gate", "", "b.toml wallet 2"),
        ],
        [],
    )


@pytest.mark.parametrize(
    ("wallet", "reason"),
    [
        (f'address = "{BAD}"\nexchange = "x"', f"'{BAD}' is not a mainnet Bitcoin address"),
        (f'address = "{P2PKH}"', "exchange is missing"),
        ('exchange = "x"', "address is missing"),
        (f'address = "{P2PKH}"\nexchange = 7', "'exchange' is unknown or no string"),
        (f'address = "{P2PKH}"\nexchange = "x"\nnotes = "y"', "'notes' is unknown"),
    ],
)
def test_a_bad_wallet_is_named_and_the_others_stay(
    tmp_path: Path, wallet: str, reason: str
) -> None:
    content = f'[[wallet]]\naddress = "{P2SH}"\nexchange = "okx"\n[[wallet]]\n{wallet}\n'
    path = written(tmp_path, "b.toml", content)
    entries, errors = load(path)
    assert [entry.address for entry in entries] == [P2SH]
    assert len(errors) == 1
    assert str(errors[0]).startswith(f"{path}: wallet 2: ")
    assert reason in str(errors[0])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "holds no address"),
        (b"[[wallet]\n", "not valid TOML"),
        (b"a = " + b"[" * 5000, "not valid TOML"),
        (b"[wallet]\naddress = 'x'\n", "[[wallet]] tables and nothing else"),
        (b"wallets = []\n", "[[wallet]] tables and nothing else"),
        (b"wallet = [1]\n", "1 is not a table"),
        (b"# \xff\n", "line 1 is not UTF-8"),
    ],
)
def test_a_toml_file_that_cannot_be_used(tmp_path: Path, content: bytes, reason: str) -> None:
    path = written(tmp_path, "b.toml", content)
    with pytest.raises(BookError) as refusal:
        load(path)
    assert reason in str(refusal.value)
    assert str(refusal.value).startswith(f"{path}: ")


# ---- the table ---------------------------------------------------------------------------------


def test_find_by_address_and_by_script() -> None:
    book = Book([BookEntry(P2PKH, "Kraken"), BookEntry(P2WPKH, "okx"), BookEntry(P2TR, "okx")])
    assert len(book) == 3
    assert book.find(P2PKH) == "kraken"
    assert book.find(P2WPKH.upper()) == "okx"
    assert book.find(script_of(P2TR)) == "okx"
    assert book.find(P2SH) is None
    assert book.find(b"") is None
    assert book.find(bytes(100)) is None
    with pytest.raises(AddressError):
        book.find(BAD)


def test_entry_keeps_where_a_claim_comes_from() -> None:
    entry = BookEntry(P2TR, "okx", "hot", "somebody")
    book = Book([entry])
    assert book.entry(P2TR.upper()) == entry
    assert book.entry(entry.script) == entry
    assert book.entry(P2PKH) is None


def test_exchanges_have_ids_and_names() -> None:
    book = Book([BookEntry(P2PKH, "kraken"), BookEntry(P2SH, "okx"), BookEntry(P2TR, "kraken")])
    assert book.exchanges() == ["kraken", "okx"]
    for name in book.exchanges():
        assert book.exchange_name(book.exchange_id(name.upper())) == name
    assert book.exchange_id("kraken") != book.exchange_id("okx")
    assert book.exchange_name(0xFFFF) == ""


def test_an_exchange_that_has_no_address() -> None:
    book = Book([BookEntry(P2PKH, "kraken")])
    with pytest.raises(BookError, match="'Krakn': did you mean 'kraken'"):
        book.exchange_id("Krakn")
    with pytest.raises(BookError, match="'zzz': add a book"):
        book.exchange_id("zzz")
    assert book.exchanges() == ["kraken"]


def test_one_address_of_two_exchanges_names_both_sources() -> None:
    claims = [BookEntry(P2WPKH, "okx", "", "list A"), BookEntry(P2WPKH.upper(), "huobi", "", "")]
    with pytest.raises(BookError) as refusal:
        Book(claims)
    for part in ("'okx' according to list A", "'huobi' according to an entry without a source"):
        assert part in str(refusal.value)


def test_the_same_claim_twice_is_one_entry() -> None:
    book = Book([BookEntry(P2PKH, "okx", "", "A"), BookEntry(P2PKH, "OKX", "", "B")])
    assert len(book) == 1
    assert book.entry(P2PKH) == BookEntry(P2PKH, "okx", "", "A")


def test_an_empty_book_knows_nobody() -> None:
    book = Book([])
    assert len(book) == 0
    assert book.find(P2PKH) is None
    assert book.exchanges() == []


@pytest.mark.parametrize("version", range(17))
def test_witness_programs_of_every_version_and_length(version: int) -> None:
    lengths = range(2, 41) if version else (20, 32)
    addresses = [program(version, length) for length in lengths]
    book = Book(BookEntry(address, f"x{n % 3}") for n, address in enumerate(addresses))
    assert [book.find(address) for address in addresses] == [
        f"x{n % 3}" for n in range(len(addresses))
    ]


@given(st.lists(st.binary(min_size=20, max_size=20), unique=True, max_size=200), st.data())
def test_the_table_finds_what_was_put_in_and_nothing_else(
    hashes: list[bytes], data: st.DataObject
) -> None:
    kept = data.draw(st.integers(0, len(hashes)))
    scripts = [b"\0\x14" + h for h in hashes]
    book = Book(
        BookEntry(address_of(script) or "", f"e{n % 7}") for n, script in enumerate(scripts[:kept])
    )
    assert len(book) == kept
    for n, script in enumerate(scripts):
        assert book.find(script) == (f"e{n % 7}" if n < kept else None)


# Under it 1,000 programs that count up fall on too few lines; 1 in 3,500 seeds does that.
CROWDING_SEED = (4216).to_bytes(8, "little") + bytes(8)


def counted_up(entries: int) -> list[BookEntry]:
    scripts = [b"\0\x14" + bytes(4) + n.to_bytes(8, "little") + bytes(8) for n in range(entries)]
    return [BookEntry(address_of(script) or "", "okx") for script in scripts]


@pytest.mark.parametrize("bad_seeds", [0, 1, 2, 3])
def test_a_crowded_book_is_built_again(monkeypatch: pytest.MonkeyPatch, bad_seeds: int) -> None:
    seeds = [CROWDING_SEED] * bad_seeds + [bytes(16)]
    monkeypatch.setattr(os, "urandom", lambda size: seeds.pop(0))
    entries = counted_up(1000)
    if bad_seeds == 3:
        with pytest.raises(NativeError, match="build it again"):
            Book(entries)
        assert len(seeds) == 1  # and no fourth was drawn
        return
    book = Book(entries)
    assert seeds == []
    assert (len(book), book.exchanges()) == (1000, ["okx"])
    assert all(book.find(entry.script) == "okx" for entry in entries)
    assert book.find(P2WPKH) is None


# ---- saved books ---------------------------------------------------------------------------------


def test_a_saved_book_is_the_same_when_opened(tmp_path: Path) -> None:
    entries = [
        BookEntry(P2PKH, "kraken", "cold, old", "", "cold", date(2013, 5, 1)),
        BookEntry(P2SH, "okx"),
        BookEntry(P2TR, "kraken", "é" * 99, "", "learned"),
    ]
    path = tmp_path / "saved.book"
    Book(entries).save(path)
    book = Book.open(path, verify=True)
    assert [book.entry(entry.address) for entry in entries] == entries
    assert (len(book), book.exchanges(), book.find(P2WPKH)) == (3, ["kraken", "okx"], None)
    assert list(tmp_path.iterdir()) == [path]


@given(
    st.lists(
        st.integers(2, 40).flatmap(lambda n: st.binary(min_size=n, max_size=n)),
        unique=True,
        min_size=1,
        max_size=150,
    ),
    st.integers(0, 16),
)
def test_any_programs_of_any_version_survive_a_file(programs: list[bytes], version: int) -> None:
    opcode = 0x50 + version if version else 0
    scripts = [bytes([opcode, len(program)]) + program for program in programs]
    entries = [BookEntry(a, f"e{len(a) % 5}") for s in scripts if (a := address_of(s))]
    with tempfile.TemporaryDirectory() as folder:
        Book(entries).save(Path(folder, "b"))
        book = Book.open(Path(folder, "b"), verify=True)
        assert len(book) == len(entries)
        assert [book.find(e.address) for e in entries] == [e.exchange for e in entries]


def test_a_saved_book_that_was_cut_or_changed(tmp_path: Path) -> None:
    path = tmp_path / "saved.book"
    Book([BookEntry(P2PKH, "kraken")]).save(path)
    whole = path.read_bytes()
    for length in (0, 1, 127, 128, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(BookError, match="saved") as refusal:
            Book.open(path)
        assert str(path) in str(refusal.value)
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(BookError, match="saved"):
            Book.open(path, verify=True)


def test_a_small_saved_book_is_checked_without_being_asked(tmp_path: Path) -> None:
    path = tmp_path / "saved.book"
    Book([BookEntry(P2PKH, "kraken", "a label")]).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"a label", b"a lapel"))
    with pytest.raises(BookError, match="saved"):
        open_book([path], default=False, warn=pytest.fail)


def test_a_small_saved_book_outlives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "saved.book"
    Book([BookEntry(P2PKH, "kraken", "a label")]).save(path)
    book = Book.open(path)
    path.write_bytes(b"")
    assert (book.find(P2PKH), book.find(P2SH)) == ("kraken", None)
    assert book.entry(P2PKH) == BookEntry(P2PKH, "kraken", "a label")


def test_a_fifo_is_no_saved_book(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.book")
    with pytest.raises(BookError, match="no saved address book"):
        Book.open(tmp_path / "fifo.book")


def test_a_saved_book_that_is_none_or_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(BookError, match="cannot be used: No such file"):
        Book.open(tmp_path / "none")
    with pytest.raises(BookError, match="cannot be written"):
        Book([]).save(tmp_path / "none" / "saved.book")


# ---- another book for a running engine ---------------------------------------------------------


def test_a_book_like_another_has_its_ids() -> None:
    old = Book([BookEntry(P2PKH, "kraken"), BookEntry(P2SH, "okx")])
    new = Book([BookEntry(P2TR, "abc"), BookEntry(P2SH, "okx")], like=old)
    assert new.has_ids_of(old)
    assert not old.has_ids_of(new)
    assert (new.find(P2TR), new.find(P2SH), new.find(P2PKH)) == ("abc", "okx", None)


def test_an_engine_gives_back_the_book_it_no_longer_uses() -> None:
    books = [Book([BookEntry(P2PKH, "kraken")])]
    engine = Engine(books[0])
    for _ in range(3):
        books.append(Book([BookEntry(P2SH, "okx")], like=books[-1]))
        engine.offer_book(books[-1])
    assert engine.reclaim_books() == 2  # the first, in use, and the last, which waits
    with pytest.raises(TxError):
        engine.rawtx(b"", 0)
    assert engine.reclaim_books() == 1
    with pytest.raises(BookError, match="numbers its exchanges otherwise"):
        engine.offer_book(Book([BookEntry(P2SH, "okx")]))


# ---- the shipped book and the shared data ------------------------------------------------------


def test_the_shipped_book() -> None:
    entries = default_entries()
    book = Book(entries)  # every checksum is right, no address is claimed twice
    assert len(book) == len(entries)
    assert 25 <= len(entries) <= 40
    assert book.find("1NDyJtNTjmwk5xPNhjgAMu4HDHigtobu1s") == "binance"
    assert book.find("3D2oetdNuZUqQHPJmcMDDHYoqkyNVsFk9r") == "bitfinex"
    assert all(entry.label for entry in entries)
    assert entries[0].source == "default_book.toml wallet 1"


def test_the_shipped_book_agrees_with_the_shared_list() -> None:
    published = {entry.address: entry for entry in load(shared(ADDRESSES_CSV))[0]}
    alone = set()
    for entry in default_entries():
        assert published[entry.address].exchange == entry.exchange
        if ";" not in published[entry.address].source:
            alone.add(entry.exchange)
    # the exchanges that the file's header says have one source only
    assert alone == {"bitstamp", "coinbase", "coincheck", "poloniex", "robinhood"}


def test_the_shared_list_as_it_is() -> None:
    entries, errors = load(shared(ADDRESSES_CSV))
    assert (len(entries), errors) == (2181, [])
    with ADDRESSES_CSV.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(e.address, e.exchange, e.label, e.source) for e in entries] == [
        (row["address"], row["exchange"], row["label"], row["source"]) for row in rows
    ]
    book = Book(entries + default_entries())
    assert len(book) == 2181
    assert book.exchanges() == sorted(Counter(row["exchange"] for row in rows))
    assert all(book.find(row["address"]) == row["exchange"] for row in rows)


def test_a_large_book() -> None:
    entries = load(shared(ADDRESSES_CSV))[0] + load(shared(BULK_CSV))[0]
    book = Book(entries)
    assert len(book) == 22181
    assert all(book.find(entry.script) == entry.exchange for entry in entries)
