"""Local activities of a real worker process that is told to stop."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from running_worker import address, running_worker
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle

pytestmark = pytest.mark.integration

SHORT_DRAIN = {"FLEET_DRAIN_TIMEOUT_SECONDS": "1", "FLEET_DRAIN_WARNING_SECONDS": "0.5"}


async def start_local(
    client: Client, activity: str, folder: Path, seconds: float
) -> WorkflowHandle[Any, Any]:
    """Start a workflow whose local activity naps for *seconds*, or is retried after them."""
    return await client.start_workflow(
        "RunLocalActivity",
        args=[activity, str(folder), seconds],
        id=f"local-{activity}-{uuid.uuid4()}",
        task_queue="sample",
    )


async def appeared(path: Path) -> None:
    """Wait until an activity left its mark."""
    async with asyncio.timeout(20):
        while not path.exists():
            await asyncio.sleep(0.02)


async def timers(handle: WorkflowHandle[Any, Any]) -> list[HistoryEvent]:
    """Return the timers that the workflow has started."""
    events = (await handle.fetch_history()).events
    return [event for event in events if event.HasField("timer_started_event_attributes")]


@pytest.mark.parametrize("name", ["nap_async", "nap_thread"])
async def test_local_activity_beyond_the_drain_timeout_is_left_to_the_next_worker(
    client: Client, tmp_path: Path, name: str
) -> None:
    """It is named and cancelled when the time is over; the workflow gets a timer for its retry."""
    async with running_worker(address(client), environment=SHORT_DRAIN) as worker:
        await worker.logged("polling")
        handle = await start_local(client, name, tmp_path, 50)
        await appeared(tmp_path / "started.1")
        worker.signal()
        assert await worker.exit_code() == 0

    assert name in worker.events("activity still running, will be cancelled soon")[0]["activity"]
    assert "local" in worker.events("drain timeout passed, activity cancelled")[0]["activity"]
    assert (await handle.describe()).status == WorkflowExecutionStatus.RUNNING
    (timer,) = await timers(handle)
    delay = timer.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta()
    assert timedelta(minutes=1) < delay < timedelta(minutes=2)


async def test_local_activity_that_fails_again_and_again_is_given_back_at_once(
    client: Client, tmp_path: Path
) -> None:
    """A drain does not last for the retries: the first failure after the signal ends the workflow task."""
    async with running_worker(address(client)) as worker:
        await worker.logged("polling")
        handle = await start_local(client, "fail", tmp_path, 0.2)
        await appeared(tmp_path / "failed.2")
        worker.signal()
        assert await worker.exit_code() == 0

    assert worker.events("drained")[0]["seconds"] < 20, "the drain timeout is 30 s"
    assert await timers(handle)


async def test_local_activity_between_two_attempts_does_not_hold_the_drain(
    client: Client, tmp_path: Path
) -> None:
    """A retry that is due long after the drain is given up here, and the next worker makes it."""
    async with running_worker(address(client), environment=SHORT_DRAIN) as worker:
        await worker.logged("polling")
        handle = await start_local(client, "fail", tmp_path, 50)
        await appeared(tmp_path / "failed.1")
        worker.signal()
        assert await worker.exit_code() == 0
    assert worker.events("workflow task of a local activity given up")

    (tmp_path / "failed.1").unlink()
    async with running_worker(address(client)) as following:
        await following.logged("polling")
        await appeared(tmp_path / "failed.1")
        await handle.terminate()
