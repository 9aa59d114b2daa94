"""SHA-256, HASH160 and HMAC-SHA256 against published vectors and against hashlib and hmac."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import crypto
from engine._native import ffi, lib
from engine.errors import ConfigError, HarpoonError

from .conftest import every_impl

VECTORS = Path(__file__).resolve().parents[2] / "shared" / "data" / "vectors"

# FIPS 180-4's worked examples (NIST, "SHA-256 examples") and the empty message of CAVP ShortMsg.
SHA256_VECTORS = [
    (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
        b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
    ),
    (
        b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
        b"hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
        "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
    ),
    (b"a" * 1_000_000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
]

# Key, message, code: RFC 4231 4.2 to 4.8; case 5 gives the first 16 bytes only.
RFC_4231 = [
    (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (
        b"Jefe",
        b"what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    (
        b"\xaa" * 20,
        b"\xdd" * 50,
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
    ),
    (
        bytes(range(1, 26)),
        b"\xcd" * 50,
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
    ),
    (b"\x0c" * 20, b"Test With Truncation", "a3b6167473100ee06e0c796c2955552b"),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    (
        b"\xaa" * 131,
        b"This is a test using a larger than block-size key and a larger than block-size data. "
        b"The key needs to be hashed before being used by the HMAC algorithm.",
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
]

# Data and HASH160: the genesis block's public key (1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa), the keys of
# BIP-173's and BIP-143's examples, and BIP-143's P2SH-P2WPKH redeem script.
HASH160_VECTORS = [
    (
        "04678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb6"
        "49f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5f",
        "62e907b15cbf27d5425399ebf6f0fb50ebb88f18",
    ),
    (
        "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
        "751e76e8199196d454941c45d1b3a323f1433bd6",
    ),
    (
        "025476c2e83188368da1ff3e292e7acafcdb3566bb0ad253f62fc70f07aeee6357",
        "1d0f172a0ecb48aee1be1f2687d2963ae33f71a1",
    ),
    (
        "03ad1d8e89212f0b92c74d23bb710c00662ad1470198ac48c43f7d6f93a2a26873",
        "79091972186c449eb1ded22b78e40d009bdf0089",
    ),
    (
        "001479091972186c449eb1ded22b78e40d009bdf0089",
        "4733f37cf4db86fbc2efed2500b4f4e49f312023",
    ),
]

# Binance, "SIGNED request example (HMAC)" of the WebSocket API's documentation.
BINANCE_SECRET = b"NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
BINANCE_PAYLOAD = (
    b"apiKey=vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
    b"&price=52000.00&quantity=0.01000000&recvWindow=100&side=SELL&symbol=BTCUSDT"
    b"&timeInForce=GTC&timestamp=1645423376532&type=LIMIT"
)
BINANCE_SIGNATURE = "aa1b5712c094bc4e57c05a1a5c1fd8d88dcd628338ea863fec7b88e59fe2db24"

# Longer than four blocks, and no byte like its neighbours or like the one a block away.
PATTERN = b"".join(hashlib.sha512(bytes([i])).digest() for i in range(8))


def published(name: str) -> Path:
    path = VECTORS / name
    if not path.is_file():
        pytest.skip(f"../shared/data/vectors/{name} is not beside this checkout")
    return path


def cavp_messages(path: Path) -> Iterator[tuple[bytes, str]]:
    """Message and digest of every case of a NIST CAVP byte-oriented response file."""
    case = re.compile(r"Len = (\d+)\s+Msg = ([0-9a-f]+)\s+MD = ([0-9a-f]+)")
    for bits, message, digest in case.findall(path.read_text()):
        yield bytes.fromhex(message)[: int(bits) // 8], digest


@every_impl
@pytest.mark.parametrize(("message", "digest"), SHA256_VECTORS, ids=lambda value: f"{value[:8]!r}")
def test_sha256_nist_examples(message: bytes, digest: str, impl: str) -> None:
    assert crypto.sha256(message, impl).hex() == digest


@every_impl
@pytest.mark.parametrize(("name", "cases"), [("SHA256ShortMsg.rsp", 65), ("SHA256LongMsg.rsp", 64)])
def test_sha256_nist_cavp(name: str, cases: int, impl: str) -> None:
    vectors = list(cavp_messages(published(name)))
    assert len(vectors) == cases
    assert [crypto.sha256(message, impl).hex() for message, _ in vectors] == [
        digest for _, digest in vectors
    ]


@every_impl
@pytest.mark.parametrize("case", range(1, 8))
def test_hmac_rfc_4231(case: int, impl: str) -> None:
    secret, message, code = RFC_4231[case - 1]
    assert crypto.HmacKey(secret, impl).sign(message).hex()[: len(code)] == code


@every_impl
def test_hmac_bitcoin_core_vectors(impl: str) -> None:
    tests = json.loads(published("rfc4231_hmac_sha256.json").read_text())["tests"]
    assert len(tests) == 10
    for test in tests:
        key = crypto.HmacKey(bytes.fromhex(test["key"]), impl)
        code = key.sign(bytes.fromhex(test["msg"])).hex()
        assert code.startswith(test["hmac_sha256"]), test["name"]


@every_impl
def test_hmac_binance_signature(impl: str) -> None:
    with crypto.HmacKey(BINANCE_SECRET, impl) as key:
        assert key.sign(BINANCE_PAYLOAD).hex() == BINANCE_SIGNATURE


@every_impl
@pytest.mark.parametrize(("data", "digest"), HASH160_VECTORS, ids=lambda value: value[:8])
def test_hash160_published(data: str, digest: str, impl: str) -> None:
    assert crypto.hash160(bytes.fromhex(data), impl).hex() == digest


@every_impl
def test_sha256d_genesis_block(impl: str) -> None:
    merkle_root = "3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a"
    header = bytes.fromhex("01000000" + "00" * 32 + merkle_root + "29ab5f49ffff001d1dac2b7c")
    assert crypto.sha256d(header, impl)[::-1].hex() == (
        "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
    )


@every_impl
def test_every_length_and_alignment(impl: str) -> None:
    """Around every padding case: the reference never sees the offset that the C code sees."""
    key = crypto.HmacKey(BINANCE_SECRET, impl)
    for length in range(301):
        data = memoryview(PATTERN)[length % 17 :][:length]
        copy = bytes(data)
        assert crypto.sha256(data, impl) == hashlib.sha256(copy).digest(), length
        assert (
            crypto.sha256d(data, impl) == hashlib.sha256(hashlib.sha256(copy).digest()).digest()
        ), length
        assert key.sign(data) == hmac.digest(BINANCE_SECRET, copy, "sha256"), length


@every_impl
def test_every_key_length(impl: str) -> None:
    for length in range(201):
        secret = PATTERN[:length]
        code = crypto.HmacKey(secret, impl).sign(BINANCE_PAYLOAD)
        assert code == hmac.digest(secret, BINANCE_PAYLOAD, "sha256"), length


@every_impl
@settings(deadline=None)
@given(data=st.binary(max_size=2000))
def test_sha256_agrees_with_hashlib(data: bytes, impl: str) -> None:
    once = hashlib.sha256(data).digest()
    assert crypto.sha256(data, impl) == once
    assert crypto.sha256(bytearray(data), impl) == once
    assert crypto.sha256d(data, impl) == hashlib.sha256(once).digest()


@every_impl
@settings(deadline=None)
@given(secret=st.binary(max_size=200), message=st.binary(max_size=2000))
def test_hmac_agrees_with_hmac(secret: bytes, message: bytes, impl: str) -> None:
    assert crypto.HmacKey(secret, impl).sign(message) == hmac.digest(secret, message, "sha256")


@every_impl
@settings(deadline=None)
@given(data=st.binary(max_size=600))
def test_hash160_agrees_with_hashlib(data: bytes, impl: str) -> None:
    try:
        ripemd = hashlib.new("ripemd160", hashlib.sha256(data).digest())
    except ValueError:
        pytest.skip("this OpenSSL keeps RIPEMD-160 in its legacy provider")
    assert crypto.hash160(data, impl) == ripemd.digest()


def test_a_key_signs_many_messages() -> None:
    key = crypto.HmacKey(BINANCE_SECRET)
    for i in range(20):
        message = PATTERN[i:]
        assert key.sign(message) == hmac.digest(BINANCE_SECRET, message, "sha256")


@every_impl
def test_a_batch_of_every_size(impl: str) -> None:
    """None, fewer than the lanes, all of them, more; lengths around every padding case."""
    key = crypto.HmacKey(BINANCE_SECRET, impl)
    for size in range(35):
        messages = [PATTERN[i : i + (i * 53 + size * 31) % 260] for i in range(size)]
        expected = [hmac.digest(BINANCE_SECRET, message, "sha256") for message in messages]
        assert key.sign_batch(messages) == expected, size


@every_impl
@pytest.mark.parametrize("length", [0, 55, 56, 64, 200])
def test_a_batch_of_equal_lengths(impl: str, length: int) -> None:
    """No lane is idle."""
    key = crypto.HmacKey(BINANCE_SECRET, impl)
    messages = [PATTERN[i : i + length] for i in range(2 * lib.HP_HMAC_BATCH_MAX)]
    expected = [hmac.digest(BINANCE_SECRET, message, "sha256") for message in messages]
    assert key.sign_batch(messages) == expected


@every_impl
@settings(deadline=None)
@given(
    secret=st.binary(max_size=100),
    messages=st.lists(st.binary(max_size=70) | st.binary(max_size=3000), max_size=40),
)
def test_a_batch_agrees_with_hmac(secret: bytes, messages: list[bytes], impl: str) -> None:
    expected = [hmac.digest(secret, message, "sha256") for message in messages]
    assert crypto.HmacKey(secret, impl).sign_batch(messages) == expected


@every_impl
def test_a_batch_with_a_key_for_each_message(impl: str) -> None:
    """As an engine signs its orders anew: in C, every message with a key of its own."""
    secrets = [PATTERN[i : 9 * i] for i in range(lib.HP_HMAC_BATCH_MAX)]
    messages = [PATTERN[: 40 * i] for i in range(lib.HP_HMAC_BATCH_MAX)]
    chosen = lib.hp_sha256_choose(impl.encode())
    keys = [
        ffi.gc(lib.hp_hmac_key_new(chosen, secret, len(secret)), lib.hp_hmac_key_free)
        for secret in secrets
    ]
    out = ffi.new("uint8_t[]", 32 * len(keys))
    views = [ffi.from_buffer("uint8_t[]", message) for message in messages]
    lib.hp_hmac_sign_batch(keys, views, [len(view) for view in views], len(keys), out)
    assert bytes(ffi.buffer(out)) == b"".join(
        hmac.digest(secret, message, "sha256")
        for secret, message in zip(secrets, messages, strict=True)
    )


@every_impl
def test_a_key_continued_with_a_prefix(impl: str) -> None:
    chosen = lib.hp_sha256_choose(impl.encode())
    key = ffi.gc(
        lib.hp_hmac_key_new(chosen, BINANCE_SECRET, len(BINANCE_SECRET)), lib.hp_hmac_key_free
    )
    absorbed = ffi.new("size_t *")
    out = ffi.new("uint8_t[32]")
    for constant in range(201):
        message = PATTERN[:230]
        continued = ffi.gc(
            lib.hp_hmac_key_continue(key, message, constant, absorbed), lib.hp_hmac_key_free
        )
        assert absorbed[0] == constant // 64 * 64
        rest = message[absorbed[0] :]
        lib.hp_hmac_sign(continued, rest, len(rest), out)
        assert bytes(ffi.buffer(out)) == hmac.digest(BINANCE_SECRET, message, "sha256"), constant


def test_wide_items_are_hashed_as_bytes() -> None:
    words = memoryview(PATTERN).cast("I")
    assert crypto.sha256(words) == hashlib.sha256(PATTERN).digest()


def test_portable_runs_everywhere() -> None:
    names = crypto.implementations()
    assert names[-1] == "portable"
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ["avx9", "", "SHANI", "portable "])
def test_unknown_implementation_is_refused(name: str) -> None:
    calls = (
        lambda: crypto.sha256(b"", name),
        lambda: crypto.sha256d(b"", name),
        lambda: crypto.hash160(b"", name),
        lambda: crypto.HmacKey(b"", name),
    )
    for call in calls:
        with pytest.raises(ConfigError) as caught:
            call()
        assert str(caught.value).startswith(f"{name!r} is no SHA-256 implementation")
        assert all(known in str(caught.value) for known in crypto.implementations())


def chosen_under(environment: dict[str, str], directory: Path) -> str:
    """What a new process, outside of the source tree, chooses, or why it is refused."""
    script = (
        "from engine import crypto, errors\n"
        "try:\n    print(crypto.chosen())\nexcept errors.ConfigError as error:\n    print(error)"
    )
    inherited = {name: value for name, value in os.environ.items() if name != "HARPOON_SHA256"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=directory,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_the_environment_forces_an_implementation(tmp_path: Path) -> None:
    for name in crypto.implementations():
        assert chosen_under({"HARPOON_SHA256": name}, tmp_path) == name
    fastest = crypto.implementations()[0]
    assert chosen_under({}, tmp_path) == fastest
    assert chosen_under({"HARPOON_SHA256": ""}, tmp_path) == fastest


def test_a_wrong_environment_is_one_sentence(tmp_path: Path) -> None:
    sentence = chosen_under({"HARPOON_SHA256": "avx9"}, tmp_path)
    assert sentence.startswith("HARPOON_SHA256=avx9 is no SHA-256 implementation")
    assert "portable" in sentence
    assert sentence.count("\n") == 0


PAYMENT = "0200000001" + "11" * 36 + "00" + "f" * 8 + "01" + "00" * 8 + "00" + "00" * 4
DECODE = f"from engine import tx; tx.decode(bytes.fromhex('{PAYMENT}'))"


@pytest.mark.parametrize(
    "code",
    [
        f"from engine import errors\ntry:\n    {DECODE}\nexcept errors.HarpoonError as error:\n"
        "    raise SystemExit(str(error))",
        "from engine.feed import measure; measure.measure([])",
        "import sys; from engine.cli import main; sys.exit(main(['bench', 'kernels']))",
    ],
    ids=["decode", "measure", "bench"],
)
def test_a_wrong_environment_never_crashes(code: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"HARPOON_SHA256": "avx9"},
        capture_output=True,
        text=True,
    )
    assert done.returncode > 0, done.returncode  # a signal is negative
    assert "HARPOON_SHA256=avx9 is no SHA-256 implementation" in done.stderr


def test_a_closed_key_refuses() -> None:
    with crypto.HmacKey(BINANCE_SECRET) as key:
        pass
    key.close()
    with pytest.raises(HarpoonError, match="closed"):
        key.sign(b"")
    with pytest.raises(HarpoonError, match="closed"):
        key.sign_batch([])


def test_a_key_does_not_show_its_secret() -> None:
    key = crypto.HmacKey(BINANCE_SECRET)
    assert BINANCE_SECRET.decode() not in f"{key!r} {key} {key!s}"
    assert not hasattr(key, "__dict__")


def test_a_key_stays_out_of_core_dumps() -> None:
    """Linux, proc(5), /proc/pid/smaps: VmFlags has `dd` where MADV_DONTDUMP is set."""
    impl = lib.hp_sha256_choose(b"portable")
    key = lib.hp_hmac_key_new(impl, BINANCE_SECRET, len(BINANCE_SECRET))
    try:
        smaps = Path("/proc/self/smaps").read_text()
        flags = flags_of_mapping(smaps, int(ffi.cast("uintptr_t", key)))
    finally:
        lib.hp_hmac_key_free(key)
    if flags is None:
        pytest.skip("/proc/self/smaps shows no VmFlags here")
    assert "dd" in flags


def flags_of_mapping(smaps: str, address: int) -> list[str] | None:
    inside = False
    for line in smaps.splitlines():
        if bounds := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(bounds[1], 16) <= address < int(bounds[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return line.split()[1:]
    return None
