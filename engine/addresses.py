"""A host's addresses, and which of them is nearest."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from engine.errors import VenueError

TRIES = 3
TRY_TIMEOUT_S = 1.0
_AT_ONCE = 8


def resolve(host: str, port: int) -> list[str]:
    """The host's numeric addresses, in the resolver's order; VenueError when it has none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise VenueError(
            f"the host name {host[:80]} of venue.url cannot be resolved ({error}): check its "
            "spelling and the network"
        ) from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def round_trip_ns(address: str, port: int) -> int | None:
    """The shortest of a few TCP handshakes with it; None when there was none."""
    trips = []
    for _ in range(TRIES):
        before = time.monotonic_ns()
        try:
            with socket.create_connection((address, port), TRY_TIMEOUT_S):
                trips.append(time.monotonic_ns() - before)
        except OSError:
            break  # what does not answer once is not asked for seconds more
    return min(trips, default=None)


def fastest_first(addresses: list[str], port: int) -> list[str]:
    """Sorted by their measured round trip; those that do not answer stay, at the end."""
    if len(addresses) < 2:
        return addresses
    with ThreadPoolExecutor(min(len(addresses), _AT_ONCE), "round trip") as pool:
        trips = list(pool.map(lambda address: round_trip_ns(address, port), addresses))
    unreachable = 1 << 62
    return [
        address
        for _, address in sorted(
            zip(trips, addresses, strict=True),
            key=lambda pair: unreachable if pair[0] is None else pair[0],
        )
    ]


class Search:
    """Resolves and measures on a thread of its own, from the moment it is made."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._found: list[str] = []
        self._failure: VenueError | None = None
        self._thread = threading.Thread(target=self._work, name="addresses", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self._found = fastest_first(resolve(self._host, self._port), self._port)
        except VenueError as error:
            self._failure = error

    def take(self) -> list[str] | None:
        """The addresses, the fastest first; None while the search goes on; VenueError when the
        name cannot be resolved."""
        if self._thread.is_alive():
            return None
        if self._failure is not None:
            raise self._failure
        return self._found
