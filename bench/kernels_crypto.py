"""SHA-256 and HMAC: one code, an order signed again, a batch of 16, the scan for a header's nonce.

The message is as long as an order's payload. One after another, every message begins with the code
before it, so that none can begin early: what is measured is latency. In a batch nothing waits.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from engine import crypto
from engine._native import ffi as engine_ffi
from engine._native import lib as engine_lib
from engine.errors import HarpoonError
from harpoon_bench._floor import ffi, lib
from harpoon_bench.table import Row, quantiles
from harpoon_bench.turns import take_turns

SECRET = bytes(range(1, 65))
MESSAGE = bytes(range(200))
CONSTANT = 89  # bytes before the client id: "apiKey=", 64 digits, "&newClientOrderId="
BATCH = 16
CHAINED = 16  # bytes of a code that the next message begins with
TIMES = 100  # calls in a sample
BATCHES = 20  # in a sample
BLOCKS = 5  # that a prepared key leaves to compress: four of the message, the outer one
HEADER = bytes(range(80))
NONCES = 4096
FLOOR_MHZ = 27  # million nonces a second

Contenders = dict[str, Callable[[], int]]


def rows(rounds: int) -> list[Row]:
    return [*_sign_rows(rounds), *_batch_rows(rounds), *_scan_rows(rounds)]


def _sign_rows(rounds: int) -> list[Row]:
    took = take_turns(_sign_contenders(), rounds)
    unit = f"ns/{TIMES}"
    table = [
        Row("HMAC, 200 bytes", unit, took["ours"], name, took[name], target)
        for name, target in (
            ("latency of 5 x 32 SHA256RNDS2", 1.10),
            ("OpenSSL, copied midstates", 1.0),
            ("OpenSSL, HMAC_CTX reused", None),
            ("OpenSSL, EVP_MAC reused", 1 / 1.6),
            ("OpenSSL, HMAC() one-shot", None),
            ("Python, hmac.digest()", 1 / 10),
        )
        if name in took
    ]
    table += [
        Row("order signed again", unit, took["again"], name, took[name], target)
        for name, target in (
            ("latency of 4 x 32 SHA256RNDS2", None),
            ("OpenSSL, copied midstates", 1 / 1.3),
        )
        if name in took
    ]
    table.append(
        Row(
            "HmacKey.sign() in Python",
            unit,
            took["HmacKey.sign()"],
            "Python, hmac.digest()",
            took["Python, hmac.digest()"],
        )
    )
    return table


def _sign_contenders() -> Contenders:
    absorbed = engine_ffi.new("size_t *")
    key = _key(crypto.implementation())
    again = engine_ffi.gc(
        engine_lib.hp_hmac_key_continue(key, MESSAGE, CONSTANT, absorbed),
        engine_lib.hp_hmac_key_free,
    )
    reference = _reference_key()
    sign = _as("hp_floor_sign", "hp_hmac_sign")
    contenders: Contenders = {
        "ours": lambda: _sign_ns(sign, _pointer(key), MESSAGE),
        "again": lambda: _sign_ns(sign, _pointer(again), MESSAGE[absorbed[0] :]),
        "OpenSSL, copied midstates": _openssl("hp_floor_midstates", reference),
        "OpenSSL, HMAC_CTX reused": _openssl("hp_floor_hmac_ctx", reference),
        "OpenSSL, EVP_MAC reused": _openssl("hp_floor_evp_mac", reference),
        "OpenSSL, HMAC() one-shot": _openssl("hp_floor_one_shot", reference),
        "Python, hmac.digest()": partial(
            _python_ns, lambda message: hmac.digest(SECRET, message, "sha256")
        ),
        "HmacKey.sign()": partial(_python_ns, crypto.HmacKey(SECRET).sign),
    }
    if "shani" in crypto.implementations():
        for blocks in (BLOCKS, BLOCKS - 1):
            contenders[f"latency of {blocks} x 32 SHA256RNDS2"] = partial(
                lib.hp_floor_rounds_ns, 64 * blocks, TIMES
            )
    return contenders


def _batch_rows(rounds: int) -> list[Row]:
    reference = _reference_key()
    contenders: Contenders = {
        name: partial(_batch_ns, crypto.implementation(name), BATCH)
        for name in crypto.implementations()
    }
    contenders["16 x OpenSSL, copied midstates"] = _openssl_batch("hp_floor_midstates", reference)
    contenders["16 x OpenSSL, EVP_MAC reused"] = _openssl_batch("hp_floor_evp_mac", reference)
    took = take_turns(contenders, rounds)
    chosen = crypto.chosen()
    table = [
        Row(f"HMAC, 16 at once, {chosen}", f"ns/{BATCHES}", took[chosen], name, took[name], target)
        for name, target in (
            ("16 x OpenSSL, copied midstates", 1 / 2),
            ("16 x OpenSSL, EVP_MAC reused", 1 / 3.5),
        )
    ]
    return table + [
        Row(f"HMAC, 16 at once, {name}", f"ns/{BATCHES}", took[name], chosen, took[chosen])
        for name in crypto.implementations()
        if name != chosen
    ]


def _scan_rows(rounds: int) -> list[Row]:
    names = crypto.implementations()
    took = take_turns({name: partial(_scan_ns, name) for name in names}, rounds)
    chosen = crypto.chosen()
    ours = partial(Row, f"nonce scan, {chosen}", f"ns/{NONCES}", took[chosen])
    floor = quantiles([NONCES * 1000 // FLOOR_MHZ])
    return [
        ours(f"{FLOOR_MHZ} M nonces/s", floor, 1.0),
        *(ours(name, took[name]) for name in names if name != chosen),
    ]


def _openssl(way: str, key: Any) -> Callable[[], int]:
    return partial(_sign_ns, ffi.addressof(lib, way), key, MESSAGE)


def _openssl_batch(way: str, key: Any) -> Callable[[], int]:
    return partial(_sign_ns, ffi.addressof(lib, way), key, MESSAGE, 0, BATCHES * BATCH)


def _sign_ns(
    sign: Any, key: Any, message: bytes, chained: int = CHAINED, times: int = TIMES
) -> int:
    took_ns: int = lib.hp_floor_sign_ns(
        sign, key, ffi.from_buffer(bytearray(message)), len(message), chained, times
    )
    return took_ns


def _batch_ns(impl: Any, size: int) -> int:
    key = _key(impl)
    messages = [ffi.new("uint8_t[]", MESSAGE) for _ in range(size)]
    took_ns: int = lib.hp_floor_batch_ns(
        _as("hp_floor_batch", "hp_hmac_sign_batch"),
        [_pointer(key)] * size,
        messages,
        [len(MESSAGE)] * size,
        size,
        ffi.new("uint8_t[]", 32 * size),
        BATCHES,
    )
    return took_ns


def _scan_ns(impl: str) -> int:
    before_ns = time.perf_counter_ns()
    crypto.scan_header(HEADER, 1 << 190, 0, NONCES, impl)
    return time.perf_counter_ns() - before_ns


def _python_ns(sign: Callable[[bytes], bytes]) -> int:
    before_ns = time.perf_counter_ns()
    for _ in range(TIMES):
        sign(MESSAGE)
    return time.perf_counter_ns() - before_ns


def _key(impl: Any) -> Any:
    return engine_ffi.gc(
        engine_lib.hp_hmac_key_new(impl, SECRET, len(SECRET)), engine_lib.hp_hmac_key_free
    )


def _reference_key() -> Any:
    key = ffi.gc(lib.hp_floor_key_new(SECRET, len(SECRET)), lib.hp_floor_key_free)
    if key == ffi.NULL:
        raise HarpoonError("OpenSSL has no HMAC-SHA256 here: install its default provider.")
    return key


def _pointer(key: Any) -> Any:
    return ffi.cast("void *", int(engine_ffi.cast("uintptr_t", key)))


def _as(kind: str, name: str) -> Any:
    """A function of the engine's library as a function pointer for the bench's."""
    address = engine_ffi.cast("uintptr_t", engine_ffi.addressof(engine_lib, name))
    return ffi.cast(kind, int(address))
