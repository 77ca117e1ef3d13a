"""What is said about task queues, compared with what was done to them."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker, WorkerDeploymentConfig
from written_workload import write_workload

from temporal_fleet import Workload
from temporal_fleet.client.task_queues import (
    CALLS_AT_ONCE,
    TaskQueueStatus,
    as_json,
    read_task_queues,
    watch,
)
from temporal_fleet.errors import ConnectionFailedError
from temporal_fleet.payloads import data_converter
from temporal_fleet.testing import dev_server

pytestmark = pytest.mark.integration


@pytest.fixture
async def server() -> AsyncIterator[WorkflowEnvironment]:
    """A dev server."""
    async with dev_server() as environment:
        yield environment


@pytest.fixture
def greeting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workload[Any, Any]]:
    """A workload with one workflow."""
    written = write_workload(tmp_path / "site", "greeting")
    monkeypatch.syspath_prepend(written.site)
    yield importlib.import_module("greeting").workload
    for name in [name for name in sys.modules if name.partition(".")[0] == "greeting"]:
        del sys.modules[name]


async def read_until(client: Client, condition: Any) -> list[TaskQueueStatus]:
    """Read the task queue until *condition* holds of its workflow tasks."""
    async with asyncio.timeout(20):
        while True:
            found = await read_task_queues(client, ["greeting"])
            if condition(found[0]):
                return found


async def test_read_task_queues_without_workers_shows_the_backlog(
    server: WorkflowEnvironment,
) -> None:
    """Tasks that nobody takes are counted, age, and show up as added but not dispatched."""
    for number in range(7):
        await server.client.start_workflow("Greet", id=f"w{number}", task_queue="greeting")

    workflow, activity = await read_until(server.client, lambda status: status.backlog == 7)

    assert (workflow.type, activity.type) == ("workflow", "activity")
    assert workflow.backlog_age > timedelta(0)
    assert workflow.added_per_second > 0
    assert workflow.dispatched_per_second == 0
    assert workflow.pollers == ()
    assert (activity.backlog, activity.is_in_use) == (0, False)


async def test_read_task_queues_with_a_versioned_worker_names_identity_and_build_id(
    server: WorkflowEnvironment, greeting: Workload[Any, Any]
) -> None:
    """Whoever polls is named with its build ID."""
    config = WorkerDeploymentConfig(
        version=WorkerDeploymentVersion("greeting", "build-7"),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )
    async with Worker(
        server.client,
        task_queue="greeting",
        workflows=greeting.workflows,
        identity="pod-1",
        deployment_config=config,
    ):
        found = await read_until(server.client, lambda status: status.pollers)

    assert [poller.identity for poller in found[0].pollers] == ["pod-1"]
    assert found[0].build_ids == ("build-7",)
    assert as_json(found[0])["pollers"][0]["build_id"] == "build-7"


async def test_read_task_queues_in_a_missing_namespace_fails_with_the_name(
    server: WorkflowEnvironment,
) -> None:
    """A namespace that does not exist is named."""
    address = server.client.service_client.config.target_host
    client = await Client.connect(address, namespace="nowhere", data_converter=data_converter())

    with pytest.raises(ConnectionFailedError, match="nowhere"):
        await read_task_queues(client, ["greeting"])


async def test_read_task_queues_names_the_current_build_id_of_the_worker_deployment(
    server: WorkflowEnvironment, greeting: Workload[Any, Any]
) -> None:
    """Once a build ID is made current, one sees that new work is routed to it."""
    config = WorkerDeploymentConfig(
        version=WorkerDeploymentVersion("greeting", "build-7"),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )
    async with Worker(
        server.client,
        task_queue="greeting",
        workflows=greeting.workflows,
        deployment_config=config,
    ):
        before = await read_until(server.client, lambda status: status.pollers)
        await server.client.workflow_service.set_worker_deployment_current_version(
            SetWorkerDeploymentCurrentVersionRequest(
                namespace=server.client.namespace, deployment_name="greeting", build_id="build-7"
            )
        )
        after = await read_until(server.client, lambda status: status.current_build_id)

    assert before[0].current_build_id is None
    assert (after[0].current_build_id, after[0].ramping_build_id) == ("build-7", None)


async def test_read_task_queues_of_more_names_than_calls_at_once_keeps_their_order(
    server: WorkflowEnvironment,
) -> None:
    """A whole fleet's task queues are described in the order in which they were named."""
    names = [f"task-queue-{number}" for number in range(CALLS_AT_ONCE + 4)]

    found = await read_task_queues(server.client, names)

    assert [(status.task_queue, status.type) for status in found] == [
        (name, kind) for name in names for kind in ("workflow", "activity")
    ]


async def test_watch_shows_work_that_arrives_between_two_readings(
    server: WorkflowEnvironment,
) -> None:
    """The first reading comes at once, and later ones follow what happens."""
    readings = watch(server.client, ["greeting"], timedelta(milliseconds=50))
    first = await anext(readings)
    await server.client.start_workflow("Greet", id="w", task_queue="greeting")
    async with asyncio.timeout(20):
        async for later in readings:
            if later[0].backlog:
                break

    assert first[0].backlog == 0
    assert later[0].backlog == 1


async def test_read_task_queues_of_a_server_that_is_gone_names_its_address() -> None:
    """When the server stops, one is told which server it was and what to check."""
    async with dev_server() as environment:
        client = environment.client
        address = client.service_client.config.target_host
        await read_task_queues(client, ["greeting"])

    with pytest.raises(ConnectionFailedError, match=r"Check TEMPORAL_ADDRESS") as raised:
        await read_task_queues(client, ["greeting"])

    assert address in str(raised.value)
