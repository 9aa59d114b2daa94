"""What the node of a benchmark publishes: everyday transactions, and a whale's deposit at every so
manieth place."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

from engine.address import script_of
from engine.feed.synthetic import Plan, Traffic
from engine.tx import decode, walk_block
from harpoon_bench._floor import ffi

WALLET = "1NDyJtNTjmwk5xPNhjgAMu4HDHigtobu1s"  # of the shipped book
DEPOSIT_SAT = 500_000_000_000  # more than any transaction of the real blocks pays an exchange
INVENTED = 5_000


def deposit(value_sat: int = DEPOSIT_SAT) -> bytes:
    """One input that is like no other, one output that pays the wallet."""
    script = script_of(WALLET)
    return b"".join(
        (
            (2).to_bytes(4, "little"),
            b"\x01",
            os.urandom(32),
            bytes(4),
            b"\x00",
            b"\xff\xff\xff\xff",
            b"\x01",
            value_sat.to_bytes(8, "little"),
            bytes([len(script)]),
            script,
            bytes(4),
        )
    )


def everyday() -> tuple[str, list[bytes]]:
    """Their name, and the transactions without coinbases, which a mempool never has: of the blocks
    in ../shared/data where it is, else invented ones with a real block's proportions."""
    folder = Path.cwd().parent / "shared" / "data" / "blocks"
    files = sorted(folder.glob("block_*.bin"))
    if not files:
        return "invented", [tx.raw for tx in Traffic(1, 10**10).transactions(Plan(INVENTED))]
    return "real", [raw for file in files for raw in list(walk_block(file.read_bytes()))[1:]]


@dataclass(frozen=True)
class Messages:
    """Raw transactions in the order of their publication; each `every`-th one is a deposit."""

    transactions: tuple[bytes, ...]
    every: int

    @classmethod
    def planted(cls, common: list[bytes], deposits: int, every: int, seed: int) -> Messages:
        """The same everyday transactions for the same seed; every deposit is new."""
        rest = iter(Random(seed).choices(common, k=deposits * (every - 1)))
        return cls(
            tuple(
                deposit() if number % every == every - 1 else next(rest)
                for number in range(deposits * every)
            ),
            every,
        )

    def __len__(self) -> int:
        return len(self.transactions)

    @property
    def deposits(self) -> range:
        """Their numbers."""
        return range(self.every - 1, len(self), self.every)

    def number(self, answered: str) -> int:
        """Of the message that an order answers: by its deposit's txid, or as a rival's client id
        has it, w5."""
        return int(answered[1:]) if answered[0] == "w" else self._by_txid[answered]

    @cached_property
    def raw(self) -> bytes:
        return b"".join(self.transactions)

    @cached_property
    def at(self) -> Any:
        """uint64_t[]: where each transaction begins in `raw`, and the end."""
        return ffi.new("uint64_t[]", [0, *accumulate(map(len, self.transactions))])

    @cached_property
    def _by_txid(self) -> dict[str, int]:
        return {decode(self.transactions[number]).txid: number for number in self.deposits}
