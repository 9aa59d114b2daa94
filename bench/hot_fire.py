"""From the trigger to send returned, in the ways an order can be sealed, beside a bare send(2)."""

from __future__ import annotations

import os

from harpoon_bench.engines import connected_engine
from harpoon_bench.send import PAUSES, Samples, measure, peer
from harpoon_bench.table import Row, medians, quantiles

STAGE = "fire_total"


def rows(rounds: int, sends: int) -> list[Row]:
    before = os.sched_getaffinity(0)
    *others, cpu = sorted(before)
    taken: dict[str, list[Samples]] = {name: [] for name in PAUSES}
    with peer(others) as child:
        there = child.hear()
        os.sched_setaffinity(0, {cpu})
        try:
            engine = connected_engine(there)
            for _ in range(rounds):
                for name, pause in PAUSES.items():
                    taken[name].append(measure(engine, there["sink_port"], sends, pause))
            engine.close()
        finally:
            os.sched_setaffinity(0, before)
    return [_row(name, samples) for name, samples in taken.items()]


def _row(name: str, samples: list[Samples]) -> Row:
    return Row(
        f"trigger to send returned, {name}, sealed at the trigger",
        "ns",
        medians([quantiles(s.stages[STAGE]) for s in samples]),
        f"send(2) of {samples[0].order_bytes} B",
        medians([quantiles(s.bare) for s in samples]),
    )
