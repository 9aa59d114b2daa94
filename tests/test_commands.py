"""engine.commands: nothing is lost and nothing overtakes when the hot thread is held up."""

from __future__ import annotations

import errno
from decimal import Decimal
from typing import Any

import pytest

from engine.commands import WAITING_MOST, Commands, Wire
from engine.errors import HarpoonError, NativeError, VenueError
from engine.exits import Place
from engine.records import Terms


class Ring:
    """The engine's, with room for so many commands."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken: list[Any] = []

    def take(self, command: Any) -> None:
        if len(self.taken) >= self.room:
            raise NativeError("no room", errno.ENOSPC)
        self.taken.append(command)

    def command_order(self, *order: Any, **rest: Any) -> None:
        self.take((*order, rest))


def test_what_finds_no_room_waits_its_turn() -> None:
    ring, commands = Ring(2), Commands()
    for number in range(5):
        commands.give(lambda number=number: ring.take(number))
    assert ring.taken == [0, 1]
    assert commands.waiting
    ring.room = 4
    commands.work()
    assert ring.taken == [0, 1, 2, 3]
    ring.room = 9
    commands.give(lambda: ring.take("last"))
    assert ring.taken == [0, 1, 2, 3, 4, "last"]
    assert not commands.waiting


def test_a_command_that_fails_otherwise_does_not_stay_in_the_way() -> None:
    ring, commands = Ring(1), Commands()

    def fail() -> None:
        raise NativeError("not so", errno.EINVAL)

    with pytest.raises(NativeError, match="not so"):
        commands.give(fail)
    commands.give(lambda: ring.take("next"))
    assert ring.taken == ["next"]
    assert not commands.waiting


def test_a_hot_thread_that_never_comes_ends_the_run() -> None:
    ring, commands = Ring(0), Commands()
    for _ in range(WAITING_MOST):
        commands.give(lambda: ring.take(1))
    with pytest.raises(HarpoonError, match="restart the run") as error:
        commands.give(lambda: ring.take(1))
    assert not isinstance(error.value, VenueError)


@pytest.mark.parametrize(("leg", "orders"), [("o", 2), ("m", 1)])
def test_a_list_is_two_orders_for_the_venue(leg: str, orders: int) -> None:
    ring, counted = Ring(1), []
    wire = Wire(ring, Commands(), counted.append)  # type: ignore[arg-type]
    exit_id = f"hx00112233445566778899-{leg}000000000001"
    place = Place(exit_id, "hp00112233445566778899-0000000000001", "X", "BUY", Decimal(1))
    wire.place(b"{}", Terms(1, 0, 0, False), place, 5)
    ((message, _, client_id, timestamp_ms, parent, rest),) = ring.taken
    assert (message, client_id, timestamp_ms, parent) == (b"{}", exit_id, 5, place.parent)
    assert rest == {"reduces": True, "orders": orders}
    assert counted == ["order.place"]
