"""The commands of the controlling thread, in their order, for a hot thread that may be held up."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable

from engine import client_ids
from engine.core import Engine, Settlement
from engine.errors import HarpoonError, NativeError
from engine.exits import Place
from engine.records import Terms

WAITING_MOST = 10_000


class Commands:
    """Each command is given at once, or, when the engine's ring is full or others wait before it,
    as soon as there is room: none is lost, and none overtakes another."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()

    def give(self, command: Callable[[], None]) -> None:
        """HarpoonError when the hot thread takes none for so long that WAITING_MOST wait."""
        if len(self._waiting) == WAITING_MOST:
            raise HarpoonError("the engine's thread does not come to its commands: restart the run")
        self._waiting.append(command)
        self.work()

    def work(self) -> None:
        """Give what waits, as far as there is room."""
        while self._waiting:
            try:
                self._waiting[0]()
            except NativeError as error:
                if error.code == errno.ENOSPC:
                    return
                self._waiting.popleft()
                raise
            else:
                self._waiting.popleft()

    @property
    def waiting(self) -> bool:
        return bool(self._waiting)


class Wire:
    """What engine/desk.py wants of the engine (its Wire). `count` is told the method of every
    request, for the venue's weights."""

    def __init__(self, engine: Engine, commands: Commands, count: Callable[[str], None]) -> None:
        self._engine = engine
        self._commands = commands
        self._count = count

    def ask(self, session: int, method: str, message: bytes) -> None:
        self._count(method)
        self._commands.give(lambda: self._engine.command_text(message, session))

    def settle(self, settlement: Settlement) -> None:
        self._commands.give(lambda: self._engine.command_settle(settlement))

    def place(self, message: bytes, terms: Terms, place: Place, timestamp_ms: int) -> None:
        self._count("order.place")
        self._commands.give(
            lambda: self._engine.command_order(
                message,
                terms,
                place.client_id,
                timestamp_ms,
                place.parent,
                reduces=True,
                orders=len(client_ids.legs_of(place.client_id)),
            )
        )
