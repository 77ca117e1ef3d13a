"""An HTTP proxy on loopback that opens tunnels, and knows a server by a name that nobody else resolves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

SERVER = "frontend.temporal.invalid:7233"
"""The address of the server behind the proxy."""


@dataclass
class ConnectProxy:
    """What the proxy does and was asked."""

    upstream: str
    """Where the tunnels lead: host and port."""
    refusal: str | None = None
    """Status line with which every request is refused; None = tunnels are opened."""
    address: str = ""
    """The proxy's own host and port."""
    requests: list[str] = field(default_factory=list)
    """The head of each request."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection and carry its bytes until either side ends."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), _closing(writer):
            self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            if self.refusal:
                writer.write(f"HTTP/1.1 {self.refusal}\r\n\r\n".encode())
                await writer.drain()
                return
            host, _, port = self.upstream.rpartition(":")
            there, to_there = await asyncio.open_connection(host, int(port))
            with _closing(to_there):
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                async with asyncio.TaskGroup() as group:
                    group.create_task(_carry(reader, to_there))
                    group.create_task(_carry(there, writer))


@asynccontextmanager
async def connect_proxy(upstream: str) -> AsyncIterator[ConnectProxy]:
    """Listen on a free port until the end of the block; tunnels lead to *upstream*."""
    proxy = ConnectProxy(upstream)
    listener = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.address = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        listener.close()


@contextlib.contextmanager
def _closing(writer: asyncio.StreamWriter) -> Iterator[None]:
    try:
        yield
    finally:
        writer.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError), _closing(writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
