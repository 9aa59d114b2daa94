"""engine.doctor: what each reading of the machine is called, and the exit status."""

from __future__ import annotations

import argparse
import errno

import pytest

from engine import doctor
from engine.doctor import Check


@pytest.mark.parametrize(
    ("release", "ok"),
    [
        ("6.18.44-cloud", True),
        ("6.1.0-18-amd64", True),
        ("5.15.0-generic", None),
        ("5.11.0", None),
        ("5.10.0-30-amd64", False),
        ("unnumbered", None),
    ],
)
def test_kernel(release: str, ok: bool | None) -> None:
    check = doctor.kernel_check(release)
    assert (check.ok, check.found) == (ok, release)


@pytest.mark.parametrize(
    ("disabled", "error", "cure"),
    [
        ("2", errno.EPERM, "kernel.io_uring_disabled=0"),
        ("1", errno.EPERM, "kernel.io_uring_disabled=0"),
        ("0", errno.EPERM, "seccomp"),
        ("", errno.EPERM, "seccomp"),
        ("", errno.ENOSYS, "CONFIG_IO_URING"),
        ("0", errno.ENOMEM, "ulimit -l"),
        ("0", errno.EMFILE, "ulimit -n"),
    ],
)
def test_io_uring_refused(disabled: str, error: int, cure: str) -> None:
    check = doctor.io_uring_check(disabled, error)
    assert check.ok is False
    assert cure in check.cure


def test_io_uring_given_although_the_sysctl_restricts_others() -> None:
    assert doctor.io_uring_check("1", 0).ok is True


@pytest.mark.parametrize(
    ("check", "ok"),
    [
        (doctor.python_check((3, 11, 0)), True),
        (doctor.python_check((3, 10, 12)), False),
        (doctor.clock_check("tsc"), True),
        (doctor.clock_check("hpet"), None),
        (doctor.governor_check("performance"), True),
        (doctor.governor_check("powersave"), None),
        (doctor.isolated_check("2-3"), True),
        (doctor.isolated_check(""), None),
        (doctor.memlock_check(-1), True),
        (doctor.memlock_check(8 << 20), True),
        (doctor.memlock_check(0), None),
        (doctor.core_dump_check(0), True),
        (doctor.core_dump_check(-1), None),
    ],
)
def test_reading(check: Check, ok: bool | None) -> None:
    assert check.ok is ok
    assert bool(check.cure) is (ok is not True)


def test_cpu_model() -> None:
    cpuinfo = "processor\t: 0\nmodel name\t: A Model [2 GHz]\nflags\t: sha_ni\n"
    assert doctor.cpu_check(cpuinfo).found.startswith("A Model [2 GHz], ")


def test_this_machine() -> None:
    report = {check.name: check for check in doctor.checks()}
    assert {"Python", "kernel", "io_uring", "OpenSSL", "liburing", "SHA-256", "CPU"} <= set(report)
    assert report["Python"].ok is True
    assert report["OpenSSL"].found.startswith("3.")
    assert all(check.cure for check in report.values() if check.ok is False)


@pytest.mark.parametrize(("ok", "status"), [(True, 0), (None, 0), (False, 1)])
def test_exit_status(
    ok: bool | None,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    lines = [Check("first", True, "there"), Check("second", ok, "a [b] c", "the cure")]
    monkeypatch.setattr(doctor, "checks", lambda: lines)
    assert doctor.run(argparse.Namespace()) == status
    printed = capsys.readouterr().out
    assert "a [b] c" in printed
    assert "the cure" in printed
