"""engine.address: BIP-173, BIP-350, Bitcoin Core's key_io vectors, and somebody else's code."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.address import address_of, script_of
from engine.errors import AddressError

VECTORS = Path(__file__).resolve().parents[2] / "shared" / "data" / "vectors"
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

KEY_HASH = bytes.fromhex(
    "751e76e8199196d454941c45d1b3a323f1433bd6"
)  # of the generator point, 1 * G
X_ONLY_KEY = bytes.fromhex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")

# Public knowledge: addresses of secret key 1, of the genesis coinbase and of all-zero hashes, and
# the examples of BIP-173 and BIP-350.
KNOWN = [
    ("1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH", b"\x76\xa9\x14" + KEY_HASH + b"\x88\xac"),
    ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", b"\x00\x14" + KEY_HASH),
    (
        "bc1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qccfmv3",
        bytes.fromhex("00201863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262"),
    ),
    ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0", b"\x51\x20" + X_ONLY_KEY),
    (
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
        bytes.fromhex("76a91462e907b15cbf27d5425399ebf6f0fb50ebb88f1888ac"),
    ),
    ("1111111111111111111114oLvT2", b"\x76\xa9\x14" + bytes(20) + b"\x88\xac"),
    ("31h1vYVSYuKP6AhS86fbRdMw9XHieotbST", b"\xa9\x14" + bytes(20) + b"\x87"),
    ("bc1sw50qgdz25j", bytes.fromhex("6002751e")),
    ("bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs", bytes.fromhex("5210751e76e8199196d454941c45d1b3a323")),
]

scripts = st.one_of(
    st.binary(min_size=20, max_size=20).map(lambda h: b"\x76\xa9\x14" + h + b"\x88\xac"),
    st.binary(min_size=20, max_size=20).map(lambda h: b"\xa9\x14" + h + b"\x87"),
    st.sampled_from([20, 32]).flatmap(
        lambda n: st.binary(min_size=n, max_size=n).map(lambda p: bytes([0, n]) + p)
    ),
    st.tuples(st.integers(1, 16), st.binary(min_size=2, max_size=40)).map(
        lambda vp: bytes([0x50 + vp[0], len(vp[1])]) + vp[1]
    ),
)


def vectors(name: str) -> Any:
    path = VECTORS / name
    if not path.exists():
        pytest.skip(f"{path} is not there: the vectors of ../shared are not beside this checkout")
    return json.loads(path.read_text())


def refused(address: str) -> bool:
    try:
        script_of(address)
    except AddressError:
        return True
    return False


def base58check(body: bytes) -> str:
    raw = body + sha256(sha256(body).digest()).digest()[:4]
    number, digits = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        digits = BASE58[digit] + digits
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + digits


@pytest.mark.parametrize(("address", "script"), KNOWN)
def test_known_addresses_and_their_scripts(address: str, script: bytes) -> None:
    assert script_of(address) == script
    assert address_of(script) == address


@given(scripts)
def test_every_script_that_has_an_address_round_trips(script: bytes) -> None:
    address = address_of(script)
    assert address is not None
    assert script_of(address) == script
    if address.startswith("bc1"):
        assert script_of(address.upper()) == script
        assert len(address) <= 74


@given(st.binary(max_size=48))
def test_a_script_either_has_no_address_or_round_trips(script: bytes) -> None:
    address = address_of(script)
    assert address is None or script_of(address) == script


@pytest.mark.parametrize(
    "script",
    [
        b"",
        b"\x6a\x04test",
        b"\x00\x15" + bytes(21),  # version 0 has 20 or 32 bytes
        b"\x51\x01\x00",
        b"\x51\x29" + bytes(41),
        b"\x61\x14" + bytes(20),  # OP_NOP is no version
        b"\x50\x14" + bytes(20),
        b"\x51\x20" + bytes(31),
        b"\x76\xa9\x14" + bytes(20) + b"\x88\xad",
        b"\xa9\x14" + bytes(20) + b"\x88",
        b"\x21" + bytes(33) + b"\xac",  # P2PK
    ],
)
def test_scripts_without_an_address(script: bytes) -> None:
    assert address_of(script) is None


@given(scripts, st.data())
def test_one_wrong_character_is_always_refused(script: bytes, data: st.DataObject) -> None:
    address = address_of(script) or ""
    at = data.draw(st.integers(0, len(address) - 1))
    wrong = data.draw(st.sampled_from(BASE58 + BECH32 + "OI b\n\0é\u212a"))
    assume(wrong != address[at])
    assert refused(address[:at] + wrong + address[at + 1 :])


@given(scripts, st.data())
def test_a_lost_or_doubled_end_is_refused(script: bytes, data: st.DataObject) -> None:
    address = address_of(script) or ""
    assert refused(address[: data.draw(st.integers(0, len(address) - 1))])
    assert refused(address + address[-1])
    assert refused(f" {address}")
    assert refused(f"{address}\n")


@given(st.text(max_size=100))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    if not refused(text):
        assert address_of(script_of(text)) in (text, text.lower())


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "checksum"),
        ("1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMh", "checksum is wrong"),
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5", "checksum is wrong"),
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh", "bech32m but witness version 0 has bech32 "),
        (
            "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd",
            "bech32 but witness version 1 has bech32m ",
        ),
        ("Bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "lower and upper case"),
        ("BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7\u212aV8F3T4", "not ASCII"),  # K that lower() makes k
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3b4", "'b' is no bech32"),
        ("BC130XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ7ZWS8R", "no witness version 17"),
        ("BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P", "version 0 has 16 bytes"),
        ("bc1pw5dgrnzv", "version 1 has 1 bytes"),
        (
            "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v8n0nx0muaewav253zgeav",
            "version 1 has 41 bytes",
        ),
        ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v07qwwzcrf", "padding"),
        # like addresses of KNOWN, but the last padding bit is 1 and the checksum right for that
        ("bc1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3p9waw3r", "padding"),
        ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vplqq80a", "padding"),
        ("bc1gmk9yu", "too short"),
        ("1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAM0", "'0' is no base58"),
        ("tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx", "test network"),
        ("TB1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KXPJZSX", "test network"),
        ("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", "test network"),
        (base58check(bytes([111]) + KEY_HASH), "test network"),
        (base58check(bytes([196]) + KEY_HASH), "test network"),
        (base58check(bytes([48]) + KEY_HASH), "kind is unknown"),  # Litecoin
        (base58check(bytes([0]) + KEY_HASH[:19]), "kind is unknown"),
        (base58check(bytes([0]) + KEY_HASH + b"\1"), "kind is unknown"),
        (base58check(b""), "kind is unknown"),
        ("1" * 1_000_000, "a text of 1000000 characters"),
        ("bc1" + "q" * 1_000_000, "a text of 1000003 characters"),
    ],
)
def test_a_refusal_says_what_is_wrong(address: str, reason: str) -> None:
    with pytest.raises(AddressError) as refusal:
        script_of(address)
    assert reason in str(refusal.value)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 250


def test_a_private_key_in_an_addresss_place_is_not_repeated() -> None:
    for secret in (
        base58check(b"\x80" + bytes(31) + b"\1"),
        base58check(b"\x80" + bytes(31) + b"\1\1"),
        (bytes(31) + b"\1").hex(),
    ):
        with pytest.raises(AddressError) as refusal:
            script_of(secret)
        assert secret not in str(refusal.value)


@pytest.mark.parametrize("name", ["bip173.json", "bip350.json"])
def test_bip_vectors(name: str) -> None:
    listed = vectors(name)
    assert listed["valid_segwit_addresses"]
    for vector in listed["valid_segwit_addresses"]:
        address, script = vector["address"], bytes.fromhex(vector["scriptPubKey"])
        superseded = name == "bip173.json" and script[0] != 0  # BIP-350 gave these another checksum
        if superseded or address.lower().startswith("tb1"):
            assert refused(address)
        else:
            assert script_of(address) == script
            assert address_of(script) == address.lower()
    for vector in listed["invalid_segwit_addresses"]:
        assert refused(vector["address"]), vector
    for text in listed["valid_strings"]:  # right checksums, but no addresses
        assert refused(text)


def test_bitcoin_core_valid_vectors() -> None:
    mainnet = 0
    for text, script_hex, about in vectors("key_io_valid.json"):
        if about["chain"] == "main" and not about["isPrivkey"]:
            mainnet += 1
            assert script_of(text) == bytes.fromhex(script_hex)
            assert address_of(bytes.fromhex(script_hex)) == text
            if about.get("tryCaseFlip"):
                assert script_of(text.swapcase()) == bytes.fromhex(script_hex)
        else:
            assert refused(text)
    assert mainnet == 14


def test_bitcoin_core_invalid_vectors() -> None:
    listed = vectors("key_io_invalid.json")
    assert len(listed) == 70
    for (text,) in listed:
        assert refused(text)


@given(scripts.filter(lambda script: not 0x51 <= script[0] <= 0x60))  # it knows no bech32m
def test_python_bitcoinlib_agrees(script: bytes) -> None:
    wallet = pytest.importorskip("bitcoin.wallet", reason="python-bitcoinlib is not installed")
    core = pytest.importorskip("bitcoin.core.script", reason="python-bitcoinlib is not installed")
    theirs = wallet.CBitcoinAddress.from_scriptPubKey(core.CScript(script))
    assert str(theirs) == address_of(script)
