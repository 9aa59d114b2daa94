"""engine.config: what is accepted, how a mistake is named, secrets, and that the docs are true."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from engine._native import lib
from engine.config import RULES_MAX, SCHEMA, Config, load, sat_of_btc
from engine.credentials import credentials
from engine.errors import ConfigError

DOCS = Path(__file__).resolve().parents[1] / "docs"
EXAMPLE = DOCS / "harpoon.example.toml"

RULE = {
    "name": '"whale"',
    "min_btc": '"100"',
    "side": '"SELL"',
    "symbol": '"BTCUSDT"',
    "type": '"MARKET"',
    "quantity": '"0.01"',
}
LIMIT = {"type": '"LIMIT"', "price": '"65000.10"'}
MINIMAL: dict[str, dict[str, str]] = {
    "feed": {"endpoint": '"tcp://127.0.0.1:28332"'},
    "venue": {"url": '"wss://example.com/ws"', "stream_url": '"wss://example.com:9443"'},
    "rule": RULE,
}


def toml(tables: dict[str, dict[str, str]]) -> str:
    lines = []
    for name, keys in tables.items():
        lines.append("[[rule]]" if name.startswith("rule") else f"[{name}]")
        lines += [f"{key} = {value}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


def with_keys(table: str, keys: dict[str, str]) -> str:
    """The smallest good file, with `keys` (values as TOML writes them) set in one table."""
    return toml({**MINIMAL, table: {**MINIMAL.get(table, {}), **keys}})


def without_key(table: str, key: str) -> str:
    return toml({**MINIMAL, table: {k: v for k, v in MINIMAL[table].items() if k != key}})


def parsed(content: str | bytes, folder: Path | None = None) -> Config:
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(folder or temporary, "harpoon.toml")
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return load(path)


def refusal(content: str | bytes, folder: Path | None = None) -> str:
    with pytest.raises(ConfigError) as error:
        parsed(content, folder)
    sentence = str(error.value)
    assert "harpoon.toml: " in sentence
    assert error.value.exit_status == 2
    return sentence


# ---- what is accepted --------------------------------------------------------------------------


def test_the_defaults_are_safe() -> None:
    config = parsed(toml(MINIMAL))
    assert not config.engine.live
    assert (config.engine.min_signal_sat, config.engine.sweep_inputs_min) == (0, 6)
    assert config.engine.cpu is None
    assert not config.engine.spin
    assert config.feed.silent_after_s == 60
    assert (config.book.files, config.book.default) == ((), True)
    assert (config.risk.max_orders, config.risk.cooldown_s) == (10, 60)
    assert (config.venue.name, config.venue.port, config.venue.path) == ("binance", 443, "/ws")
    assert (config.venue.recv_window_ms, config.venue.timeout_s) == (5000, 10)
    (rule,) = config.rules
    assert (rule.kinds, rule.exchange, rule.min_sat, rule.max_sat) == (
        ("deposit",),
        None,
        100 * 10**8,
        None,
    )
    assert (rule.quantity, rule.price, rule.time_in_force) == ("0.01", None, None)


def test_everything_can_be_set(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    config = parsed(
        toml(
            {
                "engine": {
                    "mode": '"live"',
                    "min_signal_btc": '"0.5"',
                    "sweep_inputs_min": "20",
                    "cpu": "3",
                    "spin": "true",
                },
                "feed": {"endpoint": '"ipc:///run/node.sock"', "silent_after_s": "5"},
                "book": {"files": '["a.csv", "/b/c.toml"]', "default": "false"},
                "venue": {
                    "url": '"wss://[::1]:9443/ws-api/v3?x=1"',
                    "stream_url": '"wss://[::1]:9444/"',
                    "ca_file": '"ca.pem"',
                    "api_key_env": '"K"',
                    "api_secret_file": '"secret"',
                    "recv_window_ms": "60000",
                    "timeout_s": "1",
                },
                "risk": {"max_orders": "0", "cooldown_s": "0"},
                "rule": {
                    **RULE,
                    **LIMIT,
                    "kinds": '["sweep", "withdrawal"]',
                    "exchange": '" Binance"',
                    "min_btc": "1",
                    "max_btc": '"1.00000001"',
                    "side": '"BUY"',
                    "time_in_force": '"FOK"',
                },
            }
        ),
        tmp_path,
    )
    assert config.engine.live
    assert (config.engine.min_signal_sat, config.engine.cpu) == (50_000_000, 3)
    assert config.engine.spin
    assert config.book.files == (tmp_path / "a.csv", Path("/b/c.toml"))
    assert (config.venue.host, config.venue.port) == ("::1", 9443)
    assert config.venue.path == "/ws-api/v3?x=1"
    assert config.venue.ca_file == tmp_path / "ca.pem"
    assert config.venue.api_secret_file == tmp_path / "secret"
    (rule,) = config.rules
    assert (rule.kinds, rule.exchange) == (("sweep", "withdrawal"), "binance")
    assert (rule.min_sat, rule.max_sat) == (100_000_000, 100_000_001)
    assert (rule.side, rule.type, rule.price) == ("BUY", "LIMIT", "65000.10")
    assert rule.time_in_force == "FOK"


def test_a_limit_order_is_immediate_or_cancel_unless_it_says_otherwise() -> None:
    assert parsed(with_keys("rule", LIMIT)).rules[0].time_in_force == "IOC"


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("wss://example.com", "example.com", 443, "/"),
        ("wss://example.com:9443", "example.com", 9443, "/"),
        ("wss://Example.com:1/a/b?c=d&e", "example.com", 1, "/a/b?c=d&e"),
        ("wss://127.0.0.1:65535/", "127.0.0.1", 65535, "/"),
    ],
)
def test_a_url_is_taken_apart(url: str, host: str, port: int, path: str) -> None:
    venue = parsed(with_keys("venue", {"url": json.dumps(url)})).venue
    assert (venue.host, venue.port, venue.path) == (host, port, path)


@pytest.mark.parametrize(
    ("host", "stream_url"),
    [
        ("ws-api.binance.com", "wss://stream.binance.com:9443"),
        ("ws-api.testnet.binance.vision", "wss://stream.testnet.binance.vision"),
    ],
)
def test_where_prices_come_from_is_known_for_the_exchanges_own_hosts(
    host: str, stream_url: str
) -> None:
    tables = {**MINIMAL, "venue": {"url": f'"wss://{host}:443/ws-api/v3"'}}
    assert parsed(toml(tables)).venue.stream_url == stream_url
    tables = {**MINIMAL, "venue": {"url": '"wss://example.com/ws"'}}
    assert "stream_url is missing" in refusal(toml(tables))


def test_notionals_become_integers_exactly() -> None:
    risk = parsed(with_keys("risk", {"max_order_notional": '"250.00000001"'})).risk
    assert risk.max_order_notional == 25_000_000_001
    assert (risk.max_total_notional, risk.max_position_notional) == (1000 * 10**8, 500 * 10**8)


def test_as_many_rules_as_the_engine_takes() -> None:
    assert lib.HP_RULES_MAX == RULES_MAX

    def rules(count: int) -> str:
        named = {f"rule{n}": {**RULE, "name": f'"{n}"'} for n in range(count)}
        return toml({**{k: v for k, v in MINIMAL.items() if k != "rule"}, **named})

    assert len(parsed(rules(RULES_MAX)).rules) == RULES_MAX
    assert f"{RULES_MAX + 1} rules are too many" in refusal(rules(RULES_MAX + 1))


# ---- money -------------------------------------------------------------------------------------


@given(st.integers(0, 21_000_000 * 10**8))
def test_btc_becomes_satoshis_exactly(sat: int) -> None:
    btc = Decimal(sat).scaleb(-8)
    assert sat_of_btc(f"{btc:.8f}") == sat
    assert sat_of_btc(f"{btc.normalize():f}") == sat


@pytest.mark.parametrize(
    "value",
    [
        *(1.5, 0.0, True, -1, 21_000_001, None, [], "", "1.", ".5", "-1", "+1", "1e3", "1,5"),
        *("1.123456789", "21000000.00000001", "123456789", " 1", "1\n", "٣", "inf", "nan"),
    ],
)
def test_what_is_no_amount_of_btc(value: object) -> None:
    with pytest.raises(ValueError, match="must be BTC from 0 to 21000000 in quotation marks"):
        sat_of_btc(value)


@given(st.integers(1, 10**11), st.integers(0, 12))
def test_quantity_and_price_stay_as_they_are_written(number: int, places: int) -> None:
    written = f"{Decimal(number).scaleb(-places):f}"
    rule = parsed(
        with_keys("rule", {**LIMIT, "quantity": f'"{written}"', "price": f'"{written}"'})
    ).rules[0]
    assert (rule.quantity, rule.price) == (written, written)


@pytest.mark.parametrize(
    "value",
    [
        *("0.01", "1", "true", '""', '"0"', '"0.00"', '"-1"', '"01"', '"1."', '".1"', '"1e2"'),
        *('" 1"', '"1_000"', '"1\\n"', '"1000000000000"', '"0.0000000000001"'),
    ],
)
@pytest.mark.parametrize("key", ["quantity", "price"])
def test_what_is_no_quantity_or_price(key: str, value: str) -> None:
    sentence = refusal(with_keys("rule", {**LIMIT, key: value}))
    assert f"[[rule]] 1 {key} = {value}: must be a decimal above zero in quotation" in sentence


# ---- mistakes ----------------------------------------------------------------------------------

SIXTY_FOUR = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"


@pytest.mark.parametrize(
    ("table", "keys", "reason"),
    [
        (
            "engine",
            {"mode": '"dryrun"'},
            'mode = "dryrun": must be "dry-run" or "live" (did you mean ',
        ),
        ("engine", {"mode": "true"}, 'mode = true: must be "dry-run" or "live"'),
        ("engine", {"mode": "0x" + "f" * 9000}, "mode = a number of thousands of digits: must be"),
        ("engine", {"mod": '"live"'}, "[engine] mod: unknown key (did you mean mode?)"),
        ("engine", {"min_signal_btc": "0.1"}, "[engine] min_signal_btc = 0.1: must be BTC"),
        ("engine", {"cpu": '"3"'}, 'cpu = "3": must be an integer from 0 to 1023'),
        ("engine", {"cpu": "3.0"}, "cpu = 3.0: must be an integer"),
        ("engine", {"cpu": "true"}, "cpu = true: must be an integer"),
        ("engine", {"cpu": "0x" + "f" * 9000}, "cpu = a number of thousands of digits: must be"),
        ("engine", {"cpu": "1979-05-27"}, 'cpu = "1979-05-27": must be an integer'),
        ("engine", {"cpu": "[" + "1, " * 999 + "]"}, ", ...: must be an integer"),
        ("feed", {"endpoint": '"unix:/run/x"'}, '"unix:/run/x": must be "tcp://host:port" or "ipc'),
        ("feed", {"endpoint": '"tcp://localhost"'}, "[feed] endpoint ="),
        ("feed", {"endpoint": '"tcp://localhost:0"'}, "[feed] endpoint ="),
        ("feed", {"endpoint": '"tcp://localhost:65536"'}, "[feed] endpoint ="),
        ("feed", {"endpoint": '"tcp://a b:1"'}, "[feed] endpoint ="),
        ("feed", {"endpoint": '"/run/x"'}, "[feed] endpoint ="),
        ("feed", {"endpoint": '"ipc://x"'}, "[feed] endpoint ="),
        ("feed", {"endpoint": f'"ipc:///{"x" * 107}"'}, "[feed] endpoint ="),
        ("book", {"files": '"a.csv"'}, 'files = "a.csv": must be a list of paths'),
        ("book", {"files": '[""]'}, 'files = [""]: must be a string'),
        ("book", {"default": '"yes"'}, 'default = "yes": must be true or false'),
        ("book", {"default": "false"}, "default = false: no address book is left"),
        ("venue", {"name": '"binanse"'}, "(did you mean binance?)"),
        ("venue", {"url": '"ws://x/"'}, 'url = "ws://x/": must be wss://: over ws:// everybody'),
        ("venue", {"url": '"https://x/"'}, 'url = "https://x/": must be "wss://host/path"'),
        ("venue", {"url": '"wss:///x"'}, "must be"),
        ("venue", {"url": '"wss://me:pw@x/"'}, "without blanks, user or #"),
        ("venue", {"url": '"wss://x/#a"'}, "without blanks, user or #"),
        ("venue", {"url": '"wss://x/a b"'}, "without blanks, user or #"),
        ("venue", {"url": '"wss://x/a\\r\\nHost: y"'}, "must be a string"),
        ("venue", {"url": '"wss://é.com/"'}, "must be"),
        ("venue", {"url": '"wss://x:0/"'}, "a port from 1 to 65535"),
        ("venue", {"url": '"wss://x:65536/"'}, "a port from 1 to 65535"),
        ("venue", {"url": '"wss://[1::2::3]/"'}, "must"),
        ("venue", {"ca_file": '"none.pem"'}, 'ca_file = "none.pem": there is no such file'),
        ("venue", {"ca_file": f'"{"x" * 5000}"'}, "x...: there is no such file"),
        ("venue", {"api_key": '"x"'}, "[venue] api_key: unknown key (did you mean api_key_"),
        (
            "venue",
            {"api_key_env": '"A"', "api_key_file": '"b"'},
            "both api_key_env and api_key_file",
        ),
        ("rule", {"kinds": '"deposit"'}, 'kinds = "deposit": must be a list'),
        ("rule", {"kinds": "[]"}, "kinds = []: must be a list of one or more of deposit, "),
        ("rule", {"kinds": '["deposits"]'}, "(did you mean deposit?)"),
        ("rule", {"kinds": '["sweep", "sweep"]'}, "each once"),
        ("rule", {"kinds": "[1]"}, "kinds = [1]: must be a list"),
        ("rule", {"exchange": '" "'}, 'exchange = " ": must be a string'),
        ("rule", {"min_btc": "100.0"}, "min_btc = 100.0: must be BTC"),
        ("rule", {"max_btc": '"99"'}, 'max_btc = "99": is below min_btc'),
        ("rule", {"side": '"sell"'}, 'side = "sell": must be "BUY" or "SELL" (did you mean SELL?)'),
        ("rule", {"symbol": '"btc-usdt"'}, "must be 1 to 20 capital letters and digits"),
        ("rule", {"symbol": '"B\\"C"'}, "must be 1 to 20 capital letters and digits"),
        ("rule", {"type": '"STOP"'}, 'type = "STOP": must be "MARKET" or "LIMIT"'),
        ("rule", {"type": '"LIMIT"'}, "[[rule]] 1 price is missing"),
        ("rule", {"price": '"1"'}, 'price = "1": a MARKET order has none'),
        ("rule", {"time_in_force": '"IOC"'}, "a MARKET order has none"),
        ("rule", {**LIMIT, "time_in_force": '"DAY"'}, 'must be "GTC" or "IOC" or "FOK"'),
        ("rule", {"name": '"a\\u001b"'}, "must be a string"),
        ("rule", {"quantitty": '"1"'}, "quantitty: unknown key (did you mean quantity?)"),
        ("riskk", {"max_orders": "1"}, "unknown table or key 'riskk' (did you mean risk?)"),
    ],
)
def test_a_mistake_is_named(table: str, keys: dict[str, str], reason: str) -> None:
    sentence = refusal(with_keys(table, keys))
    assert reason in sentence
    assert len(sentence) < 450


@pytest.mark.parametrize(
    ("table", "key"),
    [(table, key) for table, keys in SCHEMA.items() for key in keys if keys[key].mandatory],
)
def test_a_missing_key_is_named_with_an_example_that_works(table: str, key: str) -> None:
    sentence = refusal(without_key(table, key))
    example = SCHEMA[table][key].example
    assert f"{key} is missing: add, for example, {example}" in sentence
    assert f"[{table}]" in sentence
    parsed(with_keys(table, dict([example.split(" = ")])))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "[feed] endpoint is missing"),
        ("mode = 'live'\n", "unknown table or key 'mode'"),
        ("engine = 3\n", "[engine] must be a table"),
        ("[[engine]]\n", "[engine] must be a table"),
        (toml({k: v for k, v in MINIMAL.items() if k != "rule"}), "there is no rule"),
        (toml(MINIMAL).replace("[[rule]]", "[rule]"), "write [[rule]] in double brackets"),
        ("rule = [1]\n" + toml({**MINIMAL}).split("[[rule]]")[0], "[[rule]] 1 must be a table"),
        (toml({**MINIMAL, "rule2": RULE}), '[[rule]] 2 name = "whale": another rule has this name'),
        (with_keys("engine", {"min_signal_btc": '"101"'}), "is below min_signal_btc of [engine]"),
        (with_keys("rule", {"take_profit_bp": "10000"}), "take_profit_bp = 10000: what was sold"),
        ("[engine", "not valid TOML"),
        ("a = " + "[" * 5000, "not valid TOML"),
        ("a = " + "9" * 5000, "not valid TOML"),
        (b"\xff", "not valid TOML"),
    ],
)
def test_a_file_that_is_not_a_configuration(content: str | bytes, reason: str) -> None:
    assert reason in refusal(content)


def test_a_profit_of_the_whole_price_is_for_what_was_bought() -> None:
    parsed(with_keys("rule", {"take_profit_bp": "9999"}))
    parsed(with_keys("rule", {"take_profit_bp": "100000", "side": '"BUY"'}))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


values = st.recursive(
    st.one_of(
        st.integers(-(2**70), 2**70).map(str),
        st.floats().map(str),
        st.sampled_from(["true", "false", "1979-05-27", "07:32:00", "0x" + "f" * 9000]),
        st.text(max_size=20).filter(lambda t: t.isprintable()).map(json.dumps),
    ),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
    max_leaves=5,
)
every_key = [(table, key) for table, keys in SCHEMA.items() for key in keys]


@given(st.sampled_from(every_key), values)
def test_any_value_is_accepted_or_refused_in_a_sentence(place: tuple[str, str], value: str) -> None:
    table, key = place
    sentence = key
    try:
        parsed(with_keys(table, {key: value}))
    except ConfigError as error:
        sentence = str(error)
    assert key in sentence or "not valid TOML" in sentence


@given(st.binary(max_size=100))
def test_any_bytes_are_refused_in_a_sentence(content: bytes) -> None:
    refusal(content)


# ---- secrets -----------------------------------------------------------------------------------

KEY, SECRET = "key-of-the-test", "secret+of/the=test"
ENVIRON = {"HARPOON_API_KEY": KEY, "HARPOON_API_SECRET": SECRET}


def test_credentials_from_the_environment_are_not_in_their_repr() -> None:
    found = credentials(parsed(toml(MINIMAL)).venue, ENVIRON)
    assert (found.api_key, found.api_secret) == (KEY, SECRET)
    assert KEY not in repr(found)
    assert SECRET not in f"{found} {found!r}"


def test_the_process_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="HARPOON_API_KEY"):
        credentials(parsed(toml(MINIMAL)).venue, {})


@pytest.mark.parametrize("name", list(ENVIRON))
def test_a_variable_that_is_not_set(name: str) -> None:
    environ = {key: value for key, value in ENVIRON.items() if key != name}
    with pytest.raises(ConfigError) as error:
        credentials(parsed(toml(MINIMAL)).venue, environ)
    assert f"run `export {name}=...` first" in str(error.value)
    assert error.value.exit_status == 2


@pytest.mark.parametrize(
    "value", ["", "a b", " ab", "ab\n", "a\tb", "a\0b", "ä", "a\x7f", "\udc80"]
)
def test_a_damaged_key_is_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(
        ConfigError, match=r"HARPOON_API_SECRET .* is empty or has a blank"
    ) as error:
        credentials(parsed(toml(MINIMAL)).venue, {**ENVIRON, "HARPOON_API_SECRET": value})
    assert not value or value not in str(error.value).replace(" ", "")


@pytest.mark.parametrize(
    "value", [f'"{SIXTY_FOUR}"', f'["{SIXTY_FOUR}"]', f'"{SIXTY_FOUR.lower()}"']
)
@pytest.mark.parametrize("key", ["api_key_env", "api_secret_env"])
def test_a_key_in_place_of_a_variables_name_is_not_repeated(key: str, value: str) -> None:
    sentence = refusal(with_keys("venue", {key: value}))
    assert f"[venue] {key}: must be the name of an environment variable" in sentence
    assert SIXTY_FOUR.lower() not in sentence.lower()


def files(tmp_path: Path, content: bytes = SECRET.encode(), mode: int = 0o600) -> Config:
    for name in ("key", "secret"):
        path = tmp_path / name
        path.write_bytes(KEY.encode() + b"\n" if name == "key" else content)
        path.chmod(0o600 if name == "key" else mode)
    keys = {"api_key_file": '"key"', "api_secret_file": '"secret"'}
    return parsed(with_keys("venue", keys), tmp_path)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_credentials_from_files(tmp_path: Path, end: bytes, mode: int) -> None:
    found = credentials(files(tmp_path, SECRET.encode() + end, mode).venue, {})
    assert (found.api_key, found.api_secret) == (KEY, SECRET)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o700, 0o601])
def test_a_file_that_others_may_use(tmp_path: Path, mode: int) -> None:
    config = files(tmp_path, mode=mode)
    with pytest.raises(ConfigError) as error:
        credentials(config.venue, {})
    assert f"mode {mode:04o} " in str(error.value)
    assert f"run `chmod 600 {tmp_path / 'secret'}`" in str(error.value)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty or"),
        (b"\n", "is empty or"),
        (b"two\nlines\n", "is empty or has a blank, a line break"),
        ("schlüssel".encode(), "not ASCII"),
        (b"x" * 4097, "longer than 4096 bytes"),
    ],
)
def test_a_file_without_a_key_in_it(tmp_path: Path, content: bytes, reason: str) -> None:
    config = files(tmp_path, content)
    with pytest.raises(ConfigError, match=reason) as error:
        credentials(config.venue, {})
    assert f"{tmp_path / 'secret'} ([venue] api_secret_file)" in str(error.value)


def test_a_file_that_is_no_file(tmp_path: Path) -> None:
    config = files(tmp_path)
    secret = tmp_path / "secret"
    secret.unlink()
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        credentials(config.venue, {})
    os.mkfifo(secret, 0o600)
    with pytest.raises(ConfigError, match="is not a regular file"):
        credentials(config.venue, {})
    secret.unlink()
    secret.mkdir(0o700)
    with pytest.raises(ConfigError, match="is not a regular file"):
        credentials(config.venue, {})


# ---- a private key instead of a secret ---------------------------------------------------------

PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
PLAIN = serialization.NoEncryption()
PRIVATE_KEY = Ed25519PrivateKey.generate()
PRIVATE_PEM = PRIVATE_KEY.private_bytes(PEM, PKCS8, PLAIN)


def private_key_file(folder: Path, content: bytes, mode: int = 0o600) -> Config:
    """Settings that name a file of such content."""
    path = folder / "private.pem"
    path.write_bytes(content)
    path.chmod(mode)
    return parsed(with_keys("venue", {"private_key_file": '"private.pem"'}), folder)


def test_a_private_key_instead_of_a_secret(tmp_path: Path) -> None:
    config = private_key_file(tmp_path, PRIVATE_PEM)
    found = credentials(config.venue, {"HARPOON_API_KEY": KEY})
    assert (found.api_key, found.api_secret) == (KEY, None)
    assert found.private_key is not None
    assert found.private_key.private_bytes(PEM, PKCS8, PLAIN) == PRIVATE_PEM
    assert repr(found) == "Credentials()"


def test_a_key_that_openssl_made(tmp_path: Path) -> None:
    made = subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True)
    config = private_key_file(tmp_path, made.stdout)
    assert credentials(config.venue, ENVIRON).private_key is not None


def test_a_secret_in_the_environment_does_not_matter_beside_a_private_key(tmp_path: Path) -> None:
    found = credentials(private_key_file(tmp_path, PRIVATE_PEM).venue, ENVIRON)
    assert found.api_secret is None


@pytest.mark.parametrize("other", ["api_secret_env", "api_secret_file"])
def test_a_private_key_and_a_secret(other: str) -> None:
    keys = {"private_key_file": '"private.pem"', other: '"OTHER"'}
    told = f"[venue] has both private_key_file and {other}: remove one"
    assert told in refusal(with_keys("venue", keys))


def test_a_private_key_that_others_may_use(tmp_path: Path) -> None:
    config = private_key_file(tmp_path, PRIVATE_PEM, 0o640)
    with pytest.raises(ConfigError, match=r"mode 0640 .* run `chmod 600 .*private\.pem`"):
        credentials(config.venue, ENVIRON)


ENCRYPTED_PEM = PRIVATE_KEY.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"x"))
PUBLIC_PEM = PRIVATE_KEY.public_key().public_bytes(
    PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
RSA_PEM = rsa.generate_private_key(65537, 2048).private_bytes(PEM, PKCS8, PLAIN)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty: put"),
        (b" \r\n\n", "is empty: put"),
        (ENCRYPTED_PEM, "is encrypted, .* `openssl pkey -in .*private.pem -out NEW_FILE`"),
        (RSA_PEM, "is a key of another kind, .* `openssl genpkey -algorithm ed25519`"),
        (PUBLIC_PEM, "is no private key in PEM"),
        (PRIVATE_PEM[:60], "is no private key in PEM"),
        (PRIVATE_PEM.replace(b"MC4C", b"MC4D"), "is no private key in PEM"),
        (SECRET.encode(), "is no private key in PEM"),
        (b"\xff\0\xff", "is no private key in PEM"),
        (PRIVATE_PEM + b"x" * 4096, "longer than 4096 bytes"),
    ],
    ids=["empty", "blank", "encrypted", "rsa", "public", "cut", "changed", "text", "bytes", "long"],
)
def test_a_file_without_a_private_key_that_can_log_on(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    config = private_key_file(tmp_path, content)
    with pytest.raises(ConfigError, match=reason) as error:
        credentials(config.venue, ENVIRON)
    sentence = str(error.value)
    assert sentence.startswith(f"{tmp_path / 'private.pem'} ([venue] private_key_file) ")
    assert "\n" not in sentence
    assert not any(line.decode("latin-1") in sentence for line in content.split() if len(line) > 16)


# ---- the documents -----------------------------------------------------------------------------


def test_the_example_loads_and_is_a_dry_run() -> None:
    config = load(EXAMPLE)
    assert not config.engine.live
    assert config.venue.host == "ws-api.testnet.binance.vision"
    assert {rule.type for rule in config.rules} == {"MARKET", "LIMIT"}


def test_the_example_has_every_key_and_the_right_defaults() -> None:
    content = EXAMPLE.read_text()
    uncommented = tomllib.loads(re.sub(r"(?m)^# (?=\w+ = )", "", content))
    for table, keys in SCHEMA.items():
        found = uncommented[table]
        merged = {k: v for rule in found for k, v in rule.items()} if table == "rule" else found
        assert set(merged) == set(keys)
        for key, spec in keys.items():
            if spec.default is not None and (table, key) != ("engine", "min_signal_btc"):
                assert merged[key] == spec.default


def documented() -> dict[str, dict[str, dict[str, str]]]:
    """docs/configuration.md as {table: {key: {column: cell}}}."""
    tables: dict[str, dict[str, dict[str, str]]] = {}
    table, columns = "", []
    for line in (DOCS / "configuration.md").read_text().splitlines():
        heading = re.fullmatch(r"## \[+(\w+)\]+", line)
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if heading:
            table = heading[1]
            tables[table] = {}
        elif line.startswith("| key"):
            columns = cells
        elif line.startswith("| `"):
            tables[table][cells[0].strip("`")] = dict(zip(columns, cells, strict=True))
    return tables


def test_every_key_is_documented_with_its_default() -> None:
    tables = documented()
    assert {t: list(keys) for t, keys in tables.items()} == {
        t: list(keys) for t, keys in SCHEMA.items()
    }
    for table, key in every_key:
        spec = SCHEMA[table][key]
        default = "none" if spec.default is None else f"`{json.dumps(spec.default)}`"
        assert tables[table][key]["default"] == ("mandatory" if spec.mandatory else default)
        assert tables[table][key]["meaning"]


def bounded() -> list[tuple[str, str, str, int, int]]:
    found = []
    for table, keys in documented().items():
        for key, cells in keys.items():
            bounds = re.fullmatch(r"(\d+)\.\.(\d+)", cells["bounds"])
            if bounds:
                found.append((table, key, cells["type"], int(bounds[1]), int(bounds[2])))
    return found


@pytest.mark.parametrize(("table", "key", "kind", "low", "high"), bounded())
def test_documented_bounds_are_the_real_ones(
    table: str, key: str, kind: str, low: int, high: int
) -> None:
    base: dict[str, Any] = {"min_btc": "0"} if key == "max_btc" else {}
    if key == "min_signal_btc":  # no rule may ask for less
        base = {"min_signal_btc": "0"}
    if key == "take_profit_bp":  # a SELL has less room
        base = {"side": '"BUY"'}
    for value in (low, high):
        tables = {**MINIMAL, "rule": {**RULE, "min_btc": "21000000"}}
        tables[table] = {**tables.get(table, {}), **base, key: str(value)}
        parsed(toml(tables))
    for value in (low - 1, high + 1):
        assert f"{key} = {value}: must be" in refusal(with_keys(table, {**base, key: str(value)}))
    assert "integer" in kind


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        (table, key, value)
        for table, keys in documented().items()
        for key, cells in keys.items()
        for value in re.findall(r'`("[^`]+")`', cells["bounds"])
    ],
)
def test_documented_choices_are_accepted(table: str, key: str, value: str) -> None:
    limit = LIMIT if key == "time_in_force" or value == '"LIMIT"' else {}
    parsed(with_keys(table, {**limit, key: value}))
