"""What a figure was measured on: printed beside every table of latencies."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from engine import __version__
from engine._native import lib, text
from engine.crypto import chosen


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def machine() -> dict[str, str | int]:
    """Processor, kernel, compiler and OpenSSL, as a JSON object."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 0,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "build": text(lib.hp_build()),
        "sha256": chosen(),
        "harpoon": __version__,
    }
