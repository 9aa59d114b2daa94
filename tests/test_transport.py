"""Where io_uring is forbidden: the sentence that says so, and `syscall` doing the same job. A child
forbids itself io_uring with a seccomp filter."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.peers import CLOSE, PING, PONG, TEXT, Server, frame, text

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
IO_URING_SETUP = 425
ERRNO, ALLOW = 0x00050000, 0x7FFF0000  # SECCOMP_RET_...

CLIENT = """
import sys
from pathlib import Path
from engine.book import Book, BookEntry
from engine.core import Engine, EngineOptions, VenueAddress
from engine.errors import HarpoonError
from engine.records import Message

transport, port, ca_file = sys.argv[1:]
book = Book([BookEntry("1BoatSLRHtKNngkdXEeobR76b53LETtpyT", "kraken")])
engine = Engine(book, EngineOptions(live=True, transport=transport))
try:
    engine.connect(
        VenueAddress("127.0.0.1", "localhost", int(port), "/", Path(ca_file), 5_000_000_000)
    )
except HarpoonError as error:
    sys.exit(str(error))
print(engine.transport())
engine.send_text(b"hello")
heard = []
while not heard:
    engine.poll(5_000_000_000)
    heard = [event.text for event in engine.events() if isinstance(event, Message)]
print(heard)
engine.close()
"""


def refusing(number: int, error: int) -> Callable[[], None]:
    """What makes the calling process get `error` from the system call `number` from now on."""
    code = [
        (0x20, 0, 0, 0),  # load the number of the call
        (0x15, 0, 1, number),  # is it this one?
        (0x06, 0, 0, ERRNO | error),
        (0x06, 0, 0, ALLOW),
    ]
    instructions = ctypes.create_string_buffer(
        b"".join(struct.pack("HBBI", *instruction) for instruction in code)
    )
    program = struct.pack("HL", len(code), ctypes.addressof(instructions))
    libc = ctypes.CDLL(None, use_errno=True)

    def refuse() -> None:
        assert len(instructions)  # which must live as long as this
        if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
            PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0
        ):
            raise OSError(ctypes.get_errno(), "seccomp")

    return refuse


def run(*arguments: str, error: int = errno.EPERM) -> subprocess.CompletedProcess[str]:
    """Python, where io_uring_setup(2) fails."""
    try:
        return subprocess.run(
            [sys.executable, "-P", *arguments],
            preexec_fn=refusing(IO_URING_SETUP, error),
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "COLUMNS": "200"},
        )
    except subprocess.SubprocessError as failure:
        pytest.skip(f"this machine does not let a process filter its system calls: {failure}")


def client(server: Server, transport: str, error: int) -> subprocess.CompletedProcess[str]:
    return run("-c", CLIENT, transport, str(server.port), str(server.ca_file), error=error)


@pytest.mark.parametrize(
    ("error", "cause", "cure"),
    [
        (errno.EPERM, "Operation not permitted", "sysctl -w kernel.io_uring_disabled=0"),
        (errno.ENOSYS, "Function not implemented", "CONFIG_IO_URING"),
        (errno.ENOMEM, "Cannot allocate memory", "ulimit -l"),
    ],
)
def test_an_engine_without_io_uring_names_cause_and_cure(
    server: Server, error: int, cause: str, cure: str
) -> None:
    done = client(server, "io_uring", error)
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert f"io_uring_setup failed ({cause})" in sentence
    assert cure in sentence
    assert 'transport = "syscall" in [engine]' in sentence


def test_system_calls_do_the_same_job(server: Server) -> None:
    def converse() -> None:
        peer = server.connection()
        assert peer.frame() == (TEXT, b"hello")
        peer.send(frame(0x80 | PING, b"?") + text(b"welcome"))
        assert peer.frame() == (PONG, b"?")
        assert peer.frame()[0] == CLOSE
        peer.sock.close()

    with ThreadPoolExecutor(1) as pool:
        conversation = pool.submit(converse)
        done = client(server, "syscall", errno.EPERM)
        conversation.result()
    assert done.stderr == ""
    transport, heard = done.stdout.splitlines()
    assert transport.startswith("recv(2), send(2), ppoll(2), TLSv1.3")
    assert heard == "[b'welcome']"


def test_the_doctor_names_both_cures() -> None:
    done = run("-m", "engine.cli", "doctor")
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "│ io_uring" in line]
    assert "fails" in line
    assert "io_uring_disabled" in line or "seccomp" in line
    assert 'transport = "syscall"' in done.stdout
