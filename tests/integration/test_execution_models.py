"""Async, thread and process activities in one worker, against a real server."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import cpu_sample
import psutil
import pytest
from temporalio import activity
from temporalio.client import ActivityFailureError, ActivityHandle, Client
from temporalio.common import RetryPolicy
from temporalio.exceptions import CancelledError
from temporalio.runtime import MetricBuffer, Runtime, TelemetryConfig
from temporalio.worker import Worker

from temporal_fleet.execution import ProcessPool, ThreadPool, running_process_pool
from temporal_fleet.log_context import activity_ids
from temporal_fleet.payloads import data_converter
from temporal_fleet.testing import dev_server
from temporal_fleet.worker.activity_tracking import ActivityTracker, Outcome

pytestmark = pytest.mark.integration

TASK_QUEUE = "execution-models"


@activity.defn
async def nap_async(folder: str, seconds: float) -> str:
    """Sleep on the event loop, in steps, with heartbeats."""
    Path(folder, f"computing.{activity.info().attempt}").touch()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await asyncio.sleep(0.01)
        activity.heartbeat()
    return f"attempt {activity.info().attempt}"


@activity.defn
def nap_thread(folder: str, seconds: float) -> str:
    """Sleep in a thread, in steps, with heartbeats."""
    Path(folder, f"computing.{activity.info().attempt}").touch()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)
        activity.heartbeat()
    return f"attempt {activity.info().attempt}"


@activity.defn
async def finish_async(folder: str) -> str:
    """Finish although it is cancelled."""
    Path(folder, "computing.1").touch()
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return describe_cancellation()
    return "not cancelled"


@activity.defn
def finish_thread(folder: str) -> str:
    """Finish although it is cancelled."""
    Path(folder, "computing.1").touch()
    try:
        while True:
            time.sleep(0.01)
    except CancelledError:
        return describe_cancellation()


@activity.defn(no_thread_cancel_exception=True)
def ask_thread(folder: str) -> str:
    """Ask for the cancellation instead of being interrupted."""
    Path(folder, "computing.1").touch()
    activity.wait_for_cancelled_sync(30)
    return describe_cancellation()


@activity.defn
def shield_thread(folder: str) -> str:
    """Write a file that must be written whole, whatever happens."""
    with activity.shield_thread_cancel_exception():
        Path(folder, "computing.1").touch()
        activity.wait_for_cancelled_sync(30)
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            time.sleep(0.01)
        Path(folder, "whole").touch()
    return "never: the cancellation is raised at the end of the shield"


@activity.defn
async def context_async() -> dict[str, Any]:
    """Count in the SDK's metrics and return the log context."""
    activity.metric_meter().create_counter("steps_taken").add(1, {"model": "async"})
    return dict(activity_ids.get())


@activity.defn
def context_thread() -> dict[str, Any]:
    """Count in the SDK's metrics and return the log context."""
    activity.metric_meter().create_counter("steps_taken").add(1, {"model": "thread"})
    return dict(activity_ids.get())


@activity.defn
def brief_thread() -> int:
    """Take a moment in the first attempt; return which thread ran the last one."""
    end = time.monotonic() + (0.02 if activity.info().attempt == 1 else 0)
    while time.monotonic() < end:
        time.sleep(0.0001)
    return threading.get_ident()


@activity.defn
def clean_up_thread(folder: str) -> None:
    """Clean up for very long after a cancellation, until a second one comes."""
    Path(folder, "computing.1").touch()
    try:
        while True:
            time.sleep(0.01)
            activity.heartbeat()
    except CancelledError:
        Path(folder, "cleaning").touch()
        end = time.monotonic() + 30
        while time.monotonic() < end:
            time.sleep(0.01)


def describe_cancellation() -> str:
    """Return what the SDK tells the activity about its cancellation."""
    details = activity.cancellation_details()
    assert details is not None
    return f"cancelled {activity.is_cancelled()}, worker shutdown {details.worker_shutdown}"


ACTIVITIES: list[Callable[..., Any]] = [
    *(nap_async, nap_thread, finish_async, finish_thread, ask_thread, shield_thread),
    *(context_async, context_thread, brief_thread, clean_up_thread),
    *(cpu_sample.compute, cpu_sample.count, cpu_sample.stop_when_asked),
    cpu_sample.context_process,
]
MODELS = [nap_async, nap_thread, cpu_sample.compute]


@dataclass
class Bench:
    """A worker with everything around it; also records what the tracker reports."""

    client: Client
    pool: ProcessPool
    threads: ThreadPool
    tracker: ActivityTracker = field(init=False)
    finished: list[tuple[str, Outcome]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tracker = ActivityTracker(self)

    def on_started(self, activity_type: str) -> None:
        """Ignore starts."""

    def on_finished(self, activity_type: str, outcome: Outcome, seconds: float) -> None:
        """Record an end."""
        self.finished.append((activity_type, outcome))

    async def start(
        self, function: Callable[..., Any], *args: Any, attempts: int = 0, pause: float = 0.1
    ) -> ActivityHandle[Any]:
        """Start an activity with a short heartbeat timeout."""
        return await self.client.start_activity(
            function,
            args=args,
            id=f"{function.__name__}-{uuid.uuid4()}",
            task_queue=TASK_QUEUE,
            start_to_close_timeout=timedelta(seconds=60),
            heartbeat_timeout=timedelta(seconds=1),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(seconds=pause), maximum_attempts=attempts
            ),
        )


@asynccontextmanager
async def working(client: Client, *, threads: int = 4) -> AsyncIterator[Bench]:
    """Run a worker with all three execution models; grace is 0.5 s."""
    with ThreadPool(threads) as thread_pool:
        async with running_process_pool(
            1, ["cpu_sample"], stop_grace=timedelta(seconds=20)
        ) as pool:
            bench = Bench(client, pool, thread_pool)
            async with Worker(
                client,
                task_queue=TASK_QUEUE,
                activities=ACTIVITIES,
                activity_executor=thread_pool,
                interceptors=[bench.tracker],
                graceful_shutdown_timeout=timedelta(seconds=0.5),
                max_heartbeat_throttle_interval=timedelta(seconds=0.2),
            ):
                yield bench


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A client of a dev server of this test alone."""
    async with dev_server() as environment:
        yield environment.client


@pytest.fixture
async def bench(client: Client) -> AsyncIterator[Bench]:
    """A running worker."""
    async with working(client) as running:
        yield running


async def until(condition: Callable[[], Any], *, timeout: float = 20) -> Any:
    """Wait for something in other processes that sends no event."""
    async with asyncio.timeout(timeout):
        while not (value := condition()):
            await asyncio.sleep(0.01)
    return value


async def begun(folder: Path) -> int:
    """Wait until an activity computes; returns its attempt, or its process ID."""
    marks = await until(lambda: list(folder.glob("computing.*")))
    return int(marks[0].suffix[1:])


async def last_failure(handle: ActivityHandle[Any]) -> Any:
    """Wait until an attempt failed and return the failure, while the next attempt is due later."""
    async with asyncio.timeout(20):
        while True:
            info = (await handle.describe(include_last_failure=True)).raw_info
            if info.HasField("last_failure"):
                return info.last_failure
            await asyncio.sleep(0.05)


async def progress(handle: ActivityHandle[Any]) -> Sequence[Any]:
    """Wait until an activity has reported heartbeat details, and return them."""
    async with asyncio.timeout(20):
        while True:
            description = await handle.describe(include_heartbeat_details=True)
            if details := await description.heartbeat_details():
                return details
            await asyncio.sleep(0.05)


async def test_all_models_run_side_by_side(bench: Bench, tmp_path: Path) -> None:
    """Async, thread and process activities run at the same time, each known with its model."""
    for function in MODELS:
        (tmp_path / function.__name__).mkdir()
    handles = [await bench.start(f, str(tmp_path / f.__name__), 1.0) for f in MODELS]
    await until(lambda: len(bench.tracker.running()) == 3)
    models = {running.activity_type: running.model for running in bench.tracker.running()}
    await until(lambda: bench.pool.in_use and bench.threads.in_use)
    [call] = bench.threads.running().values()
    results = await asyncio.gather(*(handle.result() for handle in handles))

    assert models == {"nap_async": "async", "nap_thread": "thread", "compute": "process"}
    assert call.call.startswith("activity 'nap_thread'")
    assert results[:2] == ["attempt 1", "attempt 1"]
    assert results[2] == bench.pool.pids[0]
    assert sorted(bench.finished) == sorted((f.__name__, "completed") for f in MODELS)
    assert bench.tracker.running() == []


@pytest.mark.parametrize("function", [context_async, context_thread, cpu_sample.context_process])
async def test_context_and_metrics_reach_the_activity(
    client: Client, function: Callable[..., Any]
) -> None:
    """In activities of every kind the log context and the SDK's metric meter work."""
    buffer = MetricBuffer(10_000)
    measured = await Client.connect(
        client.service_client.config.target_host,
        runtime=Runtime(telemetry=TelemetryConfig(metrics=buffer)),
        data_converter=data_converter(),
    )
    async with working(measured) as bench:
        context = await (await bench.start(function)).result()
    counted = [
        update.value for update in buffer.retrieve_updates() if update.metric.name == "steps_taken"
    ]

    assert context["activity_type"] == function.__name__
    assert context["activity_id"].startswith(function.__name__)
    assert context["attempt"] == 1
    assert counted == [1]


@pytest.mark.parametrize("function", MODELS)
async def test_cancellation_reaches_every_model(
    bench: Bench, tmp_path: Path, function: Callable[..., Any]
) -> None:
    """A cancellation that a user asks for ends the activity as cancelled, in each model."""
    handle = await bench.start(function, str(tmp_path), 60)
    mark = await begun(tmp_path)
    await handle.cancel()
    with pytest.raises(ActivityFailureError) as caught:
        await handle.result()

    assert isinstance(caught.value.cause, CancelledError)
    assert bench.finished == [(function.__name__, "canceled")]
    if function is cpu_sample.compute:
        await until(lambda: not psutil.pid_exists(mark))


async def test_killed_process_costs_one_attempt(bench: Bench, tmp_path: Path) -> None:
    """When its process is killed, the activity is retried and completes; the worker lives on."""
    handle = await bench.start(cpu_sample.compute, str(tmp_path), 1.5)
    pid = await begun(tmp_path)
    other = await bench.start(nap_async, str(tmp_path), 2)
    os.kill(pid, signal.SIGKILL)

    assert await handle.result() not in (pid, os.getpid())
    assert (await handle.describe()).attempt == 2
    assert await other.result() == "attempt 1"
    assert bench.finished[0] == ("compute", "failed")


async def test_killed_process_is_told_to_the_server(bench: Bench, tmp_path: Path) -> None:
    """The failure of the attempt names activity, process and signal, and is retryable."""
    handle = await bench.start(cpu_sample.compute, str(tmp_path), 60, pause=60)
    pid = await begun(tmp_path)
    os.kill(pid, signal.SIGKILL)
    failure = await last_failure(handle)

    assert failure.application_failure_info.type == "ProcessDied"
    assert failure.application_failure_info.non_retryable is False
    assert f"activity 'compute': process {pid} was killed by SIGKILL" in failure.message


async def test_killed_computation_goes_on_from_its_last_heartbeat(
    bench: Bench, tmp_path: Path
) -> None:
    """The attempt after a killed process gets the heartbeat details of the one before from the server."""
    handle = await bench.start(cpu_sample.count, str(tmp_path), 9, 3)

    assert await handle.result() == [4, 9, 2]


async def test_computation_that_asks_ends_by_itself_when_it_is_cancelled(
    bench: Bench, tmp_path: Path
) -> None:
    """A user's cancellation reaches the function with its next heartbeat; its process is kept."""
    handle = await bench.start(cpu_sample.stop_when_asked, str(tmp_path), "heartbeat")
    pid = await begun(tmp_path)
    [details] = await progress(handle)
    await handle.cancel()
    with pytest.raises(ActivityFailureError) as caught:
        await handle.result()

    assert details == "so far"
    assert isinstance(caught.value.cause, CancelledError)
    assert Path(tmp_path, "tidied").exists()
    assert bench.pool.pids == [pid]


async def test_computation_that_asks_is_given_back_when_its_worker_stops(
    bench: Bench, tmp_path: Path
) -> None:
    """At the end of a drain the function ends by itself, and its attempt can be tried elsewhere."""
    handle = await bench.start(cpu_sample.stop_when_asked, str(tmp_path), "heartbeat", pause=60)
    pid = await begun(tmp_path)
    bench.tracker.cancel_all("the test says so")
    failure = await last_failure(handle)

    assert failure.application_failure_info.type == "WorkerShutdown"
    assert Path(tmp_path, "tidied").exists()
    assert bench.pool.pids == [pid]


async def test_long_computation_outlives_its_heartbeat_timeout(
    bench: Bench, tmp_path: Path
) -> None:
    """The worker heartbeats for a computation that takes longer than its heartbeat timeout."""
    handle = await bench.start(cpu_sample.compute, str(tmp_path), 2.5, attempts=1)

    assert await handle.result() == bench.pool.pids[0]
    assert (await handle.describe()).total_heartbeat_count >= 2


@pytest.mark.parametrize("function", MODELS)
async def test_cancel_all_gives_the_attempt_back(
    bench: Bench, tmp_path: Path, function: Callable[..., Any]
) -> None:
    """A worker that must stop now fails its attempts with a retryable WorkerShutdown."""
    handle = await bench.start(function, str(tmp_path), 60, pause=60)
    await begun(tmp_path)
    [told] = bench.tracker.cancel_all("second SIGTERM")
    failure = await last_failure(handle)

    assert told.activity_type == function.__name__
    assert failure.application_failure_info.type == "WorkerShutdown"
    assert failure.application_failure_info.non_retryable is False
    assert "second SIGTERM" in failure.message
    assert bench.finished == [(function.__name__, "canceled")]


@pytest.mark.parametrize("function", [finish_async, finish_thread, ask_thread])
async def test_activity_that_finishes_in_spite_of_it_completes(
    bench: Bench, tmp_path: Path, function: Callable[..., Any]
) -> None:
    """An activity that learns of the cancellation and finishes is completed with its result."""
    handle = await bench.start(function, str(tmp_path))
    await begun(tmp_path)
    bench.tracker.cancel_all("second SIGTERM")

    assert await handle.result() == "cancelled True, worker shutdown True"
    assert bench.finished == [(function.__name__, "completed")]


async def test_cancelled_while_waiting_for_a_thread_never_begins(
    client: Client, tmp_path: Path
) -> None:
    """An activity that is cancelled before a thread is free does not begin when one gets free."""
    (tmp_path / "second").mkdir()
    async with working(client, threads=1) as bench:
        await bench.start(nap_thread, str(tmp_path), 60, pause=60)
        await begun(tmp_path)
        waiting = await bench.start(nap_thread, str(tmp_path / "second"), 60, pause=60)
        await until(lambda: len(bench.tracker.running()) == 2)
        bench.tracker.cancel_all("second SIGTERM")
        failure = await last_failure(waiting)

    assert failure.application_failure_info.type == "WorkerShutdown"
    assert not list((tmp_path / "second").iterdir())


async def test_cancel_all_respects_a_shield(bench: Bench, tmp_path: Path) -> None:
    """What a thread activity shields is finished before it is interrupted."""
    handle = await bench.start(shield_thread, str(tmp_path), pause=60)
    await begun(tmp_path)
    bench.tracker.cancel_all("second SIGTERM")
    failure = await last_failure(handle)

    assert failure.application_failure_info.type == "WorkerShutdown"
    assert (tmp_path / "whole").exists()


async def test_cancel_all_never_hits_the_next_activity_of_a_thread(client: Client) -> None:
    """However a cancellation races with the end of an activity, the thread stays usable."""
    async with working(client, threads=1) as bench:
        handles = [await bench.start(brief_thread, pause=0.01) for _ in range(15)]
        results = asyncio.gather(*(handle.result() for handle in handles))
        while not results.done():
            bench.tracker.cancel_all("race")
            await asyncio.sleep(0.007)
        assert len(set(results.result())) == 1
        last = await bench.start(brief_thread, attempts=1)
        assert isinstance(await last.result(), int)


async def test_requested_cancellation_stays_one(bench: Bench, tmp_path: Path) -> None:
    """An activity that a user cancelled before ends as cancelled, not as a failed attempt."""
    handle = await bench.start(clean_up_thread, str(tmp_path))
    await begun(tmp_path)
    await handle.cancel()
    await until((tmp_path / "cleaning").exists)
    bench.tracker.cancel_all("second SIGTERM")
    with pytest.raises(ActivityFailureError) as caught:
        await handle.result()

    assert isinstance(caught.value.cause, CancelledError)


@pytest.mark.parametrize("function", MODELS)
async def test_end_of_grace_stays_the_sdks_affair(
    client: Client, tmp_path: Path, function: Callable[..., Any]
) -> None:
    """When the grace period is over, the SDK reports the attempt as failed by the shutdown."""
    async with working(client) as bench:
        handle = await bench.start(function, str(tmp_path), 60, pause=60)
        await begun(tmp_path)
    failure = await last_failure(handle)

    assert "orker is shutting down" in failure.message
    assert bench.finished == [(function.__name__, "canceled")]
