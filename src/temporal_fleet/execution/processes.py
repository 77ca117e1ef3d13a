"""The process pool of CPU-bound activities: warm children, each on a connection of its own.

Children share nothing with each other, neither a pipe nor a lock. So whenever one dies (in the
middle of its answer, while idle, by the kernel's out-of-memory killer) exactly the call that it ran
is lost, and it is replaced. A call is stopped by killing its child; nothing else stops a
computation. Everything waits for events: an idle pool uses no CPU.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

import structlog

from temporal_fleet.errors import FleetError, WorkloadImportError
from temporal_fleet.execution.child import Answer, Call, Measured, Setup
from temporal_fleet.execution.child_process import ChildProcess, Listener, ProcessDiedError
from temporal_fleet.execution.crossing import call_message, result_of

START_TIMEOUT = timedelta(seconds=60)
"""Longest time until every child is warm. Importing takes about a second; a loaded node may need
many."""
CLOSE_TIMEOUT = timedelta(seconds=2)
"""Longest time that idle children get to end by themselves."""
STOP_GRACE = timedelta(seconds=1)
"""How long a function that asks whether to stop may go on once it has to."""
_KILLED_TIMEOUT = timedelta(seconds=2)  # unless the kernel is stuck, it takes milliseconds
_REPLACEMENT_PAUSES = (0.1, 0.5, 2.0)  # seconds between attempts; the last one repeats

log = structlog.get_logger(__name__)


class PoolClosedError(FleetError):
    """The pool was closed before the call was done."""


class Caller(Listener, Protocol):
    """The activity that calls a function of the pool."""

    @property
    def info(self) -> bytes:
        """Pickle of its ``activity.Info``."""

    def began(self, pid: int) -> None:
        """Hear that the call has begun, in the child with this process ID."""

    def cancellation_details(self) -> bytes:
        """Return the pickle of why it is cancelled, an ``activity.ActivityCancellationDetails`` or None."""


class ProcessPool:
    """Warm child processes that run one call each at a time.

    Belongs to the event loop that started it, whose thread must outlive it: on Linux children die
    with the thread that started them.
    """

    def __init__(
        self,
        size: int,
        *,
        warm_imports: Sequence[str] = (),
        initializer: Callable[[], None] | None = None,
        after_imports: Callable[[], None] | None = None,
        stop_grace: timedelta = STOP_GRACE,
        on_counted: Callable[[list[Measured]], None] | None = None,
    ) -> None:
        """Prepare a pool; :meth:`start` starts it.

        Args:
            size: Number of child processes.
            warm_imports: Modules that every child imports before it counts as started.
            initializer: Called first in every child, for example to configure logging; must be
                picklable. None = nothing.
            after_imports: Called in every child after its imports; must be picklable. None = nothing.
            stop_grace: How long a function that asks whether to stop may go on once it has to.
            on_counted: Told after each call what it counted with ``prometheus_client``. None = nobody.
        """
        self._on_counted = on_counted
        self._size = size
        self._stop_grace = stop_grace
        self._warm_imports = list(warm_imports)
        self._initializer = None if initializer is None else pickle.dumps(initializer)
        self._after_imports = None if after_imports is None else pickle.dumps(after_imports)
        self._children: set[ChildProcess] = set()
        self._busy: set[ChildProcess] = set()
        # The child used last is used next: its caches are warm, and rarely used ones may be swapped
        # out.
        self._idle: asyncio.LifoQueue[ChildProcess | None] = asyncio.LifoQueue()
        self._replacements: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._draining = False
        self._closing = False
        self.restarts = 0
        """Children started in place of one that died or was stopped."""

    @property
    def size(self) -> int:
        """Number of child processes."""
        return self._size

    @property
    def in_use(self) -> int:
        """Number of children that run a call now."""
        return len(self._busy)

    @property
    def waiting(self) -> int:
        """Number of calls that wait for a free child now."""
        return self._waiting

    @property
    def pids(self) -> list[int]:
        """Process IDs of the children that live now, sorted."""
        return sorted(child.pid for child in self._children)

    async def start(self, timeout: timedelta = START_TIMEOUT) -> None:
        """Start all children; returns when every one has imported what it needs.

        Args:
            timeout: Longest time to wait for all of them.

        Raises:
            WorkloadImportError: An import or the initializer failed in a child; with its traceback.
            FleetError: The children took longer than *timeout*.
        """
        began = time.monotonic()
        starts = [asyncio.create_task(self._start_child(timeout)) for _ in range(self._size)]
        try:
            children = await asyncio.gather(*starts)
        except BaseException:
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
            await self.close()
            raise
        for child in children:
            self._idle.put_nowait(child)
        log.info(
            "process pool started",
            processes=self._size,
            seconds=round(time.monotonic() - began, 3),
            imported=self._warm_imports,
        )

    async def run(
        self,
        module: str,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        caller: Caller | None = None,
    ) -> Any:
        """Run a registered CPU-bound function in a child, after waiting for a free one.

        Cancelling this call kills the child, which is the only way to stop a computation. A function that
        asks whether to stop, or heartbeats, has the pool's *stop_grace* to end by itself before that; what it
        then returns or raises is what comes of the call.

        Args:
            module: Module of the function.
            name: Qualified name of the function.
            args: Positional arguments.
            kwargs: Keyword arguments.
            caller: The activity that calls; None when none does.

        Raises:
            ProcessDiedError: The child ended during the call.
            CallNotPossibleError: The function was not found, or something cannot be pickled.
            PoolClosedError: The pool was closed meanwhile.
            ApplicationError: The function raised what cannot be pickled; its type is that class's
                name.
            Exception: What the function raised, with its own class and the child's traceback as
                cause.
        """
        call = call_message(module, name, args, kwargs)
        child = await self._free_child()
        self._busy.add(child)
        if caller is not None:
            caller.began(child.pid)
            call["activity"] = caller.info
        call["worker_shutdown"] = self._draining
        try:
            answer = await self._ask(child, call, caller)
        except BaseException as error:
            child.kill()
            if self._closing and isinstance(error, ProcessDiedError):
                raise PoolClosedError("the process pool was closed during the call") from None
            raise
        finally:
            self._busy.discard(child)
        self._idle.put_nowait(child)
        if self._on_counted is not None:
            self._on_counted(answer["counted"])
        return result_of(answer, f"{module}.{name}")

    async def _ask(self, child: ChildProcess, call: Call, caller: Caller | None) -> Answer:
        # In a task of its own, so that a cancellation does not end it in the middle of a message.
        asking = asyncio.create_task(child.ask(pickle.dumps(call, pickle.HIGHEST_PROTOCOL), caller))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            if caller is None or not child.asks or asking.done():
                raise
            child.tell({"kind": "cancel", "details": caller.cancellation_details()})
            seconds = self._stop_grace.total_seconds()
            done, _ = await asyncio.wait([asking], timeout=seconds)
            if not done:
                log.warning(
                    "stop grace passed, process killed", pid=child.pid, stop_grace_seconds=seconds
                )
                raise
            if asking.exception() is not None:
                raise
            return asking.result()
        finally:
            asking.cancel()

    def drain(self) -> None:
        """Fail calls that wait for a child, now and from now on; those that run are told. Idempotent.

        A stopping worker must not begin a computation that would be killed soon: whoever has a free
        process begins it anew.
        """
        if self._draining:
            return
        self._draining = True
        for _ in range(self._waiting):
            self._idle.put_nowait(None)
        for child in self._busy:
            child.tell({"kind": "worker_shutdown", "details": None})

    async def close(self, timeout: timedelta = CLOSE_TIMEOUT) -> None:
        """Stop all children: busy ones are killed, idle ones have *timeout* to end; idempotent."""
        self._closing = True
        for replacement in self._replacements:
            replacement.cancel()
        if self._replacements:
            await asyncio.wait(self._replacements)
        self._idle.put_nowait(None)
        children = set(self._children)
        for child in children:
            if child in self._busy:
                child.kill()
            else:
                child.release()
        if children:
            _, slow = await asyncio.wait(
                [child.ended for child in children], timeout=timeout.total_seconds()
            )
            await self._kill_slow([child for child in children if child.ended in slow], timeout)
        if self._connections:
            await asyncio.wait(self._connections, timeout=_KILLED_TIMEOUT.total_seconds())

    async def _kill_slow(self, children: Sequence[ChildProcess], timeout: timedelta) -> None:
        if not children:
            return
        pids = [child.pid for child in children]
        log.warning(
            "idle processes did not end, killed", pids=pids, timeout_seconds=timeout.total_seconds()
        )
        for child in children:
            child.kill()
        _, left = await asyncio.wait(
            [child.ended for child in children], timeout=_KILLED_TIMEOUT.total_seconds()
        )
        if left:
            log.error("killed processes are still there, left alone", pids=pids)

    async def _free_child(self) -> ChildProcess:
        while True:
            child = await self._next_idle()
            if child is None:
                if self._closing:
                    self._idle.put_nowait(None)  # for the next one who waits
                    raise PoolClosedError("the process pool is closed")
                raise PoolClosedError("no process was free to begin the call")
            if not child.ended.done():
                return child

    async def _next_idle(self) -> ChildProcess | None:
        if self._draining:
            return None if self._idle.empty() else self._idle.get_nowait()
        self._waiting += 1
        try:
            return await self._idle.get()
        finally:
            self._waiting -= 1

    async def _start_child(self, timeout: timedelta) -> ChildProcess:
        setup: Setup = {
            "import_path": sys.path,
            "initializer": self._initializer,
            "warm_imports": self._warm_imports,
            "after_imports": self._after_imports,
        }
        child = await ChildProcess.launch()
        self._children.add(child)
        child.ended.add_done_callback(lambda _: self._on_end(child))
        self._connections.add(child.closed)
        child.closed.add_done_callback(self._connections.discard)
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                answer = await child.ask(pickle.dumps(setup))
            if answer["kind"] == "failed":
                raise WorkloadImportError(
                    f"a process of the pool {answer['message']}:\n{answer['trace'].rstrip()}"
                )
        except ProcessDiedError as error:
            raise FleetError(
                f"starting the process pool: {error}; see what it wrote above"
            ) from None
        except TimeoutError:
            child.kill()
            raise FleetError(
                f"a process of the pool was not ready after {timeout.total_seconds():g} s. It "
                f"imports {', '.join(self._warm_imports) or 'nothing'}; look for what is slow "
                "at import (python -X importtime), or give the container more CPU."
            ) from None
        except BaseException:
            child.kill()
            raise
        child.ready = True
        return child

    def _on_end(self, child: ChildProcess) -> None:
        self._children.discard(child)
        if self._closing or not child.ready:
            return
        self.restarts += 1
        log.warning(
            "process of the pool ended, replacing it", pid=child.pid, exit_code=child.exit_code
        )
        replacement = asyncio.create_task(self._replace(), name="process-pool-replacement")
        self._replacements.add(replacement)
        replacement.add_done_callback(self._replacements.discard)

    async def _replace(self) -> None:
        for pause in _pauses():
            try:
                child = await self._start_child(START_TIMEOUT)
            except (FleetError, OSError) as error:
                log.warning(
                    "process of the pool cannot be replaced",
                    error=str(error),
                    retry_in_seconds=pause,
                )
                await asyncio.sleep(pause)
            else:
                self._idle.put_nowait(child)
                return


def _pauses() -> Iterator[float]:
    yield from _REPLACEMENT_PAUSES
    while True:
        yield _REPLACEMENT_PAUSES[-1]
