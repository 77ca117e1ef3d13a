from __future__ import annotations

import itertools
import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from simulated_server import NAME, SimulatedServer, build, deployment

from temporal_fleet.versioning import (
    UNVERSIONED,
    AwaitPollers,
    BuildStatus,
    DesiredDeployment,
    ObservedDeployment,
    Pause,
    Plan,
    Refusal,
    Routing,
    plan_promote,
    plan_ramp,
    plan_removal,
    plan_retire,
    plan_rollback,
    plan_routing,
    removed_builds,
)

# Every run tries the same examples: a failure here is a failure everywhere.
EXAMPLES = settings(derandomize=True, deadline=None, max_examples=150)

BUILD_IDS = ("a", "b", "c")
KNOWN = tuple(
    ids
    for size in range(len(BUILD_IDS) + 2)
    for ids in itertools.combinations((*BUILD_IDS, UNVERSIONED), size)
)
LISTED = tuple(ids for size in (1, 2, 3) for ids in itertools.permutations(KNOWN[-1], size))
PERCENTAGES = st.sampled_from([0, 5, 10, 33.3, 50, 60, 99.9, 100])
STEPS = ((), (10,), (25, 50), (5, 10, 75))


CONDITIONS = tuple(
    itertools.product(
        (BuildStatus.INACTIVE, BuildStatus.DRAINING, BuildStatus.DRAINED),
        (0, 1, "workflow", "activity"),  # pollers; or the type of tasks that no worker polls
        (0, 2),  # open pinned runs
        (0, 3),  # open runs
        (None, 7),  # minute in which it was last made current
    )
)


@st.composite
def observations(draw: st.DrawFn) -> ObservedDeployment:
    """Return a Worker Deployment that the server could describe."""
    known = draw(st.sampled_from(KNOWN))
    versioned = [each for each in known if each != UNVERSIONED]
    current = draw(st.sampled_from([None, UNVERSIONED, *versioned] if versioned else [None]))
    others = [each for each in [*versioned, UNVERSIONED] if each != (current or UNVERSIONED)]
    ramping = draw(st.sampled_from([None, *others])) if versioned else None
    percentage = draw(PERCENTAGES) if ramping else 0
    if ramping == UNVERSIONED and not percentage:
        # The server cannot say this.
        ramping = None
    builds = []
    for build_id in known:
        status, pollers, pinned, runs, minute = draw(st.sampled_from(CONDITIONS))
        status = {current: BuildStatus.CURRENT, ramping: BuildStatus.RAMPING}.get(build_id, status)
        pinned = 0 if build_id == UNVERSIONED else pinned
        builds.append(
            build(
                build_id,
                status,
                pollers=pollers if isinstance(pollers, int) else 1,
                unpolled=pollers if isinstance(pollers, str) else None,
                pinned=pinned,
                runs=runs,
                # The current build was made current after all others.
                last_current=9 if build_id == current else minute,
                created=None if build_id == UNVERSIONED else draw(st.sampled_from([1, 2, 3])),
            )
        )
    return deployment(
        *builds,
        current=current,
        ramping=ramping,
        percentage=percentage,
        version_cap=draw(st.sampled_from([2, 3, 100])),
    )


@st.composite
def wishes(draw: st.DrawFn) -> DesiredDeployment:
    """Return values that make sense by themselves."""
    listed = draw(st.sampled_from(LISTED))
    current, ramping = listed[0], draw(st.sampled_from([None, *listed[1:]]))
    return DesiredDeployment(
        queue="orders",
        deployment=NAME,
        builds={f"key-{position}": build_id for position, build_id in enumerate(listed)},
        routing=Routing(current, ramping, draw(PERCENTAGES) if ramping else 0),
        allow_ramp_down=draw(st.booleans()),
    )


@st.composite
def ways(draw: st.DrawFn, desired: DesiredDeployment) -> tuple[list[float], timedelta]:
    """Return steps that end where the values end, and a pause."""
    end = 100.0 if desired.routing.ramping is None else desired.routing.percentage
    before = draw(st.none() | st.sampled_from(STEPS))
    if before is None or end == 0:
        return [], timedelta(0)
    pause = draw(st.sampled_from([timedelta(0), timedelta(minutes=5)]))
    return [*(each for each in before if each < end), end], pause


def same(now: Routing, wanted: Routing) -> bool:
    """Return whether the server routes as wanted, as far as it can."""
    if wanted.ramping == UNVERSIONED and not wanted.percentage:
        wanted = Routing(wanted.current)
    return (
        (now.current or UNVERSIONED) == (wanted.current or UNVERSIONED)
        and now.ramping == wanted.ramping
        and math.isclose(now.percentage, wanted.percentage, abs_tol=0.001)
    )


def server_of(observed: ObservedDeployment, desired: DesiredDeployment) -> SimulatedServer:
    """Return a server whose listed builds start late and have pollers that come and go."""
    listed = frozenset(desired.builds.values())
    return SimulatedServer(
        observed, desired.allow_ramp_down, starts=listed, leaves_in_pauses=listed
    )


def drawn_plan(
    observed: ObservedDeployment, desired: DesiredDeployment, data: st.DataObject
) -> tuple[Plan, dict[str, Any]]:
    """Return a plan that leads there by drawn steps, and these as arguments for another plan."""
    steps, pause = data.draw(ways(desired))
    way: dict[str, Any] = {"ramp_steps": steps, "pause": pause}
    plan = plan_routing(desired, observed, **way)
    assume(isinstance(plan, Plan))
    assert isinstance(plan, Plan)
    return plan, way


@EXAMPLES
@given(observations(), wishes(), st.data())
def test_plan_of_routing_carried_out_ends_at_the_desired_routing_and_never_routes_unsafely(
    observed: ObservedDeployment, desired: DesiredDeployment, data: st.DataObject
) -> None:
    """A plan ends where the values say, over builds that are polled, and with no ramp going back."""
    plan, _ = drawn_plan(observed, desired, data)
    server = server_of(observed, desired)

    server.run(plan)

    assert same(server.observed.routing, desired.routing)


@EXAMPLES
@given(observations(), wishes(), st.data())
def test_plan_of_routing_made_again_after_it_was_carried_out_is_empty(
    observed: ObservedDeployment, desired: DesiredDeployment, data: st.DataObject
) -> None:
    """Applying twice is applying once."""
    plan, way = drawn_plan(observed, desired, data)
    server = server_of(observed, desired)
    server.run(plan)

    again = plan_routing(desired, server.observed, **way)

    assert isinstance(again, Plan), again
    assert again.steps == ()


@EXAMPLES
@given(observations(), wishes(), st.data())
def test_plan_of_routing_interrupted_anywhere_resumes_to_the_same_end(
    observed: ObservedDeployment, desired: DesiredDeployment, data: st.DataObject
) -> None:
    """A plan made after an interruption leads on from there, without repeating a step of the ramp."""
    steps, pause = data.draw(ways(desired))
    plan = plan_routing(desired, observed, ramp_steps=steps, pause=pause)
    assume(isinstance(plan, Plan) and plan.steps)
    assert isinstance(plan, Plan)
    server = server_of(observed, desired)
    server.run(plan, until=data.draw(st.integers(0, len(plan.steps) - 1)))

    rest = plan_routing(desired, server.observed, ramp_steps=steps, pause=pause)
    assert isinstance(rest, Plan), rest
    server.run(rest)

    assert same(server.observed.routing, desired.routing)
    ramps = [each for each in server.seen if type(each).__name__ == "SetRamping"]
    assert len(ramps) == len(set(map(repr, ramps)))


@EXAMPLES
@given(observations(), wishes(), st.data())
def test_plan_of_routing_waits_for_workers_before_any_change_or_after_a_pause(
    observed: ObservedDeployment, desired: DesiredDeployment, data: st.DataObject
) -> None:
    """A change is not begun before it is known that the rest can be done."""
    plan, _ = drawn_plan(observed, desired, data)

    kinds = [type(each) for each in plan.steps]
    begun = next((at for at, kind in enumerate(kinds) if kind is not AwaitPollers), len(kinds))
    late = [at for at, kind in enumerate(kinds) if kind is AwaitPollers and at > begun]
    assert all(kinds[at - 1] is Pause for at in late)


@EXAMPLES
@given(observations(), wishes())
def test_plan_of_routing_whose_workers_never_come_changes_nothing(
    observed: ObservedDeployment, desired: DesiredDeployment
) -> None:
    """When a wait fails, nobody has lost work by then."""
    plan = plan_routing(desired, observed)
    assume(isinstance(plan, Plan))
    assert isinstance(plan, Plan)
    server = SimulatedServer(observed, desired.allow_ramp_down)

    try:
        server.run(plan)
    except TimeoutError:
        assert server.observed == observed
    else:
        assert same(server.observed.routing, desired.routing)


@EXAMPLES
@given(observations())
def test_rollback_carried_out_twice_does_not_return_to_the_build_that_was_left(
    observed: ObservedDeployment,
) -> None:
    """A job that is started again does not undo what it did."""
    polled = {
        key: replace(each, task_queues=build(key).task_queues)
        for key, each in observed.builds.items()
    }
    observed = replace(observed, builds=polled, routing=Routing(observed.routing.current))
    plan = plan_rollback(observed)
    if isinstance(plan, Refusal):
        assert plan.reasons
        return
    server = SimulatedServer(observed)
    server.run(plan)

    assert isinstance(plan_rollback(server.observed), Refusal)


def has_room(observed: ObservedDeployment, desired: DesiredDeployment) -> bool:
    """Return whether all builds that are wanted can be known, once what is done is deleted."""
    needed = {
        each.build_id
        for each in observed.builds.values()
        if each.has_pollers or isinstance(plan_retire(observed, each.build_id), Refusal)
    }
    return len((needed | set(desired.builds.values())) - {UNVERSIONED}) <= observed.version_cap


@EXAMPLES
@given(observations(), wishes())
def test_plan_of_routing_with_more_builds_than_the_server_can_make_room_for_is_refused(
    observed: ObservedDeployment, desired: DesiredDeployment
) -> None:
    """No build is planned for that could not register."""
    new = set(desired.builds.values()) - {UNVERSIONED} - set(observed.builds)

    plan = plan_routing(desired, observed)

    if new and not has_room(observed, desired):
        assert isinstance(plan, Refusal)
        assert any(f"takes {observed.version_cap} at most" in reason for reason in plan.reasons)
    elif isinstance(plan, Refusal):
        assert not any("at most" in reason for reason in plan.reasons)


@EXAMPLES
@given(observations(), wishes())
def test_plan_of_routing_that_takes_work_from_a_ramping_build_without_permission_is_refused(
    observed: ObservedDeployment, desired: DesiredDeployment
) -> None:
    """A share that would shrink is a refusal until somebody allows it; then it is a plan."""
    observed = replace(observed, version_cap=100)
    desired = replace(desired, allow_ramp_down=False)
    wanted, now = desired.routing, observed.routing
    share = now.percentage if wanted.ramping == now.ramping else 0
    if wanted.ramping == (now.current or UNVERSIONED):
        share = 100
    shrinks = wanted.ramping is not None and wanted.percentage < share - 0.001

    assert isinstance(plan_routing(desired, observed), Refusal if shrinks else Plan)
    assert isinstance(plan_routing(desired, observed, allow_ramp_down=True), Plan)


@EXAMPLES
@given(observations(), st.sampled_from([*BUILD_IDS, UNVERSIONED]), PERCENTAGES)
def test_commands_carried_out_never_route_unsafely_and_have_their_effect(
    observed: ObservedDeployment, build_id: str, percentage: float
) -> None:
    """Ramp, promote and rollback are as safe as the values are."""
    ends = (
        (plan_ramp(observed, build_id, percentage), build_id, percentage),
        (plan_promote(observed, build_id), None, 0),
        (plan_rollback(observed), None, 0),
        (plan_rollback(observed, build_id), None, 0),
    )
    for plan, ramping, share in ends:
        if isinstance(plan, Refusal):
            assert plan.reasons
            continue
        server = SimulatedServer(observed, starts=frozenset({*observed.builds, UNVERSIONED}))

        server.run(plan)

        routing = server.observed.routing
        assert same(routing, Routing(routing.current, ramping, share))
        assert all(type(each).__name__ != "AwaitPollers" for each in plan.steps) or (
            plan not in (ends[2][0], ends[3][0])
        )


@EXAMPLES
@given(observations(), st.sampled_from([*BUILD_IDS, UNVERSIONED]))
def test_plan_to_retire_carried_out_deletes_only_what_nobody_needs(
    observed: ObservedDeployment, build_id: str
) -> None:
    """A build with pollers, open pinned runs or new work is refused; any other is deleted."""
    plan = plan_retire(observed, build_id)
    if isinstance(plan, Refusal):
        assert plan.reasons
        return
    server = SimulatedServer(observed)

    server.run(plan)

    assert build_id not in server.observed.builds
    assert build_id not in (observed.routing.current, observed.routing.ramping)


@EXAMPLES
@given(observations(), wishes(), st.none() | wishes(), st.booleans())
def test_removal_without_force_never_takes_workers_from_open_pinned_runs_or_new_work(
    observed: ObservedDeployment,
    installed: DesiredDeployment,
    wanted: DesiredDeployment | None,
    force: bool,
) -> None:
    """Every removed build is judged once; those that are needed go only when named."""
    after = {"orders": wanted} if wanted else {}
    gone = removed_builds({"orders": installed}, after).get(NAME, frozenset())
    forced = {f"orders/{build_id}" for build_id in gone} if force else set()

    verdict = plan_removal({"orders": installed}, after, {NAME: observed}, forced)

    judged = [*verdict.allowed, *verdict.refused, *verdict.forced]
    assert sorted(each.build_id for each in judged) == sorted(gone)
    assert all(each.reasons for each in judged)
    assert not (force and verdict.refused)
    assert force or not verdict.forced
    for each in verdict.allowed:
        known = observed.builds.get(each.build_id)
        assert known is None or known.open_pinned.count == 0
        if wanted is not None:
            now = observed.routing
            assert each.build_id not in (now.current or UNVERSIONED, now.ramping)


@EXAMPLES
@given(observations(), wishes())
def test_removal_of_everything_leaves_no_open_run_to_nobody(
    observed: ObservedDeployment, installed: DesiredDeployment
) -> None:
    """Uninstalling is allowed only without open runs, unless the current build stays elsewhere."""
    verdict = plan_removal({"orders": installed}, {}, {NAME: observed}, ())

    current = observed.builds.get(observed.routing.current or UNVERSIONED)
    stays = current is not None and current.is_polled
    if current is None or current.build_id in installed.builds.values():
        stays = False
    for each in verdict.allowed:
        known = observed.builds.get(each.build_id)
        assert known is None or stays or known.open_runs.count == 0
