"""What the benchmarks share: worker processes, their CPU time, and how ratios are reported.

Everything runs on this machine: one Temporal dev server on a free port of the loopback interface,
and workers as child processes that are ended, by force if need be, before a benchmark returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
POLLING_TIMEOUT = 60.0
"""Seconds that a worker may take from its start until it polls."""
QUIET = ("--output", "json")
"""Arguments that keep the dev server's greeting out of our own standard output."""
STOP_TIMEOUT = 60.0
"""Seconds that a worker may take from SIGTERM to its end."""


class BenchmarkError(Exception):
    """A measurement could not be taken; the message holds the end of the worker's output."""


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles."""

    q1: float
    median: float
    q3: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
        return cls(q1, median, q3)

    def text(self, digits: int = 2) -> str:
        """Write it as ``median [q1..q3]``."""
        return f"{self.median:.{digits}f} [{self.q1:.{digits}f}..{self.q3:.{digits}f}]"


def as_json(figures: Mapping[str, Any]) -> str:
    """Write the figures of a report, with their spreads, for programs."""
    return json.dumps(figures, indent=2, default=asdict)


def ratios(values: Sequence[float], base: Sequence[float]) -> Spread:
    """Return the spread of the ratios of two configurations, taken round by round."""
    return Spread.of([value / other for value, other in zip(values, base, strict=True)])


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, all its threads and the ended ones included.

    Linux lets a process read the CPU clock of another one; the clock's ID is made from its process
    ID. ``/proc/PID/task/*/schedstat`` forgets ended threads, and ``/proc/PID/stat`` counts in steps
    of 10 ms. Source: ``clock_getcpuclockid(3)``.
    """
    return time.clock_gettime((~pid << 3) | 2)


@dataclass(frozen=True)
class Cpu:
    """CPU seconds of a worker process, and of the processes below it."""

    own: float
    children: float

    def since(self, earlier: Cpu) -> Cpu:
        """Return what was used since an earlier reading."""
        return Cpu(self.own - earlier.own, self.children - earlier.children)

    @property
    def total(self) -> float:
        """The worker and its children together."""
        return self.own + self.children


class WorkerProcess:
    """One worker as a child process; made by :func:`running`."""

    def __init__(self, process: asyncio.subprocess.Process, started: float) -> None:
        self.process = process
        self.started = started
        self.tail: list[str] = []
        self._polling = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    def cpu(self) -> Cpu:
        """Read the CPU clocks of the worker and of everything below it."""
        children = 0.0
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(OSError):  # the child may end between listing and reading
                children += cpu_seconds(child.pid)
        return Cpu(cpu_seconds(self.process.pid), children)

    async def polling(self) -> None:
        """Wait until the worker says that it polls.

        Raises:
            BenchmarkError: When it ends before, or takes longer than ``POLLING_TIMEOUT``.
        """
        event = asyncio.create_task(self._polling.wait())
        try:
            await asyncio.wait(
                {event, self._reader}, timeout=POLLING_TIMEOUT, return_when="FIRST_COMPLETED"
            )
        finally:
            event.cancel()
        if not self._polling.is_set():
            raise BenchmarkError("the worker does not poll; it wrote:\n" + "\n".join(self.tail))

    async def stop(self) -> int:
        """Send SIGTERM and return the exit code.

        Raises:
            BenchmarkError: When it does not end within ``STOP_TIMEOUT``.
        """
        self.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                code = await self.process.wait()
                await self._reader
        except TimeoutError:
            raise BenchmarkError(
                f"the worker still runs {STOP_TIMEOUT:g} s after SIGTERM; it wrote:\n"
                + "\n".join(self.tail)
            ) from None
        return code

    async def close(self) -> None:
        """End the process whatever it does, and its output with it."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for raw in self.process.stdout:
            if not self._polling.is_set() and _says_polling(raw):
                self._polling.set()
            self.tail = [*self.tail[-30:], raw.decode(errors="replace").rstrip()]


def _says_polling(line: bytes) -> bool:
    if line == b"polling\n":
        return True
    if not line.startswith(b"{"):
        return False
    event = json.loads(line).get("event")
    return isinstance(event, str) and event.startswith("polling")


@asynccontextmanager
async def running(
    command: Sequence[str], environment: Mapping[str, str]
) -> AsyncIterator[WorkerProcess]:
    """Start a worker; it is ended by force when the block is left and it still runs."""
    started = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    worker = WorkerProcess(process, started)
    try:
        yield worker
    finally:
        await worker.close()


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of a worker: nobody's settings leak in, and bytecode is kept."""
    foreign = ("FLEET_", "TEMPORAL_", "OTEL_")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(foreign) and name != "PYTHONDONTWRITEBYTECODE"
    }
    return {**kept, "PYTHONPATH": str(HERE / "workload"), **variables}


def fleet_command(workload: str) -> list[str]:
    """Return the command line of our worker, as an image would start it."""
    return [sys.executable, "-m", "temporal_fleet", "worker", workload]


def fleet_environment(address: str, task_queue: str, **variables: str) -> dict[str, str]:
    """Return the environment of our worker: its defaults, with JSON logs and a port of its own."""
    return environment(
        TEMPORAL_ADDRESS=address,
        FLEET_WORKER_TASK_QUEUE=task_queue,
        FLEET_HEALTH_PORT="0",
        FLEET_HEALTH_BIND_ADDRESS="127.0.0.1",
        FLEET_LOG_FORMAT="json",
        **variables,
    )


def bare_command(address: str, task_queue: str, converter: str) -> list[str]:
    """Return the command line of a worker made of the SDK alone."""
    return [
        *(sys.executable, str(HERE / "bare_worker.py"), "--address", address),
        *("--task-queue", task_queue, "--converter", converter),
    ]


def machine() -> str:
    """Return what a reader must know about where and when figures were taken."""
    return (
        f"Python {platform.python_version()}, temporalio {version('temporalio')}, "
        f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}"
    )


def run_benchmark(benchmark: Coroutine[Any, Any, int], *, time_limit: float) -> int:
    """Run a benchmark to its end, or to its time limit.

    Args:
        benchmark: Returns the exit code.
        time_limit: Seconds; when they are over, its processes are ended and the exit code is 1.
    """

    async def bounded() -> int:
        async with asyncio.timeout(time_limit):
            return await benchmark

    try:
        return asyncio.run(bounded())
    except TimeoutError:
        print(f"gave up after the time limit of {time_limit:g} s", file=sys.stderr)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
    return 1
