"""The configuration file: TOML in, validated settings out.

SCHEMA says what each key may hold; docs/configuration.md says the same in words. Amounts of money
are decimal strings or integers, never floats: BTC becomes satoshis here, exactly.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from engine.errors import ConfigError

RULES_MAX = 64  # HP_RULES_MAX
ENDPOINTS_MAX = 8  # HP_FEEDS_MAX
RATE_MAX = 100_000  # orders in a window
# Base endpoints of the market streams (web-socket-streams.md, "General WSS information", and the
# same of the testnet), by the host of the order entry.
_STREAMS = {
    "ws-api.binance.com": "wss://stream.binance.com:9443",
    "ws-api.testnet.binance.vision": "wss://stream.testnet.binance.vision",
}
_SAT_PER_BTC = 100_000_000
_SUPPLY_BTC = 21_000_000
_SOCKET_PATH_BYTES_MAX = 107  # sun_path of unix(7), without its final zero byte
_SECRET_BYTES_MAX = 4096
_SHOWN_MAX = 100  # characters of a wrong value that are repeated in an error


@dataclass(frozen=True)
class EngineSettings:
    live: bool
    min_signal_sat: int
    sweep_inputs_min: int
    cpu: int | None
    spin: bool
    transport: str
    rearm_ms: int


@dataclass(frozen=True)
class FeedSettings:
    """One endpoint where `source` is zmq."""

    endpoints: tuple[str, ...]
    source: str
    sequence: bool
    silent_after_s: int


@dataclass(frozen=True)
class JournalSettings:
    folder: Path
    segment_mb: int


@dataclass(frozen=True)
class BookSettings:
    files: tuple[Path, ...]
    default: bool


@dataclass(frozen=True)
class VenueSettings:
    """`path` has the query in it. `stream_url` has no path: prices come from there. A key or secret
    is in its file if there is one, else in the environment; with `private_key_file` there is no
    secret."""

    name: str
    url: str
    host: str
    port: int
    path: str
    stream_url: str
    ca_file: Path | None
    api_key_env: str
    api_key_file: Path | None
    api_secret_env: str
    api_secret_file: Path | None
    private_key_file: Path | None
    recv_window_ms: int
    timeout_s: int


@dataclass(frozen=True)
class RiskSettings:
    """Notionals are in 1e-8 of a symbol's quote asset. docs/risk.md says what each limit is."""

    max_orders: int
    cooldown_s: int
    exchange_cooldown_s: int
    max_order_notional: int
    max_total_notional: int
    max_position_notional: int
    max_orders_per_second: int
    max_orders_per_minute: int
    max_orders_per_hour: int
    max_orders_per_day: int
    max_signal_age_us: int
    max_feed_silence_s: int
    max_price_age_ms: int
    price_band_bp: int
    max_clock_offset_ms: int
    max_unresolved: int
    venue_headroom_percent: int
    latch: Path


@dataclass(frozen=True)
class RuleSettings:
    """`price` and `time_in_force` are None when, and only when, `type` is MARKET. The position that
    the order makes is left after `exit_after_s`, or at a price so many basis points better
    (`take_profit_bp`) or worse (`stop_loss_bp`); 0: not for this reason."""

    name: str
    kinds: tuple[str, ...]
    exchange: str | None  # None: any
    min_sat: int
    max_sat: int | None
    side: str
    symbol: str
    type: str
    quantity: str
    price: str | None
    time_in_force: str | None
    exit_after_s: int
    take_profit_bp: int
    stop_loss_bp: int


@dataclass(frozen=True)
class Config:
    engine: EngineSettings
    feed: FeedSettings
    journal: JournalSettings
    book: BookSettings
    venue: VenueSettings
    risk: RiskSettings
    rules: tuple[RuleSettings, ...]


# ---- what a key may hold ------------------------------------------------------------------------


@dataclass(frozen=True)
class Key:
    """One key of a table. Without a default it must be there, and `example` shows how."""

    read: Callable[[object], Any]  # from TOML's value to ours; ValueError says what is wanted
    default: Any = None
    example: str = ""

    @property
    def mandatory(self) -> bool:
        return bool(self.example)


def _suggestion(word: object, options: Iterable[str]) -> str:
    if not isinstance(word, str):
        return ""
    lowered = {option.lower(): option for option in options}
    close = difflib.get_close_matches(word.lower(), lowered, n=1)
    return f" (did you mean {lowered[close[0]]}?)" if close else ""


def _choice(*options: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in options:
            wanted = " or ".join(json.dumps(option) for option in options)
            raise ValueError(f"must be {wanted}{_suggestion(value, options)}")
        return str(value)

    return read


def _integer(low: int, high: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"must be an integer from {low} to {high}")
        return value

    return read


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _string(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError("must be a string with something in it, in quotation marks")
    return value


def sat_of_btc(value: object) -> int:
    """Satoshis of an amount in BTC, a string or an integer; ValueError says what is wanted."""
    wanted = (
        f'must be BTC from 0 to {_SUPPLY_BTC} in quotation marks, 8 decimals at most, like "12.5"'
    )
    if type(value) is int:
        sat = value * _SAT_PER_BTC
    elif isinstance(value, str) and (
        number := re.fullmatch(r"([0-9]{1,8})(?:\.([0-9]{1,8}))?", value)
    ):
        sat = int(number[1]) * _SAT_PER_BTC + int((number[2] or "").ljust(8, "0"))
    else:
        raise ValueError(wanted)
    if not 0 <= sat <= _SUPPLY_BTC * _SAT_PER_BTC:
        raise ValueError(wanted)
    return sat


def _notional(value: object) -> int:
    """1e-8 units of a quote asset, from a decimal string or an integer."""
    number = value if type(value) is not int else str(value)
    if not isinstance(number, str) or not (
        match := re.fullmatch(r"([0-9]{1,10})(?:\.([0-9]{1,8}))?", number)
    ):
        raise ValueError(
            "must be an amount of the quote asset below 10000000000 in quotation marks, 8 decimals "
            'at most, like "250"'
        )
    return int(match[1]) * 10**8 + int((match[2] or "").ljust(8, "0"))


def _decimal(value: object) -> str:
    """A venue's number as it is written: no sign, no exponent, above zero."""
    if (
        not isinstance(value, str)
        or not re.fullmatch(r"(0|[1-9][0-9]{0,11})(\.[0-9]{1,12})?", value)
        or not value.strip("0.")
    ):
        raise ValueError('must be a decimal above zero in quotation marks, like "0.015"')
    return value


def _symbol(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Z0-9]{1,20}", value):
        raise ValueError('must be 1 to 20 capital letters and digits, like "BTCUSDT"')
    return value


def _variable(value: object) -> str:
    # Capitals only, so that a key pasted here by mistake is refused instead of being looked up, and
    # named in the error when it is not found.
    if not isinstance(value, str) or not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,127}", value):
        raise ValueError(
            "must be the name of an environment variable (capital letters, digits and _), not the "
            "key itself"
        )
    return value


def _paths(value: object) -> tuple[Path, ...]:
    if not isinstance(value, list):
        raise ValueError('must be a list of paths, like ["book.csv"]')
    return tuple(Path(_string(item)) for item in value)


def _path(value: object) -> Path:
    return Path(_string(value))


KINDS = ("deposit", "withdrawal", "internal", "sweep")


def _kinds(value: object) -> tuple[str, ...]:
    wanted = f"must be a list of one or more of {', '.join(KINDS)}"
    if not isinstance(value, list) or not value:
        raise ValueError(wanted)
    for item in value:
        if item not in KINDS or value.count(item) > 1:
            raise ValueError(f"{wanted}, each once{_suggestion(item, KINDS)}")
    return tuple(value)


def _exchange(value: object) -> str:
    return _string(value).strip().lower()


def _endpoint(value: object) -> str:
    """A ZeroMQ endpoint of the node: tcp://host:port or ipc:///path."""
    endpoint = _string(value)
    tcp = re.fullmatch(r"tcp://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})", endpoint)
    if tcp and 1 <= int(tcp[1]) <= 65535:
        return endpoint
    path = endpoint.removeprefix("ipc://")
    if path.startswith("/") and path != endpoint and len(path.encode()) <= _SOCKET_PATH_BYTES_MAX:
        return endpoint
    raise ValueError(
        'must be "tcp://host:port" or "ipc:///path" (what bitcoind calls unix:/path, of at most '
        f"{_SOCKET_PATH_BYTES_MAX} bytes), the same as bitcoind's -zmqpubrawtx"
    )


def _endpoints(value: object) -> tuple[str, ...]:
    """One endpoint, or a list of some."""
    if not isinstance(value, list):
        return (_endpoint(value),)
    if not 1 <= len(value) <= ENDPOINTS_MAX:
        raise ValueError(f"must name 1 to {ENDPOINTS_MAX} endpoints")
    endpoints = tuple(_endpoint(endpoint) for endpoint in value)
    if len(set(endpoints)) < len(endpoints):
        raise ValueError("names an endpoint twice: remove one")
    return endpoints


def _url(value: object) -> str:
    """A wss:// URL."""
    url = _string(value)
    if url.startswith("ws://"):
        raise ValueError(
            "must be wss://: over ws:// everybody on the way could read and change orders"
        )
    if not re.fullmatch(
        r"wss://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[!-\"$-~]*)?", url
    ):
        raise ValueError(
            'must be "wss://host/path" or "wss://host:port/path", without blanks, user or #'
        )
    try:
        if urlsplit(url).port != 0:
            return url
    except ValueError:
        pass
    raise ValueError("must have a host that can exist and a port from 1 to 65535, or none for 443")


def _base_url(value: object) -> str:
    """A wss:// URL without a path."""
    url = _url(value).removesuffix("/")
    if urlsplit(url).path:
        raise ValueError("must end behind the host and port: the path is added to it")
    return url


SCHEMA: Mapping[str, Mapping[str, Key]] = {
    "engine": {
        "mode": Key(_choice("dry-run", "live"), "dry-run"),
        "min_signal_btc": Key(sat_of_btc, "0"),
        "sweep_inputs_min": Key(_integer(1, 100_000), 6),
        "cpu": Key(_integer(0, 1023)),  # CPU_SETSIZE of sched.h
        "spin": Key(_flag, False),
        "transport": Key(_choice("io_uring", "syscall"), "io_uring"),
        "rearm_ms": Key(_integer(1, 10_000), 100),
    },
    "feed": {
        "endpoint": Key(_endpoints, example='endpoint = "tcp://127.0.0.1:28332"'),
        "source": Key(_choice("native", "zmq"), "native"),
        "sequence": Key(_flag, False),
        "silent_after_s": Key(_integer(1, 86_400), 60),
    },
    "journal": {
        "folder": Key(_path, "journal"),
        "segment_mb": Key(_integer(4, 1024), 16),
    },
    "book": {
        "files": Key(_paths, []),
        "default": Key(_flag, True),
    },
    "venue": {
        "name": Key(_choice("binance"), "binance"),
        "url": Key(_url, example='url = "wss://ws-api.testnet.binance.vision/ws-api/v3"'),
        "stream_url": Key(_base_url),
        "ca_file": Key(_path),
        "api_key_env": Key(_variable, "HARPOON_API_KEY"),
        "api_key_file": Key(_path),
        "api_secret_env": Key(_variable, "HARPOON_API_SECRET"),
        "api_secret_file": Key(_path),
        "private_key_file": Key(_path),
        "recv_window_ms": Key(_integer(1, 60_000), 5000),
        "timeout_s": Key(_integer(1, 120), 10),
    },
    "risk": {
        "max_orders": Key(_integer(0, 1_000_000), 10),
        "cooldown_s": Key(_integer(0, 86_400), 60),
        "exchange_cooldown_s": Key(_integer(0, 86_400), 10),
        "max_order_notional": Key(_notional, "100"),
        "max_total_notional": Key(_notional, "1000"),
        "max_position_notional": Key(_notional, "500"),
        "max_orders_per_second": Key(_integer(0, RATE_MAX), 1),
        "max_orders_per_minute": Key(_integer(0, RATE_MAX), 3),
        "max_orders_per_hour": Key(_integer(0, RATE_MAX), 10),
        "max_orders_per_day": Key(_integer(0, RATE_MAX), 20),
        "max_signal_age_us": Key(_integer(1, 60_000_000), 250_000),
        "max_feed_silence_s": Key(_integer(1, 86_400), 60),
        "max_price_age_ms": Key(_integer(1, 3_600_000), 10_000),
        "price_band_bp": Key(_integer(0, 10_000), 100),
        "max_clock_offset_ms": Key(_integer(0, 86_400_000), 1000),
        "max_unresolved": Key(_integer(1, 1000), 3),
        "venue_headroom_percent": Key(_integer(0, 99), 10),
        "latch": Key(_path, "harpoon.latch"),
    },
    "rule": {
        "name": Key(_string, example='name = "whale to binance"'),
        "kinds": Key(_kinds, ["deposit"]),
        "exchange": Key(_exchange),
        "min_btc": Key(sat_of_btc, example='min_btc = "100"'),
        "max_btc": Key(sat_of_btc),
        "side": Key(_choice("BUY", "SELL"), example='side = "SELL"'),
        "symbol": Key(_symbol, example='symbol = "BTCUSDT"'),
        "type": Key(_choice("MARKET", "LIMIT"), example='type = "MARKET"'),
        "quantity": Key(_decimal, example='quantity = "0.01"'),
        "price": Key(_decimal),
        "time_in_force": Key(_choice("GTC", "IOC", "FOK"), "IOC"),
        "exit_after_s": Key(_integer(0, 30 * 86_400), 3600),
        "take_profit_bp": Key(_integer(0, 100_000), 0),
        "stop_loss_bp": Key(_integer(0, 9_999), 0),
    },
}


BASIS_POINTS = 10_000  # the whole of a price

# Of [venue], what may not be written side by side.
_ALTERNATIVES = (
    ("api_key_env", "api_key_file"),
    ("api_secret_env", "api_secret_file"),
    ("private_key_file", "api_secret_env"),
    ("private_key_file", "api_secret_file"),
)


# ---- reading ------------------------------------------------------------------------------------


def load(path: Path) -> Config:
    """The settings in the TOML file `path`; ConfigError names the first key that is wrong."""
    tables = _parse(path)
    for name in tables:
        if name not in SCHEMA:
            raise ConfigError(
                f"{path}: unknown table or key {name!r}{_suggestion(name, SCHEMA)}: "
                f"there are {', '.join(SCHEMA)}"
            )
    engine = _engine(_single(path, tables, "engine"))
    return Config(
        engine=engine,
        feed=_feed(_single(path, tables, "feed")),
        journal=_journal(_single(path, tables, "journal"), path.parent),
        book=_book(_single(path, tables, "book"), path.parent),
        venue=_venue(_single(path, tables, "venue"), path.parent),
        risk=_risk(_single(path, tables, "risk"), path.parent),
        rules=_rules(path, tables.get("rule"), engine.min_signal_sat),
    )


def _parse(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}: check the path") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML ({error}): correct it there") from error


@dataclass(frozen=True)
class _Table:
    """One table of the file, its values read and its defaults filled in."""

    where: str
    written: Mapping[str, Any]
    values: Mapping[str, Any]

    def refusal(self, key: str, reason: str) -> ConfigError:
        return ConfigError(f"{self.where} {key} = {_toml(self.written.get(key))}: {reason}")


def _toml(value: object) -> str:
    try:
        shown = json.dumps(value, ensure_ascii=False, default=str)
    except ValueError:  # an integer too long for Python to print
        return "a number of thousands of digits"
    shown = re.sub("//.*@", "//...@", shown)  # a user's password in a URL
    return shown if len(shown) <= _SHOWN_MAX else f"{shown[:_SHOWN_MAX]}..."


def _read(where: str, name: str, written: object) -> _Table:
    keys = SCHEMA[name]
    if not isinstance(written, dict):
        raise ConfigError(f"{where} must be a table: write its keys below its name in brackets")
    for key in written:
        if key not in keys:
            raise ConfigError(
                f"{where} {key}: unknown key{_suggestion(key, keys)}: there are {', '.join(keys)}"
            )
    values = {}
    for key, spec in keys.items():
        if key not in written and spec.mandatory:
            raise ConfigError(f"{where} {key} is missing: add, for example, {spec.example}")
        value = written.get(key, spec.default)
        try:
            values[key] = None if value is None else spec.read(value)
        except ValueError as error:
            shown = "" if spec.read is _variable else f" = {_toml(value)}"
            raise ConfigError(f"{where} {key}{shown}: {error}") from None
    return _Table(where, written, values)


def _single(path: Path, tables: Mapping[str, Any], name: str) -> _Table:
    return _read(f"{path}: [{name}]", name, tables.get(name, {}))


def _engine(table: _Table) -> EngineSettings:
    values = table.values
    return EngineSettings(
        live=values["mode"] == "live",
        min_signal_sat=values["min_signal_btc"],
        sweep_inputs_min=values["sweep_inputs_min"],
        cpu=values["cpu"],
        spin=values["spin"],
        transport=values["transport"],
        rearm_ms=values["rearm_ms"],
    )


def _feed(table: _Table) -> FeedSettings:
    values = dict(table.values)
    endpoints = values.pop("endpoint")
    if values["source"] == "zmq" and len(endpoints) > 1:
        raise table.refusal("endpoint", 'source = "zmq" takes one: keep one, or use "native"')
    if values["source"] == "zmq" and values["sequence"]:
        raise table.refusal("sequence", 'only source = "native" listens to it: change one of them')
    return FeedSettings(endpoints=endpoints, **values)


def _journal(table: _Table, folder: Path) -> JournalSettings:
    return JournalSettings(folder / table.values["folder"], table.values["segment_mb"])


def _book(table: _Table, folder: Path) -> BookSettings:
    files, default = table.values["files"], table.values["default"]
    if not files and not default:
        raise table.refusal("default", "no address book is left: set it to true or add files")
    return BookSettings(tuple(folder / file for file in files), default)


def _venue(table: _Table, folder: Path) -> VenueSettings:
    values = dict(table.values)
    for key in ("ca_file", "api_key_file", "api_secret_file", "private_key_file"):
        if values[key] is not None:
            values[key] = folder / values[key]
    if values["ca_file"] and not os.path.isfile(values["ca_file"]):
        raise table.refusal(
            "ca_file", f"there is no such file, seen from {folder}: correct the path"
        )
    for one, other in _ALTERNATIVES:
        if one in table.written and other in table.written:
            raise ConfigError(f"{table.where} has both {one} and {other}: remove one")
    url = urlsplit(values["url"])
    values["stream_url"] = values["stream_url"] or _STREAMS.get(url.hostname or "")
    if values["stream_url"] is None:
        raise ConfigError(
            f"{table.where} stream_url is missing: name the host that publishes the prices, like "
            'stream_url = "wss://stream.binance.com:9443"'
        )
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    return VenueSettings(host=url.hostname or "", port=url.port or 443, path=path, **values)


def _risk(table: _Table, folder: Path) -> RiskSettings:
    return RiskSettings(**{**table.values, "latch": folder / table.values["latch"]})


def _rules(path: Path, tables: object, min_signal_sat: int) -> tuple[RuleSettings, ...]:
    if tables is None or tables == []:
        raise ConfigError(f"{path}: there is no rule: add a [[rule]] table with {_rule_example()}")
    if not isinstance(tables, list):
        raise ConfigError(f"{path}: rules are a list: write [[rule]] in double brackets")
    if len(tables) > RULES_MAX:
        raise ConfigError(f"{path}: {len(tables)} rules are too many: keep at most {RULES_MAX}")
    rules: list[RuleSettings] = []
    for number, written in enumerate(tables, 1):
        table = _read(f"{path}: [[rule]] {number}", "rule", written)
        rule = _rule(table, min_signal_sat)
        if any(rule.name == other.name for other in rules):
            raise table.refusal("name", "another rule has this name: choose a new one")
        rules.append(rule)
    return tuple(rules)


def _rule_example() -> str:
    return ", ".join(key.example for key in SCHEMA["rule"].values() if key.mandatory)


def _rule(table: _Table, min_signal_sat: int) -> RuleSettings:
    values = dict(table.values)
    min_sat, max_sat = values.pop("min_btc"), values.pop("max_btc")
    if min_sat < min_signal_sat:
        raise table.refusal(
            "min_btc", "is below min_signal_btc of [engine]: raise it or lower that"
        )
    if max_sat is not None and max_sat < min_sat:
        raise table.refusal(
            "max_btc", "is below min_btc: no amount would match, correct one of them"
        )
    if values["type"] == "LIMIT" and values["price"] is None:
        raise ConfigError(
            f'{table.where} price is missing: a LIMIT order has one, like price = "65000"'
        )
    if values["side"] == "SELL" and values["take_profit_bp"] >= BASIS_POINTS:
        raise table.refusal(
            "take_profit_bp",
            f"what was sold is bought back so much lower, and no price is: write less than "
            f"{BASIS_POINTS}, or 0 for never",
        )
    exits_at_a_price = values["take_profit_bp"] or values["stop_loss_bp"]
    if values["time_in_force"] == "GTC" and exits_at_a_price and not values["exit_after_s"]:
        raise table.refusal(
            "time_in_force",
            "a part of it may fill, and is left only when all of it has ended: set exit_after_s, "
            'or "IOC"',
        )
    if values["type"] == "MARKET":
        for key in ("price", "time_in_force"):
            if key in table.written:
                raise table.refusal(key, 'a MARKET order has none: remove it or set type = "LIMIT"')
        values["time_in_force"] = None
    return RuleSettings(min_sat=min_sat, max_sat=max_sat, **values)
