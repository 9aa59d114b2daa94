"""Contenders that take turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harpoon_bench.table import quantiles

WARM_UP = 5


def take_turns(
    contenders: Mapping[str, Callable[[], int]], rounds: int
) -> dict[str, dict[str, int]]:
    """Quantiles of `rounds` samples of each; a contender returns one sample."""
    samples: dict[str, list[int]] = {name: [] for name in contenders}
    for number in range(WARM_UP + rounds):
        for name, contender in contenders.items():
            sample = contender()
            if number >= WARM_UP:
                samples[name].append(sample)
    return {name: quantiles(values) for name, values in samples.items()}
