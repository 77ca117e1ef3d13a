"""Whether the server's record of a build may be deleted, and everything that is in the way."""

from __future__ import annotations

from temporal_fleet.versioning.describing import (
    build_name,
    count_runs,
    name_runs,
    name_task_queues,
    percent,
)
from temporal_fleet.versioning.model import (
    UNVERSIONED,
    BuildStatus,
    DeleteBuild,
    ObservedBuild,
    ObservedDeployment,
    Plan,
    Refusal,
)


def plan_retire(
    observed: ObservedDeployment, build_id: str, *, poller_free: bool = True
) -> Plan | Refusal:
    """Plan to delete the server's record of a build that is done.

    Args:
        observed: The Worker Deployment as it is.
        build_id: The build to delete.
        poller_free: Whether pollers are in the way. False when the question is whether its workers
            may be removed; the record can then be deleted when the server has forgotten them.

    Returns:
        One step, or none when the server has no such record; a refusal that names every obstacle,
        in the order in which they can be removed.
    """
    if build_id == UNVERSIONED:
        reason = "unversioned workers have no record that could be deleted. Remove their pods"
        return Refusal(observed.deployment, (reason,))
    build = observed.builds.get(build_id)
    if build is None:
        note = f"the server has no record of {build_name(build_id)}"
        return Plan(observed.deployment, (), (note,))
    if blockers := retirement_blockers(observed, build, poller_free=poller_free):
        return Refusal(observed.deployment, blockers)
    notes = [_polled_note(build)] if build.has_pollers else []
    step = DeleteBuild(build_id, f"it is {build.status.value}, and no open run is pinned to it")
    return Plan(observed.deployment, (step,), tuple(notes))


def retirement_blockers(
    observed: ObservedDeployment, build: ObservedBuild, *, poller_free: bool = True
) -> tuple[str, ...]:
    """Return everything that keeps a build from being deleted, first what must be done first."""
    blockers = [
        *_blocking_routing(observed, build),
        *_blocking_runs(build),
        *_blocking_drainage(observed, build),
    ]
    if poller_free and build.has_pollers:
        blockers.append(_blocking_pollers(build))
    return tuple(blockers)


def _blocking_routing(observed: ObservedDeployment, build: ObservedBuild) -> list[str]:
    name, routing = build_name(build.build_id), observed.routing
    if build.build_id == routing.current:
        return [f"{name} is current and takes new work. Make another build current first"]
    if build.build_id == routing.ramping:
        return [
            f"{name} is ramping at {percent(routing.percentage)}. End its ramp first: fleet rollout "
            "rollback"
        ]
    if build.status in (BuildStatus.CURRENT, BuildStatus.RAMPING):
        # The list of builds and the routing are read one after the other.
        return [f"{name} was {build.status.value} a moment ago. Try again in a minute"]
    return []


def _blocking_runs(build: ObservedBuild) -> list[str]:
    runs, kind = build.open_pinned, "open pinned"
    if not runs.count and build.status is BuildStatus.INACTIVE:
        # It never got traffic by routing: what it runs was sent to it by name.
        runs, kind = build.open_runs, "open"
    if not runs.count:
        return []
    named = name_runs(runs)
    return [
        f"{count_runs(runs.count, kind)} can only go on while its workers run"
        f"{f': {named}' if named else ''}. Wait until they end, or move them to another build: "
        "fleet rollout recover"
    ]


def _blocking_drainage(observed: ObservedDeployment, build: ObservedBuild) -> list[str]:
    if build.status is BuildStatus.DRAINING:
        return [
            "the server still calls it draining; it looks every few minutes. Wait until fleet "
            "rollout status shows it as drained"
        ]
    if build.status is BuildStatus.INACTIVE and build.last_current is not None:
        return ["it was current before and the server does not call it drained yet. Wait"]
    if observed.update_in_progress:
        return ["the server is still spreading the last change of the routing. Wait a few seconds"]
    return []


def _blocking_pollers(build: ObservedBuild) -> str:
    polled = [each for each in build.task_queues if each.pollers]
    most = max(each.pollers for each in polled)
    processes = f"{most} process{'' if most == 1 else 'es'} of it"
    return (
        f"{processes} still poll{'s' if most == 1 else ''} task queue {name_task_queues(polled)}. "
        "Remove it from the values, or scale it to 0, then wait 5 minutes: the server remembers "
        "pollers for so long"
    )


def _polled_note(build: ObservedBuild) -> str:
    return (
        f"{build_name(build.build_id)} is still polled; its record can be deleted 5 minutes after "
        "its last worker has gone"
    )
