"""The REST API of the simulated exchange (rest-api.md): the WebSocket methods, found by path."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RestReply:
    """An HTTP response: `text` is JSON."""

    status: int
    headers: dict[str, str]
    text: str
