"""How the simulators misbehave: which faults, how often, in what order. The exchange's are here.

A fault is written NAME[=PROBABILITY][:DURATION], like `drop-after=0.01`, `delay=0.05:200ms` or just
`split` (always). Only the exchange's `skew=MS` is no chance but a state. Every name draws from a
random sequence of its own, so that the same seed meets the same requests with the same faults,
whatever else happens.
"""

from __future__ import annotations

import random
import re
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from engine.errors import ConfigError
from engine.sim.request import ApiError

# Drawn for each request; the first one that hits is applied.
REQUEST_FAULTS = {
    "drop-before": "the connection is cut, the request is not executed",
    "drop-after": "the request is executed, the connection is cut without an answer",
    "status-503": "executed, but answered with status 503",
    "error-1006": "executed, but answered with status 500 and code -1006",
    "error-1007": "executed, but answered with status 500 and code -1007",
    "lost-1007": "not executed, but answered with status 500 and code -1007",
    "429": "not executed: too many requests; DURATION is its retryAfter",
    "418": "not executed: banned for DURATION, and the connection ends",
    "delay": "executed at once, everything that is said to the client waits for DURATION",
    "stop-reading": "nothing from this connection is read any more, so nothing is answered",
    "garbage": "executed, and bytes that are no WebSocket frame come before the answer",
    "not-json": "executed, and a text that is no JSON comes before the answer",
    "huge": "executed, and a message of 16 MiB comes before the answer",
    "shutdown": "executed; serverShutdown is sent, and after DURATION the connection ends",
}
ORDER_FAULTS = {
    "reject": "an order is refused with -2010, not executed",
    "late": "answered with status 500 and code -1007 at once, and executed after DURATION",
} | REQUEST_FAULTS
PROMPT_EVENT_FAULTS = {  # those of an event that another one waits for already
    "lose-event": "a user data event is not sent",
    "duplicate-event": "a user data event is sent twice",
}
EVENT_FAULTS = PROMPT_EVENT_FAULTS | {
    "reorder-event": "a user data event is sent after the next one, or after 100 ms",
}
MESSAGE_FAULTS = {
    "split": "a message goes out byte by byte, each its own TLS record and TCP segment",
    "coalesce": "a message waits up to 20 ms for the next ones and goes out together with them",
}
PING_FAULTS = {"no-pong": "a client's ping is not answered"}
MARKET_FAULTS = {"lose-quote": "a best bid and ask is not sent on the market streams"}
FAULTS = {
    **(ORDER_FAULTS | EVENT_FAULTS | MESSAGE_FAULTS | PING_FAULTS | MARKET_FAULTS),
    "skew=MS": "the venue's clock is so far ahead, or behind as with skew=-700",
}

# What a fault answers: status, code and message (errors.md) ...
_TIMEOUT = (
    *(500, -1007),
    "Timeout waiting for response from backend server. "
    "Send status unknown; execution status unknown.",
)
UNKNOWN_OUTCOMES = {  # ... to a request that was executed ("Status codes", 5XX)
    "status-503": (503, -1000, "An unknown error occurred while processing the request."),
    "error-1006": (
        *(500, -1006),
        "An unexpected response was received from the message bus. Execution status unknown.",
    ),
    "error-1007": _TIMEOUT,
}
REFUSALS = {  # ... to one that was not
    "reject": (400, -2010, "This action is disabled on this account."),
    "lost-1007": _TIMEOUT,
    "429": (
        *(429, -1003),
        "Too much request weight used; current limit is 6000 request weight per 1 MINUTE. "
        "Please use WebSocket Streams for live updates to avoid polling the API.",
    ),
    "418": (
        *(418, -1003),
        "Way too much request weight used; IP banned until {}. "
        "Please use WebSocket Streams for live updates to avoid bans.",
    ),
}
ANSWERS = UNKNOWN_OUTCOMES | REFUSALS | {"late": _TIMEOUT}

# Where a spec names none.
DURATIONS_S = {"late": 3.0, "delay": 0.2, "429": 1.0, "418": 120.0, "shutdown": 1.0}
_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
SPEC = re.compile(rf"([a-z0-9-]+)(?:=({_NUMBER}))?(?::({_NUMBER})(ms|s))?")
SKEW = re.compile(r"skew=(-?[0-9]{1,9})")


@dataclass(frozen=True)
class Fault:
    """`probability` is that of one draw; `duration_s` is 0 where it means nothing."""

    name: str
    probability: float = 1.0
    duration_s: float = 0.0


def parse_fault(spec: str, names: Collection[str], durations_s: Mapping[str, float]) -> Fault:
    """ConfigError when `spec` is none of `names`, or its numbers are none. A time may only be given
    to one of `durations_s`, which it has by default."""
    match = SPEC.fullmatch(spec)
    if match is None or match[1] not in names or (match[3] and match[1] not in durations_s):
        raise ConfigError(
            f"{spec!r} is not a fault: write NAME, NAME=PROBABILITY or NAME=PROBABILITY:200ms with "
            f"one of the names {', '.join(names)}; a time goes only with {', '.join(durations_s)}."
        )
    name, probability, amount, unit = match.groups()
    fault = Fault(
        name,
        1.0 if probability is None else float(probability),
        float(amount) / (1000 if unit == "ms" else 1) if amount else durations_s.get(name, 0.0),
    )
    if fault.probability > 1:
        raise ConfigError(f"{spec!r} is no probability: give one from 0 to 1, like {name}=0.01.")
    return fault


@dataclass(frozen=True)
class FaultEntry:
    """A fault that was applied, as the ledger has it."""

    fault: str
    at_ns: int  # CLOCK_REALTIME
    entry: str = field(default="fault", init=False)


def fault_error(fault: Fault, now_ms: int) -> ApiError:
    """What a fault which answers says at the venue's time `now_ms`."""
    status, code, msg = ANSWERS[fault.name]
    if status not in (418, 429):
        return ApiError(code, msg, status)
    retry_ms = now_ms + int(fault.duration_s * 1000)  # "IP limits"
    data = {"serverTime": now_ms, "retryAfter": retry_ms}
    return ApiError(code, msg.format(retry_ms), status, data)


class FaultPlan:
    """What will go wrong. `applied` counts what did, by name; `skew_ms` is for the venue's clock.

    ConfigError when one of `specs` is wrong; `names` and `durations_s` as in `parse_fault`.
    """

    def __init__(
        self,
        specs: Iterable[str] = (),
        seed: int = 0,
        names: Collection[str] = FAULTS,
        durations_s: Mapping[str, float] = DURATIONS_S,
    ) -> None:
        self.skew_ms = 0
        self.applied: Counter[str] = Counter()
        self._names, self._durations_s = names, durations_s
        self._faults: dict[str, Fault] = {}
        self._forced: deque[Fault] = deque()
        for spec in specs:
            skew = SKEW.fullmatch(spec)
            if skew and "skew=MS" in names:
                self.skew_ms = int(skew[1])
            else:
                fault = self._parse(spec)
                self._faults[fault.name] = fault
        self._random = {name: random.Random(f"{seed} {name}") for name in self._faults}

    def next(self, spec: str) -> None:
        """Whatever the chances: the next draw that could have this fault has it, once. Several wait
        for each other in the order they were given."""
        self._forced.append(self._parse(spec))

    @property
    def is_calm(self) -> bool:
        """Whether nothing can go wrong now."""
        return not self._faults and not self._forced

    def draw(self, names: Collection[str]) -> Fault | None:
        """The fault, one of `names`, that is applied now, if any."""
        fault = self._take_forced(names) or self._roll(names)
        if fault is not None:
            self.applied[fault.name] += 1
        return fault

    def _parse(self, spec: str) -> Fault:
        return parse_fault(spec, self._names, self._durations_s)

    def _take_forced(self, names: Collection[str]) -> Fault | None:
        for fault in self._forced:
            if fault.name in names:
                self._forced.remove(fault)
                return fault
        return None

    def _roll(self, names: Collection[str]) -> Fault | None:
        """All dice roll each time, so that one fault's hits do not shift another's sequence."""
        possible = [self._faults[name] for name in names if name in self._faults]
        rolled = [f for f in possible if self._random[f.name].random() < f.probability]
        return rolled[0] if rolled else None
