"""Every error a user can meet. `str(error)` is one sentence: what, where, the cure."""

from __future__ import annotations

from enum import IntEnum


class HarpoonError(Exception):
    """Base of all of them; the command line prints it and exits with `exit_status`."""

    exit_status = 1


class ConfigError(HarpoonError):
    """A key of the configuration is missing, unknown or out of range."""

    exit_status = 2


class AddressError(HarpoonError):
    """A string is not a mainnet Bitcoin address, or a script has none."""


class BookError(HarpoonError):
    """An address book cannot be read, or one of its rows is wrong."""


class FeedError(HarpoonError):
    """The node's feed, or a file that is replayed as one, cannot be used."""


class JournalError(HarpoonError):
    """A journal cannot be written or read."""


class LatchError(HarpoonError):
    """The kill latch cannot be opened, set or reset."""


class VenueError(HarpoonError):
    """The exchange cannot be reached, refused us, or said something it should not."""


class NativeError(HarpoonError):
    """A C function refused; `code` is its positive HP_E... or errno value."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class TxError(NativeError):
    """Bytes that are not one Bitcoin transaction; `code` is one of TxCode."""


class TxCode(IntEnum):
    """What is wrong with a transaction: the HP_ETX_... of csrc/harpoon.h."""

    TRUNCATED = 1000
    VARINT = 1001
    COUNT = 1002
    NO_INPUTS = 1003
    NO_OUTPUTS = 1004
    FLAG = 1005
    WITNESS = 1006
    VALUE = 1007
    TRAILING = 1008
    TOO_BIG = 1009
