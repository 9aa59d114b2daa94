"""`harpoon doctor`: what this machine has and lacks, and the cure for each line that fails."""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import platform
import re
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from engine.errors import HarpoonError

# Read without a system call through the vDSO; the others cost a microsecond or more a reading.
FAST_CLOCKS = {"tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"}
KERNEL_LEAST = (5, 11)  # io_uring waits with a timeout of its own
KERNEL_BEST = (6, 0)  # SINGLE_ISSUER
LOCKED_LEAST_BYTES = 64 * 1024  # the pages that hold secrets, with room
IO_URING_SETUP = 425  # io_uring_setup(2), the same number on every architecture but Alpha
IO_URING_PARAMS_BYTES = 120  # struct io_uring_params


@dataclass(frozen=True)
class Check:
    """One line. `ok` is False when harpoon cannot run, None when it runs and `cure`, where there
    is one, makes it faster or safer."""

    name: str
    ok: bool | None
    found: str
    cure: str = ""


def python_check(version: tuple[int, int, int]) -> Check:
    found = ".".join(map(str, version))
    if version >= (3, 11):
        return Check("Python", True, found)
    return Check("Python", False, found, "install Python 3.11 or later")


def kernel_check(release: str) -> Check:
    """`release` as uname(2) gives it."""
    numbers = re.match(r"(\d+)\.(\d+)", release)
    if numbers is None:
        return Check("kernel", None, release)
    version = (int(numbers[1]), int(numbers[2]))
    if version < KERNEL_LEAST:
        return Check("kernel", False, release, "boot Linux 5.11 or later: its io_uring is enough")
    if version < KERNEL_BEST:
        return Check("kernel", None, release, "Linux 6.0 or later spares the ring a lock")
    return Check("kernel", True, release)


def io_uring_check(disabled: str, error: int) -> Check:
    """`disabled` is the sysctl kernel.io_uring_disabled, "" before Linux 6.6; `error` is
    io_uring_errno()'s."""
    if error == 0:
        return Check("io_uring", True, "allowed")
    found = os.strerror(error)
    if error == errno.ENOSYS:
        cure = "boot a kernel with CONFIG_IO_URING"
    elif error == errno.ENOMEM:
        cure = "raise the limit on locked memory: `ulimit -l unlimited`"
    elif error == errno.EPERM and disabled in ("1", "2"):
        found = f"kernel.io_uring_disabled = {disabled}"
        cure = "`sysctl -w kernel.io_uring_disabled=0`"
    elif error == errno.EPERM:
        cure = "let the container's seccomp profile pass io_uring_setup, _enter and _register"
    else:
        cure = "free file descriptors: `ulimit -n`"
    return Check("io_uring", False, found, f'{cure}, or set transport = "syscall" in [engine]')


def io_uring_errno() -> int:
    """0 when the kernel gives this process a ring, else the errno of io_uring_setup(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    params = ctypes.create_string_buffer(IO_URING_PARAMS_BYTES)
    fd = libc.syscall(ctypes.c_long(IO_URING_SETUP), ctypes.c_uint(1), params)
    if fd < 0:
        return ctypes.get_errno()
    os.close(fd)
    return 0


def native_checks() -> Iterator[Check]:
    """The C library, and what it found at run time."""
    try:
        # Not at the top: a library that cannot be loaded is a line of the report.
        from engine import crypto
        from engine._harpoon import __file__ as extension
    except HarpoonError as error:
        yield Check("C library", False, str(error), "`pip install .` in the source tree")
        return
    # Symbols are looked up in what the extension itself is linked with, not in Python's OpenSSL.
    linked = ctypes.CDLL(extension)
    linked.OpenSSL_version.restype = ctypes.c_char_p
    yield Check("OpenSSL", True, linked.OpenSSL_version(0).decode().removeprefix("OpenSSL "))
    yield Check("liburing", True, liburing_version(linked))
    others = [name for name in crypto.implementations() if name != crypto.chosen()]
    yield Check("SHA-256", True, f"{crypto.chosen()} (also: {', '.join(others) or 'none'})")


def liburing_version(linked: ctypes.CDLL) -> str:
    try:
        return f"{linked.io_uring_major_version()}.{linked.io_uring_minor_version()}"
    except AttributeError:
        return "before 2.4"  # the first that knows its version


def memlock_check(limit_bytes: int) -> Check:
    """`limit_bytes` is the soft RLIMIT_MEMLOCK."""
    if limit_bytes == resource.RLIM_INFINITY:
        return Check("locked memory", True, "unlimited")
    found = f"{limit_bytes // 1024} KiB"
    if limit_bytes >= LOCKED_LEAST_BYTES:
        return Check("locked memory", True, found)
    return Check("locked memory", None, found, "`ulimit -l 64`: secrets stay out of swap")


def core_dump_check(limit_bytes: int) -> Check:
    """`limit_bytes` is the soft RLIMIT_CORE."""
    if limit_bytes == 0:
        return Check("core dumps", True, "off")
    return Check("core dumps", None, "on", "`ulimit -c 0`: a dump holds the process's memory")


def clock_check(source: str) -> Check:
    if source in FAST_CLOCKS:
        return Check("clock source", True, source)
    if not source:
        return Check("clock source", None, "unknown")
    return Check("clock source", None, source, "boot with `clocksource=tsc` where the CPU has it")


def governor_check(governor: str) -> Check:
    if not governor:
        return Check("CPU governor", None, "not adjustable here")
    if governor == "performance":
        return Check("CPU governor", True, governor)
    return Check("CPU governor", None, governor, "`cpupower frequency-set -g performance`")


def isolated_check(cpus: str) -> Check:
    """`cpus` is the kernel's list, such as "2-3"."""
    if cpus:
        return Check("isolated CPUs", True, cpus)
    cure = "boot with `isolcpus=N` and start with `taskset -c N`: nothing else runs there"
    return Check("isolated CPUs", None, "none", cure)


def cpu_check(cpuinfo: str) -> Check:
    """`cpuinfo` is the text of /proc/cpuinfo."""
    model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    name = model[1] if model else platform.machine()
    return Check("CPU", True, f"{name}, {len(os.sched_getaffinity(0))} usable")


def read(path: str) -> str:
    """The file's text, stripped; "" when this kernel does not have it."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def checks() -> list[Check]:
    """Every line of the report, in its order. Nothing is changed on the machine."""
    cpu = "/sys/devices/system/cpu"
    return [
        python_check(sys.version_info[:3]),
        kernel_check(os.uname().release),
        io_uring_check(read("/proc/sys/kernel/io_uring_disabled"), io_uring_errno()),
        *native_checks(),
        cpu_check(read("/proc/cpuinfo")),
        clock_check(read("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
        governor_check(read(f"{cpu}/cpu0/cpufreq/scaling_governor")),
        isolated_check(read(f"{cpu}/isolated")),
        memlock_check(resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]),
        core_dump_check(resource.getrlimit(resource.RLIMIT_CORE)[0]),
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Exit status 1 when a line says `fails`: harpoon cannot run here."


def run(args: argparse.Namespace) -> int:
    """Print the report; 1 when a line says that harpoon cannot run, else 0."""
    marks = {
        True: Text("ok", "green"),
        False: Text("fails", "bold red"),
        None: Text("note", "yellow"),
    }
    table = Table("", "check", "found", "cure", title="harpoon doctor")
    report = checks()
    for check in report:
        table.add_row(marks[check.ok], check.name, Text(check.found), Text(check.cure))
    Console().print(table)
    return int(any(check.ok is False for check in report))
