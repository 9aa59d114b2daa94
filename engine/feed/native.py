"""A node's publications read by the engine's own thread (csrc/feed.c): where it has to connect."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from engine.errors import FeedError


@dataclass(frozen=True, slots=True)
class FeedAddress:
    """An endpoint with its host resolved: `ip` and `port`, or `path` of a Unix socket."""

    name: str
    ip: str | None
    port: int
    path: str | None
    sequence: bool


def resolve_endpoint(endpoint: str, sequence: bool) -> FeedAddress:
    """tcp://HOST:PORT or ipc://PATH, as engine/config.py has checked it. FeedError when the host
    has no address. IPv4 first: bitcoind binds 127.0.0.1 where `localhost` may be ::1."""
    if endpoint.startswith("ipc://"):
        return FeedAddress(endpoint, None, 0, endpoint.removeprefix("ipc://"), sequence)
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    host = host.strip("[]")
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FeedError(
            f"the host of feed.endpoint {endpoint} cannot be resolved ({error}): check its "
            "spelling and the network"
        ) from error
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return FeedAddress(endpoint, str(found[0][4][0]), int(port), None, sequence)
