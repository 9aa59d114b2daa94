"""The walk over transactions, beside python-bitcoinlib: of the blocks in ../shared/data where it
is, else over invented ones with a real block's proportions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from engine._native import ffi, lib
from engine.errors import HarpoonError
from engine.feed.synthetic import Plan, Traffic
from engine.tx import decode, walk_block
from harpoon_bench._floor import ffi as loop_ffi
from harpoon_bench._floor import lib as loop
from harpoon_bench.table import Row, quantiles

SLOW_ROUNDS = 5  # of what takes a second a round
SAMPLE = 16  # python-bitcoinlib and decode() get every so manieth transaction
CACHES_BYTES = 64 << 20
INVENTED = 5000
TARGET_PS_PER_BYTE = 500  # 2 GB/s


@dataclass(frozen=True)
class Transactions:
    """Transactions back to back, and where each starts; the last offset is the end."""

    name: str
    raw: bytes
    at: tuple[int, ...]

    @classmethod
    def of(cls, name: str, transactions: list[bytes]) -> Transactions:
        return cls(name, b"".join(transactions), (0, *accumulate(map(len, transactions))))

    def __len__(self) -> int:
        return len(self.at) - 1

    def __getitem__(self, number: int) -> bytes:
        return self.raw[self.at[number] : self.at[number + 1]]


def rows(rounds: int) -> list[Row]:
    whole = _transactions()
    sample = Transactions.of(whole.name, [whole[i] for i in range(0, len(whole), SAMPLE)])
    warm, cold = _walk_ps_per_byte(whole, rounds)
    theirs, walked, theirs_hashed, decoded = _beside_bitcoinlib(sample)
    target = dict.fromkeys(theirs, TARGET_PS_PER_BYTE)
    name = f"walk, {whole.name}"
    return [
        Row(f"{name}: warm", "ps/byte", warm, "2 GB/s", target, 1.0),
        Row(f"{name}: evicted", "ps/byte", cold, "2 GB/s", target, 1.0),
        Row(f"{name}: each", "ns/tx", walked, "python-bitcoinlib", theirs, 0.01),
        Row("decode(), as Python objects", "ns/tx", decoded, "python-bitcoinlib", theirs_hashed),
    ]


def _transactions() -> Transactions:
    folder = Path.cwd().parent / "shared" / "data" / "blocks"
    files = sorted(folder.glob("block_*.bin"))
    if not files:
        invented = [tx.raw for tx in Traffic(1, 10**10).transactions(Plan(INVENTED))]
        return Transactions.of(f"{len(invented)} invented transactions", invented)
    raws = [raw for file in files for raw in walk_block(file.read_bytes())]
    return Transactions.of(f"{len(files)} real blocks", raws)


def _walker(transactions: Transactions) -> Callable[[], int]:
    """Walks all of them: ns."""
    raw = loop_ffi.from_buffer(transactions.raw)
    at = loop_ffi.new("uint64_t[]", transactions.at)
    parse = int(ffi.cast("uintptr_t", ffi.addressof(lib, "hp_tx_parse_exact")))
    count = len(transactions)

    def walk() -> int:
        took_ns: int = loop.hp_loop_walk_ns(parse, raw, at, count)
        assert took_ns > 0, "every transaction parses"
        return took_ns

    return walk


def _walk_ps_per_byte(
    transactions: Transactions, rounds: int
) -> tuple[dict[str, int], dict[str, int]]:
    """With the bytes in the caches, and after other bytes have taken their place."""
    walk = _walker(transactions)
    other = loop_ffi.from_buffer(b"\1" * CACHES_BYTES)
    size = len(transactions.raw)
    warm, cold = [], []
    for _ in range(rounds):
        walk()
        warm.append(1000 * walk() // size)
        loop.hp_loop_read(other, CACHES_BYTES)
        cold.append(1000 * walk() // size)
    return quantiles(warm), quantiles(cold)


def _beside_bitcoinlib(sample: Transactions) -> tuple[dict[str, int], ...]:
    """ns a transaction, in turns: python-bitcoinlib, the walk, python-bitcoinlib with txid and
    wtxid, decode(), which has these and the scripts that are spent."""
    try:
        from bitcoin.core import CTransaction
    except ImportError as error:
        raise HarpoonError(
            "python-bitcoinlib is not there to compare with: pip install 'harpoon-engine[bench]'"
        ) from error
    raws = [sample[i] for i in range(len(sample))]
    walk = _walker(sample)

    def with_hashes(raw: bytes) -> None:
        tx = CTransaction.deserialize(raw)
        tx.GetTxid(), tx.GetHash()

    theirs, walked, theirs_hashed, decoded = [], [], [], []
    for _ in range(SLOW_ROUNDS):
        theirs.append(_each_ns(CTransaction.deserialize, raws))
        theirs_hashed.append(_each_ns(with_hashes, raws))
        decoded.append(_each_ns(decode, raws))
        walk()
        walked.append(walk() // len(raws))
    return tuple(map(quantiles, (theirs, walked, theirs_hashed, decoded)))


def _each_ns(function: Callable[[bytes], object], raws: list[bytes]) -> int:
    start_ns = time.perf_counter_ns()
    for raw in raws:
        function(raw)
    return (time.perf_counter_ns() - start_ns) // len(raws)
