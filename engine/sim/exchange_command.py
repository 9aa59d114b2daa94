"""An exchange on loopback to try orders against: WebSocket API, market streams and REST, over TLS.

One line of JSON on standard output says that it is ready, where, and with which keys."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import math
import os
import re
import signal
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from engine.errors import ConfigError
from engine.processes import at_stdin_eof
from engine.sim.exchange import ExchangeSim
from engine.sim.faults import FAULTS
from engine.sim.market import AMOUNT, MarketTrade, read_trades
from engine.sim.symbols import SYMBOLS, Symbol
from engine.sim.websocket import PING_INTERVAL_S

BTCUSDT = SYMBOLS["BTCUSDT"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `harpoon sim exchange`."""
    for name, what in (
        ("ws-port", "the WebSocket API's"),
        ("stream-port", "the market streams'"),
        ("rest-port", "REST's"),
    ):
        parser.add_argument(
            f"--{name}",
            type=_port,
            default=0,
            metavar="N",
            help=f"{what} port on 127.0.0.1; 0, the default, picks one",
        )
    parser.add_argument(
        "--ca-out", type=Path, metavar="FILE", help="write the CA certificate (PEM) here"
    )
    parser.add_argument(
        "--ledger",
        type=Path,
        metavar="FILE",
        help="write JSON lines here: accepted requests, fills and faults",
    )
    parser.add_argument(
        "--hmac-key", type=_hmac_key, metavar="KEY:SECRET", help="default: made at start"
    )
    parser.add_argument(
        "--ed25519-key",
        type=_ed25519_key,
        metavar="KEY:PUBLIC_PEM_FILE",
        help="an API key that can log on, and its public key; default: none",
    )
    parser.add_argument(
        "--ping-interval-s", type=_interval, default=PING_INTERVAL_S, metavar="S", help="default 20"
    )
    parser.add_argument(
        "--clock-skew-ms", type=int, default=0, metavar="MS", help="the venue's clock minus ours"
    )
    parser.add_argument(
        "--price",
        type=_price,
        metavar="X",
        help=f"BTCUSDT's, default {BTCUSDT.first_price}",
    )
    _add_market_arguments(parser)
    parser.add_argument(
        "--spin", action="store_true", help="never sleep, so that no client's send has to wake us"
    )
    parser.add_argument(
        "--stop-on-stdin-eof", action="store_true", help="end when stdin does, as with the parent"
    )


def _add_market_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--symbols",
        type=_symbols,
        default=SYMBOLS,
        metavar="A,B",
        help=f"markets, default {','.join(SYMBOLS)}",
    )
    parser.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="of a random market, which stands still without, and of the faults' chances",
    )
    parser.add_argument(
        "--trades",
        metavar="CSV",
        help="the market follows this file's rows: time_ms,symbol,price,qty[,side]",
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="SPEC",
        help="NAME[=PROBABILITY][:DURATION], like drop-after=0.01 or delay=0.05:200ms, or skew=MS; "
        f"may be repeated; the names: {', '.join(FAULTS)}",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; one JSON line on stdout says when and where it is ready."""
    if args.price is not None and "BTCUSDT" not in args.symbols:
        raise ConfigError(
            "--price is BTCUSDT's, which --symbols leaves out: leave one of them out."
        )
    # That a peer is gone is no news here: faults end connections all the time.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    asyncio.run(_serve_until_told(args))
    return 0


async def _serve_until_told(args: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, told.set)
    if args.stop_on_stdin_eof:
        at_stdin_eof(lambda: _tell(loop, told))
    sim = ExchangeSim(
        ws_port=args.ws_port,
        stream_port=args.stream_port,
        rest_port=args.rest_port,
        ca_out=args.ca_out,
        ledger_file=args.ledger,
        hmac_key=args.hmac_key,
        ed25519_key=args.ed25519_key,
        ping_interval_s=args.ping_interval_s,
        clock_skew_ms=args.clock_skew_ms,
        last_price=args.price,
        symbols=args.symbols,
        seed=args.seed,
        trades=args.trades and _trades(args.trades, args.symbols),
        fault_specs=args.fault,
        on_failure=told.set,
    )
    async with sim:
        ready = {
            "ws_url": sim.url,
            "stream_url": sim.stream_url,
            "rest_url": sim.rest_url,
            "ca_file": str(sim.ca_file),
            "api_key": sim.api_key,
            "api_secret": sim.api_secret,
            "ed25519_api_key": sim.ed25519_api_key,
            "ledger": None if sim.ledger_file is None else str(sim.ledger_file),
            "pid": os.getpid(),
        }
        print(json.dumps(ready), flush=True)
        while args.spin and not told.is_set():
            await asyncio.sleep(0)
        await told.wait()


def _tell(loop: asyncio.AbstractEventLoop, told: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended before
        loop.call_soon_threadsafe(told.set)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: give 0 to 65535")
    return int(text)


def _symbols(text: str) -> Mapping[str, Symbol]:
    unknown = [name for name in text.split(",") if name not in SYMBOLS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"{unknown[0]!r} is no market: choose from {','.join(SYMBOLS)}"
        )
    return {name: SYMBOLS[name] for name in text.split(",")}


def _hmac_key(text: str) -> tuple[str, str]:
    key, _, secret = text.partition(":")
    if not key or not secret:
        raise argparse.ArgumentTypeError("give the API key and its secret as KEY:SECRET")
    return key, secret


def _ed25519_key(text: str) -> tuple[str, bytes]:
    key, _, file = text.partition(":")
    if not key or not file:
        raise argparse.ArgumentTypeError(
            "give the API key and the file with its public key as KEY:PUBLIC_PEM_FILE"
        )
    try:
        return key, Path(file).read_bytes()
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"{file} cannot be read ({error.strerror}): check the path"
        ) from error


def _trades(file: str, symbols: Mapping[str, Symbol]) -> list[MarketTrade]:
    try:
        with open(file, encoding="utf-8", newline="") as lines:
            return read_trades(lines, file, symbols)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(
            f"{file} cannot be read ({reason}): check the path of --trades."
        ) from error


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not an interval: give seconds above 0")
    return seconds


def _price(text: str) -> Decimal:
    if not re.fullmatch(AMOUNT, text) or not BTCUSDT.allows_price(Decimal(text)):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a price: give a multiple of {BTCUSDT.tick_size} up to "
            f"{BTCUSDT.max_price}, like 60000.50"
        )
    return Decimal(text)
