"""The engine against real TLS servers, `openssl s_server` and nginx: what it refuses, what it says
then, and how it trades through a reverse proxy."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from engine.core import Engine, VenueAddress
from engine.errors import VenueError
from engine.report import ACCEPTED
from engine.sim.exchange import ExchangeSim

from . import harpoon_run, tls_servers
from .harpoon_run import running, write_config
from .peers import book_of, deposit
from .publisher import Publisher
from .tls_ends import DAY, HOST, Identity, issue

KEYS = ("k" * 64, "s" * 64)
ENVIRON = {"HARPOON_API_KEY": KEYS[0], "HARPOON_API_SECRET": KEYS[1]}
WEAK = ("-cipher", "DEFAULT@SECLEVEL=0")  # what a server needs to show a weak certificate
PATIENCE_S = 20.0
CLOCK = "check this machine's clock"
TRUST = "set venue.ca_file to the CA that signed it"

each_server = pytest.mark.parametrize("kind", ["openssl", "nginx"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def ca(folder: Path) -> Identity:
    return issue(folder, None, names=(), common_name="test CA", ca=True)


@pytest.fixture(scope="module")
def leaf(folder: Path, ca: Identity) -> Identity:
    return issue(folder, ca)


def attempt(
    port: int, ca_file: Path | None, host: str = HOST, timeout_s: float = PATIENCE_S
) -> str:
    """What Engine.connect() says of a server that is no venue, whatever happens."""
    address = VenueAddress("127.0.0.1", host, port, "/ws-api/v3", ca_file, int(timeout_s * 1e9))
    with pytest.raises(VenueError) as refused:
        Engine(book_of("kraken")).connect(address)
    sentence = str(refused.value)
    assert f"{host} port {port}" in sentence
    assert "\n" not in sentence
    return sentence


def is_trusted(sentence: str) -> bool:
    """TLS came about, and it was HTTP that disappointed us."""
    return sentence.startswith("WebSocket upgrade of") and "HTTP status" in sentence


# ---- certificates --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A server's certificate, how the server is reached, and what is said: all of `words`, or
    nothing wrong with it."""

    details: dict[str, Any]
    words: tuple[str, ...] = ()
    host: str = HOST
    flags: tuple[str, ...] = ()


CASES = {
    "its name": Case({}),
    "one of its names": Case({"names": ("other.test", HOST)}),
    "wildcard": Case({"names": ("*.exchange.test",)}, host="ws.exchange.test"),
    "its address": Case({"names": ("127.0.0.1",)}, host="127.0.0.1"),
    "TLS 1.2": Case({}, flags=("-tls1_2",)),
    "TLS 1.3": Case({}, flags=("-tls1_3",)),
    "expired": Case(
        {"not_before": -2 * DAY, "not_after": -DAY}, ("certificate has expired", CLOCK)
    ),
    "not yet valid": Case(
        {"not_before": DAY, "not_after": 2 * DAY}, ("certificate is not yet valid", CLOCK)
    ),
    "other name": Case(
        {"names": ("other.test",)}, ("hostname mismatch", "correct the host in venue.url")
    ),
    "name only in CN": Case({"names": (), "common_name": HOST}, ("hostname mismatch",)),
    "wildcard of the parent": Case({"names": ("*.test",)}, ("hostname mismatch",), "a.b.test"),
    "wildcard in a label": Case(
        {"names": ("w*.exchange.test",)}, ("hostname mismatch",), "ws.exchange.test"
    ),
    "other address": Case({"names": ("127.0.0.2", HOST)}, ("IP address mismatch",), "127.0.0.1"),
    "TLS 1.1": Case({}, ("protocol version", "no TLS 1.2 or later"), flags=("-tls1_1", *WEAK)),
    "TLS 1.0": Case({}, ("protocol version", "no TLS 1.2 or later"), flags=("-tls1", *WEAK)),
}


@each_server
@pytest.mark.parametrize("name", CASES)
def test_certificate(name: str, kind: str, ca: Identity, folder: Path, tmp_path: Path) -> None:
    case = CASES[name]
    identity = issue(folder, ca, **case.details)
    with tls_servers.server(kind, identity.pem, tmp_path, *case.flags) as port:
        sentence = attempt(port, ca.pem, case.host)
    assert is_trusted(sentence) == (not case.words), sentence
    assert all(word in sentence for word in case.words), sentence


@each_server
def test_a_key_that_can_be_broken(kind: str, ca: Identity, folder: Path, tmp_path: Path) -> None:
    identity = issue(folder, ca, key=rsa.generate_private_key(65537, 1024))
    with tls_servers.server(kind, identity.pem, tmp_path, *WEAK) as port:
        sentence = attempt(port, ca.pem)
    assert "key too weak" in sentence
    assert "the exchange must renew it" in sentence


@each_server
def test_a_signature_that_can_be_forged(kind: str, ca: Identity, tmp_path: Path) -> None:
    """SHA-1, with which Python's cryptography signs no more."""
    pem, config = tmp_path / "sha1.pem", tmp_path / "openssl.cnf"
    config.write_text("[req]\ndistinguished_name = none\n[none]\n")
    made = subprocess.run(
        [
            *("openssl", "req", "-config", config, "-x509", "-CA", ca.pem, "-CAkey", ca.pem),
            *("-sha1", "-days", "1", "-subj", "/CN=test", "-addext", f"subjectAltName=DNS:{HOST}"),
            *("-noenc", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-keyout", pem, "-out", tmp_path / "certificate.pem"),
        ],
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"this openssl signs no more with SHA-1: {made.stderr}")
    with pem.open("ab") as file:
        file.write((tmp_path / "certificate.pem").read_bytes())
    with tls_servers.server(kind, pem, tmp_path, *WEAK) as port:
        sentence = attempt(port, ca.pem)
    assert "digest algorithm too weak" in sentence
    assert "the exchange must renew it" in sentence


@each_server
def test_nobody_vouches_for_it(kind: str, ca: Identity, folder: Path, tmp_path: Path) -> None:
    stranger = issue(folder, None, common_name="another CA", ca=True)
    for identity, ca_file, words in (
        (issue(folder, None), ca.pem, "self-signed certificate"),
        (issue(folder, stranger), ca.pem, "self-signed certificate in certificate chain"),
        (issue(folder, ca), None, "self-signed certificate in certificate chain"),
        (
            issue(folder, issue(folder, ca), common_name="by a leaf"),
            ca.pem,
            "invalid CA certificate",
        ),
    ):
        home = tmp_path / identity.pem.stem
        home.mkdir()
        with tls_servers.server(kind, identity.pem, home) as port:
            sentence = attempt(port, ca_file)
        assert f"certificate was refused: {words};" in sentence
        assert TRUST in sentence


@each_server
def test_an_intermediate_authority(kind: str, ca: Identity, folder: Path, tmp_path: Path) -> None:
    """It has to be shown by the server, or trusted by us."""
    between = issue(folder, ca, common_name="between", ca=True)
    leaf = issue(folder, between)
    key = leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    alone = tmp_path / "alone.pem"
    alone.write_bytes(key + leaf.certificate.public_bytes(Encoding.PEM))
    both = tmp_path / "both.pem"
    both.write_bytes(between.chain)
    for number, (pem, ca_file, trusted) in enumerate(
        ((leaf.pem, ca.pem, True), (alone, both, True), (alone, ca.pem, False))
    ):
        home = tmp_path / str(number)
        home.mkdir()
        with tls_servers.server(kind, pem, home) as port:
            sentence = attempt(port, ca_file)
        assert is_trusted(sentence) == trusted
        assert trusted or ("unable to get local issuer" in sentence and TRUST in sentence)


def test_the_command_says_the_same(ca: Identity, folder: Path, tmp_path: Path) -> None:
    """One sentence, exit status 1."""
    identity = issue(folder, ca, names=("localhost",), not_before=-2 * DAY, not_after=-DAY)
    with tls_servers.server("openssl", identity.pem, tmp_path) as port:
        config = write_config(tmp_path, url=f"wss://localhost:{port}/ws-api/v3", ca_file=ca.pem)
        with running(config, ENVIRON, "--live") as run:
            status, errors = run.wait()
    assert status == 1
    assert re.fullmatch(
        rf"harpoon: TLS with localhost port {port}: .* has expired; {CLOCK}.*\n", errors
    )


# ---- servers that are none -----------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("most", [0, 1, 4, 5, 6, 60, 127, 128, 500, 900])
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_handshake_that_is_cut_short(
    version: str, most: int, reset: bool, ca: Identity, leaf: Identity
) -> None:
    """After so many bytes of the server's first flight, which is longer."""
    with (
        tls_servers.s_server(leaf.pem, version) as port,
        tls_servers.relay(port, most, reset) as cut,
    ):
        sentence = attempt(cut, ca.pem)
    assert sentence.startswith("TLS with ")
    assert ("connection was reset" if reset else "server closed the connection") in sentence
    assert "check " in sentence


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "wrong version number; check that venue.url names"),
        (b"\x15\x03\x01\x00\x02\x02\x28", "alert handshake failure"),
        (b"\x15\x03\x01\x00\x02\x02\x70", "unrecognized name"),
        (b"", "closed the connection"),
    ],
)
def test_a_server_that_does_not_speak_tls(words: bytes, reason: str, ca: Identity) -> None:
    with playing(words) as port:
        assert reason in attempt(port, ca.pem)


def test_a_server_of_plain_http(tmp_path: Path, ca: Identity, leaf: Identity) -> None:
    """nginx answers our greeting with an HTTP error."""
    with tls_servers.nginx(leaf.pem, tmp_path / "nginx", "return 204;", tls=False) as port:
        sentence = attempt(port, ca.pem)
    assert "wrong version number; check that venue.url names a TLS (wss) port" in sentence


def test_a_server_that_says_nothing(ca: Identity) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sentence = attempt(silent.getsockname()[1], ca.pem, timeout_s=0.3)
    assert "did not answer in time; check the network" in sentence


@contextmanager
def playing(words: bytes) -> Iterator[int]:
    """A server that says only this, to whoever comes first."""

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(1 << 16)
            peer.sendall(words)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(PATIENCE_S)


# ---- a reverse proxy -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ed25519(folder: Path) -> tuple[Path, bytes]:
    """The private key's file, and the public key."""
    key = Ed25519PrivateKey.generate()
    file = folder / "private.pem"
    file.touch(0o600)
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return file, public


@pytest.fixture(scope="module")
def exchange(ed25519: tuple[Path, bytes]) -> Iterator[ExchangeSim]:
    with harpoon_run.exchange(hmac_key=KEYS, ed25519_key=("e" * 64, ed25519[1])) as sim:
        yield sim


def is_accepted(line: harpoon_run.Line) -> bool:
    return line["record"] == "order" and line["status"] in ACCEPTED


PROXY = """
ssl_protocols {version};
ssl_buffer_size {buffer};
ssl_session_cache shared:tls:1m;
ssl_session_tickets on;
proxy_ssl_trusted_certificate {ca_file}; proxy_ssl_verify on; proxy_ssl_name localhost;
proxy_http_version 1.1;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection "upgrade";
proxy_set_header Host $host;
location / {{ proxy_pass https://{upstream}; }}
location /stream {{ proxy_pass https://{streams}; }}
"""


@pytest.mark.parametrize(
    ("key", "version", "buffer", "transport"),  # `buffer`: most bytes in a record of nginx's
    [
        ("hmac", "TLSv1.3", "64", "io_uring"),
        ("hmac", "TLSv1.2", "16k", "syscall"),
        ("ed25519", "TLSv1.3", "16k", "syscall"),
        ("ed25519", "TLSv1.2", "64", "io_uring"),
    ],
)
def test_trading_through_nginx(
    key: str,
    version: str,
    buffer: str,
    transport: str,
    exchange: ExchangeSim,
    ed25519: tuple[Path, bytes],
    ca: Identity,
    folder: Path,
    tmp_path: Path,
) -> None:
    """Log-on where there is one, two orders, their replies: and the second order has been sealed
    before it was needed where that is possible."""
    directives = PROXY.format(
        version=version,
        buffer=buffer,
        upstream=exchange.url.split("/")[2],
        streams=exchange.stream_url.split("/")[2],
        ca_file=exchange.ca_file,
    )
    node = Publisher()
    environ = ENVIRON if key == "hmac" else {"HARPOON_API_KEY": "e" * 64}
    venue = {} if key == "hmac" else {"private_key_file": str(ed25519[0])}
    pem = issue(folder, ca, names=("localhost",)).pem
    with tls_servers.nginx(pem, tmp_path / "nginx", directives) as port:
        config = write_config(
            tmp_path,
            url=f"wss://localhost:{port}/ws-api/v3",
            stream_url=f"wss://localhost:{port}",
            ca_file=ca.pem,
            endpoint=node.endpoint,
            transport=transport,
            **venue,
        )
        with running(config, environ, "--live", "--json-lines") as run:
            ready = run.record("ready")
            node.wait_subscriber()
            acked = []
            for nonce in (1, 2):
                node.send(deposit("kraken", nonce), nonce)
                acked.append(run.until(is_accepted)["client_id"])
                run.record("progress")  # a second, in which it is armed anew
            status, errors = run.end()
    node.close()
    assert (status, errors) == (0, "")
    assert f", {version} " in ready["transport"]
    ordered = {entry.client_id for entry in exchange.ledger}
    assert set(acked) <= ordered
    summary = run.output.splitlines()[-1]
    armed = int(re.findall(r'"orders_armed":(\d+)', summary)[0])
    assert armed >= 1 if version == "TLSv1.3" else armed == 0
