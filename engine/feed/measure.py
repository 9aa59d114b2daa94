"""What the transactions of real blocks look like: shapes, input and output types, sizes, amounts.

`python -P -m engine.feed.measure BLOCK...` prints a Markdown table, one column a block; with
`--constant` each block's `Proportions`, as they stand in engine/feed/proportions.py."""

from __future__ import annotations

import argparse
import sys
from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from engine._native import check, ffi, lib
from engine.crypto import implementation
from engine.errors import HarpoonError
from engine.feed.proportions import INPUT_BUCKETS, LEVELS, OUTPUT_BUCKETS, Proportions
from engine.feed.replay import read_block

_SPENDS = {
    lib.HP_SPEND_P2PKH: "p2pkh",
    lib.HP_SPEND_P2WPKH: "p2wpkh",
    lib.HP_SPEND_P2SH_P2WPKH: "p2sh-p2wpkh",
    lib.HP_SPEND_P2SH_P2WSH: "p2sh-p2wsh",
    lib.HP_SPEND_P2WSH: "p2wsh",
    lib.HP_SPEND_P2SH: "p2sh",
}
_SCHNORR_WITNESS_BYTES = (65, 66)  # BIP-341: its length, 64 bytes, and a sighash type or none
_OP_RETURN = 0x6A
# scriptPubKey's length and first bytes
_OUTPUTS = {
    (25, b"\x76\xa9"): "p2pkh",
    (23, b"\xa9\x14"): "p2sh",
    (22, b"\x00\x14"): "p2wpkh",
    (34, b"\x00\x20"): "p2wsh",
    (34, b"\x51\x20"): "p2tr",
}


class _Tally:
    """Counts and samples, one transaction after the other."""

    def __init__(self) -> None:
        self._impl = implementation()
        self.shapes: Counter[tuple[int, int]] = Counter()
        self.inputs: list[Counter[str]] = [Counter() for _ in INPUT_BUCKETS]
        self.outputs: list[Counter[str]] = [Counter() for _ in OUTPUT_BUCKETS]
        self.size_bytes: list[int] = []
        self.value_sat: list[int] = []
        self.op_return_bytes: list[int] = []
        self.taproot_script_bytes: list[int] = []

    def add(self, raw: bytes) -> None:
        tx = ffi.new("hp_tx *")
        buffer = ffi.from_buffer(raw)
        check(lib.hp_tx_parse_exact(buffer, len(raw), tx))
        self.size_bytes.append(tx.size)
        self.shapes[tx.n_in, tx.n_out] += 1
        self.inputs[bisect(INPUT_BUCKETS, tx.n_in) - 1].update(self._input_types(tx))
        self.outputs[bisect(OUTPUT_BUCKETS, tx.n_out) - 1].update(self._output_types(tx))

    def _input_types(self, tx: Any) -> Iterator[str]:
        it, txin = ffi.new("hp_tx_iter *"), ffi.new("hp_txin *")
        script, spend = ffi.new("uint8_t[]", lib.HP_SCRIPT_MAX), ffi.new("int *")
        while lib.hp_tx_next_input(tx, it, txin):
            lib.hp_txin_spends(txin, self._impl, script, spend)
            yield _SPENDS.get(spend[0]) or self._hidden_type(txin)

    def _hidden_type(self, txin: Any) -> str:
        """Taproot by the form of its witness, and `other`."""
        if txin.script_len or not txin.witness_items:
            return "other"
        if txin.witness_items == 1:
            return "p2tr-key" if txin.witness_len in _SCHNORR_WITNESS_BYTES else "other"
        self.taproot_script_bytes.append(txin.witness_len)
        return "p2tr-script"

    def _output_types(self, tx: Any) -> Iterator[str]:
        it, txout = ffi.new("hp_tx_iter *"), ffi.new("hp_txout *")
        while lib.hp_tx_next_output(tx, it, txout):
            script = bytes(ffi.buffer(txout.script, txout.script_len))
            if script and script[0] == _OP_RETURN:
                self.op_return_bytes.append(len(script))
                yield "op_return"
            else:
                self.value_sat.append(txout.value_sat)
                yield _OUTPUTS.get((len(script), script[:2]), "other")


def measure(transactions: Iterable[bytes]) -> Proportions:
    """Of raw transactions, none of them a coinbase; TxError for what is not one."""
    tally = _Tally()
    for raw in transactions:
        tally.add(raw)
    return Proportions(
        shapes=tuple((*shape, n) for shape, n in sorted(tally.shapes.items())),
        input_types=tuple(dict(counter.most_common()) for counter in tally.inputs),
        output_types=tuple(dict(counter.most_common()) for counter in tally.outputs),
        size_bytes=_quantiles(tally.size_bytes),
        value_sat=_quantiles(tally.value_sat),
        op_return_bytes=_quantiles(tally.op_return_bytes),
        taproot_script_bytes=_quantiles(tally.taproot_script_bytes),
    )


def _quantiles(values: list[int]) -> tuple[int, ...]:
    """At LEVELS, each a value that occurs; empty when there are no values."""
    ordered = sorted(values)
    return tuple(ordered[int(level * (len(ordered) - 1))] for level in LEVELS if ordered)


def table(columns: Sequence[tuple[str, Proportions]]) -> str:
    """A Markdown table, one column for each named `Proportions`."""
    rows = [_column(p) for _, p in columns]
    lines = [["", *(name for name, _ in columns)], ["---", *("---:" for _ in columns)]]
    lines += [[row, *(column[row] for column in rows)] for row in (rows[0] if rows else {})]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _column(p: Proportions) -> dict[str, str]:
    n = p.transactions
    cells = {
        "transactions": str(n),
        "inputs a transaction": f"{p.inputs / n:.2f}",
        "with 1 / 2-9 / 10+ inputs, %": " / ".join(_percent(c, n) for c in p.by_inputs()),
        "outputs a transaction": f"{p.outputs / n:.2f}",
        "with 1 / 2 / 3 / 4+ outputs, %": " / ".join(_percent(c, n) for c in p.by_outputs()),
        "bytes, p50 / p90 / p99": _levels(p.size_bytes, 0.5, 0.9, 0.99),
        "output sat, p10 / p50 / p90 / p99": _levels(p.value_sat, 0.1, 0.5, 0.9, 0.99),
    }
    for name in [*_SPENDS.values(), "p2tr-key", "p2tr-script", "other"]:
        count = sum(types.get(name, 0) for types in p.input_types)
        cells[f"inputs {name}, %"] = _percent(count, p.inputs)
    for name in [*_OUTPUTS.values(), "op_return", "other"]:
        count = sum(types.get(name, 0) for types in p.output_types)
        cells[f"outputs {name}, %"] = _percent(count, p.outputs)
    return cells


def _percent(count: int, of: int) -> str:
    return f"{100 * count / of:.1f}"


def _levels(quantiles: Sequence[int], *levels: float) -> str:
    return " / ".join(str(quantiles[LEVELS.index(level)]) for level in levels)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -P -m engine.feed.measure", description=__doc__)
    parser.add_argument("blocks", nargs="+", type=Path, metavar="BLOCK", help="a raw block file")
    parser.add_argument("--constant", action="store_true", help="print all figures as Python")
    options = parser.parse_args()
    try:
        columns = [(path.stem, measure(read_block(path)[1:])) for path in options.blocks]
    except HarpoonError as error:
        print(f"measure: {error}", file=sys.stderr)
        return error.exit_status
    if options.constant:
        for name, proportions in columns:
            print(f"{name} = {proportions!r}")
    else:
        print(table(columns))
    return 0


if __name__ == "__main__":
    sys.exit(main())
