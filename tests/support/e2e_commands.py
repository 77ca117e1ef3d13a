"""Programs that cluster tests run, with output that explains a failure."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from typing_extensions import override

COMMAND_TIMEOUT = timedelta(seconds=60)


@dataclass(frozen=True)
class Completed:
    """A program that has ended."""

    command: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        """Both outputs."""
        return f"{self.stdout}{self.stderr}"

    @override
    def __str__(self) -> str:
        return f"$ {shlex.join(self.command)}\n[exit code {self.code}]\n{self.text}"


async def run(
    *command: str,
    stdin: str = "",
    check: bool = True,
    timeout: timedelta = COMMAND_TIMEOUT,
    environment: Mapping[str, str] | None = None,
) -> Completed:
    """Run a program to its end; with *check* an exit code other than 0 fails the test."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            stdout, stderr = await process.communicate(stdin.encode())
    except TimeoutError:
        raise AssertionError(
            f"not finished within {timeout.total_seconds():.0f} s: $ {shlex.join(command)}"
        ) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert process.returncode is not None
    completed = Completed(command, process.returncode, stdout.decode(), stderr.decode())
    assert not check or completed.code == 0, str(completed)
    return completed


@asynccontextmanager
async def output_of(*command: str) -> AsyncIterator[asyncio.StreamReader]:
    """Run a program for as long as the block lasts and yield what it writes to standard output."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, limit=2**24
    )
    assert process.stdout
    try:
        yield process.stdout
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        # Read to the end: a pipe that is left full outlives its process.
        await process.stdout.read()
        await process.wait()
