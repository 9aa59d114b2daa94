"""Mainnet Bitcoin addresses and the scriptPubKeys they stand for.

Base58check (P2PKH, P2SH), bech32 (BIP-173, witness version 0) and bech32m (BIP-350, versions 1-16).
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from engine.errors import AddressError

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE58_LENGTH_MAX = 35  # of any network's P2PKH and P2SH; private keys are longer
_P2PKH, _P2SH = 0, 5
_TESTNET_VERSIONS = (111, 196)

_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_BECH32_LENGTH_MAX = 90  # BIP-173
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32_CONSTANT = 1
_BECH32M_CONSTANT = 0x2BC830A3
_HRP = "bc"
_HRP_EXPANDED = [ord(c) >> 5 for c in _HRP] + [0] + [ord(c) & 31 for c in _HRP]
_TESTNET_PREFIXES = ("tb1", "bcrt1")

_COPY = "copy it anew from its source"
_USE_MAINNET = "use the mainnet address, which starts with 1, 3 or bc1"

_OP_1 = 0x51  # witness version n is OP_0 or OP_n (BIP-141)
_PROGRAM_LENGTHS = range(2, 41)
_V0_PROGRAM_LENGTHS = (20, 32)


def script_of(address: str) -> bytes:
    """The scriptPubKey (4 to 42 bytes) that `address` stands for; AddressError says why not."""
    if address.lower().startswith(_HRP + "1"):
        return _segwit_script(address)
    if address.lower().startswith(_TESTNET_PREFIXES):
        raise _refusal(address, "it is for a test network", _USE_MAINNET)
    return _base58_script(address)


def address_of(script: bytes) -> str | None:
    """The address that stands for a scriptPubKey, or None: not every script has one."""
    if len(script) == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
        return _base58_encode(bytes([_P2PKH]) + script[3:23])
    if len(script) == 23 and script[:2] == b"\xa9\x14" and script[22:] == b"\x87":
        return _base58_encode(bytes([_P2SH]) + script[2:22])
    if len(script) < 2 or script[1] != len(script) - 2 or script[1] not in _PROGRAM_LENGTHS:
        return None
    if script[0] == 0 and script[1] in _V0_PROGRAM_LENGTHS:
        return _segwit_encode(0, script[2:])
    if _OP_1 <= script[0] < _OP_1 + 16:
        return _segwit_encode(script[0] - _OP_1 + 1, script[2:])
    return None


def _refusal(address: str, reason: str, cure: str = _COPY) -> AddressError:
    return AddressError(f"{address!r} is not a mainnet Bitcoin address: {reason}: {cure}")


def _overlong(address: str, length_max: int) -> AddressError:
    # What is too long for an address may be a private key, so it is not repeated.
    return AddressError(
        f"a text of {len(address)} characters is not a mainnet Bitcoin address: its kind has at "
        f"most {length_max}: {_COPY}, and keep private keys out"
    )


# ---- base58check --------------------------------------------------------------------------------


def _checksum(body: bytes) -> bytes:
    return sha256(sha256(body).digest()).digest()[:4]


def _base58_encode(body: bytes) -> str:
    raw = body + _checksum(body)
    number = int.from_bytes(raw, "big")
    digits = ""
    while number:
        number, digit = divmod(number, 58)
        digits = _BASE58[digit] + digits
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + digits


def _base58_script(address: str) -> bytes:
    if len(address) > _BASE58_LENGTH_MAX:
        raise _overlong(address, _BASE58_LENGTH_MAX)
    number = 0
    for character in address:
        digit = _BASE58.find(character)
        if digit < 0:
            raise _refusal(address, f"{character!r} is no base58, and it is not a bc1 address")
        number = number * 58 + digit
    zeros = len(address) - len(address.lstrip("1"))
    raw = bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
    version, hash160, checksum = raw[:1], raw[1:-4], raw[-4:]
    if _checksum(raw[:-4]) != checksum:
        raise _refusal(address, "its checksum is wrong")
    if len(hash160) == 20 and version[0] == _P2PKH:
        return b"\x76\xa9\x14" + hash160 + b"\x88\xac"
    if len(hash160) == 20 and version[0] == _P2SH:
        return b"\xa9\x14" + hash160 + b"\x87"
    if len(hash160) == 20 and version[0] in _TESTNET_VERSIONS:
        raise _refusal(address, "it is for a test network", _USE_MAINNET)
    raise _refusal(address, "its kind is unknown", _USE_MAINNET)


# ---- bech32 and bech32m -------------------------------------------------------------------------


def _polymod(values: Iterable[int]) -> int:
    """The remainder of the BCH code over 5-bit values (BIP-173, "Checksum")."""
    remainder = 1
    for value in values:
        top = remainder >> 25
        remainder = (remainder & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATORS):
            if top >> bit & 1:
                remainder ^= generator
    return remainder


def _segwit_encode(version: int, program: bytes) -> str:
    padding = -8 * len(program) % 5
    number = int.from_bytes(program, "big") << padding
    bits = 8 * len(program) + padding
    data = [version] + [number >> shift & 31 for shift in range(bits - 5, -1, -5)]
    constant = _BECH32M_CONSTANT if version else _BECH32_CONSTANT
    checksum = _polymod(_HRP_EXPANDED + data + [0] * 6) ^ constant
    data += [checksum >> shift & 31 for shift in range(25, -1, -5)]
    return f"{_HRP}1" + "".join(_BECH32[value] for value in data)


def _segwit_script(address: str) -> bytes:
    version, values = _segwit_values(address)
    number = 0
    for value in values:
        number = number << 5 | value
    padding = 5 * len(values) % 8
    length = 5 * len(values) // 8
    if padding > 4 or number & ((1 << padding) - 1):
        raise _refusal(address, "its padding is not zero (BIP-173)")
    if length not in (_PROGRAM_LENGTHS if version else _V0_PROGRAM_LENGTHS):
        raise _refusal(address, f"no witness program of version {version} has {length} bytes")
    opcode = version + _OP_1 - 1 if version else 0
    return bytes([opcode, length]) + (number >> padding).to_bytes(length, "big")


def _segwit_values(address: str) -> tuple[int, list[int]]:
    """Witness version and the 5-bit values of its program; the checksum is verified."""
    if len(address) > _BECH32_LENGTH_MAX:
        raise _overlong(address, _BECH32_LENGTH_MAX)
    # isascii() first: lower() turns the Kelvin sign, which is not ASCII, into a k.
    if not address.isascii() or address not in (address.lower(), address.upper()):
        raise _refusal(address, "it mixes lower and upper case or is not ASCII (BIP-173)")
    values = [_BECH32.find(character) for character in address.lower()[len(_HRP) + 1 :]]
    if -1 in values:
        character = address[len(_HRP) + 1 + values.index(-1)]
        raise _refusal(address, f"{character!r} is no bech32 (BIP-173)")
    if len(values) < 7:  # witness version and six characters of checksum
        raise _refusal(address, "it is too short")
    version, remainder = values[0], _polymod(_HRP_EXPANDED + values)
    if version > 16:
        raise _refusal(address, f"there is no witness version {version}")
    wanted = _BECH32M_CONSTANT if version else _BECH32_CONSTANT
    if remainder == wanted ^ _BECH32_CONSTANT ^ _BECH32M_CONSTANT:
        names = ("bech32", "bech32m") if version else ("bech32m", "bech32")
        raise _refusal(
            address,
            f"its checksum is {names[0]} but witness version {version} has {names[1]} (BIP-350)",
        )
    if remainder != wanted:
        raise _refusal(address, "its checksum is wrong")
    return version, values[1:-6]
