"""Books from a thousand to a hundred million addresses beside other sets: a table, and a picture.

    python -m harpoon_bench.plot_book [--most 1e8] [--sets DIR/sets.cpp] [--png FILE]

The sets of C++ need g++, robin-map-dev and libabsl-dev, the picture needs matplotlib. 10^8 entries
take 5 GiB while they are built."""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from cffi import FFI

from harpoon_bench._floor import ffi as loop_ffi
from harpoon_bench._floor import lib as loop
from harpoon_bench.kernels_book import QUERIES, ROUNDS, measure, python_set_ps

SIZES = (10**3, 10**4, 10**5, 10**6, 10**7, 10**8)
MOST = {"python": 10**6, "std": 10**7, "robin": 10**7, "absl": 10**7}  # they need memory
NAMES = {
    "python": "set of Python",
    "std": "std::unordered_set",
    "robin": "tsl::robin_set",
    "absl": "absl::flat_hash_set",
}


@dataclass(frozen=True)
class Point:
    """One set of one size; medians."""

    name: str
    entries: int
    miss_ns: float
    entry_bytes: float | None = None  # None: not measured
    build_s: float | None = None


def points_of_book(entries: int) -> Iterator[Point]:
    m = measure(entries)
    size = m.bytes / entries
    yield Point("harpoon, back to back", entries, median(m.miss_ps) / 1e3, size, m.build_ns / 1e9)
    yield Point("harpoon, alone", entries, median(m.miss_alone_ps) / 1e3)
    yield Point("dependent load", entries, median(m.load_ps) / 1e3)


def point_of_python(entries: int) -> Point:
    return Point(NAMES["python"], entries, median(python_set_ps(entries)) / 1e3)


class CppSets:
    """sets.cpp, compiled."""

    def __init__(self, source: Path, folder: Path) -> None:
        out = folder / "sets.so"
        libraries = ["pkg-config", "--cflags", "--libs", "absl_flat_hash_set", "absl_hash"]
        flags = subprocess.run(libraries, check=True, capture_output=True, text=True).stdout.split()
        compiler = ["g++", "-std=c++17", "-O3", "-shared", "-fPIC", str(source), "-o", str(out)]
        subprocess.run([*compiler, *flags], check=True)
        self._ffi = FFI()
        for kind in ("std", "robin", "absl"):
            self._ffi.cdef(
                f"void *set_new_{kind}(); void set_free_{kind}(void *); uint64_t set_allocated();"
                f"uint32_t set_find_{kind}(const void *, const uint8_t *, size_t);"
                f"int set_add_{kind}(void *, const uint8_t *, size_t, uint32_t);",
                override=True,
            )
        self._lib: Any = self._ffi.dlopen(str(out))

    def point(self, kind: str, entries: int) -> Point:
        before = self._lib.set_allocated()
        table = getattr(self._lib, f"set_new_{kind}")()
        start_ns = time.perf_counter_ns()
        loop.hp_loop_fill(self._address(f"set_add_{kind}"), self._number(table), entries, 0)
        build_ns = time.perf_counter_ns() - start_ns
        entry_bytes = (self._lib.set_allocated() - before) / entries
        scripts = loop_ffi.new("hp_loop_script[]", QUERIES)
        samples = []
        for number in range(ROUNDS):
            loop.hp_loop_scripts(entries + number * QUERIES, QUERIES, scripts)
            find = self._address(f"set_find_{kind}"), self._number(table)
            samples.append(loop.hp_loop_find_ns(*find, scripts, QUERIES, 0xFFFF) / QUERIES)
        getattr(self._lib, f"set_free_{kind}")(table)
        return Point(NAMES[kind], entries, median(samples), entry_bytes, build_ns / 1e9)

    def _address(self, name: str) -> int:
        return self._number(self._ffi.addressof(self._lib, name))

    def _number(self, pointer: Any) -> int:
        return int(self._ffi.cast("uintptr_t", pointer))


def all_points(most: int, sets: CppSets | None) -> Iterator[Point]:
    for entries in (size for size in SIZES if size <= most):
        yield from points_of_book(entries)
        gc.collect()
        if entries <= MOST["python"]:
            yield point_of_python(entries)
        for kind in ("std", "robin", "absl") if sets else ():
            if entries <= MOST[kind]:
                yield sets.point(kind, entries)  # type: ignore[union-attr]


def cell(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def draw(points: list[Point], png: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    for name in dict.fromkeys(point.name for point in points):
        mine = [point for point in points if point.name == name]
        ours = name.startswith("harpoon")
        axes.plot(
            [p.entries for p in mine],
            [p.miss_ns for p in mine],
            marker="o",
            linewidth=2.5 if ours else 1.2,
            linestyle="--" if name == "dependent load" else "-",
            label=name,
        )
    axes.set(xscale="log", yscale="log", xlabel="addresses in the book", ylabel="ns for a miss")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(png, dpi=120, bbox_inches="tight")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--most", type=float, default=1e8)
    parser.add_argument("--sets", type=Path)
    parser.add_argument("--png", type=Path)
    options = parser.parse_args()
    points = []
    with tempfile.TemporaryDirectory() as folder:
        sets = CppSets(options.sets, Path(folder)) if options.sets else None
        print("| set | entries | miss, ns | bytes/entry | build, s |\n|---|--:|--:|--:|--:|")
        for p in all_points(int(options.most), sets):
            points.append(p)
            print(
                f"| {p.name} | {p.entries:,} | {p.miss_ns:.1f} | {cell(p.entry_bytes, 2)} "
                f"| {cell(p.build_s, 3)} |",
                flush=True,
            )
    if options.png:
        draw(points, options.png)
    return 0


if __name__ == "__main__":
    sys.exit(main())
