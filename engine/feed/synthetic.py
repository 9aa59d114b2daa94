"""Invented transactions with the proportions of a real block, and whales planted among them.

They are well-formed, but nothing in them is signed and what they spend does not exist. The same
seed makes the same transactions. Nobody but an exchange knows the keys that its addresses are
hashes of, so the exchanges are invented too: `Traffic.book_rows()` lists their wallets."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Literal

from engine.address import address_of
from engine.errors import ConfigError
from engine.feed.proportions import (
    BLOCK_866342,
    INPUT_BUCKETS,
    LEVELS,
    OUTPUT_BUCKETS,
    Proportions,
)
from engine.feed.wallet import (
    OUTPUT_FORMS,
    WALLET_TYPES,
    Output,
    Spend,
    Wallet,
    anybody,
    op_return,
    serialise,
    taproot_key_spend,
    taproot_script_spend,
)

EXCHANGES = ("alpha", "bravo", "charlie")
# Block 866342 spends no P2SH multisig; of block 617509's 8,775 inputs they are 54.
P2SH_SHARE = 54 / 8_775

DEPOSIT_INPUTS = (1, 5)  # least and most
SWEEP_INPUTS = (7, 203)  # of the real blocks' consolidations to exchanges
EXCHANGE_INPUTS = (1, 3)
INTERNAL_EVERY = 4  # of four change-backs one keeps everything inside the exchange
WHALE_TAIL = 1.5  # Pareto: half of the whales are below 1.6 times the least
WHALE_TIMES_MAX = 20
WHALE_SAT_MAX = 10**13  # keeps every sum below the 21 million BTC that there can be

Kind = Literal["deposit", "withdrawal", "internal", "sweep"]


@dataclass(frozen=True)
class Planted:
    """What a strategy has to make of a transaction; net of change, 0 for internal."""

    kind: Kind
    exchange: str
    net_sat: int


@dataclass(frozen=True)
class SyntheticTx:
    raw: bytes
    planted: Planted | None


@dataclass(frozen=True)
class Plan:
    """`count` transactions in all, the planted ones among them."""

    count: int
    deposits: int = 0
    change_backs: int = 0  # withdrawals, and one in INTERNAL_EVERY internal
    sweeps: int = 0

    def __post_init__(self) -> None:
        planted = self.deposits + self.change_backs + self.sweeps
        if min(self.count, self.deposits, self.change_backs, self.sweeps) < 0:
            raise ConfigError("a number of synthetic transactions is negative: give 0 or more.")
        if planted > self.count:
            raise ConfigError(
                f"{planted} transactions cannot be planted among {self.count}: raise the count or "
                "plant fewer."
            )


class Traffic:
    """A seeded source of transactions; a whale is worth `whale_sat` or more. ConfigError when that
    is not from 1 to WHALE_SAT_MAX."""

    def __init__(self, seed: int, whale_sat: int) -> None:
        if not 0 < whale_sat <= WHALE_SAT_MAX:
            raise ConfigError(
                f"a whale of {whale_sat} satoshis is out of bounds: give 1 to {WHALE_SAT_MAX}."
            )
        self._rng = Random(seed)
        self._whale_sat = whale_sat
        self._like = _Likeness(self._rng, BLOCK_866342)
        self._wallets = {
            exchange: [Wallet.invent(self._rng, wallet_type) for wallet_type in WALLET_TYPES]
            for exchange in EXCHANGES
        }

    def book_rows(self) -> list[tuple[str, str]]:
        """Address and exchange of every wallet."""
        return [
            (str(address_of(wallet.script())), exchange)
            for exchange, wallets in self._wallets.items()
            for wallet in wallets
        ]

    def transactions(self, plan: Plan) -> Iterator[SyntheticTx]:
        internal = plan.change_backs // INTERNAL_EVERY
        makers = [self._deposit] * plan.deposits
        makers += [self._withdrawal] * (plan.change_backs - internal)
        makers += [self._internal] * internal
        makers += [self._sweep] * plan.sweeps
        makers += [self._everyday] * (plan.count - len(makers))
        self._rng.shuffle(makers)
        return (make() for make in makers)

    def _everyday(self) -> SyntheticTx:
        n_in, n_out = self._like.shape()
        return self._transaction(self._like.spends(n_in), self._like.outputs(n_out), None)

    def _deposit(self) -> SyntheticTx:
        exchange, wallet = self._wallet()
        paid_sat = self._whale()
        outputs = [Output(paid_sat, wallet.script())]
        if self._rng.random() < 0.5:
            outputs.append(self._like.output())
        spends = self._like.spends(self._rng.randint(*DEPOSIT_INPUTS))
        return self._transaction(spends, outputs, Planted("deposit", exchange, paid_sat))

    def _withdrawal(self) -> SyntheticTx:
        """One or two customers are paid, and the change is a whale as well."""
        exchange, wallet = self._wallet()
        customers = [
            Output(self._whale(), anybody(self._rng, "p2wpkh"))
            for _ in range(self._rng.randint(1, 2))
        ]
        net_sat = sum(output.value_sat for output in customers)
        outputs = [*customers, Output(self._whale(), wallet.script())]
        planted = Planted("withdrawal", exchange, net_sat)
        return self._transaction(self._spends_of(wallet), outputs, planted)

    def _internal(self) -> SyntheticTx:
        """To another wallet of the same exchange, with change to the same."""
        exchange, wallet = self._wallet()
        other = self._rng.choice(self._wallets[exchange])
        outputs = [Output(self._whale(), to.script()) for to in (other, wallet)]
        planted = Planted("internal", exchange, 0)
        return self._transaction(self._spends_of(wallet), outputs, planted)

    def _sweep(self) -> SyntheticTx:
        exchange, wallet = self._wallet()
        paid_sat = self._whale()
        spends = self._like.spends(self._rng.randint(*SWEEP_INPUTS))
        outputs = [Output(paid_sat, wallet.script())]
        return self._transaction(spends, outputs, Planted("sweep", exchange, paid_sat))

    def _wallet(self) -> tuple[str, Wallet]:
        exchange = self._rng.choice(EXCHANGES)
        return exchange, self._rng.choice(self._wallets[exchange])

    def _whale(self) -> int:
        times = min(self._rng.paretovariate(WHALE_TAIL), WHALE_TIMES_MAX)
        return int(self._whale_sat * times)

    def _spends_of(self, wallet: Wallet) -> list[Spend]:
        return [wallet.spend(self._rng) for _ in range(self._rng.randint(*EXCHANGE_INPUTS))]

    def _transaction(
        self, spends: Sequence[Spend], outputs: list[Output], planted: Planted | None
    ) -> SyntheticTx:
        """In random order, and each spend of an outpoint of its own."""
        self._rng.shuffle(outputs)
        outpoints = [self._rng.randbytes(32) + b"\0\0\0\0" for _ in spends]
        return SyntheticTx(serialise(list(zip(outpoints, spends, strict=True)), outputs), planted)


class _Likeness:
    """Draws what is like a real block's: shapes jointly; all inputs of a transaction of one type;
    at most one OP_RETURN; amounts independent of everything else."""

    def __init__(self, rng: Random, real: Proportions) -> None:
        self._rng = rng
        self._real = real
        self._shapes = [(n_in, n_out) for n_in, n_out, _ in real.shapes]
        self._shape_weights = list(accumulate(n for _, _, n in real.shapes))
        self._input_types = [
            _Weighted({**types, "p2sh": P2SH_SHARE * sum(types.values())})
            for types in real.input_types
        ]
        self._forms = [
            _Weighted({form: types.get(form, 0) for form in OUTPUT_FORMS})
            for types in real.output_types
        ]
        self._op_return_shares = [
            types.get("op_return", 0) / n
            for types, n in zip(real.output_types, real.by_outputs(), strict=True)
        ]

    def shape(self) -> tuple[int, int]:
        """How many inputs and outputs."""
        return self._rng.choices(self._shapes, cum_weights=self._shape_weights)[0]

    def spends(self, n_in: int) -> list[Spend]:
        wallet_type = self._input_types[bisect(INPUT_BUCKETS, n_in) - 1].draw(self._rng)
        return [self._spend(wallet_type) for _ in range(n_in)]

    def outputs(self, n_out: int) -> list[Output]:
        bucket = bisect(OUTPUT_BUCKETS, n_out) - 1
        outputs = []
        if self._rng.random() < self._op_return_shares[bucket]:
            size = self._quantile(self._real.op_return_bytes)
            outputs.append(Output(0, op_return(self._rng, size)))
        while len(outputs) < n_out:
            outputs.append(self.output(bucket))
        return outputs

    def output(self, bucket: int = 0) -> Output:
        """To somebody who is in no book."""
        script = anybody(self._rng, self._forms[bucket].draw(self._rng))
        return Output(self._quantile(self._real.value_sat), script)

    def _spend(self, wallet_type: str) -> Spend:
        match wallet_type:
            case "p2tr-key":
                return taproot_key_spend(self._rng)
            case "p2tr-script":
                size = self._quantile(self._real.taproot_script_bytes)
                return taproot_script_spend(self._rng, size)
            case _:
                return Wallet.invent(self._rng, wallet_type).spend(self._rng)

    def _quantile(self, quantiles: Sequence[int]) -> int:
        """A number with these quantiles (at LEVELS), even in the logarithm between two of them."""
        level = self._rng.random()
        i = bisect(LEVELS, level) - 1
        part = (level - LEVELS[i]) / (LEVELS[i + 1] - LEVELS[i])
        least, most = math.log(quantiles[i]), math.log(quantiles[i + 1])
        return round(math.exp(least + part * (most - least)))


class _Weighted:
    """Draws a name as often as its weight says."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._names = list(weights)
        self._cumulative = list(accumulate(weights.values()))

    def draw(self, rng: Random) -> str:
        return rng.choices(self._names, cum_weights=self._cumulative)[0]
