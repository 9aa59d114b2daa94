"""The exchange of `bench hot`, a process of its own: TLS 1.3 and WebSocket over a socket that it
reads itself, because what counts is when the kernel had the order, not when Python heard of it. It
looks at the socket from time to time instead of waiting in it: a venue on a network is not woken
by who sends to it, and here nobody's send is to pay for that either.

One session at a time. When it has ended, one line tells of each order its client id and the
kernel's receive timestamp, CLOCK_REALTIME ns (SO_TIMESTAMPNS; TCP gives that of the last segment
of a read). Of orders that came in one read only the last has one.

Beside it a port where everything is read in the same way and forgotten."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from engine.processes import at_stdin_eof
from engine.sim.binance import Venue
from engine.sim.call import Connection
from engine.sim.ledger import Entry, LedgerEntry
from engine.sim.rates import Limits
from harpoon_bench.children import as_child, say

SO_TIMESTAMPNS = 35  # asm-generic/socket.h; also the type of the control message
TIMESPEC = struct.Struct("@ll")
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3
TEXT, CLOSE, PING, PONG, FIN = 1, 8, 9, 10, 0x80
READ_BYTES = 1 << 16
LOOK_EVERY_S = 0.0002
UNLIMITED = Limits(request_weight=10**12, orders_10_s=10**12, orders_day=10**12)


class Session:
    """The server's side of one connection; EOFError or OSError ends it."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.setblocking(False)
        self._sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._plain = b""
        self.received_ns = 0  # of what was read last

    def open(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._receive()
        self._flush()
        while b"\r\n\r\n" not in self._plain:
            self._read()
        request, self._plain = self._plain.split(b"\r\n\r\n", 1)
        self._send(agreement(request))

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """What has come since the last call: opcodes and unmasked payloads, at least one read."""
        self._read()
        while (frame := self._next_frame()) is not None:
            yield frame

    def say(self, opcode: int, payload: bytes) -> None:
        size = (
            struct.pack(">B", len(payload))
            if len(payload) < 126
            else struct.pack(">BH", 126, len(payload))
        )
        self._send(bytes([FIN | opcode]) + size + payload)

    def _next_frame(self) -> tuple[int, bytes] | None:
        """RFC 6455 5.2; a client masks, and nobody here sends in fragments."""
        plain = self._plain
        if len(plain) < 2:
            return None
        head, length = 2, plain[1] & 0x7F
        if length == 126:
            if len(plain) < 4:
                return None
            head, length = 4, int.from_bytes(plain[2:4], "big")
        end = head + 4 + length
        if len(plain) < end:
            return None
        mask = (plain[head : head + 4] * (length // 4 + 1))[:length]
        number = int.from_bytes(plain[head + 4 : end], "big") ^ int.from_bytes(mask, "big")
        self._plain = plain[end:]
        return plain[0] & 0x0F, number.to_bytes(length, "big")

    def _read(self) -> None:
        while True:
            try:
                data = self._tls.read(READ_BYTES)
            except ssl.SSLWantReadError:
                self._receive()
                continue
            if not data:
                raise EOFError
            self._plain += data
            if not self._in.pending:
                return

    def _receive(self) -> None:
        while True:
            try:
                data, control, _, _ = self._sock.recvmsg(READ_BYTES, 64)
                break
            except BlockingIOError:
                time.sleep(LOOK_EVERY_S)
        if not data:
            raise EOFError
        for level, kind, content in control:
            if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                seconds, nanoseconds = TIMESPEC.unpack(content)
                self.received_ns = seconds * 1_000_000_000 + nanoseconds
        self._in.write(data)

    def _send(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def _flush(self) -> None:
        if self._out.pending:
            self._sock.sendall(self._out.read())


def agreement(request: bytes) -> bytes:
    """The 101 answer to an upgrade request (RFC 6455 4.2.2)."""
    fields = {
        name.lower(): value
        for name, value in (line.split(b": ", 1) for line in request.split(b"\r\n")[1:])
    }
    accept = base64.b64encode(
        hashlib.sha1(fields[b"sec-websocket-key"] + GUID, usedforsecurity=False).digest()
    )
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


class Peer:
    """The venue behind the sessions: it checks every signature and answers every request."""

    def __init__(self, api_key: str, api_secret: str) -> None:
        self._accepted: list[str] = []
        self._venue = Venue(keys={api_key: api_secret}, record=self._on, limits=UNLIMITED)

    def _on(self, entry: Entry) -> None:
        if isinstance(entry, LedgerEntry):
            self._accepted.append(entry.client_id)

    def serve(self, session: Session) -> list[tuple[str, int | None]]:
        """The session's orders and their timestamps."""
        orders: list[tuple[str, int | None]] = []
        self._venue.rejections.clear()
        with suppress(EOFError, OSError):
            session.open()
            connection = self._venue.connect(time.time_ns(), show_limits=False)
            while True:
                self._accepted.clear()
                for opcode, payload in session.frames():
                    self._answer(session, connection, opcode, payload)
                orders += [(client_id, None) for client_id in self._accepted[:-1]]
                orders += [(client_id, session.received_ns) for client_id in self._accepted[-1:]]
        return orders

    def _answer(
        self, session: Session, connection: Connection, opcode: int, payload: bytes
    ) -> None:
        if opcode == TEXT:
            reply = self._venue.answer(payload.decode(), time.time_ns(), connection)
            session.say(TEXT, reply.encode())
        elif opcode == PING:
            session.say(PONG, payload)
        elif opcode == CLOSE:
            session.say(CLOSE, payload)
            raise EOFError

    @property
    def rejections(self) -> dict[str, int]:
        return dict(self._venue.rejections)


def discard(sock: socket.socket) -> None:
    """Until the peer has left."""
    sock.setblocking(False)
    with sock, suppress(OSError):
        read = True
        while read:
            try:
                read = bool(sock.recv(READ_BYTES))
            except BlockingIOError:
                time.sleep(LOOK_EVERY_S)


def _discard_all(listener: socket.socket) -> None:
    while True:
        sock, _ = listener.accept()
        discard(sock)


def _serve(settings: dict[str, str]) -> None:
    """Until standard input ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(Path(settings["certificate_file"]), Path(settings["key_file"]))
    peer = Peer(settings["api_key"], settings["api_secret"])
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_server(("127.0.0.1", 0)) as sink,
    ):
        threading.Thread(target=_discard_all, args=(sink,), daemon=True).start()
        open_sockets = [listener]

        def end() -> None:
            for sock in open_sockets:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

        at_stdin_eof(end)
        url = f"wss://127.0.0.1:{listener.getsockname()[1]}/ws-api/v3"
        say(ws_url=url, sink_port=sink.getsockname()[1])
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:  # shut down
                return
            with sock:
                open_sockets[1:] = [sock]
                orders = peer.serve(Session(sock, context))
            say(orders=orders, rejections=peer.rejections)


if __name__ == "__main__":
    as_child(lambda: _serve(json.loads(sys.argv[1])))
