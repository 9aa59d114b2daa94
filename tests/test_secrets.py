"""Nothing secret leaves a run: not by its output, its files, its errors, its command line or a core
dump. The secrets are made up, and every byte is searched for them."""

from __future__ import annotations

import base64
import os
import pickle
import random
import re
import resource
import subprocess
import sys
import traceback
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from engine import crypto
from engine._native import ffi
from engine.config import load
from engine.credentials import Credentials, credentials
from engine.errors import ConfigError
from engine.runner import Runner
from engine.sim.exchange import ExchangeSim

from . import harpoon_run
from .harpoon_run import running, write_config
from .peers import book_of, deposit
from .publisher import Publisher

# What URLs, shells and TOML write otherwise is among its characters.
SECRET = "".join(random.Random(5).choices("ABCabcXYZxyz0123456789+/&%=", k=64))
API_KEY = "".join(random.Random(6).choices("ABCDEFGHabcdefgh01234567", k=64))
OTHER_KEY = "e" * 64  # of the Ed25519 key
HMAC = {"HARPOON_API_KEY": API_KEY, "HARPOON_API_SECRET": SECRET}
WINDOW = 12  # so many bytes of a secret in a row are too many


# ---- searching -----------------------------------------------------------------------------------


def forms(secret: bytes) -> dict[str, bytes]:
    """What a secret may look like."""
    found = {
        "itself": secret,
        "reversed": secret[::-1],
        "hex": secret.hex().encode(),
        "HEX": secret.hex().upper().encode(),
        "percent": urllib.parse.quote(secret, safe="").encode(),
    }
    for skew in range(3):  # base64 of a text with the secret in it, wherever that begins
        for name, encode in (("base64", base64.b64encode), ("url64", base64.urlsafe_b64encode)):
            found[f"{name}+{skew}"] = encode(bytes(skew) + secret)[4:-4]
    return found


def traces(secret: bytes, haystack: bytes) -> set[str]:
    """The forms in which WINDOW of its bytes, or more, are in the haystack."""
    return {
        name
        for name, form in forms(secret).items()
        for at in range(len(form) - WINDOW + 1)
        if form[at : at + WINDOW] in haystack
    }


@pytest.mark.parametrize("form", forms(b""))
def test_the_search_finds_every_form(form: str) -> None:
    secret = SECRET.encode()
    part = forms(secret)[form][7:40]
    assert form in traces(secret, b"before" + part + b"behind")
    assert not traces(secret, b"before" + part[: WINDOW - 1] + b"behind")


@dataclass(frozen=True)
class Secrets:
    """Ours, by name, and the file with the private key."""

    named: dict[str, bytes]
    private_key_file: Path
    public_pem: bytes

    def assert_unseen(self, haystacks: dict[str, bytes]) -> None:
        for name, secret in self.named.items():
            for where, haystack in haystacks.items():
                assert not traces(secret, haystack), f"{name} is in {where}"
        for where, haystack in haystacks.items():  # no secret, but nobody needs it either
            assert API_KEY.encode() not in haystack, f"the API key is in {where}"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Secrets:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file = tmp_path_factory.mktemp("key") / "private.pem"
    file.touch(0o600)
    file.write_bytes(pem)
    inner, outer = midstates(SECRET.encode())
    named = {
        "the API secret": SECRET.encode(),
        "the private key": key.private_bytes_raw(),
        "the private key's PEM": pem.splitlines()[1],
        "the inner state of HMAC": inner,
        "the outer state of HMAC": outer,
        "the inner state in network order": swapped(inner),
        "the outer state in network order": swapped(outer),
    }
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return Secrets(named, file, public)


def midstates(secret: bytes) -> tuple[bytes, bytes]:
    """As hp_mac_states has them (csrc/sha256.h): an HMAC key begins with it."""
    with crypto.HmacKey(secret) as key:
        states = bytes(ffi.buffer(ffi.cast("char *", key._key), 64))
    return states[:32], states[32:]


def swapped(state: bytes) -> bytes:
    return b"".join(state[at : at + 4][::-1] for at in range(0, len(state), 4))


# ---- runs ----------------------------------------------------------------------------------------


@pytest.fixture
def exchange(ours: Secrets) -> Iterator[ExchangeSim]:
    keys = {"hmac_key": (API_KEY, SECRET), "ed25519_key": (OTHER_KEY, ours.public_pem)}
    with harpoon_run.exchange(**keys) as sim:
        yield sim


@pytest.fixture
def node() -> Iterator[Publisher]:
    publisher = Publisher()
    yield publisher
    publisher.close()


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything a run has left there; its configuration is the user's."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "harpoon.toml"
    }


def tools(folder: Path) -> dict[str, bytes]:
    """What every reader of the journal says; what it writes goes into the folder."""
    journal = str(folder / "journal")
    said = {}
    for command in (
        ("journal", "show", journal),
        ("journal", "show", "--json", journal),
        ("journal", "verify", journal),
        ("journal", "export", journal, str(folder / "export.jsonl")),
        ("journal", "export", journal, str(folder / "export.parquet")),
        ("latency", journal, "--json", str(folder / "latency.json")),
    ):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "engine.cli", *command],
            capture_output=True,
            env={**os.environ, **HMAC},
        )
        said[" ".join(command[:3])] = done.stdout + done.stderr
    return said


@pytest.mark.parametrize("json_lines", [False, True])
@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("key", ["hmac", "ed25519"])
def test_a_run_that_trades(
    key: str,
    live: bool,
    json_lines: bool,
    ours: Secrets,
    exchange: ExchangeSim,
    node: Publisher,
    tmp_path: Path,
) -> None:
    venue = {} if key == "hmac" else {"private_key_file": str(ours.private_key_file)}
    environ = HMAC if key == "hmac" else {"HARPOON_API_KEY": OTHER_KEY}
    config = write_config(
        tmp_path,
        url=exchange.url,
        stream_url=exchange.stream_url,
        ca_file=exchange.ca_file,
        endpoint=node.endpoint,
        live=live,
        **venue,
    )
    flags = ["--live"] * live + ["--json-lines"] * json_lines
    with running(config, environ, *flags) as run:
        run.line(r'"record":"ready"|^(live|dry-run): addresses')
        node.wait_subscriber()
        node.send(deposit("kraken"), 0)
        run.line(r"hp[0-9a-f]{20}-")  # an order
        command_line = Path(f"/proc/{run.process.pid}/cmdline").read_bytes()
        limits = Path(f"/proc/{run.process.pid}/limits").read_text()
        owner = Path(f"/proc/{run.process.pid}/environ").stat().st_uid
        status, errors = run.end()
    assert (status, errors) == (0, "")
    assert bool(exchange.ledger) == live
    assert re.search(r"Max core file size +0 +0 ", limits)
    assert owner != os.getuid() or owner == 0, "it is dumpable (proc(5))"
    said = {"standard output": run.output.encode(), "its command line": command_line}
    if json_lines:  # the journal is the same without
        said |= tools(tmp_path)
    assert all(said.values())
    ours.assert_unseen(said | files_of(tmp_path))


def fail(config: Path, environ: dict[str, str], *flags: str) -> tuple[int, dict[str, bytes]]:
    """A run that ends by itself."""
    with running(config, environ, "--json-lines", *flags) as run:
        status, errors = run.wait()
    assert errors.count("\n") == 1, errors
    said = {"standard output": run.output.encode(), "standard error": errors.encode()}
    return status, said | files_of(config.parent)


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({"HARPOON_API_SECRET": f"{SECRET} "}, 2),
        ({"HARPOON_API_SECRET": f"{SECRET}\n{SECRET}"}, 2),
        ({"HARPOON_API_SECRET": f"{SECRET}é"}, 2),
        ({"HARPOON_API_SECRET": ""}, 2),
        ({"HARPOON_API_KEY": f"{SECRET}\x1b"}, 2),
        ({"HARPOON_SHA256": "none"}, 2),
        ({}, 1),  # nobody is there to trade with
    ],
)
def test_an_environment_that_is_wrong(
    environ: dict[str, str], status: int, ours: Secrets, tmp_path: Path, files: Any
) -> None:
    config = write_config(tmp_path, url="wss://127.0.0.1:1/ws", ca_file=files.ca_file)
    found, said = fail(config, {**HMAC, **environ}, "--live")
    assert found == status
    ours.assert_unseen(said)


@pytest.mark.parametrize(
    "venue",
    [
        {"api_secret_env": SECRET},
        {"api_secret_env": re.sub("[^A-Z]", "", SECRET)},
        {"api_secret": SECRET},
        {"private_key_file": SECRET, "api_secret_env": SECRET},
        {"url": f"wss://user:{SECRET}@127.0.0.1/"},
    ],
)
def test_a_secret_in_the_wrong_place_of_the_configuration(
    venue: dict[str, str], ours: Secrets, tmp_path: Path
) -> None:
    """What stands there instead of a name is not repeated, nor a password in a URL."""
    lines = "\n".join(f'{key} = "{value}"' for key, value in venue.items())
    config = tmp_path / "harpoon.toml"
    url = "" if "url" in venue else 'url = "wss://127.0.0.1:1/ws"'
    config.write_text(f'[feed]\nendpoint = "tcp://127.0.0.1:1"\n[venue]\n{url}\n{lines}\n')
    status, said = fail(config, {"HARPOON_API_KEY": API_KEY})
    assert status == 2
    ours.assert_unseen(said)


@pytest.mark.parametrize(
    ("key", "content", "mode"),
    [
        ("api_secret_file", SECRET, 0o644),
        ("api_secret_file", SECRET, 0o604),
        ("api_secret_file", f"{SECRET}\n{SECRET}\n", 0o600),
        ("api_secret_file", f"secret = {SECRET}", 0o600),
        ("api_secret_file", SECRET * 100, 0o600),
        ("private_key_file", SECRET, 0o600),
        ("private_key_file", f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n", 0o600),
    ],
)
def test_a_file_that_cannot_be_used(
    key: str,
    content: str,
    mode: int,
    ours: Secrets,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    files: Any,
) -> None:
    file = tmp_path_factory.mktemp("key") / "secret"
    file.write_text(content)
    file.chmod(mode)
    config = write_config(
        tmp_path, url="wss://127.0.0.1:1/ws", ca_file=files.ca_file, **{key: str(file)}
    )
    status, said = fail(config, {"HARPOON_API_KEY": API_KEY}, "--live")
    assert status == 2
    ours.assert_unseen(said)


def test_a_log_on_that_is_refused(ours: Secrets, exchange: ExchangeSim, tmp_path: Path) -> None:
    config = write_config(
        tmp_path,
        url=exchange.url,
        ca_file=exchange.ca_file,
        private_key_file=str(ours.private_key_file),
    )
    status, said = fail(config, {"HARPOON_API_KEY": API_KEY}, "--live")  # the other one's
    assert status == 1
    assert b"refuses the log-on" in said["standard error"]
    ours.assert_unseen(said)


def test_a_secret_that_is_another(ours: Secrets, tmp_path: Path) -> None:
    with harpoon_run.exchange(hmac_key=(API_KEY, "another secret")) as exchange:
        config = write_config(tmp_path, url=exchange.url, ca_file=exchange.ca_file)
        status, said = fail(config, HMAC, "--live")
    assert status == 1
    assert b"-1022" in said["standard error"]
    ours.assert_unseen(said)


def test_a_key_that_is_revoked(
    ours: Secrets, exchange: ExchangeSim, node: Publisher, tmp_path: Path
) -> None:
    """While the run goes on."""
    config = write_config(
        tmp_path,
        url=exchange.url,
        stream_url=exchange.stream_url,
        ca_file=exchange.ca_file,
        endpoint=node.endpoint,
    )
    with running(config, HMAC, "--live", "--json-lines") as run:
        run.record("ready")
        node.wait_subscriber()
        del exchange.venue.keys[API_KEY]
        node.send(deposit("kraken"), 0)
        assert run.record("order", status="rejected")["reason"]
        status, errors = run.end()
    assert (status, errors) == (0, "")
    said = {"standard output": run.output.encode()} | tools(tmp_path)
    ours.assert_unseen(said | files_of(tmp_path))


# ---- errors that nobody has foreseen -------------------------------------------------------------

BUG = """
import sys, traceback
import engine.cli, {module} as module

def boom(*_args, **_kwargs):
    raise RuntimeError("a bug of ours")

def report(kind, error, trace):
    print(*traceback.TracebackException(kind, error, trace, capture_locals=True).format())

{owner}.{name} = boom
sys.excepthook = report
sys.exit(engine.cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("module", "owner", "name"),
    [
        ("engine.runner", "module.Runner", "start"),
        ("engine.runner", "module.Runner", "__init__"),
        ("engine.venues.binance", "module", "order_template"),
        ("engine.core", "module.Engine", "add_rule"),
        ("engine.core", "module.Engine", "run"),
        ("engine.core", "module.Engine", "records"),
    ],
)
def test_a_traceback_shows_no_secret(
    module: str,
    owner: str,
    name: str,
    ours: Secrets,
    tmp_path: Path,
    files: Any,
) -> None:
    """Not even one with the values of all variables, as crash reporters collect them."""
    config = write_config(tmp_path, url="wss://127.0.0.1:1/ws", ca_file=files.ca_file)
    script = BUG.format(module=module, owner=owner, name=name)
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, "run", "--config", str(config), "--live"],
        capture_output=True,
        env={**os.environ, **HMAC},
        timeout=60,
    )
    said = done.stdout + done.stderr
    assert b"a bug of ours" in said
    for secret_name, secret in ours.named.items():
        assert not traces(secret, said), f"{secret_name}: {said.decode()}"


def test_errors_and_what_they_come_from(ours: Secrets, tmp_path: Path, files: Any) -> None:
    """The whole chain, as it would be logged."""
    config = load(write_config(tmp_path, url="wss://127.0.0.1:1/ws", ca_file=files.ca_file))
    pem = tmp_path / "damaged.pem"
    pem.touch(0o600)
    pem.write_bytes(ours.private_key_file.read_bytes().replace(b"-----END", b"A-----END"))
    venues = [
        (config.venue, {"HARPOON_API_KEY": API_KEY, "HARPOON_API_SECRET": f"{SECRET} "}),
        (config.venue, {"HARPOON_API_KEY": f"{SECRET}\n"}),
        (replace(config.venue, private_key_file=pem), HMAC),
    ]
    for venue, environ in venues:
        with pytest.raises(ConfigError) as refused:
            credentials(venue, environ)
        error: BaseException | None = refused.value
        while error is not None:
            said = "".join(traceback.format_exception(error)) + repr(error) + repr(error.args)
            ours.assert_unseen({"the error": said.encode()})
            error = error.__cause__ or error.__context__


# ---- objects -------------------------------------------------------------------------------------


@pytest.fixture
def objects(ours: Secrets, tmp_path: Path, files: Any) -> Iterator[list[object]]:
    """Whatever has to do with a key."""
    config = load(write_config(tmp_path, url="wss://127.0.0.1:1/ws", ca_file=files.ca_file))
    hmac = credentials(config.venue, HMAC)
    venue = replace(config.venue, private_key_file=ours.private_key_file)
    runner = Runner(config, hmac, book_of("kraken"), lambda _line: None)
    yield [config, hmac, credentials(venue, HMAC), runner, runner._engine, crypto.HmacKey(b"key")]
    runner._abandon()


def test_objects_show_nothing(objects: list[object], ours: Secrets) -> None:
    for thing in objects:
        members = getattr(thing, "__dict__", {})
        shown = f"{thing!r} {thing!s} {thing:} {members!r} {list(members.values())!r}"
        if isinstance(thing, Credentials):
            shown = f"{thing!r} {thing!s} {thing:}"  # its members are what it is for
        ours.assert_unseen({type(thing).__name__: shown.encode()})


def test_objects_are_not_pickled(objects: list[object], ours: Secrets) -> None:
    """Or not with a secret in them."""
    for thing in objects:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            try:
                pickled = pickle.dumps(thing, protocol)
            except (TypeError, AttributeError, pickle.PicklingError) as error:
                pickled = str(error).encode()
            ours.assert_unseen({type(thing).__name__: pickled})


# ---- memory --------------------------------------------------------------------------------------


def test_no_core_is_dumped() -> None:
    """prctl(2) PR_GET_DUMPABLE: neither by a crash nor, for another process of the same user, by
    looking into /proc."""
    script = """
import ctypes, resource
from engine._native import check, lib
before = ctypes.CDLL(None).prctl(3)
check(lib.hp_protect_process())
print(before, ctypes.CDLL(None).prctl(3), resource.getrlimit(resource.RLIMIT_CORE))
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1 0 (0, 0)\n"


HOLDER = """
import gc, sys
from engine import crypto
from engine.address import address_of
from engine.book import Book, BookEntry
from engine.core import Engine, Rule
from engine.venues.binance import OrderSpec, order_template

secret = sys.stdin.readline().strip()
entry = BookEntry(str(address_of(b"\\0\\x14" + bytes(20))), "kraken")
engine = Engine(Book([entry]))
engine.set_key(secret)
for quantity in ("1", "2", "3"):
    spec = OrderSpec("BTCUSDT", "SELL", "MARKET", quantity)
    number = engine.add_order(order_template(spec, "k" * 64, 5000))
    engine.add_rule(Rule(("deposit",), None, 1, None, number))
engine.set_key(secret)
keys = [crypto.HmacKey(secret.encode(), impl) for impl in crypto.implementations()]
for key in keys:
    key.sign(b"message" * 30)
    key.sign_batch([b"message" * n for n in range(16)])
print("open", len(keys), flush=True)
sys.stdin.readline()
for key in keys:
    key.close()
del engine
gc.collect()
print("closed", flush=True)
sys.stdin.readline()
"""


@dataclass(frozen=True)
class Mapping:
    """A piece of another process's memory, and its VmFlags (proc(5), /proc/pid/smaps)."""

    start: int
    end: int
    flags: frozenset[str]


def mappings(pid: int) -> list[Mapping]:
    found = []
    start = end = 0
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if bounds := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            start, end = int(bounds[1], 16), int(bounds[2], 16)
        elif line.startswith("VmFlags:"):
            found.append(Mapping(start, end, frozenset(line.split()[1:])))
    return found


def places(pid: int, needle: bytes) -> list[Mapping]:
    """Where it is, once for each time."""
    found = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for mapping in mappings(pid):
            if not {"rd", "wr"} <= mapping.flags:
                continue
            memory.seek(mapping.start)
            try:
                content = memory.read(mapping.end - mapping.start)
            except OSError:  # not all of it can be read
                continue
            found += [mapping] * content.count(needle)
    return found


def test_hmac_keys_lie_in_locked_pages_and_are_wiped() -> None:
    """And nowhere else: no copy is left on the stack or the heap by making a key or signing."""
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if os.getuid() != 0 and 0 <= limit < 1 << 20:
        pytest.skip(f"RLIMIT_MEMLOCK is {limit} bytes: pages cannot be locked (ulimit -l)")
    if "LD_PRELOAD" in os.environ:
        pytest.skip("a sanitizer keeps copies, and its shadow is too large to be searched")
    inner, outer = midstates(SECRET.encode())
    pads = [bytes(byte ^ pad for byte in SECRET.encode()) for pad in (0x36, 0x5C)]  # RFC 2104 2
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(f"{SECRET}\n")
        process.stdin.flush()
        said, keys = process.stdout.readline().split()
        assert said == "open"
        try:
            outers, inners = places(process.pid, outer), places(process.pid, inner)
        except PermissionError:
            pytest.skip("this system does not let a process look into its child's memory")
        assert len(outers) == int(keys) + 1 + 3, "keys, the engine's, and one of each template"
        assert len(inners) == int(keys) + 1
        assert all({"lo", "dd"} <= mapping.flags for mapping in outers + inners)
        assert not any(places(process.pid, pad) for pad in pads)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "closed\n"
        for needle in (inner, outer, swapped(inner), swapped(outer), *pads):
            assert not places(process.pid, needle)
    finally:
        process.kill()
        process.communicate()
