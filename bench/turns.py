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
    order = list(contenders)
    for number in range(WARM_UP + rounds):
        for name in order:
            sample = contenders[name]()
            if number >= WARM_UP:
                samples[name].append(sample)
        order.append(order.pop(0))  # nobody always comes after the slowest
    return {name: quantiles(values) for name, values in samples.items()}
