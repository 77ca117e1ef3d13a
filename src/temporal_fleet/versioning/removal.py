"""Which builds' workers may be removed: the guard before an upgrade and an uninstallation.

A build also loses workers when one of two keys that share its Worker Deployment is removed: what only
they serve would wait.

Judged at the moment before the change, with the routing as it is then: a build that the same change
wants to route away from still counts as current.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from temporal_fleet.versioning.describing import build_name
from temporal_fleet.versioning.model import (
    UNVERSIONED,
    DesiredDeployment,
    ObservedBuild,
    ObservedDeployment,
    OpenRuns,
    Place,
)
from temporal_fleet.versioning.retirement import Need, NeedKind, needs, without_workers

_TWO_UPGRADES = (
    "First upgrade with its new work routed to another build while both are listed, and remove this one "
    "in a later upgrade, when it is drained"
)


@dataclass(frozen=True)
class BuildRemoval:
    """A build whose workers would be removed."""

    queue: str
    """Key of the task queue in the installed values."""
    deployment: str
    """Name of the Worker Deployment in Temporal."""
    build_id: str
    """Build ID or :data:`UNVERSIONED`."""
    reasons: tuple[str, ...]
    """Why it may not be removed; for an allowed removal, why it may."""

    @property
    def name(self) -> str:
        """How it is named to force its removal: ``<queue key>/<build ID>``."""
        return f"{self.queue}/{self.build_id}"


@dataclass(frozen=True)
class RemovalVerdict:
    """What may be removed and what may not."""

    allowed: tuple[BuildRemoval, ...] = ()
    """Nothing needs their workers."""
    refused: tuple[BuildRemoval, ...] = ()
    """Their workers are needed; the change must not happen."""
    forced: tuple[BuildRemoval, ...] = ()
    """Their workers are needed, but they were named; each must be logged."""
    unused_force: tuple[str, ...] = ()
    """Names that were given to force a removal and that force nothing."""

    @property
    def is_refused(self) -> bool:
        """Whether the change must not happen."""
        return bool(self.refused)


@dataclass(frozen=True)
class _Change:
    """What a change takes away from one Worker Deployment."""

    observed: ObservedDeployment
    removed: frozenset[str]
    vanishes: bool
    """Whether none of its builds is left in the values."""


def removed_builds(
    installed: Mapping[str, DesiredDeployment], wanted: Mapping[str, DesiredDeployment]
) -> Mapping[str, frozenset[str]]:
    """Return which builds lose workers by a change: name of the Worker Deployment → build IDs.

    A build that moves to another key stays; another build ID under the same key removes the former. Workers
    that are to poll another task queue, namespace or server are gone where they are now. A build stays only
    if its workers still run every workload that they run now.
    """
    left = {each.deployment: each for each in wanted.values()}
    removed = {}
    for before in installed.values():
        after = left.get(before.deployment)
        there = after.builds.values() if after and not moves(before, after) else ()
        stays = {build_id for build_id in there if not _keys_lost(before, after, build_id)}
        removed[before.deployment] = frozenset(before.builds.values()) - stays
    return {deployment: builds for deployment, builds in removed.items() if builds}


def _keys_lost(
    before: DesiredDeployment, after: DesiredDeployment | None, build_id: str
) -> tuple[str, ...]:
    """Return the keys of a build that stays whose workload none of its workers runs any more."""
    then = after.workers.get(build_id) if after else None
    if then is None:
        return ()
    now = before.workers.get(build_id, {})
    return tuple(sorted(key for key, workload in now.items() if workload not in then.values()))


def moves(before: DesiredDeployment, after: DesiredDeployment) -> tuple[str, ...]:
    """Return, in words, what changes of where workers poll; nothing where somebody did not say."""
    if before.place is None or after.place is None:
        return ()
    parts = ("address", "namespace", "task_queue")
    pairs = ((part, getattr(before.place, part), getattr(after.place, part)) for part in parts)
    return tuple(
        f"{part.replace('_', ' ')} '{now}' becomes '{then}'"
        for part, now, then in pairs
        if now != then
    )


def place_left(
    before: Mapping[str, DesiredDeployment], after: Mapping[str, DesiredDeployment]
) -> Place | None:
    """Return the server and namespace that a change leaves, which is where its runs are; None = it stays."""
    places = [each.place for each in before.values()]
    then = {(each.place.address, each.place.namespace) for each in after.values() if each.place}
    gone = (place for place in places if place and (place.address, place.namespace) not in then)
    return next(gone, None) if then else None


def plan_removal(
    installed: Mapping[str, DesiredDeployment],
    wanted: Mapping[str, DesiredDeployment],
    observed: Mapping[str, ObservedDeployment],
    forced: Collection[str] = (),
) -> RemovalVerdict:
    """Judge the removal of every build that is installed and no longer wanted.

    Where a build of the same Worker Deployment stays, a build must not lose workers while anything `needs` it;
    auto-upgrade runs move on by themselves. Where none
    stays (the task queue leaves the values, or everything is uninstalled) it may be current, but no
    open run of any kind may be left to nobody.

    Args:
        installed: What is installed, by key of the task queue.
        wanted: What shall be; empty when everything is uninstalled.
        observed: By name of the Worker Deployment, each that `removed_builds` returns.
        forced: ``<queue key>/<build ID>`` of builds that may go whatever they still do; of keys that share
            a Worker Deployment, each that loses workers will do.

    Returns:
        All removals, sorted into what is allowed, refused and forced.
    """
    allowed, refused, overruled = [], [], []
    unused = set(forced)
    removed = removed_builds(installed, wanted)
    left = {each.deployment: each for each in wanted.values()}
    for before in installed.values():
        builds = removed.get(before.deployment, frozenset())
        after = left.get(before.deployment)
        moved = moves(before, after) if after else ()
        for build_id in sorted(builds):
            change = _Change(
                observed[before.deployment], builds, vanishes=after is None or bool(moved)
            )
            obstacles = _obstacles(change, build_id)
            keys = _keys_of(before, after, build_id)
            if not obstacles:
                reasons: tuple[str, ...] = (_why_allowed(change, build_id),)
            else:
                reasons = (*obstacles, *_why_removed(before, after, moved, build_id))
            removal = BuildRemoval(keys[0], before.deployment, build_id, reasons)
            names = {f"{key}/{build_id}" for key in keys}
            if not obstacles:
                allowed.append(removal)
            elif names.intersection(forced):
                overruled.append(removal)
                unused -= names
            else:
                refused.append(removal)
    return RemovalVerdict(tuple(allowed), tuple(refused), tuple(overruled), tuple(sorted(unused)))


def _keys_of(
    before: DesiredDeployment, after: DesiredDeployment | None, build_id: str
) -> tuple[str, ...]:
    """Return the keys under which a build loses workers, first the one that names it."""
    lost = _keys_lost(before, after, build_id)
    return lost or (before.queue, *before.workers.get(build_id, ()))


def _obstacles(change: _Change, build_id: str) -> tuple[str, ...]:
    observed = change.observed
    if not change.vanishes or _others_carry_on(change):
        return tuple(_text(need) for need in needs(observed, build_id))
    # Nobody is left for auto-upgrade runs and those without versioning either.
    build = observed.builds.get(build_id)
    runs = _all_runs(build) if build else OpenRuns(0)
    if not runs.count:
        return ()
    return (f"{without_workers(runs, 'open')}. Wait until they end, or end them",)


def _text(need: Need) -> str:
    if need.kind is NeedKind.ROUTING:
        return f"{need.what}. {_TWO_UPGRADES}"
    return need.text


def _why_removed(
    before: DesiredDeployment,
    after: DesiredDeployment | None,
    moved: tuple[str, ...],
    build_id: str,
) -> tuple[str, ...]:
    """Say how the change removes a build that seems to stay."""
    if after is None:
        return ()
    if moved:
        changes = ", ".join(moved)
        return (
            f"its workers would poll elsewhere: {changes}. Move a fleet by a second release, or another "
            "key with a deploymentName of its own, and remove this one when it has no open runs",
        )
    if lost := _keys_lost(before, after, build_id):
        now = before.workers[build_id]
        workloads = ", ".join(sorted({repr(now[key]) for key in lost}))
        return (
            f"none of its workers would run the workload {workloads} any more, and what those of other keys do "
            "not serve would wait. Remove the key only after a build in which another key runs that workload, "
            "or both keys run one workload for everything, has taken over",
        )
    keys = (key for key, installed in before.builds.items() if installed == build_id)
    reused = [(key, after.builds[key]) for key in keys if key in after.builds]
    return tuple(
        f"its key '{key}' is to stand for {build_name(new)}, which replaces its workers. Add that "
        "build under another key"
        for key, new in reused
    )


def _others_carry_on(change: _Change) -> bool:
    """Return whether the current build stays and is polled: it is none of this release."""
    current = change.observed.routing.current or UNVERSIONED
    build = change.observed.builds.get(current)
    return current not in change.removed and build is not None and build.is_polled


def _all_runs(build: ObservedBuild) -> OpenRuns:
    return max(build.open_runs, build.open_pinned, key=lambda runs: runs.count)


def _why_allowed(change: _Change, build_id: str) -> str:
    build = change.observed.builds.get(build_id)
    if build is None:
        return "the server has no record of it"
    if change.vanishes and not _others_carry_on(change):
        return f"it is {build.status.value}, and it has no open run"
    return f"it is {build.status.value}, and no open run is pinned to it"
