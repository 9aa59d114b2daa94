"""The simulated exchange's HTTP server: the standard library's client, and bytes that are none."""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest

from engine.sim.exchange import ExchangeSim
from engine.sim.rest import RestReply
from engine.sim.rest_server import MAX_BODY_BYTES, HttpRequest, RestServer
from tests.test_sim_exchange import in_a_loop, trusting

HELLO = RestReply(200, {"Content-Type": "application/json", "X-MBX-USED-WEIGHT-1M": "7"}, '{"é":1}')


async def echo(request: HttpRequest) -> RestReply | None:
    """What arrived; a path `/cut` gets nothing."""
    if request.path == "/cut":
        return None
    document = [request.method, request.path, request.query, request.body.decode()]
    return RestReply(200, {}, json.dumps([*document, request.headers.get("x-mbx-apikey")]))


def served(
    use: Callable[[int], Any], answer: Callable[[HttpRequest], Awaitable[RestReply | None]] = echo
) -> Any:
    """What `use`, in a thread, makes of the port of a server that answers with `answer`."""

    async def run() -> Any:
        server = RestServer(answer)
        loop = asyncio.get_running_loop()
        async with await loop.create_server(server.new_protocol, "127.0.0.1", 0) as listener:
            try:
                port = listener.sockets[0].getsockname()[1]
                return await asyncio.to_thread(use, port)
            finally:
                server.drop_all()
                await asyncio.sleep(0)

    return asyncio.run(run())


def said(port: int, data: bytes) -> bytes:
    """All that the server says to `data` until it closes."""

    async def run() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with closing(writer):
            writer.write(data)
            return await asyncio.wait_for(reader.read(), 10)

    return asyncio.run(run())


def test_requests_of_one_connection_are_answered_in_turn() -> None:
    def use(port: int) -> list[Any]:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as client:
            replies = []
            for method, url, body in (
                ("GET", "/api/v3/time?a=%20b&c", None),
                ("POST", "/api/v3/order?x=1", "symbol=BTCUSDT&side=BUY"),
                ("DELETE", "/api/v3/order", None),
            ):
                client.request(method, url, body, {"X-MBX-APIKEY": "key"})
                replies.append(json.loads(client.getresponse().read()))
            return replies

    assert served(use) == [
        ["GET", "/api/v3/time", "a=%20b&c", "", "key"],
        ["POST", "/api/v3/order", "x=1", "symbol=BTCUSDT&side=BUY", "key"],
        ["DELETE", "/api/v3/order", "", "", "key"],
    ]


def test_the_reply_has_the_venues_status_and_headers_and_its_length_in_bytes() -> None:
    async def hello(_: HttpRequest) -> RestReply:
        return HELLO

    reply = served(lambda port: said(port, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"), hello)
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        b"Content-Type: application/json",
        b"X-MBX-USED-WEIGHT-1M: 7",
        b"Content-Length: 8",
        b"Connection: close",
    ]
    assert body.decode() == HELLO.text


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/2\r\n", 400),
        (b"get / HTTP/1.1\r\n", 400),
        (b"GET http://elsewhere/ HTTP/1.1\r\n", 400),
        (b"GET / HTTP/1.1\r\nNo colon\r\n", 400),
        (b"GET / HTTP/1.1\r\n folded: x\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: %d\r\n" % (MAX_BODY_BYTES + 1), 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", 501),
        (b"\x16\x03\x01\x00\xff\x00\r\n", 400),
    ],
)
def test_what_is_no_request_is_refused_and_ends_the_connection(head: bytes, status: int) -> None:
    reply = served(lambda port: said(port, head + b"\r\n"))
    assert reply.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close" in reply


def test_a_head_without_end_is_not_read_for_ever() -> None:
    """More than fits: the connection ends, which the client may learn while it still writes."""

    def use(port: int) -> bytes:
        try:
            return said(port, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50_000)
        except ConnectionError:
            return b""

    assert served(use) == b""


def test_no_answer_cuts_the_connection() -> None:
    def use(port: int) -> None:
        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/cut", timeout=10)

    served(use)


# ---- of the exchange -----------------------------------------------------------------------------


def fetch(sim: ExchangeSim, path: str, method: str = "GET") -> tuple[int, Any, Any]:
    """Status, headers and document, over TLS."""
    request = urllib.request.Request(sim.rest_url + path, method=method)
    try:
        with urllib.request.urlopen(request, context=trusting(sim.ca_file), timeout=10) as reply:
            return reply.status, reply.headers, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, json.loads(error.read())


@in_a_loop
async def test_the_venue_answers_over_tls() -> None:
    async with ExchangeSim() as sim:
        status, headers, document = await asyncio.to_thread(fetch, sim, "/api/v3/nothing")
        assert status == 404
        assert headers["Content-Type"] == "application/json;charset=UTF-8"
        assert document["code"] < 0


@in_a_loop
async def test_faults_answer_and_drop_here_too() -> None:
    async with ExchangeSim() as sim:
        sim.faults.next("error-1007")
        status, _, document = await asyncio.to_thread(fetch, sim, "/api/v3/time")
        assert (status, document["code"]) == (500, -1007)
        sim.faults.next("429:3s")
        status, headers, document = await asyncio.to_thread(fetch, sim, "/api/v3/time")
        assert (status, document["code"], headers["Retry-After"]) == (429, -1003, "3")
        sim.faults.next("reject")  # waits for an order
        status, _, _ = await asyncio.to_thread(fetch, sim, "/api/v3/time")
        assert status != 400
        status, _, document = await asyncio.to_thread(fetch, sim, "/api/v3/order", "POST")
        assert (status, document["code"]) == (400, -2010)
        for name in ("drop-before", "drop-after"):
            sim.faults.next(name)
            with pytest.raises((ConnectionError, urllib.error.URLError, ssl.SSLError)):
                await asyncio.to_thread(fetch, sim, "/api/v3/time")
        names = ("error-1007", "429", "reject", "drop-before", "drop-after")
        assert sim.faults.applied == dict.fromkeys(names, 1)


@in_a_loop
async def test_nothing_listens_beyond_its_loopback_address() -> None:
    async with ExchangeSim() as sim:
        hosts = {urlsplit(url).hostname for url in (sim.url, sim.stream_url, sim.rest_url)}
        assert hosts == {"127.0.0.1"}
        for url in (sim.url, sim.stream_url, sim.rest_url):
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.2", urlsplit(url).port)
