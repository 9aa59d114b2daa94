"""The C engine as a Python object: one thread owns it, feeds it transactions, reads its events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine._native import check, ffi, lib, text
from engine.address import address_of
from engine.book import Book
from engine.crypto import implementation
from engine.errors import BookError, VenueError
from engine.tx import display
from engine.venues.binance import OrderTemplate

STAGES = (
    "decode",
    "decide",
    "build",
    "sign",
    "frame",
    "seal",
    "send",
    "fire_total",
    "rawtx_to_send",
)
KINDS = {
    lib.HP_DEPOSIT: "deposit",
    lib.HP_WITHDRAWAL: "withdrawal",
    lib.HP_INTERNAL: "internal",
    lib.HP_SWEEP: "sweep",
}
REFUSALS = {
    lib.HP_REFUSED_KILLED: "killed",
    lib.HP_REFUSED_NOT_READY: "not-ready",
    lib.HP_REFUSED_MAX_ORDERS: "max-orders",
    lib.HP_REFUSED_COOLDOWN: "cooldown",
    lib.HP_REFUSED_IN_BLOCK: "in-block",
}
UNKNOWN = "unknown"

_MESSAGE_BYTES_MAX = 1 << 20
_SEND_TIMEOUT_NS = 1_000_000_000
_PAYLOAD_BYTES = 4 << 20  # the C side's longest event
_TRANSPORTS = {"io_uring": lib.HP_TRANSPORT_URING, "syscall": lib.HP_TRANSPORT_SYSCALL}


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What the engine is made with; see hp_engine_config. The defaults send nothing."""

    live: bool = False
    min_signal_sat: int = 0
    sweep_inputs_min: int = 6
    max_orders: int = 0
    cooldown_ns: int = 0
    remembered: int = 1 << 21  # outpoints, 34 MB: days of every signal there is, months of whales
    transport: str = "io_uring"  # or "syscall", where that is forbidden


@dataclass(frozen=True, slots=True)
class PaidOutput:
    vout: int
    value_sat: int
    address: str


@dataclass(frozen=True, slots=True)
class Signal:
    """What one transaction is for one exchange it pays; fields as in hp_signal. `rule` is the index
    of the first rule that matches."""

    txid: str
    kind: str
    exchange: str
    source: str
    net_sat: int
    outputs: tuple[PaidOutput, ...]
    outputs_total: int
    n_in: int
    n_out: int
    inputs_recognised: int
    inputs_owned: int
    rule: int | None

    def as_json(self) -> dict[str, object]:
        return {
            "txid": self.txid,
            "kind": self.kind,
            "exchange": self.exchange,
            "source": self.source,
            "net_sat": self.net_sat,
            "outputs": [
                {"vout": o.vout, "value_sat": o.value_sat, "address": o.address}
                for o in self.outputs
            ],
            "outputs_total": self.outputs_total,
            "n_in": self.n_in,
            "n_out": self.n_out,
            "inputs_recognised": self.inputs_recognised,
            "inputs_owned": self.inputs_owned,
        }


@dataclass(frozen=True, slots=True)
class Fired:
    """What became of a signal that a rule chose. `refusal` says which limit said no, `error` why a
    send failed; both are None when it went out (or would have, in dry-run)."""

    client_id: str
    txid: str
    exchange: str
    order: int
    rule: int
    dry_run: bool
    refusal: str | None
    error: str | None
    timestamp_ms: int
    sent_ns: int
    stage_ns: dict[str, int]  # of the stages it went through


@dataclass(frozen=True, slots=True)
class Message:
    """A text message from the venue and when it was taken off the wire."""

    text: bytes
    t_ns: int


@dataclass(frozen=True, slots=True)
class Closed:
    reason: str


Event = Signal | Fired | Message | Closed


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


@dataclass
class Engine:
    """Every method but kill() belongs to the thread that first calls connect, rawtx or poll."""

    book: Book
    options: EngineOptions = field(default_factory=EngineOptions)

    def __post_init__(self) -> None:
        config = ffi.new(
            "hp_engine_config *",
            {
                "min_signal_sat": self.options.min_signal_sat,
                "cooldown_ns": self.options.cooldown_ns,
                "max_orders": self.options.max_orders,
                "send_timeout_ns": _SEND_TIMEOUT_NS,
                "sweep_inputs_min": self.options.sweep_inputs_min,
                "remembered": self.options.remembered,
                "message_bytes_max": _MESSAGE_BYTES_MAX,
                "live": self.options.live,
                "transport": _TRANSPORTS[self.options.transport],
            },
        )
        error = ffi.new("int *")
        handle = lib.hp_engine_new(config, self.book.handle, implementation(), error)
        if handle == ffi.NULL:
            check(error[0], "starting the engine")
        self._handle: Any = ffi.gc(handle, lib.hp_engine_free)
        self._lent: list[Book] = [self.book]
        self._event: Any = ffi.new("hp_event *")
        self._payload: Any = ffi.new("uint8_t[]", _PAYLOAD_BYTES)

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
        numbers = {name: number for number, name in KINDS.items()}
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

    def set_clock_offset(self, offset_ms: int) -> None:
        check(lib.hp_engine_set_clock_offset(self._handle, offset_ms), "setting the clock offset")

    # ---- the owning thread ----------------------------------------------------------------------

    def connect(self, venue: VenueAddress) -> None:
        """Connect, TLS, upgrade; VenueError says what failed."""
        strings = [
            ffi.new("char[]", value.encode()) for value in (venue.ip, venue.host, venue.path)
        ]
        ca_file = ffi.NULL
        if venue.ca_file is not None:
            ca_file = ffi.new("char[]", str(venue.ca_file).encode())
        address = ffi.new(
            "hp_venue_address *",
            {
                "ip": strings[0],
                "host": strings[1],
                "path": strings[2],
                "ca_file": ca_file,
                "timeout_ns": venue.timeout_ns,
                "port": venue.port,
            },
        )
        code = lib.hp_engine_connect(self._handle, address)
        if code == -lib.HP_ETHREAD:
            check(code, "connecting")
        if code < 0:
            raise VenueError(_with_cure(-code, self.reason() or text(lib.hp_strerror(code))))

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
        """While held, every order is refused as not-ready."""
        lib.hp_engine_hold(self._handle, held)

    def close(self) -> None:
        """Say goodbye to the venue; does nothing without a session."""
        check(lib.hp_engine_close(self._handle), "closing the session")

    def events(self) -> Iterator[Event]:
        """Everything that has happened since the last call, in order."""
        while self._next_event():
            yield self._read_event()

    def _next_event(self) -> int:
        code = lib.hp_engine_next_event(self._handle, self._event, self._payload, _PAYLOAD_BYTES)
        return check(code, "reading events")

    def _read_event(self) -> Event:
        kind, length = self._event.kind, self._event.payload_len
        if kind == lib.HP_EVENT_SIGNAL:
            return self._signal(length)
        if kind == lib.HP_EVENT_ORDER:
            return self._fired(ffi.cast("hp_order_event *", self._payload))
        data = bytes(ffi.buffer(self._payload, length))
        if kind == lib.HP_EVENT_MESSAGE:
            return Message(data, self._event.t_ns)
        return Closed(data.decode("utf-8", "replace"))

    def _signal(self, length: int) -> Signal:
        s = ffi.cast("hp_signal *", self._payload)
        listed = (length - ffi.sizeof("hp_signal")) // ffi.sizeof("hp_paid_output")
        paid = ffi.cast("hp_paid_output *", self._payload + ffi.sizeof("hp_signal"))
        return Signal(
            txid=display(bytes(s.txid)),
            kind=KINDS[s.kind],
            exchange=self.book.exchange_name(s.exchange),
            source=UNKNOWN if s.source == lib.HP_NOBODY else self.book.exchange_name(s.source),
            net_sat=s.net_sat,
            outputs=tuple(_paid_output(paid[i]) for i in range(listed)),
            outputs_total=s.paid_outputs,
            n_in=s.n_in,
            n_out=s.n_out,
            inputs_recognised=s.inputs_recognised,
            inputs_owned=s.inputs_owned,
            rule=None if s.rule < 0 else s.rule,
        )

    def _fired(self, o: Any) -> Fired:
        failed = o.verdict == lib.HP_SEND_FAILED
        return Fired(
            client_id=text(o.client_id),
            txid=display(bytes(o.txid)),
            exchange=self.book.exchange_name(o.exchange),
            order=o.order,
            rule=o.rule,
            dry_run=o.verdict == lib.HP_DRY_RUN,
            refusal=REFUSALS.get(o.verdict),
            error=text(lib.hp_strerror(o.error)) if failed else None,
            timestamp_ms=o.timestamp_ms,
            sent_ns=o.sent_ns,
            stage_ns={s: ns for s, ns in zip(STAGES, o.stage_ns, strict=True) if ns >= 0},
        )

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

    def kill(self) -> None:
        """From any thread: no order is sent any more."""
        lib.hp_engine_kill(self._handle)

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

    def transport(self) -> str:
        """What carries the bytes and its features in use; TLS version and cipher."""
        carrier = text(lib.hp_engine_transport(self._handle))
        return f"{carrier}, {text(lib.hp_engine_cipher(self._handle))}"

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


def _paid_output(paid: Any) -> PaidOutput:
    script = bytes(ffi.buffer(paid.script, paid.script_len))
    address = address_of(script)
    assert address is not None, "only scripts with an address are in a book"
    return PaidOutput(vout=paid.vout, value_sat=paid.value_sat, address=address)


def _with_cure(code: int, reason: str) -> str:
    cures = {
        lib.HP_ETLS_CERT: "set venue.ca_file to the CA that signed it, or correct venue.url",
        lib.HP_ETLS_CA: "point venue.ca_file at a readable PEM file",
        lib.HP_ETLS: "check that venue.url names a TLS (wss) port",
        lib.HP_EWS_UPGRADE: "check the path in venue.url, and that your address is not blocked",
        lib.HP_EWS_ACCEPT: "check that venue.url is a WebSocket server and no proxy is in between",
        lib.HP_ETIME_OUT: "check the network and venue.url, or raise venue.timeout_s",
        lib.HP_ECONN_CLOSED: "check that venue.url names a TLS (wss) port of the exchange",
    }
    cure = cures.get(code, "check venue.url and that the exchange is up")
    return reason if code == lib.HP_ERING else f"{reason}; {cure}"
