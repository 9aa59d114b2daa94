"""The figures that describe the transactions of a block, and those of one real block.

engine/feed/measure.py makes them; docs/synthetic.md tells how, and compares the blocks."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LEVELS = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)  # of quantiles
INPUT_BUCKETS = (1, 2, 10)  # transactions of 1, of 2-9, and of 10 and more inputs
OUTPUT_BUCKETS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Proportions:
    """Counts and quantiles (at LEVELS) over transactions, coinbases left out."""

    shapes: tuple[tuple[int, int, int], ...]  # inputs, outputs, how many transactions
    input_types: tuple[dict[str, int], ...]  # inputs of each type; by INPUT_BUCKETS
    output_types: tuple[dict[str, int], ...]  # outputs of each type; by OUTPUT_BUCKETS
    size_bytes: tuple[int, ...]  # transactions
    value_sat: tuple[int, ...]  # outputs but OP_RETURN
    op_return_bytes: tuple[int, ...]  # scriptPubKeys
    taproot_script_bytes: tuple[int, ...]  # witnesses of P2TR script path inputs

    @property
    def transactions(self) -> int:
        return sum(n for _, _, n in self.shapes)

    @property
    def inputs(self) -> int:
        return sum(n_in * n for n_in, _, n in self.shapes)

    @property
    def outputs(self) -> int:
        return sum(n_out * n for _, n_out, n in self.shapes)

    def by_inputs(self) -> list[int]:
        """Transactions in each of INPUT_BUCKETS."""
        return _in_buckets(INPUT_BUCKETS, ((n_in, n) for n_in, _, n in self.shapes))

    def by_outputs(self) -> list[int]:
        """Transactions in each of OUTPUT_BUCKETS."""
        return _in_buckets(OUTPUT_BUCKETS, ((n_out, n) for _, n_out, n in self.shapes))


def _in_buckets(buckets: Sequence[int], counts: Iterable[tuple[int, int]]) -> list[int]:
    totals = [0] * len(buckets)
    for size, n in counts:
        totals[bisect(buckets, size) - 1] += n
    return totals


# Mainnet, 19 October 2024: the most recent one of the measured blocks. 3,958 of its transactions
# carry a Runes message, which is why OP_RETURN is so frequent and 1 in, 2 out is the rule.
BLOCK_866342 = Proportions(
    shapes=(
        (1, 1, 255),
        (1, 2, 4186),
        (1, 3, 74),
        (1, 4, 106),
        (1, 5, 7),
        (1, 6, 2),
        (1, 9, 1),
        (1, 10, 10),
        (1, 11, 1),
        (1, 12, 1),
        (1, 13, 2),
        (1, 14, 1),
        (1, 15, 1),
        (1, 22, 2),
        (1, 54, 1),
        (1, 153, 1),
        (2, 1, 21),
        (2, 2, 52),
        (2, 3, 4),
        (2, 4, 17),
        (2, 5, 1),
        (2, 6, 2),
        (2, 7, 1),
        (2, 12, 1),
        (3, 1, 10),
        (3, 2, 11),
        (3, 3, 2),
        (3, 4, 2),
        (3, 5, 4),
        (4, 1, 8),
        (4, 2, 7),
        (4, 3, 1),
        (4, 4, 3),
        (4, 5, 1),
        (4, 6, 2),
        (5, 1, 7),
        (5, 2, 1),
        (5, 6, 1),
        (5, 7, 1),
        (6, 1, 4),
        (6, 2, 2),
        (6, 3, 1),
        (6, 7, 1),
        (6, 8, 2),
        (6, 10, 1),
        (7, 1, 1),
        (7, 2, 1),
        (8, 2, 3),
        (8, 5, 1),
        (9, 1, 1),
        (9, 2, 1),
        (9, 10, 1),
        (10, 1, 3),
        (10, 16, 1),
        (11, 1, 2),
        (11, 3, 1),
        (11, 39, 1),
        (12, 1, 2),
        (14, 1, 2),
        (15, 1, 2),
        (15, 14, 1),
        (17, 1, 1),
        (18, 1, 1),
        (21, 5, 1),
        (25, 7, 1),
        (32, 2, 1),
        (43, 1, 1),
        (73, 3, 1),
        (100, 1, 6),
        (120, 1, 2),
        (500, 1, 1),
        (1009, 1, 1),
    ),
    input_types=(
        {
            "p2wpkh": 2502,
            "p2tr-key": 1869,
            "p2tr-script": 147,
            "p2wsh": 61,
            "p2sh-p2wpkh": 38,
            "p2pkh": 31,
            "p2sh-p2wsh": 3,
        },
        {
            "p2wpkh": 229,
            "p2tr-key": 186,
            "p2pkh": 68,
            "p2sh-p2wpkh": 60,
            "p2wsh": 13,
            "p2tr-script": 3,
            "p2sh-p2wsh": 3,
        },
        {"p2wpkh": 1643, "p2pkh": 806, "p2tr-key": 168, "p2sh-p2wpkh": 125, "p2sh-p2wsh": 17},
    ),
    output_types=(
        {"p2tr": 184, "p2wpkh": 81, "p2pkh": 37, "p2sh": 18, "p2wsh": 11},
        {"op_return": 3775, "p2wpkh": 2494, "p2tr": 2078, "p2pkh": 87, "p2sh": 64, "p2wsh": 32},
        {"p2tr": 90, "p2wpkh": 73, "op_return": 73, "p2sh": 12, "p2pkh": 4},
        {"p2wpkh": 465, "p2tr": 405, "op_return": 122, "p2sh": 116, "p2pkh": 75, "p2wsh": 29},
    ),
    size_bytes=(150, 180, 180, 180, 181, 210, 211, 257, 371, 958, 17990, 149366),
    value_sat=(
        294,
        330,
        546,
        846,
        4070,
        15441,
        174621,
        1316505,
        1566138,
        37657203,
        800262821,
        9922131642,
    ),
    op_return_bytes=(7, 9, 9, 9, 9, 10, 10, 10, 10, 12, 83, 83),
    taproot_script_bytes=(168, 169, 174, 213, 220, 235, 263, 263, 263, 263, 287, 67296),
)
