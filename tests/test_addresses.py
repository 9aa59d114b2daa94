"""Which addresses a host has, and which is nearest."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from engine import addresses
from engine.addresses import Search, fastest_first, resolve, round_trip_ns
from engine.errors import VenueError


@pytest.fixture
def port() -> Iterator[int]:
    """A listener on 127.0.0.1, whose backlog takes connections; nobody is at 127.0.0.9."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def wait_for(search: Search) -> list[str]:
    deadline = time.monotonic() + 20
    while (found := search.take()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


@pytest.mark.parametrize("host", ["a..b", "a" * 70 + ".com", "no-such-host.invalid"])
def test_a_host_name_that_cannot_be_resolved(host: str) -> None:
    with pytest.raises(VenueError, match="cannot be resolved"):
        resolve(host, 443)


def test_an_address_is_its_own_and_only_one() -> None:
    assert resolve("127.0.0.1", 443) == ["127.0.0.1"]


def test_a_round_trip_is_measured_or_there_is_none(port: int) -> None:
    trip_ns = round_trip_ns("127.0.0.1", port)
    assert trip_ns is not None
    assert 0 < trip_ns < 1_000_000_000
    assert round_trip_ns("127.0.0.9", port) is None


def test_the_fastest_comes_first_and_the_unreachable_last(monkeypatch: pytest.MonkeyPatch) -> None:
    trips = {"10.0.0.1": None, "10.0.0.2": 9_000, "10.0.0.3": 2_000, "10.0.0.4": 7_000}
    monkeypatch.setattr(addresses, "round_trip_ns", lambda address, _: trips[address])
    assert fastest_first(list(trips), 443) == ["10.0.0.3", "10.0.0.4", "10.0.0.2", "10.0.0.1"]


def test_without_an_answer_the_resolver_has_the_say(port: int) -> None:
    assert fastest_first(["127.0.0.9", "127.0.0.8"], port) == ["127.0.0.9", "127.0.0.8"]


def test_a_single_address_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(addresses, "round_trip_ns")
    assert fastest_first(["10.0.0.1"], 443) == ["10.0.0.1"]


def test_a_search_does_not_hold_up_who_began_it(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = threading.Event()

    def slowly(host: str, port: int) -> list[str]:
        resolved.wait(20)
        return ["10.0.0.1"]

    monkeypatch.setattr(addresses, "resolve", slowly)
    search = Search("venue.example", 443)
    assert search.take() is None
    resolved.set()
    assert wait_for(search) == ["10.0.0.1"]


def test_a_search_fails_where_it_is_asked() -> None:
    search = Search("no-such-host.invalid", 443)
    with pytest.raises(VenueError, match=r"no-such-host\.invalid .* cannot be resolved"):
        wait_for(search)
