"""Tells whether a change of the routing holds at all task queues.

The server confirms a change in the record of the Worker Deployment, but version 1.32 loses the confirmation
when its own workflows for the Worker Deployment continue as new at that moment, which is likely on a busy
server. It then says "in progress" until the next change, although every task queue has the routing
(temporalio/temporal#11842). So the task queues themselves are asked while the confirmation is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from temporalio.api.deployment.v1 import WorkerDeploymentInfo
from temporalio.api.enums.v1 import RoutingConfigUpdateState
from temporalio.api.taskqueue.v1 import TaskQueueVersioningInfo

from temporal_fleet.client.pollers import (
    TASK_TYPE_NAMES,
    TaskType,
    describe_task_queue,
    other_partitions,
)
from temporal_fleet.rollout.records import describe_build, routing_changed, routing_of
from temporal_fleet.rollout.server import CALL_TIMEOUT, Server
from temporal_fleet.versioning import UNVERSIONED, Routing
from temporal_fleet.versioning.outcome import is_same_routing

PROPAGATION_TIMEOUT = timedelta(seconds=60)
"""A routing that was changed this long ago counts as known to all task queues, whatever the server says."""


async def is_propagating(server: Server, info: WorkerDeploymentInfo) -> bool:
    """Return whether the last change of the routing does not hold at all task queues yet.

    Args:
        server: Whom to ask.
        info: Its record of the Worker Deployment.

    Raises:
        ConnectionFailedError: The server refuses us or stays away.
    """
    state = info.routing_config_update_state
    if state != RoutingConfigUpdateState.ROUTING_CONFIG_UPDATE_STATE_IN_PROGRESS:
        return False
    changed = routing_changed(info.routing_config)
    if changed and datetime.now(UTC) - changed > PROPAGATION_TIMEOUT:
        return False
    return not await _holds_everywhere(server, info.name, routing_of(info.routing_config))


async def _holds_everywhere(server: Server, deployment: str, routing: Routing) -> bool:
    builds = {routing.current, routing.ramping} - {None, UNVERSIONED}
    found = await asyncio.gather(
        *(describe_build(server, deployment, str(each)) for each in builds)
    )
    task_queues = {
        (each.name, TASK_TYPE_NAMES[each.type])
        for build in found
        if build
        for each in build.version_task_queues
        if each.type in TASK_TYPE_NAMES
    }
    # Without builds nobody can be asked: the task queues of workers without versioning are registered nowhere.
    if not task_queues:
        return False
    records = await asyncio.gather(*(_records(server, name, kind) for name, kind in task_queues))
    return all(_says(each, deployment, routing) for of_one in records for each in of_one)


async def _records(server: Server, name: str, kind: TaskType) -> Sequence[TaskQueueVersioningInfo]:
    """Return what each partition of a task queue routes by."""
    partitions = [name, *await other_partitions(server.client, name, timeout=CALL_TIMEOUT)]
    what = f"look at the routing of task queue {name!r}"

    async def read(partition: str) -> TaskQueueVersioningInfo:
        answer = await server.call(
            lambda: describe_task_queue(server.client, partition, kind, timeout=CALL_TIMEOUT), what
        )
        return answer.versioning_info

    return await asyncio.gather(*(read(each) for each in partitions))


def _says(record: TaskQueueVersioningInfo, deployment: str, routing: Routing) -> bool:
    versions = record.current_deployment_version, record.ramping_deployment_version
    foreign = any(each.deployment_name not in ("", deployment) for each in versions)
    return not foreign and is_same_routing(routing_of(record), routing)
