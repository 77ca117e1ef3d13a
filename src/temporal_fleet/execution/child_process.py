"""One process of the pool as its parent sees it: start it, ask it, kill it, know when it ended."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import sys
from contextlib import suppress
from datetime import timedelta
from typing import Protocol

from temporal_fleet.errors import FleetError
from temporal_fleet.execution import child as child_program
from temporal_fleet.execution.child import HEADER, Answer, Notice

_LATE_ANSWER = timedelta(seconds=0.5)  # what a child sent before it died is readable at once
_END_TIMEOUT = timedelta(seconds=1)  # from the end of the connection to that of the process
_MEANWHILE = ("heartbeat", "asks", "metrics")
_BUFFER = 1 << 20  # bytes; answers are at most a few MiB, Temporal refuses more


class Listener(Protocol):
    """Hears what a function has to say while it runs."""

    def heartbeat(self, details: bytes) -> None:
        """Hear a heartbeat of the function; *details* is the pickle of a tuple."""

    def measured(self, updates: bytes) -> None:
        """Hear what the function measured; *updates* is the pickle of pairs of instrument and value."""


class ProcessDiedError(FleetError):
    """A child process ended while it ran a call.

    Attributes:
        pid: Its process ID.
        exit_status: Its exit code; negative for the number of the signal that killed it. None when it had
            closed its connection to the worker, lived on, and was stopped.
    """

    def __init__(self, pid: int, exit_status: int | None) -> None:
        self.pid = pid
        self.exit_status = exit_status
        super().__init__(f"process {pid} {self._end}")

    @property
    def _end(self) -> str:
        if self.exit_status is None:
            return "closed its connection to the worker (a daemon, or closed descriptors?) and was stopped"
        if self.exit_status >= 0:
            return f"ended with exit code {self.exit_status}"
        try:
            name = signal.Signals(-self.exit_status).name
        except ValueError:
            name = f"signal {-self.exit_status}"
        hint = ", often the kernel's answer to a memory limit" if name == "SIGKILL" else ""
        return f"was killed by {name}{hint}"


class ChildProcess:
    """One child process and the connection to it.

    Attributes:
        ready: Whether its setup is done; set by the owner.
        asks: Whether the function of the last call has asked, or heartbeated, so that it can end by itself.
        ended: Done when the process has ended and was reaped; its result is the exit code.
        closed: Done when the connection is closed, too.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._silent = asyncio.Event()
        self._silent.set()
        self.ready = False
        self.asks = False
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.closed = asyncio.create_task(self._watch(), name=f"process-pool-child-{self.pid}")

    @classmethod
    async def launch(cls) -> ChildProcess:
        """Start a process that waits for its setup; it never outlives the calling thread."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, child_program.__file__),
                    *(str(theirs.fileno()), str(os.getpid())),
                    pass_fds=[theirs.fileno()],
                    stdin=asyncio.subprocess.DEVNULL,
                    # A session of its own: Ctrl-C in the terminal does not reach it, and what it
                    # starts itself can be killed with it.
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        try:
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_BUFFER)
        except BaseException:
            # Cancelled by a pool that closes: nobody else knows of this process yet.
            ours.close()
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        return cls(process, reader, writer)

    @property
    def pid(self) -> int:
        """Process ID."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal's number; None while it lives."""
        return self._process.returncode

    async def ask(self, message: bytes, listener: Listener | None = None) -> Answer:
        """Send a message and wait for the answer; the child is of no use after any error.

        Args:
            message: Pickle of a setup or a call.
            listener: Told what comes before the answer; None = nobody.
        """
        self._silent.clear()
        self.asks = False
        try:
            self._write(message)
            await self._writer.drain()
            while (answer := await self._read())["kind"] in _MEANWHILE:
                self._meanwhile(answer, listener)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise ProcessDiedError(self.pid, await self._status_after_silence()) from None
        finally:
            self._silent.set()
        return answer

    def _meanwhile(self, answer: Answer, listener: Listener | None) -> None:
        self.asks |= answer["kind"] != "metrics"
        if listener is None or answer["kind"] == "asks":
            return
        hear = listener.heartbeat if answer["kind"] == "heartbeat" else listener.measured
        hear(answer["value"] or b"")

    def tell(self, notice: Notice) -> None:
        """Tell the function that runs now what it may want to know, if it asks."""
        self._write(pickle.dumps(notice))

    def _write(self, message: bytes) -> None:
        self._writer.write(HEADER.pack(len(message)))
        self._writer.write(message)

    async def _read(self) -> Answer:
        (size,) = HEADER.unpack(await self._reader.readexactly(HEADER.size))
        answer: Answer = pickle.loads(await self._reader.readexactly(size))  # noqa: S301 - our own child
        return answer

    async def _status_after_silence(self) -> int | None:
        # The connection ends a moment before the process does; it may also have closed it and live on.
        await asyncio.wait([self.ended], timeout=_END_TIMEOUT.total_seconds())
        if self.ended.done():
            return self.ended.result()
        self.kill()
        await asyncio.shield(self.ended)
        return None

    def kill(self) -> None:
        """Kill the process with all that it started, unless it has ended."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def release(self) -> None:
        """Let an idle process end by itself."""
        self._writer.close()

    async def _watch(self) -> None:
        self.ended.set_result(await self._process.wait())
        # What it started must not compute on without it. Its number cannot be anybody else's yet.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        # Let ask() read what was sent before the end, but never wait for the connection's end: a
        # program that the dead process started may hold it open.
        with suppress(TimeoutError):
            async with asyncio.timeout(_LATE_ANSWER.total_seconds()):
                await self._silent.wait()
        self._writer.transport.abort()
        with suppress(ConnectionError):
            await self._writer.wait_closed()
