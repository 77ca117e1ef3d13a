"""Plans for people who name a build on the command line, without any values."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

from temporal_fleet.versioning.describing import build_name, percent
from temporal_fleet.versioning.limits import check_manager
from temporal_fleet.versioning.model import (
    UNVERSIONED,
    ClearRamping,
    DesiredDeployment,
    ObservedBuild,
    ObservedDeployment,
    Plan,
    Refusal,
    Risk,
    Routing,
)
from temporal_fleet.versioning.routing import plan_routing
from temporal_fleet.versioning.routing_notes import was_current
from temporal_fleet.versioning.task_queues import is_ready, not_ready
from temporal_fleet.versioning.validation import is_same_share


def plan_ramp(
    observed: ObservedDeployment,
    build_id: str,
    percentage: float,
    *,
    allow_ramp_down: bool = False,
    accepted: Collection[Risk] = (),
    identity: str | None = None,
) -> Plan | Refusal:
    """Plan to send a share of new work to a build.

    Args:
        observed: The Worker Deployment as it is.
        build_id: Build ID, or `UNVERSIONED` or the word that stands for it; the server must know it.
        percentage: From 0 to 100.
        allow_ramp_down: Whether it may be less than now, or than what another build has that stops ramping.
        accepted: What may happen to task queues.
        identity: Who carries the plan out.

    Returns:
        A plan; or everything that speaks against it.
    """
    build_id = _named(observed, build_id)
    now = observed.routing
    lowers = build_id == now.ramping and percentage <= now.percentage
    if not lowers and (reasons := _check_known(observed, build_id)):
        return Refusal(observed.deployment, tuple(reasons))
    if build_id == _current(observed):
        reason = f"{build_name(build_id)} is current: it already gets all work except the ramp. "
        return Refusal(observed.deployment, (reason + "Name another build",))
    wanted = Routing(_current(observed), build_id, percentage)
    plan = _plan(
        observed, wanted, allow_ramp_down=allow_ramp_down, accepted=accepted, identity=identity
    )
    if allow_ramp_down or not (taken := _check_taken(wanted, now)):
        return plan
    others = plan.reasons if isinstance(plan, Refusal) else ()
    return Refusal(observed.deployment, (*others, *taken))


def plan_promote(
    observed: ObservedDeployment,
    build_id: str | None = None,
    *,
    accepted: Collection[Risk] = (),
    identity: str | None = None,
) -> Plan | Refusal:
    """Plan to send all new work to a build.

    Args:
        observed: The Worker Deployment as it is.
        build_id: Build ID, or `UNVERSIONED` or the word that stands for it; None = the build that is ramping.
        accepted: What may happen to task queues.
        identity: Who carries the plan out.

    Returns:
        A plan, without steps when it is current and nothing ramps; or why not.
    """
    build_id = observed.routing.ramping if build_id is None else _named(observed, build_id)
    if build_id is None:
        others = _other_polled(observed)
        return Refusal(
            observed.deployment,
            (f"nothing is ramping, so the build ID must be named. {_candidates(others)}",),
        )
    if reasons := _check_known(observed, build_id):
        return Refusal(observed.deployment, tuple(reasons))
    return _plan(observed, Routing(build_id), accepted=accepted, identity=identity)


def plan_rollback(
    observed: ObservedDeployment,
    to: str | None = None,
    *,
    accepted: Collection[Risk] = (),
    identity: str | None = None,
) -> Plan | Refusal:
    """Plan to take new work away from a build that turns out to be bad.

    While a build is ramping, its ramp ends. Otherwise the build that was current before becomes
    current again, if it is the older one: rolling back twice must not lead to the bad build again. Never
    waits for workers: a build that is not polled now is refused.

    Args:
        observed: The Worker Deployment as it is.
        to: Build ID, or `UNVERSIONED` or the word that stands for it, to go to; None = as above.
        accepted: What may happen to task queues. A share of them with another Worker Deployment is no
            obstacle on the way back.
        identity: Who carries the plan out.

    Returns:
        A plan, or why not, with the builds that could take over.
    """
    to = None if to is None else _named(observed, to)
    current, ramping = _current(observed), observed.routing.ramping
    if ramping is not None and to in (None, current):
        return _end_ramp(observed, ramping, identity)
    if to == current:
        note = f"{build_name(current)} is current, and nothing is ramping"
        return Plan(observed.deployment, (), (note,))
    if to is None:
        target, reasons = _previous(observed)
    else:
        target, reasons = observed.builds.get(to), _check_target(observed, to)
    if target is None or reasons:
        return Refusal(observed.deployment, tuple(reasons))
    if waits := not_ready(observed, target):
        return Refusal(observed.deployment, (_name_another(observed, target, waits),))
    accepted = {*accepted, Risk.SHARED_TASK_QUEUES}
    plan = _plan(observed, Routing(target.build_id), accepted=accepted, identity=identity)
    if isinstance(plan, Plan) and target.build_id != UNVERSIONED and not was_current(target):
        note = f"{build_name(target.build_id)} was never current, so this does not go back to known code"
        plan = Plan(plan.deployment, plan.steps, (note, *plan.notes))
    return plan


def _plan(
    observed: ObservedDeployment,
    wanted: Routing,
    *,
    allow_ramp_down: bool = False,
    accepted: Collection[Risk] = (),
    identity: str | None = None,
) -> Plan | Refusal:
    builds = {build_id: build_id for build_id in observed.builds}
    builds |= {each: each for each in (wanted.current, wanted.ramping) if each}
    desired = DesiredDeployment(
        queue=observed.deployment,
        deployment=observed.deployment,
        builds=builds,
        routing=wanted,
        accepted=frozenset(accepted),
    )
    return plan_routing(desired, observed, allow_ramp_down=allow_ramp_down, identity=identity)


def _end_ramp(observed: ObservedDeployment, ramping: str, identity: str | None) -> Plan | Refusal:
    if managed := check_manager(observed, identity):
        return Refusal(observed.deployment, tuple(managed))
    current = build_name(_current(observed))
    share = percent(observed.routing.percentage)
    notes = [
        f"all new work goes to {current}; auto-upgrade runs that {build_name(ramping)} worked on "
        f"continue on {current}, runs pinned to {build_name(ramping)} stay there"
    ]
    build = observed.builds.get(_current(observed))
    if build is None or not is_ready(observed, build):
        notes.append(f"{current} is not polled on every task queue now: new work may wait")
    step = ClearRamping(ramping, f"rollback; it takes {share} of new work now")
    return Plan(observed.deployment, (step,), tuple(notes))


def _current(observed: ObservedDeployment) -> str:
    return observed.routing.current or UNVERSIONED


def _named(observed: ObservedDeployment, word: str) -> str:
    """Return the build ID that a word on the command line stands for."""
    is_shown = word == build_name(UNVERSIONED) and word not in observed.builds
    return UNVERSIONED if is_shown else word


def _check_known(observed: ObservedDeployment, build_id: str) -> list[str]:
    if build_id == UNVERSIONED:
        unversioned = observed.builds.get(UNVERSIONED)
        if unversioned is not None and unversioned.has_pollers:
            return []
        return [
            "no worker polls without a build ID, so there are no workers to route to. Start unversioned "
            f"workers first, or name another build. {_candidates(_other_polled(observed))}"
        ]
    if build_id in observed.builds:
        return []
    close = difflib.get_close_matches(build_id, observed.builds, n=1)
    meant = f"Did you mean '{close[0]}'? " if close else ""
    return [
        f"Worker Deployment '{observed.deployment}' has no {build_name(build_id)}: no worker has "
        f"polled with it. {meant}{_candidates(_other_polled(observed))}"
    ]


def _check_taken(wanted: Routing, now: Routing) -> list[str]:
    """Return why a build does not get the place of another one that has a larger share."""
    if now.ramping in (None, wanted.ramping) or wanted.ramping is None:
        return []
    if wanted.percentage >= now.percentage or is_same_share(wanted.percentage, now.percentage):
        return []
    return [
        f"{build_name(now.ramping)} is ramping at {percent(now.percentage)}, and "
        f"{build_name(wanted.ramping)} at {percent(wanted.percentage)} would take its place, so that "
        f"{percent(now.percentage - wanted.percentage)} of new work would go back to "
        f"{build_name(wanted.current or UNVERSIONED)}. Promote or roll back the ramp first, or pass "
        "--allow-ramp-down"
    ]


def _check_target(observed: ObservedDeployment, to: str) -> list[str]:
    if to != observed.routing.ramping:
        return _check_known(observed, to)
    word, deployment = _word(to), observed.deployment
    return [
        f"{build_name(to)} is ramping at {percent(observed.routing.percentage)}, so making it current "
        f"is no way back: that is promote: fleet rollout promote {deployment} {word}. To end its "
        f"ramp: fleet rollout rollback {deployment}"
    ]


def _other_polled(observed: ObservedDeployment) -> list[ObservedBuild]:
    current = _current(observed)
    found = [each for each in observed.builds.values() if is_ready(observed, each)]
    return sorted(
        (each for each in found if each.build_id != current), key=lambda each: each.build_id
    )


def _candidates(builds: Iterable[ObservedBuild]) -> str:
    names = ", ".join(_word(each.build_id) for each in builds)
    return f"Polled now: {names}" if names else "No other build is polled now"


def _word(build_id: str) -> str:
    """Return how a command names a build."""
    return build_name(UNVERSIONED) if build_id == UNVERSIONED else build_id


def _previous(observed: ObservedDeployment) -> tuple[ObservedBuild | None, list[str]]:
    """Return the build that was current before, or why there is none to go back to."""
    current = _current(observed)
    before = [
        (each.last_current, each)
        for each in observed.builds.values()
        if each.last_current is not None and each.build_id != current
    ]
    if before:
        last = max(before, key=lambda each: each[0])[1]
        is_older = _is_older(last, observed.builds.get(current))
        return (last, []) if is_older else (None, [_no_way_back(observed, last)])
    # The first build that is current took over from unversioned workers, if there were any.
    unversioned = observed.builds.get(UNVERSIONED)
    if current != UNVERSIONED and unversioned is not None and unversioned.has_pollers:
        return unversioned, []
    return None, [_no_previous(observed)]


def _is_older(build: ObservedBuild, other: ObservedBuild | None) -> bool:
    """Return whether the server is known to have seen a build before the other one.

    Of unversioned workers nobody knows, and who came to them from a build went back already.
    """
    if other is None or build.created is None or other.created is None:
        return False
    return build.created < other.created


def _no_way_back(observed: ObservedDeployment, last: ObservedBuild) -> str:
    return (
        f"{build_name(last.build_id)} was current before {build_name(_current(observed))}, but is not "
        "known to be older, so a rollback may have been done already and another one would undo it. "
        f"Name a build with --to. {_candidates(_other_polled(observed))}"
    )


def _no_previous(observed: ObservedDeployment) -> str:
    return (
        f"nothing is ramping, and no build was current before {build_name(_current(observed))}. "
        f"Name one with --to. {_candidates(_other_polled(observed))}"
    )


def _name_another(observed: ObservedDeployment, build: ObservedBuild, waits: str) -> str:
    others = [each for each in _other_polled(observed) if each is not build]
    return (
        f"{waits}, so new work would wait. Start its workers first, or name another build with --to. "
        f"{_candidates(others)}"
    )
