"""Reads what Temporal knows of a Worker Deployment: routing, builds, who polls them, what they still run.

It only reads. Three sources are put together: the server's record of the Worker Deployment, the pollers at all
partitions of its task queues, and the list of open runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from temporalio.api.deployment.v1 import WorkerDeploymentInfo, WorkerDeploymentVersion
from temporalio.api.enums.v1 import (
    RoutingConfigUpdateState,
    TaskQueueType,
    VersionDrainageStatus,
    WorkerDeploymentVersionStatus,
)
from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    DescribeWorkerDeploymentResponse,
    DescribeWorkerDeploymentVersionRequest,
    DescribeWorkerDeploymentVersionResponse,
    ListWorkerDeploymentsRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from temporal_fleet.client.pollers import TaskType
from temporal_fleet.rollout.polling import Polling, read_polling
from temporal_fleet.rollout.runs import (
    LIST_LAG,
    read_open_runs,
    read_runs_of_builds,
    unversioned_runs_on,
)
from temporal_fleet.rollout.server import CALL_TIMEOUT, Server
from temporal_fleet.versioning import (
    UNVERSIONED,
    BuildStatus,
    ObservedBuild,
    ObservedDeployment,
    OpenRuns,
    PolledTaskQueue,
    Routing,
)

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

_STATUSES = {
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_INACTIVE: BuildStatus.INACTIVE,
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_CURRENT: BuildStatus.CURRENT,
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_RAMPING: BuildStatus.RAMPING,
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINING: BuildStatus.DRAINING,
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINED: BuildStatus.DRAINED,
}
_TYPES: dict[int, TaskType] = {
    TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW: "workflow",
    TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY: "activity",
    TaskQueueType.TASK_QUEUE_TYPE_NEXUS: "nexus",
}


PROPAGATION_TIMEOUT = timedelta(seconds=60)
"""A routing that was changed this long ago counts as known to all task queues, whatever the server says.

Server 1.32 loses the notice that a change has been propagated when its own workflows for the Worker Deployment
continue as new at that moment (under load: for most changes). It then says "in progress" until the next change,
although all task queues have the routing (temporalio/temporal#11842).
"""


async def list_deployments(server: Server) -> list[str]:
    """Return the names of all Worker Deployments of the namespace, sorted.

    Raises:
        ConnectionFailedError: The server refuses us or stays away.
    """
    names: list[str] = []
    token = b""
    while True:
        request = ListWorkerDeploymentsRequest(
            namespace=server.client.namespace, next_page_token=token
        )
        answer = await server.read(
            lambda request=request: server.client.workflow_service.list_worker_deployments(  # type: ignore[misc]
                request, timeout=CALL_TIMEOUT
            ),
            "list Worker Deployments",
        )
        names += [each.name for each in answer.worker_deployments]
        token = answer.next_page_token
        if not token:
            return sorted(names)


async def observe(
    client: Client,
    deployment: str,
    *,
    with_runs: bool = True,
    task_queues: Collection[str] = (),
) -> ObservedDeployment:
    """Describe a Worker Deployment with its builds, their pollers and their open runs.

    Args:
        client: Connected to the server and namespace.
        deployment: Name of the Worker Deployment.
        with_runs: Whether to count open runs; without, every build seems to have none.
        task_queues: Task queues to look for unversioned workers at, beside those that its builds have
            registered and the one with the name of the Worker Deployment.

    Raises:
        ConnectionFailedError: The server refuses us or stays away.
    """
    return await look(Server(client), deployment, with_runs=with_runs, task_queues=task_queues)


async def look(
    server: Server,
    deployment: str,
    *,
    with_runs: bool = True,
    task_queues: Collection[str] = (),
) -> ObservedDeployment:
    """Do what :func:`observe` does, with a server that others share."""
    answer = await describe_deployment(server, deployment)
    info = answer.worker_deployment_info if answer else WorkerDeploymentInfo()
    described = await _describe_builds(server, info)
    names = {each.name for one in described.values() for each in one.version_task_queues}
    names |= set(task_queues) | {deployment}
    polling = await read_polling(server, names)
    routing = routing_of(info)
    builds = {
        summary.deployment_version.build_id: _with_summary(
            _build(deployment, described[summary.deployment_version.build_id], polling), summary
        )
        for summary in info.version_summaries
        if summary.deployment_version.build_id in described
    }
    builds[UNVERSIONED] = _unversioned(routing, polling)
    if with_runs:
        builds = await _with_runs(server, deployment, builds, names)
    return ObservedDeployment(
        deployment=deployment,
        exists=answer is not None,
        routing=routing,
        routing_changed=_routing_changed(info),
        update_in_progress=_is_propagating(info),
        builds=builds,
        sharing=await _sharing(server, polling.others(deployment)),
        manager_identity=info.manager_identity or None,
        conflict_token=answer.conflict_token if answer else b"",
    )


async def observe_build(
    server: Server, deployment: str, build_id: str, *, task_queues: Collection[str] = ()
) -> ObservedDeployment:
    """Describe as little of a Worker Deployment as shows whether one build is polled; no open runs.

    For a wait: it costs a handful of calls, however many builds there are. Of workers without versioning
    it needs the current build as well, which has registered what they have to poll.

    Returns:
        The Worker Deployment with this build, unless the server does not know it.
    """
    answer = await describe_deployment(server, deployment)
    info = answer.worker_deployment_info if answer else WorkerDeploymentInfo()
    routing = routing_of(info)
    unversioned = build_id == UNVERSIONED
    versioned = routing.current if unversioned else build_id
    found = await _describe_build(server, deployment, versioned) if versioned else None
    names = {each.name for each in found.version_task_queues} if found else set()
    if unversioned:
        names |= {deployment, *task_queues}
    polling = await read_polling(server, names)
    builds = {versioned: _build(deployment, found, polling)} if versioned and found else {}
    if unversioned:
        builds[UNVERSIONED] = _unversioned(routing, polling)
    return ObservedDeployment(
        deployment=deployment,
        exists=answer is not None,
        routing=routing,
        builds=builds,
    )


async def observe_twice(
    server: Server,
    deployment: str,
    build_ids: Collection[str],
    *,
    task_queues: Collection[str] = (),
) -> ObservedDeployment:
    """Do what :func:`observe` does, and count the runs again where the list may lag behind.

    Where one of *build_ids* seems to have no open run, the list is read again after a while: a run that
    has just begun may be missing. That holds for a drained build, too: it can be sent runs by name.
    """
    seen = await look(server, deployment, task_queues=task_queues)
    builds = [build for name, build in seen.builds.items() if name in build_ids]
    if all(each.open_runs.count for each in builds):
        return seen
    await asyncio.sleep(LIST_LAG.total_seconds())
    return await look(server, deployment, task_queues=task_queues)


async def _sharing(
    server: Server, others: Mapping[str, tuple[str, ...]]
) -> Mapping[str, tuple[str, ...]]:
    """Return those of the Worker Deployments that route new work to a build of theirs."""
    answers = await asyncio.gather(*(describe_deployment(server, name) for name in others))
    routings = (
        routing_of(each.worker_deployment_info) if each else Routing(None) for each in answers
    )
    return {
        name: task_queues
        for (name, task_queues), routing in zip(others.items(), routings, strict=True)
        if routing.current or routing.ramping
    }


async def describe_deployment(
    server: Server, deployment: str
) -> DescribeWorkerDeploymentResponse | None:
    """Return what the server says of a Worker Deployment; None when it knows none of this name.

    Raises:
        ConnectionFailedError: The server refuses us or stays away.
    """
    request = DescribeWorkerDeploymentRequest(
        namespace=server.client.namespace, deployment_name=deployment
    )
    service = server.client.workflow_service
    try:
        return await server.read(
            lambda: service.describe_worker_deployment(request, timeout=CALL_TIMEOUT),
            f"look at Worker Deployment {deployment!r}",
        )
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


async def is_propagating(server: Server, deployment: str) -> bool:
    """Return whether the server still tells its task queues of the last change of the routing."""
    answer = await describe_deployment(server, deployment)
    return answer is not None and _is_propagating(answer.worker_deployment_info)


async def _describe_builds(
    server: Server, info: WorkerDeploymentInfo
) -> dict[str, DescribeWorkerDeploymentVersionResponse]:
    names = [each.deployment_version.build_id for each in info.version_summaries]
    answers = await asyncio.gather(*(_describe_build(server, info.name, name) for name in names))
    return {name: found for name, found in zip(names, answers, strict=True) if found}


async def _describe_build(
    server: Server, deployment: str, build_id: str
) -> DescribeWorkerDeploymentVersionResponse | None:
    version = WorkerDeploymentVersion(deployment_name=deployment, build_id=build_id)
    request = DescribeWorkerDeploymentVersionRequest(
        namespace=server.client.namespace,
        deployment_version=version,
        report_task_queue_stats=True,
    )
    service = server.client.workflow_service
    try:
        return await server.read(
            lambda: service.describe_worker_deployment_version(request, timeout=CALL_TIMEOUT),
            f"look at build ID {build_id!r} of Worker Deployment {deployment!r}",
        )
    except RPCError as error:
        # Never seen, or deleted since the list was read.
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


def _build(
    deployment: str, found: DescribeWorkerDeploymentVersionResponse, polling: Polling
) -> ObservedBuild:
    info = found.worker_deployment_version_info
    build_id = info.deployment_version.build_id
    return ObservedBuild(
        build_id=build_id,
        status=_STATUSES.get(info.status, BuildStatus.INACTIVE),
        task_queues=tuple(
            PolledTaskQueue(
                name=each.name,
                type=_TYPES[each.type],
                pollers=polling.count(each.name, _TYPES[each.type], deployment, build_id),
                backlog=each.stats.approximate_backlog_count,
                backlog_age=each.stats.approximate_backlog_age.ToTimedelta(),
            )
            for each in sorted(found.version_task_queues, key=lambda one: (one.name, one.type))
            if each.type in _TYPES
        ),
        created=_time(info.create_time),
    )


def _with_summary(
    build: ObservedBuild, summary: WorkerDeploymentInfo.WorkerDeploymentVersionSummary
) -> ObservedBuild:
    drainage = summary.drainage_info
    drains = drainage.status != VersionDrainageStatus.VERSION_DRAINAGE_STATUS_UNSPECIFIED
    return replace(
        build,
        # The summary belongs to the same moment as the routing.
        status=_STATUSES.get(summary.status, build.status),
        created=_time(summary.create_time),
        last_current=_time(summary.last_current_time),
        drainage_changed=_time(drainage.last_changed_time) if drains else None,
        drainage_checked=_time(drainage.last_checked_time) if drains else None,
    )


def _unversioned(routing: Routing, polling: Polling) -> ObservedBuild:
    status = BuildStatus.INACTIVE
    if routing.ramping == UNVERSIONED:
        status = BuildStatus.RAMPING
    elif routing.current in (None, UNVERSIONED):
        status = BuildStatus.CURRENT
    return ObservedBuild(UNVERSIONED, status, polling.unversioned())


def routing_of(info: WorkerDeploymentInfo) -> Routing:
    """Return the routing of a Worker Deployment as the server describes it."""
    config = info.routing_config
    current = config.current_deployment_version.build_id or None
    if config.HasField("ramping_deployment_version"):
        ramping = config.ramping_deployment_version.build_id
        return Routing(current, ramping, config.ramping_version_percentage)
    if config.ramping_version_percentage:
        return Routing(current, UNVERSIONED, config.ramping_version_percentage)
    return Routing(current)


def _routing_changed(info: WorkerDeploymentInfo) -> datetime | None:
    config = info.routing_config
    changes = (
        _time(config.current_version_changed_time),
        _time(config.ramping_version_changed_time),
        _time(config.ramping_version_percentage_changed_time),
    )
    return max((each for each in changes if each), default=None)


def _is_propagating(info: WorkerDeploymentInfo) -> bool:
    state = info.routing_config_update_state
    if state != RoutingConfigUpdateState.ROUTING_CONFIG_UPDATE_STATE_IN_PROGRESS:
        return False
    changed = _routing_changed(info)
    return changed is None or datetime.now(UTC) - changed <= PROPAGATION_TIMEOUT


async def _with_runs(
    server: Server,
    deployment: str,
    builds: Mapping[str, ObservedBuild],
    task_queues: Collection[str],
) -> dict[str, ObservedBuild]:
    versioned = [each for each in builds if each != UNVERSIONED]
    found, unversioned = await asyncio.gather(
        read_runs_of_builds(server, deployment, versioned),
        read_open_runs(server, unversioned_runs_on(task_queues)),
    )
    found[UNVERSIONED] = OpenRuns(0), unversioned
    return {
        build_id: replace(build, open_pinned=found[build_id][0], open_runs=found[build_id][1])
        for build_id, build in builds.items()
    }


def _time(stamp: Timestamp) -> datetime | None:
    return stamp.ToDatetime(UTC) if stamp.seconds else None
