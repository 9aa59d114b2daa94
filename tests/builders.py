"""Raw transactions, scripts and spends, put together byte by byte: no code under test has a hand in
it. Keys and signatures have the form of real ones and sign nothing."""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import mmap
from collections.abc import Sequence
from dataclasses import dataclass

from bitcoin.core.serialize import Hash160

NULL_TXID = bytes(32)


def compact_size(n: int) -> bytes:
    """The shortest form, which is the only valid one."""
    if n < 0xFD:
        return n.to_bytes(1, "little")
    if n <= 0xFFFF:
        return b"\xfd" + n.to_bytes(2, "little")
    if n <= 0xFFFF_FFFF:
        return b"\xfe" + n.to_bytes(4, "little")
    return b"\xff" + n.to_bytes(8, "little")


def string(data: bytes) -> bytes:
    return compact_size(len(data)) + data


# ---- transactions --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Input:
    """`txid` is in internal byte order."""

    txid: bytes
    vout: int = 0
    script: bytes = b""
    witness: tuple[bytes, ...] = ()
    sequence: int = 0xFFFF_FFFD


@dataclass(frozen=True)
class Output:
    value_sat: int
    script: bytes


def transaction(
    inputs: Sequence[Input], outputs: Sequence[Output], version: int = 2, lock_time: int = 0
) -> bytes:
    """In BIP-144 form when an input has a witness, else in the old one."""
    segwit = any(txin.witness for txin in inputs)
    parts = [version.to_bytes(4, "little"), b"\0\1" if segwit else b"", compact_size(len(inputs))]
    for txin in inputs:
        parts += [txin.txid, txin.vout.to_bytes(4, "little"), string(txin.script)]
        parts.append(txin.sequence.to_bytes(4, "little"))
    parts.append(compact_size(len(outputs)))
    for out in outputs:
        parts += [out.value_sat.to_bytes(8, "little"), string(out.script)]
    if segwit:
        for txin in inputs:
            parts.append(compact_size(len(txin.witness)))
            parts += [string(item) for item in txin.witness]
    return b"".join([*parts, lock_time.to_bytes(4, "little")])


def txid_of(raw: bytes) -> str:
    """The displayed txid of a transaction without witnesses."""
    return hashlib.sha256(hashlib.sha256(raw).digest()).digest()[::-1].hex()


def coin(n: int) -> bytes:
    """The txid of the n-th made-up transaction to spend from."""
    return hashlib.sha256(b"coin %d" % n).digest()


def block(transactions: Sequence[bytes]) -> bytes:
    """Transactions behind a header whose only truth is its proof of work, at regtest's target."""
    for nonce in itertools.count():
        header = bytes(72) + 0x207F_FFFF.to_bytes(4, "little") + nonce.to_bytes(4, "little")
        if hashlib.sha256(hashlib.sha256(header).digest()).digest()[31] < 0x7F:
            break
    return header + compact_size(len(transactions)) + b"".join(transactions)


def coinbase(*outputs: Output) -> bytes:
    height = push(b"\x40\x0d\x03")  # BIP-34
    return transaction([Input(NULL_TXID, 0xFFFF_FFFF, height, (bytes(32),))], outputs)


# ---- scripts -------------------------------------------------------------------------------------


def push(data: bytes) -> bytes:
    """A scriptSig's shortest push; an empty one is OP_0."""
    if len(data) < 0x4C:
        return len(data).to_bytes(1, "little") + data
    if len(data) <= 0xFF:
        return b"\x4c" + len(data).to_bytes(1, "little") + data
    return b"\x4d" + len(data).to_bytes(2, "little") + data


def p2pkh(key: bytes) -> bytes:
    return b"\x76\xa9\x14" + Hash160(key) + b"\x88\xac"


def p2sh(redeem: bytes) -> bytes:
    return b"\xa9\x14" + Hash160(redeem) + b"\x87"


def p2wpkh(key: bytes) -> bytes:
    return b"\x00\x14" + Hash160(key)


def p2wsh(witness_script: bytes) -> bytes:
    return b"\x00\x20" + hashlib.sha256(witness_script).digest()


def p2tr(n: int) -> bytes:
    return b"\x51\x20" + hashlib.sha256(b"taproot %d" % n).digest()


def op_return(data: bytes = b"harpoon") -> bytes:
    return b"\x6a" + push(data)


def public_key(n: int) -> bytes:
    """A compressed one (SEC 1 2.3.3)."""
    return bytes([2 + n % 2]) + hashlib.sha256(b"key %d" % n).digest()


def uncompressed_key(n: int) -> bytes:
    return b"\x04" + b"".join(hashlib.sha256(b"%c %d" % (c, n)).digest() for c in b"xy")


def signature(n: int = 0, length: int = 72) -> bytes:
    """DER with its hash type behind it, 71 to 73 bytes (BIP-66)."""
    r = b"\0" * (length > 71) + hashlib.sha256(b"r %d" % n).digest()
    s = b"\0" * (length > 72) + hashlib.sha256(b"s %d" % n).digest()
    numbers = bytes([2, len(r)]) + r + bytes([2, len(s)]) + s
    return bytes([0x30, len(numbers)]) + numbers + b"\1"


def multisig(needed: int, *keys: bytes) -> bytes:
    opcodes = [bytes([0x50 + n]) for n in (needed, len(keys))]
    return opcodes[0] + b"".join(push(key) for key in keys) + opcodes[1] + b"\xae"


# ---- spends: a wallet's scriptPubKey, and an input that spends it --------------------------------


@dataclass(frozen=True)
class Wallet:
    """Knows how to be paid and how it spends; `reveals` tells whether a spend shows its script."""

    script_pub_key: bytes
    script_sig: bytes = b""
    witness: tuple[bytes, ...] = ()
    reveals: bool = True

    def spend(self, txid: bytes, vout: int = 0) -> Input:
        return Input(txid, vout, self.script_sig, self.witness)


def p2pkh_wallet(n: int, key: bytes = b"") -> Wallet:
    key = key or public_key(n)
    return Wallet(p2pkh(key), push(signature(n)) + push(key))


def p2wpkh_wallet(n: int) -> Wallet:
    key = public_key(n)
    return Wallet(p2wpkh(key), witness=(signature(n), key))


def p2sh_p2wpkh_wallet(n: int) -> Wallet:
    key = public_key(n)
    program = p2wpkh(key)
    return Wallet(p2sh(program), push(program), (signature(n), key))


def p2sh_multisig_wallet(n: int) -> Wallet:
    redeem = multisig(2, public_key(n), public_key(n + 1), public_key(n + 2))
    pushes = b"\0" + push(signature(n)) + push(signature(n + 1)) + push(redeem)
    return Wallet(p2sh(redeem), pushes)


def p2wsh_wallet(n: int) -> Wallet:
    script = multisig(2, public_key(n), public_key(n + 1), public_key(n + 2))
    return Wallet(p2wsh(script), witness=(b"", signature(n), signature(n + 1), script))


def p2sh_p2wsh_wallet(n: int) -> Wallet:
    inner = p2wsh_wallet(n)
    return Wallet(p2sh(inner.script_pub_key), push(inner.script_pub_key), inner.witness)


def p2tr_wallet(n: int) -> Wallet:
    """By its key path: a Schnorr signature is all there is to see (BIP-341)."""
    return Wallet(p2tr(n), witness=(hashlib.sha512(b"schnorr %d" % n).digest(),), reveals=False)


def p2tr_script_wallet(n: int) -> Wallet:
    """By its script path: a leaf and its control block."""
    control_block = b"\xc0" + hashlib.sha256(b"inner %d" % n).digest()
    leaf = push(public_key(n)[1:]) + b"\xac"
    schnorr = hashlib.sha512(b"schnorr %d" % n).digest()
    return Wallet(p2tr(n), witness=(schnorr, leaf, control_block), reveals=False)


def p2pk_wallet(n: int) -> Wallet:
    return Wallet(push(public_key(n)) + b"\xac", push(signature(n)), reveals=False)


def bare_multisig_wallet(n: int) -> Wallet:
    keys = (public_key(n), public_key(n + 1))
    return Wallet(multisig(1, *keys), b"\0" + push(signature(n)), reveals=False)


WALLETS = {
    "p2pkh": p2pkh_wallet,
    "p2wpkh": p2wpkh_wallet,
    "p2sh-p2wpkh": p2sh_p2wpkh_wallet,
    "p2sh-multisig": p2sh_multisig_wallet,
    "p2wsh": p2wsh_wallet,
    "p2sh-p2wsh": p2sh_p2wsh_wallet,
    "p2tr": p2tr_wallet,
    "p2tr-script": p2tr_script_wallet,
    "p2pk": p2pk_wallet,
    "bare-multisig": bare_multisig_wallet,
}


def every_kind_of_spend(version: int = 2, lock_time: int = 0) -> bytes:
    """One transaction with an input and an output of each of WALLETS, and an OP_RETURN."""
    wallets = [make(n) for n, make in enumerate(WALLETS.values())]
    inputs = [wallet.spend(coin(n), n) for n, wallet in enumerate(wallets)]
    outputs = [Output(1000 + n, wallet.script_pub_key) for n, wallet in enumerate(wallets)]
    return transaction(inputs, [*outputs, Output(0, op_return())], version, lock_time)


def payment(wallet: Wallet, *outputs: Output, spends: int = 0, inputs: int = 1) -> bytes:
    """`inputs` coins of one wallet, the first of them the `spends`-th, to `outputs`."""
    return transaction([wallet.spend(coin(spends + i)) for i in range(inputs)], outputs)


# ---- memory --------------------------------------------------------------------------------------


class EdgeOfMemory:
    """Holds bytes so that memory ends with them: whoever reads one further dies of SIGSEGV."""

    def __init__(self, pages: int = 16) -> None:
        size = pages * mmap.PAGESIZE
        self._memory = mmap.mmap(-1, size + mmap.PAGESIZE)
        self._end = ctypes.addressof(ctypes.c_char.from_buffer(self._memory)) + size
        mprotect = ctypes.CDLL(None).mprotect
        assert mprotect(ctypes.c_void_p(self._end), mmap.PAGESIZE, 0) == 0

    def place(self, raw: bytes) -> ctypes.Array[ctypes.c_char]:
        """`raw` there, until the next call."""
        at = self._end - len(raw)
        ctypes.memmove(at, raw, len(raw))
        return (ctypes.c_char * len(raw)).from_address(at)
