"""How long a change of the routing counts as on its way to the task queues."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.api.deployment.v1 import RoutingConfig, WorkerDeploymentInfo
from temporalio.api.enums.v1 import RoutingConfigUpdateState
from temporalio.api.workflowservice.v1 import DescribeWorkerDeploymentResponse
from temporalio.client import Client

from temporal_fleet.rollout.observe import PROPAGATION_TIMEOUT, is_propagating
from temporal_fleet.rollout.server import Server

IN_PROGRESS = RoutingConfigUpdateState.ROUTING_CONFIG_UPDATE_STATE_IN_PROGRESS
COMPLETED = RoutingConfigUpdateState.ROUTING_CONFIG_UPDATE_STATE_COMPLETED


def server_that_says(state: RoutingConfigUpdateState.ValueType, *, age: timedelta) -> Server:
    """Return a server whose Worker Deployment was routed anew *age* ago."""
    routing = RoutingConfig()
    routing.current_version_changed_time.FromDatetime(datetime.now(UTC) - age)
    info = WorkerDeploymentInfo(routing_config=routing, routing_config_update_state=state)

    async def describe(_request: object, **_options: object) -> DescribeWorkerDeploymentResponse:
        return DescribeWorkerDeploymentResponse(worker_deployment_info=info)

    service = SimpleNamespace(describe_worker_deployment=describe)
    client: Any = SimpleNamespace(namespace="default", identity="test", workflow_service=service)
    return Server(cast("Client", client))


@pytest.mark.parametrize(
    ("state", "age", "propagating"),
    [
        (IN_PROGRESS, timedelta(0), True),
        (IN_PROGRESS, PROPAGATION_TIMEOUT + timedelta(seconds=1), False),
        (COMPLETED, timedelta(0), False),
    ],
)
async def test_a_confirmation_that_the_server_has_lost_is_waited_for_once(
    state: RoutingConfigUpdateState.ValueType, age: timedelta, propagating: bool
) -> None:
    """A routing counts as propagating while the server says so, but no longer than the propagation timeout."""
    assert await is_propagating(server_that_says(state, age=age), "orders") is propagating
