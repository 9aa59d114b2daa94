"""The C engine as a Python object."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine._native import check, ffi, lib, text
from engine.book import Book
from engine.crypto import implementation
from engine.errors import BookError, JournalError, NativeError, VenueError
from engine.feed.native import FeedAddress
from engine.journal import Journal, Reader
from engine.latch import Latch
from engine.records import SIGNAL_KINDS, STAGES, Body, Record, Terms
from engine.venues.binance import OrderTemplate

TRANSPORTS = {"io_uring": lib.HP_TRANSPORT_URING, "syscall": lib.HP_TRANSPORT_SYSCALL}

_MESSAGE_BYTES_MAX = lib.HP_RECORD_BYTES_MAX - ffi.sizeof("hp_session_note")
_SEND_TIMEOUT_NS = 1_000_000_000
_SCRATCH_SEGMENT_BYTES = 8 << 20
_UNKNOWN_OFFSET = -(1 << 63)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What the engine is made with; see hp_engine_config. The defaults send nothing."""

    live: bool = False
    min_signal_sat: int = 0
    sweep_inputs_min: int = 6
    max_orders: int = 0
    cooldown_ns: int = 0
    remembered: int = 1 << 21  # outpoints, 34 MB: days of every signal there is, months of whales
    transport: str = "io_uring"
    cpu: int | None = None  # where run() stays
    spin: bool = False
    rearm_ns: int = 100_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What the risk gate refuses; see hp_limits and docs/risk.md. None: no limit; 0: nothing is
    allowed. Notionals are in 1e-8 of a quote asset."""

    exchange_cooldown_ns: int = 0
    max_order_notional_e8: int | None = None
    max_total_notional_e8: int | None = None
    max_position_notional_e8: int | None = None
    max_orders_per_second: int | None = None
    max_orders_per_minute: int | None = None
    max_orders_per_hour: int | None = None
    max_orders_per_day: int | None = None
    max_signal_age_ns: int | None = None
    max_feed_silence_ns: int | None = None
    max_price_age_ns: int | None = None
    price_band_bp: int | None = None
    max_clock_offset_ms: int | None = None
    max_unresolved: int | None = None
    venue_headroom_percent: int = 0


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of an order, or one that is open; see hp_settlement."""

    market: int
    is_sell: bool
    quantity_e8: int
    filled_e8: int = 0
    reduces: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the rule table; see hp_rule. `exchange` None: any."""

    kinds: tuple[str, ...]
    exchange: str | None
    min_net_sat: int
    max_net_sat: int | None
    order: int


@dataclass(frozen=True, slots=True)
class VenueAddress:
    """Where to connect: a numeric address and the name that its certificate must carry."""

    ip: str
    host: str
    port: int
    path: str
    ca_file: Path | None
    timeout_ns: int


class Engine:
    """Either `run()` on a thread of its own, with the commands of one other thread; or its steps,
    for the thread that calls the first of them. `events()` belongs to one thread, any."""

    def __init__(
        self,
        book: Book,
        options: EngineOptions | None = None,
        journal: Journal | None = None,
        preamble: Mapping[str, Any] | None = None,
    ) -> None:
        """Without a journal, records go to a temporary one, which is gone with the engine.
        `preamble`: see Journal.prepare(); by default the book's exchanges."""
        options = options or EngineOptions()
        self.book = book
        self._scratch = journal is None
        self._journal = _scratch_journal(self) if journal is None else journal
        facts = {"exchanges": book.exchanges_by_id()} if preamble is None else preamble
        self._preamble = json.dumps(facts).encode()
        self._reader = Reader(self._journal.folder)
        self._reader.skip()  # to this run's records
        self.prepare()
        config = ffi.new(
            "hp_engine_config *",
            {
                "min_signal_sat": options.min_signal_sat,
                "cooldown_ns": options.cooldown_ns,
                "max_orders": options.max_orders,
                "send_timeout_ns": _SEND_TIMEOUT_NS,
                "sweep_inputs_min": options.sweep_inputs_min,
                "remembered": options.remembered,
                "message_bytes_max": _MESSAGE_BYTES_MAX,
                "transport": TRANSPORTS[options.transport],
                "cpu": -1 if options.cpu is None else options.cpu,
                "rearm_ns": options.rearm_ns,
                "live": options.live,
                "spin": options.spin,
            },
        )
        error = ffi.new("int *")
        handle = lib.hp_engine_new(
            config, book.handle, implementation(), self._journal.handle, error
        )
        if handle == ffi.NULL:
            check(error[0], "starting the engine")
        self._handle: Any = ffi.gc(handle, lib.hp_engine_free)
        self._lent: list[Book] = [book]

    def prepare(self) -> None:
        """A segment in reserve for the journal; by the thread that reads events(). JournalError."""
        self._journal.prepare(self._preamble)

    # ---- set-up -------------------------------------------------------------------------------

    def set_key(self, secret: str) -> None:
        data = secret.encode()
        check(lib.hp_engine_set_key(self._handle, data, len(data)), "setting the API secret")

    def add_order(self, template: OrderTemplate) -> int:
        """The index by which a rule names this order."""
        payload, body = ffi.from_buffer(template.payload), ffi.from_buffer(template.body)
        order = ffi.new(
            "hp_order_template *",
            {
                "payload": payload,
                "payload_len": len(template.payload),
                "payload_client_id_at": template.payload_client_id_at,
                "payload_timestamp_at": template.payload_timestamp_at,
                "body": body,
                "body_len": len(template.body),
                "body_request_id_at": template.body_request_id_at,
                "body_client_id_at": template.body_client_id_at,
                "body_timestamp_at": template.body_timestamp_at,
                "body_signature_at": template.body_signature_at,
            },
        )
        return check(lib.hp_engine_add_order(self._handle, order), "adding an order template")

    def add_rule(self, rule: Rule) -> int:
        numbers = {name: number for number, name in SIGNAL_KINDS.items()}
        row = ffi.new(
            "hp_rule *",
            {
                "min_net_sat": rule.min_net_sat,
                "max_net_sat": (1 << 62) if rule.max_net_sat is None else rule.max_net_sat,
                "kinds": sum(1 << numbers[kind] for kind in rule.kinds),
                "exchange": (
                    lib.HP_NOBODY if rule.exchange is None else self.book.exchange_id(rule.exchange)
                ),
                "order": rule.order,
            },
        )
        return check(lib.hp_engine_add_rule(self._handle, row), "adding a rule")

    def add_feed(self, address: FeedAddress) -> int:
        """The number by which the journal means this feed."""
        strings = [
            ffi.NULL if text is None else ffi.new("char[]", text.encode())
            for text in (address.name, address.ip, address.path)
        ]
        row = ffi.new(
            "hp_feed_address *",
            {
                "name": strings[0],
                "ip": strings[1],
                "path": strings[2],
                "port": address.port,
                "sequence": address.sequence,
            },
        )
        return check(lib.hp_engine_add_feed(self._handle, row), f"the feed {address.name}")

    def remember(self, outpoint: bytes) -> None:
        """What spends this outpoint (36 bytes) has had its order, in another run."""
        lib.hp_engine_remember(self._handle, outpoint)

    # ---- what the risk gate is told before the run --------------------------------------------

    def set_limits(self, limits: Limits) -> None:
        """Once, before the rest of this section; without it there are no limits but those of the
        options."""
        values = asdict(limits)
        row = ffi.new(
            "hp_limits *",
            {name: lib.HP_NO_LIMIT if v is None else v for name, v in values.items()},
        )
        check(lib.hp_engine_set_limits(self._handle, row), "setting the limits")

    def use_latch(self, latch: Latch) -> None:
        """Once; nothing is sent from the moment in which it is set."""
        self._latch = latch
        check(lib.hp_engine_use_latch(self._handle, latch.handle), f"the latch {latch.path}")

    def add_market(self) -> int:
        """The number by which Terms and others name one thing that is traded."""
        return check(lib.hp_engine_add_market(self._handle), "adding a market")

    def set_terms(self, order: int, terms: Terms) -> None:
        """What the order template `order` trades."""
        row = ffi.new("hp_terms *", asdict(terms))
        check(lib.hp_engine_set_terms(self._handle, order, row), "an order's terms")

    def set_position(self, market: int, position_e8: int) -> None:
        """What other runs have left; below 0: sold."""
        check(lib.hp_engine_set_position(self._handle, market, position_e8), "a position")

    def count_past(
        self, age_ns: int, notional_e8: int, rule: int | None, exchange: str | None
    ) -> None:
        """An order of another run, that left `age_ns` ago: it counts in windows, cooldowns and
        totals. `rule` and `exchange` are None where there is none, or none any more, each on its
        own; an exit has neither, and notional 0."""
        code = lib.hp_engine_count_past(
            self._handle,
            age_ns,
            notional_e8,
            -1 if rule is None else rule,
            lib.HP_NOBODY if exchange is None else self.book.exchange_id(exchange),
        )
        check(code, "counting an order of another run")

    def expose(self, order: Settlement) -> None:
        """An order of another run is still open. What it has filled counts when it ends."""
        row = ffi.new("hp_settlement *", asdict(order))
        check(lib.hp_engine_expose(self._handle, row), "an order that is open")

    def settle(self, settlement: Settlement) -> None:
        """command_settle(), before the run."""
        row = ffi.new("hp_settlement *", asdict(settlement))
        check(lib.hp_engine_settle(self._handle, row), "the end of an order")

    # ---- the hot thread and its commands --------------------------------------------------------

    def run(self) -> None:
        """The loop, without the GIL, until command_stop() or abort()."""
        self._check(lib.hp_engine_run(self._handle), "the engine's thread")

    def command_connect(self, venue: VenueAddress, session: int = 0) -> None:
        """Opened or Closed tells what came of it; the new session is held. VenueError when the CA
        file cannot be used."""
        address, _alive = _venue_address(venue)
        code = lib.hp_engine_command_connect(self._handle, session, address)
        if code == -lib.HP_ETLS_CA:
            raise _not_to_be_opened(venue, -code)
        check(code, "telling the engine to connect")

    def command_listen(self) -> None:
        """The feeds may connect."""
        self._command(lib.HP_COMMAND_LISTEN)

    def command_text(self, message: bytes, session: int = 0) -> None:
        self._command(lib.HP_COMMAND_TEXT, session, message=message)

    def command_hold(self, held: bool, session: int | None = None) -> None:
        """A session that is held takes no orders. `session` None: none of them does, a hold of its
        own."""
        whose = lib.HP_EVERY_SESSION if session is None else session
        self._command(lib.HP_COMMAND_HOLD, whose, held)

    def command_prefer(self, session: int) -> None:
        """Orders go to that session if it takes them."""
        self._command(lib.HP_COMMAND_PREFER, session)

    def command_clock(self, offset_ms: int | None) -> None:
        """The venue's clock minus ours. While it is unknown (None) all but exits are refused as
        `clock`."""
        number = _UNKNOWN_OFFSET if offset_ms is None else offset_ms
        self._command(lib.HP_COMMAND_CLOCK_OFFSET, number=number)

    def command_price(self, market: int, bid_e8: int, ask_e8: int, t_ns: int) -> None:
        """The market's best offers as of `t_ns` (CLOCK_MONOTONIC)."""
        price = {"market": market, "bid_e8": bid_e8, "ask_e8": ask_e8, "t_ns": t_ns}
        self._command(lib.HP_COMMAND_PRICE, message=_packed("hp_price", price))

    def command_settle(self, settlement: Settlement) -> None:
        """An order has come to its end. Not in dry-run, where none begins."""
        message = _packed("hp_settlement", asdict(settlement))
        self._command(lib.HP_COMMAND_SETTLE, message=message)

    def command_venue_limit(self, index: int, window_ms: int, limit: int, used: int) -> None:
        """The venue's index-th limit of orders, and how much of it the venue says is used."""
        row = {"index": index, "window_ms": window_ms, "limit": limit, "used": used}
        self._command(lib.HP_COMMAND_VENUE_LIMIT, message=_packed("hp_venue_limit", row))

    def command_pause(self, until_ns: int) -> None:
        """Every order is refused as `venue-limit` until then (CLOCK_MONOTONIC)."""
        self._command(lib.HP_COMMAND_PAUSE, number=until_ns)

    def command_enable(self, order: int, enabled: bool) -> None:
        """An order template that is not enabled is not armed, and refused as `filter`."""
        command = lib.HP_COMMAND_ENABLE if enabled else lib.HP_COMMAND_DISABLE
        self._command(command, number=order)

    def command_order(
        self,
        message: bytes,
        terms: Terms,
        client_id: str,
        timestamp_ms: int,
        parent: str = "",
        reduces: bool = False,
        orders: int = 1,
    ) -> None:
        """An order that no template makes, or a list, which is two `orders` to the venue. Fired
        tells what became of it; `message` has the same client id and timestamp. See
        hp_order_request."""
        request = {
            "terms": asdict(terms),
            "client_id": client_id.encode(),
            "parent": parent.encode(),
            "reduces": reduces,
            "orders": orders,
        }
        data = _packed("hp_order_request", request) + message
        self._command(lib.HP_COMMAND_ORDER, number=timestamp_ms, message=data)

    def command_close(self, session: int = 0) -> None:
        self._command(lib.HP_COMMAND_CLOSE, session)

    def command_stop(self) -> None:
        self._command(lib.HP_COMMAND_STOP)

    def _command(
        self,
        command: int,
        session: int = lib.HP_EVERY_SESSION,
        number: int = 0,
        message: bytes = b"",
    ) -> None:
        code = lib.hp_engine_command(self._handle, command, session, number, message, len(message))
        check(code, "telling the engine's thread something")

    def offer_rawtx(self, raw: bytes, t_rx_ns: int, offer: int = lib.HP_OFFER_NEXT) -> bool:
        """A transaction from a feed that is not the engine's; False while there is no room. `offer`
        is one of enum hp_offer: how it follows the one before."""
        code: int = lib.hp_engine_offer_rawtx(
            self._handle, ffi.from_buffer(raw), len(raw), t_rx_ns, offer
        )
        return code == 0

    # ---- single steps: the owning thread; of session 0 ----------------------------------------

    def set_clock_offset(self, offset_ms: int) -> None:
        check(lib.hp_engine_set_clock_offset(self._handle, offset_ms), "setting the clock offset")

    def connect(self, venue: VenueAddress) -> None:
        """Connect, TLS, upgrade; VenueError says what failed."""
        address, _alive = _venue_address(venue)
        code = lib.hp_engine_connect(self._handle, address)
        if code in (-lib.HP_ETHREAD, -lib.HP_ERING):
            self._check(code, "connecting")
        if code == -lib.HP_ETLS_CA:
            raise _not_to_be_opened(venue, -code)
        if code < 0:
            raise venue_error(-code, self.reason() or text(lib.hp_strerror(code)))

    def _check(self, code: int, doing: str) -> None:
        if code == -lib.HP_ERING:
            raise NativeError(self.reason(), -code)
        check(code, doing)

    def rawtx(self, raw: bytes, t_rx_ns: int) -> int:
        """One transaction through the whole path: how many signals it gave, or TxError."""
        code: int = lib.hp_engine_rawtx(self._handle, ffi.from_buffer(raw), len(raw), t_rx_ns)
        return code if code >= 0 else check(code, "a transaction from the feed")

    def poll(self, timeout_ns: int = 0) -> None:
        """Read what the venue sent. How a session ended comes as a Closed event."""
        code = lib.hp_engine_poll(self._handle, timeout_ns)
        if code == -lib.HP_ETHREAD:
            check(code, "polling")

    def send_text(self, message: bytes) -> None:
        """Send what is not an order. A session that ends by it says so in a Closed event, and
        without one nothing is sent."""
        code = lib.hp_engine_send_text(self._handle, message, len(message))
        if code == -lib.HP_ETHREAD or self.ready:
            check(code, "sending to the venue")

    def hold(self, held: bool) -> None:
        """While held, the session takes no orders."""
        lib.hp_engine_hold(self._handle, held)

    def close(self) -> None:
        """Say goodbye to the venue; does nothing without a session."""
        check(lib.hp_engine_close(self._handle), "closing the session")

    def armed(self, order: int, session: int | None = None) -> bool:
        """Whether this order would be sent as it lies, sealed: by that session, or by every one
        that takes orders."""
        whose = lib.HP_EVERY_SESSION if session is None else session
        return bool(lib.hp_engine_armed(self._handle, order, whose))

    def records(self) -> Iterator[Record]:
        """What the journal has got since the last call."""
        if self._scratch:
            self.prepare()
        for record in self._reader:
            if isinstance(record, Record):
                yield record
            else:
                raise JournalError(
                    f"the journal {self._journal.folder} was changed while it is written "
                    f"({record.words}): leave its files alone"
                )

    def journal_is_there(self) -> bool:
        """The segment that records() has come to is still in its folder."""
        number = self._reader.place().segment
        # No Path, whose parts Python interns: asked twice a second, its table of those would grow.
        return number == 0 or os.path.exists(f"{self._journal.folder}/{number:08}.hpj")

    def events(self) -> Iterator[Body]:
        """The same without the records' numbers and times."""
        return (record.body for record in self.records())

    # ---- any time -------------------------------------------------------------------------------

    def offer_book(self, book: Book) -> None:
        """Use `book`, made with `like=` the present one, from the next transaction or poll on."""
        if not book.has_ids_of(self.book):
            raise BookError(
                "the new address book numbers its exchanges otherwise: make it with like=the old"
            )
        self.reclaim_books()
        self._lent.append(book)
        self.book = book
        self._take_back(lib.hp_engine_offer_book(self._handle, book.handle))

    def reclaim_books(self) -> int:
        """Let go of the book that is no longer used, if any: how many still are lent."""
        self._take_back(lib.hp_engine_returned_book(self._handle))
        return len(self._lent)

    def _take_back(self, handle: Any) -> None:
        self._lent = [book for book in self._lent if book.handle != handle]

    def kill(self) -> bool:
        """From any thread: no order is sent any more; the latch is set. False when it could not be
        written: then the next engine would trade."""
        return bool(lib.hp_engine_kill(self._handle) == 0)

    def abort(self) -> None:
        """From any thread: whatever waits for the venue gives up."""
        lib.hp_engine_abort(self._handle)

    @property
    def killed(self) -> bool:
        return bool(lib.hp_engine_killed(self._handle))

    @property
    def ready(self) -> bool:
        """A session is open."""
        return bool(lib.hp_engine_ready(self._handle))

    def reason(self) -> str:
        return text(lib.hp_engine_reason(self._handle))

    def carrier(self) -> str:
        """The transport, and what is used of it."""
        return text(lib.hp_engine_transport(self._handle))

    def transport(self) -> str:
        """The same with the TLS version and cipher; by the owning thread."""
        return f"{self.carrier()}, {text(lib.hp_engine_cipher(self._handle))}"

    def stats(self) -> dict[str, int]:
        """Counters, by their names in hp_stats."""
        stats = ffi.new("hp_stats *")
        lib.hp_engine_stats(self._handle, stats)
        return {name: getattr(stats, name) for name, _ in ffi.typeof("hp_stats").fields}

    def latency_ns(self) -> dict[str, dict[str, int]]:
        """By stage: count, and p50, p90, p99, p999 and max in ns (nearest rank, within 1/128)."""
        latency = ffi.new("hp_latency *")
        table = {}
        for number, stage in enumerate(STAGES):
            check(lib.hp_engine_latency(self._handle, number, latency))
            table[stage] = {
                "count": latency.count,
                "p50": latency.p50_ns,
                "p90": latency.p90_ns,
                "p99": latency.p99_ns,
                "p999": latency.p999_ns,
                "max": latency.max_ns,
            }
        return table


def _packed(struct: str, fields: Mapping[str, Any]) -> bytes:
    return bytes(ffi.buffer(ffi.new(f"{struct} *", fields)))


def _scratch_journal(engine: Engine) -> Journal:
    folder = Path(tempfile.mkdtemp(prefix="harpoon-journal-"))
    journal = Journal(folder, _SCRATCH_SEGMENT_BYTES)
    weakref.finalize(engine, _discard, journal)
    return journal


def _discard(journal: Journal) -> None:
    journal.close()
    shutil.rmtree(journal.folder, ignore_errors=True)


def _venue_address(venue: VenueAddress) -> tuple[Any, list[Any]]:
    """hp_venue_address, and the strings that must live as long."""
    alive = [ffi.new("char[]", value.encode()) for value in (venue.ip, venue.host, venue.path)]
    ca_file = ffi.NULL
    if venue.ca_file is not None:
        ca_file = ffi.new("char[]", str(venue.ca_file).encode())
    address = ffi.new(
        "hp_venue_address *",
        {
            "ip": alive[0],
            "host": alive[1],
            "path": alive[2],
            "ca_file": ca_file,
            "timeout_ns": venue.timeout_ns,
            "port": venue.port,
        },
    )
    return address, [*alive, ca_file]


def _not_to_be_opened(venue: VenueAddress, code: int) -> VenueError:
    where = venue.ca_file or "the system's trust store"
    return venue_error(code, f"{where}: {text(lib.hp_strerror(code))}")


def venue_error(code: int, reason: str) -> VenueError:
    """Why there is no session, with the cure."""
    cures = {
        lib.HP_ETLS_CERT: "set venue.ca_file to the CA that signed it, or correct venue.url",
        lib.HP_ETLS_CA: "point venue.ca_file at a readable PEM file",
        lib.HP_ETLS: "check that venue.url names a TLS (wss) port",
        lib.HP_EWS_UPGRADE: "check the path in venue.url, and that your address is not blocked",
        lib.HP_EWS_ACCEPT: "check that venue.url is a WebSocket server and no proxy is in between",
        lib.HP_ETIME_OUT: "check the network and venue.url, or raise venue.timeout_s",
        lib.HP_ECONN_CLOSED: "check that venue.url names a TLS (wss) port of the exchange",
    }
    for words, cure in _TLS_CURES.items():
        if code in (lib.HP_ETLS, lib.HP_ETLS_CERT) and words in reason:
            return VenueError(f"{reason}; {cure}")
    cure = cures.get(code, "check venue.url and that the exchange is up")
    return VenueError(f"{reason}; {cure}")


# By OpenSSL's words.
_TLS_CURES = {
    "expired": "check this machine's clock (`timedatectl`), else the exchange must renew it",
    "not yet valid": "check this machine's clock (`timedatectl`)",
    "mismatch": "correct the host in venue.url: what answers there is another one",
    "too weak": "nobody can be sure who that is: the exchange must renew it",
    "too small": "nobody can be sure who that is: the exchange must renew it",
    "protocol version": "the server speaks no TLS 1.2 or later: check venue.url",
    "unsupported protocol": "the server speaks no TLS 1.2 or later: check venue.url",
}
