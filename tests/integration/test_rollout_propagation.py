"""A rollout on a server that loses its confirmations that a routing change has been propagated."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from rollout_workers import build, fast_server
from temporalio.api.deployment.v1 import WorkerDeploymentInfo
from temporalio.api.enums.v1 import RoutingConfigUpdateState
from temporalio.client import Client

from temporal_fleet.rollout import Rollout, Server, observe
from temporal_fleet.rollout.propagation import PROPAGATION_TIMEOUT, is_propagating
from temporal_fleet.rollout.records import describe_deployment
from temporal_fleet.versioning import (
    Routing,
    plan_promote,
    plan_ramp,
    plan_rollback,
)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.asyncio(loop_scope="module"),
    # Workers and server share the processors, with other tests beside them.
    pytest.mark.timeout(150),
]

IN_PROGRESS = RoutingConfigUpdateState.ROUTING_CONFIG_UPDATE_STATE_IN_PROGRESS


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[Client]:
    """A client of a real server, whose records say "in progress" forever, as after a lost confirmation."""
    async with fast_server() as connected:
        service: Any = connected.workflow_service
        describe = service.describe_worker_deployment

        async def without_confirmation(*request: Any, **options: Any) -> Any:
            answer = await describe(*request, **options)
            answer.worker_deployment_info.routing_config_update_state = IN_PROGRESS
            return answer

        service.describe_worker_deployment = without_confirmation
        yield connected


async def record_of(client: Client, deployment: str) -> WorkerDeploymentInfo:
    """Return the server's record of a Worker Deployment."""
    answer = await describe_deployment(Server(client), deployment)
    assert answer is not None
    return answer.worker_deployment_info


async def test_change_without_confirmation_is_done_once_the_task_queues_have_it(
    client: Client,
) -> None:
    """A rollout and what is observed after it go by the task queues when the server confirms nothing."""
    told: list[str] = []
    rollout = Rollout(
        Server(client), "lost", poller_timeout=timedelta(seconds=40), progress=told.append
    )
    async with build(client, "lost", "v1"), build(client, "lost", "v2"):
        for plan, expected in (
            (lambda seen: plan_promote(seen, "v1"), Routing("v1")),
            (lambda seen: plan_ramp(seen, "v2", 12.5), Routing("v1", "v2", 12.5)),
            (plan_rollback, Routing("v1")),
            (lambda seen: plan_promote(seen, "v2"), Routing("v2")),
        ):
            await rollout.carry_out(lambda seen, _identity, plan=plan: plan(seen))  # type: ignore[misc]
            seen = await observe(Server(client), "lost", with_runs=False)
            assert (seen.routing, seen.update_in_progress) == (expected, False)

    assert "propagation timeout" not in "\n".join(told)


async def test_change_that_a_task_queue_does_not_have_is_on_its_way_until_the_timeout(
    client: Client,
) -> None:
    """A routing that differs from what the task queues route by is being propagated, for a minute at most."""
    async with build(client, "partly", "v1"), build(client, "partly", "v2"):
        rollout = Rollout(
            Server(client), "partly", poller_timeout=timedelta(seconds=40), progress=print
        )
        await rollout.carry_out(lambda seen, _identity: plan_promote(seen, "v1"))
        record = await record_of(client, "partly")
        record.routing_config.current_deployment_version.build_id = "v2"
        changed = record.routing_config.current_version_changed_time

        assert await is_propagating(Server(client), record)
        changed.FromDatetime(datetime.now(UTC) - PROPAGATION_TIMEOUT - timedelta(seconds=1))
        assert not await is_propagating(Server(client), record)
