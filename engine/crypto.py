"""SHA-256 (FIPS 180-4), Bitcoin's two hashes made of it, and HMAC-SHA256 (RFC 2104), all in C.

`impl` is one of `implementations()`; None is `chosen()`. Any other name is a ConfigError.
"""

from __future__ import annotations

import errno
import os
from functools import cache
from types import TracebackType
from typing import Any

from engine._native import check, ffi, lib, text
from engine.errors import ConfigError, HarpoonError

__all__ = ["Data", "HmacKey", "chosen", "hash160", "implementations", "sha256", "sha256d"]

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
    return text(lib.hp_sha256_name(_implementation(None)))


def sha256(data: Data, impl: str | None = None) -> bytes:
    """The 32-byte SHA-256 digest."""
    return _digest(lib.hp_sha256_digest, 32, data, impl)


def sha256d(data: Data, impl: str | None = None) -> bytes:
    """SHA-256 of the SHA-256 digest: 32 bytes, in the reverse order of a displayed txid."""
    return _digest(lib.hp_sha256d_digest, 32, data, impl)


def hash160(data: Data, impl: str | None = None) -> bytes:
    """The 20-byte RIPEMD-160 digest of the SHA-256 digest, as in P2PKH and P2SH scripts."""
    return _digest(lib.hp_hash160, 20, data, impl)


class HmacKey:
    """An HMAC-SHA256 key with both pads compressed, in a page of its own: locked into memory where
    that is permitted, left out of core dumps, and wiped by `close()`, `with` or garbage collection.

    `secret` may have any length. It is not kept; wiping the caller's copy is the caller's.
    """

    __slots__ = ("_key",)

    def __init__(self, secret: Data, impl: str | None = None) -> None:
        view = ffi.from_buffer("uint8_t[]", secret)
        key = lib.hp_hmac_key_new(_implementation(impl), view, len(view))
        if key == ffi.NULL:
            check(-errno.ENOMEM, "the page for an HMAC key")
        self._key: Any = ffi.gc(key, lib.hp_hmac_key_free)

    def sign(self, message: Data) -> bytes:
        """The 32-byte authentication code of `message`."""
        if self._key is None:
            raise HarpoonError("this HMAC key is closed and wiped: make a new HmacKey to sign.")
        view = ffi.from_buffer("uint8_t[]", message)
        out = ffi.new("uint8_t[32]")
        lib.hp_hmac_sign(self._key, view, len(view), out)
        return bytes(ffi.buffer(out))

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
def _implementation(name: str | None) -> Any:
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
    function(_implementation(impl), view, len(view), out)
    return bytes(ffi.buffer(out))
