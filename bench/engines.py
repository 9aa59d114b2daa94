"""The engine as every benchmark has it: one rule, the shipped book, a session with the benchmark's
exchange."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from engine.book import Book, default_entries
from engine.core import Engine, EngineOptions, Rule, VenueAddress
from engine.venues import binance
from harpoon_bench.traffic import DEPOSIT_SAT

ORDER = binance.OrderSpec("BTCUSDT", "SELL", "MARKET", "0.00100")
RECV_WINDOW_MS = 5000
LIVE = EngineOptions(live=True, max_orders=1 << 62)
FRAME_BYTES = 4 + 4  # RFC 6455 5.2: a head with a length of 16 bits, the mask
RECORD_BYTES = 5 + 1 + 16  # RFC 8446 5.2: header, content type, AEAD tag


def order_bytes(api_key: str) -> int:
    """Of an order on the wire."""
    body = binance.order_template(ORDER, api_key, RECV_WINDOW_MS).body
    return len(body) + FRAME_BYTES + RECORD_BYTES


def engine_for(account: Mapping[str, Any], options: EngineOptions = LIVE) -> Engine:
    """An engine that sells at every deposit of DEPOSIT_SAT in the name of api_key, api_secret."""
    engine = Engine(Book(default_entries()), options)
    engine.set_key(account["api_secret"])
    template = binance.order_template(ORDER, account["api_key"], RECV_WINDOW_MS)
    engine.add_rule(Rule(("deposit",), None, DEPOSIT_SAT, None, engine.add_order(template)))
    return engine


def address_of(exchange: Mapping[str, Any]) -> VenueAddress:
    """Of what `exchange` says: ws_url, ca_file."""
    url = urlsplit(exchange["ws_url"])
    assert url.hostname is not None
    assert url.port is not None
    return VenueAddress(
        ip=url.hostname,
        host=url.hostname,
        port=url.port,
        path=url.path,
        ca_file=Path(exchange["ca_file"]),
        timeout_ns=5_000_000_000,
    )


def connected_engine(exchange: Mapping[str, Any], options: EngineOptions = LIVE) -> Engine:
    """For single steps by this thread."""
    engine = engine_for(exchange, options)
    engine.connect(address_of(exchange))
    return engine
