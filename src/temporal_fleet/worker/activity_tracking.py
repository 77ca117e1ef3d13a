"""Knows every running activity: for log context, for metrics, and to cancel all of them.

It wraps each activity once and does little, because it is on the path of every one of them.
Cancelling is the SDK's own, so shields, ``activity.is_cancelled()`` and
``no_thread_cancel_exception`` keep their meaning.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import structlog
from temporalio import activity
from temporalio.exceptions import CancelledError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor
from typing_extensions import override

from temporal_fleet.execution import PoolClosedError, ThreadPool
from temporal_fleet.log_context import activity_ids
from temporal_fleet.sdk_internals import CompleteAsyncError, running_attempt
from temporal_fleet.worker.failures import reportable
from temporal_fleet.worker.local_activities import LocalRetries, stopped

Outcome = Literal["completed", "failed", "canceled", "will_complete_async"]
"""How an attempt ended. ``canceled`` covers requests of the server and of this worker alike."""

log = structlog.get_logger(__name__)


class ActivityObserver(Protocol):
    """Is told about every attempt, on the event loop; must be quick and must not raise."""

    def on_started(self, activity_type: str) -> None:
        """Take note that an attempt began."""

    def on_finished(self, activity_type: str, outcome: Outcome, seconds: float) -> None:
        """Take note that an attempt ended, and after how many seconds."""


@dataclass(frozen=True, eq=False, slots=True)
class RunningActivity:
    """One attempt of an activity that runs in this worker."""

    activity_type: str
    """Activity type."""
    activity_id: str
    """Activity ID."""
    workflow_id: str | None
    """Workflow ID; None for a standalone activity."""
    workflow_run_id: str | None
    """Run ID of the workflow; None for a standalone activity."""
    workflow_type: str | None
    """Workflow type; None for a standalone activity."""
    attempt: int
    """Number of the attempt, from 1."""
    started: float
    """When it began, on the clock of ``time.monotonic()``, in seconds."""
    model: Literal["async", "thread", "process"]
    """Where it runs: event loop, thread pool or process pool."""
    is_local: bool = False
    """Whether it is a local activity, which belongs to a workflow task of this worker."""

    @override
    def __str__(self) -> str:
        """Return what an operator needs to find it, in one line."""
        owner = f"workflow {self.workflow_id}" if self.workflow_id else "standalone"
        model = f"local, {self.model}" if self.is_local else self.model
        return (
            f"{self.activity_type} (ID {self.activity_id}, {owner}, attempt {self.attempt}, "
            f"{model}, running for {time.monotonic() - self.started:.1f} s)"
        )


class ActivityTracker(Interceptor):
    """Worker interceptor that keeps the list of running activities; one per worker process."""

    def __init__(self, observer: ActivityObserver | None = None) -> None:
        """Make a tracker.

        Args:
            observer: Told about the start and end of every attempt, for metrics. None = nobody.
        """
        self._observer = observer
        self._keys = itertools.count()
        # Changed on the event loop only; copies of it are taken in other threads.
        self._tracked: dict[int, _Tracked] = {}
        self.local_retries = LocalRetries()
        """What becomes of local activities when the worker stops."""

    @override
    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _TrackingInbound(next, self)

    def running(self) -> list[RunningActivity]:
        """Return the activities that run now, oldest first; safe in any thread."""
        return [tracked.activity for tracked in list(self._tracked.values())]

    def describe_running(self) -> list[str]:
        """Return one line for each activity that runs now, oldest first; safe in any thread."""
        return [str(running) for running in self.running()]

    def cancel_all(self, reason: str) -> list[RunningActivity]:
        """Cancel every running activity now; call it on the event loop.

        Each is cancelled as if the server had asked for it: ``asyncio.CancelledError`` in tasks,
        the SDK's ``CancelledError`` in threads, the end of the child for CPU-bound ones. If it ends
        by that, its attempt fails with the retryable error type ``WorkerShutdown``, so the server
        gives it to another worker at once. An activity that finishes nevertheless is completed.

        Args:
            reason: Why, for the error and the log.

        Returns:
            The activities that were told.
        """
        told = []
        for tracked in list(self._tracked.values()):
            log.warning("activity cancelled", activity=str(tracked.activity), reason=reason)
            tracked.cancel(reason)
            told.append(tracked.activity)
        return told

    def cancel_local(self, reason: str) -> None:
        """Cancel the local activities that run now, and refuse those still to come.

        The SDK cancels other activities when its grace period is over, and never these. Call it on
        the event loop.

        Args:
            reason: Why, for the error.
        """
        self.local_retries.refuse(reason)
        for tracked in list(self._tracked.values()):
            if tracked.activity.is_local and tracked.reason is None:
                tracked.cancel(reason)

    def begin(self, tracked: _Tracked) -> int:
        """Add an attempt; returns the key under which :meth:`end` takes it away."""
        key = next(self._keys)
        self._tracked[key] = tracked
        if self._observer is not None:
            self._observer.on_started(tracked.activity.activity_type)
        return key

    def end(self, key: int, outcome: Outcome) -> None:
        """Take an attempt away that ended."""
        running = self._tracked.pop(key).activity
        if self._observer is not None:
            seconds = time.monotonic() - running.started
            self._observer.on_finished(running.activity_type, outcome, seconds)


class _TrackingInbound(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, tracker: ActivityTracker) -> None:
        super().__init__(next)
        self._tracker = tracker

    @override
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        tracked = _Tracked(_describe(input), running_attempt(self.next))
        _set_log_ids(tracked.activity)
        if tracked.activity.model == "thread":
            input.fn = functools.partial(_run_unless_cancelled, input.fn)
        outcome: Outcome = "failed"
        retries = self._tracker.local_retries
        key = self._tracker.begin(tracked)
        try:
            if tracked.activity.is_local:
                retries.begin(tracked.activity.workflow_run_id)
            result = await self._execute(input)
            outcome = "completed"
            return result
        except (asyncio.CancelledError, CancelledError) as error:
            outcome = "canceled"
            if tracked.reason is None:
                raise
            if isinstance(error, asyncio.CancelledError):
                tracked.task.uncancel()  # this task goes on: it reports the failure
            raise stopped(tracked.reason, is_local=tracked.activity.is_local) from None
        except CompleteAsyncError:
            outcome = "will_complete_async"
            raise
        except Exception as error:
            failure = reportable(error, activity.payload_converter().to_payloads)
            if tracked.activity.is_local:
                failure = retries.failure(failure, activity.info())
            if failure is error:
                raise
            raise failure from failure.__cause__
        finally:
            self._tracker.end(key, outcome)

    async def _execute(self, input: ExecuteActivityInput) -> Any:
        if not isinstance(input.executor, ThreadPool):
            return await self.next.execute_activity(input)
        try:
            async with input.executor.free_thread():
                return await self.next.execute_activity(input)
        except PoolClosedError as error:
            raise stopped(str(error), is_local=activity.info().is_local) from None


class _Tracked:
    """A running attempt with what it takes to cancel it."""

    __slots__ = ("_sdk", "activity", "reason", "task")

    def __init__(self, running: RunningActivity, sdk: Any) -> None:
        task = asyncio.current_task()
        assert task is not None, "the SDK runs each activity in a task"
        self.activity = running
        self.task = task
        self.reason: str | None = None
        self._sdk = sdk

    def cancel(self, reason: str) -> None:
        if self._sdk is None:
            self._cancel_without_sdk(reason)
            return
        requested = self._sdk.cancelled_by_request
        if not requested:  # otherwise the server waits for "cancelled", and gets it
            self.reason = reason
            self._sdk.cancellation_details.details = activity.ActivityCancellationDetails(
                worker_shutdown=True
            )
        self._sdk.cancel(cancelled_by_request=requested)

    def _cancel_without_sdk(self, reason: str) -> None:
        if self.activity.model == "thread":
            log.error("activity in a thread cannot be cancelled", activity=str(self.activity))
            return
        self.reason = reason
        self.task.cancel()


def _run_unless_cancelled(function: Callable[..., Any], *args: Any) -> Any:
    # The SDK interrupts a thread only while it runs the activity. One that waited for a thread when it
    # was cancelled would begin now, and keep a stopping worker from its end.
    if activity.is_cancelled():
        raise CancelledError("Cancelled before a thread was free")
    return function(*args)


def _describe(input: ExecuteActivityInput) -> RunningActivity:
    info = activity.info()
    if input.executor is not None:
        model: Literal["async", "thread", "process"] = "thread"
    else:
        is_cpu_bound = getattr(input.fn, "__temporal_fleet_cpu_bound__", False)
        model = "process" if is_cpu_bound else "async"
    return RunningActivity(
        activity_type=info.activity_type,
        activity_id=info.activity_id,
        workflow_id=info.workflow_id,
        workflow_run_id=info.workflow_run_id,
        workflow_type=info.workflow_type,
        attempt=info.attempt,
        started=time.monotonic(),
        model=model,
        is_local=info.is_local,
    )


def _set_log_ids(running: RunningActivity) -> None:
    # Never taken back: each activity has a task of its own, whose context ends with it. The SDK copies
    # that context into the thread of a plain def activity.
    fields: dict[str, str | int | None] = {
        "activity_type": running.activity_type,
        "activity_id": running.activity_id,
        "workflow_id": running.workflow_id,
        "workflow_run_id": running.workflow_run_id,
        "workflow_type": running.workflow_type,
        "attempt": running.attempt,
    }
    activity_ids.set({name: value for name, value in fields.items() if value is not None})
