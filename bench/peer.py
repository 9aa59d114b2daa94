"""The other end of a send benchmark, a process of its own: the exchange simulator and a plain TCP
sink in one event loop, so that a send to either wakes the same sleeper."""

from __future__ import annotations

import asyncio
import json
import sys

from engine.sim.exchange import ExchangeSim


async def _discard(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(65536):
        pass
    writer.close()


async def _serve() -> None:
    async with ExchangeSim() as sim, await asyncio.start_server(_discard, "127.0.0.1", 0) as sink:
        ready = {
            "ws_url": sim.url,
            "ca_file": str(sim.ca_file),
            "api_key": sim.api_key,
            "api_secret": sim.api_secret,
            "sink_port": sink.sockets[0].getsockname()[1],
        }
        print(json.dumps(ready), flush=True)
        await asyncio.to_thread(sys.stdin.read)  # until whoever started us is gone


if __name__ == "__main__":
    asyncio.run(_serve())
