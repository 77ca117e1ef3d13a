"""The thread pool of plain ``def`` activities: an executor that also knows who does what."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from temporalio import activity
from typing_extensions import override

from temporal_fleet.execution.processes import PoolClosedError

P = ParamSpec("P")
T = TypeVar("T")

_NO_THREAD = "no thread was free to begin the call"


@dataclass(frozen=True)
class RunningCall:
    """What one thread of the pool does at this moment."""

    thread_name: str
    """Name of the thread, ``activity-thread-N``."""
    call: str
    """The activity with its IDs; for any other call the function's qualified name."""
    started: float
    """When it began, on the clock of ``time.monotonic()``, in seconds."""


class ThreadPool(ThreadPoolExecutor):
    """Executor for activities written as ``def``; give it to the SDK as ``activity_executor``.

    It stays a ``ThreadPoolExecutor`` because only for those the SDK raises cancellation in the
    thread, offers ``activity.metric_meter()`` and hands over context variables.

    An executor's own queue cannot be given back when the worker stops, so activities wait for a thread
    with :meth:`free_thread`, on the event loop, before they are submitted.
    """

    def __init__(self, size: int) -> None:
        """Prepare a pool; threads are started when they are first needed.

        Args:
            size: Greatest number of threads.
        """
        self._size = size
        self._numbers = itertools.count()
        # Written by each thread at its own key only, so single operations on it need no lock.
        self._running: dict[int, RunningCall] = {}
        # Of the event loop alone.
        self._free = size
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._draining = False
        super().__init__(max_workers=size, initializer=self._name_thread)

    @property
    def size(self) -> int:
        """Greatest number of threads."""
        return self._size

    @property
    def in_use(self) -> int:
        """Number of threads that run something now."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Number of activities that wait for a free thread now."""
        return len(self._waiting)

    @asynccontextmanager
    async def free_thread(self) -> AsyncIterator[None]:
        """Wait until a thread is free, and keep it for the block; first come, first served.

        Raises:
            PoolClosedError: The worker stops before one is free.
        """
        if self._free:
            self._free -= 1
        elif self._draining:
            raise PoolClosedError(_NO_THREAD)
        else:
            await self._wait()
        try:
            yield
        finally:
            self._pass_on()

    def drain(self) -> None:
        """Fail those that wait for a thread, now and from now on; those that run go on. Idempotent."""
        self._draining = True
        for turn in self._waiting:
            if not turn.done():
                turn.set_exception(PoolClosedError(_NO_THREAD))

    def running(self) -> dict[int, RunningCall]:
        """Return what each busy thread does, by ``threading.get_ident()``; safe in any thread."""
        return self._running.copy()

    @override
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return super().submit(self._run, _describe(fn, args), fn, *args, **kwargs)

    async def _wait(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_on()  # it was its turn at the same moment
            raise
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def _pass_on(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _name_thread(self) -> None:
        threading.current_thread().name = f"activity-thread-{next(self._numbers)}"

    def _run(self, call: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        ident = threading.get_ident()
        self._running[ident] = RunningCall(threading.current_thread().name, call, time.monotonic())
        try:
            return fn(*args, **kwargs)
        finally:
            self._running.pop(ident, None)


def _describe(fn: Callable[..., Any], args: tuple[Any, ...]) -> str:
    # The SDK submits its own wrapper and hands the activity's Info over as an argument.
    for argument in args:
        if isinstance(argument, activity.Info):
            return (
                f"activity {argument.activity_type!r} (ID {argument.activity_id}, "
                f"workflow {argument.workflow_id}, attempt {argument.attempt})"
            )
    return str(getattr(fn, "__qualname__", fn))
