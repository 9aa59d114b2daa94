"""C programs of the tests: built here, run by pytest, by `make fuzz` and by `make valgrind`.

python tests/native.py fuzz [SECONDS]     each fuzz target for so long, from the real blocks
python tests/native.py valgrind           the C tests under valgrind
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import itertools
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TESTS = Path(__file__).resolve().parent
CSRC = TESTS.parent / "csrc"
BLOCKS = TESTS.parents[1] / "shared" / "data" / "blocks"
LIBRARIES = ("-luring", "-lssl", "-lcrypto")
DEBUG = ("-O1", "-g", "-fno-omit-frame-pointer")
SANITIZED = (*DEBUG, "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
AS_SHIPPED = ("-O3", "-Wl,-z,relro,-z,now", "-DAS_SHIPPED")  # as in ffi_build.py
FUZZED = (*SANITIZED, "-fsanitize=fuzzer")
INPUT_BYTES_MAX = 4096
# Where pytest itself runs under a sanitizer, the programs bring their own.
_OTHERS = ("LD_PRELOAD", "ASAN_OPTIONS", "UBSAN_OPTIONS")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in _OTHERS}

PAYMENT = (  # made up: one input with a signature and a key in its witness, two outputs
    "02000000" "0001" "01" + "11" * 32 + "01000000" "00" "fdffffff"
    "02" "40420f0000000000" "160014" + "22" * 20 + "a086010000000000" "1976a914" + "33" * 20
    + "88ac" "02" "47" "3044" + "44" * 69 + "21" "02" + "55" * 32 + "00000000"
)  # fmt: skip


def programs(kind: str) -> list[Path]:
    """The C files of tests/fuzz or tests/c."""
    return sorted((TESTS / kind).glob("*.c"))


def build(
    compiler: str, program: Path, folder: Path, flags: Sequence[str], libraries: Path
) -> Path:
    """Compile one program into `folder`, and link it with the C library. That is compiled with the
    same flags into `libraries`, once."""
    out = folder / program.stem
    command = [compiler, "-std=c11", "-D_GNU_SOURCE", "-pthread", *flags, f"-I{CSRC}"]
    library = _library(command, libraries)
    _compile([*command, str(program), str(library), *LIBRARIES, "-o", str(out)])
    return out


def _library(command: Sequence[str], folder: Path) -> Path:
    """The archive of the C library's objects, made by whoever comes first."""
    home = folder / hashlib.sha256(" ".join(command).encode()).hexdigest()[:16]
    home.mkdir(exist_ok=True)
    archive = home / "library.a"
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if archive.exists():
            return archive
        sources = sorted(CSRC.glob("[!_]*.c"))
        objects = [home / f"{source.stem}.o" for source in sources]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            jobs = [
                pool.submit(_compile, [*command, "-c", str(source), "-o", str(target)])
                for source, target in zip(sources, objects, strict=True)
            ]
            for job in jobs:
                job.result()
        _compile(["ar", "rcs", str(archive), *map(str, objects)])
    return archive


def _compile(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, env=ENVIRONMENT)


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)


@functools.cache
def missing_fuzzer() -> str | None:
    """Why there can be no fuzzing here, or None."""
    if shutil.which("clang") is None:
        return "there is no clang: apt-get install clang"
    probe = ["clang", "-fsanitize=fuzzer,address", "-x", "c", "-", "-o", "/dev/null"]
    code = "int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d && n ? 0 : 0; }"
    tried = subprocess.run(probe, input=code.encode(), capture_output=True, env=ENVIRONMENT)
    if tried.returncode:
        return "clang has no libFuzzer: apt-get install libclang-rt-dev"
    return None


def real_transactions(most: int) -> list[bytes]:
    """Up to `most` transactions of every real block, spread over it."""
    from engine.tx import walk_block

    found = []
    for path in sorted(BLOCKS.glob("block_*.bin")):
        raws = list(walk_block(path.read_bytes()))
        found += raws[:: max(1, len(raws) // most)][:most]
    return found


def publications(transactions: Iterable[bytes]) -> Iterator[bytes]:
    """ZMTP streams of a publisher, each behind two bytes that say how it is to be cut."""
    number = itertools.count()

    def message(topic: bytes, body: bytes) -> bytes:
        header = struct.pack(">BQ", 3, len(body)) if len(body) > 255 else bytes([1, len(body)])
        count = struct.pack("<I", next(number))
        return b"\1" + bytes([len(topic)]) + topic + header + body + b"\0\4" + count

    greeting = b"\xff" + bytes(8) + b"\x7f\3\1NULL" + bytes(48)
    ready = b"\4\x19\5READY\x0bSocket-Type\0\0\0\3PUB"
    ping = b"\4\x0f\4PING\0\0" + b"contexts"
    payment = message(b"rawtx", bytes.fromhex(PAYMENT))
    connected, added = bytes(32) + b"C", bytes(32) + b"A" + bytes(8)
    yield b"\0\x06" + greeting + ready + payment
    yield b"\1\x06" + payment + ping + message(b"sequence", connected)
    yield b"\1\x11" + message(b"sequence", added) + b"\1\5rawtx" + ping + b"\0\1x" + payment
    for raw in transactions:
        yield b"\1\x2a" + message(b"rawtx", raw) + payment


def answers() -> Iterator[bytes]:
    """What a venue may answer to the upgrade, and say then, each behind a byte that says
    how it is to be cut."""
    fields = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    accept = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"  # RFC 6455 1.3
    yield b"\x50HTTP/1.1 101 Switching Protocols\r\n" + fields + accept + b"\r\n\x81\2{}"
    yield b"\x20HTTP/1.1 429 Too Many Requests\r\nRetry-After: 30\r\n\r\nslow down"
    reply = b'{"id":"x","status":200}'
    text = b"\x81" + bytes([len(reply)]) + reply
    yield b"\x03" + text + b"\x89\4ping" + text + b"\x88\x05\x03\xe8bye"
    yield b"\x01\x01\3one\x8a\0\x00\3two\x80\3end\x81\x7e\x01\x00" + b"x" * 256
    yield b"\x00\x81\x7f\0\0\0\0\0\1\0\0" + b"\xc3\xa9" * 100


def write_corpus(folder: Path, target: str, transactions: Iterable[bytes]) -> None:
    """The inputs that fuzzing starts from."""
    folder.mkdir()
    if target == "fuzz_tx":
        seeds = [bytes.fromhex(PAYMENT), *transactions]
    elif target == "fuzz_zmtp":
        seeds = list(publications(transactions))
    elif target == "fuzz_ws":
        seeds = list(answers())
    else:  # a place in the file behind the byte that chooses to patch it, and what goes there
        places = (0, 8, 40, 48, 52, 56, 60, 64, 68, 128, 192, 640, 1000, 4000, 4096, 4100, 4104)
        seeds = [
            mode + at.to_bytes(3, "little") + b"\xff" * 8
            for mode in (b"\0", b"\1")
            for at in places
        ]
        seeds.append(b"\7")
    for number, seed in enumerate(seeds):
        if len(seed) <= INPUT_BYTES_MAX:
            (folder / str(number)).write_bytes(seed)


def fuzz(binary: Path, corpus: Path, *limits: str) -> subprocess.CompletedProcess[str]:
    """One run of a fuzz target, with seed 1; what it found lies beside the binary."""
    options = ["-seed=1", f"-max_len={INPUT_BYTES_MAX}", f"-artifact_prefix={binary}-", *limits]
    return run([str(binary), *options, str(corpus)])


def _fuzz_all(folder: Path, seconds: int) -> bool:
    if reason := missing_fuzzer():
        sys.exit(reason)
    good = True
    for program in programs("fuzz"):
        binary = build("clang", program, folder, FUZZED, folder)
        corpus = folder / f"{binary.name}-corpus"
        write_corpus(corpus, binary.name, real_transactions(1000))
        done = fuzz(binary, corpus, f"-max_total_time={seconds}")
        print(f"{binary.name}: {done.stderr.strip().splitlines()[-1]}", flush=True)
        if done.returncode:
            print(done.stderr, flush=True)
            good = False
    return good


def _valgrind_all(folder: Path) -> bool:
    good = True
    for program in programs("c"):
        binary = build("gcc", program, folder, DEBUG, folder)
        command = ["valgrind", "--quiet", "--leak-check=full", "--error-exitcode=99", str(binary)]
        clean = subprocess.run(command).returncode == 0
        print(f"{binary.name}: {'clean' if clean else 'failed'} under valgrind", flush=True)
        good &= clean
    return good


def main(arguments: Sequence[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="harpoon-") as name:
        match arguments:
            case ["fuzz"]:
                good = _fuzz_all(Path(name), 300)
            case ["fuzz", seconds]:
                good = _fuzz_all(Path(name), int(seconds))
            case ["valgrind"]:
                good = _valgrind_all(Path(name))
            case _:
                sys.exit(__doc__)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
