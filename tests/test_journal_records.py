"""The journal's records as values and rows, and the commands that show, verify and export them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import records
from engine._native import ffi, lib
from engine.cli import main
from engine.journal import Journal
from engine.journal_rows import COLUMNS, KINDS, row
from engine.journal_show import line as shown
from engine.records import Names, Record, decode

from .builders import p2wpkh
from .journals import PREAMBLE, SEGMENT_BYTES, fill, first_segment, flip, places, write

NAMES = Names.of(PREAMBLE)


# ---- records as values ---------------------------------------------------------------------------


def packed(struct: str, **fields: Any) -> bytes:
    return bytes(ffi.buffer(ffi.new(f"{struct} *", fields)))


TXID = bytes(range(32))
SHOWN_TXID = TXID[::-1].hex()
OUTPOINT = TXID + (7).to_bytes(4, "little")
SCRIPT = p2wpkh(b"key")
SESSION_1 = packed("hp_session_note", session=1)
PAID = packed(
    "hp_paid_output", value_sat=5, vout=1, script_len=len(SCRIPT), script=SCRIPT.ljust(42, b"\0")
)
STAGE_NS = [100 + n if n != 3 else -1 for n in range(lib.HP_STAGES)]

TERMS = {"quantity_e8": 5, "price_e8": 6, "market": 1, "is_sell": 1}
BODIES: dict[str, tuple[int, bytes, dict[str, Any]]] = {
    "preamble": (lib.HP_RECORD_PREAMBLE, b'{"a": 1}', {"facts": {"a": 1}}),
    "signal": (
        lib.HP_RECORD_SIGNAL,
        packed("hp_signal", txid=TXID, net_sat=9, exchange=1, source=0xFFFF, kind=1, rule=0) + PAID,
        {"txid": SHOWN_TXID, "kind": "deposit", "exchange": "okx", "source": "unknown"}
        | {"net_sat": 9, "rule": 0, "rule_name": "whale"},
    ),
    "intent": (
        lib.HP_RECORD_INTENT,
        packed("hp_intent", txid=TXID, client_id=b"hp-1", live=1, n_in=1, terms=TERMS) + OUTPOINT,
        {"txid": SHOWN_TXID, "client_id": "hp-1", "live": True, "armed": False, "rule": 0}
        | {"outpoints": (f"{SHOWN_TXID}:7",), "n_in": 1, "parent": "", "reduces": False}
        | {"quantity_e8": 5, "price_e8": 6, "market": 1, "is_sell": True},
    ),
    "order": (
        lib.HP_RECORD_ORDER,
        packed(
            "hp_order_event",
            txid=TXID,
            client_id=b"x" * 36,
            stage_ns=STAGE_NS,
            exchange=1,
            session=1,
        ),
        {"client_id": "x" * 36, "status": "sent", "decode_ns": 100, "build_ns": None}
        | {"session": 1},
    ),
    "message": (
        lib.HP_RECORD_MESSAGE,
        SESSION_1 + b"caf\xc3\xa9\xff",
        {"text": "caf\xe9\ufffd", "session": 1},
    ),
    "opened": (
        lib.HP_RECORD_OPENED,
        SESSION_1 + b"TLSv1.3",
        {"cipher": "TLSv1.3", "session": 1},
    ),
    "closed": (
        lib.HP_RECORD_CLOSED,
        packed("hp_closed_note", error=-lib.HP_ETIME_OUT, was_open=1, session=1) + b"late",
        {"reason": "late", "code": lib.HP_ETIME_OUT, "was_open": True, "session": 1},
    ),
    "feed": (
        lib.HP_RECORD_FEED,
        packed("hp_feed_note", count=3, sequence=9, endpoint=1, kind=6, topic=2) + b"words",
        {
            "note": "gap",
            "count": 3,
            "node_sequence": 9,
            "endpoint": 1,
            "topic": 2,
            "words": "words",
        },
    ),
    "block": (
        lib.HP_RECORD_BLOCK,
        packed("hp_block_note", hash=TXID, label=ord("D"), endpoint=1),
        {"hash": SHOWN_TXID, "connected": False, "endpoint": 1},
    ),
    "command": (
        lib.HP_RECORD_COMMAND,
        packed(
            "hp_command_note",
            value=1,
            command=lib.HP_COMMAND_HOLD,
            error=lib.HP_ENOT_READY,
            session=lib.HP_EVERY_SESSION,
        ),
        {"session": None, "value": 1, "command": "hold", "error": "there is no open session"},
    ),
    "stats": (lib.HP_RECORD_STATS, packed("hp_stats", signals=7), {"signals": 7, "malformed": 0}),
    "notice": (lib.HP_RECORD_NOTICE, b"hello", {"words": "hello"}),
    "spent": (
        lib.HP_RECORD_SPENT,
        TXID + OUTPOINT * 2,
        {"txid": SHOWN_TXID, "outpoints": (f"{SHOWN_TXID}:7",) * 2},
    ),
    "unknown": (99, b"\1\2", {"number": 99, "payload": "0102"}),
}


def record_of(kind: int, data: bytes) -> Record:
    return Record(1, 2, 1_700_000_000_123_456_789, 1, decode(kind, data, NAMES), NAMES)


@pytest.mark.parametrize("name", BODIES)
def test_records_as_rows(name: str) -> None:
    kind, data, expected = BODIES[name]
    found = row(record_of(kind, data))
    assert found["record"] == name
    assert found["time"] == "2023-11-14T22:13:20.123456789Z"
    assert found.items() >= expected.items()
    assert set(found) <= set(COLUMNS)
    json.dumps(found)


def test_there_is_an_example_of_every_kind() -> None:
    assert set(BODIES) == set(KINDS.values())
    assert {kind for kind, _, _ in BODIES.values()} == {*records.RECORD_KINDS, 99}
    assert {records.RECORD_KINDS.get(kind, "unknown") for kind, _, _ in BODIES.values()} == set(
        BODIES
    )


def test_an_order_without_template() -> None:
    data = packed(
        "hp_intent", client_id=b"hx-1", parent=b"hp-1", rule=-1, order=lib.HP_NO_TEMPLATE, reduces=1
    )
    record = record_of(lib.HP_RECORD_INTENT, data)
    found = row(record)
    assert (found["parent"], found["reduces"], found["rule"]) == ("hp-1", True, None)
    assert (found["quantity_e8"], found["market"]) == (None, None)
    assert shown(record).endswith("order without terms  dry-run  hx-1  undoes hp-1")


def test_an_exit_says_what_it_trades() -> None:
    terms = {"quantity_e8": 150_000, "market": 0, "is_sell": 1}
    data = packed(
        "hp_intent",
        client_id=b"hx-1",
        parent=b"hp-1",
        rule=-1,
        order=lib.HP_NO_TEMPLATE,
        terms=terms,
        live=1,
    )
    words = shown(record_of(lib.HP_RECORD_INTENT, data))
    assert f"SELL 0.00150000 {NAMES.market(0)}  live  hx-1  undoes hp-1" in words


def test_outputs_of_a_signal() -> None:
    body = record_of(*BODIES["signal"][:2]).body
    assert isinstance(body, records.Signal)
    assert body.outputs == (records.PaidOutput(1, 5, body.outputs[0].address),)
    assert body.outputs[0].address.startswith("bc1q")


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        (lib.HP_ALLOWED, "sent"),
        (lib.HP_DRY_RUN, "dry-run"),
        (lib.HP_REFUSED_COOLDOWN, "refused"),
        (lib.HP_SEND_FAILED, "failed"),
    ],
)
def test_what_became_of_an_order(verdict: int, status: str) -> None:
    data = packed("hp_order_event", verdict=verdict, error=lib.HP_ETIME_OUT)
    found = row(record_of(lib.HP_RECORD_ORDER, data))
    assert found["status"] == status
    assert (found["refusal"] == "cooldown") == (status == "refused")
    assert (found["error"] == "the server did not answer in time") == (status == "failed")


@given(kind=st.integers(0, 14), data=st.binary(max_size=400))
@settings(max_examples=300)
def test_any_payload_becomes_a_row(kind: int, data: bytes) -> None:
    record = record_of(kind, data)
    assert set(row(record)) <= set(COLUMNS)


# ---- the commands --------------------------------------------------------------------------------

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """`harpoon journal ...`: its exit status, what it printed, what it complained about."""

    def run(*words: str) -> tuple[int, str, str]:
        status = main(["journal", *words])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def every_kind(tmp_path: Path) -> Path:
    """A journal with a record of every kind."""
    folder = tmp_path / "journal"
    with Journal(folder, SEGMENT_BYTES) as journal:
        journal.prepare(PREAMBLE)
        for name, (kind, data, _) in BODIES.items():
            if name != "preamble":
                journal.append(kind, data, lib.hp_now_ns())
    return folder


def test_show(every_kind: Path, say: Say) -> None:
    status, out, err = say("show", str(every_kind))
    lines = out.splitlines()
    assert (status, err, len(lines)) == (0, "", len(BODIES))
    for line, name in zip(lines, BODIES, strict=True):
        assert re.match(rf"\d\d:\d\d:\d\d\.\d{{6}} {name} ", line)
    assert "mode dry-run, version 0.1.0, pid 4711" in lines[0]
    assert "okx" in lines[1]
    assert "rule whale" in lines[1]
    assert "SELL 0.001 BTCUSDT MARKET" in lines[2]
    assert "sent" in lines[3]


def test_show_some_kinds(every_kind: Path, say: Say) -> None:
    status, out, _ = say("show", str(every_kind), "--kind", "notice", "--kind", "block")
    assert status == 0
    assert [line.split()[1] for line in out.splitlines()] == ["block", "notice"]


def test_show_json(every_kind: Path, say: Say) -> None:
    status, out, _ = say("show", str(every_kind), "--json")
    assert status == 0
    assert [json.loads(line)["record"] for line in out.splitlines()] == list(BODIES)


def test_nothing_that_a_terminal_obeys_is_shown(tmp_path: Path, say: Say) -> None:
    bad = "\x1b[31mred\r\n\x07\x9b2J\u202e".encode()
    names = {"exchanges": ["\x1b]0;x\x07"], "rules": ["\x1b[1m"], "mode": "\x1b[2J"}
    with Journal(tmp_path, SEGMENT_BYTES) as journal:
        journal.prepare(names)
        for kind in (lib.HP_RECORD_MESSAGE, lib.HP_RECORD_OPENED, lib.HP_RECORD_NOTICE):
            journal.append(kind, SESSION_1 + bad, 0)
        journal.append(lib.HP_RECORD_CLOSED, packed("hp_closed_note") + bad, 0)
        journal.append(lib.HP_RECORD_SIGNAL, BODIES["signal"][1], 0)
    for words in (["show"], ["show", "--json"], ["verify"]):
        _, out, _ = say(words[0], str(tmp_path), *words[1:])
        assert "".join(out.split("\n")).isprintable()
    assert len(say("show", str(tmp_path))[1].splitlines()) == 6


def test_show_follows(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    with Journal(folder, SEGMENT_BYTES) as journal:
        write(journal, 1)
        shower = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "engine.cli"),
                *("journal", "show", "--follow", "--json", str(folder)),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert shower.stdout is not None
        try:
            for sequence in range(1, 4):
                while json.loads(shower.stdout.readline())["sequence"] != sequence:
                    pass
                write(journal, 1, first=sequence + 1)
        finally:
            shower.kill()
            shower.wait()
            shower.stdout.close()


def test_losses_are_told(tmp_path: Path, say: Say) -> None:
    fill(tmp_path, 30)
    flip(first_segment(tmp_path), places(first_segment(tmp_path))[20] + 40)
    status, out, err = say("show", str(tmp_path), "--json")
    assert (status, len(out.splitlines())) == (1, 30)
    assert "1 record missing" in err
    status, _, err = say("export", str(tmp_path), "--out", str(tmp_path / "x.jsonl"))
    assert status == 1
    assert "1 record missing" in err
    assert len((tmp_path / "x.jsonl").read_text().splitlines()) == 30


def test_verify_names_every_segment(tmp_path: Path, say: Say) -> None:
    fill(tmp_path, 10)
    fill(tmp_path, 10, first=11)
    status, out, _ = say("verify", str(tmp_path))
    first, second = out.splitlines()
    assert status == 0
    assert first.startswith("00000001.hpj")
    assert "records 11 to 20" in second
    assert second.endswith("good")


def test_a_segment_alone(tmp_path: Path, say: Say) -> None:
    fill(tmp_path, 10)
    fill(tmp_path, 10, first=11)
    status, out, _ = say("show", str(tmp_path / "00000002.hpj"), "--json")
    assert status == 0
    assert [json.loads(line)["sequence"] for line in out.splitlines()] == [0, *range(11, 21)]
    assert say("verify", str(tmp_path / "00000002.hpj"))[0] == 0


@pytest.mark.parametrize("command", ["show", "verify"])
def test_a_journal_without_records(command: str, tmp_path: Path, say: Say) -> None:
    with Journal(tmp_path, SEGMENT_BYTES) as journal:
        journal.prepare(PREAMBLE)
        status, out, err = say(command, str(tmp_path))
    assert status == 0
    assert "none yet" in out or "nothing recorded yet" in err
    status, out, err = say(command, str(tmp_path))
    assert status == 0
    assert "nothing recorded yet" in out + err


@pytest.mark.parametrize("command", ["show", "verify", "export"])
def test_what_is_no_journal(command: str, tmp_path: Path, say: Say) -> None:
    more = ["--out", str(tmp_path / "x.jsonl")] if command == "export" else []
    (tmp_path / "junk").write_bytes(os.urandom(10_000))
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    for name in ("junk", "empty", "folder", "missing"):
        status, out, err = say(command, str(tmp_path / name), *more)
        assert (status, out) == (1, "")
        assert re.fullmatch(rf"harpoon: .*{name}.*\n", err)
    assert not (tmp_path / "x.jsonl").exists()


def test_export_json_lines(every_kind: Path, say: Say, tmp_path: Path) -> None:
    status, out, _ = say("export", str(every_kind), "--out", str(tmp_path / "x.jsonl"))
    assert (status, out) == (0, f"{tmp_path / 'x.jsonl'}: records {len(BODIES)}\n")
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert [found["record"] for found in rows] == list(BODIES)


def test_export_parquet(every_kind: Path, say: Say, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="there is no pyarrow")
    file = tmp_path / "x.parquet"
    assert say("export", str(every_kind), "--out", str(file))[0] == 0
    rows = parquet.read_table(file).to_pylist()
    assert [found["record"] for found in rows] == list(BODIES)
    assert set(rows[0]) == set(COLUMNS)
    for found, (name, (_, _, expected)) in zip(rows, BODIES.items(), strict=True):
        for column, value in expected.items() if name != "preamble" else ():
            assert found[column] == (list(value) if isinstance(value, tuple) else value)
    assert rows[1]["outputs"][0]["value_sat"] == 5


def test_export_to_an_unknown_form(every_kind: Path, say: Say, tmp_path: Path) -> None:
    status, _, err = say("export", str(every_kind), "--out", str(tmp_path / "x.csv"))
    assert status == 1
    assert "must end in .jsonl or .parquet" in err


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet"])
def test_export_to_where_nothing_can_be_written(
    name: str, every_kind: Path, say: Say, tmp_path: Path
) -> None:
    if name == "x.parquet":
        pytest.importorskip("pyarrow", reason="there is no pyarrow")
    status, _, err = say("export", str(every_kind), "--out", str(tmp_path / "none" / name))
    assert status == 1
    assert re.fullmatch(rf"harpoon: cannot write .*{name} \(.*\): choose .* --out\n", err)


def test_export_without_pyarrow(
    every_kind: Path, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    status, _, err = say("export", str(every_kind), "--out", str(tmp_path / "x.parquet"))
    assert status == 1
    assert "pip install 'harpoon-engine[store]'" in err
