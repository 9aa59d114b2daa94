"""What the journal is for: no order without its intent, and none twice, whatever ends the run."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from engine._native import ffi, lib
from engine.core import Engine, EngineOptions, Rule
from engine.journal import Damage, Journal, Reader
from engine.journal_verify import segments
from engine.records import Fired, Intent, Record, Spent
from engine.sim.authority import CertificateFiles
from engine.sim.exchange import ExchangeSim
from engine.venues.binance import order_template

from . import harpoon_run, peers
from .harpoon_run import PLENTY, write_config
from .hot import running
from .journals import PREAMBLE
from .peers import (
    API_KEY,
    BTC,
    SECRET,
    SELL,
    Server,
    book_of,
    deposit,
    news,
    serving,
    transaction,
    txid_of,
    wallet,
)
from .publisher import Publisher, eventually

KEYS = ("k" * 64, "s" * 64)
FLAGS = ("--live", "--json-lines")


class Venue:
    """The simulator, and how many sessions it has."""

    def __init__(self, sim: ExchangeSim) -> None:
        self.sim = sim
        self.sessions = 0
        self._connect, self._disconnect = sim.venue.connect, sim.venue.disconnect
        sim.venue.connect = self._count_connect  # type: ignore[method-assign]
        sim.venue.disconnect = self._count_disconnect  # type: ignore[method-assign]

    @property
    def orders(self) -> list[str]:
        """The client ids of what it has taken."""
        return [entry.client_id for entry in self.sim.ledger]

    def _count_connect(self, *arguments: Any) -> Any:
        self.sessions += 1
        return self._connect(*arguments)

    def _count_disconnect(self, *arguments: Any) -> None:
        self.sessions -= 1
        self._disconnect(*arguments)


@pytest.fixture
def venue() -> Iterator[Venue]:
    with harpoon_run.exchange(hmac_key=KEYS, limits=PLENTY) as sim:
        yield Venue(sim)


@pytest.fixture
def node() -> Iterator[Publisher]:
    publisher = Publisher()
    yield publisher
    publisher.close()


@pytest.fixture(params=["io_uring", "syscall"])
def config(request: pytest.FixtureRequest, tmp_path: Path, venue: Venue, node: Publisher) -> Path:
    return write(tmp_path, venue, node, transport=request.param, sweep_inputs_min=1000)


def write(folder: Path, venue: Venue, node: Publisher, **settings: Any) -> Path:
    return write_config(
        folder,
        url=venue.sim.url,
        stream_url=venue.sim.stream_url,
        ca_file=venue.sim.ca_file,
        endpoint=node.endpoint,
        **settings,
    )


def start(
    config: Path, *flags: str, api_key: str = KEYS[0], **options: Any
) -> subprocess.Popen[str]:
    """`harpoon run`."""
    return subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "engine.cli", "run", "--config", str(config)),
            *(flags or FLAGS),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HARPOON_API_KEY": api_key, "HARPOON_API_SECRET": KEYS[1]},
        **options,
    )


@contextmanager
def run(config: Path, node: Publisher, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """One that listens to the node, until it is killed or the test has done with it."""
    process = start(config, *flags)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if json.loads(line)["record"] == "ready":
                break
        else:
            raise AssertionError(process.stderr and process.stderr.read())
        node.wait_subscriber()
        yield process
    finally:
        process.kill()
        process.communicate()
    node.wait_gone()


def engine_with(journal: Journal, live: bool) -> Engine:
    """It sells on any deposit."""
    options = EngineOptions(live=live, max_orders=1 << 40, transport=peers.TRANSPORT)
    engine = Engine(book_of("kraken"), options, journal)
    engine.set_key(SECRET)
    order = engine.add_order(order_template(SELL, API_KEY, 5000))
    engine.add_rule(Rule(("deposit",), None, 1, None, order))
    return engine


def replacement(nonce: int) -> bytes:
    """Spends what deposit() of that number spends, and pays more."""
    return transaction({wallet("kraken"): 6 * BTC}, nonce)


def fired_for(raw: bytes, run: bytes, timestamp_ms: int) -> bytes:
    """The intent of a live order for this transaction, which has one input."""
    head = {
        "client_id": f"hp{run[:10].hex()}-{1:013}".encode(),
        "txid": bytes.fromhex(txid_of(raw))[::-1],
        "timestamp_ms": timestamp_ms,
        "n_in": 1,
        "n_outpoints": 1,
        "live": 1,
    }
    return bytes(ffi.buffer(ffi.new("hp_intent *", head))) + raw[5:41]


def intents(folder: Path) -> list[Intent]:
    records = list(Reader(folder))
    assert not [item for item in records if isinstance(item, Damage)]
    return [record.body for record in records if isinstance(record.body, Intent)]


def outpoints(folder: Path) -> list[str]:
    """Of all orders. What does not fit into an intent is written behind its order."""
    bodies = [record.body for record in Reader(folder) if isinstance(record, Record)]
    return [o for body in bodies if isinstance(body, (Intent, Spent)) for o in body.outpoints]


# ---- a process that is killed --------------------------------------------------------------------


def test_kill_9_loses_no_order_and_repeats_none(
    config: Path, venue: Venue, node: Publisher
) -> None:
    """Runs are killed at any moment of a stream of deposits. Each later one hears all of the
    earlier deposits again, or what replaces them, between new ones."""
    chance = random.Random(4)
    journal = config.parent / "journal"
    numbering, published = 0, 0
    for _ in range(4):
        with run(config, node) as process:
            before, deadline = len(venue.orders), time.monotonic() + 60
            kill_after = before + chance.randint(1, 60)
            old = list(range(published))
            while len(venue.orders) < kill_after and time.monotonic() < deadline:
                if old and chance.random() < 0.5:
                    nonce = old.pop()
                    raw = replacement(nonce) if chance.random() < 0.5 else deposit("kraken", nonce)
                else:
                    raw = deposit("kraken", published)
                    published += 1
                node.send(raw, numbering)
                numbering += 1
                time.sleep(0.001)
            assert len(venue.orders) >= kill_after, "it fires on what is new"
            for _ in range(30):  # so that it is killed in the middle of something
                node.send(deposit("kraken", published), numbering)
                published, numbering = published + 1, numbering + 1
            time.sleep(chance.random() * 0.003)
            process.send_signal(signal.SIGKILL)
            process.wait()
        eventually(lambda: venue.sessions == 0)
        assert all(not segment.losses for segment in segments(journal))
    written = intents(journal)
    assert set(venue.orders) <= {intent.client_id for intent in written}
    assert len(set(venue.orders)) == len(venue.orders)
    spent = [outpoint for intent in written for outpoint in intent.outpoints]
    assert len(spent) == len(set(spent)), "an outpoint has one order, over all runs"
    assert len(list(journal.glob("*.hpj"))) >= 4


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_restarted_run_knows_what_was_fired(
    config: Path, venue: Venue, node: Publisher, how: int
) -> None:
    many = transaction({wallet("kraken"): 5 * BTC}, 7, n_in=40)  # more than its intent lists
    with run(config, node) as process:
        node.send(deposit("kraken", 1), 0)
        node.send(many, 1)
        eventually(lambda: len(venue.orders) == 2)
        journal = config.parent / "journal"
        eventually(lambda: len(outpoints(journal)) == 1 + 40)
        process.send_signal(how)
        process.communicate()
    last_alone = many[:5] + many[5 + 39 * 41 :]  # spends the last of its outpoints only
    last_alone = last_alone[:4] + b"\x01" + last_alone[5:]
    with run(config, node):
        again = [deposit("kraken", 1), replacement(1), many, last_alone]
        for number, raw in enumerate([*again, deposit("kraken", 2)]):
            node.send(raw, 2 + number)
        eventually(lambda: len(venue.orders) == 3)
        time.sleep(0.1)
    assert len(venue.orders) == 3
    fired = [intent.txid for intent in intents(journal)]
    assert fired == [txid_of(raw) for raw in (deposit("kraken", 1), many, deposit("kraken", 2))]


def test_an_outpoint_is_remembered_by_the_order_s_own_time(
    tmp_path: Path, venue: Venue, node: Publisher
) -> None:
    """The system's clock was set forward by 400 hours after the segment was made: what the journal
    says of an order of a minute ago is too early by that."""
    config = write(tmp_path, venue, node)
    digest = hashlib.sha256(KEYS[0].encode()).hexdigest()[:16]
    with Journal(tmp_path / "journal", 4 << 20) as journal:
        journal.prepare(PREAMBLE | {"account": f"{urlsplit(venue.sim.url).netloc} {digest}"})
        minute_ago_ms = time.time_ns() // 10**6 - 60_000
        body = fired_for(deposit("kraken", 1), journal.run, minute_ago_ms)
        journal.append(lib.HP_RECORD_INTENT, body, time.monotonic_ns() - 400 * 3600 * 10**9)
    with run(config, node):
        for number in (1, 2):
            node.send(deposit("kraken", number), number)
        eventually(lambda: len(venue.orders) == 1)
    fired = [intent.txid for intent in intents(tmp_path / "journal")]
    assert fired == [txid_of(deposit("kraken", number)) for number in (1, 2)]


def test_a_dry_run_is_not_remembered(tmp_path: Path, venue: Venue, node: Publisher) -> None:
    """It has sent nothing: the live run that follows may, and the next one may not."""
    for live, nonces in ((False, [1]), (True, [1]), (True, [1, 2])):
        config = write(tmp_path, venue, node, live=live)
        with run(config, node, "--json-lines", *(["--live"] if live else [])) as process:
            before = len(intents(tmp_path / "journal"))
            for number, nonce in enumerate(nonces):
                node.send(deposit("kraken", nonce), number)
            eventually(lambda: len(intents(tmp_path / "journal")) > before)  # noqa: B023
            process.send_signal(signal.SIGTERM)
            process.communicate()
    first, second = (txid_of(deposit("kraken", nonce)) for nonce in (1, 2))
    written = [(intent.live, intent.txid) for intent in intents(tmp_path / "journal")]
    assert written == [(False, first), (True, first), (True, second)]
    assert len(venue.orders) == 2


# ---- one journal, one run ------------------------------------------------------------------------


def test_a_second_run_on_the_same_journal_is_refused(
    config: Path, venue: Venue, node: Publisher
) -> None:
    with run(config, node) as first:
        second = start(config)
        _, errors = second.communicate(timeout=60)
        assert second.returncode == 1
        assert errors.count("\n") == 1
        assert f"is written by process {first.pid}: end that first" in errors
        node.send(deposit("kraken", 1), 0)
        eventually(lambda: len(venue.orders) == 1)


@pytest.mark.parametrize("live", [True, False], ids=["live", "dry-run"])
@pytest.mark.parametrize("other", ["exchange", "account"])
def test_a_journal_with_orders_of_another_account_is_refused(
    tmp_path: Path, venue: Venue, node: Publisher, live: bool, other: str
) -> None:
    """The orders of a testnet are not left, or asked about, at the exchange."""
    with run(write(tmp_path, venue, node), node):
        node.send(deposit("kraken", 1), 0)
        eventually(lambda: len(venue.orders) == 1)
    api_key = KEYS[0] if other == "exchange" else "K" * 64
    with harpoon_run.exchange(hmac_key=(api_key, KEYS[1])) as sim:
        another = Venue(sim) if other == "exchange" else venue
        config = write(tmp_path, another, node, live=live)
        process = start(config, *(FLAGS if live else FLAGS[1:]), api_key=api_key)
        _, errors = process.communicate(timeout=15)
        assert another.sessions == 0
    assert (process.returncode, errors.count("\n")) == (1, 1)
    assert f"has orders of {venue.sim.url.split('/')[2]} " in errors
    assert "name another journal.folder" in errors
    assert not set(KEYS) & set(errors.split()), "a key is no name"


def test_a_journal_of_dry_runs_is_taken_to_another_account(
    tmp_path: Path, venue: Venue, node: Publisher
) -> None:
    with harpoon_run.exchange(hmac_key=KEYS) as testnet:
        config = write(tmp_path, Venue(testnet), node, live=False)
        with run(config, node, "--json-lines"):
            node.send(deposit("kraken", 1), 0)
            eventually(lambda: len(intents(tmp_path / "journal")) == 1)
    with run(write(tmp_path, venue, node), node):
        node.send(deposit("kraken", 2), 1)
        eventually(lambda: len(venue.orders) == 1)


def test_no_room_for_the_journal(config: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    process = start(config, preexec_fn=limit)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.count("\n") == 1
    assert errors.startswith(f"harpoon: the journal {config.parent / 'journal'} cannot grow")
    assert "ulimit -f" in errors


def test_a_file_where_the_journal_should_be(config: Path) -> None:
    (config.parent / "journal").write_text("mine")
    process = start(config)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.count("\n") == 1
    assert "is a file: name a folder" in errors


# ---- intents -------------------------------------------------------------------------------------


def test_the_intent_is_written_before_the_order_is_anywhere(
    server: Server, each_transport: str, tmp_path: Path
) -> None:
    """Another reader finds it as soon as the venue has the order."""
    with Journal(tmp_path / "journal") as journal, running(engine_with(journal, True)) as hot:
        peer = hot.connect(server)
        for nonce in range(100):
            assert hot.engine.offer_rawtx(deposit("kraken", nonce), time.monotonic_ns())
            _, message = peer.frame()
            written = intents(journal.folder)
            assert len(written) == nonce + 1
            assert written[-1].client_id.encode() in message
            assert written[-1].txid == txid_of(deposit("kraken", nonce))
            assert written[-1].live


def test_what_a_deaf_venue_has_not_read_has_its_intent(
    files: CertificateFiles, each_transport: str, tmp_path: Path
) -> None:
    """The venue reads nothing, until its session takes no more. What waits in there was written
    down before, and an order that is refused then has no intent."""
    with (
        serving(files, receive_buffer=4096) as server,
        Journal(tmp_path / "journal", 64 << 20) as journal,
    ):
        engine = engine_with(journal, True)
        engine.connect(server.address())
        fired: list[Fired] = []
        while not fired or fired[-1].refusal is None:
            engine.rawtx(deposit("kraken", len(fired)), time.monotonic_ns())
            fired += [event for event in news(engine) if isinstance(event, Fired)]
        taken = [event.client_id for event in fired[:-1]]
        assert len(taken) > 10
        assert fired[-1].refusal == "not-ready"
        assert [intent.client_id for intent in intents(journal.folder)] == taken
        del engine
