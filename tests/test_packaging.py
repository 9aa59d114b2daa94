"""What is built, what is installed, and what a machine that lacks something is told."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata, resources
from pathlib import Path

import pytest
from cffi import FFI

import engine
from engine._native import lib

ROOT = Path(__file__).resolve().parents[1]
HEADER = (ROOT / "csrc" / "harpoon.h").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def cdef_text(header: str) -> str:
    return str(runpy.run_path(str(ROOT / "ffi_build.py"))["cdef_text"](header))


def stub(folder: Path, name: str, script: str) -> None:
    """An executable `name` in `folder` that runs the shell `script`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def build(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "ffi_build.py"), "--out", str(tmp_path / "out")],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


# ---- the extension


def test_cffi_reads_the_header_itself() -> None:
    ffi = FFI()
    ffi.cdef(cdef_text(HEADER))
    assert ffi.sizeof("hp_txin") > 0


def test_cdef_text_keeps_constants_and_drops_the_preprocessor() -> None:
    header = "#ifndef H\n/* #define HP_NO 1\n */\n#define HP_A 4 /* why */\nint f(void);\n#endif\n"
    assert cdef_text(header).split("\n") == ["", "#define HP_A ...", "int f(void);"]


def test_every_name_of_the_header_is_in_the_extension() -> None:
    code = re.sub(r"/\*.*?\*/", "", HEADER, flags=re.DOTALL)
    functions = re.findall(r"\b(hp_\w+)\((?=[^;{}]*\);)", code)
    constants = re.findall(r"#define (HP_\w+) ", code)
    assert len(functions) > 50
    assert set(functions) | set(constants) <= set(dir(lib))


# ---- the distribution


def test_tests_run_against_the_installed_package() -> None:
    assert Path(engine.__file__).parent != ROOT / "engine"


def test_every_package_of_the_tree_is_distributed() -> None:
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "engine").rglob("__init__.py")
    }
    assert found | {"harpoon_bench"} == set(PROJECT["tool"]["setuptools"]["packages"])


@pytest.mark.parametrize("name", ["default_book.toml", "py.typed"])
def test_package_data_is_installed(name: str) -> None:
    assert resources.files("engine").joinpath(name).is_file()


def test_version_is_in_the_changelog() -> None:
    assert engine.__version__ == PROJECT["project"]["version"]
    assert f"\n## [{engine.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_command_is_installed() -> None:
    (command,) = metadata.entry_points(group="console_scripts", name="harpoon")
    assert callable(command.load())


# ---- a machine that lacks something


def test_missing_library_is_one_sentence(tmp_path: Path) -> None:
    done = build(tmp_path, PKG_CONFIG_LIBDIR=str(tmp_path), PKG_CONFIG_PATH="")
    assert done.returncode == 1
    assert done.stderr == (
        "harpoon needs liburing >= 2.3 with its headers to build: "
        "install it with `apt-get install liburing-dev`.\n"
    )


def test_old_library_is_named_with_its_version(tmp_path: Path) -> None:
    (tmp_path / "liburing.pc").write_text("Name: liburing\nDescription: old\nVersion: 2.1\n")
    done = build(tmp_path, PKG_CONFIG_LIBDIR=str(tmp_path), PKG_CONFIG_PATH="")
    assert done.returncode == 1
    assert done.stderr.startswith("harpoon needs liburing >= 2.3 to build and found 2.1: ")


def test_missing_compiler_is_one_sentence(tmp_path: Path) -> None:
    done = build(tmp_path, CC="no-such-compiler -O2")
    assert done.returncode == 1
    assert done.stderr == (
        "harpoon needs a C compiler (no-such-compiler) to build: "
        "install it with `apt-get install gcc libc6-dev`.\n"
    )


def test_missing_pkg_config_is_one_sentence(tmp_path: Path) -> None:
    done = build(tmp_path, CC=sys.executable, PATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.endswith("install it with `apt-get install pkg-config`.\n")


# ---- .ci/setup on a machine of stubs


def setup(
    tmp_path: Path, python: str = sys.executable, **stubs: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run .ci/setup where only `stubs` and a few real tools exist and .venv does already.
    What it said, and how it called apt-get."""
    folder = tmp_path / "bin"
    calls = tmp_path / "calls"
    working = {"id": "echo 1000", "gcc": "cat >/dev/null", "pkg-config": "exit 0"}
    for name, script in {**working, "apt-get": f'echo "$*" >>{calls}', **stubs}.items():
        stub(folder, name, script)
    for name in ("sh", "cat", "head", "mktemp", "rm"):
        (folder / name).symlink_to(shutil.which(name) or name)
    for name in ("python", "pip"):
        stub(tmp_path / ".venv" / "bin", name, "exit 0")
    done = subprocess.run(
        [str(ROOT / ".ci" / "setup")],
        cwd=tmp_path,
        env={"PATH": str(folder), "PYTHON": python},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done, calls.read_text().splitlines() if calls.exists() else []


def test_setup_runs_nothing_when_nothing_is_missing(tmp_path: Path) -> None:
    done, calls = setup(tmp_path)
    assert (done.returncode, done.stdout, done.stderr, calls) == (0, "", "", [])


def test_setup_without_rights_prints_the_command(tmp_path: Path) -> None:
    done, calls = setup(tmp_path, **{"pkg-config": "exit 1"})
    assert (done.returncode, calls) == (1, [])
    assert done.stderr.endswith(
        "As root, run: apt-get update && "
        "apt-get install -y --no-install-recommends liburing-dev libssl-dev\n"
    )


def test_setup_as_root_installs(tmp_path: Path) -> None:
    done, calls = setup(tmp_path, id="echo 0", gcc="exit 1")
    assert (done.returncode, done.stderr) == (0, "")
    assert calls == ["update", "install -y --no-install-recommends gcc libc6-dev"]


def test_setup_goes_through_sudo(tmp_path: Path) -> None:
    done, calls = setup(tmp_path, sudo='[ "$1" = -n ] || exec "$@"', gcc="exit 1")
    assert (done.returncode, done.stderr) == (0, "")
    assert calls == ["update", "install -y --no-install-recommends gcc libc6-dev"]


def test_setup_shows_what_apt_get_said_when_it_fails(tmp_path: Path) -> None:
    failing = "echo no network; exit 100"
    done, _ = setup(tmp_path, id="echo 0", gcc="exit 1", **{"apt-get": failing})
    assert done.returncode == 1
    assert done.stderr.startswith("no network\nharpoon: apt-get failed;")


def test_setup_refuses_an_old_python(tmp_path: Path) -> None:
    done, calls = setup(tmp_path, python="oldpython", oldpython="echo old; echo -")
    assert (done.returncode, calls) == (1, [])
    assert done.stderr.startswith("harpoon: oldpython is older than 3.11 and no newer one")


def test_setup_takes_a_newer_python_beside_an_old_one(tmp_path: Path) -> None:
    stubs = {"python3": "echo old; echo -", "python3.12": "echo ok; echo python3.12; echo dev"}
    done, calls = setup(tmp_path, python="python3", id="echo 0", **stubs)
    assert (done.returncode, done.stderr) == (0, "")
    assert calls == ["update", "install -y --no-install-recommends python3.12-dev"]
