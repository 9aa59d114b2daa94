"""The floor of `bench hot` as a contender, a process of its own: recv and send in C and nothing
else, from the same node, as many bytes as an order has, to a reader on the other core."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from typing import Any

from engine._native import check
from harpoon_bench._floor import ffi, lib
from harpoon_bench.children import as_child, say
from harpoon_bench.hot_floors import WAYS, ring_for
from harpoon_bench.tls_peer import SO_TIMESTAMPNS, discard

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL".ljust(55, b"\0")  # ZMTP 3.0, 64 bytes
DIRECT = "direct"  # recvmsg(2) and send(2)
READY = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB"
SUBSCRIBE = b"\x00\x06\x01rawtx"


def _node(port: int) -> socket.socket:
    """Subscribed; what it sends next is transactions."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.sendall(GREETING + READY + SUBSCRIBE)
    sock.recv(len(GREETING) + len(READY), socket.MSG_WAITALL)
    return sock


def _reader(cpus: set[int]) -> socket.socket:
    """A connection whose other end is read on `cpus`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()

    def read() -> None:
        os.sched_setaffinity(0, cpus)  # of this thread
        discard(theirs)

    threading.Thread(target=read, daemon=True).start()
    ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours


def _relay(way: str, settings: dict[str, Any]) -> None:
    cpu, n = settings["cpu"], settings["orders"]
    order = os.urandom(settings["order_bytes"])
    readable_ns, sent_ns = ffi.new("int64_t[]", n), ffi.new("int64_t[]", n)
    others = os.sched_getaffinity(0) - {cpu}
    ring = ffi.NULL if way == DIRECT else ring_for(WAYS[way])
    with _node(settings["feed_port"]) as node, _reader(others or {cpu}) as venue:
        os.sched_setaffinity(0, {cpu})
        say(ready=True)
        done = lib.hp_floor_relay(
            ring,
            node.fileno(),
            venue.fileno(),
            order,
            len(order),
            settings["every"],
            n,
            readable_ns,
            sent_ns,
        )
        check(done, "receiving and sending")
    say(readable_ns=list(readable_ns[0:done]), sent_ns=list(sent_ns[0:done]))


if __name__ == "__main__":
    as_child(lambda: _relay(sys.argv[1], json.loads(sys.argv[2])))
