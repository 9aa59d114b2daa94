"""The command as a person meets it: one sentence for every mistake, and never a traceback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.sim import authority
from tests.publisher import Publisher

KEYS = {"HARPOON_API_KEY": "k" * 64, "HARPOON_API_SECRET": "s" * 64}
RULE = """
[[rule]]
name = "whale"
min_btc = "1"
side = "SELL"
symbol = "BTCUSDT"
type = "MARKET"
quantity = "0.001"
"""


def harpoon(*arguments: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-P", "-m", "engine.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **(KEYS if environ is None else environ)},
    )


def assert_sentence(done: subprocess.CompletedProcess, status: int, *words: str) -> None:
    """One line on stderr that names every one of `words`."""
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("harpoon: "), done.stderr
    for word in words:
        assert word in last


def write_config(
    folder: Path,
    *,
    url: str,
    endpoint: str = "tcp://127.0.0.1:1",
    stream_url: str = "wss://127.0.0.1:1",
    timeout_s: int = 20,
    **more: str | int,
) -> str:
    more |= {"stream_url": stream_url, "timeout_s": timeout_s}
    extra = "\n".join(f"{key} = {json.dumps(value)}" for key, value in more.items())
    file = folder / "harpoon.toml"
    file.write_text(f'[feed]\nendpoint = "{endpoint}"\n[venue]\nurl = "{url}"\n{extra}\n{RULE}')
    return str(file)


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The exchange simulator as a process, and what it said when it was ready."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "engine.cli", "sim", "exchange", "--stop-on-stdin-eof"),
            *("--ca-out", str(tmp_path / "ca.pem"), "--ledger", str(tmp_path / "ledger.jsonl")),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Bound by nobody who listens: connections are refused, and no other test gets the port."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture
def listener() -> Iterator[Callable[[bytes], int]]:
    """A TCP server that says one thing to whoever connects; its port."""
    servers = []

    def start(words: bytes) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve() -> None:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            with peer:
                peer.sendall(words)
                peer.settimeout(5)
                try:
                    while peer.recv(4096):
                        pass
                except OSError:
                    pass

        threading.Thread(target=serve, daemon=True).start()
        return int(server.getsockname()[1])

    yield start
    for server in servers:
        server.close()


def test_without_arguments_it_says_how_to_use_it() -> None:
    done = harpoon()
    assert done.returncode == 2
    assert "usage: harpoon" in done.stderr


def test_version() -> None:
    assert harpoon("--version").stdout.startswith("harpoon ")


def test_every_command_has_help() -> None:
    for command in (["demo"], ["scan"], ["run"], ["doctor"], ["bench", "send"], ["sim", "node"]):
        done = harpoon(*command, "--help")
        assert done.returncode == 0, done.stderr
        assert "usage: harpoon" in done.stdout


# ---- scan ---------------------------------------------------------------------------------------


def test_scan_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = harpoon("scan", str(tmp_path / "nothing.bin"))
    assert_sentence(done, 1, "nothing.bin")


def test_scan_of_something_that_is_no_block(tmp_path: Path) -> None:
    (tmp_path / "junk.bin").write_bytes(os.urandom(500))
    assert_sentence(harpoon("scan", str(tmp_path / "junk.bin")), 1, "junk.bin", "header")


def test_scan_with_an_amount_that_is_none() -> None:
    done = harpoon("scan", "x.bin", "--min-btc", "lots")
    assert done.returncode == 2
    assert "BTC" in done.stderr


def test_scan_with_a_bad_row_in_the_book_goes_on(tmp_path: Path, shared_data: Path) -> None:
    book = tmp_path / "book.csv"
    book.write_text(
        "address,exchange\n"
        "1NDyJtNTjmwk5xPNhjgAMu4HDHigtobu1t,binance\n"  # last character changed
        "33j5fuJc14aff3Z6vHZBxaHEKMdNmKbRxQ,okx\n"
    )
    block = shared_data / "blocks" / "block_617509.bin"
    out = tmp_path / "out.json"
    done = harpoon("scan", str(block), "--book", str(book), "--json", str(out))
    assert done.returncode == 0, done.stderr
    assert "line 2" in done.stderr
    assert "checksum" in done.stderr
    found = json.loads(out.read_text())["signals"]
    assert ("okx", 900_000_000) in {(s["exchange"], s["net_sat"]) for s in found}


def test_scan_min_btc_filters_by_net_amount(tmp_path: Path, shared_data: Path) -> None:
    block = str(shared_data / "blocks" / "block_617509.bin")
    book = str(shared_data / "exchange_addresses.csv")
    nets = {}
    for least in ("0", "10"):
        out = tmp_path / f"{least}.json"
        assert harpoon("scan", block, "--book", book, "--min-btc", least, "--json", str(out))
        nets[least] = [s["net_sat"] for s in json.loads(out.read_text())["signals"]]
    assert 0 in nets["0"]
    assert nets["10"] == [net for net in nets["0"] if net >= 1_000_000_000]


# ---- book ---------------------------------------------------------------------------------------


def test_a_built_book_finds_what_its_sources_do(tmp_path: Path, shared_data: Path) -> None:
    source = str(shared_data / "exchange_addresses.csv")
    block = str(shared_data / "blocks" / "block_617509.bin")
    built = str(tmp_path / "all.book")
    assert harpoon("book", source, "--out", built).returncode == 0
    found = []
    for book in (source, built):
        out = tmp_path / "out.json"
        done = harpoon("scan", block, "--book", book, "--min-btc", "0", "--json", str(out))
        assert done.returncode == 0, done.stderr
        found.append(json.loads(out.read_text())["signals"])
    assert found[0] == found[1]
    assert len(found[0]) > 100


def test_a_built_book_stands_alone(tmp_path: Path) -> None:
    built = str(tmp_path / "some.book")
    assert harpoon("book", "--out", built).returncode == 0
    done = harpoon("scan", "x.bin", "--book", built, "--book", "other.csv")
    assert_sentence(done, 1, "some.book", "stands alone")


def test_a_built_book_that_is_cut_short(tmp_path: Path) -> None:
    built = tmp_path / "some.book"
    assert harpoon("book", "--out", str(built)).returncode == 0
    built.write_bytes(built.read_bytes()[:-100])
    assert_sentence(harpoon("scan", "x.bin", "--book", str(built)), 1, "some.book")


def test_a_built_book_needs_its_name(tmp_path: Path) -> None:
    assert_sentence(harpoon("book", "--out", str(tmp_path / "x.bin")), 1, ".book")


# ---- run ----------------------------------------------------------------------------------------


def test_run_with_a_typo_in_the_configuration(tmp_path: Path) -> None:
    config = write_config(tmp_path, url="wss://127.0.0.1:1/ws", recv_windw_ms="5")
    assert_sentence(harpoon("run", "--config", config), 2, "recv_windw_ms", "recv_window_ms")


def test_run_without_a_configuration(tmp_path: Path) -> None:
    assert_sentence(harpoon("run", "--config", str(tmp_path / "none.toml")), 2, "none.toml")


def test_run_against_another_host_without_its_prices(tmp_path: Path) -> None:
    config = Path(write_config(tmp_path, url="wss://127.0.0.1:1/ws"))
    config.write_text(
        "".join(line for line in config.read_text().splitlines(True) if "stream_url" not in line)
    )
    assert_sentence(harpoon("run", "--config", str(config)), 2, "[venue] stream_url is missing")


def test_run_without_a_key(tmp_path: Path) -> None:
    config = write_config(tmp_path, url="wss://127.0.0.1:1/ws")
    environ = {"HARPOON_API_KEY": "k" * 64}
    done = harpoon("run", "--config", config, environ=environ)
    assert_sentence(done, 2, "HARPOON_API_SECRET", "export")


@pytest.mark.parametrize("flag", [[], ["--live"]])
def test_live_needs_the_file_and_the_flag(tmp_path: Path, flag: list[str]) -> None:
    config = Path(write_config(tmp_path, url="wss://127.0.0.1:1/ws"))
    if not flag:
        config.write_text('[engine]\nmode = "live"\n' + config.read_text())
    assert_sentence(harpoon("run", "--config", str(config), *flag), 2, "live")


def test_run_against_a_venue_that_refuses(tmp_path: Path, closed_port: int) -> None:
    config = write_config(tmp_path, url=f"wss://127.0.0.1:{closed_port}/ws")
    assert_sentence(harpoon("run", "--config", config), 1, "refused", "venue.url")


def test_run_against_a_host_name_that_is_none(tmp_path: Path) -> None:
    config = write_config(tmp_path, url="wss://exchange.invalid:443/ws")
    assert_sentence(harpoon("run", "--config", config), 1, "exchange.invalid")


def test_run_against_something_without_tls(
    tmp_path: Path, listener: Callable[[bytes], int]
) -> None:
    port = listener(b"220 mail.example ESMTP\r\n")
    config = write_config(tmp_path, url=f"wss://127.0.0.1:{port}/ws")
    assert_sentence(harpoon("run", "--config", config), 1, "TLS", str(port))


def test_run_against_a_silent_venue(tmp_path: Path, listener: Callable[[bytes], int]) -> None:
    config = write_config(tmp_path, url=f"wss://127.0.0.1:{listener(b'')}/ws", timeout_s=2)
    assert_sentence(harpoon("run", "--config", config), 1, "in time", "timeout_s")


def test_run_against_an_untrusted_certificate(tmp_path: Path, exchange: dict[str, str]) -> None:
    config = write_config(tmp_path, url=exchange["ws_url"])
    assert_sentence(harpoon("run", "--config", config), 1, "certificate", "ca_file")


def test_run_with_another_authority(tmp_path: Path, exchange: dict[str, str]) -> None:
    (tmp_path / "other").mkdir()
    other = authority.issue(tmp_path / "other")
    config = write_config(tmp_path, url=exchange["ws_url"], ca_file=str(other.ca_file))
    assert_sentence(harpoon("run", "--config", config), 1, "certificate")


def test_run_with_a_ca_file_that_is_none(tmp_path: Path, exchange: dict[str, str]) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    config = write_config(tmp_path, url=exchange["ws_url"], ca_file=str(tmp_path / "bad.pem"))
    assert_sentence(harpoon("run", "--config", config), 1, "bad.pem")


def test_run_with_a_wrong_path(tmp_path: Path, exchange: dict[str, str]) -> None:
    url = exchange["ws_url"].replace("/ws-api/v3", "/elsewhere")
    config = write_config(tmp_path, url=url, ca_file=exchange["ca_file"])
    assert_sentence(harpoon("run", "--config", config), 1, "404", "/elsewhere")


def test_run_without_a_node(tmp_path: Path, exchange: dict[str, str], closed_port: int) -> None:
    endpoint = f"tcp://127.0.0.1:{closed_port}"
    config = write_config(
        tmp_path, url=exchange["ws_url"], ca_file=exchange["ca_file"], endpoint=endpoint
    )
    assert_sentence(harpoon("run", "--config", config), 1, endpoint, "-zmqpubrawtx")


def test_json_to_a_place_that_is_none(tmp_path: Path, shared_data: Path) -> None:
    block = shared_data / "blocks" / "block_100000.bin"
    done = harpoon("scan", str(block), "--json", str(tmp_path / "no" / "where.json"))
    assert_sentence(done, 1, "where.json")


def test_a_full_disk_behind_standard_output(shared_data: Path) -> None:
    block = shared_data / "blocks" / "block_100000.bin"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "engine.cli", "scan", str(block)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert_sentence(done, 1, "No space left on device")


def test_markup_in_a_book_is_only_words(tmp_path: Path, shared_data: Path) -> None:
    book = tmp_path / "book.csv"
    book.write_text(
        "address,exchange\n[/foo],\x1b[2Jbinance\n33j5fuJc14aff3Z6vHZBxaHEKMdNmKbRxQ,okx\n"
    )
    done = harpoon("scan", str(shared_data / "blocks" / "block_100000.bin"), "--book", str(book))
    assert done.returncode == 0, done.stderr
    assert "[/foo]" in done.stderr
    assert "\x1b" not in done.stderr


def test_a_reader_that_goes_away_is_no_traceback(shared_data: Path) -> None:
    block = shared_data / "blocks" / "block_617509.bin"
    book = shared_data / "exchange_addresses.csv"
    command = (
        f"{sys.executable} -P -m engine.cli scan {block} --book {book} --min-btc 0 | head -n 1"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr


# ---- a run from beginning to end ----------------------------------------------------------------


class Running:
    """`harpoon run --json-lines` in the background; records as they come."""

    def __init__(self, config: str, environ: dict[str, str], *flags: str) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "engine.cli", "run"),
                *("--config", config, "--json-lines", *flags),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environ},
        )

    def until(self, kind: str) -> dict:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            record = json.loads(line)
            if record["record"] == kind:
                return record
        assert self.process.stderr is not None
        raise AssertionError(f"no {kind} record: {self.process.stderr.read()}")

    def end(self) -> dict:
        self.process.terminate()
        summary = self.until("summary")
        assert self.process.wait(60) == 0
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return summary


@pytest.fixture
def node() -> Iterator[Publisher]:
    publisher = Publisher()
    yield publisher
    publisher.close()


def deposit(number: int) -> bytes:
    """9 BTC to an exchange of the shipped book, from an outpoint of its own."""
    script = bytes.fromhex("76a914e8cea30989bd15530f819b766684b00dc7ba7cfa88ac")
    return (
        bytes.fromhex("0200000001")
        + number.to_bytes(32, "little")
        + bytes(4)
        + bytes.fromhex("00ffffffff01")
        + (900_000_000).to_bytes(8, "little")
        + bytes([len(script)])
        + script
        + bytes(4)
    )


def test_dry_run_then_live(tmp_path: Path, exchange: dict[str, str], node: Publisher) -> None:
    keys = {
        "HARPOON_API_KEY": exchange["api_key"],
        "HARPOON_API_SECRET": exchange["api_secret"],
    }
    config = Path(
        write_config(
            tmp_path,
            url=exchange["ws_url"],
            stream_url=exchange["stream_url"],
            ca_file=exchange["ca_file"],
            endpoint=node.endpoint,
        )
    )
    ledger = tmp_path / "ledger.jsonl"
    for live, status in ((False, "dry-run"), (True, "filled")):
        if live:
            config.write_text('[engine]\nmode = "live"\n' + config.read_text())
        running = Running(str(config), keys, *(["--live"] if live else []))
        assert running.until("ready")["mode"] == ("live" if live else "dry-run")
        node.wait_subscriber()
        node.socket.send_multipart([b"rawtx", b"too few frames"])
        node.send(b"\x00" * 50, 0)
        node.send(deposit(live), 1)
        node.send(deposit(live), 2)  # the same once more
        signal = running.until("signal")
        assert signal["kind"] == "deposit"
        assert signal["net_sat"] == 900_000_000
        running.until("progress")
        summary = running.end()
        node.wait_gone()
        assert [order["status"] for order in summary["orders"]] == [status]
        assert summary["stats"]["duplicates"] == 1
        assert summary["stats"]["malformed"] == 1
        entries = [json.loads(line) for line in ledger.read_text().splitlines()]
        assert [entry["entry"] for entry in entries] == ["order", "fill"] * int(live)
        stages = summary["latency_ns"]
        assert stages["journal"]["count"] == 1
        assert stages["send"]["count"] == int(live)
    assert entries[0]["client_id"] == summary["orders"][0]["client_id"]
    everything = json.dumps(summary) + config.read_text()
    assert exchange["api_secret"] not in everything


def test_the_secret_is_not_in_the_process_list(
    tmp_path: Path, exchange: dict[str, str], node: Publisher
) -> None:
    keys = {"HARPOON_API_KEY": "k" * 64, "HARPOON_API_SECRET": "s3cret" * 10}
    config = write_config(
        tmp_path, url=exchange["ws_url"], ca_file=exchange["ca_file"], endpoint=node.endpoint
    )
    running = Running(config, keys)
    running.until("ready")
    command = Path(f"/proc/{running.process.pid}/cmdline").read_bytes()
    running.end()
    assert b"s3cret" not in command
