"""The HTTP/1.1 server of the simulated exchange: requests in, the venue's replies out (RFC 9112).

Persistent connections, bodies by Content-Length (no chunked ones), one request at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

from engine.sim.rest import RestReply

MAX_HEAD_BYTES = 64 << 10
MAX_BODY_BYTES = 1 << 20
IDLE_TIMEOUT_S = 60.0
REQUEST_LINE = re.compile(r"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.[01]")
HEADER_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")


@dataclass(frozen=True)
class HttpRequest:
    """`path` without, `query` as it came after the question mark; header names in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes = b""


Answer = Callable[[HttpRequest], Awaitable[RestReply | None]]


class BadRequestError(Exception):
    """The bytes are no request that this server takes; `status` says why."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class RestServer:
    """`answer` makes the reply to a request, or None to have the connection cut."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._writers: set[asyncio.StreamWriter] = set()

    def new_protocol(self) -> asyncio.StreamReaderProtocol:
        reader = asyncio.StreamReader(MAX_HEAD_BYTES)
        return asyncio.StreamReaderProtocol(reader, self._converse)

    def drop_all(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its reply; whether another may follow."""
        try:
            async with asyncio.timeout(IDLE_TIMEOUT_S):
                request = await read_request(reader)
        except BadRequestError as error:
            writer.write(response(RestReply(error.status, {}, ""), keep=False))
            await writer.drain()
            return False
        reply = await self._answer(request)
        if reply is None:
            writer.transport.abort()
            return False
        keep = request.headers.get("connection", "").lower() != "close"
        writer.write(response(reply, keep))
        await writer.drain()
        return keep


async def read_request(reader: asyncio.StreamReader) -> HttpRequest:
    """The next one; BadRequestError when it is none, EOFError when the client has gone."""
    request = parse_head(await reader.readuntil(b"\r\n\r\n"))
    if "transfer-encoding" in request.headers:
        raise BadRequestError(HTTPStatus.NOT_IMPLEMENTED)
    length = request.headers.get("content-length", "0")
    if not re.fullmatch("[0-9]{1,9}", length):
        raise BadRequestError(HTTPStatus.BAD_REQUEST)
    if int(length) > MAX_BODY_BYTES:
        raise BadRequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    body = await reader.readexactly(int(length))
    return HttpRequest(request.method, request.path, request.query, request.headers, body)


def parse_head(head: bytes) -> HttpRequest:
    """A request's first line and headers, up to and with the empty line."""
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    start = REQUEST_LINE.fullmatch(first)
    fields = [HEADER_LINE.fullmatch(line) for line in lines]
    if start is None:
        raise BadRequestError(HTTPStatus.BAD_REQUEST)
    headers: dict[str, str] = {}
    for field in fields:
        # A length said twice is how requests are smuggled (RFC 9112 11.2).
        if field is None or field[1].lower() in headers:
            raise BadRequestError(HTTPStatus.BAD_REQUEST)
        headers[field[1].lower()] = field[2]
    path, _, query = start[2].partition("?")
    return HttpRequest(start[1], path, query, headers)


def response(reply: RestReply, keep: bool) -> bytes:
    """The bytes of a reply."""
    body = reply.text.encode()
    status = HTTPStatus(reply.status)
    headers = reply.headers | {
        "Content-Length": str(len(body)),
        "Connection": "keep-alive" if keep else "close",
    }
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
