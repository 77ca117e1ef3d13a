"""Reads the lines of a file or of standard input without holding up the event loop."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO

_LINES_AHEAD = 100


async def read_lines(path: Path | None) -> AsyncIterator[bytes]:
    """Yield the lines of a file, each with its line end.

    Args:
        path: The file; None = standard input, whose lines may come slowly.

    Raises:
        OSError: When it cannot be read.
    """
    if path is None:
        async for line in _from_pipe(sys.stdin.buffer):
            yield line
        return
    for line in _from_file(path):
        yield line


def _from_file(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


async def _from_pipe(stream: BinaryIO) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    handed_over: asyncio.Queue[bytes | OSError | None] = asyncio.Queue(_LINES_AHEAD)

    def hand_over(item: bytes | OSError | None) -> None:
        if not loop.is_closed():
            asyncio.run_coroutine_threadsafe(handed_over.put(item), loop).result()

    def read() -> None:
        try:
            for line in stream:
                hand_over(line)
        except OSError as error:
            hand_over(error)
        hand_over(None)

    # A daemon, since nothing ends a read from a pipe whose writer neither writes nor goes away.
    threading.Thread(target=read, name="standard input", daemon=True).start()
    while (item := await handed_over.get()) is not None:
        if isinstance(item, OSError):
            raise item
        yield item
