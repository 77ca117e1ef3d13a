"""Nexus operations of a workload on a real server."""

from __future__ import annotations

from datetime import timedelta

import nexusrpc
import nexusrpc.handler
import pytest
from temporalio import workflow
from temporalio.api.nexus.v1 import EndpointSpec, EndpointTarget
from temporalio.api.operatorservice.v1 import CreateNexusEndpointRequest
from temporalio.client import Client

from temporal_fleet import Workload
from temporal_fleet.testing import running

pytestmark = pytest.mark.integration

ENDPOINT = "tracking-endpoint"


@nexusrpc.service
class Tracking:
    """A service with one operation."""

    find: nexusrpc.Operation[str, str]


@nexusrpc.handler.service_handler(service=Tracking)
class TrackingHandler:
    """Answers from a thread."""

    @nexusrpc.handler.sync_operation
    def find(self, _context: nexusrpc.handler.StartOperationContext, key: str) -> str:
        """Find the parcel."""
        return f"{key} is on its way"


# The sandbox cannot import a test file by its name.
@workflow.defn(sandboxed=False)
class Ask:
    """Asks the service."""

    @workflow.run
    async def run(self, key: str) -> str:
        """Ask for one parcel."""
        client = workflow.create_nexus_client(service=Tracking, endpoint=ENDPOINT)
        return await client.execute_operation(
            Tracking.find, key, schedule_to_close_timeout=timedelta(seconds=30)
        )


async def test_nexus_operation_that_blocks_runs_in_a_thread(client: Client) -> None:
    """An operation that is a plain function is served by a workload's worker."""
    workload = Workload[None, None](
        name="parcels", workflows=[Ask], nexus_handlers=[TrackingHandler]
    )
    target = EndpointTarget.Worker(namespace=client.namespace, task_queue="parcels")
    spec = EndpointSpec(name=ENDPOINT, target=EndpointTarget(worker=target))
    await client.operator_service.create_nexus_endpoint(CreateNexusEndpointRequest(spec=spec))

    async with running(workload, client, settings=None):
        answer = await client.execute_workflow(Ask.run, "a1", id="ask", task_queue="parcels")

    assert answer == "a1 is on its way"
