"""One chaos run: a venue, a node and the engine, and everything that the plan lets happen to them.
The venue and the node are in this process, the engine is a process that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import zmq
from builders import Output, coinbase
from chaos_checks import Evidence, Quote, WrongClock, violations
from chaos_evidence import gather
from chaos_plan import EXCHANGES, LAST_PRICE, Life, Moment, Plan
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from peers import BTC, wallet
from publisher import Publisher

from engine.address import address_of
from engine.hands_off import drop_mark
from engine.latch import Latch
from engine.sim.exchange import ExchangeSim
from engine.sim.faults import FaultPlan
from engine.sim.ledger import LedgerEntry

ENGINE = Path(__file__).with_name("chaos_engine.py")
START_S = 4.0  # then an engine that cannot start is killed like any other
CALM_START_S = 60.0  # of the last life: nothing keeps it from starting
IMPATIENT_S = 0.7
SETTLE_S = 20.0
STOP_S = 20.0
SIGNAL_S = 0.5
POLL_S = 0.02
HMAC_KEY, ED25519_KEY, SECRET = "k" * 64, "e" * 64, "s" * 64

CONFIG = """
[engine]
mode = "live"
transport = "{transport}"
sweep_inputs_min = 1000
[feed]
endpoint = "{endpoint}"
source = "{source}"
[venue]
url = "{url}"
stream_url = "{stream_url}"
ca_file = "{ca_file}"
timeout_s = 2
recv_window_ms = 3000
{key}
[journal]
folder = "journal"
segment_mb = 4
[book]
files = ["book.csv"]
default = false
[risk]
{limits}
"""
RULE = """
[[rule]]
name = "{exchange}"
exchange = "{exchange}"
min_btc = "1"
side = "{side}"
symbol = "{symbol}"
type = "{type}"
quantity = "{quantity}"
"""


def write_config(plan: Plan, folder: Path, endpoint: str, sim: ExchangeSim) -> None:
    """harpoon.toml and what it names."""
    (folder / "private.pem").touch(0o600)
    (folder / "private.pem").write_bytes(
        _private_key(plan).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    rows = [f"{address_of(wallet(exchange))},{exchange}" for exchange in EXCHANGES]
    (folder / "book.csv").write_text("\n".join(["address,exchange", *rows]) + "\n")
    words = CONFIG.format(
        transport=plan.transport,
        endpoint=endpoint,
        source=plan.source,
        url=sim.url,
        stream_url=sim.stream_url,
        ca_file=sim.ca_file,
        key='private_key_file = "private.pem"' if plan.logs_on else "",
        limits=_toml(plan.limits),
    )
    for rule in plan.rules:
        words += RULE.format(
            exchange=rule.exchange,
            side=rule.side,
            symbol=rule.symbol,
            type=rule.type,
            quantity=rule.quantity,
        )
        if rule.price is not None:
            words += _toml({"price": f"{rule.price:f}", "time_in_force": rule.time_in_force})
        words += _toml(dict(rule.exits))
    (folder / "harpoon.toml").write_text(words)


def _private_key(plan: Plan) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(plan.seed.to_bytes(32, "big"))


def make_venue(plan: Plan) -> ExchangeSim:
    """It takes both keys; the run uses one."""
    public = _private_key(plan).public_key()
    return ExchangeSim(
        hmac_key=(HMAC_KEY, SECRET),
        ed25519_key=(
            ED25519_KEY,
            public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        ),
        lifetime_s=plan.lifetime_s,
        ping_interval_s=plan.ping_interval_s,
        seed=plan.seed if plan.market_moves else None,
    )


def _toml(values: Mapping[str, object]) -> str:
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


class Node:
    """Publishes as bitcoind does, and as a bad network makes of it."""

    def __init__(self, plan: Plan) -> None:
        self._raws = [payment.raw() for payment in plan.payments]
        self._publisher = Publisher(kind=zmq.PUB)
        self._sequence = 0
        self.endpoint = self._publisher.endpoint

    def close(self) -> None:
        self._publisher.close()

    def restart(self) -> None:
        """Another life of the node at the same place: its numbering begins anew."""
        self._publisher.close()
        self._publisher = Publisher(self.endpoint, kind=zmq.PUB)
        self._sequence = 0

    def lose(self, messages: int) -> None:
        self._sequence += messages

    def publish(self, payments: tuple[int, ...]) -> None:
        for payment in payments:
            self._send(self._raws[payment])

    def reorder(self, payments: tuple[int, ...]) -> None:
        """The last number first."""
        first = self._sequence
        for place, payment in enumerate(payments):
            self._publisher.send(self._raws[payment], first + len(payments) - 1 - place)
        self._sequence += len(payments)

    def block(self, payments: tuple[int, ...]) -> None:
        self._send(coinbase(Output(50 * BTC, wallet("pool"))))
        self.publish(payments)

    def garbage(self) -> None:
        self._send(b"\xff" * 100)
        self._send(self._raws[0][:-1])
        self._publisher.socket.send_multipart((b"rawtx", self._raws[0]))

    def _send(self, raw: bytes) -> None:
        self._publisher.send(raw, self._sequence)
        self._sequence += 1


class EngineProcess:
    """`harpoon run --live`, and what it says."""

    def __init__(self, folder: Path, errors: Path) -> None:
        self._folder, self._errors = folder, errors
        self.ready = asyncio.Event()
        self.lines: list[dict[str, Any]] = []

    async def start(self, api_key: str) -> None:
        with self._errors.open("wb") as errors:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", str(ENGINE), "run", "--live", "--json-lines"),
                *("--config", str(self._folder / "harpoon.toml")),
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "HARPOON_API_KEY": api_key, "HARPOON_API_SECRET": SECRET},
            )
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for text in self.process.stdout:
            with contextlib.suppress(ValueError):  # the last one of a process that was killed
                self.lines.append(json.loads(text))
                if self.lines[-1]["record"] == "ready":
                    self.ready.set()

    @property
    def is_over(self) -> bool:
        return self.process.returncode is not None

    def signal(self, number: int) -> None:
        if not self.is_over:
            self.process.send_signal(number)

    async def end(self) -> int:
        await self._reading
        return await self.process.wait()

    def complaint(self) -> str:
        return self._errors.read_text(errors="replace")


class Watched(list[LedgerEntry]):
    """The venue's orders; `told` is called when one is added."""

    def __init__(self, told: Callable[[], None]) -> None:
        super().__init__()
        self._told = told

    def append(self, entry: LedgerEntry) -> None:
        super().append(entry)
        self._told()


class Stage:
    """The run. `counts` tells how much of what happened, so that a campaign can be seen to have
    tried something."""

    def __init__(self, plan: Plan, folder: Path, sim: ExchangeSim, node: Node) -> None:
        self._plan, self._folder, self._sim, self._node = plan, folder, sim, node
        self._latch = Latch(folder / "harpoon.latch")
        self._engine: EngineProcess | None = None
        self._kill_at: int | None = None
        self._ends: list[str] = []
        self._said: list[dict[str, Any]] = []  # by the engine in this life
        self._latched: list[tuple[int, int]] = []
        self._quotes: list[Quote] = []
        self._clocks: list[WrongClock] = []
        self._skewed_since_ns: int | None = None  # as the life began, and not changed since
        self._latched_since: int | None = None
        self.counts: Counter[str] = Counter()
        sim.ledger = Watched(self._on_order)
        sim.watch_quotes(self._on_quote)

    def _on_order(self) -> None:
        """An engine whose time has come dies here, before it gets the answer."""
        if self._kill_at is not None and len(self._sim.ledger) >= self._kill_at and self._engine:
            self._kill_at = None
            self.counts["kills at an order"] += 1
            self._engine.signal(signal.SIGKILL)

    def _on_quote(self, quote: Mapping[str, Any]) -> None:
        bid, ask = Decimal(quote["b"]), Decimal(quote["a"])
        self._quotes.append(Quote(time.monotonic_ns(), quote["s"], bid, ask))

    # ---- lives -----------------------------------------------------------------------------------

    async def play(self) -> Evidence:
        for number, life in enumerate(self._plan.lives):
            await self._live(number, life)
        await self._last_life()
        return self._evidence()

    async def _start(self, number: int, patience_s: float) -> EngineProcess:
        self.counts["starts"] += 1
        engine = EngineProcess(self._folder, self._folder / f"stderr.{number}")
        await engine.start(ED25519_KEY if self._plan.logs_on else HMAC_KEY)
        self._engine, self._said = engine, engine.lines
        deadline = time.monotonic() + patience_s
        while not engine.ready.is_set() and not engine.is_over and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
        return engine

    async def _live(self, number: int, life: Life) -> None:
        if life.reset_latch:
            self._reset_latch()
        self._misbehave(number, life.faults if life.rough_start else ())
        self._begin_skew(life.skew_ms)
        if life.kill_at_order is not None:
            self._kill_at = len(self._sim.ledger) + life.kill_at_order
        engine = await self._start(number, IMPATIENT_S if life.impatient else START_S)
        if engine.ready.is_set() and not life.impatient:
            self._misbehave(number, life.faults)
            self._sim.venue.clock_skew_ms = life.skew_ms
            await self._let_happen(engine, life)
        calm = engine.ready.is_set() and not life.kill and not life.impatient
        engine.signal(signal.SIGCONT)
        engine.signal(signal.SIGTERM if calm else signal.SIGKILL)
        await self._see_end(number, engine)
        self._end_skew()

    async def _let_happen(self, engine: EngineProcess, life: Life) -> None:
        started = time.monotonic()
        for moment in life.moments:
            await asyncio.sleep(max(0.0, started + moment.at_s - time.monotonic()))
            if engine.is_over:
                return
            self.counts[moment.act] += 1
            await self._do(moment)
        await asyncio.sleep(max(0.0, started + life.length_s - time.monotonic()))

    async def _see_end(self, number: int, engine: EngineProcess) -> None:
        """Killed, or an end in order: everything else is a complaint, and so is a traceback."""
        end = asyncio.create_task(engine.end())
        await asyncio.wait({end}, timeout=STOP_S)
        if not end.done():
            engine.signal(signal.SIGUSR2)  # chaos_engine.py writes where it is stuck
            await asyncio.sleep(SIGNAL_S)
            engine.signal(signal.SIGKILL)
            self._ends.append(f"life {number} did not end {STOP_S} s after it was told to")
        status = await end
        self.counts["lives that were ready"] += engine.ready.is_set()
        self._kill_at = self._engine = None
        self.counts["kills"] += status == -signal.SIGKILL
        said = engine.complaint()
        refused = status == 1 and not engine.ready.is_set() and said.count("\n") == 1
        if status not in (0, -signal.SIGKILL) and not refused:
            self._ends.append(f"life {number} ended with status {status}: {said[-2000:]!r}")
        elif "Traceback" in said or "Error" in said:
            self._ends.append(f"life {number} said {said[-2000:]!r}")

    async def _last_life(self) -> None:
        """Faults stop, and the engine may resolve everything. What has had an order, and what
        replaces it, comes again, as when a node loads its mempool."""
        number = len(self._plan.lives)
        self._misbehave(number, ())
        self._reset_latch()
        engine = await self._start(number, CALM_START_S)
        if engine.ready.is_set():
            self._node.publish(self._plan.probes)
            self._node.publish(self._with_orders())
            await self._settle()
            engine.signal(signal.SIGTERM)
        else:
            self._ends.append(f"the last life is not ready after {CALM_START_S} s")
            engine.signal(signal.SIGKILL)
        await self._see_end(number, engine)

    def _with_orders(self) -> tuple[int, ...]:
        """The payments that spend a coin for which there was an order."""
        evidence = self._evidence()
        payments = [evidence.txids[intent.txid] for intent in evidence.entries()]
        coins = {coin for payment in payments for coin in payment.coins}
        return tuple(
            number
            for number, payment in enumerate(self._plan.payments)
            if not coins.isdisjoint(payment.coins)
        )

    async def _settle(self) -> None:
        """Until the venue has heard nothing new for a while and everything is as it must be, or
        until that cannot be expected any more."""
        deadline = time.monotonic() + SETTLE_S
        heard = -1
        while time.monotonic() < deadline:
            await asyncio.sleep(0.3)
            before, heard = heard, len(self._sim.ledger)
            if heard == before and not violations(self._evidence()):
                return

    def _evidence(self) -> Evidence:
        return replace(
            gather(self._plan, self._folder, self._sim, self._said),
            latched=self._latched,
            quotes=self._quotes,
            clocks=self._clocks,
            ends=tuple(self._ends),
        )

    # ---- what can happen -------------------------------------------------------------------------

    async def _do(self, moment: Moment) -> None:
        node, sim = self._node, self._sim
        match moment.act:
            case "publish":
                node.publish(moment.payments)
            case "reorder":
                node.reorder(moment.payments)
            case "block":
                node.block(moment.payments)
            case "gap":
                node.lose(int(moment.value))
            case "node-restart":
                node.restart()
            case "garbage":
                node.garbage()
            case "fault":
                sim.faults.next(moment.words)
            case "drop-all":
                sim.drop_all()
            case "price":
                price = LAST_PRICE[moment.words] * (10_000 + int(moment.value)) / 10_000
                sim.venue.set_price(moment.words, price)
            case "skew":
                self._end_skew()
                sim.venue.clock_skew_ms = int(moment.value)
            case "shut-down":
                sim.shut_down_soon()
            case "refuse":
                sim.refuse_upgrade_status = int(moment.value)
            case "pause":
                await self._pause(moment.value)
            case "latch":
                self._set_latch()
            case "signal":
                await self._kill_by_signal()

    def _signal(self, number: int) -> None:
        assert self._engine is not None
        self._engine.signal(number)

    async def _pause(self, seconds: float) -> None:
        self._signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        self._signal(signal.SIGCONT)

    def _set_latch(self) -> None:
        """As `harpoon kill` does it."""
        self._latch.set("chaos")
        self._note_latch()

    async def _kill_by_signal(self) -> None:
        """The engine sets the latch itself, unless it is killed before."""
        self._signal(signal.SIGUSR1)
        deadline = time.monotonic() + SIGNAL_S
        while self._latch.state() is None and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S / 2)
        if self._latch.state() is not None:
            self._note_latch()

    def _note_latch(self) -> None:
        """It is set, and no order may be made any more."""
        if self._latched_since is None:
            self._latched_since = time.monotonic_ns()

    def _reset_latch(self) -> None:
        """As `harpoon reset --resume-exits` does it, between two lives."""
        if self._latched_since is not None:
            self._latched.append((self._latched_since, time.monotonic_ns()))
        self._latched_since = None
        drop_mark(self._latch.path)
        self._latch.reset()

    def _begin_skew(self, skew_ms: int) -> None:
        self._sim.venue.clock_skew_ms = skew_ms
        self._skewed_since_ns = time.monotonic_ns()

    def _end_skew(self) -> None:
        if self._skewed_since_ns is not None:
            skew_ms = self._sim.venue.clock_skew_ms
            self._clocks.append(WrongClock(self._skewed_since_ns, time.monotonic_ns(), skew_ms))
        self._skewed_since_ns = None

    def _misbehave(self, number: int, specs: Sequence[str]) -> None:
        """In this life like this; everything else is well again."""
        self.counts.update({f"fault {name}": n for name, n in self._sim.faults.applied.items()})
        self._sim.faults = FaultPlan(specs, self._plan.seed * 100 + number)
        self._sim.venue.clock_skew_ms = 0
        self._sim.refuse_upgrade_status = None


async def perform(plan: Plan, folder: Path) -> tuple[Evidence, Counter[str]]:
    """The whole run, in a folder of its own."""
    async with make_venue(plan) as sim:
        node = Node(plan)
        try:
            write_config(plan, folder, node.endpoint, sim)
            stage = Stage(plan, folder, sim, node)
            return await stage.play(), stage.counts
        finally:
            node.close()
