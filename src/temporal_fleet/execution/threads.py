"""The thread pool of plain ``def`` activities: an executor that also knows who does what."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from temporalio import activity
from typing_extensions import override

P = ParamSpec("P")
T = TypeVar("T")


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
        super().__init__(max_workers=size, initializer=self._name_thread)

    @property
    def size(self) -> int:
        """Greatest number of threads."""
        return self._size

    @property
    def in_use(self) -> int:
        """Number of threads that run something now."""
        return len(self._running)

    def running(self) -> dict[int, RunningCall]:
        """Return what each busy thread does, by ``threading.get_ident()``; safe in any thread."""
        return self._running.copy()

    @override
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return super().submit(self._run, _describe(fn, args), fn, *args, **kwargs)

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
