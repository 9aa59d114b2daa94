"""From the trigger to send returned, for each way of sealing an order, beside a bare send(2)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import product

from engine.core import EngineOptions
from harpoon_bench.engines import LIVE, connected_engine
from harpoon_bench.send import PAUSES, Samples, measure, peer
from harpoon_bench.table import Row, medians, quantiles

AHEAD, AT_TRIGGER = "sealed ahead", "sealed at the trigger"
# AHEAD belongs here as soon as the engine can, then AT_TRIGGER is that switched off.
SEALINGS: Mapping[str, EngineOptions] = {AT_TRIGGER: LIVE}
STAGE = "fire_total"
TARGETS = {AHEAD: (1.10, 1.3), AT_TRIGGER: (None, None)}  # times a bare send, p50 and p99
ABOVE_AHEAD_NS = 2_500  # what sealing at the trigger may cost more

Quantiles = Mapping[str, int]


def rows(rounds: int, sends: int) -> list[Row]:
    before = os.sched_getaffinity(0)
    *others, cpu = sorted(before)
    taken: dict[tuple[str, str], list[Samples]] = {which: [] for which in product(PAUSES, SEALINGS)}
    with peer(others) as child:
        there = child.hear()
        os.sched_setaffinity(0, {cpu})
        try:
            engines = {name: connected_engine(there, opts) for name, opts in SEALINGS.items()}
            for _ in range(rounds):
                for (pause, sealing), samples in taken.items():
                    samples.append(
                        measure(engines[sealing], there["sink_port"], sends, PAUSES[pause])
                    )
            for engine in engines.values():
                engine.close()
        finally:
            os.sched_setaffinity(0, before)
    return [row for pause in PAUSES for row in _rows(pause, taken)]


def _rows(pause: str, taken: Mapping[tuple[str, str], list[Samples]]) -> list[Row]:
    ours = {
        sealing: medians([quantiles(s.stages[STAGE]) for s in taken[pause, sealing]])
        for sealing in SEALINGS
    }
    table = []
    for sealing, took_ns in ours.items():
        samples = taken[pause, sealing]
        bare = medians([quantiles(s.bare) for s in samples])
        what = f"send(2) of {samples[0].order_bytes} B"
        table.append(Row(_name(pause, sealing), "ns", took_ns, what, bare, *TARGETS[sealing]))
    if AHEAD in ours:
        bound = {name: ns + ABOVE_AHEAD_NS for name, ns in ours[AHEAD].items()}
        what = f"{AHEAD} + {ABOVE_AHEAD_NS:,} ns"
        table.append(Row(_name(pause, AT_TRIGGER), "ns", ours[AT_TRIGGER], what, bound, 1.0))
    return table


def _name(pause: str, sealing: str) -> str:
    return f"trigger to send returned, {pause}, {sealing}"
