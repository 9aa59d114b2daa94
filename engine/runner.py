"""The controlling thread: tells the hot thread where to connect, and turns what that reports in the
journal into lines for people (engine/report.py says which)."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from engine import __version__
from engine.addresses import resolve
from engine.book import Book
from engine.clock import VenueClock, read_clocks
from engine.config import Config, Credentials, RuleSettings
from engine.core import Engine, EngineOptions, Rule, VenueAddress, venue_error
from engine.errors import (
    BookError,
    ConfigError,
    FeedError,
    HarpoonError,
    JournalError,
    VenueError,
)
from engine.feed.native import resolve_endpoint
from engine.feed.thread import ZmqThread
from engine.feed.zmq import ZmqFeed
from engine.journal import Damage, Journal, fired_outpoints
from engine.lifecycle import Orders
from engine.machine import machine
from engine.order import Order
from engine.records import (
    Closed,
    FeedNote,
    Fired,
    Intent,
    Message,
    Notice,
    Opened,
    Record,
    Signal,
    Stats,
)
from engine.report import Line
from engine.venues import binance

TICK_S = 0.002
IDLE_TICK_S = 0.01
TIME_EVERY_S = 60.0
OVERDUE_EVERY_S = 0.5
FEED_CONNECT_S = 10.0
FEED_SETTLE_S = 0.5  # a block that is being published when we come has been, then
REPLY_S = 10.0  # the venue's own limit for a request ("General API Information")
REPLY_GRACE_S = 2.0
STOP_S = 5.0
RECONNECT_FIRST_S = 1.0
RECONNECT_MOST_S = 60.0
JOURNAL_AGAIN_S = 1.0
# The mempool drops what it has kept for so long (Bitcoin Core, -mempoolexpiry): an older
# transaction does not come back unnoticed.
REMEMBERED_S = 14 * 86_400
UNAUTHORIZED = 401  # with no id: "Regarding API key revocation"
NO_CONNECTION = frozenset({"disconnected", "unreachable", "not-zmtp", "timed-out"})


class Stopped(Exception):
    """stop() was called before the run had begun."""


def order_spec(rule: RuleSettings) -> binance.OrderSpec:
    """The order that a rule asks for."""
    return binance.OrderSpec(
        symbol=rule.symbol,
        side=rule.side,
        type=rule.type,
        quantity=rule.quantity,
        price=rule.price,
        time_in_force=rule.time_in_force,
    )


def rearm_ns(rearm_ms: int, recv_window_ms: int) -> int:
    """The age at which an order that waits is renewed. It may be fired at twice that, and must be
    well inside the venue's window then."""
    return min(rearm_ms * 1_000_000, recv_window_ms * 1_000_000 // 4)


def preamble(config: Config, book: Book, specs: list[binance.OrderSpec]) -> dict[str, Any]:
    """What the numbers in a journal mean, and who wrote it."""
    return {
        "version": __version__,
        "pid": os.getpid(),
        "mode": "live" if config.engine.live else "dry-run",
        "venue": config.venue.url,
        "feeds": list(config.feed.endpoints),
        "exchanges": book.exchanges_by_id(),
        "rules": [rule.name for rule in config.rules],
        "orders": [asdict(spec) for spec in specs],
    }


class Runner:
    """One run: `start()`, `loop()` until `stop()`, `finish()`."""

    def __init__(
        self, config: Config, credentials: Credentials, book: Book, emit: Callable[[Line], None]
    ) -> None:
        self._config = config
        self._credentials = credentials
        self._emit = emit
        self._book = book
        self._orders = Orders()
        self._specs = [order_spec(rule) for rule in config.rules]
        self._journal = Journal(config.journal.folder, config.journal.segment_mb << 20)
        try:
            self._engine = self._make_engine()
        except BaseException:
            self._journal.close()
            raise
        self._hot = threading.Thread(target=self._run_hot, name="hot", daemon=True)
        self._hot_error: HarpoonError | None = None
        self._zmq: ZmqThread | None = None
        self._clock = VenueClock()
        self._offset_ms: int | None = None
        self._logon_id: str | None = None  # of the request that waits for its answer
        self._open = False
        self._closed: Closed | None = None  # how the last session ended, or failed to open
        self._cipher = ""
        self._feeds_up: set[int] = set()
        self._feed_complaint = ""
        self._early_notices: list[str] = []
        self._journal_complained = False
        self._journal_gone = False
        self._stopping = False
        self._started = False
        self._refused = 0
        self._stats: dict[str, int] = {}
        self._reconnect_s = RECONNECT_FIRST_S
        self._reconnect_at: float | None = None
        self._next_overdue = self._next_time = self._next_journal = 0.0
        self._silent_at = time.monotonic() + config.feed.silent_after_s

    def _make_engine(self) -> Engine:
        c = self._config
        engine = Engine(
            self._book,
            EngineOptions(
                live=c.engine.live,
                min_signal_sat=c.engine.min_signal_sat,
                sweep_inputs_min=c.engine.sweep_inputs_min,
                max_orders=c.risk.max_orders,
                cooldown_ns=c.risk.cooldown_s * 1_000_000_000,
                transport=c.engine.transport,
                cpu=c.engine.cpu,
                spin=c.engine.spin,
                rearm_ns=rearm_ns(c.engine.rearm_ms, c.venue.recv_window_ms),
            ),
            self._journal,
            preamble(c, self._book, self._specs),
        )
        if self._credentials.api_secret is not None:
            engine.set_key(self._credentials.api_secret)
        for rule, spec in zip(c.rules, self._specs, strict=True):
            template = binance.order_template(
                spec,
                self._credentials.api_key,
                c.venue.recv_window_ms,
                signed=self._credentials.api_secret is not None,
            )
            row = Rule(
                kinds=rule.kinds,
                exchange=rule.exchange,
                min_net_sat=rule.min_sat,
                max_net_sat=rule.max_sat,
                order=engine.add_order(template),
            )
            try:
                engine.add_rule(row)
            except BookError as error:
                raise ConfigError(f"[[rule]] {rule.name!r} exchange: {error}") from error
        return engine

    # ---- starting ------------------------------------------------------------------------------

    def start(self) -> None:
        """Venue first, then feed: nothing is heard that could not be acted on. A HarpoonError says
        what is wrong and where; Stopped when stop() was called meanwhile."""
        try:
            self._start()
        except BaseException:
            self._abandon()
            raise

    def _start(self) -> None:
        since_s = time.time() - REMEMBERED_S
        for found in fired_outpoints(self._config.journal.folder, since_s):
            if isinstance(found, Damage):
                self._on_damage(found)
            else:
                self._engine.remember(found)
        if self._config.feed.source == "native":
            for endpoint in self._config.feed.endpoints:
                self._engine.add_feed(resolve_endpoint(endpoint, self._config.feed.sequence))
        self._hot.start()
        self._connect()
        self._start_feed()
        self._wait(lambda: False, FEED_SETTLE_S)
        self._started = True
        self._engine.command_hold(False, 0)
        self._emit(
            {
                "record": "ready",
                "mode": "live" if self._config.engine.live else "dry-run",
                "feed": ", ".join(self._config.feed.endpoints),
                "venue": self._config.venue.url,
                "book": len(self._book),
                "exchanges": len(self._book.exchanges()),
                "rules": len(self._config.rules),
                "clock_offset_ms": self._offset_ms,
                "transport": f"{self._engine.carrier()}, {self._cipher}",
                "journal": str(self._config.journal.folder),
            }
        )
        for words in self._early_notices:
            self._notice(words)

    def _on_damage(self, damage: Damage) -> None:
        """Orders of earlier runs may be unknown, and would be made again."""
        folder = self._config.journal.folder
        words = (
            f"the journal {folder} is damaged ({damage.words} of segment {damage.place.segment})"
        )
        if self._config.engine.live:
            raise JournalError(
                f"{words}: look into it with `harpoon journal verify`, and move the folder away "
                "when you know what became of its orders"
            )
        self._notice(words)

    def _run_hot(self) -> None:
        try:
            self._engine.run()
        except HarpoonError as error:
            self._hot_error = error

    def _start_feed(self) -> None:
        if self._config.feed.source == "zmq":
            feed = ZmqFeed(self._config.feed.endpoints[0])
            self._zmq = ZmqThread(feed, self._engine.offer_rawtx, self._config.engine.spin)
            self._wait_for_zmq(feed)
            self._zmq.start()
            return
        self._engine.command_listen()
        if not self._wait(lambda: bool(self._feeds_up), FEED_CONNECT_S):
            raise FeedError(self._feed_complaint or "no node has answered: check feed.endpoint")

    def _wait_for_zmq(self, feed: ZmqFeed) -> None:
        deadline = time.monotonic() + FEED_CONNECT_S
        while True:
            try:
                feed.wait_connected(TICK_S)
            except FeedError:
                if time.monotonic() > deadline:
                    raise
                self._turn()
                self._check_stopped()
            else:
                return

    def _check_stopped(self) -> None:
        if self._stopping:
            raise Stopped

    def _wait(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Until the condition holds (True) or the time is over."""
        deadline = time.monotonic() + timeout_s
        while True:
            self._turn()
            if condition():
                return True
            if time.monotonic() > deadline:
                return False
            self._check_stopped()
            time.sleep(TICK_S)

    def _connect(self) -> None:
        """An open session that takes orders, or VenueError."""
        venue = self._config.venue
        failure: VenueError | None = None
        for ip in resolve(venue.host, venue.port):
            address = VenueAddress(
                ip=ip,
                host=venue.host,
                port=venue.port,
                path=venue.path,
                ca_file=venue.ca_file,
                timeout_ns=venue.timeout_s * 1_000_000_000,
            )
            self._check_stopped()
            self._closed = None
            self._engine.command_connect(address)
            self._wait(lambda: self._open or self._closed is not None, venue.timeout_s + 1)
            if self._open:
                self._prepare_session()
                return
            self._check_stopped()
            if self._closed is None:  # the hot thread is held up: nothing may come of this later
                self._engine.command_close()
                self._wait(lambda: self._closed is not None, venue.timeout_s + 1)
            if self._closed is not None:
                failure = venue_error(self._closed.code, self._closed.reason)
        raise failure or VenueError(f"the host name {venue.host} has no address: correct venue.url")

    def _prepare_session(self) -> None:
        """The venue's clock, the log-on where there is one; then orders may leave."""
        self._clock = VenueClock()
        self._ask_time()
        self._await_answer(lambda: self._clock.measured, "does not answer `time`")
        if self._credentials.private_key is not None:
            self._log_on()
        self._next_time = time.monotonic() + TIME_EVERY_S
        if self._started and not self._journal_gone:
            self._engine.command_hold(False, 0)

    def _ask_time(self) -> None:
        now_ns = time.monotonic_ns()
        self._engine.command_text(self._clock.ask(f"time-{now_ns}", now_ns))

    def _log_on(self) -> None:
        assert self._credentials.private_key is not None
        request_id = f"logon-{time.monotonic_ns()}"
        timestamp_ms = time.time_ns() // 1_000_000 + (self._offset_ms or 0)
        self._logon_id = request_id
        self._engine.command_text(
            binance.logon_request(
                request_id, self._credentials.api_key, self._credentials.private_key, timestamp_ms
            )
        )
        self._await_answer(lambda: self._logon_id is None, "does not answer `session.logon`")

    def _await_answer(self, answered: Callable[[], bool], silence: str) -> None:
        venue = self._config.venue
        came = self._wait(lambda: answered() or not self._open, venue.timeout_s)
        if not self._open:
            reason = self._closed.reason if self._closed else ""
            raise VenueError(f"{venue.url} was left again: {reason}")
        if not came:
            raise VenueError(
                f"{venue.url} is open but {silence}: check that it is the exchange's WebSocket API"
            )

    def _check_pulse(self) -> None:
        """Measure the clock again. A venue that has not answered since the last time is gone,
        whatever TCP believes."""
        if self._clock.silent_ns(time.monotonic_ns()):
            self._leave("the venue has stopped answering")
        else:
            self._ask_time()

    def _leave(self, why: str) -> None:
        self._notice(f"{why}; leaving it")
        self._engine.command_close()

    # ---- running -------------------------------------------------------------------------------

    def stop(self) -> None:
        """From any thread: whatever is being waited for, the run ends soon."""
        self._stopping = True
        if not self._started:
            self._engine.abort()

    def kill(self) -> None:
        """From any thread: no order leaves any more; everything else goes on."""
        self._engine.kill()

    def loop(self) -> None:
        """Until stop()."""
        try:
            while not self._stopping:
                came = self._turn()
                self._clockwork()
                time.sleep(TICK_S if came else IDLE_TICK_S)
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        try:
            self._engine.abort()
            if self._hot.is_alive():
                self._hot.join()
            if self._zmq is not None:
                self._zmq.stop()
        finally:
            self._journal.close()

    def _turn(self) -> int:
        """What the hot thread and the feed report, and a segment in reserve for the journal: how
        many records there were."""
        alive = self._hot.is_alive()
        came = 0
        for record in self._engine.records():
            self._on_record(record)
            came += 1
        if self._zmq is not None:
            for notice in self._zmq.notices():
                self._notice(notice.text)
        self._keep_journal()
        if not alive and not self._stopping:
            raise self._hot_error or HarpoonError("the engine's thread has ended by itself")
        return came

    def _keep_journal(self) -> None:
        now = time.monotonic()
        if now < self._next_journal:
            return
        try:
            self._engine.prepare()
        except HarpoonError as error:
            self._next_journal = now + JOURNAL_AGAIN_S
            if not self._journal_complained:
                self._notice(f"{error}; when what is left is full, no order is sent")
            self._journal_complained = True
        else:
            self._journal_complained = False

    def _clockwork(self) -> None:
        now = time.monotonic()
        if now >= self._next_overdue:
            self._next_overdue = now + OVERDUE_EVERY_S
            self._emit_orders(self._orders.overdue(time.monotonic_ns(), REPLY_S))
            if not self._journal_gone and not self._engine.journal_is_there():
                self._stop_without_journal()
        if now >= self._silent_at:
            self._silent_at = now + self._config.feed.silent_after_s
            self._notice(
                f"the node at {', '.join(self._config.feed.endpoints)} has published nothing for "
                f"{self._config.feed.silent_after_s} s: check that it is in sync and has peers."
            )
        if not self._open:
            self._care_for_connection(now)
        elif now >= self._next_time:
            self._next_time = now + TIME_EVERY_S
            self._check_pulse()

    def _stop_without_journal(self) -> None:
        """What is written to a deleted file nobody will read: a restart would know no order."""
        self._journal_gone = True
        self._engine.command_hold(True)
        self._notice(
            f"files of the journal {self._config.journal.folder} were deleted: no order is sent "
            "any more; put them back, or start anew when you know what became of the orders"
        )

    def _care_for_connection(self, now: float) -> None:
        """Exponential backoff with jitter, so that many engines do not come back as one."""
        if self._reconnect_at is None:
            self._reconnect_at = now + self._reconnect_s * (0.5 + random.random() / 2)
            self._reconnect_s = min(2 * self._reconnect_s, RECONNECT_MOST_S)
        elif now >= self._reconnect_at:
            self._reconnect_at = None
            self._reconnect()

    def _reconnect(self) -> None:
        try:
            self._connect()
        except Stopped:
            return  # the loop ends
        except VenueError as error:
            self._notice(str(error))
            if self._open:
                self._engine.command_close()
            return
        self._reconnect_s = RECONNECT_FIRST_S
        self._notice(f"connected to {self._config.venue.url} again")

    # ---- what the hot thread reports ------------------------------------------------------------

    def _on_record(self, record: Record) -> None:
        match record.body:
            case Signal() as signal:
                self._emit({"record": "signal", **signal.as_json()})
            case Intent() as intent:
                self._orders.on_intent(intent, record.names, record.t_ns)
            case Fired() as fired:
                self._on_fired(fired)
            case Message() as message:
                self._on_message(message, record.t_ns)
            case Opened() as opened:
                self._open = True
                self._cipher = opened.cipher
            case Closed() as closed:
                self._on_closed(closed)
            case FeedNote() as note:
                self._on_feed(note)
            case Stats() as stats:
                self._on_stats(stats)
            case Notice() as notice:
                self._notice(notice.words)

    def _on_fired(self, fired: Fired) -> None:
        if fired.refusal is not None:
            self._refused += 1
            self._emit({"record": "refused", "limit": fired.refusal, "txid": fired.txid})
            return
        self._emit_orders(self._orders.on_fired(fired))

    def _emit_orders(self, orders: list[Order]) -> None:
        for order in orders:
            self._emit({"record": "order", **order.as_json()})

    def _on_message(self, message: Message, t_ns: int) -> None:
        reply = binance.parse_reply(message.text)
        if reply is None:
            self._notice(f"the venue said something unexpected: {message.text[:200]!r}")
        elif self._clock.asked(reply.id):
            self._on_time(reply, t_ns)
        elif reply.id == self._logon_id:
            self._on_logon(reply)
        elif reply.status == UNAUTHORIZED and reply.id == "None":
            self._leave(f"the venue has logged us out ({reply.code}: {reply.message})")
        elif self._orders.asked(reply.id):
            self._emit_orders(self._orders.on_reply(reply, t_ns))
        else:
            self._notice(f"the venue answered a request we did not make: {message.text[:200]!r}")

    def _on_time(self, reply: binance.Reply, t_ns: int) -> None:
        try:
            alarm = self._clock.answer(reply, t_ns, read_clocks())
        except VenueError as error:
            if not self._started:
                raise
            self._leave(str(error))
            return
        if alarm is not None:
            self._notice(alarm)
        if not self._clock.measured:
            self._ask_time()
        elif (offset_ms := self._clock.offset_ms(read_clocks())) is not None:
            self._offset_ms = offset_ms
            self._engine.command_clock(offset_ms)

    def _on_logon(self, reply: binance.Reply) -> None:
        self._logon_id = None
        if reply.status == 200:
            return
        words = (
            f"{self._config.venue.url} refuses the log-on ({reply.code}: {reply.message}): check "
            "that venue.private_key_file belongs to the API key and that the key may trade"
        )
        if not self._started:
            raise VenueError(words)
        self._leave(words)

    def _on_closed(self, closed: Closed) -> None:
        self._open = False
        self._closed = closed
        self._logon_id = None
        self._emit_orders(self._orders.on_session_end(closed.session, closed.reason))
        if closed.was_open and not self._stopping:
            self._notice(closed.reason)

    def _on_feed(self, note: FeedNote) -> None:
        if note.note == "connected":
            self._feeds_up.add(note.endpoint)
        elif note.note in NO_CONNECTION:
            self._feeds_up.discard(note.endpoint)
            self._feed_complaint = note.words
        self._notice(note.words)

    def _on_stats(self, stats: Stats) -> None:
        if stats.counters["transactions"] > self._stats.get("transactions", 0):
            self._silent_at = time.monotonic() + self._config.feed.silent_after_s
        lost = stats.counters["records_lost"] - self._stats.get("records_lost", 0)
        if lost:
            self._notice(f"{lost} records found no room in the journal and are lost")
        malformed = stats.counters["malformed"] - self._stats.get("malformed", 0)
        if malformed:
            self._notice(
                f"{malformed} transactions could not be read and were skipped: check the node"
            )
        self._stats = dict(stats.counters)
        if self._started:
            self._emit({"record": "progress", "stats": self._stats})

    def _notice(self, words: str) -> None:
        """The line that says `ready` is the first."""
        if self._started:
            self._emit({"record": "notice", "text": words})
        else:
            self._early_notices.append(words)

    # ---- ending ----------------------------------------------------------------------------------

    def finish(self) -> Line:
        """Wait shortly for replies, say goodbye, and sum up: the `summary` record."""
        self._stopping = True
        deadline = time.monotonic() + REPLY_GRACE_S
        while self._orders.waiting() and self._open and time.monotonic() < deadline:
            self._turn()
            time.sleep(TICK_S)
        self._end_threads()
        self._turn()
        summary: Line = {
            "record": "summary",
            "orders": [order.as_json() for order in self._orders.all()],
            "refused": self._refused,
            "latency_ns": self._engine.latency_ns(),
            "stats": self._engine.stats(),
            "machine": machine(),
        }
        self._emit(summary)
        self._journal.close()
        return summary

    def _end_threads(self) -> None:
        if self._zmq is not None:
            self._zmq.stop()
        self._engine.command_stop()
        self._hot.join(STOP_S)
        if self._hot.is_alive():
            self._engine.abort()
            self._hot.join()
