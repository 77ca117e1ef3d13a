"""Turn settings into the SDK's ``Worker`` arguments. Pure: decides, never acts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import (
    PollerBehavior,
    PollerBehaviorAutoscaling,
    PollerBehaviorSimpleMaximum,
    ResourceBasedSlotConfig,
    WorkerDeploymentConfig,
    WorkerTuner,
)

from temporal_fleet.settings import ConcurrencySettings, Settings
from temporal_fleet.telemetry.logs import UNVERSIONED

_VERSIONING_BEHAVIORS = {
    None: VersioningBehavior.UNSPECIFIED,
    "pinned": VersioningBehavior.PINNED,
    "auto_upgrade": VersioningBehavior.AUTO_UPGRADE,
}

NAMING_LEAD = timedelta(milliseconds=100)
"""How long after the drain timeout the SDK cancels activities; they are named in the log before."""


def worker_options(
    settings: Settings, *, deployment_name: str, only_cpu_bound: bool = False
) -> dict[str, Any]:
    """Return the keyword arguments of ``temporalio.worker.Worker`` that come from settings.

    Args:
        settings: The validated settings.
        deployment_name: The Temporal worker deployment's name.
        only_cpu_bound: Whether every activity computes in a process of the pool. Then there is one slot for
            each process, so that what no process can begin stays on the server, for other workers.

    Returns:
        Slots or tuner, pollers, cache, rate limits, grace period and deployment configuration. What a worker
        *runs* (client, task queue, workflows, activities, interceptors) is not here.
    """
    concurrency = settings.concurrency
    activities = concurrency.activities
    if only_cpu_bound:
        activities = min(activities, concurrency.processes)
    options: dict[str, Any] = {
        "max_cached_workflows": concurrency.sticky_cache_size,
        "max_activities_per_second": concurrency.activities_per_second,
        "max_task_queue_activities_per_second": concurrency.task_queue_activities_per_second,
        "graceful_shutdown_timeout": settings.drain.timeout + NAMING_LEAD,
        "deployment_config": _deployment(settings, deployment_name),
        **_slots(concurrency, activities),
        **_pollers(concurrency),
    }
    return options


def _deployment(settings: Settings, name: str) -> WorkerDeploymentConfig:
    deployment = settings.deployment
    if not deployment.versioning:
        # Shown by the server, not used for routing. Without it the SDK makes up a build ID by hashing every
        # loaded module, which takes a fifth of a worker's start.
        return WorkerDeploymentConfig(
            version=WorkerDeploymentVersion(name, deployment.build_id or UNVERSIONED),
            use_worker_versioning=False,
        )
    assert deployment.build_id is not None, "settings refuse versioning without a build ID"
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(name, deployment.build_id),
        use_worker_versioning=True,
        default_versioning_behavior=_VERSIONING_BEHAVIORS[deployment.default_versioning_behavior],
    )


def _slots(concurrency: ConcurrencySettings, activities: int) -> dict[str, Any]:
    if concurrency.tuner == "fixed":
        return {
            "max_concurrent_workflow_tasks": concurrency.workflow_tasks,
            "max_concurrent_activities": activities,
            "max_concurrent_local_activities": concurrency.local_activities,
            "max_concurrent_nexus_tasks": concurrency.nexus_tasks,
        }
    tuner = WorkerTuner.create_resource_based(
        target_memory_usage=concurrency.tuner_target_memory,
        target_cpu_usage=concurrency.tuner_target_cpu,
        workflow_config=ResourceBasedSlotConfig(maximum_slots=concurrency.workflow_tasks),
        activity_config=ResourceBasedSlotConfig(maximum_slots=activities),
        local_activity_config=ResourceBasedSlotConfig(maximum_slots=concurrency.local_activities),
        nexus_config=ResourceBasedSlotConfig(maximum_slots=concurrency.nexus_tasks),
    )
    return {"tuner": tuner}


def _pollers(concurrency: ConcurrencySettings) -> dict[str, PollerBehavior]:
    if concurrency.pollers == "autoscaling":
        # A workflow worker with a sticky cache needs two pollers: one for its own sticky task queue.
        return {
            "workflow_task_poller_behavior": _autoscaling(concurrency, minimum=2),
            "activity_task_poller_behavior": _autoscaling(concurrency),
            "nexus_task_poller_behavior": _autoscaling(concurrency),
        }
    return {
        "workflow_task_poller_behavior": PollerBehaviorSimpleMaximum(concurrency.pollers_workflow),
        "activity_task_poller_behavior": PollerBehaviorSimpleMaximum(concurrency.pollers_activity),
        "nexus_task_poller_behavior": PollerBehaviorSimpleMaximum(concurrency.pollers_nexus),
    }


def _autoscaling(
    concurrency: ConcurrencySettings, *, minimum: int = 1
) -> PollerBehaviorAutoscaling:
    lowest = max(concurrency.pollers_minimum, minimum)
    highest = max(concurrency.pollers_maximum, lowest)
    return PollerBehaviorAutoscaling(
        minimum=lowest,
        maximum=highest,
        initial=min(max(concurrency.pollers_initial, lowest), highest),
    )
