"""Chaos: seeded runs of the engine against a venue and a node with faults, killed and restarted.

    python tests/chaos.py --seed 7              one run; what it planned and what is wrong
    python tests/chaos.py --runs 500 --jobs 2   seeds 1 to 500

A line for each failure, with the command that repeats it and the folder that is left of it. The
exit status is 0 when there was none. With --passed FILE the seeds that pass are kept there, and not
run again by the next call: a campaign can be interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pprint
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from chaos_checks import violations
from chaos_plan import draw
from chaos_run import perform


@dataclass(frozen=True)
class Outcome:
    """Of one seed. `folder` holds what is left of it, None when it is gone."""

    seed: int
    violations: tuple[str, ...]
    counts: Counter[str]
    folder: Path | None
    elapsed_s: float


def run_seed(seed: int, keep: bool = False, parent: Path | None = None) -> Outcome:
    """A run and its verdict. Its folder, in `parent`, stays when something is wrong, or when it
    shall."""
    folder = Path(tempfile.mkdtemp(prefix=f"harpoon-chaos-{seed}-", dir=parent))
    plan = draw(seed)
    (folder / "plan.txt").write_text(pprint.pformat(plan, width=100) + "\n")
    started = time.monotonic()
    try:
        evidence, counts = asyncio.run(perform(plan, folder))
        found = violations(evidence)
        counts.update(orders=len(evidence.orders), intents=len(evidence.intents))
        counts.update(f"refused {why}" for _, why in evidence.verdicts if why)
        counts.update(f"order {belief.status}" for belief in evidence.beliefs.values())
        (folder / "evidence.txt").write_text(pprint.pformat(evidence, width=100) + "\n")
    except Exception as error:  # one run that breaks must not end a campaign of hundreds
        found, counts = [f"the run itself failed: {error!r}"], Counter()
    if not found and not keep:
        shutil.rmtree(folder)
    return Outcome(
        seed,
        tuple(found),
        counts,
        folder if found or keep else None,
        time.monotonic() - started,
    )


def campaign(seeds: Sequence[int], jobs: int, keep: bool) -> Iterable[Outcome]:
    """Each as soon as it is known."""
    with ProcessPoolExecutor(jobs, initializer=_leave_interrupts) as pool:
        futures = [pool.submit(run_seed, seed, keep) for seed in seeds]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _leave_interrupts() -> None:
    """Ctrl-C is the campaign's: a run that has begun comes to its end and cleans up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def report(outcome: Outcome) -> None:
    for words in outcome.violations:
        print(f"seed {outcome.seed}: {words}")
    if outcome.violations:
        print(f"  again: {sys.executable} tests/chaos.py --seed {outcome.seed}")
    if outcome.folder is not None:
        print(f"  left in {outcome.folder}")
    sys.stdout.flush()


def summary(outcomes: Sequence[Outcome], left_out: int) -> str:
    total: Counter[str] = Counter()
    for outcome in outcomes:
        total.update(outcome.counts)
    failed = sum(bool(outcome.violations) for outcome in outcomes)
    rows = [
        ("runs", len(outcomes)),
        ("failed", failed),
        *([("passed before", left_out)] if left_out else []),
        *sorted(total.items()),
    ]
    return "\n".join(f"{name:<24} {number:>8,}" for name, number in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    first = 1 if options.seed is None else options.seed
    runs = options.runs or (1 if options.seed is not None else 500)
    passed = _read_passed(options.passed)
    seeds = [seed for seed in range(first, first + runs) if seed not in passed]
    outcomes = []
    for outcome in campaign(seeds, options.jobs, options.keep):
        outcomes.append(outcome)
        report(outcome)
        if options.passed and not outcome.violations:
            with options.passed.open("a") as file:
                print(outcome.seed, file=file)
    print(summary(outcomes, runs - len(seeds)))
    return 1 if any(outcome.violations for outcome in outcomes) else 0


def _read_passed(file: Path | None) -> set[int]:
    if file is None or not file.exists():
        return set()
    return set(map(int, file.read_text().split()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, metavar="N", help="the first seed; default 1")
    parser.add_argument("--runs", type=int, metavar="K", help="default 1 with --seed, else 500")
    parser.add_argument(
        "--jobs",
        type=int,
        default=min(2, os.cpu_count() or 1),
        metavar="J",
        help="at the same time",
    )
    parser.add_argument("--keep", action="store_true", help="keep the folders of good runs too")
    parser.add_argument(
        "--passed", type=Path, metavar="FILE", help="seeds that need not be run again"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
