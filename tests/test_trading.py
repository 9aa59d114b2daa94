"""`harpoon run` after an order has left: kills, bans, outcomes that are unknown, exits, and
restarts; against the simulator."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from engine import client_ids
from engine.journal import Damage, Reader
from engine.latch import Latch
from engine.records import Command, Intent, Record
from engine.sim.exchange import ExchangeSim
from engine.sim.faults import FaultPlan
from engine.sim.ledger import CancelEntry
from engine.sim.symbols import SYMBOLS

from . import harpoon_run
from .harpoon_run import HarpoonRun, Honest, Line, Script, running, trading, write_config
from .peers import deposit
from .publisher import Publisher, eventually

FEE = Decimal("0.000001")  # of 0.001 BTC, which is less than the least quantity
RESTING = {"type": "LIMIT", "price": "60500.00", "time_in_force": "GTC"}  # the price is 60000


@pytest.fixture
def sim() -> Iterator[ExchangeSim]:
    with harpoon_run.exchange() as sim:
        yield sim


@pytest.fixture
def node() -> Iterator[Publisher]:
    publisher = Publisher()
    yield publisher
    publisher.close()


def harpoon(command: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-P", "-m", "engine.cli", command),
            *("--config", str(folder / "harpoon.toml"), *more),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )


def summary_of(run: HarpoonRun) -> Line:
    """What it says at its end."""
    run.process.send_signal(signal.SIGTERM)
    summary = run.record("summary")
    assert run.wait() == (0, "")
    return summary


def intents(folder: Path) -> list[Intent]:
    records = list(Reader(folder / "journal"))
    assert not [item for item in records if isinstance(item, Damage)]
    return [record.body for record in records if isinstance(record.body, Intent)]


def is_held(folder: Path) -> bool:
    """Whether the last that the engine was told of all orders is to hold them."""
    records = [each.body for each in Reader(folder / "journal") if isinstance(each, Record)]
    commands = [each for each in records if isinstance(each, Command) and each.command == "hold"]
    return [bool(each.value) for each in commands if each.session is None][-1:] == [True]


# ---- killing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["signal", "command"])
def test_a_kill_cancels_what_is_open_and_lets_nothing_leave(
    sim: ExchangeSim, node: Publisher, tmp_path: Path, how: str
) -> None:
    with trading(sim, node, tmp_path, rule=RESTING) as run:
        node.send(deposit("kraken", 1), 0)
        order = run.record("order", status="acked")
        if how == "signal":
            run.process.send_signal(signal.SIGUSR1)
        else:
            assert harpoon("kill", tmp_path, "--reason", "too hot").returncode == 0
        notice = run.notice("killed (")
        assert ("too hot" in notice["text"]) == (how == "command")
        assert run.record("order", status="cancelled")["client_id"] == order["client_id"]
        node.send(deposit("kraken", 2), 1)
        run.record("refused", limit="killed")
        summary = summary_of(run)
    assert [line["status"] for line in summary["orders"]] == ["cancelled"]
    assert [entry.client_id for entry in sim.ledger] == [order["client_id"]]
    [cancelled] = [entry for entry in sim.entries if isinstance(entry, CancelEntry)]
    assert cancelled.client_ids == (order["client_id"],)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_latch_that_is_gone_stops_the_run(
    sim: ExchangeSim, node: Publisher, tmp_path: Path, replaced: bool
) -> None:
    latch = tmp_path / "harpoon.latch"
    with trading(sim, node, tmp_path) as run:
        latch.unlink()
        if replaced:
            Latch(latch)
        run.notice("killed (")
        node.send(deposit("kraken", 1), 0)
        run.record("refused", limit="killed")
        assert run.end() == (0, "")
    assert not sim.ledger


def test_a_kill_lasts_until_it_is_reset(sim: ExchangeSim, node: Publisher, tmp_path: Path) -> None:
    with trading(sim, node, tmp_path) as run:
        assert harpoon("kill", tmp_path).returncode == 0
        run.notice("killed (")
        assert run.end() == (0, "")
    with trading(sim, node, tmp_path) as run:
        run.notice("killed (")
        node.send(deposit("kraken", 1), 0)
        run.record("refused", limit="killed")
        assert harpoon("reset", tmp_path, "--yes").returncode == 0
        node.send(deposit("kraken", 2), 1)
        run.record("refused", limit="killed")  # this run stays so
        assert run.end() == (0, "")
    with trading(sim, node, tmp_path) as run:
        node.send(deposit("kraken", 3), 0)
        run.record("order", status="filled")
        assert run.end() == (0, "")
    assert len(sim.ledger) == 1


def test_a_ban_latches(sim: ExchangeSim, node: Publisher, tmp_path: Path) -> None:
    def answer(request: Line, honest: object) -> object:
        if request["method"] != "order.place":
            return None
        error = {"code": -1003, "msg": "Way too much request weight used; IP banned."}
        return {"id": request["id"], "status": 418, "error": error}

    Script(sim, answer)
    with trading(sim, node, tmp_path) as run:
        node.send(deposit("kraken", 1), 0)
        told: list[str] = []
        run.until(lambda r: told.append(r.get("text", "")) or "killed (" in told[-1])
        assert any("418" in words for words in told)
        node.send(deposit("kraken", 2), 1)
        run.record("refused", limit="killed")
        assert [line["status"] for line in summary_of(run)["orders"]] == ["rejected"]
    asked = harpoon("reset", tmp_path)
    assert asked.returncode == 2
    assert "418" in asked.stdout
    assert sim.ledger == []


# ---- what a person has taken into their own hands ------------------------------------------------


@pytest.mark.parametrize("how", ["reset", "latch removed"])
def test_the_position_of_a_killed_run_is_a_persons(
    sim: ExchangeSim, node: Publisher, tmp_path: Path, how: str
) -> None:
    """It is not left, and its size is not in the way of new entries, which are left."""
    settings: Line = {"rule": {"exit_after_s": 3}, "risk": {"max_position_notional": 100}}
    with trading(sim, node, tmp_path, **settings) as run:
        node.send(deposit("kraken", 1), 0)
        first = run.record("order", status="filled")["client_id"]
        assert harpoon("kill", tmp_path).returncode == 0
        run.notice("killed (")
        assert run.end() == (0, "")
    if how == "reset":
        assert harpoon("reset", tmp_path, "--yes").returncode == 0
    else:
        (tmp_path / "harpoon.latch").unlink()
    with trading(sim, node, tmp_path, **settings) as run:
        assert first in run.notice("is yours to close")["text"]
        node.send(deposit("kraken", 2), 0)
        second = run.record("order", status="filled", parent="")["client_id"]
        run.end(signal.SIGKILL)
    with trading(sim, node, tmp_path, **settings) as run:
        eventually(lambda: len(sim.ledger) == 3)
        assert run.end() == (0, "")
    assert [intent.parent for intent in intents(tmp_path)] == ["", "", second]


def test_exits_that_are_resumed_are_made(sim: ExchangeSim, node: Publisher, tmp_path: Path) -> None:
    """Also after a run that began, and ended, with the latch set."""
    rule = {"exit_after_s": 2}
    with trading(sim, node, tmp_path, rule=rule) as run:
        node.send(deposit("kraken", 1), 0)
        run.record("order", status="filled")
        run.process.send_signal(signal.SIGUSR1)
        run.notice("killed (")
        assert run.end() == (0, "")
    with trading(sim, node, tmp_path, rule=rule) as run:
        run.notice("killed (")
        assert run.end() == (0, "")
    assert harpoon("reset", tmp_path, "--yes", "--resume-exits").returncode == 0
    with trading(sim, node, tmp_path, rule=rule) as run:
        eventually(lambda: len(sim.ledger) == 2)
        assert run.end() == (0, "")


def test_an_exit_that_rests_of_a_persons_position_is_cancelled(
    sim: ExchangeSim, node: Publisher, tmp_path: Path
) -> None:
    """No run was there to cancel it before the latch was reset."""
    rule = {"take_profit_bp": 100, "stop_loss_bp": 100}
    with trading(sim, node, tmp_path, rule=rule) as run:
        node.send(deposit("kraken", 1), 0)
        entry = run.record("order", status="filled", parent="")
        resting = run.record("order", status="acked", parent=entry["client_id"])["client_id"]
        run.end(signal.SIGKILL)
    assert harpoon("kill", tmp_path).returncode == 0
    assert harpoon("reset", tmp_path, "--yes").returncode == 0
    with trading(sim, node, tmp_path, rule=rule) as run:
        assert resting in run.notice("it is cancelled")["text"]
        run.record("order", status="cancelled", client_id=resting)
        assert run.end() == (0, "")
    assert len(sim.ledger) == 3, "the entry and the two legs of its exit"


# ---- orders whose outcome is unknown -------------------------------------------------------------


def test_an_order_that_is_executed_but_answered_503_is_found_out(
    sim: ExchangeSim, node: Publisher, tmp_path: Path
) -> None:
    """No event tells of it either: `order.status` does. It is settled then: the one order that may
    be without a known end may leave again."""

    def answer(request: Line, honest: harpoon_run.Honest) -> object:
        if request["method"] != "order.place":
            return None
        honest()
        error = {"code": -1000, "msg": "An unknown error occurred while processing the request."}
        return {"id": request["id"], "status": 503, "error": error}

    script = Script(sim, answer)
    sim.faults = FaultPlan(["lose-event"])
    with trading(sim, node, tmp_path, risk={"max_unresolved": 1}) as run:
        node.send(deposit("kraken", 1), 0)
        first = run.record("order", status="unknown")
        filled = run.record("order", status="filled")
        assert filled["client_id"] == first["client_id"]
        assert script.asked["order.status"] >= 1
        assert run.record("position")["net"] == "-0.00100000"
        script.answer = lambda request, honest: None
        node.send(deposit("kraken", 2), 1)
        run.until(lambda r: r["record"] == "order" and r["client_id"] != first["client_id"])
        summary = summary_of(run)
    assert summary["refused"] == 0
    assert len(sim.ledger) == 2


def test_while_the_venue_wants_a_pause_nothing_is_asked(
    sim: ExchangeSim, node: Publisher, tmp_path: Path
) -> None:
    """Not even what became of the order whose answer never came."""

    def answer(request: Line, honest: harpoon_run.Honest) -> object:
        if request["method"] not in ("order.place", "time") or not paused:
            return None
        retry_ms = time.time_ns() // 1_000_000 + 60_000
        error = {"code": -1003, "msg": "Too many requests.", "data": {"retryAfter": retry_ms}}
        return {"id": request["id"], "status": 429, "error": error}

    paused = False
    script = Script(sim, answer)
    with trading(sim, node, tmp_path) as run:
        script.wait_prepared(2)
        paused = True
        node.send(deposit("kraken", 1), 0)
        run.notice("asks us to slow down")
        sim.drop_all()
        before = script.asked.total()
        time.sleep(2.5)
        assert script.asked.total() == before
        node.send(deposit("kraken", 2), 1)
        run.until(lambda r: r["record"] == "refused")
        assert run.end() == (0, "")


def test_a_ca_file_that_is_gone_ends_no_run(
    sim: ExchangeSim, node: Publisher, tmp_path: Path
) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(sim.ca_file.read_bytes())
    with trading(sim, node, tmp_path, ca_file=ca_file) as run:
        ca_file.unlink()
        sim.drop_all()
        run.notice("ca.pem")
        ca_file.write_bytes(sim.ca_file.read_bytes())
        run.notice("connected to")
        node.send(deposit("kraken", 1), 0)
        run.record("order", status="filled")
        assert run.end() == (0, "")


def test_an_order_that_comes_while_the_run_ends_does_not_leave(
    sim: ExchangeSim, node: Publisher, tmp_path: Path
) -> None:
    def answer(request: Line, honest: harpoon_run.Honest) -> object:
        """The first order is executed and never answered, so that the end waits for it."""
        if request["method"] == "order.place":
            honest()
            return '{"id": "nobody", "status": 200, "result": {}}'
        return None

    sim.faults = FaultPlan(["lose-event"])
    Script(sim, answer)
    with trading(sim, node, tmp_path) as run:
        node.send(deposit("kraken", 1), 0)
        run.record("order", status="sent")
        run.process.send_signal(signal.SIGTERM)
        eventually(lambda: is_held(tmp_path))
        node.send(deposit("kraken", 2), 1)
        assert run.wait() == (0, "")
    assert len(sim.ledger) == 1


# ---- runs that cannot trade ----------------------------------------------------------------------


def alone(sim: ExchangeSim, folder: Path, rule: Line) -> AbstractContextManager[HarpoonRun]:
    """A live run whose node is down."""
    config = write_config(
        folder, url=sim.url, stream_url=sim.stream_url, ca_file=sim.ca_file, rule=rule
    )
    environ = {"HARPOON_API_KEY": sim.api_key, "HARPOON_API_SECRET": sim.api_secret}
    return running(config, environ, "--live", "--json-lines")


def test_a_kill_cancels_what_is_open_when_the_node_is_down(
    sim: ExchangeSim, node: Publisher, tmp_path: Path
) -> None:
    with trading(sim, node, tmp_path, rule=RESTING) as run:
        node.send(deposit("kraken", 1), 0)
        order = run.record("order", status="acked")
        run.end(signal.SIGKILL)
    assert harpoon("kill", tmp_path).returncode == 0
    with alone(sim, tmp_path, RESTING) as run:
        run.record("order", status="cancelled", client_id=order["client_id"])
        status, errors = run.wait()
    assert status == 1
    assert "start bitcoind" in errors
    [cancelled] = [entry for entry in sim.entries if isinstance(entry, CancelEntry)]
    assert cancelled.client_ids == (order["client_id"],)


def test_without_a_node_a_run_lasts_until_nothing_is_open(
    sim: ExchangeSim, node: Publisher, tmp_path: Path
) -> None:
    rule = {"take_profit_bp": 100, "stop_loss_bp": 0}
    with trading(sim, node, tmp_path, rule=rule) as run:
        node.send(deposit("kraken", 1), 0)
        entry = run.record("order", status="filled", parent="")
        run.end(signal.SIGKILL)
    with alone(sim, tmp_path, rule) as run:
        run.notice("makes no entry without a node")
        sim.set_price("BTCUSDT", Decimal(59_000))
        run.record("order", status="filled", parent=entry["client_id"])
        status, errors = run.wait()
    assert status == 1
    assert "start bitcoind" in errors
    assert '"record":"ready"' not in run.output


@pytest.mark.parametrize("is_open", [False, True])
def test_a_market_that_pauses_keeps_nobody_from_starting(
    sim: ExchangeSim, node: Publisher, tmp_path: Path, is_open: bool
) -> None:
    """Its exit is tried, and no entry is made."""

    def answer(request: Line, honest: harpoon_run.Honest) -> object:
        if request["method"] != "exchangeInfo":
            return None
        reply: Line = json.loads(honest())
        for symbol in reply["result"]["symbols"]:
            symbol["status"] = "BREAK"
        return reply

    rule = {"exit_after_s": 2}
    if is_open:
        with trading(sim, node, tmp_path, rule=rule) as run:
            node.send(deposit("kraken", 1), 0)
            run.record("order", status="filled")
            run.end(signal.SIGKILL)
    Script(sim, answer)
    with trading(sim, node, tmp_path, rule=rule) as run:
        run.notice("its status is BREAK: wait")
        if is_open:
            run.record("position")
        node.send(deposit("kraken", 2), 1)
        run.record("refused", limit="filter")
        assert run.end() == (0, "")
    assert len(sim.ledger) == 2 * is_open


def test_a_mistake_in_a_rule_does_not_keep_what_is_open_from_its_exit(
    sim: ExchangeSim, node: Publisher, tmp_path: Path
) -> None:
    with trading(sim, node, tmp_path, rule={"exit_after_s": 2}) as run:
        node.send(deposit("kraken", 1), 0)
        run.record("order", status="filled")
        run.end(signal.SIGKILL)
    with trading(sim, node, tmp_path, rule={"exit_after_s": 2, "quantity": "0.001001"}) as run:
        run.notice("quantity 0.001001 is no multiple of 0.00001")
        run.record("position")
        assert run.end() == (0, "")
    assert [entry.side for entry in sim.ledger] == ["SELL", "BUY"]


# ---- exits ---------------------------------------------------------------------------------------


def test_a_position_is_left_when_its_time_is_over(
    sim: ExchangeSim, node: Publisher, tmp_path: Path
) -> None:
    with trading(sim, node, tmp_path, rule={"exit_after_s": 1}) as run:
        node.send(deposit("kraken", 1), 0)
        entry = run.record("order", status="filled", parent="")
        run.record("order", status="filled", parent=entry["client_id"])
        summary = summary_of(run)
    [position] = summary["positions"]
    assert Decimal(position["net"]) == -FEE
    assert Decimal(position["realised"]) == Decimal("-0.12001")  # fees and spread
    sold, bought = sim.ledger
    assert (sold.side, bought.side) == ("SELL", "BUY")
    assert sold.quantity == bought.quantity.rstrip("0")
    assert bought.timestamp_ms >= sold.timestamp_ms + 1000


def test_weight_that_others_use_holds_up_neither_an_exit_nor_a_cancel(
    sim: ExchangeSim, node: Publisher, tmp_path: Path
) -> None:
    """Weight of a whole day, since the end of a minute would let us ask again."""
    kind = {"rateLimitType": "REQUEST_WEIGHT", "interval": "DAY", "intervalNum": 1}
    used = {"rateLimits": [{**kind, "limit": 6000, "count": 5900}]}

    def answer(request: Line, honest: harpoon_run.Honest) -> object:
        return {**json.loads(honest()), **used} if request["method"] == "time" else None

    Script(sim, answer)
    with trading(sim, node, tmp_path, rule={"exit_after_s": 1}) as run:
        node.send(deposit("kraken", 1), 0)
        eventually(lambda: len(sim.ledger) == 2)
        assert run.end() == (0, "")
    with trading(sim, node, tmp_path, rule=RESTING) as run:
        node.send(deposit("kraken", 2), 0)
        run.record("order", status="acked")
        run.process.send_signal(signal.SIGUSR1)
        eventually(lambda: any(isinstance(entry, CancelEntry) for entry in sim.entries))
        assert run.end() == (0, "")


@pytest.mark.parametrize(("price", "leg"), [("59000", "t"), ("61000", "s")])
def test_an_oco_takes_the_profit_or_stops_the_loss(
    sim: ExchangeSim, node: Publisher, tmp_path: Path, price: str, leg: str
) -> None:
    with trading(sim, node, tmp_path, rule={"take_profit_bp": 100, "stop_loss_bp": 100}) as run:
        node.send(deposit("kraken", 1), 0)
        entry = run.record("order", status="filled", parent="")
        exit_order = run.record("order", status="acked", parent=entry["client_id"])
        written = intents(tmp_path)
        assert [intent.parent for intent in written] == ["", entry["client_id"]]
        assert written[1].client_id == exit_order["client_id"]
        sim.set_price("BTCUSDT", Decimal(price))
        run.record("order", status="filled", client_id=exit_order["client_id"])
        summary = summary_of(run)
    [position] = summary["positions"]
    assert Decimal(position["net"]) == -FEE
    realised = Decimal(position["realised"])
    assert (realised > Decimal("0.4")) if leg == "t" else (realised < Decimal("-0.6"))
    fill = sim.fills[-1]
    assert client_ids.leg_of(fill.client_id) == leg
    assert len(sim.ledger) == 3, "the entry and the two legs of its exit"


def test_an_oco_that_is_refused_in_a_halt_is_placed_when_it_is_over(
    sim: ExchangeSim, node: Publisher, tmp_path: Path
) -> None:
    def answer(request: Line, honest: Honest) -> Line | None:
        if request["method"] != "orderList.place.oco" or script.asked[request["method"]] > 1:
            return None
        error = {"code": -1013, "msg": "Market is closed."}
        return {"id": request["id"], "status": 400, "error": error}

    script = Script(sim, answer)
    with trading(sim, node, tmp_path, rule={"take_profit_bp": 100, "stop_loss_bp": 100}) as run:
        node.send(deposit("kraken", 1), 0)
        entry = run.record("order", status="filled", parent="")
        run.record("order", status="rejected", parent=entry["client_id"])
        run.record("order", status="acked", parent=entry["client_id"])
        run.end()
    assert len(sim.ledger) == 3, "the entry and the two legs of its exit"


def test_a_position_that_is_too_much_for_one_order_is_left_in_parts(
    node: Publisher, tmp_path: Path
) -> None:
    """And the venue has lowered that most since the rules were read."""

    def answer(request: Line, honest: Honest) -> str | None:
        if request["method"] != "exchangeInfo" or script.asked["exchangeInfo"] > 1:
            return None
        return honest().replace('"0.00040000"', '"120.00000000"')

    limited = replace(SYMBOLS["BTCUSDT"], market_max_qty=Decimal("0.0004"))
    rule = {"type": "LIMIT", "price": "59900", "time_in_force": "IOC", "exit_after_s": 1}
    with harpoon_run.exchange(symbols={"BTCUSDT": limited}) as sim:
        script = Script(sim, answer)
        with trading(sim, node, tmp_path, rule=rule) as run:
            node.send(deposit("kraken", 1), 0)
            entry = run.record("order", status="filled", parent="")
            refused = run.record("order", status="rejected", parent=entry["client_id"])
            assert "MARKET_LOT_SIZE" in refused["reason"]
            for quantity in ("0.00040000", "0.00040000", "0.00020000"):
                left = run.record("order", status="filled", parent=entry["client_id"])
                assert left["quantity"] == quantity
            [position] = summary_of(run)["positions"]
    assert Decimal(position["net"]) == -FEE


def test_an_engine_that_is_killed_in_a_position_leaves_it_once_when_it_is_back(
    sim: ExchangeSim, node: Publisher, tmp_path: Path
) -> None:
    with trading(sim, node, tmp_path, rule={"exit_after_s": 2}) as run:
        node.send(deposit("kraken", 1), 0)
        entry = run.record("order", status="filled")
        run.end(signal.SIGKILL)
    assert len(sim.ledger) == 1
    for _ in range(2):  # the second of them has nothing left to do
        with trading(sim, node, tmp_path, rule={"exit_after_s": 2}) as run:
            eventually(lambda: len(sim.ledger) == 2)
            run.record("progress")
            summary = summary_of(run)
            [position] = summary["positions"]
            assert Decimal(position["net"]) == -FEE
    assert len(sim.ledger) == 2
    assert [intent.parent for intent in intents(tmp_path)] == ["", entry["client_id"]]


def test_an_exit_that_is_filled_while_nobody_is_there_is_not_made_again(
    sim: ExchangeSim, node: Publisher, tmp_path: Path
) -> None:
    rule = {"take_profit_bp": 100, "stop_loss_bp": 100}
    with trading(sim, node, tmp_path, rule=rule) as run:
        node.send(deposit("kraken", 1), 0)
        entry = run.record("order", status="filled", parent="")
        run.record("order", status="acked", parent=entry["client_id"])
        run.end(signal.SIGKILL)
    sim.set_price("BTCUSDT", Decimal(59_000))
    with trading(sim, node, tmp_path, rule=rule) as run:
        run.record("order", status="filled", parent=entry["client_id"])
        run.record("position")
        [position] = summary_of(run)["positions"]
    assert Decimal(position["net"]) == -FEE
    assert Decimal(position["realised"]) > Decimal("0.4")
    assert len(sim.ledger) == 3
