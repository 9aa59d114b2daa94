"""Invented transactions: well-formed for others too, planted as told, like a real block's."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from bitcoin.core import CTransaction
from bitcoin.core.script import CScript
from bitcoin.core.serialize import VarIntSerializer

from engine import tx
from engine.address import address_of, script_of
from engine.book import Book, BookEntry
from engine.core import Engine, EngineOptions
from engine.errors import ConfigError
from engine.feed.measure import measure
from engine.feed.proportions import BLOCK_866342, LEVELS, Proportions
from engine.feed.replay import read_block
from engine.feed.synthetic import (
    DEPOSIT_INPUTS,
    EXCHANGES,
    P2SH_SHARE,
    SWEEP_INPUTS,
    WHALE_SAT_MAX,
    Plan,
    SyntheticTx,
    Traffic,
)
from engine.feed.wallet import (
    OUTPUT_FORMS,
    WALLET_TYPES,
    Output,
    Wallet,
    anybody,
    compact_size,
    op_return,
    serialise,
    taproot_key_spend,
    taproot_script_spend,
)
from engine.records import Signal
from tests.peers import news

BTC = 100_000_000
WHALE = 100 * BTC


def generate(plan: Plan, seed: int = 1, whale_sat: int = WHALE) -> list[SyntheticTx]:
    return list(Traffic(seed, whale_sat).transactions(plan))


# ---- bytes ---------------------------------------------------------------------------------------


def test_bitcoinlib_reads_and_writes_the_same_bytes() -> None:
    for made in generate(Plan(2000, 20, 20, 20)):
        theirs = CTransaction.deserialize(made.raw)
        assert theirs.serialize() == made.raw
        assert all(txout.scriptPubKey.is_valid() for txout in theirs.vout)
        assert 0 <= sum(txout.nValue for txout in theirs.vout) <= 21_000_000 * BTC


def test_no_output_is_spent_twice() -> None:
    spent = [
        (txin.prevout.hash, txin.prevout.n)
        for made in generate(Plan(2000, 20, 20, 20))
        for txin in CTransaction.deserialize(made.raw).vin
    ]
    assert len(spent) == len(set(spent))


def test_the_seed_decides() -> None:
    plan = Plan(300, 5, 5, 5)
    assert generate(plan, seed=1) == generate(plan, seed=1)
    assert generate(plan, seed=1) != generate(plan, seed=2)
    assert Traffic(1, WHALE).book_rows() == Traffic(1, WHALE).book_rows()
    assert Traffic(1, WHALE).book_rows() != Traffic(2, WHALE).book_rows()


@pytest.mark.parametrize("wallet_type", WALLET_TYPES)
def test_a_wallet_reveals_its_own_script_when_it_spends(wallet_type: str) -> None:
    rng = Random(5)
    for _ in range(20):
        wallet = Wallet.invent(rng, wallet_type)
        outputs = [Output(1, wallet.script())]
        decoded = tx.decode(serialise([(rng.randbytes(36), wallet.spend(rng))], outputs))
        assert decoded.inputs[0].spends == wallet.script()


def test_signatures_are_der_with_a_low_s() -> None:
    """BIP-66's layout, read here by hand."""
    rng = Random(6)
    lengths: Counter[int] = Counter()
    for _ in range(100):
        signature, _ = Wallet.invent(rng, "p2wpkh").spend(rng).witness
        r_len = signature[3]
        s_at = 4 + r_len
        assert (signature[0], signature[1], signature[2]) == (0x30, len(signature) - 3, 2)
        assert (signature[s_at], signature[s_at + 1], signature[-1]) == (2, 32, 1)
        assert signature[4] < 0x80  # a DER integer with the top bit set would be negative
        assert signature[4] or signature[5] >= 0x80  # and no zero byte more than that needs
        assert 0 < signature[s_at + 2] < 0x80
        lengths[len(signature)] += 1
    assert set(lengths) == {71, 72}


@pytest.mark.parametrize("form", OUTPUT_FORMS)
def test_every_output_form_stands_for_an_address(form: str) -> None:
    script = anybody(Random(1), form)
    address = address_of(script)
    assert address is not None
    assert script_of(address) == script


@pytest.mark.parametrize(
    ("asked", "made"), [(2, 2), (7, 7), (77, 77), (78, 77), (79, 79), (83, 83)]
)
def test_a_data_carrier_has_its_size_and_one_push(asked: int, made: int) -> None:
    script = CScript(op_return(Random(1), asked))
    assert len(script) == made
    assert script.is_unspendable()
    assert len(list(script)) == 2


@pytest.mark.parametrize("size", [102, 168, 355, 360, 1000, 67_296])
def test_a_taproot_script_spend_has_its_size(size: int) -> None:
    spend = taproot_script_spend(Random(1), size)
    encoded = sum(len(VarIntSerializer.serialize(len(item))) + len(item) for item in spend.witness)
    assert size - 2 <= encoded <= size


@pytest.mark.parametrize("number", [0, 252, 253, 65_535, 65_536, 2**32 - 1])
def test_compact_size_is_bitcoinlibs(number: int) -> None:
    assert compact_size(number) == VarIntSerializer.serialize(number)


# ---- planted whales ------------------------------------------------------------------------------

PLAN = Plan(count=4000, deposits=60, change_backs=41, sweeps=30)


def book_of(traffic: Traffic) -> Book:
    return Book([BookEntry(address, exchange) for address, exchange in traffic.book_rows()])


@pytest.mark.parametrize("seed", [1, 2])
def test_the_engine_finds_what_was_planted_and_nothing_else(seed: int) -> None:
    traffic = Traffic(seed, WHALE)
    engine = Engine(book_of(traffic), EngineOptions(min_signal_sat=0))
    for made in traffic.transactions(PLAN):
        engine.rawtx(made.raw, 0)
        found = [
            (event["kind"], event["exchange"], event["net_sat"])
            for signal in news(engine)
            if isinstance(signal, Signal) and (event := signal.as_json())
        ]
        planted = made.planted
        assert found == ([(planted.kind, planted.exchange, planted.net_sat)] if planted else [])


def test_as_many_are_planted_as_were_asked_for() -> None:
    made = generate(PLAN)
    kinds = Counter(m.planted.kind for m in made if m.planted)
    assert len(made) == 4000
    assert kinds == {"deposit": 60, "withdrawal": 31, "internal": 10, "sweep": 30}
    places = [place for place, m in enumerate(made) if m.planted]
    assert min(places) < 400  # among the others, not before or behind them
    assert max(places) > 3600


def test_planted_transactions_have_the_forms_that_make_them_what_they_are() -> None:
    traffic = Traffic(3, WHALE)
    owner = {script_of(address): exchange for address, exchange in traffic.book_rows()}
    for made in traffic.transactions(PLAN):
        decoded = tx.decode(made.raw)
        paid = [o for o in decoded.outputs if owner.get(o.script)]
        if made.planted is None:
            assert not paid
            continue
        spenders = {owner.get(txin.spends) for txin in decoded.inputs}
        assert all(o.value_sat >= WHALE for o in paid)
        match made.planted.kind:
            case "deposit":
                assert spenders == {None}
                assert DEPOSIT_INPUTS[0] <= len(decoded.inputs) <= DEPOSIT_INPUTS[1] < 6
                assert 1 <= len(decoded.outputs) <= 2
            case "sweep":
                assert spenders == {None}
                assert 6 < SWEEP_INPUTS[0] <= len(decoded.inputs) <= SWEEP_INPUTS[1]
            case "withdrawal":
                assert spenders == {made.planted.exchange}
                assert {o.script for o in paid} == {txin.spends for txin in decoded.inputs}
                assert made.planted.net_sat >= WHALE
            case "internal":
                assert spenders == {made.planted.exchange}
                assert len(paid) == len(decoded.outputs)
                assert made.planted.net_sat == 0


def test_the_book_has_every_type_of_wallet_of_every_exchange() -> None:
    rows = Traffic(4, WHALE).book_rows()
    assert len({address for address, _ in rows}) == len(rows)
    counts = Counter(exchange for _, exchange in rows)
    assert counts == dict.fromkeys(EXCHANGES, len(WALLET_TYPES))
    for exchange in EXCHANGES:
        forms = Counter(len(script_of(address)) for address, name in rows if name == exchange)
        assert forms == {25: 1, 22: 1, 34: 1, 23: 3}  # P2PKH, P2WPKH, P2WSH, three in P2SH


@pytest.mark.parametrize("whale_sat", [1, WHALE_SAT_MAX])
def test_whales_of_any_size_stay_within_the_supply(whale_sat: int) -> None:
    for made in generate(Plan(400, 100, 200, 100), whale_sat=whale_sat):
        tx.decode(made.raw)  # refuses sums above 21 million BTC


@pytest.mark.parametrize("whale_sat", [0, -1, WHALE_SAT_MAX + 1])
def test_a_whale_has_bounds(whale_sat: int) -> None:
    with pytest.raises(ConfigError, match=f"a whale of {whale_sat} "):
        Traffic(1, whale_sat)


def test_a_plan_has_to_add_up() -> None:
    assert generate(Plan(0)) == []
    assert len([m for m in generate(Plan(3, 1, 1, 1)) if m.planted]) == 3
    with pytest.raises(ConfigError, match="4 transactions cannot be planted among 3"):
        Plan(3, 2, 1, 1)
    with pytest.raises(ConfigError, match="negative"):
        Plan(3, -1)


# ---- proportions ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def synthetic() -> Proportions:
    return measure(made.raw for made in generate(Plan(30_000)))


def assert_alike(made: Proportions, real: Proportions) -> None:
    """The tolerances that docs/synthetic.md states."""
    # Transactions by number of inputs and of outputs: 1 percentage point.
    assert shares(made.by_inputs()) == pytest.approx(shares(real.by_inputs()), abs=0.01)
    assert shares(made.by_outputs()) == pytest.approx(shares(real.by_outputs()), abs=0.01)
    assert made.outputs / made.transactions == pytest.approx(
        real.outputs / real.transactions, rel=0.03
    )
    # Two transactions in 4,863 have 500 and 1,009 inputs: how many of them a sample has is chance.
    assert made.inputs / made.transactions == pytest.approx(
        real.inputs / real.transactions, rel=0.2
    )
    # Types: 1 point more or less, of the inputs of one-input transactions and of all outputs.
    for ours, theirs in (
        (made.input_types[0], real.input_types[0]),
        (summed(made.output_types), summed(real.output_types)),
    ):
        names = sorted({*ours, *theirs})
        assert shares([ours.get(name, 0) for name in names]) == pytest.approx(
            shares([theirs.get(name, 0) for name in names]), abs=0.01
        )
    # Sizes 15 %, amounts 5 %, from the 10th to the 95th percentile.
    middle = slice(LEVELS.index(0.1), LEVELS.index(0.95) + 1)
    assert made.size_bytes[middle] == pytest.approx(real.size_bytes[middle], rel=0.15)
    assert made.value_sat[middle] == pytest.approx(real.value_sat[middle], rel=0.05)
    assert made.op_return_bytes[middle] == real.op_return_bytes[middle]


def shares(counts: Sequence[int]) -> list[float]:
    return [count / sum(counts) for count in counts]


def summed(buckets: Sequence[dict[str, int]]) -> dict[str, int]:
    return dict(sum((Counter(bucket) for bucket in buckets), Counter()))


def test_synthetic_traffic_is_like_the_figures(synthetic: Proportions) -> None:
    assert_alike(synthetic, BLOCK_866342)


def test_synthetic_traffic_is_like_the_real_block(
    synthetic: Proportions, shared_data: Path
) -> None:
    assert_alike(synthetic, measure(real_transactions(shared_data, "866342")))


def test_the_figures_are_the_real_blocks(shared_data: Path) -> None:
    assert measure(real_transactions(shared_data, "866342")) == BLOCK_866342


def test_the_share_of_p2sh_multisig_is_a_real_blocks(
    synthetic: Proportions, shared_data: Path
) -> None:
    real = measure(real_transactions(shared_data, "617509"))
    assert summed(real.input_types)["p2sh"] / real.inputs == P2SH_SHARE
    made = synthetic.input_types[0]
    assert made["p2sh"] / sum(made.values()) == pytest.approx(P2SH_SHARE, rel=0.3)


def test_input_types_are_what_the_spent_outputs_say(shared_data: Path) -> None:
    """The data's own count, from the outputs that block 866342 spends (its MANIFEST)."""
    measured = summed(measure(real_transactions(shared_data, "866342")).input_types)
    assert measured["p2pkh"] == 905
    assert measured["p2wpkh"] == 4374
    assert measured["p2wsh"] == 74
    assert measured["p2sh-p2wpkh"] + measured["p2sh-p2wsh"] == 246
    assert measured["p2tr-key"] + measured["p2tr-script"] == 2373


def real_transactions(shared_data: Path, height: str) -> list[bytes]:
    return read_block(shared_data / "blocks" / f"block_{height}.bin")[1:]


# ---- measuring -----------------------------------------------------------------------------------


def test_a_measurement_counts_what_is_there() -> None:
    rng = Random(8)
    key, multisig = Wallet.invent(rng, "p2wpkh"), Wallet.invent(rng, "p2sh")
    one = serialise([(rng.randbytes(36), key.spend(rng))], [Output(700, anybody(rng, "p2tr"))])
    two = serialise(
        [(rng.randbytes(36), multisig.spend(rng)), (rng.randbytes(36), taproot_key_spend(rng))],
        [Output(0, op_return(rng, 30)), Output(9, b"\x51"), Output(10, anybody(rng, "p2wsh"))],
    )
    measured = measure([one, two])
    assert measured.shapes == ((1, 1, 1), (2, 3, 1))
    assert measured.input_types == ({"p2wpkh": 1}, {"p2sh": 1, "p2tr-key": 1}, {})
    assert measured.output_types == ({"p2tr": 1}, {}, {"op_return": 1, "other": 1, "p2wsh": 1}, {})
    assert measured.size_bytes == (*[len(one)] * 11, len(two))
    assert measured.value_sat == (*[9] * 5, *[10] * 6, 700)
    assert (measured.op_return_bytes, measured.taproot_script_bytes) == ((30,) * 12, ())
    assert (measured.transactions, measured.inputs, measured.outputs) == (2, 3, 4)
    assert (measured.by_inputs(), measured.by_outputs()) == ([1, 1, 0], [1, 0, 1, 0])


def test_the_command_prints_a_column_for_each_block(shared_data: Path) -> None:
    blocks = [shared_data / "blocks" / f"block_{height}.bin" for height in ("757739", "866342")]
    printed = run_measure(*map(str, blocks))
    assert printed.returncode == 0
    assert "| transactions | 62 | 4863 |" in printed.stdout
    assert "| inputs p2wpkh, % | 56.0 | 54.9 |" in printed.stdout
    constant = run_measure("--constant", str(blocks[1]))
    assert constant.stdout == f"block_866342 = {BLOCK_866342!r}\n"


def test_the_docs_show_what_the_command_prints(shared_data: Path) -> None:
    docs = (Path(__file__).resolve().parents[1] / "docs" / "synthetic.md").read_text()
    names = re.findall(r"block_\d+", next(line for line in docs.splitlines() if line[:1] == "|"))
    assert len(names) == 10
    printed = run_measure(*(str(shared_data / "blocks" / f"{name}.bin") for name in names))
    assert printed.stdout in docs


def test_the_command_names_a_file_that_is_no_block(tmp_path: Path) -> None:
    printed = run_measure(str(tmp_path / "absent.bin"))
    assert printed.returncode == 1
    assert printed.stderr.startswith("measure: the block file ")
    assert "Traceback" not in printed.stderr


def run_measure(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "engine.feed.measure", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
