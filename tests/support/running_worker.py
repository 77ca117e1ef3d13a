"""A real ``fleet worker`` process, its log lines, its health port and its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from temporalio.client import Client

SUPPORT = Path(__file__).parent


def address(client: Client) -> str:
    """Return where the client's server is."""
    return str(client.service_client.config.target_host)


class RunningWorker:
    """One worker process; made by :func:`running_worker`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._grown = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr
        async for raw in self.process.stderr:
            async with self._grown:
                self.lines.append(raw.decode().rstrip())
                self._grown.notify_all()
        async with self._grown:
            self.lines.append("<end of log>")
            self._grown.notify_all()

    @property
    def log(self) -> list[dict[str, Any]]:
        """The JSON log lines so far."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    @property
    def text(self) -> str:
        """Everything the process wrote so far."""
        return "\n".join(self.lines)

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines with this event."""
        return [line for line in self.log if line["event"] == event]

    async def logged(self, event: str, *, timeout: float = 30) -> dict[str, Any]:
        """Wait for the first log line with this event; an ended process is an error."""

        def found() -> bool:
            return bool(self.events(event)) or self.lines[-1:] == ["<end of log>"]

        try:
            async with asyncio.timeout(timeout), self._grown:
                await self._grown.wait_for(found)
        except TimeoutError:
            raise AssertionError(f"no {event!r} within {timeout} s in:\n{self.text}") from None
        assert self.events(event), f"process ended without {event!r}:\n{self.text}"
        return self.events(event)[0]

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to the process itself."""
        self.process.send_signal(number)

    async def exit_code(self, *, timeout: float = 30) -> int:
        """Wait for the end; the code is negative when a signal ended the process."""
        try:
            async with asyncio.timeout(timeout):
                code = await self.process.wait()
                await self._reader
        except TimeoutError:
            raise AssertionError(f"still running after {timeout} s:\n{self.text}") from None
        return code

    @property
    def health_port(self) -> int:
        """The port that the worker chose."""
        return int(self.events("health server listens")[0]["port"])

    async def get(self, path: str) -> tuple[int, str]:
        """Return status and body of a page of the health port."""

        def fetch() -> tuple[int, str]:
            try:
                with urlopen(f"http://127.0.0.1:{self.health_port}{path}", timeout=5) as answer:
                    return answer.status, answer.read().decode()
            except HTTPError as error:
                with error:
                    return error.code, error.read().decode()

        return await asyncio.to_thread(fetch)


def worker_environment(address: str, **variables: str) -> dict[str, str]:
    """Return the environment of a worker process: nothing of this one's settings leaks in."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FLEET_", "TEMPORAL_", "OTEL_"))
    }
    return {
        **inherited,
        "PYTHONPATH": str(SUPPORT),
        "TEMPORAL_ADDRESS": address,
        "FLEET_HEALTH_PORT": "0",
        "FLEET_HEALTH_BIND_ADDRESS": "127.0.0.1",
        "FLEET_LOG_FORMAT": "json",
        "FLEET_CONCURRENCY_PROCESSES": "1",
        **variables,
    }


@asynccontextmanager
async def running_worker(
    address: str, workload: str = "sample", environment: Mapping[str, str] | None = None
) -> AsyncIterator[RunningWorker]:
    """Start ``fleet worker`` against the server at *address*; it is killed at the end if need be."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "temporal_fleet", "worker", workload),
        env=worker_environment(address, **(environment or {})),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    worker = RunningWorker(process)
    try:
        yield worker
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await worker._reader
