"""The two ends of a TLS connection: hp_tls, and the servers that it talks to in the tests.

Every certificate is made here, under a private CA of this run."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from engine._native import ffi, lib, text

HOST = "exchange.test"
DAY = datetime.timedelta(days=1)
PLENTY = 1 << 20  # more than any buffer of the client holds
READ_SIZE = 4096


# ---- certificates --------------------------------------------------------------------------------


PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Identity:
    certificate: x509.Certificate
    key: PrivateKey
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
    key: PrivateKey | None = None,
) -> Identity:
    """A certificate by `issuer` (None: self-signed); times are relative to now."""
    key = key or ec.generate_private_key(ec.SECP256R1())
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


@contextmanager
def refuses(code: int, words: str = "") -> Iterator[None]:
    """The client fails with -code, and `words` are part of its reason."""
    with pytest.raises(Refused) as refused:
        yield
    refused_code, reason = refused.value.args
    assert refused_code == -code
    assert words in reason


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
