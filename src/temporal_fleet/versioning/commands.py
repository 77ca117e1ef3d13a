"""Plans for people who name a build on the command line, without any values."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from temporal_fleet.versioning.describing import build_name, name_task_queues, percent
from temporal_fleet.versioning.limits import check_manager
from temporal_fleet.versioning.model import (
    UNVERSIONED,
    ClearRamping,
    DesiredDeployment,
    ObservedBuild,
    ObservedDeployment,
    Plan,
    Refusal,
    Routing,
)
from temporal_fleet.versioning.routing import plan_routing
from temporal_fleet.versioning.routing_notes import was_current


def plan_ramp(
    observed: ObservedDeployment,
    build_id: str,
    percentage: float,
    *,
    allow_ramp_down: bool = False,
    identity: str | None = None,
) -> Plan | Refusal:
    """Plan to send a share of new work to a build.

    Args:
        observed: The Worker Deployment as it is.
        build_id: Build ID or `UNVERSIONED`; the server must know it.
        percentage: From 0 to 100.
        allow_ramp_down: Whether it may be less than now.
        identity: Who carries the plan out.

    Returns:
        A plan; or everything that speaks against it.
    """
    if reasons := _check_known(observed, build_id):
        return Refusal(observed.deployment, tuple(reasons))
    if build_id == _current(observed):
        reason = f"{build_name(build_id)} is current: it has all new work that does not ramp. "
        return Refusal(observed.deployment, (reason + "Name another build",))
    wanted = Routing(_current(observed), build_id, percentage)
    return _plan(observed, wanted, allow_ramp_down=allow_ramp_down, identity=identity)


def plan_promote(
    observed: ObservedDeployment, build_id: str | None = None, *, identity: str | None = None
) -> Plan | Refusal:
    """Plan to send all new work to a build.

    Args:
        observed: The Worker Deployment as it is.
        build_id: Build ID or `UNVERSIONED`; None = the build that is ramping.
        identity: Who carries the plan out.

    Returns:
        A plan, without steps when it is current and nothing ramps; or why not.
    """
    if build_id is None:
        build_id = observed.routing.ramping
    if build_id is None:
        others = _other_polled(observed)
        return Refusal(
            observed.deployment,
            (f"nothing is ramping, so the build ID must be named. {_candidates(others)}",),
        )
    if reasons := _check_known(observed, build_id):
        return Refusal(observed.deployment, tuple(reasons))
    return _plan(observed, Routing(build_id), identity=identity)


def plan_rollback(
    observed: ObservedDeployment, to: str | None = None, *, identity: str | None = None
) -> Plan | Refusal:
    """Plan to take new work away from a build that turns out to be bad.

    While a build is ramping, its ramp ends. Otherwise the build that was current before becomes
    current again. Never waits for workers: a build that is not polled now is refused.

    Args:
        observed: The Worker Deployment as it is.
        to: Build ID or `UNVERSIONED` to go to; None = as above.
        identity: Who carries the plan out.

    Returns:
        A plan, or why not, with the builds that could take over.
    """
    current = _current(observed)
    if observed.routing.ramping is not None and to in (None, current):
        return _end_ramp(observed, observed.routing.ramping, identity)
    if to == current:
        note = f"{build_name(current)} is current, and nothing is ramping"
        return Plan(observed.deployment, (), (note,))
    target = observed.builds.get(to) if to else _previous(observed)
    if target is None:
        reasons = _check_known(observed, to) if to else [_no_previous(observed)]
        return Refusal(observed.deployment, tuple(reasons))
    if not target.is_polled:
        return Refusal(observed.deployment, (_not_polled(observed, target),))
    plan = _plan(observed, Routing(target.build_id), identity=identity)
    if isinstance(plan, Plan) and target.build_id != UNVERSIONED and not was_current(target):
        note = f"{build_name(target.build_id)} was never current: this is no way back to known code"
        plan = Plan(plan.deployment, plan.steps, (note, *plan.notes))
    return plan


def _plan(
    observed: ObservedDeployment,
    wanted: Routing,
    *,
    allow_ramp_down: bool = False,
    identity: str | None = None,
) -> Plan | Refusal:
    builds = {build_id: build_id for build_id in observed.builds}
    builds |= {each: each for each in (wanted.current, wanted.ramping) if each}
    desired = DesiredDeployment(
        queue=observed.deployment, deployment=observed.deployment, builds=builds, routing=wanted
    )
    return plan_routing(desired, observed, allow_ramp_down=allow_ramp_down, identity=identity)


def _end_ramp(observed: ObservedDeployment, ramping: str, identity: str | None) -> Plan | Refusal:
    if managed := check_manager(observed, identity):
        return Refusal(observed.deployment, tuple(managed))
    current = build_name(_current(observed))
    share = percent(observed.routing.percentage)
    notes = [
        f"all new work goes to {current}; auto-upgrade runs that {build_name(ramping)} worked on go "
        f"on on {current}, runs pinned to {build_name(ramping)} stay there"
    ]
    build = observed.builds.get(_current(observed))
    if build is None or not build.is_polled:
        notes.append(f"{current} is not polled on every task queue now: new work may wait")
    step = ClearRamping(ramping, f"rollback; it takes {share} of new work now")
    return Plan(observed.deployment, (step,), tuple(notes))


def _current(observed: ObservedDeployment) -> str:
    return observed.routing.current or UNVERSIONED


def _check_known(observed: ObservedDeployment, build_id: str) -> list[str]:
    if build_id in observed.builds:
        return []
    if build_id == UNVERSIONED:
        return ["no worker polls without a build ID, so there is nobody to route to"]
    close = difflib.get_close_matches(build_id, observed.builds, n=1)
    meant = f"Did you mean '{close[0]}'? " if close else ""
    return [
        f"Worker Deployment '{observed.deployment}' has no {build_name(build_id)}: no worker has "
        f"polled with it. {meant}{_candidates(_other_polled(observed))}"
    ]


def _other_polled(observed: ObservedDeployment) -> list[ObservedBuild]:
    current = _current(observed)
    found = [each for each in observed.builds.values() if each.is_polled]
    return sorted(
        (each for each in found if each.build_id != current), key=lambda each: each.build_id
    )


def _candidates(builds: Iterable[ObservedBuild]) -> str:
    names = ", ".join(each.build_id for each in builds)
    return f"Polled now: {names}" if names else "No other build is polled now"


def _previous(observed: ObservedDeployment) -> ObservedBuild | None:
    current = _current(observed)
    before = [
        (each.last_current, each)
        for each in observed.builds.values()
        if each.last_current is not None and each.build_id != current
    ]
    if before:
        return max(before, key=lambda each: each[0])[1]
    # The first build that is current took over from unversioned workers, if there were any.
    return observed.builds.get(UNVERSIONED) if current != UNVERSIONED else None


def _no_previous(observed: ObservedDeployment) -> str:
    return (
        f"nothing is ramping, and no build was current before {build_name(_current(observed))}. "
        f"Name one with --to. {_candidates(_other_polled(observed))}"
    )


def _not_polled(observed: ObservedDeployment, build: ObservedBuild) -> str:
    missing = name_task_queues(build.missing_pollers)
    which = f"task queue {missing}" if missing else "any task queue"
    others = [each for each in _other_polled(observed) if each is not build]
    return (
        f"nobody polls {which} for {build_name(build.build_id)}, so new work would wait. Start its "
        f"workers first, or name another build with --to. {_candidates(others)}"
    )
