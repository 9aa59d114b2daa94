"""The engine as a whole through engine.core: the risk gate, who may call it, what it counts and
measures, and when its descriptor is readable."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from engine._native import lib
from engine.core import Engine, EngineOptions, Rule
from engine.errors import NativeError, TxError
from engine.records import STAGES, Body, Closed, Fired, Intent, Message, Signal, Spent
from engine.venues.binance import order_template
from tests.peers import (
    API_KEY,
    BTC,
    COINBASE,
    FIN,
    PATIENCE_S,
    PING,
    SECRET,
    SELL,
    TEXT,
    Rig,
    Server,
    book_of,
    deposit,
    engine_for,
    frame,
    news,
    rig,
    text,
    transaction,
    txid_of,
    wallet,
)

ORDER_STAGES = ("build", "sign", "frame", "seal")


def live(max_orders: int = 100, cooldown_ns: int = 0) -> EngineOptions:
    return EngineOptions(live=True, max_orders=max_orders, cooldown_ns=cooldown_ns)


# ---- the risk gate -------------------------------------------------------------------------------


def test_no_order_leaves_whose_outpoints_find_no_room_in_the_journal(server: Server) -> None:
    """A restarted engine could not know all of them, and would fire again."""
    n_in = 95_000  # 3.4 MB of outpoints
    with rig(server, replace(live(), sweep_inputs_min=1 << 20)) as wire:
        for nonce in range(5):  # nobody makes the next segment
            raw = transaction({wallet("kraken"): 5 * BTC}, nonce, n_in)
            wire.engine.rawtx(raw, time.monotonic_ns())
        events = list(wire.engine.events())
        refusals = [event.refusal for event in events if isinstance(event, Fired)]
        assert set(refusals) == {None, "journal"}
        outpoints = [o for event in events if isinstance(event, Spent) for o in event.outpoints]
        outpoints += [o for event in events if isinstance(event, Intent) for o in event.outpoints]
        assert len(set(outpoints)) == refusals.count(None) * n_in
        assert wire.deposit(5).refusal is None


def test_a_dry_run_does_everything_but_the_send(server: Server) -> None:
    with rig(server, EngineOptions(max_orders=100)) as wire:
        fired = [wire.deposit(nonce) for nonce in range(100)]
        assert {(f.dry_run, f.refusal, f.error, f.sent_ns) for f in fired} == {
            (True, None, None, 0)
        }
        assert all(f.timestamp_ms > 0 for f in fired)
        latency = wire.engine.latency_ns()
        assert {latency[stage]["count"] for stage in ORDER_STAGES} == {100}
        assert all(latency[stage]["max"] > 0 for stage in ORDER_STAGES)
        assert {latency[s]["count"] for s in ("send", "fire_total", "rawtx_to_send")} == {0}
        stats = wire.engine.stats()
        assert (stats["orders_dry"], stats["orders_sent"], stats["orders_failed"]) == (100, 0, 0)
        assert wire.peer.is_silent()
        wire.engine.send_text(b"the session's own sequence is whole")
        assert wire.peer.frame() == (TEXT, b"the session's own sequence is whole")


def test_by_default_nothing_can_be_sent(server: Server) -> None:
    with rig(server, EngineOptions()) as wire:
        assert wire.deposit(1).refusal == "max-orders"
    with rig(server, EngineOptions(live=True)) as wire:
        assert wire.deposit(1).refusal == "max-orders"
        assert wire.peer.is_silent()


def test_kill_from_another_thread_is_for_good(server: Server, wire: Rig) -> None:
    assert wire.deposit(1).refusal is None
    assert wire.peer.frame()[0] == TEXT
    killer = threading.Thread(target=wire.engine.kill)
    killer.start()
    killer.join()
    assert wire.engine.killed
    assert wire.deposit(2).refusal == "killed"
    assert wire.peer.is_silent()
    wire.peer.send(frame(FIN | PING, b"still there?") + text(b"news"))
    assert wire.messages(1) == [b"news"], "everything else goes on"
    wire.engine.connect(server.address())
    assert wire.engine.killed
    assert wire.deposit(3).refusal == "killed"


def test_kill_while_orders_stream_out(wire: Rig) -> None:
    """Whatever the instant: what the engine says it sent is what the server gets."""
    killer = threading.Timer(0.02, wire.engine.kill)
    killer.start()
    fired: list[Fired] = []
    while not fired or fired[-1].refusal is None:
        fired.append(wire.deposit(len(fired)))
        if fired[-1].refusal is None:
            assert fired[-1].client_id.encode() in wire.peer.frame()[1]
    killer.join()
    assert fired[-1].refusal == "killed"
    assert wire.peer.is_silent()


@pytest.mark.parametrize("is_live", [True, False])
def test_no_more_than_max_orders(server: Server, is_live: bool) -> None:
    with rig(server, EngineOptions(live=is_live, max_orders=3)) as wire:
        refusals = [wire.deposit(nonce).refusal for nonce in range(5)]
        assert refusals == [None, None, None, "max-orders", "max-orders"]
        assert wire.engine.stats()["orders_refused"] == 2
        if is_live:
            assert [wire.peer.frame()[0] for _ in range(3)] == [TEXT] * 3
        assert wire.peer.is_silent()


def test_a_rule_rests_after_an_order_and_others_do_not(server: Server) -> None:
    engine = Engine(book_of("kraken", "okx"), live(cooldown_ns=1_000_000_000))
    engine.set_key(SECRET)
    order = engine.add_order(order_template(SELL, API_KEY, 5000))
    for exchange in ("kraken", "okx"):
        engine.add_rule(Rule(("deposit",), exchange, 1, None, order))
    engine.connect(server.address())
    wire = Rig(engine, server.connection())
    start = time.monotonic()
    assert wire.deposit(1, "kraken").refusal is None
    assert wire.deposit(2, "kraken").refusal == "cooldown"
    assert wire.deposit(3, "okx").refusal is None
    while (refusal := wire.deposit(time.monotonic_ns(), "kraken").refusal) is not None:
        assert refusal == "cooldown"
        assert time.monotonic() - start < PATIENCE_S
        time.sleep(0.01)
    assert time.monotonic() - start >= 1, "a refused order does not count, nor end the rest"


def test_without_a_session_nothing_is_ready(server: Server) -> None:
    engine = engine_for(live(), SELL)
    engine.rawtx(deposit("kraken", 1), 0)
    (fired,) = [event for event in news(engine) if isinstance(event, Fired)]
    assert (fired.refusal, fired.timestamp_ms, fired.sent_ns) == ("not-ready", 0, 0)
    engine.connect(server.address())
    wire = Rig(engine, server.connection())
    assert wire.deposit(2).refusal is None
    wire.peer.reset()
    wire.end()
    assert wire.deposit(3).refusal == "not-ready"
    engine.connect(server.address())
    assert wire.deposit(4).refusal is None


def test_while_held_nothing_is_ready(wire: Rig) -> None:
    wire.engine.hold(True)
    assert wire.deposit(1).refusal == "not-ready"
    wire.engine.hold(False)
    assert wire.deposit(2).refusal is None
    assert wire.engine.rawtx(deposit("kraken", 1), 0) == 0, "a refused signal never comes back"


def test_what_comes_with_a_block_is_old_news(wire: Rig) -> None:
    def at(milliseconds: float, raw: bytes) -> str | None:
        wire.engine.rawtx(raw, 10**15 + int(milliseconds * 1e6))
        fired = [event for event in news(wire.engine) if isinstance(event, Fired)]
        return fired[0].refusal if fired else None

    assert at(0.0, deposit("kraken", 1)) is None
    at(10.0, COINBASE)
    assert at(10.1, deposit("kraken", 2)) == "in-block"
    assert at(10.4, deposit("kraken", 3)) == "in-block"
    assert at(240.0, deposit("kraken", 5)) == "in-block"
    assert at(491.0, deposit("kraken", 4)) is None
    assert wire.engine.stats()["coinbases"] == 1


def test_the_first_limit_that_says_no_is_named(server: Server) -> None:
    with rig(server, live(max_orders=2, cooldown_ns=10**12)) as wire:
        assert wire.deposit(1).refusal is None
        assert wire.deposit(2).refusal == "cooldown"
    with rig(server, live(max_orders=1, cooldown_ns=10**12)) as wire:
        assert wire.deposit(1).refusal is None
        assert wire.deposit(2).refusal == "max-orders"
        wire.engine.hold(True)
        assert wire.deposit(3).refusal == "not-ready"
        wire.engine.kill()
        assert wire.deposit(4).refusal == "killed"


# ---- one thread ----------------------------------------------------------------------------------


def elsewhere(call: Callable[[], object]) -> object:
    """What `call` returns or raises in another thread."""
    found: list[object] = []

    def run() -> None:
        try:
            found.append(call())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def test_a_second_thread_gets_an_error_and_touches_nothing(server: Server, wire: Rig) -> None:
    wire.peer.send(text(b"for the owner"))
    engine, before = wire.engine, wire.engine.stats()
    calls: dict[str, Callable[[], object]] = {
        "connect": lambda: engine.connect(server.address()),
        "rawtx": lambda: engine.rawtx(deposit("kraken"), 0),
        "malformed": lambda: engine.rawtx(b"", 0),
        "poll": lambda: engine.poll(10**9),
        "send_text": lambda: engine.send_text(b"?"),
        "close": engine.close,
    }
    for name, call in calls.items():
        error = elsewhere(call)
        assert isinstance(error, NativeError), (name, error)
        assert error.code == lib.HP_ETHREAD, name
        assert "belongs to another thread" in str(error), name
    assert engine.stats() == before
    assert engine.ready
    assert wire.messages(1) == [b"for the owner"]
    assert wire.deposit().refusal is None


def test_the_thread_that_connects_need_not_be_the_one_that_made_it(server: Server) -> None:
    engine = engine_for(live(), SELL)
    fired = elsewhere(lambda: connected(engine, server).deposit())
    assert isinstance(fired, Fired)
    assert fired.refusal is None


def test_an_engine_can_be_freed_by_another_thread(server: Server) -> None:
    """As the garbage collector may do, with the owner alive and a receive in flight."""
    freed, connections = threading.Event(), []

    def own() -> None:
        wire = connected(engine_for(live(), SELL), server)
        connections.append(wire.peer)
        made.append(wire.engine)
        del wire
        connections[0].send(text(b"x" * 10_000))
        ready.set()
        assert freed.wait(PATIENCE_S)

    made: list[Engine] = []
    ready = threading.Event()
    owner = threading.Thread(target=own)
    owner.start()
    assert ready.wait(PATIENCE_S)
    made.clear()
    gc.collect()
    with pytest.raises((EOFError, OSError)):
        connections[0].read(1)
    freed.set()
    owner.join()


def connected(engine: Engine, server: Server) -> Rig:
    engine.connect(server.address())
    return Rig(engine, server.connection())


def test_an_engine_can_go_at_any_time(server: Server) -> None:
    """With a receive in flight, messages unread, and more of them coming."""
    for _ in range(20):
        wire = connected(engine_for(live(), SELL), server)
        for _ in range(3):
            wire.peer.send(text(b"x" * 10_000) * 3)
        wire.engine.poll(10**9)
        peer = wire.peer
        del wire
        gc.collect()
        with pytest.raises((EOFError, OSError)):
            peer.read(1)


# ---- counting and measuring ----------------------------------------------------------------------


def test_the_counters_agree_with_what_was_done(wire: Rig) -> None:
    engine = wire.engine
    for raw in (b"", b"\x02", deposit("kraken", 1)[:-1], deposit("kraken", 1) + b"\x00"):
        with pytest.raises(TxError, match="a transaction from the feed: "):
            engine.rawtx(raw, 0)
    both = transaction({wallet("kraken"): BTC, wallet("okx"): BTC}, 9)
    assert [engine.rawtx(raw, 0) for raw in (COINBASE, both, both)] == [0, 2, 0]
    assert engine.rawtx(transaction({wallet("nobody"): BTC}, 10), 10**12) == 0
    assert engine.rawtx(deposit("okx", 11), 2 * 10**12) == 1
    replaced = transaction({wallet("okx"): 4 * BTC}, 11)  # the same outpoint again
    assert engine.rawtx(replaced, 3 * 10**12) == 0
    events: list[Body] = news(engine)
    assert sum(isinstance(event, Signal) for event in events) == 3
    assert [e.refusal for e in events if isinstance(e, Fired)] == ["in-block", "in-block", None]
    stats = engine.stats()
    counted = {
        "transactions": 10,
        "malformed": 4,
        "coinbases": 1,
        "duplicates": 2,
        "signals": 3,
        "signals_unlisted": 0,
        "orders_sent": 1,
        "orders_dry": 0,
        "orders_refused": 2,
        "orders_failed": 0,
        "pings_answered": 0,
        "records_lost": 0,
    }
    assert {name: stats[name] for name in counted} == counted
    latency = engine.latency_ns()
    assert list(latency) == list(STAGES)
    assert (latency["decode"]["count"], latency["decide"]["count"]) == (6, 6)
    assert {latency[s]["count"] for s in (*ORDER_STAGES, "send", "fire_total")} == {1}


def test_a_signal_comes_with_its_order(wire: Rig) -> None:
    raw = deposit("okx", 1)
    wire.engine.rawtx(raw, 0)
    signal, fired = news(wire.engine)
    assert isinstance(fired, Fired)
    assert isinstance(signal, Signal)
    assert fired.txid == signal.txid == txid_of(raw)
    assert (fired.rule, signal.rule, fired.order) == (0, 0, 0)


def test_bytes_are_counted_as_they_pass(wire: Rig) -> None:
    before = wire.engine.stats()
    data = wire.peer.sealed(text(b"x" * 1000))
    wire.peer.sock.sendall(data)
    wire.messages(1)
    wire.engine.send_text(b"x" * 1000)
    after = wire.engine.stats()
    assert after["bytes_received"] - before["bytes_received"] == len(data)
    assert 1008 < after["bytes_sent"] - before["bytes_sent"] < 1100  # frame, then record around it


def test_the_latencies_of_one_order_fit_together(wire: Rig) -> None:
    """Every figure is right within 1/128; the wait before the engine had the bytes counts."""
    before = time.monotonic_ns()
    wire.engine.rawtx(deposit("kraken"), before - 5_000_000)
    took = time.monotonic_ns() - before
    table = wire.engine.latency_ns()
    values = {stage: table[stage]["max"] for stage in STAGES}
    for stage in STAGES:
        assert set(table[stage].values()) == {1, values[stage]}, stage
    parts = sum(values[stage] for stage in (*ORDER_STAGES, "send"))
    assert 0 < parts <= values["fire_total"] * 129 // 128 + 10
    inside = values["decode"] + values["decide"] + values["fire_total"]
    assert 5_000_000 < inside + 5_000_000 <= values["rawtx_to_send"] * 129 // 128 + 10
    assert values["rawtx_to_send"] <= took + 5_000_000


def test_percentiles_are_in_order_and_near_the_values(wire: Rig) -> None:
    """With t_rx_ns the test chooses what rawtx_to_send is: i ms, plus what the engine takes."""
    most_ns = []
    for i in range(1, 1001):
        rx_ns = time.monotonic_ns() - i * 1_000_000
        wire.engine.rawtx(deposit("kraken", i), rx_ns)
        most_ns.append(time.monotonic_ns() - rx_ns)
        for _ in news(wire.engine):
            pass
        wire.peer.frame()
    for stage, row in wire.engine.latency_ns().items():
        assert row["count"] == 1000, stage
        assert 0 < row["p50"] <= row["p90"] <= row["p99"] <= row["p999"] <= row["max"], stage
    row = wire.engine.latency_ns()["rawtx_to_send"]
    for name, milliseconds in (("p50", 500), ("p90", 900), ("p99", 990), ("p999", 999)):
        most_ms = sorted(most_ns)[milliseconds - 1] / 1e6
        assert milliseconds <= row[name] / 1e6 < most_ms * 1.05 + 20, name
    assert 1000 <= row["max"] / 1e6 < max(most_ns) / 1e6 * 1.1


def test_rehearsals_leave_no_trace(wire: Rig) -> None:
    wire.deposit(1)
    wire.peer.frame()
    before = wire.engine.latency_ns()
    for _ in range(2000):
        wire.engine.poll()
    assert wire.engine.latency_ns() == before
    assert news(wire.engine) == []
    assert wire.peer.is_silent()
    assert wire.deposit(2).client_id.encode() in wire.peer.frame()[1]


def test_a_time_in_the_future_is_no_negative_latency(wire: Rig) -> None:
    wire.engine.rawtx(deposit("kraken"), time.monotonic_ns() + 10**9)
    assert wire.engine.latency_ns()["rawtx_to_send"]["max"] == 0


def test_the_transport_is_named(wire: Rig) -> None:
    assert "io_uring (" in wire.engine.transport()
    assert "TLSv1.3 TLS_" in wire.engine.transport()


# ---- waiting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("busy_with", ["an order", "a text", "a transaction for nobody"])
def test_what_comes_while_the_engine_is_busy_is_not_overlooked(wire: Rig, busy_with: str) -> None:
    for nonce in range(20):
        wire.peer.send(text(b"ding"))
        if busy_with == "an order":
            wire.engine.rawtx(deposit("kraken", nonce), 0)
        elif busy_with == "a text":
            wire.engine.send_text(b"?")
        else:
            wire.engine.rawtx(transaction({wallet("nobody"): BTC}, nonce), 0)
        before = time.monotonic()
        heard = []
        while not heard:
            wire.engine.poll(10**10)
            heard = [e.text for e in news(wire.engine) if isinstance(e, Message)]
        assert heard == [b"ding"]
        assert time.monotonic() - before < PATIENCE_S


def test_what_one_poll_leaves_for_the_next_is_not_overlooked(wire: Rig) -> None:
    wanted = text(b"x" * 1000) * 2000
    feeder = threading.Thread(target=wire.peer.send, args=(wanted,))
    feeder.start()
    received, before = 0, time.monotonic()
    while received < 2000:
        wire.engine.poll(10**10)
        received += len(news(wire.engine))
    assert time.monotonic() - before < PATIENCE_S
    feeder.join()


def test_waiting_ends_with_the_time_or_the_message(wire: Rig) -> None:
    before = time.monotonic()
    wire.engine.poll(50_000_000)
    assert 0.04 < time.monotonic() - before < 2
    timer = threading.Timer(0.05, wire.peer.send, args=(text(b"now"),))
    timer.start()
    before = time.monotonic()
    while not (events := news(wire.engine)):
        wire.engine.poll(10**10)
    assert time.monotonic() - before < PATIENCE_S
    assert isinstance(events[0], Message)
    timer.join()


# ---- set-up --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        EngineOptions(min_signal_sat=-1),
        EngineOptions(sweep_inputs_min=0),
        EngineOptions(cooldown_ns=(1 << 64) - 1),
    ],
)
def test_options_out_of_bounds_are_refused(options: EngineOptions) -> None:
    with pytest.raises(NativeError, match=r"starting the engine: .*out of its bounds"):
        Engine(book_of("kraken"), options)


def test_a_rule_needs_a_key_an_order_and_sense() -> None:
    engine = Engine(book_of("kraken"), live())
    with pytest.raises(NativeError, match=r"adding a rule: .*bounds"):
        engine.add_rule(Rule(("deposit",), None, 1, None, 0))
    engine.add_order(order_template(SELL, API_KEY, 5000))
    with pytest.raises(NativeError, match=r"adding a rule: .*bounds"):
        engine.add_rule(Rule(("deposit",), None, 1, None, 0))  # nothing to sign it with
    engine.set_key(SECRET)
    for rule in (Rule(("deposit",), None, 1, None, 1), Rule(("deposit",), None, 2, 1, 0)):
        with pytest.raises(NativeError, match=r"adding a rule: .*bounds"):
            engine.add_rule(rule)
    assert engine.add_rule(Rule(("deposit",), None, 1, 1, 0)) == 0


def test_orders_and_rules_have_a_limit() -> None:
    engine = Engine(book_of("kraken"), live())
    engine.set_key(SECRET)
    template = order_template(SELL, API_KEY, 5000)
    assert [engine.add_order(template) for _ in range(64)] == list(range(64))
    assert [engine.add_rule(Rule(("sweep",), None, 1, 1, i)) for i in range(64)] == list(range(64))
    with pytest.raises(NativeError, match="adding an order template: there is no room left"):
        engine.add_order(template)
    with pytest.raises(NativeError, match="adding a rule: there is no room left"):
        engine.add_rule(Rule(("deposit",), None, 1, 1, 0))


@pytest.mark.parametrize("offset_ms", [86_400_001, -86_400_001, (1 << 63) - 1])
def test_a_clock_more_than_a_day_off_is_refused(offset_ms: int) -> None:
    engine = engine_for(live())
    with pytest.raises(NativeError, match=r"setting the clock offset: .*bounds"):
        engine.set_clock_offset(offset_ms)


def test_closing_what_was_never_open_is_fine() -> None:
    engine = engine_for(live())
    engine.close()
    engine.poll(10**9)
    engine.send_text(b"?")
    assert news(engine) == []
    assert engine.stats()["bytes_sent"] == 0


def test_a_full_queue_keeps_room_for_what_matters(wire: Rig) -> None:
    """Nobody drains the events while the venue talks; the order's fate is told all the same."""
    line = text(b"x" * 10_000)
    while wire.engine.stats()["records_lost"] == 0:
        wire.peer.send(line * 10)
        wire.engine.poll(10**9)
    wire.engine.rawtx(deposit("kraken"), 0)
    wire.peer.reset()
    while wire.engine.ready:
        wire.engine.poll(10**9)
    *messages, signal, fired, closed = news(wire.engine)
    assert all(isinstance(message, Message) for message in messages)
    assert len(messages) * 10_000 < 8 << 20
    assert isinstance(fired, Fired)
    assert isinstance(signal, Signal)
    assert isinstance(closed, Closed)
