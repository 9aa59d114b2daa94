"""The exchange simulator as a process: its flags, its ready line, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.test_sim_exchange import (
    API_KEY,
    API_SECRET,
    MARKET,
    ask,
    now_ms,
    place,
    raw_client,
    trusting,
)
from tests.test_sim_logon import ED25519_API_KEY, PUBLIC_PEM, logon, unsigned

# A stop takes well under a second; the rest is for a machine that is busy with other tests. Waiting
# for a peer that does not answer would take 10 s, the default of `websockets`.
STOP_S = 30


@contextlib.contextmanager
def process(*flags: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    command = [sys.executable, "-P", "-m", "engine.cli", "sim", "exchange", *flags]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as child:
        try:
            assert child.stdout is not None
            yield child, json.loads(child.stdout.readline())
        finally:
            child.terminate()


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_serves_and_ends_cleanly_with_connections_open(
    tmp_path: Path, signal_number: signal.Signals
) -> None:
    ca_file, ledger_file = tmp_path / "ca.pem", tmp_path / "ledger.jsonl"
    flags = [
        *("--ca-out", str(ca_file), "--ledger", str(ledger_file), "--price", "61000.5"),
        *("--hmac-key", f"{API_KEY}:{API_SECRET}", "--clock-skew-ms", "-2000"),
    ]

    async def use_and_signal(child: subprocess.Popen[str], url: str) -> None:
        port = int(url.split(":")[2].split("/")[0])
        with socket.create_connection(("127.0.0.1", port)):  # which never says a word
            async with (
                raw_client(url, ca_file),  # which will not answer the close frame
                connect(url, ssl=trusting(ca_file)) as client,
            ):
                reply = await place(client, MARKET | {"timestamp": now_ms() - 2000})
                assert reply["result"]["fills"][0]["price"] == "61000.50000000"
                child.send_signal(signal_number)
                with pytest.raises(ConnectionClosed) as caught:
                    await client.recv()
                assert caught.value.rcvd is not None
                assert caught.value.rcvd.code == 1001
                assert await asyncio.to_thread(child.wait, STOP_S) == 0

    with process(*flags) as (child, ready):
        assert ready == {
            "ws_url": ready["ws_url"],
            "stream_url": ready["stream_url"],
            "rest_url": ready["rest_url"],
            "ca_file": str(ca_file),
            "api_key": API_KEY,
            "api_secret": API_SECRET,
            "ed25519_api_key": None,
            "ledger": str(ledger_file),
            "pid": child.pid,
        }
        asyncio.run(use_and_signal(child, ready["ws_url"]))
        assert child.communicate() == ("", "")
    entries = [json.loads(line) for line in ledger_file.read_text().splitlines()]
    assert [(each["entry"], each["client_id"]) for each in entries] == [
        ("order", "whale-1"),
        ("fill", "whale-1"),
    ]


def test_the_process_makes_its_own_keys_and_removes_its_files() -> None:
    with process() as (child, ready):
        assert len(ready["api_key"]) == len(ready["api_secret"]) == 64
        assert ready["ledger"] is None
        assert Path(ready["ca_file"]).is_file()
        child.send_signal(signal.SIGTERM)
        assert child.wait(STOP_S) == 0
        assert not Path(ready["ca_file"]).parent.exists()


def test_the_process_takes_a_public_key_to_log_on_with(tmp_path: Path) -> None:
    public_file = tmp_path / "public: key.pem"
    public_file.write_bytes(PUBLIC_PEM)

    async def log_on(ready: dict[str, Any]) -> None:
        async with connect(ready["ws_url"], ssl=trusting(Path(ready["ca_file"]))) as client:
            reply = await ask(client, logon())
            assert reply["result"]["apiKey"] == ready["ed25519_api_key"]
            reply = await ask(client, {"id": 1, "method": "order.place", "params": unsigned()})
            assert reply["status"] == 200

    with process("--ed25519-key", f"{ED25519_API_KEY}:{public_file}") as (_, ready):
        assert ready["ed25519_api_key"] == ED25519_API_KEY
        asyncio.run(log_on(ready))


def test_the_process_has_the_markets_prices_and_faults_it_was_told(tmp_path: Path) -> None:
    trades, ledger = tmp_path / "trades.csv", tmp_path / "ledger.jsonl"
    trades.write_text("1700000000000,ETHUSDT,2999.5,1\n1700000000001,ETHUSDT,3100.25,1\n")

    async def listen(ready: dict[str, Any]) -> None:
        context = trusting(Path(ready["ca_file"]))
        async with connect(ready["stream_url"] + "/ws/ethusdt@bookTicker", ssl=context) as stream:
            while (quote := json.loads(await stream.recv()))["b"] != "3100.25000000":
                assert quote["s"] == "ETHUSDT"
        async with connect(ready["ws_url"], ssl=context) as client:
            reply = await ask(client, {"id": 1, "method": "exchangeInfo"})
            assert reply["status"] == 503
        with pytest.raises(urllib.error.HTTPError, match="503"):
            await asyncio.to_thread(
                urllib.request.urlopen, ready["rest_url"] + "/api/v3/time", context=context
            )

    flags = ("--symbols", "ETHUSDT", "--trades", str(trades), "--ledger", str(ledger))
    with process(*flags, "--fault", "status-503", "--fault", "skew=100", "--seed", "3") as (_, got):
        asyncio.run(listen(got))
    faults = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert [(each["entry"], each["fault"]) for each in faults] == [("fault", "status-503")] * 2


def test_the_process_ends_with_its_stdin_only_when_told_to() -> None:
    with process() as (child, _):
        assert child.stdin is not None
        child.stdin.close()
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.5)
    with process("--stop-on-stdin-eof") as (child, _):
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(STOP_S) == 0


def test_a_second_one_on_a_port_leaves_the_files_of_the_first_alone(tmp_path: Path) -> None:
    ca_file, ledger = tmp_path / "ca.pem", tmp_path / "ledger.jsonl"
    flags = ("--ca-out", str(ca_file), "--ledger", str(ledger))
    keys = ("--hmac-key", f"{API_KEY}:{API_SECRET}")

    async def order(ready: dict[str, Any]) -> None:
        async with connect(ready["ws_url"], ssl=trusting(ca_file)) as client:
            assert (await place(client, MARKET))["status"] == 200

    with process(*flags, *keys) as (_, ready):
        asyncio.run(order(ready))
        before = ca_file.read_bytes(), ledger.read_bytes()
        for name, url in (("--ws-port", "ws_url"), ("--rest-port", "rest_url")):
            port = str(urlsplit(ready[url]).port)
            told = refusal(*flags, name, port)
            assert f"cannot listen on 127.0.0.1:{port} (" in told
            assert f"choose another {name}" in told
        assert (ca_file.read_bytes(), ledger.read_bytes()) == before
        assert b"whale-1" in before[1]


@pytest.mark.parametrize("spin", [(), ("--spin",)])
def test_an_order_that_the_ledger_has_no_room_for_is_its_end(spin: tuple[str, ...]) -> None:
    async def order(ready: dict[str, Any]) -> None:
        context = trusting(Path(ready["ca_file"]))
        async with (
            connect(ready["ws_url"], ssl=context) as client,
            connect(ready["ws_url"], ssl=context) as other,
        ):
            with pytest.raises(ConnectionClosed) as caught:
                await place(client, MARKET)
            assert caught.value.rcvd is None
            with pytest.raises(ConnectionClosed):
                await ask(other, {"id": 1, "method": "time"})

    keys = ("--hmac-key", f"{API_KEY}:{API_SECRET}")
    with process("--ledger", "/dev/full", *keys, *spin) as (child, ready):
        asyncio.run(order(ready))
        assert child.wait(STOP_S) == 1
        said, complaint = child.communicate()
        assert said == ""
        assert "cannot be written to /dev/full any more (No space left on device)" in complaint
        assert len(complaint.splitlines()) == 1


def refusal(*flags: str) -> str:
    """What it says when it does not even start."""
    command = [sys.executable, "-P", "-m", "engine.cli", "sim", "exchange", *flags]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "Traceback" not in ended.stderr
    return ended.stderr


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--ws-port", "65536"], "is not a port"),
        (["--hmac-key", "nosecret"], "KEY:SECRET"),
        (["--ed25519-key", "nofile"], "KEY:PUBLIC_PEM_FILE"),
        (["--ed25519-key", "k:/dev/null/pem"], "/dev/null/pem cannot be read (Not a directory)"),
        (["--ed25519-key", "k:/dev/null"], "no Ed25519 public key in PEM"),
        (["--price", "0.00"], "is not a price"),
        (["--price", "1e30"], "is not a price"),
        (["--price", "60000.005"], "'60000.005' is not a price: give a multiple of 0.01 up to 1"),
        (["--price", "1000000.01"], "'1000000.01' is not a price"),
        (["--ping-interval-s", "0"], "is not an interval"),
        (["--ping-interval-s", "nan"], "is not an interval"),
        (["--symbols", "BTCUSDT,DOGEUSDT"], "'DOGEUSDT' is no market: choose from BTCUSDT,"),
        (["--symbols", ""], "'' is no market"),
        (["--trades", "/dev/null/csv"], "/dev/null/csv cannot be read (Not a directory)"),
        (["--trades", "/dev/null"], "/dev/null has no trades"),
        (["--fault", "split", "--fault", "drop=0.1"], "'drop=0.1' is not a fault: write NAME"),
        (["--symbols", "ETHUSDT", "--price", "2"], "--price is BTCUSDT's"),
        (["--ledger", "/dev/null/ledger"], "the ledger cannot be written to /dev/null/ledger"),
    ],
)
def test_a_bad_flag_gets_one_sentence(flags: list[str], told: str) -> None:
    assert told in refusal(*flags)
