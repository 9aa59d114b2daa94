"""The engine's own thread in Python: takes transactions from the feed, hands each to C in one call,
and turns what C reports into records (engine/report.py says which)."""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable
from dataclasses import asdict

import zmq

from engine.book import Book
from engine.clock import VenueClock
from engine.config import Config, Credentials
from engine.core import (
    Closed,
    Engine,
    EngineOptions,
    Event,
    Fired,
    Message,
    Rule,
    Signal,
    VenueAddress,
)
from engine.errors import FeedError, TxError, VenueError
from engine.feed.zmq import DRAIN_MAX, ZmqFeed
from engine.lifecycle import Order, Orders
from engine.machine import machine
from engine.report import Record
from engine.venues import binance

TIME_EVERY_S = 60.0
PROGRESS_EVERY_S = 0.5
POLL_MS = 10  # also how often an idle engine rehearses
FEED_CONNECT_S = 10.0
REPLY_S = 10.0  # the venue's own limit for a request ("General API Information")
REPLY_GRACE_S = 2.0
RECONNECT_FIRST_S = 1.0
RECONNECT_MOST_S = 60.0
MALFORMED_NOTICES = 10  # then only the counter: a broken node must not flood the log


class Stopped(Exception):
    """stop() was called before the run had begun."""


def resolve(host: str, port: int) -> list[str]:
    """The host's numeric addresses, in the resolver's order."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise VenueError(
            f"the host name {host[:80]} of venue.url cannot be resolved ({error}): check its "
            "spelling and the network"
        ) from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Runner:
    """One run: `start()`, `loop()` until `stop()`, `finish()`."""

    def __init__(
        self, config: Config, credentials: Credentials, book: Book, emit: Callable[[Record], None]
    ) -> None:
        self._config = config
        self._emit = emit
        self._book = book
        self._orders = Orders()
        self._specs: list[binance.OrderSpec] = []
        self._engine = self._make_engine(credentials)
        self._feed: ZmqFeed | None = None
        self._clock = VenueClock()
        self._stopping = False
        self._started = False
        self._held = False
        self._refused = 0
        self._malformed = 0
        self._events_lost = 0
        self._reconnect_s = RECONNECT_FIRST_S
        self._reconnect_at: float | None = None
        self._next_progress = self._next_time = 0.0
        self._silent_at = time.monotonic() + config.feed.silent_after_s

    def _make_engine(self, credentials: Credentials) -> Engine:
        c = self._config
        engine = Engine(
            self._book,
            EngineOptions(
                live=c.engine.live,
                min_signal_sat=c.engine.min_signal_sat,
                sweep_inputs_min=c.engine.sweep_inputs_min,
                max_orders=c.risk.max_orders,
                cooldown_ns=c.risk.cooldown_s * 1_000_000_000,
            ),
        )
        signed = credentials.api_secret is not None
        if credentials.api_secret is not None:
            engine.set_key(credentials.api_secret)
        for rule in c.rules:
            spec = binance.OrderSpec(
                symbol=rule.symbol,
                side=rule.side,
                type=rule.type,
                quantity=rule.quantity,
                price=rule.price,
                time_in_force=rule.time_in_force,
            )
            template = binance.order_template(
                spec, credentials.api_key, c.venue.recv_window_ms, signed
            )
            self._specs.append(spec)
            engine.add_rule(
                Rule(
                    kinds=rule.kinds,
                    exchange=rule.exchange,
                    min_net_sat=rule.min_sat,
                    max_net_sat=rule.max_sat,
                    order=engine.add_order(template),
                )
            )
        return engine

    # ---- starting ------------------------------------------------------------------------------

    def start(self) -> None:
        """Venue first, then feed: nothing is heard that could not be acted on. FeedError and
        VenueError say what is wrong and where; Stopped when stop() was called meanwhile."""
        self._connect()
        self._feed = ZmqFeed(self._config.feed.endpoint)
        self._wait_for_feed(self._feed)
        if self._config.engine.cpu is not None:
            os.sched_setaffinity(0, {self._config.engine.cpu})  # this thread, not libzmq's
        self._started = True
        self._emit(
            {
                "record": "ready",
                "mode": "live" if self._config.engine.live else "dry-run",
                "feed": self._config.feed.endpoint,
                "venue": self._config.venue.url,
                "book": len(self._book),
                "exchanges": len(self._book.exchanges()),
                "rules": len(self._config.rules),
                "clock_offset_ms": self._clock.offset_ms,
                "transport": self._engine.transport(),
            }
        )

    def _wait_for_feed(self, feed: ZmqFeed) -> None:
        deadline = time.monotonic() + FEED_CONNECT_S
        while True:
            try:
                feed.wait_connected(POLL_MS / 1000)
            except FeedError:
                if time.monotonic() > deadline:
                    raise
                self._check_stopped()
            else:
                return

    def _check_stopped(self) -> None:
        if self._stopping:
            raise Stopped

    def _connect(self) -> None:
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
            try:
                self._engine.connect(address)
            except VenueError as error:
                failure = error
                continue
            self._measure_clock()
            return
        self._check_stopped()
        raise failure or VenueError(f"the host name {venue.host} has no address: correct venue.url")

    def _measure_clock(self) -> None:
        deadline = time.monotonic() + self._config.venue.timeout_s
        self._engine.send_text(self._clock.begin())
        while self._clock.waiting:
            self._check_stopped()
            if time.monotonic() > deadline or not self._engine.ready:
                raise VenueError(
                    f"{self._config.venue.url} is open but does not answer `time`: check that it "
                    "is the exchange's WebSocket API"
                )
            self._engine.poll(POLL_MS * 1_000_000)
            self._events()
        if not self._engine.ready:
            raise VenueError(f"{self._config.venue.url} was left again")
        self._next_time = time.monotonic() + TIME_EVERY_S

    def _check_pulse(self) -> None:
        """Measure the clock again. A venue that has not answered since the last time is gone,
        whatever TCP believes."""
        if self._clock.waiting:
            self._leave("the venue has stopped answering")
        else:
            self._engine.send_text(self._clock.begin())

    def _leave(self, why: str) -> None:
        self._notice(f"{why}; leaving it")
        self._engine.close()
        self._events()

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
        """Until stop(): transactions first, then the venue, then whatever the clock says."""
        feed = self._feed
        assert feed is not None, "start() comes first"
        poller = zmq.Poller()
        poller.register(feed.socket, zmq.POLLIN)
        while not self._stopping:
            poller.poll(0 if self._config.engine.spin else POLL_MS)
            self._hear(feed)
            if self._engine.ready:
                self._engine.poll()
                self._events()
            self._clockwork()

    def _hear(self, feed: ZmqFeed) -> None:
        heard = 0
        for raw, t_rx_ns in feed.drain():
            self._transaction(raw, t_rx_ns)
            heard += 1
        if heard:
            self._silent_at = time.monotonic() + self._config.feed.silent_after_s
        if self._held and heard < DRAIN_MAX:
            self._hold(False)  # what waited while we reconnected is behind us
        for notice in feed.notices():
            self._notice(notice.text)

    def _hold(self, held: bool) -> None:
        """Transactions that waited for a reconnection are no longer news: no orders for them."""
        self._held = held
        self._engine.hold(held)

    def _transaction(self, raw: bytes, t_rx_ns: int) -> None:
        try:
            happened = self._engine.rawtx(raw, t_rx_ns)
        except TxError as error:
            self._malformed += 1
            if self._malformed <= MALFORMED_NOTICES:
                self._notice(f"{error} ({len(raw)} bytes): skipped; check the node.")
            return
        if happened:
            self._events()

    def _clockwork(self) -> None:
        now = time.monotonic()
        if now >= self._next_progress:
            self._next_progress = now + PROGRESS_EVERY_S
            self._report_progress()
        if now >= self._silent_at:
            self._silent_at = now + self._config.feed.silent_after_s
            self._notice(
                f"the node at {self._config.feed.endpoint} has published nothing for "
                f"{self._config.feed.silent_after_s} s: check that it is in sync and has peers."
            )
        if not self._engine.ready:
            self._care_for_connection(now)
        elif now >= self._next_time:
            self._next_time = now + TIME_EVERY_S
            self._check_pulse()

    def _report_progress(self) -> None:
        stats = self._engine.stats()
        if stats["events_lost"] > self._events_lost:
            lost = stats["events_lost"] - self._events_lost
            self._events_lost = stats["events_lost"]
            self._notice(f"{lost} events did not fit the queue between C and Python and are lost")
        for order in self._orders.overdue(time.monotonic_ns(), REPLY_S):
            self._emit({"record": "order", **order.as_json()})
        self._emit({"record": "progress", "stats": stats})

    def _care_for_connection(self, now: float) -> None:
        """Exponential backoff with jitter, so that many engines do not come back as one."""
        if self._reconnect_at is None:
            self._reconnect_at = now + self._reconnect_s * (0.5 + random.random() / 2)
            self._reconnect_s = min(2 * self._reconnect_s, RECONNECT_MOST_S)
        elif now >= self._reconnect_at:
            self._reconnect_at = None
            self._reconnect()

    def _reconnect(self) -> None:
        self._hold(True)
        try:
            self._connect()
        except Stopped:
            return  # the loop ends
        except VenueError as error:
            self._notice(str(error))
            return
        self._reconnect_s = RECONNECT_FIRST_S
        self._notice(f"connected to {self._config.venue.url} again")

    # ---- what C reports -------------------------------------------------------------------------

    def _events(self) -> None:
        for event in self._engine.events():
            self._on_event(event)

    def _on_event(self, event: Event) -> None:
        match event:
            case Signal():
                self._emit({"record": "signal", **event.as_json()})
            case Fired():
                self._on_fired(event)
            case Message():
                self._on_message(event)
            case Closed():
                self._on_closed(event)

    def _on_fired(self, fired: Fired) -> None:
        if fired.refusal is not None:
            self._refused += 1
            self._emit(
                {
                    "record": "refused",
                    "limit": fired.refusal,
                    "client_id": fired.client_id,
                    "txid": fired.txid,
                }
            )
            return
        order = Order(
            client_id=fired.client_id,
            spec=self._specs[fired.order],
            status="unknown" if fired.error else "dry-run" if fired.dry_run else "sent",
            txid=fired.txid,
            exchange=fired.exchange,
            timestamp_ms=fired.timestamp_ms,
            sent_ns=fired.sent_ns,
            reason=fired.error or "",
        )
        self._orders.add(order)
        self._emit({"record": "order", **order.as_json()})

    def _on_message(self, message: Message) -> None:
        reply = binance.parse_reply(message.text)
        if reply is None:
            self._notice(f"the venue said something unexpected: {message.text[:200]!r}")
            return
        if self._clock.asked(reply.id):
            self._on_time(reply, message.t_ns)
            return
        order = self._orders.on_reply(reply, message.t_ns)
        if order is not None:
            self._emit({"record": "order", **order.as_json()})
        else:
            self._notice(f"the venue answered a request we did not make: {message.text[:200]!r}")

    def _on_time(self, reply: binance.Reply, t_ns: int) -> None:
        try:
            request = self._clock.answer(reply, t_ns)
        except VenueError as error:
            if not self._started:
                raise
            self._leave(str(error))
            return
        if request is not None:
            self._engine.send_text(request)
        elif self._clock.offset_ms is not None:
            self._engine.set_clock_offset(self._clock.offset_ms)

    def _on_closed(self, closed: Closed) -> None:
        for order in self._orders.on_session_end(closed.reason):
            self._emit({"record": "order", **order.as_json()})
        if not self._stopping:
            self._notice(closed.reason)

    def _notice(self, words: str) -> None:
        self._emit({"record": "notice", "text": words})

    # ---- ending ----------------------------------------------------------------------------------

    def finish(self) -> Record:
        """Wait shortly for replies, say goodbye, and sum up: the `summary` record."""
        deadline = time.monotonic() + REPLY_GRACE_S
        while self._orders.waiting() and self._engine.ready and time.monotonic() < deadline:
            self._engine.poll(POLL_MS * 1_000_000)
            self._events()
        self._stopping = True
        self._engine.close()
        self._events()
        if self._feed is not None:
            self._feed.close()
        summary: Record = {
            "record": "summary",
            "orders": [order.as_json() for order in self._orders.all()],
            "refused": self._refused,
            "latency_ns": self._engine.latency_ns(),
            "stats": self._engine.stats(),
            "feed": asdict(self._feed.counters) if self._feed else {},
            "machine": machine(),
        }
        self._emit(summary)
        return summary
