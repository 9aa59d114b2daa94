"""What a transaction is for the exchanges it pays (csrc/strategy.c, seen.c, book.c), through
engine.core.Engine: kinds, net amounts, duplicates, rules and limits, as in docs/strategy.md."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine._native import lib
from engine.address import address_of
from engine.book import Book, BookEntry
from engine.core import Engine, EngineOptions, Rule
from engine.errors import NativeError, TxError
from engine.records import Fired, PaidOutput, Signal
from engine.venues.binance import OrderSpec, order_template
from tests.peers import news

from .builders import (
    NULL_TXID,
    WALLETS,
    Input,
    Output,
    Wallet,
    coin,
    coinbase,
    op_return,
    p2pkh_wallet,
    p2sh_multisig_wallet,
    p2tr,
    p2tr_wallet,
    p2wpkh_wallet,
    payment,
    transaction,
    txid_of,
)

BTC = 100_000_000

HOT, COLD = p2pkh_wallet(100), p2sh_multisig_wallet(200)  # both binance's
OKX, KRAKEN, TAPROOT = p2wpkh_wallet(300), p2wpkh_wallet(400), p2tr_wallet(500)
OWNERS = {
    "binance": (HOT, COLD),
    "okx": (OKX,),
    "kraken": (KRAKEN,),
    "bitrue": (TAPROOT,),
}
WHALE, OTHER = p2wpkh_wallet(1), p2wpkh_wallet(2)


def book_of(owners: dict[str, Sequence[Wallet]]) -> Book:
    return Book(
        BookEntry(address(wallet), name) for name, wallets in owners.items() for wallet in wallets
    )


def address(wallet: Wallet) -> str:
    return address_of(wallet.script_pub_key) or ""


BOOK = book_of(OWNERS)


def to(wallet: Wallet, value_sat: int) -> Output:
    return Output(value_sat, wallet.script_pub_key)


def feed(engine: Engine, raw: bytes) -> list[Signal]:
    count = engine.rawtx(raw, 0)
    found = [event for event in news(engine) if isinstance(event, Signal)]
    assert len(found) == count
    return found


def signals(raw: bytes, **options: int) -> list[Signal]:
    return feed(Engine(BOOK, EngineOptions(**options)), raw)


def only(raw: bytes, **options: int) -> Signal:
    (signal,) = signals(raw, **options)
    return signal


def kinds(raw: bytes, **options: int) -> list[tuple[str, str, int]]:
    return [(s.exchange, s.kind, s.net_sat) for s in signals(raw, **options)]


# ---- deposits ------------------------------------------------------------------------------------


def test_a_deposit() -> None:
    raw = payment(p2pkh_wallet(7), to(OTHER, 3 * BTC), to(OKX, 9 * BTC), to(OTHER, 5), to(OKX, 1))
    assert only(raw) == Signal(
        txid=txid_of(raw),
        kind="deposit",
        exchange="okx",
        source="unknown",
        net_sat=9 * BTC + 1,
        outputs=(PaidOutput(1, 9 * BTC, address(OKX)), PaidOutput(3, 1, address(OKX))),
        outputs_total=2,
        n_in=1,
        n_out=4,
        inputs_recognised=1,
        inputs_owned=0,
        rule=None,
    )


def test_outputs_to_several_addresses_of_one_exchange_are_one_deposit() -> None:
    signal = only(payment(WHALE, to(HOT, 2 * BTC), to(COLD, 3 * BTC)))
    assert signal.net_sat == 5 * BTC
    assert [output.address for output in signal.outputs] == [address(HOT), address(COLD)]


@pytest.mark.parametrize("name", WALLETS)
def test_how_much_of_the_input_side_was_recognised(name: str) -> None:
    whale = WALLETS[name](40)
    inputs = [whale.spend(coin(1)), OTHER.spend(coin(2)), p2tr_wallet(41).spend(coin(3))]
    signal = only(transaction(inputs, [to(OKX, BTC)]))
    assert (signal.kind, signal.source) == ("deposit", "unknown")
    assert (signal.n_in, signal.inputs_owned) == (3, 0)
    assert signal.inputs_recognised == 1 + whale.reveals


def test_a_deposit_from_another_exchange_knows_its_source() -> None:
    signal = only(payment(HOT, to(OKX, 9 * BTC), to(OTHER, BTC)))
    assert (signal.kind, signal.source, signal.net_sat) == ("deposit", "binance", 9 * BTC)
    assert (signal.inputs_recognised, signal.inputs_owned) == (1, 1)


def test_the_source_is_the_first_exchange_among_the_inputs() -> None:
    inputs = [WHALE.spend(coin(1)), KRAKEN.spend(coin(2)), HOT.spend(coin(3)), HOT.spend(coin(4))]
    signal = only(transaction(inputs, [to(OKX, BTC)]))
    assert (signal.source, signal.inputs_recognised, signal.inputs_owned) == ("kraken", 4, 3)


def test_what_pays_no_exchange_is_no_signal() -> None:
    assert signals(payment(WHALE, to(OTHER, 1000 * BTC), Output(0, op_return()))) == []
    assert signals(payment(HOT, to(OTHER, 1000 * BTC))) == []  # nor a withdrawal without change


# ---- withdrawals and internal transfers ----------------------------------------------------------


def test_change_back_to_the_same_address() -> None:
    signal = only(payment(HOT, to(OTHER, 2 * BTC), to(HOT, 40 * BTC), to(WHALE, 3 * BTC)))
    assert (signal.kind, signal.source, signal.net_sat) == ("withdrawal", "binance", 5 * BTC)
    assert signal.outputs == (PaidOutput(1, 40 * BTC, address(HOT)),)


def test_change_to_another_address_of_the_same_exchange() -> None:
    signal = only(payment(HOT, to(COLD, 40 * BTC), to(OTHER, 2 * BTC)))
    assert (signal.kind, signal.source, signal.net_sat) == ("withdrawal", "binance", 2 * BTC)


@pytest.mark.parametrize("position", range(4))
def test_one_input_of_the_exchange_is_enough(position: int) -> None:
    inputs = [WHALE.spend(coin(n)) for n in range(3)]
    inputs.insert(position, COLD.spend(coin(9)))
    raw = transaction(inputs, [to(HOT, BTC), to(OTHER, 4 * BTC)])
    assert kinds(raw) == [("binance", "withdrawal", 4 * BTC)]


@pytest.mark.parametrize("name", [name for name, make in WALLETS.items() if address(make(60))])
def test_owners_by_what_their_inputs_reveal(name: str) -> None:
    wallet = WALLETS[name](60)
    engine = Engine(book_of({"gate": (wallet,)}))
    raw = transaction([wallet.spend(coin(1))], [to(wallet, 7 * BTC), to(OTHER, BTC)])
    (signal,) = feed(engine, raw)
    expected = ("withdrawal", "gate", BTC) if wallet.reveals else ("deposit", "unknown", 7 * BTC)
    assert (signal.kind, signal.source, signal.net_sat) == expected
    assert (signal.inputs_recognised, signal.inputs_owned) == (wallet.reveals, wallet.reveals)


def test_a_transfer_inside_an_exchange() -> None:
    assert kinds(payment(HOT, to(COLD, 1000 * BTC))) == [("binance", "internal", 0)]
    signal = only(payment(HOT, to(COLD, 1000 * BTC), to(HOT, BTC), Output(0, op_return())))
    assert (signal.kind, signal.net_sat, signal.source) == ("internal", 0, "binance")
    assert sum(output.value_sat for output in signal.outputs) == 1001 * BTC


def test_a_single_satoshi_that_leaves_makes_a_withdrawal() -> None:
    raw = payment(HOT, to(COLD, 1000 * BTC), Output(1, op_return()))
    assert kinds(raw) == [("binance", "withdrawal", 1)]


# ---- sweeps --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_in", "options", "kind"),
    [
        (1, {}, "deposit"),
        (5, {}, "deposit"),
        (6, {}, "sweep"),
        (203, {}, "sweep"),
        (1, {"sweep_inputs_min": 1}, "sweep"),
        (2, {"sweep_inputs_min": 2}, "sweep"),
        (6, {"sweep_inputs_min": 7}, "deposit"),
        (7, {"sweep_inputs_min": 7}, "sweep"),
    ],
)
def test_how_many_inputs_make_a_sweep(n_in: int, options: dict[str, int], kind: str) -> None:
    raw = payment(WHALE, to(HOT, 62 * BTC), to(OTHER, BTC), inputs=n_in)
    assert kinds(raw, **options) == [("binance", kind, 62 * BTC)]


def test_many_inputs_of_the_exchange_itself_are_no_sweep() -> None:
    assert kinds(payment(HOT, to(COLD, BTC), inputs=50)) == [("binance", "internal", 0)]
    raw = payment(COLD, to(HOT, BTC), to(OTHER, 2 * BTC), inputs=50)
    assert kinds(raw) == [("binance", "withdrawal", 2 * BTC)]


def test_a_sweep_names_the_exchange_its_coins_are_from() -> None:
    signal = only(payment(OKX, to(HOT, BTC), inputs=6))
    assert (signal.kind, signal.source, signal.inputs_owned) == ("sweep", "okx", 6)


# ---- several exchanges in one transaction --------------------------------------------------------


def test_each_exchange_has_its_own_signal() -> None:
    raw = payment(HOT, to(OKX, 3 * BTC), to(HOT, 50 * BTC), to(KRAKEN, 4 * BTC), to(OKX, BTC))
    assert kinds(raw) == [
        ("okx", "deposit", 4 * BTC),
        ("binance", "withdrawal", 8 * BTC),
        ("kraken", "deposit", 4 * BTC),
    ]
    assert [s.source for s in signals(raw)] == ["binance"] * 3
    assert len({s.txid for s in signals(raw)}) == 1


def many_exchanges(n: int) -> tuple[Book, list[Wallet]]:
    wallets = [p2wpkh_wallet(1000 + i) for i in range(n)]
    return book_of({f"exchange {i:02}": (wallet,) for i, wallet in enumerate(wallets)}), wallets


def test_more_exchanges_than_can_be_told_apart_are_counted() -> None:
    limit, extra = lib.HP_SIGNALS_MAX, 6
    book, wallets = many_exchanges(limit + extra)
    engine = Engine(book)
    raw = payment(WHALE, *(to(wallet, 1) for wallet in wallets * 3))
    found = feed(engine, raw)
    assert [s.exchange for s in found] == [f"exchange {i:02}" for i in range(limit)]
    assert {(s.net_sat, s.outputs_total) for s in found} == {(3, 3)}
    assert feed(engine, raw) == []
    stats = engine.stats()
    assert (stats["signals"], stats["signals_unlisted"]) == (limit, extra)
    assert stats["records_lost"] == 0


def test_more_outputs_than_are_listed_are_counted_and_summed() -> None:
    limit = lib.HP_SIGNAL_OUTPUTS_MAX
    raw = payment(WHALE, *(to(OKX, n) for n in range(limit + 476)), to(HOT, 1))
    okx, binance = signals(raw)
    assert okx.outputs_total == limit + 476
    assert [output.vout for output in okx.outputs] == list(range(limit))
    assert okx.net_sat == sum(range(limit + 476))
    assert binance.outputs == (PaidOutput(limit + 476, 1, address(HOT)),)


# ---- the least amount ----------------------------------------------------------------------------


def test_the_least_net_amount_is_inclusive() -> None:
    raw = payment(WHALE, to(OKX, 5 * BTC), to(OTHER, 100 * BTC))
    assert kinds(raw, min_signal_sat=5 * BTC) == [("okx", "deposit", 5 * BTC)]
    assert kinds(raw, min_signal_sat=5 * BTC + 1) == []


def test_the_least_amount_is_net_of_change() -> None:
    raw = payment(HOT, to(HOT, 1000 * BTC), to(OKX, 2 * BTC))
    assert kinds(raw, min_signal_sat=2 * BTC) == [
        ("binance", "withdrawal", 2 * BTC),
        ("okx", "deposit", 2 * BTC),
    ]
    assert kinds(raw, min_signal_sat=2 * BTC + 1) == []
    assert kinds(payment(HOT, to(COLD, 1000 * BTC)), min_signal_sat=1) == []


def test_only_the_exchanges_above_the_least_amount_are_reported() -> None:
    raw = payment(WHALE, to(KRAKEN, 1), to(OKX, 7 * BTC), to(HOT, 2))
    assert kinds(raw, min_signal_sat=BTC) == [("okx", "deposit", 7 * BTC)]


def test_a_payment_of_nothing() -> None:
    assert kinds(payment(WHALE, to(OKX, 0))) == [("okx", "deposit", 0)]


# ---- duplicates ----------------------------------------------------------------------------------


def test_a_transaction_signals_once() -> None:
    engine = Engine(BOOK)
    raw = payment(WHALE, to(OKX, BTC))
    assert len(feed(engine, raw)) == 1
    assert feed(engine, raw) == feed(engine, raw) == []
    stats = engine.stats()
    assert (stats["transactions"], stats["signals"], stats["duplicates"]) == (3, 1, 2)


def test_another_witness_is_the_same_transaction() -> None:
    engine = Engine(BOOK)
    first = WHALE.spend(coin(1))
    assert len(feed(engine, transaction([first], [to(OKX, BTC)]))) == 1
    malleated = Input(first.txid, first.vout, witness=(*first.witness, b"more"))
    assert feed(engine, transaction([malleated], [to(OKX, BTC)])) == []


def test_a_fee_bump_is_the_same_whale() -> None:
    engine = Engine(BOOK)
    assert len(feed(engine, payment(WHALE, to(OKX, 2 * BTC)))) == 1
    assert feed(engine, payment(WHALE, to(OKX, 2 * BTC - 1000))) == []
    assert engine.stats()["duplicates"] == 1


@pytest.mark.parametrize("shared", range(3))
def test_one_shared_outpoint_is_enough(shared: int) -> None:
    engine = Engine(BOOK)
    raw = transaction([WHALE.spend(coin(n), n) for n in range(3)], [to(OKX, BTC)])
    assert len(feed(engine, raw)) == 1
    inputs = [OTHER.spend(coin(50)), OTHER.spend(coin(51)), OTHER.spend(coin(shared), shared)]
    assert feed(engine, transaction(inputs, [to(HOT, 5 * BTC)])) == []


def test_siblings_are_no_duplicates() -> None:
    """Other outputs of a transaction whose output has signalled, and the same index elsewhere."""
    engine = Engine(BOOK)
    spent = [(coin(1), 0), (coin(1), 1), (coin(1), 256), (coin(2), 0)]
    for txid, vout in spent:
        assert len(feed(engine, transaction([WHALE.spend(txid, vout)], [to(OKX, BTC)]))) == 1


def test_a_child_of_a_signal_is_no_duplicate() -> None:
    engine = Engine(BOOK)
    parent = payment(p2pkh_wallet(7), to(OKX, BTC), to(WHALE, BTC))
    assert len(feed(engine, parent)) == 1
    child = transaction([WHALE.spend(bytes.fromhex(txid_of(parent))[::-1], 1)], [to(OKX, BTC)])
    assert len(feed(engine, child)) == 1


def test_only_signals_are_remembered() -> None:
    engine = Engine(BOOK, EngineOptions(min_signal_sat=BTC))
    assert feed(engine, payment(WHALE, to(OKX, BTC - 1))) == []
    assert feed(engine, payment(WHALE, to(OTHER, 5 * BTC))) == []
    assert len(feed(engine, payment(WHALE, to(OKX, BTC)))) == 1
    assert engine.stats()["duplicates"] == 0


def test_a_refused_duplicate_leaves_no_trace() -> None:
    engine = Engine(BOOK)
    assert len(feed(engine, payment(WHALE, to(OKX, BTC), spends=1))) == 1
    bump = transaction([WHALE.spend(coin(1)), OTHER.spend(coin(2))], [to(OKX, BTC)])
    assert feed(engine, bump) == []
    assert len(feed(engine, payment(OTHER, to(OKX, BTC), spends=2))) == 1


def flood(*outputs: Output, inputs: int = 97_000) -> bytes:
    """A transaction of many small inputs, by default 4 MB of them."""
    return transaction(
        [Input(coin(0)[:16] + n.to_bytes(16, "big")) for n in range(inputs)], outputs
    )


def test_memory_is_bounded_and_forgets_the_oldest() -> None:
    """Every input of a signal takes one entry."""
    engine = Engine(BOOK, EngineOptions(remembered=1 << 18))
    raw = payment(WHALE, to(OKX, BTC), inputs=20)
    assert len(feed(engine, raw)) == 1
    first = flood(to(OKX, 1))
    assert len(feed(engine, first)) == 1
    assert feed(engine, raw) == []
    for n in range(1, 12):
        last = first.replace(coin(0)[:16], coin(n)[:16])
        assert len(feed(engine, last)) == 1
    assert len(feed(engine, raw)) == 1
    assert feed(engine, last) == []


def test_memory_forgets_nothing_before_it_fills_up() -> None:
    """An eighth of it: then each place it chooses from has eight entries for one that is used."""
    engine = Engine(BOOK)
    deposits = [payment(WHALE, to(OKX, BTC), spends=n) for n in range(200)]
    assert [len(feed(engine, raw)) for raw in deposits] == [1] * 200
    assert len(feed(engine, flood(to(OKX, 1), inputs=32_000))) == 1
    assert [raw for raw in deposits if feed(engine, raw)] == []


# ---- coinbases -----------------------------------------------------------------------------------


def test_a_coinbase_is_no_deposit() -> None:
    engine = Engine(BOOK)
    assert feed(engine, coinbase(to(OKX, 6 * BTC))) == []
    stats = engine.stats()
    assert (stats["coinbases"], stats["signals"], stats["duplicates"]) == (1, 0, 0)


def test_a_null_outpoint_among_others_makes_no_coinbase() -> None:
    null = Input(NULL_TXID, 0xFFFF_FFFF)
    assert len(signals(transaction([null, WHALE.spend(coin(1))], [to(OKX, BTC)]))) == 1
    assert len(signals(transaction([Input(NULL_TXID, 0)], [to(OKX, BTC)]))) == 1


# ---- rules ---------------------------------------------------------------------------------------


def engine_with(*rules: Rule) -> Engine:
    engine = Engine(BOOK)
    engine.set_key("secret")
    for quantity in ("0.1", "0.2", "0.3"):
        engine.add_order(
            order_template(OrderSpec("BTCUSDT", "SELL", "MARKET", quantity), "k", 5000)
        )
    for index, rule in enumerate(rules):
        assert engine.add_rule(rule) == index
    return engine


def rule(
    kinds: tuple[str, ...] = ("deposit",),
    exchange: str | None = None,
    at_least: int = 0,
    at_most: int | None = None,
    order: int = 0,
) -> Rule:
    return Rule(kinds, exchange, at_least, at_most, order)


TWO_BTC_TO_OKX = payment(WHALE, to(OKX, 2 * BTC))


@pytest.mark.parametrize(
    ("rules", "chosen"),
    [
        ([], None),
        ([rule()], 0),
        ([rule(), rule()], 0),
        ([rule(("sweep",)), rule(("withdrawal", "internal")), rule()], 2),
        ([rule(("sweep", "deposit", "withdrawal"))], 0),
        ([rule(("sweep", "internal", "withdrawal"))], None),
        ([rule(exchange="binance")], None),
        ([rule(exchange="binance"), rule(exchange="OKX")], 1),
        ([rule(at_least=2 * BTC, at_most=2 * BTC)], 0),
        ([rule(at_least=2 * BTC + 1)], None),
        ([rule(at_most=2 * BTC - 1)], None),
        ([rule(at_least=3 * BTC), rule(at_least=BTC, order=2), rule()], 1),
        ([rule(exchange="okx", at_least=2 * BTC, at_most=3 * BTC, order=1), rule()], 0),
    ],
)
def test_the_first_rule_that_matches(rules: list[Rule], chosen: int | None) -> None:
    engine = engine_with(*rules)
    engine.rawtx(TWO_BTC_TO_OKX, 0)
    events = news(engine)
    (signal,) = (event for event in events if isinstance(event, Signal))
    assert signal.rule == chosen
    fired = [event for event in events if isinstance(event, Fired)]
    if chosen is None:
        assert fired == []
    else:
        assert [(f.rule, f.order, f.exchange) for f in fired] == [
            (chosen, rules[chosen].order, "okx")
        ]
        assert (fired[0].txid, fired[0].refusal) == (signal.txid, "not-ready")


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("deposit", TWO_BTC_TO_OKX),
        ("withdrawal", payment(HOT, to(HOT, BTC), to(OTHER, BTC))),
        ("internal", payment(HOT, to(COLD, BTC))),
        ("sweep", payment(WHALE, to(HOT, BTC), inputs=6)),
    ],
)
def test_a_rule_can_ask_for_each_kind(kind: str, raw: bytes) -> None:
    others = tuple({"deposit", "withdrawal", "internal", "sweep"} - {kind})
    (signal,) = feed(engine_with(rule(others), rule((kind,))), raw)
    assert (signal.kind, signal.rule) == (kind, 1)


def test_rules_look_at_each_exchange_of_a_transaction() -> None:
    engine = engine_with(rule(exchange="kraken", order=1), rule(("withdrawal",), order=2))
    raw = payment(HOT, to(HOT, BTC), to(OKX, BTC), to(KRAKEN, BTC))
    engine.rawtx(raw, 0)
    events = news(engine)
    chosen = {e.exchange: e.rule for e in events if isinstance(e, Signal)}
    assert chosen == {"binance": 1, "okx": None, "kraken": 0}
    fired = [(e.exchange, e.order) for e in events if isinstance(e, Fired)]
    assert fired == [("binance", 2), ("kraken", 1)]


def test_duplicates_fire_no_rule() -> None:
    engine = engine_with(rule())
    for value in (2 * BTC, 2 * BTC, 2 * BTC - 1):
        engine.rawtx(payment(WHALE, to(OKX, value)), 0)
    assert len([event for event in news(engine) if isinstance(event, Fired)]) == 1


def test_how_many_rules_there_may_be() -> None:
    engine = engine_with(*([rule(at_least=BTC)] * lib.HP_RULES_MAX))
    with pytest.raises(NativeError, match="no room"):
        engine.add_rule(rule())


@pytest.mark.parametrize("wrong", [rule(order=3), rule(at_least=2, at_most=1)])
def test_rules_that_cannot_be(wrong: Rule) -> None:
    with pytest.raises(NativeError, match="out of its bounds"):
        engine_with().add_rule(wrong)


# ---- against a model -----------------------------------------------------------------------------

POOL = [WHALE, p2tr_wallet(9), HOT, COLD, OKX, KRAKEN, TAPROOT, OTHER]
OWNER_OF = {wallet: name for name, wallets in OWNERS.items() for wallet in wallets}


def model(
    spent: Sequence[Wallet], paid: Sequence[tuple[Wallet, int]], least: int, sweep: int
) -> list[tuple[str, str, str, int]]:
    """Section 7 of the design in a few lines: exchange, kind, source, net amount."""
    owners = [OWNER_OF[wallet] for wallet in spent if wallet.reveals and wallet in OWNER_OF]
    found = []
    for exchange in dict.fromkeys(OWNER_OF[wallet] for wallet, _ in paid if wallet in OWNER_OF):
        inside = sum(value for wallet, value in paid if OWNER_OF.get(wallet) == exchange)
        outside = sum(value for _, value in paid) - inside
        if exchange in owners:
            found.append((exchange, "withdrawal" if outside else "internal", exchange, outside))
        else:
            kind = "sweep" if len(spent) >= sweep else "deposit"
            found.append((exchange, kind, owners[0] if owners else "unknown", inside))
    return [signal for signal in found if signal[3] >= least]


wallets = st.sampled_from(POOL)
values = st.integers(0, 4) | st.integers(0, 1000 * BTC)


@settings(max_examples=300)
@given(
    st.lists(wallets, min_size=1, max_size=9),
    st.lists(st.tuples(wallets, values), min_size=1, max_size=9),
    st.integers(0, 4),
    st.integers(2, 8),
)
def test_kinds_agree_with_the_model(
    spent: list[Wallet], paid: list[tuple[Wallet, int]], least: int, sweep: int
) -> None:
    inputs = [wallet.spend(coin(n)) for n, wallet in enumerate(spent)]
    raw = transaction(inputs, [to(wallet, value) for wallet, value in paid])
    found = signals(raw, min_signal_sat=least, sweep_inputs_min=sweep)
    assert [(s.exchange, s.kind, s.source, s.net_sat) for s in found] == (
        model(spent, paid, least, sweep)
    )


# ---- how long it took ----------------------------------------------------------------------------


def test_latencies_of_every_transaction_that_could_be_read() -> None:
    engine = Engine(BOOK)
    for n in range(1000):
        feed(engine, payment(WHALE, to(OKX if n % 2 else OTHER, BTC), spends=n))
    with pytest.raises(TxError):
        engine.rawtx(b"", 0)
    latency_ns = engine.latency_ns()
    for stage in ("decode", "decide"):
        row = latency_ns[stage]
        assert row["count"] == 1000
        values = [row[name] for name in ("p50", "p90", "p99", "p999", "max")]
        assert values == sorted(values)
        assert 0 < values[-1] < 1_000_000_000
    assert all(latency_ns[stage]["count"] == 0 for stage in ("build", "sign", "send"))


def test_no_quantile_exceeds_the_longest() -> None:
    engine = Engine(BOOK)
    feed(engine, flood(to(OKX, 1)))  # takes long enough to share a bucket with other durations
    for row in (engine.latency_ns()[stage] for stage in ("decode", "decide")):
        assert {row[name] for name in ("p50", "p90", "p99", "p999")} == {row["max"]}


# ---- the worst that a block could hold -----------------------------------------------------------


def test_no_transaction_takes_long() -> None:
    """Each of these is up to 4 MB, forty times what a node relays (MAX_STANDARD_TX_WEIGHT)."""
    book, exchanges = many_exchanges(lib.HP_SIGNALS_MAX)
    pay_all = [to(wallet, 1) for wallet in exchanges]
    strangers = [Output(1, p2tr(n)) for n in range(100)]
    long_script = bytes(3_900_000)
    shapes = {
        "20,000 inputs": transaction([WHALE.spend(coin(n)) for n in range(20_000)], pay_all),
        "20,000 owned inputs": transaction(
            [exchanges[n % 64].spend(coin(n)) for n in range(20_000)], pay_all
        ),
        "97,000 empty inputs": flood(*pay_all),
        "witness items": transaction([Input(coin(1), witness=(b"",) * 3_900_000)], pay_all),
        "pushes": transaction([Input(coin(1), 0, long_script)], pay_all),
        "a script to hash": transaction(
            [Input(coin(1), 0, b"\x4e" + len(long_script).to_bytes(4, "little") + long_script)],
            pay_all,
        ),
        "40,000 outputs to 64 exchanges": transaction([Input(coin(1))], pay_all * 625),
        "outputs before them": transaction([Input(coin(1))], strangers * 920 + pay_all),
    }
    for name, raw in shapes.items():
        assert len(raw) <= lib.HP_TX_BYTES_MAX
        engine = Engine(book)
        start = time.thread_time()
        assert engine.rawtx(raw, 0) == len(exchanges)
        assert time.thread_time() - start < 5, name
        assert engine.stats()["records_lost"] == 0
