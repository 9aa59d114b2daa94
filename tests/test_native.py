"""The C programs of tests/c and tests/fuzz: the first under sanitizers, the second for a moment."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from .native import (
    AS_SHIPPED,
    BLOCKS,
    DEBUG,
    FUZZED,
    SANITIZED,
    build,
    fuzz,
    missing_fuzzer,
    programs,
    real_transactions,
    run,
    write_corpus,
)

FUZZ_RUNS = {
    "fuzz_tx": 100_000,
    "fuzz_book": 10_000,
    "fuzz_journal": 10_000,
    "fuzz_ws": 100_000,
    "fuzz_zmtp": 20_000,
}


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the compiled C library is kept for all workers of this run."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.mark.parametrize("program", programs("c"), ids=lambda path: path.stem)
@pytest.mark.parametrize(
    ("compiler", "flags"), [("gcc", ()), ("clang", ("-U__SSE2__",))]
)  # without: portable
def test_c_program_under_sanitizers(
    compiler: str, flags: tuple[str, ...], program: Path, tmp_path: Path, libraries: Path
) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no {compiler}")
    binary = build(
        compiler, program, tmp_path, [*SANITIZED, *flags], libraries
    )  # without SSE2: portable
    done = run([str(binary)])
    assert done.returncode == 0, done.stderr


def test_signing_leaves_no_midstate_on_the_stack(tmp_path: Path, libraries: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc")
    program = next(path for path in programs("c") if path.stem == "hmac")
    done = run([str(build("gcc", program, tmp_path, AS_SHIPPED, libraries))])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["handover", "inbox", "io", "journal", "opening"])
def test_threads_meet_without_a_race(name: str, tmp_path: Path, libraries: Path) -> None:
    fixed_addresses = ["setarch", "-R"]  # ThreadSanitizer does not run under every randomisation
    if shutil.which("gcc") is None or run([*fixed_addresses, "true"]).returncode:
        pytest.skip("there is no gcc, or no `setarch -R`")
    program = next(path for path in programs("c") if path.stem == name)
    binary = build("gcc", program, tmp_path, [*DEBUG, "-fsanitize=thread"], libraries)
    done = run([*fixed_addresses, str(binary)])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("program", programs("fuzz"), ids=lambda path: path.stem)
def test_fuzz_for_a_moment(program: Path, tmp_path: Path, libraries: Path) -> None:
    if reason := missing_fuzzer():
        pytest.skip(reason)
    binary = build("clang", program, tmp_path, FUZZED, libraries)
    corpus = tmp_path / "corpus"
    write_corpus(corpus, binary.name, real_transactions(20) if BLOCKS.is_dir() else [])
    done = fuzz(binary, corpus, f"-runs={FUZZ_RUNS[binary.name]}", "-max_total_time=10")
    assert done.returncode == 0, done.stderr
    assert "Done" in done.stderr
