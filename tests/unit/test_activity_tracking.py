"""What the tracker knows and tells about activities; with a server see the integration tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs
from temporalio import activity
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput
from typing_extensions import override

from temporal_fleet import cpu_bound
from temporal_fleet.execution import ThreadPool
from temporal_fleet.log_context import activity_ids
from temporal_fleet.worker.activity_tracking import ActivityTracker, Outcome


class Recorder:
    """Observer that keeps what it is told."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.finished: list[tuple[str, Outcome]] = []
        self.seconds: list[float] = []

    def on_started(self, activity_type: str) -> None:
        self.started.append(activity_type)

    def on_finished(self, activity_type: str, outcome: Outcome, seconds: float) -> None:
        self.finished.append((activity_type, outcome))
        self.seconds.append(seconds)


class Innermost(ActivityInboundInterceptor):
    """End of a chain of interceptors that runs the activity, without the SDK's worker."""

    def __init__(self) -> None:
        """Leave the base class out: nothing comes next."""

    @override
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        return await input.fn(*input.args)


async def run_tracked(
    tracker: ActivityTracker,
    function: Callable[[], Awaitable[Any]],
    *,
    threads: ThreadPool | None = None,
    activity_type: str = "nap",
) -> Any:
    """Run a function as an activity that the tracker sees."""
    environment = ActivityEnvironment()
    environment.info = replace(
        environment.info, activity_type=activity_type, activity_id="17", attempt=3
    )
    inbound = tracker.intercept_activity(Innermost())
    call = ExecuteActivityInput(fn=function, args=[], executor=threads, headers={})
    return await environment.run(inbound.execute_activity, call)


async def returns() -> str:
    """Complete."""
    return "done"


async def raises() -> None:
    """Fail."""
    raise ValueError("no")


async def completes_elsewhere() -> None:
    """Leave the completion to somebody else."""
    activity.raise_complete_async()


async def is_cancelled() -> None:
    """End as an activity in a thread does that was cancelled."""
    raise CancelledError("by the server")


@cpu_bound
def on_pool() -> None:
    """Never called; only its mark counts."""


@pytest.mark.parametrize(
    ("function", "outcome"),
    [
        (returns, "completed"),
        (raises, "failed"),
        (completes_elsewhere, "will_complete_async"),
        (is_cancelled, "canceled"),
    ],
)
async def test_observer_learns_the_outcome(
    function: Callable[[], Awaitable[Any]], outcome: Outcome
) -> None:
    """The observer is told of each attempt's start and of how it ended."""
    recorder = Recorder()
    tracker = ActivityTracker(recorder)
    await asyncio.gather(run_tracked(tracker, function), return_exceptions=True)

    assert recorder.started == ["nap"]
    assert recorder.finished == [("nap", outcome)]
    assert 0 <= recorder.seconds[0] < 10
    assert tracker.running() == []


async def test_result_and_errors_pass_unchanged() -> None:
    """Without a cancellation of its own the tracker changes neither results nor errors."""
    tracker = ActivityTracker()

    assert await run_tracked(tracker, returns) == "done"
    with pytest.raises(ValueError, match=r"^no$"):
        await run_tracked(tracker, raises)
    with pytest.raises(CancelledError, match="by the server"):
        await run_tracked(tracker, is_cancelled)


async def test_running_activity_is_described() -> None:
    """A running activity is listed with type, IDs, attempt and model, in one readable line."""
    tracker = ActivityTracker()
    seen: list[Any] = []

    async def look() -> None:
        seen.extend(tracker.running() + tracker.describe_running())

    await run_tracked(tracker, look)

    running, line = seen
    assert (running.activity_type, running.activity_id, running.attempt) == ("nap", "17", 3)
    assert (running.workflow_id, running.workflow_run_id) == ("test", "test-run")
    assert running.model == "async"
    assert line.startswith("nap (ID 17, workflow test, attempt 3, async, running for 0.")


async def test_model_follows_from_the_function() -> None:
    """Thread and process activities are told apart from those of the event loop."""
    tracker = ActivityTracker()
    models: list[str] = []

    async def look() -> None:
        models.extend(running.model for running in tracker.running())

    with ThreadPool(1) as threads:
        await run_tracked(tracker, look, threads=threads)
    look.__temporal_fleet_cpu_bound__ = on_pool.__temporal_fleet_cpu_bound__  # type: ignore[attr-defined]
    await run_tracked(tracker, look)

    assert models == ["thread", "process"]


async def test_log_context_is_bound_during_the_activity() -> None:
    """Log lines of an activity carry its IDs; outside of it nothing is bound."""

    async def read() -> dict[str, Any]:
        return dict(activity_ids.get())

    task = asyncio.create_task(run_tracked(ActivityTracker(), read))

    assert await task == {
        "activity_type": "nap",
        "activity_id": "17",
        "workflow_id": "test",
        "workflow_run_id": "test-run",
        "workflow_type": "test",
        "attempt": 3,
    }
    assert activity_ids.get() == {}


async def test_cancel_all_cancels_tasks_without_the_sdks_record() -> None:
    """Where the SDK's record is not found, an async activity is cancelled all the same."""
    recorder = Recorder()
    tracker = ActivityTracker(recorder)
    task = asyncio.create_task(run_tracked(tracker, asyncio.Event().wait))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    [told] = tracker.cancel_all("SIGTERM, a second time")
    with pytest.raises(ApplicationError, match="SIGTERM, a second time") as caught:
        await task

    assert told.activity_type == "nap"
    assert (caught.value.type, caught.value.non_retryable) == ("WorkerShutdown", False)
    assert recorder.finished == [("nap", "canceled")]
    assert task.cancelling() == 0


async def test_cancel_all_names_a_thread_that_it_cannot_reach() -> None:
    """A thread that cannot be told is logged as an error, and its activity goes on."""
    tracker = ActivityTracker()

    async def cancel() -> str:
        tracker.cancel_all("test")
        return "done"

    with ThreadPool(1) as threads, capture_logs() as lines:
        assert await run_tracked(tracker, cancel, threads=threads) == "done"

    [line] = [line for line in lines if line["log_level"] == "error"]
    assert line["activity"].startswith("nap (ID 17")
