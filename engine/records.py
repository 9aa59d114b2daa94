"""What the journal's records say, as Python values: one dataclass for each kind of csrc/harpoon.h's
enum hp_record_kind."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from engine._native import ffi, lib, text
from engine.address import address_of
from engine.tx import display

UNKNOWN = "unknown"


def _names(enum: str, prefix: str) -> dict[int, str]:
    """The names that the header gives to an enumeration's numbers, without their prefix."""
    names = ffi.typeof(f"enum {enum}").elements
    return {
        number: name.removeprefix(prefix).lower().replace("_", "-")
        for number, name in names.items()
        if name.startswith(prefix)
    }


RECORD_KINDS = _names("hp_record_kind", "HP_RECORD_")
SIGNAL_KINDS = _names("hp_kind", "HP_")
REFUSALS = _names("hp_verdict", "HP_REFUSED_")  # docs/risk.md
COMMANDS = _names("hp_command", "HP_COMMAND_")
FEED_NOTES = _names("hp_feed_note_kind", "HP_FEED_")
STAGES = tuple(
    name.replace("-", "_")
    for number, name in sorted(_names("hp_stage", "HP_STAGE_").items())
    if number < lib.HP_STAGES
)
# What says what became of orders, in earlier runs too.
HISTORY = frozenset(
    {
        lib.HP_RECORD_INTENT,
        lib.HP_RECORD_ORDER,
        lib.HP_RECORD_MESSAGE,
        lib.HP_RECORD_CLOSED,
        lib.HP_RECORD_SPENT,
    }
)
STATS = tuple(name for name, _ in ffi.typeof("hp_stats").fields)


@dataclass(frozen=True, slots=True)
class Names:
    """What the numbers in a segment's records stand for, from its preamble, and whose `account` at
    which exchange its orders are of. `hands_off` is the mark (engine/hands_off.py) that its run
    began with."""

    exchanges: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    orders: tuple[Mapping[str, Any], ...] = ()
    markets: tuple[str, ...] = ()
    account: str = ""
    hands_off: str = ""

    @classmethod
    def of(cls, preamble: Mapping[str, Any]) -> Names:
        """Whatever the preamble is: what is of another form is as if it were not there."""
        orders = _list(preamble, "orders")
        return cls(
            exchanges=tuple(map(str, _list(preamble, "exchanges"))),
            rules=tuple(map(str, _list(preamble, "rules"))),
            orders=tuple(order if isinstance(order, dict) else {} for order in orders),
            markets=tuple(map(str, _list(preamble, "markets"))),
            account=str(preamble.get("account", "")),
            hands_off=str(preamble.get("hands_off", "")),
        )

    def exchange(self, number: int) -> str:
        return _at(self.exchanges, number) or f"exchange {number}"

    def source(self, number: int) -> str:
        return UNKNOWN if number == lib.HP_NOBODY else self.exchange(number)

    def rule(self, number: int | None) -> str | None:
        return None if number is None else _at(self.rules, number) or f"rule {number}"

    def order(self, number: int) -> Mapping[str, Any]:
        return _at(self.orders, number) or {}

    def market(self, number: int) -> str:
        return _at(self.markets, number) or f"market {number}"


def _list(preamble: Mapping[str, Any], key: str) -> list[Any]:
    found = preamble.get(key)
    return found if isinstance(found, list) else []


def _at(values: tuple[Any, ...], number: int) -> Any:
    return values[number] if 0 <= number < len(values) else None


@dataclass(frozen=True, slots=True)
class Preamble:
    """The beginning of a segment: what its numbers mean, and who wrote it."""

    facts: Mapping[str, Any]


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
        facts = asdict(self)
        del facts["rule"]
        return facts


AMOUNT_E8_MOST = (1 << 61) - 1  # of a price or quantity: AMOUNT_MAX of csrc/risk.c


@dataclass(frozen=True, slots=True)
class Terms:
    """How much is bought or sold; fields as in hp_terms."""

    quantity_e8: int
    price_e8: int
    market: int
    is_sell: bool


@dataclass(frozen=True, slots=True)
class Intent:
    """An order that was about to leave; fields as in hp_intent. `outpoints` are the first of the
    n_in that its transaction spends, as txid:vout. An order of Engine.command_order() has no rule,
    and HP_NO_TEMPLATE for `order`; an exit has its entry's id as `parent`."""

    client_id: str
    txid: str
    kind: str
    exchange: str
    net_sat: int
    order: int
    rule: int | None
    live: bool
    armed: bool
    timestamp_ms: int
    t_rx_ns: int
    t_trigger_ns: int
    n_in: int
    outpoints: tuple[str, ...]
    parent: str = ""
    terms: Terms | None = None
    notional_e8: int = 0
    reduces: bool = False


@dataclass(frozen=True, slots=True)
class Fired:
    """What became of a signal that a rule chose. `refusal` says which limit said no, `error` why a
    send failed; both are None when it went out (or would have, in dry-run)."""

    client_id: str
    txid: str
    exchange: str
    order: int
    rule: int | None
    dry_run: bool
    refusal: str | None
    error: str | None
    armed: bool
    timestamp_ms: int
    sent_ns: int
    session: int  # that it went to, or was tried last
    stage_ns: Mapping[str, int]  # of the stages it went through


@dataclass(frozen=True, slots=True)
class Message:
    """A text message from the venue."""

    text: bytes
    session: int


@dataclass(frozen=True, slots=True)
class Opened:
    cipher: str
    session: int


@dataclass(frozen=True, slots=True)
class Closed:
    """A session ended, or could not be opened. `code` is the positive errno or HP_E..., 0 when we
    closed it."""

    reason: str
    code: int
    was_open: bool
    session: int


@dataclass(frozen=True, slots=True)
class FeedNote:
    """Something about a node's feed: `note` is one of FEED_NOTES."""

    note: str
    endpoint: int
    topic: int
    count: int
    node_sequence: int
    words: str


@dataclass(frozen=True, slots=True)
class Block:
    """A block joined the node's chain, or left it."""

    hash: str
    connected: bool
    endpoint: int


@dataclass(frozen=True, slots=True)
class Command:
    """What the hot thread was told: one of COMMANDS. `session` is what came with it, None for every
    session or none in particular."""

    command: str
    value: int
    error: str | None
    session: int | None


@dataclass(frozen=True, slots=True)
class Stats:
    """The engine's counters, by their names in hp_stats."""

    counters: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Notice:
    words: str


@dataclass(frozen=True, slots=True)
class Spent:
    """The outpoints of a transaction beyond those that its intent lists."""

    txid: str
    outpoints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unknown:
    """A record of a kind, or in a form, that this version does not know."""

    kind: int
    payload: bytes


Body = (
    Preamble
    | Signal
    | Intent
    | Fired
    | Message
    | Opened
    | Closed
    | FeedNote
    | Block
    | Command
    | Stats
    | Notice
    | Spent
    | Unknown
)


@dataclass(frozen=True, slots=True)
class Record:
    """`sequence` counts the records of a journal; a preamble has 0. t_ns is CLOCK_MONOTONIC,
    epoch_ns the same moment since the epoch."""

    sequence: int
    t_ns: int
    epoch_ns: int
    segment: int
    body: Body
    names: Names = field(repr=False)


def left_epoch_ns(record: Record, intent: Intent) -> int:
    """When the order of this record left. The journal's clock lags behind from the moment in which
    the system's is set forward or the machine sleeps (docs/journal.md); the order's own time, which
    is the venue's, does not. The later one makes no order older than it is."""
    return max(record.epoch_ns, intent.timestamp_ms * 1_000_000)


def decode(kind: int, payload: bytes, names: Names) -> Body:
    """The body of a record; Unknown for one that is not as csrc/harpoon.h describes it."""
    decoder = _DECODERS.get(kind)
    if decoder is None:
        return Unknown(kind, payload)
    try:
        return decoder(payload, names)
    except _FormError:
        return Unknown(kind, payload)


class _FormError(Exception):
    """The payload is not what its kind says."""


def _cut(payload: bytes, struct: str) -> tuple[Any, bytes]:
    """The C struct that the payload begins with, and what follows it."""
    size = ffi.sizeof(struct)
    if len(payload) < size:
        raise _FormError
    head = ffi.new(f"{struct} *")
    ffi.memmove(head, payload, size)
    return head, payload[size:]


def _words(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _outpoints(data: bytes) -> tuple[str, ...]:
    size = lib.HP_OUTPOINT_BYTES
    if len(data) % size:
        raise _FormError
    return tuple(
        f"{display(data[at : at + 32])}:{int.from_bytes(data[at + 32 : at + size], 'little')}"
        for at in range(0, len(data), size)
    )


def outpoint_bytes(outpoint: str) -> bytes:
    """txid:vout as a transaction has it, 36 bytes."""
    txid, _, vout = outpoint.partition(":")
    return bytes.fromhex(txid)[::-1] + int(vout).to_bytes(4, "little")


def _client_id(chars: Any) -> str:
    return bytes(ffi.buffer(chars)).split(b"\0")[0].decode("ascii", "replace")


def _rule(number: int) -> int | None:
    return None if number < 0 else number


def _preamble(payload: bytes, _: Names) -> Preamble:
    try:
        facts = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise _FormError from error
    if not isinstance(facts, dict):
        raise _FormError
    return Preamble(facts)


def _signal(payload: bytes, names: Names) -> Signal:
    s, rest = _cut(payload, "hp_signal")
    size = ffi.sizeof("hp_paid_output")
    if len(rest) % size:
        raise _FormError
    return Signal(
        txid=display(bytes(s.txid)),
        kind=SIGNAL_KINDS.get(s.kind, UNKNOWN),
        exchange=names.exchange(s.exchange),
        source=names.source(s.source),
        net_sat=s.net_sat,
        outputs=tuple(_paid_output(rest[at : at + size]) for at in range(0, len(rest), size)),
        outputs_total=s.paid_outputs,
        n_in=s.n_in,
        n_out=s.n_out,
        inputs_recognised=s.inputs_recognised,
        inputs_owned=s.inputs_owned,
        rule=_rule(s.rule),
    )


def _paid_output(data: bytes) -> PaidOutput:
    paid, _ = _cut(data, "hp_paid_output")
    script = bytes(ffi.buffer(paid.script))[: paid.script_len]
    return PaidOutput(paid.vout, paid.value_sat, address_of(script) or script.hex())


def _intent(payload: bytes, names: Names) -> Intent:
    i, rest = _cut(payload, "hp_intent")
    return Intent(
        client_id=_client_id(i.client_id),
        txid=display(bytes(i.txid)),
        kind=SIGNAL_KINDS.get(i.kind, UNKNOWN),
        exchange=names.source(i.exchange),
        net_sat=i.net_sat,
        order=i.order,
        rule=_rule(i.rule),
        live=bool(i.live),
        armed=bool(i.armed),
        timestamp_ms=i.timestamp_ms,
        t_rx_ns=i.t_rx_ns,
        t_trigger_ns=i.t_trigger_ns,
        n_in=i.n_in,
        outpoints=_outpoints(rest),
        parent=_client_id(i.parent),
        terms=_terms(i.terms),
        notional_e8=i.notional_e8,
        reduces=bool(i.reduces),
    )


def _terms(t: Any) -> Terms | None:
    if t.quantity_e8 == 0:
        return None
    return Terms(t.quantity_e8, t.price_e8, t.market, bool(t.is_sell))


def _order(payload: bytes, names: Names) -> Fired:
    o, _ = _cut(payload, "hp_order_event")
    failed = o.verdict == lib.HP_SEND_FAILED
    return Fired(
        client_id=_client_id(o.client_id),
        txid=display(bytes(o.txid)),
        exchange=names.source(o.exchange),
        order=o.order,
        rule=_rule(o.rule),
        dry_run=o.verdict == lib.HP_DRY_RUN,
        refusal=REFUSALS.get(o.verdict),
        error=text(lib.hp_strerror(o.error)) if failed else None,
        armed=bool(o.armed),
        timestamp_ms=o.timestamp_ms,
        sent_ns=o.sent_ns,
        session=o.session,
        stage_ns={s: ns for s, ns in zip(STAGES, o.stage_ns, strict=True) if ns >= 0},
    )


def _message(payload: bytes, _: Names) -> Message:
    note, rest = _cut(payload, "hp_session_note")
    return Message(rest, note.session)


def _opened(payload: bytes, _: Names) -> Opened:
    note, rest = _cut(payload, "hp_session_note")
    return Opened(_words(rest), note.session)


def _closed(payload: bytes, _: Names) -> Closed:
    c, rest = _cut(payload, "hp_closed_note")
    return Closed(_words(rest), -c.error, bool(c.was_open), c.session)


def _feed(payload: bytes, _: Names) -> FeedNote:
    f, rest = _cut(payload, "hp_feed_note")
    note = FEED_NOTES.get(f.kind, f"note {f.kind}")
    return FeedNote(note, f.endpoint, f.topic, f.count, f.sequence, _words(rest))


def _block(payload: bytes, _: Names) -> Block:
    b, _rest = _cut(payload, "hp_block_note")
    return Block(display(bytes(b.hash)), b.label == ord("C"), b.endpoint)


def _command(payload: bytes, _: Names) -> Command:
    c, _rest = _cut(payload, "hp_command_note")
    error = text(lib.hp_strerror(c.error)) if c.error else None
    command = COMMANDS.get(c.command, f"command {c.command}")
    session = None if c.session == lib.HP_EVERY_SESSION else c.session
    return Command(command, c.value, error, session)


def _stats(payload: bytes, _: Names) -> Stats:
    stats, _rest = _cut(payload, "hp_stats")
    return Stats({name: getattr(stats, name) for name in STATS})


def _spent(payload: bytes, _: Names) -> Spent:
    if len(payload) < 32:
        raise _FormError
    return Spent(display(payload[:32]), _outpoints(payload[32:]))


_DECODERS: Mapping[int, Callable[[bytes, Names], Body]] = {
    lib.HP_RECORD_PREAMBLE: _preamble,
    lib.HP_RECORD_SIGNAL: _signal,
    lib.HP_RECORD_INTENT: _intent,
    lib.HP_RECORD_ORDER: _order,
    lib.HP_RECORD_MESSAGE: _message,
    lib.HP_RECORD_OPENED: _opened,
    lib.HP_RECORD_CLOSED: _closed,
    lib.HP_RECORD_FEED: _feed,
    lib.HP_RECORD_BLOCK: _block,
    lib.HP_RECORD_COMMAND: _command,
    lib.HP_RECORD_STATS: _stats,
    lib.HP_RECORD_NOTICE: lambda payload, _: Notice(_words(payload)),
    lib.HP_RECORD_SPENT: _spent,
}
