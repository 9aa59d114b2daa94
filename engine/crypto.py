"""SHA-256 (FIPS 180-4), Bitcoin's two hashes made of it, and HMAC-SHA256 (RFC 2104), all in C.

`impl` is one of `implementations()`; None is `chosen()`. Any other name is a ConfigError. Each is
named for its instruction set; "shani+avx512" takes the faster of the two for each purpose.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from functools import cache
from types import TracebackType
from typing import Any

from engine._native import check, ffi, lib, text
from engine.errors import ConfigError, HarpoonError

__all__ = [
    "Data",
    "HmacKey",
    "chosen",
    "hash160",
    "implementation",
    "implementations",
    "scan_header",
    "sha256",
    "sha256d",
]

Data = bytes | bytearray | memoryview  # contiguous


def implementations() -> list[str]:
    """Names of the SHA-256 implementations that this CPU can run, the fastest first."""
    names: list[str] = []
    while (impl := lib.hp_sha256_available(len(names))) != ffi.NULL:
        names.append(text(lib.hp_sha256_name(impl)))
    return names


def chosen() -> str:
    """What `impl=None` means here: the environment's HARPOON_SHA256, else the fastest.

    The environment is read once, at the first use.
    """
    return text(lib.hp_sha256_name(implementation()))


def sha256(data: Data, impl: str | None = None) -> bytes:
    """The 32-byte SHA-256 digest."""
    return _digest(lib.hp_sha256_digest, 32, data, impl)


def sha256d(data: Data, impl: str | None = None) -> bytes:
    """SHA-256 of the SHA-256 digest: 32 bytes, in the reverse order of a displayed txid."""
    return _digest(lib.hp_sha256d_digest, 32, data, impl)


def hash160(data: Data, impl: str | None = None) -> bytes:
    """The 20-byte RIPEMD-160 digest of the SHA-256 digest, as in P2PKH and P2SH scripts."""
    return _digest(lib.hp_hash160, 20, data, impl)


def scan_header(
    header: Data, target: int, first: int = 0, count: int = 1 << 32, impl: str | None = None
) -> int | None:
    """The first nonce from `first` on, of `count` modulo 2**32, that makes the double SHA-256 of an
    80-byte block header, read as a little-endian number, at most `target`. None if there is none.

    The header's own nonce (its last 4 bytes, little-endian) is not looked at.
    """
    view = ffi.from_buffer("uint8_t[]", header)
    if len(view) != 80 or not 0 <= first < 1 << 32 or not 0 <= count <= 1 << 32 or target < 0:
        raise ValueError("a header of 80 bytes, and `first`, `count`, `target` in their ranges")
    limit = min(target, (1 << 256) - 1).to_bytes(32, "little")
    nonce = ffi.new("uint32_t *")
    found = lib.hp_sha256d_scan(implementation(impl), view, limit, first, count, nonce)
    return int(nonce[0]) if found else None


class HmacKey:
    """An HMAC-SHA256 key with both pads compressed, in a page of its own: locked into memory where
    that is permitted, left out of core dumps, and wiped by `close()`, `with` or garbage collection.

    `secret` may have any length. It is not kept; wiping the caller's copy is the caller's.
    """

    __slots__ = ("_key",)

    def __init__(self, secret: Data, impl: str | None = None) -> None:
        view = ffi.from_buffer("uint8_t[]", secret)
        key = lib.hp_hmac_key_new(implementation(impl), view, len(view))
        if key == ffi.NULL:
            check(-errno.ENOMEM, "the page for an HMAC key")
        self._key: Any = ffi.gc(key, lib.hp_hmac_key_free)

    def sign(self, message: Data) -> bytes:
        """The 32-byte authentication code of `message`."""
        view = ffi.from_buffer("uint8_t[]", message)
        out = ffi.new("uint8_t[32]")
        lib.hp_hmac_sign(self._open_key(), view, len(view), out)
        return bytes(ffi.buffer(out))

    def sign_batch(self, messages: Sequence[Data]) -> list[bytes]:
        """The codes of all messages, in their order; up to 16 are computed side by side."""
        key = self._open_key()
        codes: list[bytes] = []
        for start in range(0, len(messages), lib.HP_HMAC_BATCH_MAX):
            views = [
                ffi.from_buffer("uint8_t[]", message)
                for message in messages[start : start + lib.HP_HMAC_BATCH_MAX]
            ]
            out = ffi.new("uint8_t[]", 32 * len(views))
            lib.hp_hmac_sign_batch(
                [key] * len(views), views, [len(view) for view in views], len(views), out
            )
            joined = bytes(ffi.buffer(out))
            codes += [joined[at : at + 32] for at in range(0, len(joined), 32)]
        return codes

    def _open_key(self) -> Any:
        if self._key is None:
            raise HarpoonError("this HMAC key is closed and wiped: make a new HmacKey to sign.")
        return self._key

    def close(self) -> None:
        """Wipe the key; once is enough."""
        if self._key is not None:
            ffi.release(self._key)
            self._key = None

    def __enter__(self) -> HmacKey:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@cache
def implementation(name: str | None = None) -> Any:
    """The `const hp_sha256_impl *` of that name, for calls into C; for None the chosen one."""
    impl = lib.hp_sha256_choose(ffi.NULL if name is None else name.encode())
    if impl == ffi.NULL:
        wrong = f"HARPOON_SHA256={os.environ.get('HARPOON_SHA256')}" if name is None else repr(name)
        raise ConfigError(
            f"{wrong} is no SHA-256 implementation that this CPU can run: "
            f"choose one of {', '.join(implementations())}, or none for the fastest."
        )
    return impl


def _digest(function: Any, size: int, data: Data, impl: str | None) -> bytes:
    view = ffi.from_buffer("uint8_t[]", data)
    out = ffi.new("uint8_t[]", size)
    function(implementation(impl), view, len(view), out)
    return bytes(ffi.buffer(out))
