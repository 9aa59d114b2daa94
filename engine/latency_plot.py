"""The picture of `harpoon latency --png`: percentiles of every stage, drawn by matplotlib. Both
axes are logarithmic, each nine as wide as the next: 90, 99, 99.9 %."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from engine.latency import Latency, duration

_TOTALS = ("fire_total", "rawtx_to_send")
_STEPS = 400  # of a line
_LABEL_SHARE = 0.036  # of the picture's height, that a name takes


def draw(stages: Sequence[Latency], file: Path, name: str) -> None:
    """A PNG of any file name."""
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    axes = figure.subplots()
    colours = {stage.stage: f"C{number}" for number, stage in enumerate(stages)}
    colours |= dict(zip(_TOTALS, ("black", "crimson"), strict=True))
    for stage in stages:
        _draw_stage(axes, stage, colours[stage.stage])
    _set_axes(axes, max(map(_end_of, stages)))
    _name_lines(axes, stages, colours)
    orders = max(len(stage.sorted_ns) for stage in stages)
    axes.set_title(f"{name}: latency of {orders:,} orders, stage by stage", loc="left")
    figure.savefig(file, dpi=120, format="png")


def _end_of(stage: Latency) -> float:
    """How many nines its number of durations can tell; its line ends there."""
    return math.log10(len(stage.sorted_ns) + 1)


def _draw_stage(axes: Any, stage: Latency, colour: str) -> None:
    nines = [_end_of(stage) * step / _STEPS for step in range(_STEPS + 1)]
    times = [max(1, stage.at(1 - 10**-n)) for n in nines]
    total = stage.stage in _TOTALS
    dashes = "--" if stage.stage == _TOTALS[-1] else "-"
    axes.plot(nines, times, color=colour, linewidth=2.2 if total else 1.7, linestyle=dashes)


def _set_axes(axes: Any, end: float) -> None:
    ticks = {"0 %": 0.0, "50 %": math.log10(2)}
    ticks |= {f"{100 - 100 / 10**n:.{max(0, n - 2)}f} %": n for n in range(1, int(end) + 1)}
    axes.set_xticks(list(ticks.values()), list(ticks))
    axes.set_xlim(0, end * 1.14)  # room for the names
    axes.set_xlabel("share of the orders that were as fast, or faster")
    axes.set_yscale("log")
    axes.set_ylabel("time")
    axes.set_ylim(top=1.6 * axes.get_ylim()[1])
    axes.set_ylim(top=1.6 * axes.get_ylim()[1])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda ns, _: duration(ns)))
    axes.grid(which="major", color="0.85", linewidth=0.8)
    axes.grid(which="minor", axis="y", color="0.94", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _name_lines(axes: Any, stages: Sequence[Latency], colours: dict[str, str]) -> None:
    """Each line's name at its end, moved up where two would touch."""
    bottom, top = (math.log10(edge) for edge in axes.get_ylim())
    at = -math.inf
    for stage in sorted(stages, key=lambda stage: stage.sorted_ns[-1]):
        at = max(math.log10(max(1, stage.sorted_ns[-1])), at + (top - bottom) * _LABEL_SHARE)
        axes.annotate(
            stage.stage,
            (_end_of(stage), 10**at),
            xytext=(8, 0),
            textcoords="offset points",
            color=colours[stage.stage],
            verticalalignment="center",
        )
