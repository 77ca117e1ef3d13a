"""What still needs a build: asked before its workers, its entry in the values or its record goes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

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
    OpenRuns,
    Plan,
    Refusal,
)


class NeedKind(StrEnum):
    """What needs a build."""

    ROUTING = "routing"
    """It gets new work."""
    RUNS = "runs"
    """Open runs can continue nowhere else."""
    DRAINAGE = "drainage"
    """The server does not vouch yet that it got its last work."""


@dataclass(frozen=True)
class Need:
    """Something that needs the workers of a build."""

    kind: NeedKind
    what: str
    cure: str

    @property
    def text(self) -> str:
        """What it is, and what to do."""
        return f"{self.what}. {self.cure}"


def plan_retire(observed: ObservedDeployment, build_id: str) -> Plan | Refusal:
    """Plan to delete the server's record of a build that is done.

    Args:
        observed: The Worker Deployment as it is.
        build_id: The build to delete.

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
    if blockers := retirement_blockers(observed, build):
        return Refusal(observed.deployment, blockers)
    step = DeleteBuild(build_id, f"it is {build.status.value}, and no open run is pinned to it")
    return Plan(observed.deployment, (step,))


def retirement_blockers(observed: ObservedDeployment, build: ObservedBuild) -> tuple[str, ...]:
    """Return everything that keeps a build from being deleted, first what must be done first."""
    blockers = [need.text for need in needs(observed, build.build_id)]
    if build.has_pollers:
        blockers.append(_blocking_pollers(build))
    return tuple(blockers)


def needs(observed: ObservedDeployment, build_id: str) -> tuple[Need, ...]:
    """Return everything that needs the workers of a build; nothing when they may go.

    That the server calls a build drained is not the last word: an override, a reset or a moved run can send
    new work to it, which the server notices minutes later. So open runs count whatever the status is.

    Args:
        observed: The Worker Deployment as it is, with its open runs.
        build_id: Build ID or `UNVERSIONED`.

    Returns:
        The needs, first what must be settled first. An unknown build is needed by the routing at most.
        Workers without versioning are, too: runs without versioning continue on the current build.
    """
    found = _needs_of_routing(observed, build_id)
    build = observed.builds.get(build_id)
    if build is None or build_id == UNVERSIONED:
        return tuple(found)
    if not found and build.status in (BuildStatus.CURRENT, BuildStatus.RAMPING):
        # The list of builds and the routing are read one after the other.
        what = f"{build_name(build_id)} was {build.status.value} a moment ago"
        found = [Need(NeedKind.ROUTING, what, "Try again in a minute")]
    return (
        *found,
        *_needs_of_runs(observed, build),
        *_needs_of_drainage(observed, build),
    )


def _needs_of_routing(observed: ObservedDeployment, build_id: str) -> list[Need]:
    routing = observed.routing
    if build_id == (routing.current or UNVERSIONED):
        role, cure = "is current", "Make another build current first"
    elif build_id == routing.ramping:
        role = f"is ramping at {percent(routing.percentage)}"
        cure = f"End its ramp first: fleet rollout rollback {observed.deployment}"
    else:
        return []
    what = f"{build_name(build_id)} {role}: new work would wait for workers that are gone"
    return [Need(NeedKind.ROUTING, what, cure)]


def _needs_of_runs(observed: ObservedDeployment, build: ObservedBuild) -> list[Need]:
    runs, kind = build.open_pinned, "open pinned"
    if not runs.count and build.status is BuildStatus.INACTIVE:
        # It never got traffic by routing: what it runs was sent to it by name.
        runs, kind = build.open_runs, "open"
    if not runs.count:
        return []
    cure = (
        "Wait until they end, or move them to another build: "
        f"fleet rollout recover {observed.deployment} --from {build.build_id} --to BUILD_ID"
    )
    return [Need(NeedKind.RUNS, without_workers(runs, kind), cure)]


def without_workers(runs: OpenRuns, kind: str) -> str:
    """Say how many runs would have no workers, and which."""
    named = name_runs(runs)
    return f"{count_runs(runs.count, kind)} would have no workers{f': {named}' if named else ''}"


def _needs_of_drainage(observed: ObservedDeployment, build: ObservedBuild) -> list[Need]:
    kind = NeedKind.DRAINAGE
    if build.status is BuildStatus.DRAINING:
        what = "the server still calls it draining; it looks every few minutes"
        return [Need(kind, what, "Wait until fleet rollout status shows it as drained")]
    if build.status is BuildStatus.INACTIVE and build.last_current is not None:
        what = "it was current before, and the server does not call it drained yet"
        return [Need(kind, what, "Wait until fleet rollout status shows it as drained")]
    if observed.update_in_progress:
        what = "the server is still propagating the last routing change"
        return [Need(kind, what, "Wait a few seconds")]
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
