"""The other end of a send benchmark, a process of its own: the exchange simulator and a plain TCP
sink in one event loop. With --spin it never sleeps, so that no send has to wake it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys

from engine.processes import at_stdin_eof
from engine.sim.exchange import ExchangeSim
from engine.sim.rates import UNLIMITED


async def _discard(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.CancelledError):  # the end of everything
        while await reader.read(65536):
            pass
    writer.close()


async def _serve(spin: bool) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    at_stdin_eof(lambda: loop.call_soon_threadsafe(told.set))
    async with ExchangeSim() as sim, await asyncio.start_server(_discard, "127.0.0.1", 0) as sink:
        sim.venue.limits = UNLIMITED
        ready = {
            "ws_url": sim.url,
            "ca_file": str(sim.ca_file),
            "api_key": sim.api_key,
            "api_secret": sim.api_secret,
            "sink_port": sink.sockets[0].getsockname()[1],
        }
        print(json.dumps(ready), flush=True)
        while spin and not told.is_set():
            await asyncio.sleep(0)
        await told.wait()


if __name__ == "__main__":
    asyncio.run(_serve(spin="--spin" in sys.argv))
