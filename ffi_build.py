"""Builds the C extensions (CFFI, API mode): a folder's *.c behind the declarations of its header.

pip reaches `BuildExt` through pyproject.toml. By hand, `python ffi_build.py --out DIR` puts them
below DIR, which is how the sanitizer lane builds its own copy:

    HARPOON_SANITIZE=address,undefined python ffi_build.py --out build/asan
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from cffi import FFI
from setuptools import Distribution
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
HEADER = ROOT / "csrc" / "harpoon.h"
# pkg-config's name, the Debian package that has its headers, the least version that is enough.
LIBRARIES = (("liburing", "liburing-dev", "2.3"), ("openssl", "libssl-dev", "3.0"))


def cdef_text(header: str) -> str:
    """The header as CFFI reads it: integer constants stay, other preprocessor lines go."""
    header = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    lines = []
    for line in header.splitlines():
        constant = re.match(r"#define\s+(HP_\w+)\s+\S", line)
        if constant:
            lines.append(f"#define {constant.group(1)} ...")
        elif not line.startswith("#"):
            lines.append(line)
    return "\n".join(lines)


def sources(folder: Path, pattern: str) -> list[str]:
    """Its files, relative to ROOT as setuptools wants them. CFFI's generated ones begin with _."""
    return sorted(str(path.relative_to(ROOT)) for path in folder.glob(f"[!_]{pattern}"))


def missing(what: str, package: str) -> str:
    """The sentence a build ends with when the machine lacks something."""
    return f"harpoon needs {what} to build: install it with `apt-get install {package}`."


def require_compiler() -> None:
    """Exit with a sentence when there is no C compiler or Python's headers are absent."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        sys.exit(missing(f"a C compiler ({compiler})", "gcc libc6-dev"))
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-dev"
        sys.exit(missing("Python's headers (Python.h)", package))


def require_libraries() -> None:
    """Exit with a sentence when pkg-config or one of LIBRARIES is missing or too old."""
    if shutil.which("pkg-config") is None:
        sys.exit(missing("pkg-config", "pkg-config"))
    for name, package, version in LIBRARIES:
        found = subprocess.run(["pkg-config", "--modversion", name], capture_output=True, text=True)
        if found.returncode:
            sys.exit(missing(f"{name} >= {version} with its headers", package))
        if subprocess.run(["pkg-config", f"--atleast-version={version}", name]).returncode:
            sys.exit(
                f"harpoon needs {name} >= {version} to build and found {found.stdout.strip()}: "
                f"use a release whose {package} is newer (Debian 12, Ubuntu 24.04)."
            )


def pkg_config(flag: str) -> list[str]:
    """The compiler's or the linker's words for LIBRARIES."""
    names = [name for name, _, _ in LIBRARIES]
    return shlex.split(subprocess.check_output(["pkg-config", flag, *names], text=True))


def interface(
    module: str, header: Path, compile_args: Sequence[str] = (), link_args: Sequence[str] = ()
) -> FFI:
    """The extension `module`: the C files of `header`'s folder, behind its declarations."""
    sanitize = os.environ.get("HARPOON_SANITIZE")
    sanitizers = [f"-fsanitize={sanitize}", "-fno-sanitize-recover=all"] if sanitize else []
    # Python's own flags come first; they have -fwrapv, which hides overflows from the sanitizer.
    debug = ["-fno-wrapv", "-fno-omit-frame-pointer", "-g"] if sanitize else []
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O3", "-fvisibility=hidden", *debug]
    folder = header.parent
    ffi = FFI()
    ffi.cdef(cdef_text(header.read_text()))
    ffi.set_source(
        module,
        f'#include "{header.name}"',
        sources=sources(folder, "*.c"),
        include_dirs=[str(folder.relative_to(ROOT))],
        depends=["ffi_build.py", *sources(folder, "*.h")],
        extra_compile_args=[*flags, *sanitizers, *compile_args],
        # Bound at load time: the first order must not pay for looking symbols up.
        extra_link_args=["-Wl,-z,relro,-z,now", *link_args, *sanitizers],
    )
    return ffi


def builder() -> FFI:
    """engine._harpoon: the engine."""
    return interface("engine._harpoon", HEADER, pkg_config("--cflags"), pkg_config("--libs"))


def floor_builder() -> FFI:
    """harpoon_bench._floor: what the benchmarks compare with."""
    header = ROOT / "bench" / "floor.h"
    return interface("harpoon_bench._floor", header, pkg_config("--cflags"), pkg_config("--libs"))


BUILDERS = (builder, floor_builder)  # one for each of `ext-modules` in pyproject.toml


class BuildExt(build_ext):
    """setuptools' build_ext, told what the extensions that pyproject.toml names are made of."""

    def finalize_options(self) -> None:
        require_compiler()
        require_libraries()
        self.distribution.ext_modules = [
            make().distutils_extension(self.build_temp or "build", verbose=False)
            for make in BUILDERS
        ]
        super().finalize_options()


def build(out: str) -> None:
    """Compile the extensions below the directory `out`."""
    command = BuildExt(Distribution())
    command.build_lib = command.build_temp = out
    command.ensure_finalized()
    command.run()


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "--out":
        sys.exit("usage: python ffi_build.py --out DIR")
    target = os.path.abspath(sys.argv[2])
    os.chdir(ROOT)
    build(target)
