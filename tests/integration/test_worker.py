"""The life of a real worker process: start, polling, signals, drain, exit codes."""

from __future__ import annotations

import asyncio
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest
from running_worker import RunningWorker, address, running_worker
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDReusePolicy
from written_workload import WORKFLOWS, write_workload

pytestmark = pytest.mark.integration

ONLY_OUTSIDE_THE_SANDBOX = """
if workflow.unsafe.in_sandbox():
    raise ImportError("loads once")
"""


async def start(
    client: Client, activity: str, folder: Path, seconds: float
) -> WorkflowHandle[Any, Any]:
    """Start one workflow that runs one sample activity."""
    return await client.start_workflow(
        "RunActivity",
        args=[activity, str(folder), seconds],
        id=f"run-{activity}-{uuid.uuid4()}",
        task_queue="sample",
        id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
    )


async def activity_completed(handle: WorkflowHandle[Any, Any]) -> bool:
    """Tell whether the workflow's activity has completed."""
    events = (await handle.fetch_history()).events
    return any(event.HasField("activity_task_completed_event_attributes") for event in events)


async def appeared(path: Path, *, timeout: float = 20) -> None:
    """Wait until an activity left its mark."""
    async with asyncio.timeout(timeout):
        while not path.exists():
            await asyncio.sleep(0.02)


async def polling(worker: RunningWorker) -> RunningWorker:
    """Wait until the worker polls."""
    await worker.logged("polling")
    return worker


async def test_worker_started_becomes_ready_and_runs_workflows(
    client: Client, tmp_path: Path
) -> None:
    """A started worker turns ready once the server sees its pollers, and runs every execution model."""
    async with running_worker(address(client)) as worker:
        await polling(worker)
        assert (await worker.get("/readyz"))[0] == 200
        assert (await worker.get("/startupz"))[0] == 200
        assert (await worker.get("/livez"))[0] == 200
        for name in ("nap_async", "nap_thread", "spin"):
            handle = await start(client, name, tmp_path, 0.05)
            assert await handle.result()
        metrics = (await worker.get("/metrics"))[1]

        assert "fleet_workflow_outcomes_total{" in metrics
        assert 'activity_type="spin",outcome="completed"' in metrics
        assert "temporal_worker_task_slots_available" in metrics
        worker.signal()
        assert await worker.exit_code() == 0


async def test_counters_of_a_computation_are_on_the_metrics_page(
    client: Client, tmp_path: Path
) -> None:
    """What a CPU-bound function counts in its process is there by the time the server knows its result."""
    async with running_worker(address(client)) as worker:
        await polling(worker)
        for _ in range(2):
            await (await start(client, "spin", tmp_path, 0.01)).result()
        lines = (await worker.get("/metrics"))[1].splitlines()
        counted = {
            line.partition("{")[0]: float(line.split()[-1])
            for line in lines
            if line.startswith(("sample_spins_total{", "sample_metered_spins_total{"))
        }

    assert counted == {"sample_spins_total": 2, "sample_metered_spins_total": 2}


@pytest.mark.parametrize("name", ["nap_async", "nap_thread", "spin"])
async def test_sigterm_with_time_to_finish_loses_nothing(
    client: Client, tmp_path: Path, name: str
) -> None:
    """An activity that fits into the drain timeout finishes in its first attempt, then the exit code is 0."""
    closed = tmp_path / "closed"
    async with running_worker(
        address(client), environment={"SAMPLE_CLOSED_MARKER": str(closed)}
    ) as worker:
        await polling(worker)
        handle = await start(client, name, tmp_path, 1.5)
        mark = "started.1"
        if name == "spin":
            async with asyncio.timeout(20):
                while not list(tmp_path.glob("spinning.*")):
                    await asyncio.sleep(0.02)
        else:
            await appeared(tmp_path / mark)
        worker.signal()
        await worker.logged("draining")
        assert (await worker.get("/readyz"))[0] == 503
        assert await worker.exit_code() == 0

    assert closed.exists(), "resources were not closed"
    assert worker.events("drained")
    history = await handle.fetch_history()
    completed = [
        e for e in history.events if e.HasField("activity_task_completed_event_attributes")
    ]
    started = [e for e in history.events if e.HasField("activity_task_started_event_attributes")]
    assert len(completed) == 1
    assert started[0].activity_task_started_event_attributes.attempt == 1


async def test_resource_that_is_away_is_waited_for(client: Client, tmp_path: Path) -> None:
    """A worker whose own server comes later than the worker does not end, and polls once it is there."""
    path = tmp_path / "socket"
    async with running_worker(
        address(client), environment={"SAMPLE_DEPENDENCY": str(path)}
    ) as worker:
        failed = await worker.logged("resources could not be opened")
        assert failed["reason"].startswith("FileNotFoundError")
        async with await asyncio.start_unix_server(lambda _, writer: writer.close(), path):
            await polling(worker)
        worker.signal()
        assert await worker.exit_code() == 0


async def test_sigterm_while_a_resource_is_away_ends_the_start(
    client: Client, tmp_path: Path
) -> None:
    """A pod that is deleted while it waits for its database ends at once and with exit code 0."""
    async with running_worker(
        address(client), environment={"SAMPLE_DEPENDENCY": str(tmp_path / "socket")}
    ) as worker:
        await worker.logged("resources could not be opened")
        worker.signal()
        assert await worker.exit_code() == 0

    assert worker.events("stopped before polling began")


async def test_exception_that_cannot_be_reported_costs_no_slot(
    client: Client, tmp_path: Path
) -> None:
    """Its attempt fails with its type and is retried, and the drain does not wait for it."""
    async with running_worker(address(client)) as worker:
        await polling(worker)
        handle = await start(client, "fail_mutely", tmp_path, 0)
        await appeared(tmp_path / "failed.2")
        worker.signal()
        assert await worker.exit_code() == 0

    assert worker.events("drained")[0]["seconds"] < 20, "the drain timeout is 30 s"
    [pending] = (await handle.describe()).raw_description.pending_activities
    assert pending.last_failure.application_failure_info.type == "MuteError"


async def test_hangup_drains_like_sigterm(client: Client, tmp_path: Path) -> None:
    """A closed terminal loses nothing that had time to finish."""
    async with running_worker(address(client)) as worker:
        await polling(worker)
        handle = await start(client, "nap_async", tmp_path, 1)
        await appeared(tmp_path / "started.1")
        worker.signal(signal.SIGHUP)
        assert await worker.exit_code() == 0

    assert worker.events("draining")[0]["reason"] == "SIGHUP"
    assert await activity_completed(handle)


@pytest.mark.parametrize("name", ["nap_async", "nap_thread", "spin"])
async def test_sigterm_with_long_activity_cancels_and_names_it(
    client: Client, tmp_path: Path, name: str
) -> None:
    """What outlives the drain timeout is cancelled with a log line that names it; the exit code is 0."""
    environment = {"FLEET_DRAIN_TIMEOUT_SECONDS": "0.8", "FLEET_DRAIN_WARNING_SECONDS": "0.3"}
    async with running_worker(address(client), environment=environment) as worker:
        await polling(worker)
        handle = await start(client, name, tmp_path, 30)
        async with asyncio.timeout(20):
            while not list(tmp_path.glob("*ing.*")) and not list(tmp_path.glob("started.*")):
                await asyncio.sleep(0.02)
        worker.signal()
        assert await worker.exit_code() == 0

    assert name in worker.events("activity still running, will be cancelled soon")[0]["activity"]
    assert name in worker.events("drain timeout passed, activity cancelled")[0]["activity"]
    pending = (await handle.describe()).raw_description.pending_activities[0]
    assert pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
    assert pending.attempt == 2


async def test_second_signal_shortens_the_drain(client: Client, tmp_path: Path) -> None:
    """A second signal cancels running activities at once, and the worker still exits in order."""
    async with running_worker(address(client)) as worker:
        await polling(worker)
        handles = [
            await start(client, name, tmp_path / name, 30) for name in ("nap_async", "nap_thread")
        ]
        for name in ("nap_async", "nap_thread"):
            (tmp_path / name).mkdir(exist_ok=True)
        for name in ("nap_async", "nap_thread"):
            async with asyncio.timeout(20):
                while not list((tmp_path / name).glob("started.*")):
                    await asyncio.sleep(0.02)
        worker.signal()
        await worker.logged("draining")
        worker.signal(signal.SIGINT)
        assert await worker.exit_code(timeout=10) == 0

    assert worker.events("second signal, cancelling running activities")
    for handle in handles:
        pending = (await handle.describe()).raw_description.pending_activities[0]
        assert pending.last_failure.application_failure_info.type == "WorkerShutdown"


async def test_stuck_activity_ends_the_process_with_code_4(client: Client, tmp_path: Path) -> None:
    """An activity that no cancellation reaches ends the process with code 4, named, with its stack."""
    environment = {
        "FLEET_DRAIN_TIMEOUT_SECONDS": "0.5",
        "FLEET_DRAIN_WARNING_SECONDS": "0",
        "FLEET_DRAIN_FORCE_TIMEOUT_SECONDS": "0.1",
        "FLEET_DRAIN_MARGIN_SECONDS": "0.7",
    }
    async with running_worker(address(client), environment=environment) as worker:
        await polling(worker)
        await start(client, "stubborn_thread", tmp_path, 40)
        await appeared(tmp_path / "started.1")
        worker.signal()
        assert await worker.exit_code(timeout=10) == 4

    assert "stubborn_thread" in worker.text
    assert "time.sleep(seconds)" in worker.text, "the stack of what hung is missing"


async def test_blocked_loop_ends_the_process_with_code_4(client: Client, tmp_path: Path) -> None:
    """The watchdog does not need the event loop: a blocked one ends with code 4 as well."""
    environment = {
        "FLEET_DRAIN_TIMEOUT_SECONDS": "0.5",
        "FLEET_DRAIN_WARNING_SECONDS": "0",
        "FLEET_DRAIN_FORCE_TIMEOUT_SECONDS": "0.1",
        "FLEET_DRAIN_MARGIN_SECONDS": "0.7",
        "FLEET_EVENT_LOOP_BLOCKED_THRESHOLD_SECONDS": "0.6",
    }
    async with running_worker(address(client), environment=environment) as worker:
        await polling(worker)
        await start(client, "block_loop", tmp_path, 40)
        await appeared(tmp_path / "started.1")
        blocked = await worker.logged("event loop blocked")
        worker.signal()
        # time.sleep() in the main thread returns for the signal handler and goes on.
        assert await worker.exit_code(timeout=10) == 4

    assert "block_loop" in blocked["stack"]
    assert "block_loop" in worker.text


async def test_cooperative_activity_is_told_at_once(client: Client, tmp_path: Path) -> None:
    """An activity that waits for the worker's shutdown learns of it with the signal, not at the deadline."""
    async with running_worker(address(client)) as worker:
        await polling(worker)
        handle = await start(client, "leave_early", tmp_path, 30)
        await appeared(tmp_path / "started.1")
        worker.signal()
        assert await worker.exit_code(timeout=10) == 0

    history = await handle.fetch_history()
    assert any(e.HasField("activity_task_completed_event_attributes") for e in history.events)


async def test_failing_workload_check_makes_the_worker_not_ready(
    client: Client, tmp_path: Path
) -> None:
    """A workload's own failing health check shows in /readyz?verbose with its reason, and heals."""
    marker = tmp_path / "unhealthy"
    environment = {
        "SAMPLE_UNHEALTHY": str(marker),
        "FLEET_CONNECTION_PROBE_INTERVAL_SECONDS": "0.2",
    }
    async with running_worker(address(client), environment=environment) as worker:
        await polling(worker)
        assert (await worker.get("/readyz"))[0] == 200
        marker.touch()
        await worker.logged("health check failed")
        status, body = await worker.get("/readyz?verbose")
        assert status == 503
        assert "the sample's dependency is away" in body
        marker.unlink()
        await worker.logged("health check passes again")
        assert (await worker.get("/readyz"))[0] == 200


async def test_server_absent_ends_with_startup_code(tmp_path: Path) -> None:
    """Without a server the worker tries until the deadline, says what it tried, and exits with 3."""
    environment = {
        "FLEET_CONNECTION_DEADLINE_SECONDS": "1",
        "FLEET_CONNECTION_ATTEMPT_TIMEOUT_SECONDS": "0.5",
    }
    async with running_worker("127.0.0.1:1", environment=environment) as worker:
        assert await worker.exit_code() == 3

    assert "127.0.0.1:1" in worker.text
    assert "FLEET_CONNECTION_DEADLINE_SECONDS" in worker.text


async def test_signal_while_connecting_ends_at_once_with_0(tmp_path: Path) -> None:
    """A worker that is stopped while it still waits for its server exits with 0 at once."""
    async with running_worker("127.0.0.1:1") as worker:
        await worker.logged("connection attempt failed")
        worker.signal()
        assert await worker.exit_code(timeout=5) == 0


async def test_wrong_namespace_ends_with_startup_code(client: Client) -> None:
    """A namespace that does not exist is named in the error, and the exit code is 3."""
    environment = {"TEMPORAL_NAMESPACE": "orderz"}
    async with running_worker(address(client), environment=environment) as worker:
        assert await worker.exit_code() == 3

    assert "orderz" in worker.text


async def test_wrong_settings_are_all_reported_at_once(client: Client) -> None:
    """Every wrong setting is named with its value and cure in one message, with exit code 3."""
    environment = {"FLEET_DRAIN_TIMEOUT_SECOND": "5", "FLEET_HEALTH_PORT": "99999"}
    async with running_worker(address(client), environment=environment) as worker:
        assert await worker.exit_code() == 3

    assert "FLEET_DRAIN_TIMEOUT_SECONDS" in worker.text, "no suggestion"
    assert "99999" in worker.text


async def test_workflow_that_the_sandbox_cannot_import_ends_with_startup_code(
    client: Client, tmp_path: Path
) -> None:
    """The one log line of a worker that ends with 3 names module, cause and cure, without a traceback."""
    written = write_workload(tmp_path, "twice")
    written.write("workflows.py", WORKFLOWS + ONLY_OUTSIDE_THE_SANDBOX)
    environment = {"PYTHONPATH": str(tmp_path)}
    async with running_worker(address(client), "twice", environment) as worker:
        assert await worker.exit_code() == 3

    (line,) = [line for line in worker.log if line["level"] == "error"]
    assert line["event"] == "worker could not start"
    for words in ("'twice.workflows'", "ImportError: loads once", "Move what cannot be imported"):
        assert words in line["error"], line
    assert "Traceback" not in worker.text


async def test_health_port_taken_is_named(client: Client) -> None:
    """A taken health port is an error that names the port and its setting, with exit code 3."""
    async with running_worker(address(client)) as first:
        await polling(first)
        environment = {"FLEET_HEALTH_PORT": str(first.health_port)}
        async with running_worker(address(client), environment=environment) as second:
            assert await second.exit_code() == 3

    assert str(environment["FLEET_HEALTH_PORT"]) in second.text
    assert "FLEET_HEALTH_PORT" in second.text


async def test_workflow_type_with_line_separators_leaves_health_and_metrics_alone(
    client: Client,
) -> None:
    """Whoever may start workflows may name their type as they like: scrapes and probes go on."""
    workflow_type = "Order\u2028\x85\v\f\x1c\r,build_id="
    async with running_worker(address(client)) as worker:
        await polling(worker)
        await client.start_workflow(workflow_type, id="odd", task_queue="sample")
        async with asyncio.timeout(30):
            while workflow_type not in (metrics := (await worker.get("/metrics"))[1]):
                await asyncio.sleep(0.05)

        assert (await worker.get("/readyz"))[0] == 200
        assert 'fleet_metrics_stale{deployment="sample",build_id="__unversioned__"' in metrics
        assert not [line for line in metrics.split("\n") if line.endswith('source="core"} 1')]
        assert worker.events("health server died, starting it again") == []
        worker.signal()
        assert await worker.exit_code() == 0


async def test_unknown_workload_names_the_installed_ones(client: Client) -> None:
    """A misspelt workload is answered with the installed names, with exit code 3."""
    async with running_worker(address(client), "smaple") as worker:
        assert await worker.exit_code() == 3

    assert "sample" in worker.text


async def test_worker_that_waits_for_its_server_is_alive_but_not_started() -> None:
    """Waiting for a server is no reason for a restart: /livez passes however long it takes."""
    environment = {"FLEET_HEALTH_LIVENESS_TIMEOUT_SECONDS": "1"}
    async with running_worker("127.0.0.1:1", environment=environment) as worker:
        await worker.logged("connection attempt failed")
        async with asyncio.timeout(30):
            while worker.events("connection attempt failed")[-1]["attempt"] < 6:
                await asyncio.sleep(0.05)

        assert (await worker.get("/livez"))[0] == 200
        assert (await worker.get("/startupz"))[0] == 503
