"""The controlling thread: keeps the venue connected, and turns what the hot thread reports in the
journal into lines for people (engine/report.py says which).

    records ──▶ connections.Links   which session is open, prepared, preferred
            ──▶ desk.Desk           orders after the wire, exits, positions
            ──▶ lines               what is printed"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from engine import desk as desks
from engine.addresses import Search
from engine.assemble import account, make_engine, markets, order_spec
from engine.book import Book
from engine.clock import read_clocks
from engine.commands import Commands, Wire
from engine.config import Config
from engine.connections import Links
from engine.core import VenueAddress
from engine.credentials import Credentials
from engine.entries import Entries
from engine.errors import (
    ConfigError,
    FeedError,
    HarpoonError,
    JournalError,
    LatchError,
    NativeError,
    VenueError,
)
from engine.hands_off import mark_of, set_mark
from engine.journal import Damage, Journal, Reader
from engine.latch import Latch
from engine.link import Timing
from engine.machine import machine
from engine.node import Node
from engine.prices import Price, Prices
from engine.records import (
    HISTORY,
    Closed,
    Command,
    FeedNote,
    Fired,
    Intent,
    Message,
    Notice,
    Opened,
    Record,
    Signal,
    Spent,
    Stats,
    Unknown,
    left_epoch_ns,
    outpoint_bytes,
)
from engine.report import Line
from engine.venues import binance
from engine.venues.binance_events import ServerShutdown, StreamEnded, parse_event
from engine.venues.binance_filters import Filters
from engine.venues.binance_limits import RateLimits, VenueLimit
from engine.venues.binance_requests import Auth
from engine.venues.binance_session import SessionRequests

TICK_S = 0.002
IDLE_TICK_S = 0.01
LOOK_EVERY_S = 0.5
FEED_CONNECT_S = 10.0
FEED_SETTLE_S = 0.5  # a block that is being published when we come has been, then
PRICE_WAIT_S = 3.0
REPLY_GRACE_S = 2.0
STOP_S = 5.0
JOURNAL_AGAIN_S = 1.0
# The mempool drops what it has kept for so long (Bitcoin Core, -mempoolexpiry): an older
# transaction does not come back unnoticed.
REMEMBERED_NS = 14 * 86_400 * 1_000_000_000


class Stopped(Exception):
    """stop() was called before the run had begun."""


class Runner:
    """One run: `start()`, `loop()` until `stop()`, `finish()`."""

    def __init__(
        self, config: Config, credentials: Credentials, book: Book, emit: Callable[[Line], None]
    ) -> None:
        self._config = config
        self._emit = emit
        self._book = book
        self._symbols = markets(config)
        self._commands = Commands()
        self._latch = Latch(config.risk.latch)
        self._hands_off = self._new_hands_off()
        self._journal = Journal(config.journal.folder, config.journal.segment_mb << 20)
        try:
            self._engine = make_engine(
                config, credentials, book, self._journal, self._latch, self._hands_off
            )
            self._check_latch()
        except BaseException:
            self._journal.close()
            raise
        self._account = account(config, credentials)
        self._desk = self._make_desk(credentials)
        self._links = self._make_links(credentials)
        self._prices = Prices(config.venue.stream_url, config.venue.ca_file, self._symbols)
        self._hot = threading.Thread(target=self._run_hot, name="hot", daemon=True)
        self._hot_error: HarpoonError | None = None
        self._node = Node(
            config.feed,
            lambda: self._give(self._engine.command_listen),
            self._engine.offer_rawtx,
            config.engine.spin,
        )
        self._last_prices: dict[str, Price] = {}
        specs = [order_spec(rule) for rule in config.rules]
        self._entries = Entries(specs, self._enable, self.notice)
        self._without_node: FeedError | None = None  # then no entry is made in this run
        self._cipher = ""
        self._early_lines: list[Line] = []
        self._journal_complained = False
        self._journal_gone = False
        self._kill_told = False
        self._stopping = False
        self._started = False
        self._refused = 0
        self._stats: dict[str, int] = {}
        self._next_look = self._next_journal = 0.0

    def _new_hands_off(self) -> str:
        """The mark, for a run that may leave positions."""
        self._began_killed = self._latch.state() is not None
        leaves = self._config.engine.live and not self._began_killed
        return mark_of(self._latch.path) if leaves else ""

    def _check_latch(self) -> None:
        """The engine has looked, too: what is a person's since a reset this run has not read."""
        if self._began_killed and not self._engine.killed:
            raise LatchError(
                f"the latch {self._latch.path} was reset while this run started: start it again"
            )

    def _make_desk(self, credentials: Credentials) -> desks.Desk:
        auth = Auth.of(credentials)
        plans = {
            rule.name: plan
            for rule in self._config.rules
            if (plan := desks.plan_of(rule)) is not None
        }
        return desks.Desk(
            Wire(self._engine, self._commands, self._count),
            self._symbols,
            plans,
            auth,
            self._config.venue.recv_window_ms,
            self._tell,
            live=self._config.engine.live,
            max_price_age_ns=self._config.risk.max_price_age_ms * 1_000_000,
        )

    def _count(self, method: str) -> None:
        self._links.limits.count(method, self._links.venue_ms())

    def _make_links(self, credentials: Credentials) -> Links:
        venue = self._config.venue
        return Links(
            self,
            lambda: Search(venue.host, venue.port),
            SessionRequests(credentials, self._symbols),
            RateLimits(self._config.risk.venue_headroom_percent),
            venue=venue.url,
            live=self._config.engine.live,
            timing=Timing(answer=venue.timeout_s),
        )

    def _give(self, command: Callable[[], None]) -> None:
        self._commands.give(command)

    def _enable(self, order: int, enabled: bool) -> None:
        self._give(lambda: self._engine.command_enable(order, enabled))

    # ---- what Links wants (engine.connections.Port) ----------------------------------------------

    def connect(self, session: int, address: str) -> None:
        venue = self._config.venue
        where = VenueAddress(
            ip=address,
            host=venue.host,
            port=venue.port,
            path=venue.path,
            ca_file=venue.ca_file,
            timeout_ns=venue.timeout_s * 1_000_000_000,
        )
        if self._commands.waiting:
            raise VenueError("the engine's thread is held up, and opens no connection now")
        try:
            self._engine.command_connect(where, session)
        except NativeError as error:
            raise VenueError(str(error)) from error

    def text(self, session: int, message: bytes) -> None:
        self._give(lambda: self._engine.command_text(message, session))

    def hold(self, session: int, held: bool) -> None:
        self._give(lambda: self._engine.command_hold(held, session))

    def prefer(self, session: int) -> None:
        self._give(lambda: self._engine.command_prefer(session))

    def close(self, session: int) -> None:
        self._give(lambda: self._engine.command_close(session))

    def clock(self, offset_ms: int | None) -> None:
        self._give(lambda: self._engine.command_clock(offset_ms))
        if offset_ms is None:
            self._desk.exits.forget_prices()

    def venue_limit(self, limit: VenueLimit) -> None:
        row = (limit.index, limit.window_ms, limit.limit, limit.used)
        self._give(lambda: self._engine.command_venue_limit(*row))

    def pause(self, until_ns: int) -> None:
        self._give(lambda: self._engine.command_pause(until_ns))

    def banned(self, words: str) -> None:
        """It latches: a person should know why before anything more is sent."""
        self.notice(words)
        try:
            self._latch.set(words)
        except LatchError as error:
            self.notice(f"{error}; until the end of this run no order is sent all the same")
        self._engine.kill()

    def filters(self, filters: Mapping[str, Filters]) -> None:
        self._desk.on_filters(filters.values())
        self._entries.on_filters(filters)
        if self._started or self._desk.has_open():
            return
        for number, words in self._entries.mistakes():
            raise ConfigError(f"[[rule]] {self._config.rules[number].name!r}: {words}")

    def notice(self, words: str) -> None:
        self._tell({"record": "notice", "text": words})

    # ---- starting ------------------------------------------------------------------------------

    def start(self) -> None:
        """Venue first, then feed: nothing is heard that could not be acted on. A HarpoonError says
        what is wrong and where; Stopped when stop() was called meanwhile."""
        try:
            self._start()
        except BaseException:
            self._abandon()
            raise
        finally:  # what was done meanwhile is told in any case
            for line in self._early_lines:
                self._emit(line)
            self._early_lines.clear()

    def _start(self) -> None:
        """No entry is made before all of this is done; what is open is looked after as soon as
        there is a session."""
        self._restore()
        self._prices.start()
        self._entries.look(self._last_prices)
        self._hot.start()
        self._connect()
        if not self._wait(lambda: len(self._last_prices) == len(self._symbols), PRICE_WAIT_S):
            missing = ", ".join(s for s in self._symbols if s not in self._last_prices)
            self.notice(
                f"{self._config.venue.stream_url} has not told the price of {missing} yet: orders "
                "are refused as price-stale until it does"
            )
        try:
            self._start_feed()
        except FeedError as error:
            self._go_on_without_node(error)
        else:
            self._entries.open()
            self._emit(self._ready_line())
        self._started = True

    def _go_on_without_node(self, error: FeedError) -> None:
        """A node that comes later may publish what is old, and nothing tells: so no entry in this
        run."""
        if not self._desk.has_open():
            raise error
        self._without_node = error
        self.notice(str(error))
        self.notice(
            "this run makes no entry without a node, and ends when what is open has ended: start "
            "it anew when the node is back"
        )

    def _ready_line(self) -> Line:
        return {
            "record": "ready",
            "mode": "live" if self._config.engine.live else "dry-run",
            "feed": ", ".join(self._config.feed.endpoints),
            "venue": self._config.venue.url,
            "book": len(self._book),
            "exchanges": len(self._book.exchanges()),
            "rules": len(self._config.rules),
            "clock_offset_ms": self._links.offset_ms(),
            "transport": f"{self._engine.carrier()}, {self._cipher}",
            "journal": str(self._config.journal.folder),
        }

    def _restore(self) -> None:
        """What earlier runs have done, from their journal."""
        self._desk.restore(
            self._history(),
            self._engine,
            time.time_ns(),
            tuple(rule.name for rule in self._config.rules),
            frozenset(self._book.exchanges()),
            self._hands_off,
        )

    def _history(self) -> Iterator[Record]:
        """The records about orders; what the transactions of real ones have spent is remembered on
        the way."""
        since_ns = time.time_ns() - REMEMBERED_NS
        fired: set[str] = set()
        for record in Reader(self._config.journal.folder, HISTORY):
            if isinstance(record, Damage):
                self._on_damage(record)
                continue
            body = record.body
            if isinstance(body, Unknown):
                self._on_damage_words(f"record {record.sequence} is of another version")
            if isinstance(body, Intent) and body.live:
                self._check_account(record.names.account)
                if left_epoch_ns(record, body) >= since_ns:
                    fired.add(body.txid)
            if isinstance(body, Intent | Spent) and body.txid in fired:
                for outpoint in body.outpoints:
                    self._engine.remember(outpoint_bytes(outpoint))
            yield record

    def _check_account(self, theirs: str) -> None:
        """A position of another exchange or account is not held here, and nobody here knows its
        orders."""
        if theirs != self._account:
            raise JournalError(
                f"the journal {self._config.journal.folder} has orders of "
                f"{theirs or 'an unknown account'}, and this run is of {self._account} (the "
                "exchange, and a digest of the API key): name another journal.folder; what is open "
                "there is left by a run with the former url and key, or by hand where none is named"
            )

    def _on_damage(self, damage: Damage) -> None:
        """Orders of earlier runs may be unknown, and would be made again."""
        self._on_damage_words(f"{damage.words} of segment {damage.place.segment}")

    def _on_damage_words(self, what: str) -> None:
        words = f"the journal {self._config.journal.folder} is damaged ({what})"
        if self._config.engine.live:
            raise JournalError(
                f"{words}: look into it with `harpoon journal verify`, and move the folder away "
                "when you know what became of its orders"
            )
        self.notice(words)

    def _run_hot(self) -> None:
        try:
            self._engine.run()
        except HarpoonError as error:
            self._hot_error = error

    def _connect(self) -> None:
        """A session that takes orders, or VenueError: why there is none."""
        while not self._links.ready:
            self._turn()
            self._check_stopped()
            if self._links.start_failure is not None:
                raise self._links.start_failure
            time.sleep(TICK_S)

    def _start_feed(self) -> None:
        self._node.begin()
        if not self._wait(self._node.answers, FEED_CONNECT_S):
            raise self._node.failure()
        self._node.listen(time.monotonic())
        self._wait(lambda: False, FEED_SETTLE_S)

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

    # ---- running -------------------------------------------------------------------------------

    def stop(self) -> None:
        """From any thread: whatever is being waited for, the run ends soon."""
        self._stopping = True
        if not self._started:
            self._engine.abort()

    def kill(self) -> None:
        """From any thread: no order leaves any more, and what is open is cancelled; everything else
        goes on."""
        self._engine.kill()

    def loop(self) -> None:
        """Until stop(), or, without a node, until nothing is open any more."""
        try:
            while not self._stopping:
                came = self._turn()
                if self._without_node is not None and not self._desk.has_open():
                    raise self._without_node
                time.sleep(TICK_S if came else IDLE_TICK_S)
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        try:
            self._engine.abort()
            if self._hot.is_alive():
                self._hot.join()
            self._prices.stop()
            self._node.stop()
        finally:
            self._journal.close()

    def _turn(self) -> int:
        """What the hot thread, the feed and the prices report, and what is due: how many records
        there were."""
        alive = self._hot.is_alive()
        came = 0
        self._commands.work()
        for record in self._engine.records():
            self._on_record(record)
            came += 1
        for words in self._node.notices(time.monotonic()):
            self.notice(words)
        self._hear_prices()
        self._links.tick(read_clocks())
        self._work_desk()
        self._keep_journal()
        self._look(time.monotonic())
        if not alive and not self._stopping:
            raise self._hot_error or HarpoonError("the engine's thread has ended by itself")
        return came

    def _hear_prices(self) -> None:
        for price in self._prices.news():
            self._last_prices[price.symbol] = price
            self._desk.on_price(price)
            if not self._commands.waiting:  # there will be another
                row = (self._symbols.index(price.symbol), price.bid_e8, price.ask_e8, price.t_ns)
                self._give(partial(self._engine.command_price, *row))
        for words in self._prices.notices():
            self.notice(words)

    def _work_desk(self) -> None:
        if not self._kill_told and (self._engine.killed or self._latch.state() is not None):
            self._engine.kill()
            self._tell_kill()
        venue_ms, limits = self._links.venue_ms(), self._links.limits
        room = limits.may_ask("order.place", venue_ms, urgent=True)  # order.cancel weighs the same
        session = self._links.preferred if room and not self._stopping else None
        may_query = limits.may_ask("myTrades", venue_ms)  # the heaviest question
        self._desk.work(desks.Moment(time.monotonic_ns(), venue_ms, session, may_query))
        if self._desk.exits.take_doubts():
            self._links.read_filters_again()

    def _tell_kill(self) -> None:
        self._kill_told = True
        state = self._latch.state()
        reason = state.reason if state else "the latch itself could not be set, or was reset since"
        cancelled = "what is open is cancelled" if self._config.engine.live else "it sent none"
        self.notice(
            f"killed ({reason}): no order is sent any more, {cancelled}; `harpoon reset` and a new "
            "run are the way back"
        )
        was_reset = state is None and self._latch.is_there()  # and that has seen to the mark
        if self._config.engine.live and not was_reset:
            try:
                set_mark(self._latch.path)
            except LatchError as error:
                self.notice(str(error))
        self._desk.kill()

    def _keep_journal(self) -> None:
        now = time.monotonic()
        if now < self._next_journal:
            return
        try:
            self._engine.prepare()
        except HarpoonError as error:
            self._next_journal = now + JOURNAL_AGAIN_S
            if not self._journal_complained:
                self.notice(f"{error}; when what is left is full, no order is sent")
            self._journal_complained = True
        else:
            self._journal_complained = False

    def _look(self, now: float) -> None:
        """What need not be looked at every turn."""
        if now < self._next_look:
            return
        self._next_look = now + LOOK_EVERY_S
        self._entries.look(self._last_prices)
        if not self._journal_gone and not self._engine.journal_is_there():
            self._stop_without_journal()
        if not self._kill_told and not self._latch.is_there():
            self._engine.kill()
            self._tell_kill()

    def _stop_without_journal(self) -> None:
        """What is written to a deleted file nobody will read: a restart would know no order."""
        self._journal_gone = True
        self._give(lambda: self._engine.command_hold(True))
        self.notice(
            f"files of the journal {self._config.journal.folder} were deleted: no order is sent "
            "any more; put them back, or start anew when you know what became of the orders"
        )

    # ---- what the hot thread reports ------------------------------------------------------------

    def _on_record(self, record: Record) -> None:
        match record.body:
            case Signal() as signal:
                self._tell({"record": "signal", **signal.as_json()})
            case Fired() as fired if fired.refusal is not None:
                self._on_refused(fired)
            case Message() as message:
                self._on_message(message, record.t_ns)
            case Opened() as opened:
                self._cipher = opened.cipher
                self._links.on_opened(opened.session)
            case Closed() as closed:
                self._on_closed(closed)
            case FeedNote() as note:
                self._node.on_feed(note)
                self.notice(note.words)
            case Stats() as stats:
                self._on_stats(stats)
            case Notice() as notice if not self._kill_told:  # which says more
                self.notice(notice.words)
            case Command() as command if command.error is not None:
                self.notice(f"the engine refused `{command.command}`: {command.error}")
        self._desk.on_record(record)

    def _on_refused(self, fired: Fired) -> None:
        self._refused += 1
        self._tell({"record": "refused", "limit": fired.refusal, "txid": fired.txid})

    def _on_message(self, message: Message, t_ns: int) -> None:
        reply = binance.parse_reply(message.text)
        if reply is not None:
            ours = self._links.on_reply(message.session, reply, t_ns) or self._desk.orders.asked(
                reply.id
            )
            if not ours:
                words = f"the venue answered a request we did not make: {message.text[:200]!r}"
                self.notice(words)
            return
        event = parse_event(message.text)
        if event is None:
            self.notice(f"the venue said something unexpected: {message.text[:200]!r}")
        elif isinstance(event, ServerShutdown):
            self._links.on_shutdown(message.session)
        elif isinstance(event, StreamEnded):
            self._links.on_stream_ended(message.session)

    def _on_closed(self, closed: Closed) -> None:
        if not self._stopping:
            self._links.on_closed(closed.session, closed.reason, closed.code)

    def _on_stats(self, stats: Stats) -> None:
        self._node.on_transactions(stats.counters["transactions"], time.monotonic())
        lost = stats.counters["records_lost"] - self._stats.get("records_lost", 0)
        if lost:
            self.notice(f"{lost} records found no room in the journal and are lost")
        malformed = stats.counters["malformed"] - self._stats.get("malformed", 0)
        if malformed:
            self.notice(
                f"{malformed} transactions could not be read and were skipped: check the node"
            )
        self._stats = dict(stats.counters)
        if self._started:
            self._emit({"record": "progress", "stats": self._stats})

    def _tell(self, line: Line) -> None:
        """Nothing comes before the line that says `ready`, or that there will be none."""
        if self._started:
            self._emit(line)
        else:
            self._early_lines.append(line)

    # ---- ending ----------------------------------------------------------------------------------

    def finish(self) -> Line:
        """Wait shortly for replies, say goodbye, and sum up: the `summary` record."""
        try:
            self._give(lambda: self._engine.command_hold(True))
            self._stopping = True
            deadline = time.monotonic() + REPLY_GRACE_S
            while self._desk.orders.waiting() and self._links.ready and time.monotonic() < deadline:
                self._turn()
                time.sleep(TICK_S)
            self._end_threads()
        except BaseException:
            self._abandon()
            raise
        for record in self._engine.records():
            self._on_record(record)
        for words in self._desk.open_words():
            self.notice(words)
        summary: Line = {
            "record": "summary",
            "orders": self._desk.summary(),
            "positions": [position.as_json() for position in self._desk.positions.all()],
            "refused": self._refused,
            "latency_ns": self._engine.latency_ns(),
            "stats": self._engine.stats(),
            "machine": machine(),
        }
        self._emit(summary)
        self._journal.close()
        return summary

    def _end_threads(self) -> None:
        self._node.stop()
        self._prices.stop()
        self._engine.command_stop()
        self._hot.join(STOP_S)
        if self._hot.is_alive():
            self._engine.abort()
            self._hot.join()
