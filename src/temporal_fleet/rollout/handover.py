"""Finds out whether a run that was sent to another build has arrived there.

The server takes note at once of where a run is to continue, but a worker of the other build gets it only with
its next workflow task. One that is in progress ends on the old build first, and one that waits for the cache of
the old worker is handed on after ten seconds. A run without a task, which waits for a timer or a signal, stays
until one comes.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import structlog
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowExecutionResponse,
)

from temporal_fleet.rollout.runs import is_open
from temporal_fleet.rollout.server import CALL_TIMEOUT, Server

log = structlog.get_logger(__name__)

HANDOVER_TIMEOUT = timedelta(seconds=30)
"""How long a run that has a workflow task may take until the other build has completed one."""
_ASK_INTERVAL = timedelta(seconds=1)

IDLE = "it has no workflow task now and moves with its next one"
"""Why an idle run has not moved yet."""


async def await_handover(
    server: Server, execution: WorkflowExecution, *, bad_build: str, to: str | None
) -> str | None:
    """Wait until another build has completed a workflow task of a run.

    Args:
        server: Where the run is.
        execution: The run, by workflow ID and run ID.
        bad_build: Build ID that it is to leave.
        to: Build ID where it is to arrive; None = any other.

    Returns:
        None when it has arrived, or has ended; otherwise why not yet.

    Raises:
        ConnectionFailedError: The server refuses us or stays away.
        RPCError: The server refuses the call.
    """
    end = time.monotonic() + HANDOVER_TIMEOUT.total_seconds()
    while True:
        seen = await describe_run(server, execution)
        worked = seen.workflow_execution_info.versioning_info.deployment_version.build_id
        has_arrived = worked == to if to else worked not in ("", bad_build)
        if has_arrived or not is_open(seen.workflow_execution_info):
            return None
        if not seen.HasField("pending_workflow_task"):
            return IDLE
        if time.monotonic() >= end:
            log.info(
                "timeout",
                timeout="handover timeout",
                timeout_seconds=HANDOVER_TIMEOUT.total_seconds(),
                workflow_id=execution.workflow_id,
                run_id=execution.run_id,
            )
            waited = HANDOVER_TIMEOUT.total_seconds()
            return (
                f"no worker of the other build completed a workflow task of it within {waited:g} s"
            )
        await asyncio.sleep(_ASK_INTERVAL.total_seconds())


async def describe_run(
    server: Server, execution: WorkflowExecution
) -> DescribeWorkflowExecutionResponse:
    """Return what the server says of a run, or of the last one where no run ID is named."""
    request = DescribeWorkflowExecutionRequest(
        namespace=server.client.namespace, execution=execution
    )
    service = server.client.workflow_service
    return await server.call(
        lambda: service.describe_workflow_execution(request, timeout=CALL_TIMEOUT),
        f"look at {execution.workflow_id}",
    )
