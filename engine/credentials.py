"""The API key and what proves it is ours, from the environment or from files that only their owner
can read."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from engine.config import VenueSettings
from engine.errors import ConfigError

_SECRET_BYTES_MAX = 4096


@dataclass(frozen=True)
class Credentials:
    """Who orders, and one of two: the secret that signs each order, or the Ed25519 key that logs a
    connection on, whose orders are not signed. The repr says nothing."""

    api_key: str = field(repr=False)
    api_secret: str | None = field(default=None, repr=False)
    private_key: Ed25519PrivateKey | None = field(default=None, repr=False)

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials are not pickled: they stay in this process")


def credentials(venue: VenueSettings, environ: Mapping[str, str]) -> Credentials:
    """What to order with, from where the settings say; ConfigError when something is missing or
    damaged."""
    api_key = _credential("api_key", venue.api_key_file, venue.api_key_env, environ)
    if venue.private_key_file is not None:
        return Credentials(api_key, private_key=_private_key(venue.private_key_file))
    secret = _credential("api_secret", venue.api_secret_file, venue.api_secret_env, environ)
    return Credentials(api_key, api_secret=secret)


def _credential(key: str, file: Path | None, variable: str, environ: Mapping[str, str]) -> str:
    if file is not None:
        where = f"{file} ([venue] {key}_file)"
        secret = _secret_in(file, where).decode("latin-1").rstrip("\r\n")
    else:
        where = f"environment variable {variable} ([venue] {key}_env)"
        if variable not in environ:
            raise ConfigError(
                f"{where} is not set: run `export {variable}=...` first, or name a {key}_file"
            )
        secret = environ[variable]
    if not secret or not all("!" <= character <= "~" for character in secret):
        raise ConfigError(
            f"{where} is empty or has a blank, a line break or a character that is not ASCII: "
            "copy it anew from the exchange"
        )
    return secret


def _private_key(file: Path) -> Ed25519PrivateKey:
    """The key in a PEM file, as `openssl genpkey -algorithm ed25519` writes it (PKCS #8)."""
    where = f"{file} ([venue] private_key_file)"
    pem = _secret_in(file, where)
    if not pem.strip():
        raise ConfigError(f"{where} is empty: put the Ed25519 private key into it, in PEM")
    try:
        key = load_pem_private_key(pem, None)
    except TypeError:
        raise ConfigError(
            f"{where} is encrypted, and nobody is there to type the password: write it without by "
            f"`openssl pkey -in {shlex.quote(str(file))} -out NEW_FILE`"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(
            f'{where} is no private key in PEM, which begins with "-----BEGIN PRIVATE KEY-----": '
            "name the file that `openssl genpkey -algorithm ed25519` wrote"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(
            f"{where} is a key of another kind, but only an Ed25519 key can log on: make one with "
            "`openssl genpkey -algorithm ed25519` and give its public half to the exchange"
        )
    return key


def _secret_in(file: Path, where: str) -> bytes:
    """What is in a file that nobody but its owner can read."""
    try:
        # O_NONBLOCK: opening a FIFO would wait for its writer.
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise ConfigError(f"{where} is not a regular file: put the key into one")
            if mode & 0o177:
                raise ConfigError(
                    f"{where} has mode {stat.S_IMODE(mode):04o} but a key needs 0600: "
                    f"run `chmod 600 {shlex.quote(str(file))}`"
                )
            content = os.read(descriptor, _SECRET_BYTES_MAX + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigError(f"{where} cannot be read: {error.strerror}: check the path") from error
    if len(content) > _SECRET_BYTES_MAX:
        raise ConfigError(f"{where} is longer than {_SECRET_BYTES_MAX} bytes: it is no key")
    return content
