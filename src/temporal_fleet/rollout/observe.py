"""Reads what Temporal knows of a Worker Deployment: routing, builds, who polls them, what they still run.

It only reads. Three sources are put together: the server's record of the Worker Deployment, the pollers at all
partitions of its task queues, and the list of open runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace

from temporalio.api.deployment.v1 import WorkerDeploymentInfo
from temporalio.api.enums.v1 import VersionDrainageStatus, WorkerDeploymentVersionStatus
from temporalio.api.workflowservice.v1 import DescribeWorkerDeploymentVersionResponse

from temporal_fleet.client.pollers import TASK_TYPE_NAMES
from temporal_fleet.rollout.polling import Polling, read_polling
from temporal_fleet.rollout.propagation import is_propagating
from temporal_fleet.rollout.records import (
    describe_build,
    describe_deployment,
    routing_changed,
    routing_of,
    time_of,
)
from temporal_fleet.rollout.runs import (
    LIST_LAG,
    read_open_runs,
    read_runs_of_builds,
    unversioned_runs_on,
)
from temporal_fleet.rollout.server import Server
from temporal_fleet.versioning import (
    UNVERSIONED,
    BuildStatus,
    ObservedBuild,
    ObservedDeployment,
    OpenRuns,
    PolledTaskQueue,
    Routing,
)

_STATUSES = {
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_INACTIVE: BuildStatus.INACTIVE,
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_CURRENT: BuildStatus.CURRENT,
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_RAMPING: BuildStatus.RAMPING,
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINING: BuildStatus.DRAINING,
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINED: BuildStatus.DRAINED,
}


async def observe(
    server: Server,
    deployment: str,
    *,
    with_runs: bool = True,
    task_queues: Collection[str] = (),
) -> ObservedDeployment:
    """Describe a Worker Deployment with its builds, their pollers and their open runs.

    Args:
        server: Whom to ask.
        deployment: Name of the Worker Deployment.
        with_runs: Whether to count open runs; without, every build seems to have none.
        task_queues: Task queues to look for unversioned workers at, beside those that its builds have
            registered and the one with the name of the Worker Deployment.

    Raises:
        ConnectionFailedError: The server refuses us or stays away.
    """
    answer = await describe_deployment(server, deployment)
    info = answer.worker_deployment_info if answer else WorkerDeploymentInfo()
    described = await _describe_builds(server, info)
    names = {each.name for one in described.values() for each in one.version_task_queues}
    names |= set(task_queues) | {deployment}
    polling = await read_polling(server, names)
    routing = routing_of(info.routing_config)
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
        routing_changed=routing_changed(info.routing_config),
        update_in_progress=await is_propagating(server, info),
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
    routing = routing_of(info.routing_config)
    unversioned = build_id == UNVERSIONED
    versioned = routing.current if unversioned else build_id
    found = await describe_build(server, deployment, versioned) if versioned else None
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
    seen = await observe(server, deployment, task_queues=task_queues)
    builds = [build for name, build in seen.builds.items() if name in build_ids]
    if all(each.open_runs.count for each in builds):
        return seen
    await asyncio.sleep(LIST_LAG.total_seconds())
    return await observe(server, deployment, task_queues=task_queues)


async def _sharing(
    server: Server, others: Mapping[str, tuple[str, ...]]
) -> Mapping[str, tuple[str, ...]]:
    """Return those of the Worker Deployments that route new work to a build of theirs."""
    answers = await asyncio.gather(*(describe_deployment(server, name) for name in others))
    routings = (
        routing_of(each.worker_deployment_info.routing_config) if each else Routing(None)
        for each in answers
    )
    return {
        name: task_queues
        for (name, task_queues), routing in zip(others.items(), routings, strict=True)
        if routing.current or routing.ramping
    }


async def _describe_builds(
    server: Server, info: WorkerDeploymentInfo
) -> dict[str, DescribeWorkerDeploymentVersionResponse]:
    names = [each.deployment_version.build_id for each in info.version_summaries]
    answers = await asyncio.gather(*(describe_build(server, info.name, name) for name in names))
    return {name: found for name, found in zip(names, answers, strict=True) if found}


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
                type=TASK_TYPE_NAMES[each.type],
                pollers=polling.count(each.name, TASK_TYPE_NAMES[each.type], deployment, build_id),
                backlog=each.stats.approximate_backlog_count,
                backlog_age=each.stats.approximate_backlog_age.ToTimedelta(),
            )
            for each in sorted(found.version_task_queues, key=lambda one: (one.name, one.type))
            if each.type in TASK_TYPE_NAMES
        ),
        created=time_of(info.create_time),
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
        created=time_of(summary.create_time),
        last_current=time_of(summary.last_current_time),
        drainage_changed=time_of(drainage.last_changed_time) if drains else None,
        drainage_checked=time_of(drainage.last_checked_time) if drains else None,
    )


def _unversioned(routing: Routing, polling: Polling) -> ObservedBuild:
    status = BuildStatus.INACTIVE
    if routing.ramping == UNVERSIONED:
        status = BuildStatus.RAMPING
    elif routing.current in (None, UNVERSIONED):
        status = BuildStatus.CURRENT
    return ObservedBuild(UNVERSIONED, status, polling.unversioned())


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
