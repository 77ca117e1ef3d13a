"""At which task queues new work finds workers, and what a change would leave to nobody or take from others.

The server refuses none of it: it looks only at task queues that are busy at the moment of the change, and
of two Worker Deployments at one task queue, the one that was routed last gets all new runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from temporal_fleet.versioning.describing import build_name, name_task_queues
from temporal_fleet.versioning.model import (
    UNVERSIONED,
    DesiredDeployment,
    ObservedBuild,
    ObservedDeployment,
    PolledTaskQueue,
    Risk,
)


def check_task_queues(
    desired: DesiredDeployment, observed: ObservedDeployment, rising: Sequence[str]
) -> list[str]:
    """Return why builds do not get new work because of their task queues.

    Args:
        desired: What is wanted, with the risks that are accepted.
        observed: The Worker Deployment as it is.
        rising: Builds that would get more new work than now.
    """
    reasons = []
    if Risk.MISSING_TASK_QUEUES not in desired.accepted:
        for build_id in rising:
            reasons += _check_missing(observed, build_id)
    if rising and Risk.SHARED_TASK_QUEUES not in desired.accepted:
        reasons += _check_shared(observed)
    return reasons


def missing_task_queues(
    observed: ObservedDeployment, build: ObservedBuild
) -> tuple[PolledTaskQueue, ...]:
    """Return what the current build has registered and another build has not.

    Nothing for workers without versioning, who register nothing, and for a build of which nothing is known yet.
    """
    now = observed.builds.get(observed.routing.current or UNVERSIONED)
    if now is None or UNVERSIONED in (now.build_id, build.build_id) or not build.task_queues:
        return ()
    registered = {(each.name, each.type) for each in build.task_queues}
    return tuple(each for each in now.task_queues if (each.name, each.type) not in registered)


def unpolled_by_unversioned(observed: ObservedDeployment) -> tuple[PolledTaskQueue, ...]:
    """Return what the current build has registered and workers without versioning do not poll now.

    Nobody registers task queues for workers without versioning. What the current build has registered is what
    they have to take over: workers for activities alone would leave every workflow task to nobody.

    Returns:
        The task queues as the current build polls them; nothing while no build is current.
    """
    current = observed.builds.get(observed.routing.current or UNVERSIONED)
    if current is None or current.build_id == UNVERSIONED:
        return ()
    unversioned = observed.builds.get(UNVERSIONED)
    task_queues = unversioned.task_queues if unversioned else ()
    polled = {(each.name, each.type) for each in task_queues if each.pollers}
    return tuple(each for each in current.task_queues if (each.name, each.type) not in polled)


def missing_pollers(
    observed: ObservedDeployment, build: ObservedBuild
) -> tuple[PolledTaskQueue, ...]:
    """Return what no worker polls for a build, although new work for it may come there."""
    if build.build_id == UNVERSIONED:
        return unpolled_by_unversioned(observed)
    return build.missing_pollers


def is_ready(observed: ObservedDeployment, build: ObservedBuild) -> bool:
    """Return whether every task of new work for a build would find a worker now."""
    if build.build_id == UNVERSIONED:
        return build.has_pollers and not unpolled_by_unversioned(observed)
    return build.is_polled


def not_ready(observed: ObservedDeployment, build: ObservedBuild) -> str | None:
    """Say why work for a build would wait now; None when every task would find a worker."""
    if is_ready(observed, build):
        return None
    missing = name_task_queues(missing_pollers(observed, build))
    which = f"task queue {missing}" if missing else "any task queue"
    return f"no worker polls {which} for {build_name(build.build_id)}"


def _check_missing(observed: ObservedDeployment, build_id: str) -> list[str]:
    build = observed.builds.get(build_id)
    missing = missing_task_queues(observed, build) if build else ()
    if not missing:
        return []
    current = build_name(observed.routing.current or UNVERSIONED)
    return [
        f"{build_name(build_id)} has no worker for task queue {name_task_queues(missing)}, which "
        f"{current} has registered: new work there would wait forever. Start workers of "
        f"{build_name(build_id)} for it; or, if nothing uses it any more, pass "
        "--allow-missing-task-queues (rollout.allowMissingTaskQueues: true in values or a routing file)"
    ]


def _check_shared(observed: ObservedDeployment) -> list[str]:
    return [
        f"Worker Deployment '{other}' routes new work, too, and its workers poll "
        f"task queue {', '.join(map(repr, names))}: the one whose routing was changed last gets all new "
        f"runs there, so '{observed.deployment}' would take them from it without a word. Stop its workers "
        "or give one of the two a task queue of its own; to take over from it, pass "
        "--allow-shared-task-queues (rollout.allowSharedTaskQueues: true in values or a routing file)"
        for other, names in sorted(observed.sharing.items())
    ]
