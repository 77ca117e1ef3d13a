"""One address for the health of a workload, whichever of its processes serves at the moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_CHUNK = 1 << 16


class HealthAddress:
    """A port that leads to the health server of the process that serves; made by :func:`health_address`.

    Attributes:
        port: Port of 127.0.0.1; the same over all reloads.
        target: Port of the health server that it leads to; None = connections are closed at once.
    """

    def __init__(self) -> None:
        self.port = 0
        self.target: int | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on until both ends have closed it."""
        try:
            if self.target is not None:
                with suppress(OSError):  # the process, or the client, is gone: so is the connection
                    await _join(reader, writer, self.target)
        finally:
            writer.close()


async def _join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    answers, requests = await asyncio.open_connection("127.0.0.1", port)
    try:
        await asyncio.gather(_copy(reader, requests), _copy(answers, writer))
    finally:
        requests.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(_CHUNK):
        target.write(data)
        await target.drain()
    if target.can_write_eof():
        target.write_eof()


@asynccontextmanager
async def health_address() -> AsyncIterator[HealthAddress]:
    """Listen on a free port of 127.0.0.1 until the block ends."""
    address = HealthAddress()
    server = await asyncio.start_server(address.serve, "127.0.0.1", 0)
    address.port = server.sockets[0].getsockname()[1]
    try:
        yield address
    finally:
        server.close()
