"""Child processes whose time runs faster: what tests/preload/fast_time.c needs."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from pathlib import Path

SOURCE = Path(__file__).parent / "preload" / "fast_time.c"
CLOCKS = (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_MONOTONIC_RAW, time.CLOCK_BOOTTIME)


def missing() -> str | None:
    """Why there can be no faster time here, or None."""
    if shutil.which("gcc") is None:
        return "there is no gcc to build tests/preload/fast_time.c with: apt-get install gcc"
    if platform.libc_ver()[0] != "glibc":
        return "tests/preload/fast_time.c stands before glibc's functions, and this is no glibc"
    if "LD_PRELOAD" in os.environ:
        return "a sanitizer stands before the C library's functions already"
    return None


def build(folder: Path) -> Path:
    """The library, made in `folder`."""
    library = folder / "fast_time.so"
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, str(SOURCE), "-o", str(library), "-ldl"], check=True)
    return library


def environment(library: Path, factor: int) -> dict[str, str]:
    """For processes that are to share one simulated time, which begins now."""
    origins = " ".join(str(time.clock_gettime_ns(clock)) for clock in CLOCKS)
    return {
        **os.environ,
        "LD_PRELOAD": str(library),
        "HARPOON_FAST_TIME": f"{factor} {origins}",
    }
