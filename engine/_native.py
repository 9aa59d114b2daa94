"""The one bridge to the C library: `lib`, `ffi`, and `check`, which turns a return code into an
exception. No other module looks at a negative return code."""

from __future__ import annotations

from typing import Any

from engine.errors import HarpoonError, NativeError, TxError

try:
    from engine._harpoon import ffi as _ffi
    from engine._harpoon import lib as _lib
except ImportError as error:  # a source tree on sys.path hides the installed package
    raise HarpoonError(
        f"the compiled part of harpoon cannot be loaded ({error}): run `pip install .` in the "
        "source tree, and start `harpoon` outside of it or by its console script."
    ) from error

ffi: Any = _ffi
lib: Any = _lib

__all__ = ["check", "ffi", "lib", "text"]


def text(chars: Any) -> str:
    """A C string as str; what is not UTF-8 in it is replaced."""
    return bytes(ffi.string(chars)).decode("utf-8", "replace")


def check(code: int, what: str = "") -> int:
    """`code` itself when it is no error; else the matching exception, saying `what` was tried."""
    if code >= 0:
        return code
    sentence = text(lib.hp_strerror(code))
    message = f"{what}: {sentence}" if what else sentence
    if lib.HP_ETX_TRUNCATED <= -code <= lib.HP_ETX_TOO_BIG:
        raise TxError(message, -code)
    raise NativeError(message, -code)
