"""csrc/tls.c against servers over memory (Python's `ssl`, pyOpenSSL) and `openssl s_server`."""

from __future__ import annotations

import errno
import shutil
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from OpenSSL import SSL

from engine._native import lib

from .tls_ends import (
    DAY,
    HOST,
    PLENTY,
    READ_SIZE,
    Client,
    Identity,
    PyOpenSSLServer,
    PythonServer,
    Refused,
    Server,
    connected,
    cut,
    issue,
    refuses,
    s_server,
    shake_hands,
    wait_for,
)

Pair = tuple[Client, PythonServer]
SERVERS = (PythonServer, PyOpenSSLServer)
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)

fuzz = settings(max_examples=100)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def ca(folder: Path) -> Identity:
    return issue(folder, None, names=(), common_name="test CA", ca=True)


@pytest.fixture(scope="module")
def leaf(folder: Path, ca: Identity) -> Identity:
    return issue(folder, ca)


@pytest.fixture
def pair(ca: Identity, leaf: Identity) -> Pair:
    server = PythonServer(leaf)
    return connected(server, ca), server


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


@pytest.mark.skipif(not shutil.which("openssl"), reason="no other peer here sends KeyUpdate")
@pytest.mark.parametrize("size", [16, lib.HP_SLOT_BYTES_MAX + 1])  # ours from then on; OpenSSL's
def test_key_update_is_answered(size: int, ca: Identity, leaf: Identity) -> None:
    with s_server(str(leaf.pem)) as (process, connection):
        client = Client(ca.pem)
        while not client.handshake():
            connection.sendall(client.drain())
            client.feed(connection.recv(READ_SIZE))
        first = b"-" * (size - 1) + b"\n"
        client.seal(first)
        connection.sendall(client.drain())
        wait_for(process, first)
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
