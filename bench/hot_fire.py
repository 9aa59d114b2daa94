"""From the trigger to send returned, for orders sealed before it and for orders made at it, beside
a bare send(2)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

from harpoon_bench.children import exchange_on
from harpoon_bench.engines import LIVE, connected_engine
from harpoon_bench.send import PARK, Samples, measure
from harpoon_bench.table import Row, medians, quantiles

STAGE = "fire_total"
ARMED_TARGETS = (1.10, 1.3)  # times a bare send, p50 and p99
ABOVE_ARMED_NS = 2_500  # what sealing at the trigger may cost more


@dataclass(frozen=True)
class Way:
    ahead: bool
    transport: str

    def __str__(self) -> str:
        return f"sealed {'ahead' if self.ahead else 'at the trigger'}, {self.transport}"


AHEAD, AT_TRIGGER = Way(True, "io_uring"), Way(False, "io_uring")
SYSCALL = replace(AHEAD, transport="syscall")
WAYS = (AHEAD, AT_TRIGGER, SYSCALL)

Taken = Mapping[tuple[str, Way], list[Samples]]


def rows(rounds: int, sends: int) -> list[Row]:
    before = os.sched_getaffinity(0)
    *others, cpu = sorted(before)
    taken: dict[tuple[str, Way], list[Samples]] = {which: [] for which in product(PARK, WAYS)}
    with exchange_on(set(others)) as (child, exchange):
        os.sched_setaffinity(0, {cpu})
        try:
            for _ in range(rounds):
                for (pause, way), samples in taken.items():
                    park = PARK[pause]
                    options = replace(LIVE, transport=way.transport, spin=not park)
                    engine = connected_engine(exchange, options)
                    samples.append(measure(engine, exchange["sink_port"], sends, park, way.ahead))
                    engine.close()
                    child.hear()
        finally:
            os.sched_setaffinity(0, before)
    return [row for pause in PARK for row in _rows(pause, taken)]


def _rows(pause: str, taken: Taken) -> list[Row]:
    ours = {
        way: medians([quantiles(samples.stages[STAGE]) for samples in taken[pause, way]])
        for way in WAYS
    }
    table = []
    for way, took_ns in ours.items():
        samples = taken[pause, way]
        bare = medians([quantiles(s.bare) for s in samples])
        what = f"send(2) of {samples[0].order_bytes} B"
        targets = ARMED_TARGETS if way.ahead else (None, None)
        table.append(Row(_name(pause, way), "ns", took_ns, what, bare, *targets))
    bound = {name: ns + ABOVE_ARMED_NS for name, ns in ours[AHEAD].items()}
    what = f"{AHEAD} + {ABOVE_ARMED_NS:,} ns"
    table.append(Row(_name(pause, AT_TRIGGER), "ns", ours[AT_TRIGGER], what, bound, 1.0))
    return table


def _name(pause: str, way: Way) -> str:
    return f"trigger to send returned, {pause}, {way}"
