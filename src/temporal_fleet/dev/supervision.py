"""Keeps one workload running: restarts it when its code changes and when it crashes.

New code takes over only once it polls; until then, and when it cannot start, the old process goes
on with the code that it started with (see :mod:`temporal_fleet.dev.kept_sources`).
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporal_fleet.dev.health_address import HealthAddress, health_address
from temporal_fleet.dev.processes import Child, Environment, Launcher
from temporal_fleet.errors import ExitCode
from temporal_fleet.ports import reserved_port

_PROBE_INTERVAL = timedelta(milliseconds=20)
_BACKOFF_INITIAL = timedelta(seconds=1)
_BACKOFF_MAXIMUM = timedelta(seconds=30)
_RETRY_INTERVAL = timedelta(seconds=15)
_FILES_NAMED = 3

Say = Callable[[str], None]
"""Prints a line of ours."""


class SupervisedWorkload:
    """One workload; ``run`` keeps it running until it is cancelled, ``stop`` ends its processes.

    Args:
        name: Name of the workload.
        environment: What its processes get beside ours; the health port is added.
        say: Prints what happens.
        print_line: Prints a line that a process wrote.
        kill_after: How long a process may take to drain before it is killed.
        waits_for_change: Whether somebody tells about changes. If so, code that cannot start is
            seldom tried again until it changes.
    """

    def __init__(
        self,
        name: str,
        environment: Environment,
        *,
        say: Say,
        print_line: Say,
        kill_after: timedelta,
        waits_for_change: bool,
    ) -> None:
        self.name = name
        self.health_port: int | None = None
        """Port of 127.0.0.1 for the health of whichever process serves; None before it runs."""
        self.ready = asyncio.Event()
        """Set while a process polls."""
        self.failed = asyncio.Event()
        """Set when the first process ended before it polled."""
        self._environment = environment
        self._say = say
        self._print_line = print_line
        self._kill_after = kill_after
        self._waits_for_change = waits_for_change
        self._changed = asyncio.Event()
        self._files: list[Path] = []
        self._alive: dict[Child, asyncio.Task[None]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._signals_sent = 0

    def change(self, files: Sequence[Path]) -> None:
        """Restart it, because these files (relative to its source) have changed."""
        self._files = sorted({*self._files, *files})
        self._changed.set()

    async def run(self, launcher: Callable[[], Launcher]) -> None:
        """Keep it running.

        Args:
            launcher: Returns what starts processes at this moment.
        """
        async with health_address() as health:
            self.health_port = health.port
            await self._run(launcher, health)

    async def _run(self, launcher: Callable[[], Launcher], health: HealthAddress) -> None:
        current: Child | None = None
        backoff = _BACKOFF_INITIAL
        reason = "started"
        while True:
            self._changed.clear()
            files, self._files = self._files, []
            reason = _describe(files) if files else reason
            began = time.monotonic()
            started = await self._start(launcher(), current, health)
            if started is not None:
                if reason:
                    verb = "" if reason == "started" else " → restarted"
                    self._say(f"↻ {self.name}: {reason}{verb} in {time.monotonic() - began:.1f} s")
                self._retire(current)
                current, backoff = started, _BACKOFF_INITIAL
            if current is not None:
                await _first(asyncio.shield(current.exited), self._changed.wait())
                if current.exited.done() and not self._changed.is_set():
                    self.ready.clear()
                    reason = f"ended with status {current.exited.result()}"
                    self._say(
                        f"✗ {self.name}: {reason}; restarting in {backoff.total_seconds():g} s"
                    )
                    current = None
            elif not self._changed.is_set() and self._needs_change():
                # Or a server or database that is not there yet: the exit code is the same.
                backoff = _RETRY_INTERVAL
                self._say(
                    f"✗ {self.name}: does not start; trying again when its code changes, "
                    f"or in {backoff.total_seconds():g} s"
                )
            if current is None and not self._changed.is_set():
                await _first(self._changed.wait(), asyncio.sleep(backoff.total_seconds()))
                backoff = min(backoff * 2, _BACKOFF_MAXIMUM)

    def _needs_change(self) -> bool:
        return self._waits_for_change and self._last_code == ExitCode.STARTUP

    async def _start(
        self, launcher: Launcher, current: Child | None, health: HealthAddress
    ) -> Child | None:
        """Start a process; returns it when it polls, None when it ended or the code changed again."""
        with ExitStack() as reservation:
            port = reservation.enter_context(reserved_port())
            environment = {**self._environment, "FLEET_HEALTH_PORT": str(port)}
            child = await launcher.start(["worker", self.name], environment)
            held = reservation.pop_all()
        self._alive[child] = asyncio.create_task(self._follow(child, held))
        if self._signals_sent:
            child.send_signal(signal.SIGTERM)
        await _first(asyncio.shield(child.exited), self._changed.wait(), _until_started(port))
        if child.exited.done():
            self._last_code = child.exited.result()
            self.failed.set()
            if current is not None:
                self._say(
                    f"✗ {self.name}: the new code does not start (status {self._last_code}); "
                    "the old code keeps running"
                )
            return None
        if self._changed.is_set():
            child.send_signal(signal.SIGKILL)
            return None
        health.target = port
        self.ready.set()
        return child

    def _retire(self, child: Child | None) -> None:
        if child is not None:
            child.send_signal(signal.SIGTERM)
            self._keep(self._kill_late(child))

    async def _kill_late(self, child: Child) -> None:
        await asyncio.wait([child.exited], timeout=self._kill_after.total_seconds())
        if not child.exited.done():
            limit = self._kill_after.total_seconds()
            self._say(
                f"✗ {self.name}: process {child.pid} did not drain within {limit:g} s; killing it"
            )
            child.send_signal(signal.SIGKILL)

    async def _follow(self, child: Child, reservation: ExitStack) -> None:
        with reservation:
            while line := await _read_line(child.output):
                self._print_line(line)
            await asyncio.wait([child.exited])
        del self._alive[child]

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def stop(self) -> None:
        """Tell all processes to drain; a second call shortens that, a third kills them."""
        self._signals_sent += 1
        number = signal.SIGTERM if self._signals_sent < 3 else signal.SIGKILL
        for child in self._alive:
            child.send_signal(number)
            if self._signals_sent == 1:
                self._keep(self._kill_late(child))

    async def stopped(self) -> list[int]:
        """Wait until all processes have ended; returns their exit codes."""
        children = list(self._alive)
        await asyncio.gather(*self._alive.values())
        return [child.exited.result() for child in children]


def _describe(files: Sequence[Path]) -> str:
    named = ", ".join(str(file) for file in files[:_FILES_NAMED])
    more = ", …" if len(files) > _FILES_NAMED else ""
    return f"{len(files)} {'file' if len(files) == 1 else 'files'} changed ({named}{more})"


async def _first(*things: Any) -> None:
    """Wait for the first of several; the others are cancelled."""
    tasks = [asyncio.ensure_future(thing) for thing in things]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _read_line(output: asyncio.StreamReader) -> str:
    """Return the next line, also when it is an empty one; the empty text at the end."""
    try:
        return (await output.readline()).decode(errors="replace")
    except ValueError:
        return "(a line of more than 1 MiB was left out)\n"


async def _until_started(port: int) -> None:
    """Wait until a worker's health server says that the server sees it poll."""
    # Only the worker knows, and it tells only who asks.
    while not await _is_started(port):  # noqa: ASYNC110
        await asyncio.sleep(_PROBE_INTERVAL.total_seconds())


async def _is_started(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        writer.write(b"GET /startupz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        status = await reader.readline()
    except OSError:
        return False
    finally:
        writer.close()
    return b" 200 " in status
