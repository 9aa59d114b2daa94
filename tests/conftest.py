"""What several test modules share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from engine import crypto
from engine.sim import authority
from engine.sim.authority import CertificateFiles
from tests import peers
from tests.peers import Rig, Server, rig, serving

# Examples of one test take turns with everything else on the machine: their time says nothing, nor
# does the time that it takes to make them.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")

# A shell has what it runs with `&` ignore SIGINT, and children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

# The names of HARPOON_SHA256. What this CPU lacks is never run, only skipped and said so.
every_impl = pytest.mark.parametrize(
    "impl",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                name not in crypto.implementations(), reason=f"this CPU lacks {name}"
            ),
        )
        for name in ("portable", "avx2", "avx512", "shani", "shani+avx512")
    ],
)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real blocks and vectors beside the checkout; skips where it is not there."""
    if not SHARED.is_dir():
        pytest.skip(f"the real data is not beside the checkout: there is no {SHARED}")
    return SHARED


@pytest.fixture(scope="module", params=["io_uring", "syscall"])
def each_transport(request: pytest.FixtureRequest) -> Iterator[str]:
    """Everything is tested once with engines of each transport."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peers, "TRANSPORT", request.param)
        yield request.param


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    """A private CA and a server certificate."""
    return authority.issue(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def server(files: CertificateFiles) -> Iterator[Server]:
    """A TLS server that a test tells byte by byte what to say."""
    with serving(files) as server:
        yield server


@pytest.fixture
def wire(server: Server) -> Iterator[Rig]:
    """An engine connected to it."""
    with rig(server) as wire:
        yield wire
