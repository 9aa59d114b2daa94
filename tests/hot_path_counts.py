"""Run with tests/preload/counts.c in LD_PRELOAD, whose path is the argument: which functions that
allocate or lock were called, and how often, between a transaction and the return of the call that
sent its order. JSON: {"control": {function: calls}, "orders": [{function: calls}, ...]}."""

from __future__ import annotations

import ctypes
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from peers import deposit, rig, serving

from engine._native import ffi, lib
from engine.core import Engine, Fired
from engine.sim import authority

ORDERS = 20


def _address(pointer: Any) -> int:
    return int(ffi.cast("uintptr_t", pointer))


class Counter:
    def __init__(self, library: str) -> None:
        self._lib = ctypes.CDLL(library)
        self._lib.counted_name.restype = ctypes.c_char_p
        named = itertools.takewhile(bool, map(self._lib.counted_name, itertools.count()))
        self._names = [name.decode() for name in named]
        self._called = (ctypes.c_uint64 * len(self._names))()

    def control(self) -> dict[str, int]:
        """What is counted of a function that allocates and locks."""
        return self._count(self._lib.counted_control, 0, b"raw")

    def order(self, engine: Engine, raw: bytes) -> dict[str, int]:
        """What one deposit's order called."""
        rawtx = ctypes.c_void_p(_address(ffi.addressof(lib, "hp_engine_rawtx")))
        called = self._count(rawtx, _address(engine._handle), raw)
        (fired,) = [event for event in engine.events() if isinstance(event, Fired)]
        assert (fired.refusal, fired.error, fired.dry_run) == (None, None, False)
        return called

    def _count(self, rawtx: Any, engine: int, raw: bytes) -> dict[str, int]:
        signals = self._lib.counted_rawtx(
            rawtx,
            ctypes.c_void_p(engine),
            raw,
            ctypes.c_size_t(len(raw)),
            ctypes.c_int64(time.monotonic_ns()),
            self._called,
        )
        assert signals == 1
        return {name: n for name, n in zip(self._names, self._called, strict=True) if n}


def main() -> None:
    counter = Counter(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        files = authority.issue(Path(folder))
        with serving(files) as server, rig(server) as wire:
            orders = []
            for nonce in range(ORDERS):
                wire.engine.poll()
                orders.append(counter.order(wire.engine, deposit("kraken", nonce)))
                assert wire.peer.frame()[0] == 1, "the order has left, as text"
    print(json.dumps({"control": counter.control(), "orders": orders}))


if __name__ == "__main__":
    main()
