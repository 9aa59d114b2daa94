"""No allocation, no lock and no close between a transaction and its order: counted by a library
that stands before the C library's functions."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
COUNTS_C = HERE / "preload" / "counts.c"


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What tests/hot_path_counts.py says."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc to build the counting library with: apt-get install gcc")
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("the counting library stands before glibc's functions, and this is no glibc")
    if "LD_PRELOAD" in os.environ:
        pytest.skip("a sanitizer stands before the C library's functions already")
    library = tmp_path_factory.mktemp("preload") / "counts.so"
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, str(COUNTS_C), "-o", str(library), "-ldl"], check=True)
    done = subprocess.run(
        [sys.executable, str(HERE / "hot_path_counts.py"), str(library)],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_library_counts(counted: dict[str, Any]) -> None:
    assert counted["control"] == {"malloc": 1, "free": 1, "pthread_mutex_lock": 1}


@pytest.mark.parametrize("way", ["armed", "unarmed", "feed"])
def test_an_order_neither_allocates_nor_locks(way: str, counted: dict[str, Any]) -> None:
    """Sealed ahead; built, signed and sealed at the trigger; from the feed's socket on."""
    assert len(counted[way]) > 10
    assert counted[way] == [{}] * len(counted[way])


def test_neither_does_one_that_goes_to_the_other_session(counted: dict[str, Any]) -> None:
    """What has failed is closed in the turn after, and freed by another thread."""
    sent, cleaned = counted["failover"]
    assert sent == {}
    assert cleaned["close"] == 1
    assert "free" not in cleaned
