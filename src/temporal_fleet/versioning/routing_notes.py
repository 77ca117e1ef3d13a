"""What people should know about a change of the routing although it is not in the way."""

from __future__ import annotations

from temporal_fleet.versioning.describing import (
    build_name,
    count_runs,
    name_task_queues,
    percent,
)
from temporal_fleet.versioning.model import (
    UNVERSIONED,
    DesiredDeployment,
    ObservedBuild,
    ObservedDeployment,
)
from temporal_fleet.versioning.task_queues import (
    is_ready,
    missing_task_queues,
    unpolled_by_unversioned,
)


def note_routing(desired: DesiredDeployment, observed: ObservedDeployment) -> list[str]:
    """Return notes about what the change means for builds that lose or get work."""
    changes = desired.routing.current != _current(observed)
    return [
        *(_note_new_current(desired, observed) if changes else _note_unpolled(observed)),
        *_note_losers(desired, observed),
        *_note_missing_task_queues(desired, observed),
        *_note_full_ramp(desired),
        *_note_update(observed),
    ]


def was_current(build: ObservedBuild | None) -> bool:
    """Return whether a build was current before; of unversioned workers nobody knows."""
    return build is not None and build.last_current is not None


def _current(observed: ObservedDeployment) -> str:
    return observed.routing.current or UNVERSIONED


def _note_new_current(desired: DesiredDeployment, observed: ObservedDeployment) -> list[str]:
    wanted, now = desired.routing.current or UNVERSIONED, _current(observed)
    if now == UNVERSIONED:
        return _note_migration(wanted, observed)
    if wanted == UNVERSIONED:
        return [
            f"BACK TO UNVERSIONED from {build_name(now)}: auto-upgrade runs continue on unversioned "
            "workers, pinned runs stay on their build, and nothing keeps new code away from open "
            "runs any more"
        ]
    if not was_current(observed.builds.get(wanted)):
        return []
    return [
        f"ROLLBACK: {build_name(wanted)} was current before. Auto-upgrade runs that {build_name(now)} "
        f"worked on continue on {build_name(wanted)} and fail their workflow tasks where its code does "
        "not fit their history; pinned runs stay where they are"
    ]


def _note_migration(wanted: str, observed: ObservedDeployment) -> list[str]:
    unversioned = observed.builds.get(UNVERSIONED)
    if unversioned is None or not (unversioned.has_pollers or unversioned.open_runs.count):
        return []
    return [
        f"FROM UNVERSIONED to {build_name(wanted)}: open runs without versioning continue on "
        f"{build_name(wanted)} with their next workflow task, so its code must fit their history"
    ]


def _note_unpolled(observed: ObservedDeployment) -> list[str]:
    current = observed.builds.get(_current(observed))
    if current is None or is_ready(observed, current):
        return []
    missing = name_task_queues(current.missing_pollers)
    which = f"task queue {missing}" if missing else "any task queue"
    return [
        f"{build_name(current.build_id)} is current, but no worker polls {which} for it: new work waits"
    ]


def _note_losers(desired: DesiredDeployment, observed: ObservedDeployment) -> list[str]:
    """Note builds that lose new work and whose workers this release does not run."""
    wanted, now = desired.routing, observed.routing
    listed = set(desired.builds.values())
    lost = []
    if now.current is not None and now.current not in (UNVERSIONED, wanted.current):
        lost.append((now.current, "is current"))
    if now.ramping is not None and now.ramping not in (wanted.ramping, wanted.current):
        lost.append((now.ramping, f"is ramping at {percent(now.percentage)}"))
    return [
        f"{build_name(build_id)} {how} and loses its new work, but is none of the builds of "
        f"'{desired.queue}': somebody else must keep its workers until it is drained"
        f"{_pinned_to(observed, build_id)}"
        for build_id, how in lost
        if build_id not in listed
    ]


def _pinned_to(observed: ObservedDeployment, build_id: str) -> str:
    build = observed.builds.get(build_id)
    count = build.open_pinned.count if build else 0
    return f" ({count_runs(count, 'open pinned')})" if count else ""


def _note_missing_task_queues(
    desired: DesiredDeployment, observed: ObservedDeployment
) -> list[str]:
    now = observed.builds.get(_current(observed))
    if now is None or now.build_id == UNVERSIONED:
        return []
    notes = []
    for build_id in (desired.routing.current, desired.routing.ramping):
        wanted = observed.builds.get(build_id or "")
        if wanted is None or wanted is now:
            continue
        if wanted.build_id == UNVERSIONED:
            notes += _note_unpolled_by_unversioned(observed, wanted, now)
            continue
        if missing := missing_task_queues(observed, wanted):
            notes.append(
                f"{build_name(wanted.build_id)} does not know task queue {name_task_queues(missing)}"
                f", which {build_name(now.build_id)} polls; the server refuses the change while "
                "there are tasks or pollers of it"
            )
    return notes


def _note_unpolled_by_unversioned(
    observed: ObservedDeployment, unversioned: ObservedBuild, now: ObservedBuild
) -> list[str]:
    missing = unpolled_by_unversioned(observed)
    if not missing or not unversioned.has_pollers:
        return []
    # Other than with builds, the server does not look at their task queues.
    return [
        f"unversioned workers do not poll task queue {name_task_queues(missing)}, which "
        f"{build_name(now.build_id)} has registered: what they get there waits"
    ]


def _note_full_ramp(desired: DesiredDeployment) -> list[str]:
    routing = desired.routing
    if routing.ramping is None or routing.percentage < 100:
        return []
    return [
        f"{build_name(routing.ramping)} is to ramp at 100 %, which does not make it current; fleet "
        "rollout promote does"
    ]


def _note_update(observed: ObservedDeployment) -> list[str]:
    if not observed.update_in_progress:
        return []
    return ["the server is still propagating the last routing change to its task queues"]
