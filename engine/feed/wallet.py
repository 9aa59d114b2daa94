"""Bytes of invented transactions: wallets with the scripts and spends of real ones, and BIP-144.

Keys and signatures have the right form and length; no curve stands behind them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from engine.crypto import hash160

# What a spend reveals enough of to know the script that it spends.
WALLET_TYPES = ("p2pkh", "p2wpkh", "p2sh-p2wpkh", "p2wsh", "p2sh", "p2sh-p2wsh")

# Of a scriptPubKey: the bytes before and after its hash, and the hash's length.
_FORMS = {
    "p2pkh": (b"\x76\xa9\x14", b"\x88\xac", 20),
    "p2sh": (b"\xa9\x14", b"\x87", 20),
    "p2wpkh": (b"\x00\x14", b"", 20),
    "p2wsh": (b"\x00\x20", b"", 32),
    "p2tr": (b"\x51\x20", b"", 32),
}
OUTPUT_FORMS = tuple(_FORMS)

_SCHNORR_BYTES = 64  # BIP-340
_CONTROL_BYTES = 33  # BIP-341: leaf version and internal key, for a tree of one leaf


class Spend(NamedTuple):
    """Both halves of an input that answer the spent script."""

    script: bytes
    witness: tuple[bytes, ...]


class Output(NamedTuple):
    value_sat: int
    script: bytes


def serialise(spends: Sequence[tuple[bytes, Spend]], outputs: Sequence[Output]) -> bytes:
    """A transaction in the form of BIP-144, or the legacy one when no input has a witness. Each
    spend comes behind its outpoint of 36 bytes."""
    segwit = any(spend.witness for _, spend in spends)
    parts = [b"\x02\0\0\0", b"\0\x01" if segwit else b"", compact_size(len(spends))]
    for outpoint, spend in spends:
        parts += (outpoint, _string(spend.script), b"\xfd\xff\xff\xff")  # replaceable, BIP-125
    parts.append(compact_size(len(outputs)))
    for output in outputs:
        parts += (output.value_sat.to_bytes(8, "little"), _string(output.script))
    if segwit:
        for _, spend in spends:
            parts += (compact_size(len(spend.witness)), *map(_string, spend.witness))
    parts.append(b"\0\0\0\0")
    return b"".join(parts)


def compact_size(number: int) -> bytes:
    """Up to 2^32 - 1."""
    if number < 0xFD:
        return bytes((number,))
    if number <= 0xFFFF:
        return b"\xfd" + number.to_bytes(2, "little")
    return b"\xfe" + number.to_bytes(4, "little")


def anybody(rng: Random, form: str) -> bytes:
    """A scriptPubKey of one of OUTPUT_FORMS that nobody has used before."""
    return _pay_to(form, rng.randbytes(_FORMS[form][2]))


def op_return(rng: Random, size: int) -> bytes:
    """A data carrier of `size` bytes, 2 to 83; 77 instead of 78, which no shortest push makes."""
    overhead = 2 if size <= 77 else 3
    return b"\x6a" + _push(rng.randbytes(size - overhead))


def taproot_key_spend(rng: Random) -> Spend:
    return Spend(b"", (rng.randbytes(_SCHNORR_BYTES),))


def taproot_script_spend(rng: Random, witness_bytes: int) -> Spend:
    """A signature, a script and its control block, `witness_bytes` (102 or more) with lengths."""
    rest = witness_bytes - (1 + _SCHNORR_BYTES) - (1 + _CONTROL_BYTES)
    script = rng.randbytes(rest - len(compact_size(rest)))
    control = b"\xc0" + rng.randbytes(_CONTROL_BYTES - 1)
    return Spend(b"", (rng.randbytes(_SCHNORR_BYTES), script, control))


@dataclass(frozen=True)
class Wallet:
    """One address: one of WALLET_TYPES, and the public key or 2-of-3 script it is the hash of."""

    type: str
    preimage: bytes

    @classmethod
    def invent(cls, rng: Random, wallet_type: str) -> Wallet:
        multisig = not wallet_type.endswith("pkh")
        return cls(wallet_type, _two_of_three(rng) if multisig else _public_key(rng))

    def script(self) -> bytes:
        """The scriptPubKey, 22 to 34 bytes."""
        match self.type:
            case "p2wsh":
                return _pay_to("p2wsh", hashlib.sha256(self.preimage).digest())
            case "p2sh-p2wpkh" | "p2sh-p2wsh":
                return _pay_to("p2sh", hash160(self._nested().script()))
            case _:
                return _pay_to(self.type, hash160(self.preimage))

    def spend(self, rng: Random) -> Spend:
        match self.type:
            case "p2pkh":
                return Spend(_push(_signature(rng)) + _push(self.preimage), ())
            case "p2sh":  # OP_CHECKMULTISIG pops one item too many, hence the leading empty one
                pushes = (b"", _signature(rng), _signature(rng), self.preimage)
                return Spend(b"".join(map(_push, pushes)), ())
            case "p2wpkh":
                return Spend(b"", (_signature(rng), self.preimage))
            case "p2wsh":
                return Spend(b"", (b"", _signature(rng), _signature(rng), self.preimage))
            case _:
                nested = self._nested()
                return Spend(_push(nested.script()), nested.spend(rng).witness)

    def _nested(self) -> Wallet:
        """The witness program that P2SH wraps (BIP-141)."""
        return Wallet(self.type.removeprefix("p2sh-"), self.preimage)


def _string(data: bytes) -> bytes:
    return compact_size(len(data)) + data


def _push(data: bytes) -> bytes:
    """A script's push of up to 255 bytes: with OP_PUSHDATA1 above 75."""
    return (b"\x4c" if len(data) > 75 else b"") + bytes((len(data),)) + data


def _pay_to(form: str, digest: bytes) -> bytes:
    before, after, _ = _FORMS[form]
    return before + digest + after


def _public_key(rng: Random) -> bytes:
    return rng.choice((b"\x02", b"\x03")) + rng.randbytes(32)


def _two_of_three(rng: Random) -> bytes:
    keys = b"".join(_push(_public_key(rng)) for _ in range(3))
    return b"\x52" + keys + b"\x53\xae"  # OP_2, the keys, OP_3, OP_CHECKMULTISIG


def _signature(rng: Random) -> bytes:
    """DER and SIGHASH_ALL, 71 or 72 bytes: r has 32 or 33, s is below half the order (BIP-146)."""
    body = _der_integer(rng, rng.choice((255, 256))) + _der_integer(rng, 255)
    return b"\x30" + bytes((len(body),)) + body + b"\x01"


def _der_integer(rng: Random, bits: int) -> bytes:
    length = bits // 8 + 1
    value = rng.getrandbits(bits) | 1 << (bits - 1)
    return b"\x02" + bytes((length,)) + value.to_bytes(length, "big")
