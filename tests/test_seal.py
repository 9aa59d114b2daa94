"""Records sealed ahead: whatever is sealed, committed, discarded and updated in whatever order, the
peer reads what was committed, and no two records that left have a key and a number in common."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine._native import ffi, lib

from .tls_ends import (
    READ_SIZE,
    Client,
    Identity,
    PythonServer,
    connected,
    issue,
    refuses,
)
from .tls_records import (
    ALERT,
    CLOSE_NOTIFY,
    DATA,
    HANDSHAKE,
    KEY_UPDATE,
    KEY_UPDATE_REQUEST,
    SUITES,
    Keys,
    Watch,
    logged_secret,
    record_len,
)

FIRST = b"the first record\n"
SLOTS = (0, 1, 2, 31, lib.HP_SLOTS_MAX - 1)
SIZE_MAX = lib.HP_SLOT_BYTES_MAX
WHOLE = 1 << 30  # bytes of a record that the kernel took: all of them


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return issue(tmp_path_factory.mktemp("ca"), None, names=(), common_name="test CA", ca=True)


@pytest.fixture(scope="module")
def leaf(tmp_path_factory: pytest.TempPathFactory, ca: Identity) -> Identity:
    return issue(tmp_path_factory.mktemp("leaf"), ca)


# ---- the peers -----------------------------------------------------------------------------------


class MemoryPeer:
    """Python's `ssl` reads; what the peer says is sealed here with the server's secret, since `ssl`
    cannot ask for a KeyUpdate."""

    def __init__(self, ca: Identity, leaf: Identity, folder: Path) -> None:
        def configure(context: ssl.SSLContext) -> None:
            context.keylog_filename = str(folder / "keys")

        self.server = PythonServer(leaf, ssl.TLSVersion.TLSv1_3, configure)
        self.client = connected(self.server, ca)
        suite = self.client.cipher.split()[1]
        self.keys = Keys(suite, logged_secret(folder / "keys", "SERVER_TRAFFIC_SECRET_0"))
        self.keys.number = 2  # its NewSessionTickets, which wait in the client
        self.watch = Watch(Keys(suite, logged_secret(folder / "keys", "CLIENT_TRAFFIC_SECRET_0")))
        self._data = b""

    def receive(self, sent: bytes) -> None:
        self.watch.see(sent)
        self.server.feed(sent)
        self._data += self.server.read()

    def send(self, data: bytes) -> None:
        self.client.feed(self.keys.seal(DATA, data))

    def update_key(self, requested: bool) -> None:
        self.client.feed(self.keys.seal(HANDSHAKE, KEY_UPDATE_REQUEST if requested else KEY_UPDATE))
        self.keys.update()

    def expect(self, data: bytes) -> None:
        assert self._data == data


class CommandPeer:
    """`openssl s_server`: what is typed is sent, but K and k are KeyUpdates, with and without a
    request."""

    def __init__(self, client: Client, suite: str, typed: Any, folder: Path) -> None:
        self.client = client
        self._typed, self._printed, self._received = typed, folder / "printed", b""
        port = self._await(lambda printed: re.search(rb"ACCEPT 127\.0\.0\.1:(\d+)\n", printed))[1]
        self._socket = socket.create_connection(("127.0.0.1", int(port)), timeout=10)
        while not client.handshake():
            self._socket.sendall(client.drain())
            client.feed(self._socket.recv(READ_SIZE))
        self._socket.sendall(client.drain())
        for _ in range(2):
            self._pass_record()  # a NewSessionTicket
        self.watch = Watch(Keys(suite, logged_secret(folder / "keys", "CLIENT_TRAFFIC_SECRET_0")))

    def _await(self, found: Callable[[bytes], Any]) -> Any:
        until = time.monotonic() + 20
        while not (result := found(self._printed.read_bytes())):
            assert time.monotonic() < until, self._printed.read_bytes()[-2000:]
            time.sleep(0.005)
        return result

    def _pass_record(self) -> None:
        while len(self._received) < 5 or len(self._received) < record_len(self._received):
            data = self._socket.recv(READ_SIZE)
            assert data, "the server closed the connection"
            self._received += data
        end = record_len(self._received)
        self.client.feed(self._received[:end])
        self._received = self._received[end:]

    def receive(self, sent: bytes) -> None:
        self.watch.see(sent)
        self._socket.sendall(sent)

    def send(self, data: bytes) -> None:
        self._typed.write(data)
        self._pass_record()

    def update_key(self, requested: bool) -> None:
        self.send(b"K\n" if requested else b"k\n")

    def expect(self, data: bytes) -> None:
        def all_of_it(printed: bytes) -> bool:
            _, first, rest = printed.partition(FIRST)
            return first + re.sub(rb"(SSL_do_handshake -> 1|Read BLOCK)\n", b"", rest) == data

        self._await(all_of_it)

    def close(self) -> None:
        self._socket.close()


Peer = MemoryPeer | CommandPeer


@contextmanager
def command_peer(ca: Identity, leaf: Identity, suite: str, folder: Path) -> Iterator[CommandPeer]:
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-tls1_3", "-cert", str(leaf.pem)]
    options = ["-ciphersuites", suite, "-keylogfile", str(folder / "keys")]
    with (
        (folder / "printed").open("wb") as printed,
        subprocess.Popen(
            [*command, *options],
            stdin=subprocess.PIPE,
            stdout=printed,
            stderr=subprocess.STDOUT,
            bufsize=0,
        ) as process,
    ):
        try:
            with closing(CommandPeer(Client(ca.pem), suite, process.stdin, folder)) as peer:
                yield peer
        finally:
            process.kill()


@pytest.fixture
def peer(ca: Identity, leaf: Identity, tmp_path: Path) -> MemoryPeer:
    """Connected, and the client's first record, with which the write side becomes ours, is read."""
    peer = MemoryPeer(ca, leaf, tmp_path)
    peer.client.seal(FIRST)
    peer.receive(peer.client.drain())
    return peer


# ---- the doors -----------------------------------------------------------------------------------


def seal_ahead(client: Client, slot: int, data: bytes) -> int:
    return int(lib.hp_tls_seal_ahead(client.tls, slot, data, len(data)))


def place(client: Client, slot: int) -> Any:
    """The memory of the record in a slot; empty when none may be sent."""
    record = ffi.new("uint8_t **")
    n = lib.hp_tls_sealed(client.tls, slot, record)
    return ffi.buffer(record[0], n) if n else b""


# ---- in any order --------------------------------------------------------------------------------


class Play:
    """A client, and what has to be true of it after every move."""

    def __init__(self, peer: Peer, seed: int) -> None:
        self.peer, self.client, self.random = peer, peer.client, random.Random(seed)
        self.slots: dict[int, bytes] = {}  # what is sealed there
        self.places: list[Any] = []  # where records have been since the last were wiped
        self.committed, self.answers, self.messages, self.fired = b"", 0, 0, 0
        self.seal(FIRST)
        self.flush()

    def message(self, most: int = 600) -> bytes:
        self.messages += 1
        words = b"message %d " % self.messages
        return (words * (most // len(words) + 1))[: self.random.randrange(most)] + b"\n"

    def wiped(self) -> None:
        """Nothing is left of any alternative, neither by its slot nor in memory."""
        self.slots.clear()
        assert not any(any(bytes(memory)) for memory in self.places)
        self.places.clear()

    def check(self) -> None:
        ready = {} if self.client.waiting() else self.slots
        for slot in SLOTS:
            memory = place(self.client, slot)
            if slot in ready:
                assert self.peer.watch.keys.peek(bytes(memory)) == (DATA, ready[slot])
                self.places.append(memory)
            else:
                assert not bytes(memory)

    # The moves.

    def seal_ahead(self) -> None:
        slot, message = self.random.choice(SLOTS), self.message(SIZE_MAX)
        assert seal_ahead(self.client, slot, message) == 1
        self.slots[slot] = message
        self.places.clear()  # it may have been there, and longer

    def fire(self) -> None:
        slot = self.random.choice(list(self.slots) or SLOTS)
        if record := bytes(place(self.client, slot)):
            sent = self.random.choice((len(record), self.random.randint(1, len(record))))
            lib.hp_tls_commit(self.client.tls, slot, sent)
            assert self.client.waiting() == record[sent:]
            self.peer.receive(record[:sent] + self.client.drain())
            self.committed += self.slots[slot]
            self.fired += 1
            self.wiped()
        else:
            self.seal(self.message())
            self.flush()

    def seal(self, message: bytes | None = None) -> None:
        message = message or self.message(self.random.choice((20, 600, 18000)))
        self.client.seal(message)
        self.committed += message
        self.wiped()

    def flush(self) -> None:
        self.peer.receive(self.client.drain())

    def spoil(self) -> None:
        slot = self.random.choice(SLOTS)
        memory = place(self.client, slot)
        lib.hp_tls_spoil(self.client.tls, slot)
        assert not any(bytes(memory))
        self.slots.pop(slot, None)

    def discard(self) -> None:
        lib.hp_tls_discard(self.client.tls)
        self.wiped()

    def touch(self) -> None:
        lib.hp_tls_touch(self.client.tls)

    def answer(self) -> None:
        """The peer says something, and is answered at once."""
        message = self.message()
        self.peer.send(message)
        assert self.client.read() == message
        self.seal(b"pong\n")
        self.flush()

    def update_keys(self) -> None:
        """The peer sends one or several KeyUpdates, and asks for ours with some of them."""
        requests = [self.random.random() < 0.6 for _ in range(self.random.choice((1, 1, 1, 2, 5)))]
        for requested in requests:
            self.peer.update_key(requested)
        assert self.client.read() == b""
        if any(requests):
            self.answers += 1
            self.wiped()

    def run(self, moves: int) -> None:
        ways = [self.seal_ahead] * 6 + [self.fire] * 3 + [self.flush] * 3 + [self.seal]
        ways += [self.discard, self.touch, self.answer, self.update_keys, self.spoil]
        for _ in range(moves):
            self.random.choice(ways)()
            self.check()

    def end(self) -> None:
        self.flush()
        watch = self.peer.watch
        assert watch.data == self.committed
        self.peer.expect(self.committed)
        assert watch.updates == self.answers > 0
        assert self.fired > self.messages // 20
        self.client.close()
        self.flush()
        assert watch.alerts == [CLOSE_NOTIFY]


@pytest.mark.parametrize("seed", range(8))
def test_any_order_of_everything(ca: Identity, leaf: Identity, seed: int, tmp_path: Path) -> None:
    peer = MemoryPeer(ca, leaf, tmp_path)
    play = Play(peer, seed)
    play.run(1500)
    play.end()
    assert peer.server.ssl.read(1) == b""  # our goodbye


@pytest.mark.skipif(not shutil.which("openssl"), reason="there is no `openssl` to be the peer")
@pytest.mark.parametrize("suite", SUITES)
def test_any_order_of_everything_with_openssl(
    ca: Identity, leaf: Identity, suite: str, tmp_path: Path
) -> None:
    with command_peer(ca, leaf, suite, tmp_path) as peer:
        assert peer.client.cipher == f"TLSv1.3 {suite}"
        play = Play(peer, seed=list(SUITES).index(suite))
        play.run(600)
        play.end()


# ---- one after the other -------------------------------------------------------------------------


def arm(client: Client) -> None:
    for slot in SLOTS:
        assert seal_ahead(client, slot, b"order %d" % slot) == 1
        assert len(place(client, slot)) > 0


def require_disarmed(client: Client) -> None:
    assert not any(len(place(client, slot)) for slot in SLOTS)


def test_a_record_waits_until_what_was_written_before_has_left(peer: MemoryPeer) -> None:
    peer.client.seal(b"before ")
    assert seal_ahead(peer.client, 0, b"after") == 1
    assert not place(peer.client, 0)
    peer.receive(peer.client.drain())
    peer.receive(bytes(place(peer.client, 0)))
    lib.hp_tls_commit(peer.client.tls, 0, WHOLE)
    peer.expect(FIRST + b"before after")


def test_what_is_no_slot_and_what_does_not_fit(peer: MemoryPeer) -> None:
    for slot in (-1, lib.HP_SLOTS_MAX):
        assert seal_ahead(peer.client, slot, b"order") == -errno.EINVAL
        assert not place(peer.client, slot)
    assert seal_ahead(peer.client, 0, bytes(SIZE_MAX + 1)) == -errno.ENOSPC
    assert seal_ahead(peer.client, 0, bytes(SIZE_MAX)) == 1


@pytest.mark.parametrize("slot", [3, -1, lib.HP_SLOTS_MAX])
def test_committing_what_was_not_sealed_ends_the_write_side(peer: MemoryPeer, slot: int) -> None:
    arm(peer.client)
    lib.hp_tls_commit(peer.client.tls, slot, WHOLE)
    require_disarmed(peer.client)
    assert seal_ahead(peer.client, 0, b"order") == 0
    with refuses(lib.HP_ETLS, "shutdown"):
        peer.client.seal(b"order")
    peer.client.close()
    assert peer.client.waiting() == b""


def test_session_tickets_change_nothing(peer: MemoryPeer) -> None:
    arm(peer.client)
    assert peer.client.read() == b""  # both tickets are read only here
    peer.receive(bytes(place(peer.client, 1)))
    lib.hp_tls_commit(peer.client.tls, 1, WHOLE)
    peer.expect(FIRST + b"order 1")


def test_our_goodbye(peer: MemoryPeer) -> None:
    arm(peer.client)
    peer.client.close()
    require_disarmed(peer.client)
    peer.receive(peer.client.drain())
    assert peer.watch.alerts == [CLOSE_NOTIFY]
    assert peer.server.ssl.read(1) == b""
    peer.update_key(requested=True)
    peer.send(b"still talking")
    assert peer.client.read() == b"still talking"
    assert peer.client.waiting() == b""


@pytest.mark.parametrize(
    ("content", "message", "alert"),
    [
        (HANDSHAKE, b"\x18\x00\x00\x01\x02", b"\x02\x2f"),  # a request of no kind
        (HANDSHAKE, b"\x0d\x00\x00\x00", b"\x02\x0a"),  # for a certificate, which we offer none
        (HANDSHAKE, KEY_UPDATE_REQUEST + b"\x04", b"\x02\x0a"),  # more under the old key
        (DATA + 7, b"?", b"\x02\x0a"),
        (None, b"", b"\x02\x14"),
    ],
)
def test_an_alert_that_reading_raises(
    peer: MemoryPeer, content: int | None, message: bytes, alert: bytes
) -> None:
    arm(peer.client)
    record = bytearray(peer.keys.seal(content or DATA, message))
    record[-1] ^= content is None
    peer.client.feed(bytes(record))
    with refuses(lib.HP_ETLS):
        peer.client.read()
    require_disarmed(peer.client)
    peer.watch.see(peer.client.waiting())
    assert peer.watch.alerts == [alert]
    peer.server.feed(peer.client.drain())
    with pytest.raises(ssl.SSLError, match="alert"):
        peer.server.read()
    with refuses(lib.HP_ETLS, "shutdown"):
        peer.client.seal(b"order")
    assert peer.client.waiting() == b""


def test_an_alert_from_the_peer(peer: MemoryPeer) -> None:
    arm(peer.client)
    peer.client.feed(peer.keys.seal(ALERT, b"\x02\x50"))
    with refuses(lib.HP_ETLS, "internal error"):
        peer.client.read()
    require_disarmed(peer.client)
    assert seal_ahead(peer.client, 0, b"order") == 0
    peer.client.close()
    assert peer.client.waiting() == b""  # RFC 8446 6.2


def test_a_key_update_in_two_halves(peer: MemoryPeer) -> None:
    peer.client.feed(peer.keys.seal(HANDSHAKE, KEY_UPDATE_REQUEST[:2]))
    assert peer.client.read() == b""
    arm(peer.client)
    peer.receive(bytes(place(peer.client, 1)))
    lib.hp_tls_commit(peer.client.tls, 1, WHOLE)
    peer.client.seal(b" meanwhile")
    assert peer.watch.updates == 0
    peer.client.feed(peer.keys.seal(HANDSHAKE, KEY_UPDATE_REQUEST[2:]))
    assert peer.client.read() == b""
    peer.client.seal(b" afterwards")
    peer.receive(peer.client.drain())
    assert peer.watch.updates == 1
    peer.expect(FIRST + b"order 1 meanwhile afterwards")


def test_requests_that_are_read_together_have_one_answer(peer: MemoryPeer) -> None:
    for _ in range(1000):
        peer.update_key(requested=True)
    assert peer.client.read() == b""
    peer.receive(peer.client.drain())
    assert peer.watch.updates == 1


def test_requests_that_find_the_output_full(peer: MemoryPeer) -> None:
    filling, written = bytes(500), FIRST
    with refuses(errno.ENOSPC):
        while True:
            peer.client.seal(filling)
            written += filling
    for _ in range(100):  # each has an answer, until there is no room for one
        seal_ahead(peer.client, 1, b"too late")
        peer.update_key(requested=True)
        assert peer.client.read() == b""
    full = peer.client.waiting()
    assert seal_ahead(peer.client, 0, b"order") == -errno.ENOSPC
    peer.update_key(requested=True)
    assert peer.client.read() == b""
    assert peer.client.waiting() == full

    peer.receive(peer.client.drain())
    answered = peer.watch.updates
    assert 1 < answered < 100
    require_disarmed(peer.client)
    assert seal_ahead(peer.client, 0, b"order") == 1
    assert not place(peer.client, 0)  # the late answer goes first
    peer.receive(peer.client.drain())
    assert peer.watch.updates == answered + 1
    peer.receive(bytes(place(peer.client, 0)))
    peer.expect(written + b"order")


# ---- the ordinary path ---------------------------------------------------------------------------


def require_ordinary(client: Client, server: PythonServer, first: bytes = FIRST) -> None:
    """Nothing is sealed ahead, neither before the first record nor after it, and all is well."""
    assert seal_ahead(client, 0, b"order") == 0
    client.seal(first)
    client.read()
    assert seal_ahead(client, 0, b"order") == 0
    require_disarmed(client)
    lib.hp_tls_touch(client.tls)
    lib.hp_tls_discard(client.tls)
    client.seal(b"order")
    server.feed(client.drain())
    assert server.read() == first + b"order"


def test_an_older_protocol_is_left_to_openssl(ca: Identity, leaf: Identity) -> None:
    server = PythonServer(leaf, ssl.TLSVersion.TLSv1_2)
    require_ordinary(connected(server, ca), server)


@pytest.mark.parametrize("size", [SIZE_MAX + 1, 16384, 16385])
def test_a_long_first_record_leaves_it_to_openssl(ca: Identity, leaf: Identity, size: int) -> None:
    server = PythonServer(leaf)
    require_ordinary(connected(server, ca), server, bytes(size))


def test_a_key_update_before_the_first_record_leaves_it_to_openssl(
    ca: Identity, leaf: Identity, tmp_path: Path
) -> None:
    peer = MemoryPeer(ca, leaf, tmp_path)
    peer.update_key(requested=True)
    assert peer.client.read() == b""
    require_ordinary(peer.client, peer.server)


UNKNOWN_SUITE = """\
import sys
from types import SimpleNamespace
from engine._native import lib
from tls_ends import Client, PythonServer, shake_hands

ca, leaf = (SimpleNamespace(pem=pem) for pem in sys.argv[1:])
client, server = Client(ca.pem), PythonServer(leaf)
shake_hands(client, server)
print(client.cipher)
for text in b"first", b"again":
    assert lib.hp_tls_seal_ahead(client.tls, 0, b"order", 5) == 0
    client.seal(text)
    server.feed(client.drain())
    assert server.read() == text
"""


def test_an_unknown_suite_is_left_to_openssl(ca: Identity, leaf: Identity, tmp_path: Path) -> None:
    settings = tmp_path / "openssl.cnf"
    suite = "TLS_AES_128_CCM_SHA256"  # of RFC 8446 B.4, but offered only when asked for
    settings.write_text(
        f"openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = suites\n"
        f"[suites]\nCiphersuites = {suite}\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", UNKNOWN_SUITE, str(ca.pem), str(leaf.pem)],
        env={**os.environ, "OPENSSL_CONF": str(settings), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["TLSv1.3", suite]
