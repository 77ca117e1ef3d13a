"""Reads the lines of a file or of standard input without holding up the event loop."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO

from temporal_fleet.errors import FleetError
from temporal_fleet.starting.lines import LONGEST_LINE, TooLong

_LINES_AHEAD = 10
_CHUNK = 1 << 20


async def read_lines(path: Path | None) -> AsyncIterator[bytes | TooLong]:
    """Yield the lines of a file, each with its line end.

    Args:
        path: The file; None = standard input, whose lines may come slowly.

    Raises:
        FleetError: When it cannot be read.
    """
    try:
        if path is not None and path.is_file():  # noqa: ASYNC240 - once, before anything runs
            with path.open("rb") as file:
                for line in _lines(file):
                    yield line
            return
        async for line in _from_pipe(_open(path)):
            yield line
    except OSError as error:
        raise FleetError(
            f"cannot read {path or 'standard input'}: {error.strerror or error}. What was started "
            "stays started; start the file again when it can be read, and nothing is repeated"
        ) from error


def _open(path: Path | None) -> BinaryIO:
    if path is not None:
        return path.open("rb")
    if sys.stdin is None:  # closed by whoever started us
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return sys.stdin.buffer


def _lines(stream: BinaryIO) -> Iterator[bytes | TooLong]:
    while line := stream.readline(LONGEST_LINE + 1):
        if len(line) <= LONGEST_LINE:
            yield line
            continue
        length = len(line)
        while line and not line.endswith(b"\n"):
            line = stream.readline(_CHUNK)
            length += len(line)
        yield TooLong(length)


async def _from_pipe(stream: BinaryIO) -> AsyncIterator[bytes | TooLong]:
    loop = asyncio.get_running_loop()
    handed_over: asyncio.Queue[bytes | TooLong | OSError | None] = asyncio.Queue(_LINES_AHEAD)

    def hand_over(item: bytes | TooLong | OSError | None) -> None:
        if not loop.is_closed():
            asyncio.run_coroutine_threadsafe(handed_over.put(item), loop).result()

    def read() -> None:
        try:
            for line in _lines(stream):
                hand_over(line)
        except OSError as error:
            hand_over(error)
        hand_over(None)

    # A daemon, since nothing ends a read from a pipe whose writer neither writes nor goes away.
    threading.Thread(target=read, name="lines", daemon=True).start()
    while (item := await handed_over.get()) is not None:
        if isinstance(item, OSError):
            raise item
        yield item
