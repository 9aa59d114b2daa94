"""csrc/tls.c against servers over memory (Python's `ssl`, pyOpenSSL) and `openssl s_server`.

Every certificate is made here, under a private CA of this run."""

from __future__ import annotations

import datetime
import errno
import ipaddress
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from OpenSSL import SSL

from engine._native import ffi, lib, text

HOST = "exchange.test"
DAY = datetime.timedelta(days=1)
PLENTY = 1 << 20  # more than any buffer of the client holds
READ_SIZE = 4096

fuzz = settings(max_examples=100)


# ---- certificates --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Identity:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: bytes  # the certificate and its issuers, PEM
    pem: Path  # the key, then the chain


def issue(
    folder: Path,
    issuer: Identity | None,
    *,
    names: tuple[str, ...] = (HOST,),
    common_name: str = "test",
    not_before: datetime.timedelta = -DAY,
    not_after: datetime.timedelta = DAY,
    ca: bool = False,
) -> Identity:
    """A certificate by `issuer` (None: self-signed); times are relative to now."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + not_before)
        .not_valid_after(now + not_after)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([general_name(name) for name in names]), critical=False
        )
    certificate = builder.sign(issuer.key if issuer else key, hashes.SHA256())
    chain = certificate.public_bytes(Encoding.PEM) + (issuer.chain if issuer else b"")
    pem = folder / f"{certificate.serial_number}.pem"
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + chain)
    return Identity(certificate, key, chain, pem)


def general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def ca(folder: Path) -> Identity:
    return issue(folder, None, names=(), common_name="test CA", ca=True)


@pytest.fixture(scope="module")
def leaf(folder: Path, ca: Identity) -> Identity:
    return issue(folder, ca)


# ---- the two ends --------------------------------------------------------------------------------


class Refused(Exception):
    """The client's return code and reason."""


class Client:
    """hp_tls, with bytes for buffers and Refused for errors."""

    def __init__(self, ca_file: Path | None, host: str = HOST) -> None:
        error = ffi.new("int *", -1)
        path = str(ca_file).encode() if ca_file else ffi.NULL
        tls = lib.hp_tls_new(host.encode(), path, error)
        if not tls:
            raise Refused(error[0], "")
        assert error[0] == 0
        self.tls = ffi.gc(tls, lib.hp_tls_free)

    @property
    def reason(self) -> str:
        return text(lib.hp_tls_reason(self.tls))

    @property
    def cipher(self) -> str:
        return text(lib.hp_tls_cipher(self.tls))

    def _check(self, code: int) -> int:
        if code < 0:
            raise Refused(code, self.reason)
        return code

    def feed(self, data: bytes) -> None:
        assert self._check(lib.hp_tls_input(self.tls, data, len(data))) == len(data)

    def waiting(self) -> bytes:
        data = ffi.new("uint8_t **")
        n = lib.hp_tls_output(self.tls, data)
        return bytes(ffi.buffer(data[0], n))

    def drain(self) -> bytes:
        data = self.waiting()
        lib.hp_tls_sent(self.tls, len(data))
        return data

    def handshake(self) -> bool:
        return self._check(lib.hp_tls_handshake(self.tls)) == 1

    def read_record(self) -> bytes:
        out = ffi.new("uint8_t[]", READ_SIZE)
        return bytes(ffi.buffer(out, self._check(lib.hp_tls_read(self.tls, out, READ_SIZE))))

    def read(self) -> bytes:
        """Everything that can be read now."""
        return b"".join(iter(self.read_record, b""))

    def seal(self, data: bytes) -> None:
        assert self._check(lib.hp_tls_seal(self.tls, data, len(data))) == len(data)

    def close(self) -> None:
        lib.hp_tls_close(self.tls)


class PythonServer:
    """A server by Python's `ssl` over two MemoryBIOs; ssl.read() is b"" after a goodbye."""

    def __init__(
        self,
        identity: Identity,
        version: ssl.TLSVersion | None = None,
        configure: Callable[[ssl.SSLContext], None] | None = None,
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity.pem)
        if version:
            context.minimum_version = context.maximum_version = version
        if configure:
            configure(context)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl = context.wrap_bio(self._in, self._out, server_side=True)

    def feed(self, data: bytes) -> None:
        self._in.write(data)

    def drain(self) -> bytes:
        return self._out.read()

    def handshake(self) -> bool:
        try:
            self.ssl.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def read(self) -> bytes:
        received = b""
        try:
            while data := self.ssl.read(65536):
                received += data
        except ssl.SSLWantReadError:
            pass
        return received

    def write(self, data: bytes) -> None:
        assert self.ssl.write(data) == len(data)

    def close(self) -> None:
        with pytest.raises(ssl.SSLWantReadError):  # it waits for the client's goodbye
            self.ssl.unwrap()


class PyOpenSSLServer:
    """A server by pyOpenSSL, whose OpenSSL is not the one Python and the client use."""

    def __init__(self, identity: Identity, version: ssl.TLSVersion | None = None) -> None:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate_chain_file(str(identity.pem))
        context.use_privatekey_file(str(identity.pem))
        if version:
            context.set_min_proto_version(version)
            context.set_max_proto_version(version)
        self.connection = SSL.Connection(context, None)
        self.connection.set_accept_state()

    def feed(self, data: bytes) -> None:
        while data:
            data = data[self.connection.bio_write(data) :]

    def drain(self) -> bytes:
        data = b""
        try:
            while True:
                data += self.connection.bio_read(65536)
        except SSL.WantReadError:
            return data

    def handshake(self) -> bool:
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            return False
        return True

    def read(self) -> bytes:
        received = b""
        try:
            while True:
                received += self.connection.recv(65536)
        except (SSL.WantReadError, SSL.ZeroReturnError):
            return received

    def write(self, data: bytes) -> None:
        self.connection.sendall(data)

    def close(self) -> None:
        self.connection.shutdown()


Server = PythonServer | PyOpenSSLServer
Pair = tuple[Client, PythonServer]
SERVERS = (PythonServer, PyOpenSSLServer)
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def shake_hands(client: Client, server: Server, size: int = PLENTY) -> None:
    """Both handshakes, with the server's bytes in pieces of `size`."""
    done = client.handshake()
    for _ in range(4):
        server.feed(client.drain())
        served = server.handshake()
        for piece in cut(server.drain(), size):
            client.feed(piece)
            done = client.handshake()
        if done and served:
            return
    raise AssertionError("the handshake does not end")


def connected(server: Server, ca: Identity, host: str = HOST) -> Client:
    client = Client(ca.pem, host)
    shake_hands(client, server)
    return client


@pytest.fixture
def pair(ca: Identity, leaf: Identity) -> Pair:
    server = PythonServer(leaf)
    return connected(server, ca), server


@contextmanager
def refuses(code: int, words: str = "") -> Iterator[None]:
    """The client fails with -code, and `words` are part of its reason."""
    with pytest.raises(Refused) as refused:
        yield
    refused_code, reason = refused.value.args
    assert refused_code == -code
    assert words in reason


# ---- data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 1460, PLENTY])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", SERVERS)
def test_data_in_both_directions_however_it_is_cut(
    kind: type[Server], version: ssl.TLSVersion, size: int, ca: Identity, leaf: Identity
) -> None:
    client, server = Client(ca.pem), kind(leaf, version)
    assert client.cipher == ""
    shake_hands(client, server, size)
    assert client.cipher.startswith({771: "TLSv1.2 ", 772: "TLSv1.3 "}[version])
    assert client.reason == ""
    for length in (1, 600, 16384, 16385, 40000):
        message = bytes(i * 7 % 251 for i in range(length))
        client.seal(message)
        for piece in cut(client.drain(), size):
            server.feed(piece)
        assert server.read() == message

        server.write(message)
        received = b""
        for piece in cut(server.drain(), size):
            client.feed(piece)
            received += client.read()
        assert received == message


def test_several_records_wait_in_order(pair: Pair) -> None:
    client, server = pair
    client.seal(b"one ")
    first = client.waiting()
    client.seal(b"two ")
    client.seal(b"")
    assert client.waiting().startswith(first)

    lib.hp_tls_sent(client.tls, 3)  # the socket took only some
    server.feed(first[:3])
    client.seal(b"three")
    server.feed(client.drain())
    assert server.read() == b"one two three"
    lib.hp_tls_sent(client.tls, PLENTY)
    assert client.waiting() == b""


def test_a_full_output_refuses_whole_messages_only(pair: Pair) -> None:
    client, server = pair
    message, sealed = b"order " * 500, b""
    with refuses(errno.ENOSPC):
        while len(sealed) < PLENTY:
            client.seal(message)
            sealed += message
    server.feed(client.drain())
    assert sealed
    assert server.read() == sealed

    with refuses(errno.ENOSPC):
        client.seal(bytes(PLENTY))
    client.seal(message)
    server.feed(client.drain())
    assert server.read() == message


def test_a_full_input_refuses_and_keeps_what_it_has(pair: Pair) -> None:
    client, server = pair
    message, taken = b"fill " * 2000, b""
    with refuses(errno.ENOSPC):
        while len(taken) < PLENTY:
            server.write(message)
            client.feed(server.drain())
            taken += message
    assert taken
    assert client.read() == taken


def test_the_input_is_used_over_and_over(pair: Pair) -> None:
    client, server = pair
    server.write(b"0" * 4000)
    for i in range(100):  # a record always waits
        server.write(bytes([i]) * 4000)
        client.feed(server.drain())
        assert client.read_record() == (bytes([i - 1]) if i else b"0") * 4000


# ---- certificates --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "names", "sni"),
    [
        (HOST, (HOST,), HOST),
        (HOST, ("other.test", HOST), HOST),
        ("EXCHANGE.test", (HOST,), "EXCHANGE.test"),
        ("ws.exchange.test", ("*.exchange.test",), "ws.exchange.test"),
        ("127.0.0.1", ("127.0.0.1",), None),
        ("::1", ("::1",), None),
    ],
)
def test_certificate_that_names_the_host(
    host: str, names: tuple[str, ...], sni: str | None, folder: Path, ca: Identity
) -> None:
    seen: list[str | None] = []

    def configure(context: ssl.SSLContext) -> None:
        context.sni_callback = lambda _socket, name, _context: seen.append(name)

    connected(PythonServer(issue(folder, ca, names=names), configure=configure), ca, host)
    assert seen == [sni]


@pytest.mark.parametrize(
    ("host", "details", "words"),
    [
        (HOST, {"names": ("other.test",)}, "hostname mismatch"),
        (HOST, {"names": ("change.test", "exchange.tes")}, "hostname mismatch"),
        (HOST, {"names": ("*.exchange.test", "*")}, "hostname mismatch"),
        (HOST, {"names": (), "common_name": HOST}, "hostname mismatch"),
        ("ws.exchange.test", {"names": ("w*.exchange.test",)}, "hostname mismatch"),
        ("a.b.exchange.test", {"names": ("*.exchange.test",)}, "hostname mismatch"),
        ("127.0.0.1", {"names": ("127.0.0.2", HOST)}, "IP address mismatch"),
        ("::1", {"names": ("127.0.0.1",)}, "IP address mismatch"),
        (HOST, {"not_before": -2 * DAY, "not_after": -DAY}, "certificate has expired"),
        (HOST, {"not_before": DAY, "not_after": 2 * DAY}, "certificate is not yet valid"),
    ],
)
def test_certificate_of_another_host_or_another_time(
    host: str, details: dict[str, Any], words: str, folder: Path, ca: Identity
) -> None:
    with refuses(lib.HP_ETLS_CERT, words):
        shake_hands(Client(ca.pem, host), PythonServer(issue(folder, ca, **details)))


def test_certificate_that_nobody_vouches_for(folder: Path, ca: Identity, leaf: Identity) -> None:
    with refuses(lib.HP_ETLS_CERT, "self-signed certificate"):
        shake_hands(Client(ca.pem), PythonServer(issue(folder, None)))
    with refuses(lib.HP_ETLS_CERT, "invalid CA certificate"):
        shake_hands(Client(ca.pem), PythonServer(issue(folder, leaf, common_name="by a leaf")))
    for trusted in (None, issue(folder, None, common_name="another CA", ca=True).pem):
        with refuses(lib.HP_ETLS_CERT, "self-signed certificate in certificate chain"):
            shake_hands(Client(trusted), PythonServer(leaf))


def test_the_server_hears_of_a_refused_certificate(folder: Path, ca: Identity) -> None:
    client, server = Client(ca.pem), PythonServer(issue(folder, None))
    with refuses(lib.HP_ETLS_CERT):
        shake_hands(client, server)
    server.feed(client.drain())
    with pytest.raises(ssl.SSLError, match="unknown ca"):
        server.handshake()
    with refuses(lib.HP_ETLS_CERT):  # nor is it accepted when asked again
        client.handshake()


def test_ca_file_that_cannot_be_used(tmp_path: Path, ca: Identity) -> None:
    pem = ca.pem.read_bytes()
    (tmp_path / "empty.pem").touch()
    (tmp_path / "garbage.pem").write_bytes(b"garbage\n" * 9)
    (tmp_path / "key.pem").write_bytes(pem[: pem.index(b"-----BEGIN CERT")])
    (tmp_path / "damaged.pem").write_bytes(ca.chain.replace(b"M", b"N", 1))
    for name in ("missing.pem", "empty.pem", "garbage.pem", "key.pem", "damaged.pem", "."):
        with refuses(lib.HP_ETLS_CA):
            Client(tmp_path / name)


@pytest.mark.parametrize("host", ["", ".exchange.test", "a" * 256])
def test_host_that_is_none(host: str, ca: Identity) -> None:
    with refuses(errno.EINVAL):
        Client(ca.pem, host)


# ---- the end of a session ------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", SERVERS)
def test_close_notify_of_the_server(
    kind: type[Server], version: ssl.TLSVersion, ca: Identity, leaf: Identity
) -> None:
    server = kind(leaf, version)
    client = connected(server, ca)
    server.write(b"last words")
    server.close()
    client.feed(server.drain())
    assert client.read_record() == b"last words"
    for _ in range(2):
        with refuses(lib.HP_ETLS_CLOSED, "close notify"):
            client.read_record()
    client.seal(b"bye")  # that direction is still open
    assert client.reason == ""


@pytest.mark.parametrize("version", VERSIONS)
def test_our_close_notify(version: ssl.TLSVersion, ca: Identity, leaf: Identity) -> None:
    server = PythonServer(leaf, version)
    client = connected(server, ca)
    client.seal(b"bye")
    client.close()
    server.feed(client.drain())
    assert server.read() == b"bye"
    assert server.ssl.read(1) == b""

    with refuses(lib.HP_ETLS, "shutdown"):
        client.seal(b"more")
    server.write(b"still talking")
    client.feed(server.drain())
    client.close()
    assert client.read() == b"still talking"
    assert client.waiting() == b""


def test_an_unfinished_handshake_neither_seals_nor_says_goodbye(ca: Identity) -> None:
    client = Client(ca.pem)
    client.handshake()
    hello = client.waiting()
    with refuses(lib.HP_ENOT_READY):
        client.seal(b"order")
    client.close()
    assert client.waiting() == hello


def test_a_server_that_wants_a_certificate_from_us(ca: Identity, leaf: Identity) -> None:
    def configure(context: ssl.SSLContext) -> None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(ca.pem)

    server = PythonServer(leaf, ssl.TLSVersion.TLSv1_3, configure)
    client = Client(ca.pem)
    with pytest.raises(ssl.SSLError, match="did not return a certificate"):
        shake_hands(client, server)
    client.feed(server.drain())
    with refuses(lib.HP_ETLS, "certificate required"):
        client.read()


# ---- bytes that are wrong ------------------------------------------------------------------------


def test_a_server_too_old(ca: Identity, leaf: Identity) -> None:
    client, server = Client(ca.pem), PyOpenSSLServer(leaf, ssl.TLSVersion.TLSv1_1)
    with pytest.raises(SSL.Error):
        shake_hands(client, server)
    client.feed(server.drain())
    with refuses(lib.HP_ETLS, "protocol version"):
        client.handshake()


@pytest.mark.parametrize("minor", [0, 1, 2])  # SSL 3.0, TLS 1.0, TLS 1.1
def test_a_server_that_answers_in_an_older_protocol(minor: int, ca: Identity) -> None:
    body = bytes([3, minor]) + bytes(32) + b"\x00" + b"\xc0\x2f" + b"\x00"  # RFC 5246 7.4.1.3
    hello = b"\x02" + len(body).to_bytes(3, "big") + body
    client = Client(ca.pem)
    client.handshake()
    client.feed(bytes([22, 3, minor]) + len(hello).to_bytes(2, "big") + hello)
    with refuses(lib.HP_ETLS, "unsupported protocol"):
        client.handshake()


@pytest.mark.parametrize(
    "greeting",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2p1\r\n", bytes(64), b"\xff" * 64],
)
def test_a_server_that_does_not_speak_tls(greeting: bytes, ca: Identity) -> None:
    client = Client(ca.pem)
    assert not client.handshake()
    client.feed(greeting)
    with refuses(lib.HP_ETLS, "wrong version number"):
        client.handshake()


def test_a_changed_record(pair: Pair, ca: Identity, leaf: Identity) -> None:
    client, server = pair
    bystander = connected(PythonServer(leaf), ca)
    server.write(b"filled")
    record = bytearray(server.drain())
    record[-1] ^= 1
    client.feed(bytes(record))
    with refuses(lib.HP_ETLS, "bad record mac"):
        client.read()
    assert bystander.read() == b""  # OpenSSL's errors are the thread's, not the session's
    assert bystander.reason == ""


@fuzz
@given(position=st.integers(0), change=st.integers(1, 255))
def test_no_changed_handshake_is_completed(
    position: int, change: int, ca: Identity, leaf: Identity
) -> None:
    client, server = Client(ca.pem), PythonServer(leaf)
    client.handshake()
    server.feed(client.drain())
    server.handshake()
    flight = bytearray(server.drain())
    second = 5 + int.from_bytes(flight[3:5], "big")  # after the ServerHello: ChangeCipherSpec
    position %= len(flight)
    assume(position not in (1, 2, second + 1, second + 2))  # RFC 8446 5.1: ignored versions
    flight[position] ^= change
    client.feed(bytes(flight))
    assert lib.hp_tls_handshake(client.tls) in (0, -lib.HP_ETLS, -lib.HP_ETLS_CERT)


@fuzz
@given(junk=st.lists(st.binary(max_size=100), max_size=5))
def test_junk_is_never_a_handshake(junk: list[bytes], ca: Identity) -> None:
    client = Client(ca.pem)
    for piece in junk:
        client.feed(piece)
        assert lib.hp_tls_handshake(client.tls) in (0, -lib.HP_ETLS)


@fuzz
@given(junk=st.binary(min_size=1, max_size=300))
def test_junk_is_never_data(junk: bytes, ca: Identity, leaf: Identity) -> None:
    client = connected(PythonServer(leaf), ca)
    client.feed(junk)
    with suppress(Refused):
        assert client.read() == b""


# ---- post-handshake messages ---------------------------------------------------------------------


def test_renegotiation_is_declined(ca: Identity, leaf: Identity) -> None:
    server = PyOpenSSLServer(leaf, ssl.TLSVersion.TLSv1_2)
    client = connected(server, ca)
    assert server.connection.renegotiate()
    server.connection.do_handshake()
    client.feed(server.drain())
    assert client.read() == b""
    alert = client.drain()
    assert alert[0] == 21  # RFC 5246 7.2.2: an alert, and no ClientHello
    client.seal(b"order")
    server.feed(alert)
    with pytest.raises(SSL.Error, match="no renegotiation"):
        server.read()


@contextmanager
def s_server(pem: str) -> Iterator[tuple[Any, socket.socket]]:
    """The command line server: what is typed is sent, but K asks for new keys of both sides."""
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-tls1_3", "-cert", pem]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    ) as process:
        try:
            wait_for(process, b"ACCEPT 127.0.0.1:")
            assert process.stdout is not None
            port = int(process.stdout.readline())
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                yield process, connection
        finally:
            process.kill()


def wait_for(process: Any, words: bytes) -> None:
    seen = b""
    while not seen.endswith(words):
        byte = process.stdout.read(1)
        assert byte, seen
        seen += byte


@pytest.mark.skipif(not shutil.which("openssl"), reason="no other peer here sends KeyUpdate")
def test_key_update_is_answered(ca: Identity, leaf: Identity) -> None:
    with s_server(str(leaf.pem)) as (process, connection):
        client = Client(ca.pem)
        while not client.handshake():
            connection.sendall(client.drain())
            client.feed(connection.recv(READ_SIZE))
        connection.sendall(client.drain())
        for i in range(3):
            client.seal(b"order %d\n" % i)
            one_record = len(client.waiting())
            connection.sendall(client.drain())
            wait_for(process, b"order %d\n" % i)
            process.stdin.write(b"filled %d\n" % i)
            received = b""
            while received != b"filled %d\n" % i:
                client.feed(connection.recv(READ_SIZE))
                received += client.read()

            process.stdin.write(b"K\n")  # KeyUpdate, update_requested (RFC 8446 4.6.3)
            client.feed(connection.recv(READ_SIZE))
            assert client.read() == b""
            client.seal(b"again %d\n" % i)
            assert len(client.waiting()) > one_record  # our own KeyUpdate goes first
            connection.sendall(client.drain())
            wait_for(process, b"again %d\n" % i)
