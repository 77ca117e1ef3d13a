"""Starts ``fleet`` processes for the development server and hears when they end.

On Linux they are forks of a template that has imported everything (see
:mod:`temporal_fleet.dev.template`); elsewhere, and when a template is unfit, they are new processes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Protocol

from temporal_fleet.dev.server import tied_to_parent
from temporal_fleet.errors import FleetError

log = logging.getLogger(__name__)

_TEMPLATE = "the process that workers are forked from"
_READY = "ready"
_CLOSE_TIMEOUT = timedelta(seconds=5)
_LONGEST_MESSAGE = 1 << 16

_NEW_PROCESS = (
    "import sys; from temporal_fleet.dev.template import run_fleet; run_fleet(sys.argv[1:])"
)

Environment = Mapping[str, str | None]
"""What differs from our own environment; None removes a variable."""


class Child:
    """One running ``fleet`` process."""

    def __init__(self, pid: int, output: asyncio.StreamReader) -> None:
        self.pid = pid
        self.output = output
        """What it writes to standard output and standard error."""
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Its exit code; negative when a signal ended it."""

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if not self.exited.done():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Launcher(Protocol):
    """Starts ``fleet`` processes."""

    async def start(self, arguments: Sequence[str], environment: Environment) -> Child:
        """Start a process that ends together with this one."""

    def retire(self) -> None:
        """Let go of what starting needs as soon as the last process has ended."""

    async def close(self) -> None:
        """Let go of what starting needs; processes that still run are ended."""


async def create_launcher(modules: Sequence[str]) -> Launcher:
    """Return the fastest launcher that works here.

    Args:
        modules: What most processes import, beside what every worker does.
    """
    if sys.platform != "linux":
        return _NewProcesses()
    template = _Template()
    unfit = await template.open(modules)
    if unfit and modules:
        log.info("no fork of a process that imported the workloads' dependencies: %s", unfit)
        await template.close()
        return await create_launcher(())
    if unfit:
        log.info("workers are started as new processes: %s", unfit)
        await template.close()
        return _NewProcesses()
    return template


async def _reader(descriptor: int) -> asyncio.StreamReader:
    """Return a reader for the reading end of a pipe, which it closes at its end."""
    reader = asyncio.StreamReader(limit=1 << 20)
    pipe = os.fdopen(descriptor, "rb", buffering=0)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    return reader


class _Template:
    """Asks a template for forks."""

    def __init__(self) -> None:
        self._children: dict[int, Child] = {}
        self._starting = asyncio.Lock()
        self._output: asyncio.StreamReader | None = None
        self._replies: asyncio.Queue[Child | str] = asyncio.Queue()
        self._retired = False

    async def open(self, modules: Sequence[str]) -> str | None:
        """Start the template; returns why it cannot be used, None when it can."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        command = [sys.executable, "-m", "temporal_fleet.dev.template", str(theirs.fileno())]
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                *modules,
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                # Ctrl-C in the terminal is for us: we tell the workers when to stop.
                start_new_session=True,
            )
        asyncio.get_running_loop().add_reader(self._control, self._receive)
        reply = await self._replies.get()
        return None if reply == _READY else str(reply)

    async def start(self, arguments: Sequence[str], environment: Environment) -> Child:
        request = {"arguments": list(arguments), "environment": dict(environment)}
        reading, writing = os.pipe()
        async with self._starting:
            self._output = await _reader(reading)
            try:
                socket.send_fds(self._control, [json.dumps(request).encode()], [writing])
            except OSError as error:
                raise FleetError(f"{_TEMPLATE} has ended: {error}") from error
            finally:
                os.close(writing)
            reply = await self._replies.get()
        if not isinstance(reply, Child):
            raise FleetError(f"{_TEMPLATE} could not start one: {reply}")
        return reply

    def retire(self) -> None:
        self._retired = True
        if not self._children:
            self._let_go()

    async def close(self) -> None:
        self._let_go()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT.total_seconds()):
                await self._process.wait()
        except TimeoutError:
            limit = _CLOSE_TIMEOUT.total_seconds()
            log.warning("%s did not end within %g s; killing it", _TEMPLATE, limit)
            self._process.kill()
            await self._process.wait()

    def _let_go(self) -> None:
        if self._control.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()

    def _receive(self) -> None:
        while self._control.fileno() >= 0:
            try:
                data = self._control.recv(_LONGEST_MESSAGE)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if data:
                self._handle(json.loads(data))
            else:
                self._let_go()
                self._lose_all()

    def _handle(self, message: dict[str, Any]) -> None:
        if "started" in message:
            assert self._output is not None
            child = Child(message["started"], self._output)
            # Its end may be in the very next message, before whoever asked for it runs again.
            self._children[child.pid] = child
            self._replies.put_nowait(child)
        elif "exited" in message:
            child = self._children.pop(message["exited"])
            child.exited.set_result(message["code"])
            if self._retired and not self._children:
                self._let_go()
        else:
            self._replies.put_nowait(message.get("unfit", _READY))

    def _lose_all(self) -> None:
        self._replies.put_nowait("it has ended")
        for child in self._children.values():
            child.exited.set_result(-signal.SIGKILL)
        self._children.clear()


class _NewProcesses:
    """Starts a new interpreter for each process."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Task[None]] = set()

    async def start(self, arguments: Sequence[str], environment: Environment) -> Child:
        merged = {**os.environ, **{k: v for k, v in environment.items() if v is not None}}
        for name in [name for name, value in environment.items() if value is None]:
            merged.pop(name, None)
        command = [sys.executable, "-B", "-c", _NEW_PROCESS, *arguments]
        process = await asyncio.create_subprocess_exec(
            *tied_to_parent(command, signal.SIGTERM),
            env=merged,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=1 << 20,
        )
        assert process.stdout
        child = Child(process.pid, process.stdout)

        async def wait() -> None:
            child.exited.set_result(await process.wait())

        waiting = asyncio.create_task(wait())
        self._waiting.add(waiting)
        waiting.add_done_callback(self._waiting.discard)
        return child

    def retire(self) -> None:
        """Nothing is shared by its processes."""

    async def close(self) -> None:
        """Nothing is shared by its processes."""
