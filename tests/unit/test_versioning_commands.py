from __future__ import annotations

from dataclasses import replace

import pytest
from simulated_server import build, deployment

from temporal_fleet.versioning import (
    UNVERSIONED,
    AwaitPollers,
    BuildStatus,
    ClearRamping,
    DeleteBuild,
    ObservedDeployment,
    Plan,
    Refusal,
    SetCurrent,
    SetRamping,
    describe,
    plan_promote,
    plan_ramp,
    plan_retire,
    plan_rollback,
)

OLD, BLUE, GREEN = "1.3.0", "1.4.0", "1.5.0"
INACTIVE, CURRENT, RAMPING = BuildStatus.INACTIVE, BuildStatus.CURRENT, BuildStatus.RAMPING
DRAINING, DRAINED = BuildStatus.DRAINING, BuildStatus.DRAINED

RAMPED = deployment(
    build(OLD, DRAINED, last_current=1),
    build(BLUE, CURRENT, last_current=2),
    build(GREEN, RAMPING, pinned=3),
    current=BLUE,
    ramping=GREEN,
    percentage=25,
)
STEADY = deployment(
    build(OLD, DRAINED, last_current=1),
    build(BLUE, CURRENT, last_current=2),
    build(GREEN),
    current=BLUE,
)

PROMOTED = deployment(
    build(OLD, DRAINED, created=1, last_current=1),
    build(BLUE, DRAINING, created=2, last_current=2),
    build(GREEN, CURRENT, created=3, last_current=3),
    current=GREEN,
)


def only_step(plan: Plan | Refusal) -> object:
    """Return the build and what happens to it, when that is all."""
    assert isinstance(plan, Plan), plan
    (step,) = plan.steps
    return replace(step, reason="")


def reason_of(plan: Plan | Refusal) -> str:
    """Return the only reason of a refusal."""
    assert isinstance(plan, Refusal), plan
    (reason,) = plan.reasons
    return reason


def test_ramp_of_a_polled_build_is_one_step() -> None:
    """A build that is polled gets its share at once."""
    assert only_step(plan_ramp(STEADY, GREEN, 10)) == SetRamping(GREEN, 10, "")


def test_ramp_of_an_unpolled_build_waits_for_its_workers_first() -> None:
    """Work never goes where nobody is."""
    observed = deployment(build(BLUE, CURRENT), build(GREEN, pollers=0), current=BLUE)

    plan = plan_ramp(observed, GREEN, 10)

    assert isinstance(plan, Plan)
    assert [type(step) for step in plan.steps] == [AwaitPollers, SetRamping]


def test_ramp_of_an_unknown_build_is_refused_with_what_was_meant() -> None:
    """A typing error is no reason to wait for workers that will never come."""
    reason = reason_of(plan_ramp(STEADY, "1.5.1", 10))

    assert "has no build ID '1.5.1'" in reason
    assert "Did you mean '1.5.0'? Polled now: 1.3.0, 1.5.0" in reason


def test_ramp_of_unversioned_workers_that_are_not_there_is_refused() -> None:
    """Unversioned workers are a target only when they poll; that they are described says nothing."""
    gone = build(UNVERSIONED, pollers=0)
    described = replace(STEADY, builds={**STEADY.builds, UNVERSIONED: gone})

    for observed in (STEADY, described):
        for plan in (
            plan_ramp(observed, UNVERSIONED, 10),
            plan_promote(observed, UNVERSIONED),
            plan_rollback(observed, UNVERSIONED),
        ):
            reason = reason_of(plan)
            assert "no worker polls without a build ID" in reason
            assert reason.endswith("Polled now: 1.3.0, 1.5.0")


def test_commands_take_the_word_that_unversioned_workers_are_shown_by() -> None:
    """What is displayed can be typed, unless a build has that very ID."""
    observed = deployment(build(BLUE, CURRENT), build(UNVERSIONED), current=BLUE)

    assert only_step(plan_promote(observed, "unversioned")) == SetCurrent(UNVERSIONED, "")
    assert only_step(plan_rollback(observed, "unversioned")) == SetCurrent(UNVERSIONED, "")
    assert only_step(plan_ramp(observed, "unversioned", 5)) == SetRamping(UNVERSIONED, 5, "")
    assert "Polled now: unversioned" in reason_of(plan_promote(observed, "9"))
    taken = replace(observed, builds={**observed.builds, "unversioned": build("unversioned")})
    assert only_step(plan_promote(taken, "unversioned")) == SetCurrent("unversioned", "")


def test_promote_of_unversioned_workers_for_activities_alone_waits_for_the_others() -> None:
    """Workflow tasks would wait for nobody, and the server does not look."""
    workers = build(UNVERSIONED)
    # The server names only what they poll.
    activities = tuple(each for each in workers.task_queues if each.type == "activity")
    observed = deployment(
        build(BLUE, CURRENT), replace(workers, task_queues=activities), current=BLUE
    )

    plan = plan_promote(observed, UNVERSIONED)

    assert isinstance(plan, Plan)
    assert [type(step) for step in plan.steps] == [AwaitPollers, SetCurrent]
    assert "no worker polls task queue 'orders' (workflow) for it now" in describe(plan.steps[0])
    for rollback in (plan_rollback(observed), plan_rollback(observed, UNVERSIONED)):
        reason = reason_of(rollback)
        assert "no worker polls task queue 'orders' (workflow) for unversioned" in reason
        assert reason.endswith("No other build is polled now")


def test_ramp_of_the_current_build_is_refused() -> None:
    """The current build has no share of its own."""
    assert "'1.4.0' is current" in reason_of(plan_ramp(STEADY, BLUE, 10))


def test_ramp_to_less_is_refused_until_allowed() -> None:
    """A command moves the ramp backwards only with its flag."""
    assert "is ramping at 25 %" in reason_of(plan_ramp(RAMPED, GREEN, 10))
    assert only_step(plan_ramp(RAMPED, GREEN, 10, allow_ramp_down=True)) == SetRamping(
        GREEN, 10, "", raises=False
    )


def test_ramp_to_less_of_a_build_without_workers_waits_for_nobody() -> None:
    """Who takes work away from a dead build is in a hurry."""
    for dead in (build(GREEN, RAMPING, pollers=0), build(UNVERSIONED, RAMPING, pollers=0)):
        observed = deployment(
            build(BLUE, CURRENT), dead, current=BLUE, ramping=dead.build_id, percentage=50
        )

        plan = plan_ramp(observed, dead.build_id, 5, allow_ramp_down=True)

        assert only_step(plan) == SetRamping(dead.build_id, 5, "", raises=False)


def test_ramp_in_the_place_of_a_larger_one_is_refused_until_allowed() -> None:
    """A build at 100 % does not lose it by a command that names another one."""
    reason = reason_of(plan_ramp(RAMPED, OLD, 5))

    assert "'1.5.0' is ramping at 25 %, and build ID '1.3.0' at 5 % would take its place" in reason
    assert "20 % of new work would go back to build ID '1.4.0'" in reason
    assert "--allow-ramp-down" in reason
    for plan in (plan_ramp(RAMPED, OLD, 5, allow_ramp_down=True), plan_ramp(RAMPED, OLD, 25)):
        assert isinstance(plan, Plan)
        assert [type(step) for step in plan.steps] == [SetRamping]
        assert "'1.5.0' loses its 25 % of new work" in plan.notes[0]


def test_ramp_that_is_wrong_in_two_ways_is_told_both() -> None:
    """Nobody has to mend one to learn of the next."""
    refusal = plan_ramp(RAMPED, OLD, -1)

    assert isinstance(refusal, Refusal)
    assert len(refusal.reasons) == 2


def test_ramp_of_unversioned_workers_to_0_ends_their_ramp() -> None:
    """The server does not know a share of 0 for them, so that nothing is left to be done after it."""
    ramped = deployment(
        build(UNVERSIONED, RAMPING),
        build(BLUE, CURRENT),
        current=BLUE,
        ramping=UNVERSIONED,
        percentage=50,
    )

    assert "is ramping at 50 %" in reason_of(plan_ramp(ramped, UNVERSIONED, 0))
    ended = plan_ramp(ramped, UNVERSIONED, 0, allow_ramp_down=True)
    assert only_step(ended) == ClearRamping(UNVERSIONED, "")
    assert isinstance(ended, Plan)
    assert "nothing ramps" in ended.notes[0]


def test_ramp_beyond_100_is_refused() -> None:
    """A percentage is a percentage on the command line too."""
    assert "from 0 to 100" in reason_of(plan_ramp(STEADY, GREEN, 120))


def test_ramp_under_another_manager_is_refused() -> None:
    """Commands leave somebody else's routing alone, each of them."""
    observed = replace(RAMPED, manager_identity="controller")

    for plan in (plan_ramp(observed, GREEN, 50), plan_promote(observed), plan_rollback(observed)):
        assert "'controller' manages" in reason_of(plan)
    assert isinstance(plan_rollback(observed, identity="controller"), Plan)


def test_promote_without_a_name_promotes_the_ramping_build() -> None:
    """The build that ramps is the one that is meant."""
    assert only_step(plan_promote(RAMPED)) == SetCurrent(GREEN, "")


def test_promote_without_a_name_and_a_ramp_is_refused_with_candidates() -> None:
    """Nobody guesses which build is meant."""
    reason = reason_of(plan_promote(STEADY))

    assert "nothing is ramping" in reason
    assert "Polled now: 1.3.0, 1.5.0" in reason


def test_promote_of_an_unknown_build_is_refused() -> None:
    """Nobody promotes what has never polled."""
    assert "has no build ID '9'" in reason_of(plan_promote(STEADY, "9"))


def test_promote_of_another_build_ends_the_ramp_first() -> None:
    """A ramp that is left over would take work from the new current build."""
    plan = plan_promote(RAMPED, OLD)

    assert isinstance(plan, Plan)
    assert [type(step) for step in plan.steps] == [ClearRamping, SetCurrent]


def test_promote_of_the_current_build_does_nothing_or_ends_the_ramp() -> None:
    """Promoting twice is promoting once."""
    plan = plan_promote(STEADY, BLUE)

    assert isinstance(plan, Plan)
    assert plan.steps == ()
    assert only_step(plan_promote(RAMPED, BLUE)) == ClearRamping(GREEN, "")


def test_rollback_mid_ramp_ends_the_ramp() -> None:
    """While a build ramps, going back means taking its share away, and nothing else."""
    plan = plan_rollback(RAMPED)

    assert only_step(plan) == ClearRamping(GREEN, "")
    assert isinstance(plan, Plan)
    assert "runs pinned to build ID '1.5.0' stay there" in plan.notes[0]
    assert only_step(plan_rollback(RAMPED, BLUE)) == ClearRamping(GREEN, "")


def test_rollback_mid_ramp_with_an_unpolled_current_build_tells() -> None:
    """Ending a ramp is never refused, but nobody is left to believe that all is well."""
    observed = deployment(
        build(BLUE, CURRENT, pollers=0),
        build(GREEN, RAMPING),
        current=BLUE,
        ramping=GREEN,
        percentage=5,
    )

    plan = plan_rollback(observed)

    assert isinstance(plan, Plan)
    assert any("new work may wait" in note for note in plan.notes)


def test_rollback_goes_to_the_build_that_was_current_last() -> None:
    """Without a ramp the former current build takes over again, and that is said loudly."""
    observed = PROMOTED

    plan = plan_rollback(observed)

    assert only_step(plan) == SetCurrent(BLUE, "")
    assert isinstance(plan, Plan)
    assert plan.notes[0].startswith("ROLLBACK")


def test_rollback_to_a_build_that_nobody_polls_is_refused_with_candidates() -> None:
    """In a hurry nobody waits for workers: the refusal says which builds are ready."""
    gone = build(BLUE, DRAINED, pollers=0, last_current=2, created=2)
    observed = replace(PROMOTED, builds={**PROMOTED.builds, BLUE: gone})

    for plan in (plan_rollback(observed), plan_rollback(observed, BLUE)):
        reason = reason_of(plan)
        assert (
            "no worker polls task queue 'orders' (workflow, activity) for build ID '1.4.0'"
            in reason
        )
        assert reason.endswith("Polled now: 1.3.0")
    assert only_step(plan_rollback(observed, OLD)) == SetCurrent(OLD, "")


def test_rollback_of_the_first_build_goes_to_unversioned_workers_if_they_poll() -> None:
    """Before the first build there were workers without versioning, if anybody."""
    first = build(BLUE, CURRENT, last_current=1)

    plan = plan_rollback(deployment(first, build(UNVERSIONED), current=BLUE))
    assert only_step(plan) == SetCurrent(UNVERSIONED, "")
    alone = deployment(first, current=BLUE)
    described = deployment(first, build(UNVERSIONED, pollers=0), current=BLUE)
    for observed in (alone, described):
        assert "no build was current before" in reason_of(plan_rollback(observed))
        assert "No other build is polled now" in reason_of(plan_rollback(observed))


NO_WAY_BACK = [
    pytest.param(
        deployment(
            build(OLD, DRAINED, created=1, last_current=1),
            build(BLUE, CURRENT, created=2, last_current=4),
            build(GREEN, DRAINING, created=3, last_current=3),
            current=BLUE,
        ),
        "build ID '1.5.0' was current before build ID '1.4.0', but is not known to be older",
        "Polled now: 1.3.0, 1.5.0",
        id="rolled-back-to-the-build-before",
    ),
    pytest.param(
        deployment(build(UNVERSIONED, CURRENT), build(BLUE, DRAINING, created=1, last_current=1)),
        "build ID '1.4.0' was current before unversioned, but is not known to be older",
        "Polled now: 1.4.0",
        id="rolled-back-to-unversioned",
    ),
    pytest.param(
        deployment(
            build(BLUE, DRAINED, last_current=1),
            build(GREEN, CURRENT, created=2, last_current=2),
            current=GREEN,
        ),
        "build ID '1.4.0' was current before build ID '1.5.0', but is not known to be older",
        "Polled now: 1.4.0",
        id="age-unknown",
    ),
    pytest.param(
        deployment(
            build(BLUE, DRAINED, created=2, last_current=1),
            build(GREEN, CURRENT, created=2, last_current=2),
            current=GREEN,
        ),
        "build ID '1.4.0' was current before build ID '1.5.0', but is not known to be older",
        "Polled now: 1.4.0",
        id="same-age",
    ),
]


@pytest.mark.parametrize(("observed", "expected", "candidates"), NO_WAY_BACK)
def test_rollback_to_a_build_that_is_not_older_is_refused_until_named(
    observed: ObservedDeployment, expected: str, candidates: str
) -> None:
    """A rollback that is carried out twice does not go forward to the bad build again."""
    reason = reason_of(plan_rollback(observed))

    assert expected in reason
    assert reason.endswith(f"Name a build with --to. {candidates}")
    newer = next(each for each in observed.builds.values() if each.status is not CURRENT)
    assert only_step(plan_rollback(observed, newer.build_id)) == SetCurrent(newer.build_id, "")


def test_rollback_to_the_ramping_build_is_refused_as_a_promotion() -> None:
    """Nobody makes the new build current by a command that goes back."""
    assert reason_of(plan_rollback(RAMPED, GREEN)) == (
        "build ID '1.5.0' is ramping at 25 %, so making it current is no way back: that is promote: "
        "fleet rollout promote orders 1.5.0. To end its ramp: fleet rollout rollback orders"
    )
    ramped = deployment(
        build(UNVERSIONED, RAMPING),
        build(BLUE, CURRENT),
        current=BLUE,
        ramping=UNVERSIONED,
        percentage=5,
    )
    assert "promote orders unversioned." in reason_of(plan_rollback(ramped, "unversioned"))


def test_rollback_to_a_build_that_never_was_current_has_a_note() -> None:
    """Somebody who calls a new build a rollback should know that it is none."""
    plan = plan_rollback(STEADY, GREEN)

    assert only_step(plan) == SetCurrent(GREEN, "")
    assert isinstance(plan, Plan)
    assert "was never current" in plan.notes[0]


def test_rollback_to_an_unknown_build_is_refused() -> None:
    """A typing error changes nothing."""
    assert "has no build ID '9'" in reason_of(plan_rollback(STEADY, "9"))


def test_rollback_to_the_current_build_without_a_ramp_does_nothing() -> None:
    """Rolling back twice is rolling back once."""
    plan = plan_rollback(STEADY, BLUE)

    assert isinstance(plan, Plan)
    assert plan.steps == ()


def other(status: BuildStatus, **more: int) -> ObservedDeployment:
    """Return a server with a current build and one in this condition."""
    condition = {"pollers": 0, **more}
    return deployment(build(BLUE, CURRENT), build(OLD, status, **condition), current=BLUE)  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [DRAINED, INACTIVE])
def test_retire_of_a_build_that_is_done_deletes_its_record(status: BuildStatus) -> None:
    """Drained, or never used, with no pollers and no runs: it can go."""
    plan = plan_retire(other(status), OLD)

    assert only_step(plan) == DeleteBuild(OLD, "")
    assert isinstance(plan, Plan)
    assert describe(plan.steps[0]) == (
        f"delete the server's record of build ID '1.3.0': it is {status.value}, and no open run is "
        "pinned to it"
    )


RETIRE_REFUSED = [
    pytest.param(STEADY, BLUE, "is current: new work would wait", id="current"),
    pytest.param(RAMPED, GREEN, "End its ramp first: fleet rollout rollback orders", id="ramping"),
    pytest.param(other(CURRENT), OLD, "was current a moment ago", id="current-just-now"),
    pytest.param(other(DRAINING), OLD, "still calls it draining", id="draining"),
    pytest.param(
        other(DRAINED, pinned=5),
        OLD,
        "5 open pinned runs would have no workers: order-0 (run run-0), order-1 (run "
        "run-1), order-2 (run run-2) and 2 more. Wait until they end, or move them",
        id="pinned",
    ),
    pytest.param(
        other(INACTIVE, runs=1), OLD, "1 open run would have no workers", id="inactive-with-run"
    ),
    pytest.param(
        other(INACTIVE, last_current=1),
        OLD,
        "was current before, and the server",
        id="inactive-again",
    ),
    pytest.param(
        other(DRAINED, pollers=2),
        OLD,
        "2 processes of it still poll task queue 'orders' (workflow, activity). Remove it from the "
        "values, or scale it to 0, then wait 5 minutes",
        id="pollers",
    ),
    pytest.param(
        replace(other(DRAINED), update_in_progress=True), OLD, "still propagating", id="update"
    ),
    pytest.param(STEADY, UNVERSIONED, "no record that could be deleted", id="unversioned"),
]


@pytest.mark.parametrize(("observed", "build_id", "expected"), RETIRE_REFUSED)
def test_retire_of_a_build_that_is_needed_is_refused_with_what_blocks(
    observed: ObservedDeployment, build_id: str, expected: str
) -> None:
    """Every obstacle is told with its numbers and with what to do."""
    refusal = plan_retire(observed, build_id)

    assert isinstance(refusal, Refusal)
    assert any(expected in reason for reason in refusal.reasons)


def test_retire_with_several_obstacles_names_all_in_the_order_of_their_removal() -> None:
    """People see the whole way: runs first, then the drain, then the workers."""
    refusal = plan_retire(other(DRAINING, pinned=1, pollers=1), OLD)

    assert isinstance(refusal, Refusal)
    assert [reason.split()[0:4] for reason in refusal.reasons] == [
        ["1", "open", "pinned", "run"],
        ["the", "server", "still", "calls"],
        ["1", "process", "of", "it"],
    ]


def test_retire_of_an_unknown_build_does_nothing() -> None:
    """Retiring twice is retiring once."""
    plan = plan_retire(STEADY, "9")

    assert isinstance(plan, Plan)
    assert plan.steps == ()
    assert plan.notes == ("the server has no record of build ID '9'",)
