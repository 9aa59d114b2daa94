"""TLS 1.3 records by the `cryptography` library, from the secrets of a key log (RFC 8446 5.2, 7).

A record opens here only under the one key and the one sequence number that it has to have: so the
records that open one after the other have a number each."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

ALERT, HANDSHAKE, DATA = 21, 22, 23
CLOSE_NOTIFY = b"\x01\x00"
KEY_UPDATE = b"\x18\x00\x00\x01\x00"
KEY_UPDATE_REQUEST = b"\x18\x00\x00\x01\x01"
OVERHEAD = 22

Cipher = type[AESGCM] | type[ChaCha20Poly1305]
SUITES: dict[str, tuple[Cipher, int, hashes.HashAlgorithm]] = {
    "TLS_AES_128_GCM_SHA256": (AESGCM, 16, hashes.SHA256()),
    "TLS_AES_256_GCM_SHA384": (AESGCM, 32, hashes.SHA384()),
    "TLS_CHACHA20_POLY1305_SHA256": (ChaCha20Poly1305, 32, hashes.SHA256()),
}


def logged_secret(key_log: Path, label: str) -> bytes:
    """The secret of the only connection in the key log."""
    lines = [line.split() for line in key_log.read_text().splitlines()]
    (secret,) = (bytes.fromhex(line[2]) for line in lines if line[0] == label)
    return secret


class Keys:
    """One direction of a connection: its key, and the number of its next record."""

    def __init__(self, suite: str, secret: bytes) -> None:
        self._cipher, self._key_len, self._hash = SUITES[suite]
        self._start(secret)

    def _expand(self, secret: bytes, label: bytes, length: int) -> bytes:
        info = struct.pack(">HB", length, len(label) + 6) + b"tls13 " + label + b"\0"
        return HKDFExpand(self._hash, length, info).derive(secret)

    def _start(self, secret: bytes) -> None:
        self._secret, self.number = secret, 0
        self._aead = self._cipher(self._expand(secret, b"key", self._key_len))
        self._iv = self._expand(secret, b"iv", 12)

    def update(self) -> None:
        self._start(self._expand(self._secret, b"traffic upd", len(self._secret)))

    def _nonce(self) -> bytes:
        return bytes(a ^ b for a, b in zip(self._iv, self.number.to_bytes(12, "big"), strict=True))

    def peek(self, record: bytes) -> tuple[int, bytes]:
        """Content type and plaintext; InvalidTag when it is not the next record."""
        inner = self._aead.decrypt(self._nonce(), record[5:], record[:5])
        return inner[-1], inner[:-1]

    def open(self, record: bytes) -> tuple[int, bytes]:
        opened = self.peek(record)
        self.number += 1
        return opened

    def seal(self, content: int, plaintext: bytes) -> bytes:
        header = struct.pack(">BHH", DATA, 0x303, len(plaintext) + OVERHEAD - 5)
        record = self._aead.encrypt(self._nonce(), plaintext + bytes([content]), header)
        self.number += 1
        return header + record


def record_len(data: bytes) -> int:
    """Of the record that `data` begins with."""
    return 5 + int.from_bytes(data[3:5], "big")


def split(data: bytes) -> Iterator[bytes]:
    """Whole records."""
    while data:
        end = record_len(data)
        assert len(data) >= end, "a record was cut short"
        yield data[:end]
        data = data[end:]


class Watch:
    """Opens every record that has left, and keeps what was in it."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.data = b""
        self.updates = 0
        self.alerts: list[bytes] = []

    def see(self, sent: bytes) -> None:
        for record in split(sent):
            assert not self.alerts, "something follows an alert"
            content, plaintext = self.keys.open(record)
            if content == DATA:
                self.data += plaintext
            elif content == ALERT:
                self.alerts.append(plaintext)
            else:
                assert (content, plaintext) == (HANDSHAKE, KEY_UPDATE)
                self.updates += 1
                self.keys.update()
