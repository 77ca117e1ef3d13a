"""Whether new work for a build would find workers; without versioning that is judged by the current build."""

from __future__ import annotations

from temporal_fleet.versioning.model import (
    UNVERSIONED,
    ObservedBuild,
    ObservedDeployment,
    PolledTaskQueue,
)


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
    """Return what nobody polls for a build, although new work for it may come there."""
    if build.build_id == UNVERSIONED:
        return unpolled_by_unversioned(observed)
    return build.missing_pollers


def is_ready(observed: ObservedDeployment, build: ObservedBuild) -> bool:
    """Return whether every task of new work for a build would find a worker now."""
    if build.build_id == UNVERSIONED:
        return build.has_pollers and not unpolled_by_unversioned(observed)
    return build.is_polled
