from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from simulated_server import NAME, build, deployment

from temporal_fleet.versioning import (
    UNVERSIONED,
    BuildStatus,
    DesiredDeployment,
    ObservedDeployment,
    OpenRuns,
    Place,
    RemovalVerdict,
    Routing,
    plan_removal,
    removed_builds,
)

BLUE, GREEN = "1.4.0", "1.5.0"
INACTIVE, CURRENT, RAMPING = BuildStatus.INACTIVE, BuildStatus.CURRENT, BuildStatus.RAMPING
DRAINING, DRAINED = BuildStatus.DRAINING, BuildStatus.DRAINED


def values(queue: str = "orders", deployment: str = NAME, **builds: str) -> DesiredDeployment:
    """Return values of a task queue with these keys and build IDs; the last one is current."""
    return DesiredDeployment(queue, deployment, builds, Routing(list(builds.values())[-1]))


def judge(
    observed: ObservedDeployment,
    installed: DesiredDeployment,
    wanted: DesiredDeployment | None,
    *forced: str,
) -> RemovalVerdict:
    """Judge a change of one task queue; None = it is uninstalled."""
    after = {wanted.queue: wanted} if wanted else {}
    return plan_removal({installed.queue: installed}, after, {NAME: observed}, forced)


def told(verdict: RemovalVerdict) -> str:
    """Return all that is told of refused builds."""
    return "\n".join(reason for each in verdict.refused for reason in each.reasons)


BOTH = values(blue=BLUE, green=GREEN)
GREEN_ONLY = values(green=GREEN)


def after_promotion(status: BuildStatus = DRAINED, pinned: int = 0) -> ObservedDeployment:
    """Return a server where green has taken over from blue."""
    return deployment(build(BLUE, status, pinned=pinned), build(GREEN, CURRENT), current=GREEN)


REMOVED = [
    pytest.param(BOTH, BOTH, {}, id="nothing"),
    pytest.param(BOTH, GREEN_ONLY, {NAME: {BLUE}}, id="one"),
    pytest.param(BOTH, values(red=BLUE, white=GREEN), {}, id="other-keys"),
    pytest.param(values(blue=BLUE), values(blue=GREEN), {NAME: {BLUE}}, id="reused-key"),
    pytest.param(BOTH, values(deployment="o2", blue=BLUE), {NAME: {BLUE, GREEN}}, id="renamed"),
    pytest.param(BOTH, None, {NAME: {BLUE, GREEN}}, id="uninstalled"),
]


@pytest.mark.parametrize(("installed", "wanted", "expected"), REMOVED)
def test_removed_builds_are_those_that_no_key_holds_any_more(
    installed: DesiredDeployment,
    wanted: DesiredDeployment | None,
    expected: Mapping[str, set[str]],
) -> None:
    """What counts is the build ID in its Worker Deployment, not its key."""
    after = {"orders": wanted} if wanted else {}

    assert removed_builds({"orders": installed}, after) == expected


def test_removed_builds_of_a_task_queue_with_another_key_are_none() -> None:
    """A task queue may get another key as long as its Worker Deployment stays."""
    assert removed_builds({"orders": BOTH}, {"shop": replace(BOTH, queue="shop")}) == {}


@pytest.mark.parametrize("status", [DRAINED, INACTIVE])
def test_removal_of_a_build_without_work_is_allowed(status: BuildStatus) -> None:
    """No new work and no open pinned run: its workers may go."""
    verdict = judge(after_promotion(status), BOTH, GREEN_ONLY)

    assert not verdict.is_refused
    assert [each.name for each in verdict.allowed] == ["orders/1.4.0"]
    assert verdict.allowed[0].reasons == (f"it is {status.value}, and no open run is pinned to it",)


def test_removal_of_a_build_that_never_polled_is_allowed() -> None:
    """A build whose workers never started needs none."""
    observed = deployment(build(GREEN, CURRENT), current=GREEN)

    assert judge(observed, BOTH, GREEN_ONLY).allowed[0].reasons == (
        "the server has no record of it",
    )


def test_removal_of_a_build_with_open_pinned_runs_is_refused_and_names_them() -> None:
    """The message names count, workflow and run IDs, so that somebody can look at them."""
    verdict = judge(after_promotion(DRAINING, pinned=4), BOTH, GREEN_ONLY)

    assert verdict.is_refused
    assert "4 open pinned runs would have no workers: order-0 (run run-0), order-1" in told(verdict)
    assert "and 1 more. Wait until they end, or move them" in told(verdict)


def test_removal_with_runs_that_nobody_could_list_tells_their_number() -> None:
    """A count without names is still a reason."""
    blue = replace(build(BLUE, DRAINED), open_pinned=OpenRuns(2))
    observed = deployment(blue, build(GREEN, CURRENT), current=GREEN)

    assert "2 open pinned runs would have no workers. Wait" in told(
        judge(observed, BOTH, GREEN_ONLY)
    )


def test_removal_of_the_current_build_is_refused_with_the_two_upgrades_it_takes() -> None:
    """Even when the same change routes away: the guard runs before the routing does."""
    observed = deployment(build(BLUE, CURRENT), build(GREEN), current=BLUE)

    verdict = judge(observed, BOTH, GREEN_ONLY)

    assert "'1.4.0' is current: new work would wait for workers that are gone" in told(verdict)
    assert "First upgrade with its new work routed to another build while both are listed" in told(
        verdict
    )


def test_removal_of_the_ramping_build_is_refused() -> None:
    """A share of new work is new work."""
    observed = deployment(
        build(BLUE, CURRENT), build(GREEN, RAMPING), current=BLUE, ramping=GREEN, percentage=5
    )

    assert "'1.5.0' is ramping at 5 %" in told(judge(observed, BOTH, values(blue=BLUE)))


def test_removal_by_another_build_id_under_the_same_key_is_refused_and_says_so() -> None:
    """Editing a build in place replaces its workers: the way is another key."""
    observed = deployment(build(BLUE, CURRENT), current=BLUE)

    verdict = judge(observed, values(blue=BLUE), values(blue=GREEN))

    assert "its key 'blue' is to stand for build ID '1.5.0'" in told(verdict)


def test_removal_of_unversioned_workers_before_a_build_is_current_is_refused() -> None:
    """Nobody has set a current build: then unversioned workers get all new work."""
    observed = deployment(build(UNVERSIONED), build(BLUE))
    installed, wanted = values(old=UNVERSIONED, blue=BLUE), values(blue=BLUE)

    assert "unversioned is current" in told(judge(observed, installed, wanted))
    observed = deployment(build(UNVERSIONED, runs=3), build(BLUE, CURRENT), current=BLUE)
    assert not judge(observed, installed, wanted).is_refused


def test_removal_while_routing_is_being_spread_is_refused() -> None:
    """A build that the server has just stopped routing to may get work for some seconds yet."""
    observed = replace(after_promotion(DRAINED), update_in_progress=True)

    assert "propagating the last routing change. Wait" in told(judge(observed, BOTH, GREEN_ONLY))


def test_removal_that_is_forced_by_name_is_allowed_and_reported() -> None:
    """Force works for exactly the builds that it names, and nothing of it is silent."""
    observed = deployment(
        build(BLUE, DRAINED, pinned=1), build("1.3.0", DRAINED, pinned=1), current=GREEN
    )
    installed = values(old="1.3.0", blue=BLUE, green=GREEN)

    verdict = judge(observed, installed, GREEN_ONLY, "orders/1.4.0", "orders/9", "1.3.0")

    assert [each.name for each in verdict.forced] == ["orders/1.4.0"]
    assert verdict.forced[0].reasons
    assert [each.name for each in verdict.refused] == ["orders/1.3.0"]
    assert verdict.unused_force == ("1.3.0", "orders/9")


def test_uninstalling_without_open_runs_is_allowed_although_a_build_is_current() -> None:
    """Whoever removes everything wants no routing either."""
    verdict = judge(after_promotion(), BOTH, None)

    assert not verdict.is_refused
    assert [each.reasons[0] for each in verdict.allowed] == [
        "it is drained, and it has no open run",
        "it is current, and it has no open run",
    ]


def test_uninstalling_with_open_auto_upgrade_runs_is_refused() -> None:
    """No build is left that they could move to."""
    observed = deployment(build(BLUE, CURRENT, runs=2), current=BLUE)

    verdict = judge(observed, values(blue=BLUE), None)

    assert "2 open runs would have no workers: order-0 (run run-0), order-1" in told(verdict)


def test_uninstalling_a_release_beside_another_that_carries_on_looks_at_pinned_runs_only() -> None:
    """Auto-upgrade runs move to the current build when other workers poll for it."""
    blue = build(BLUE, DRAINED, runs=2)
    carries_on = deployment(blue, build(GREEN, CURRENT), current=GREEN)
    gone = deployment(blue, build(GREEN, CURRENT, pollers=0), current=GREEN)

    assert not judge(carries_on, values(blue=BLUE), None).is_refused
    assert judge(gone, values(blue=BLUE), None).is_refused


def test_uninstalling_the_ramping_build_beside_a_release_that_carries_on_is_refused() -> None:
    """A share of new work that others route to it would wait for workers that are gone."""
    observed = deployment(
        build(BLUE, RAMPING), build(GREEN, CURRENT), current=GREEN, ramping=BLUE, percentage=10
    )

    assert "is ramping at 10 %" in told(judge(observed, values(blue=BLUE), None))


def test_removal_of_one_task_queue_is_judged_as_an_uninstallation_of_it() -> None:
    """A task queue that leaves the values while others stay is gone entirely."""
    mail = values("mail", "mail", blue=BLUE)
    observed = {NAME: deployment(build(BLUE, CURRENT, runs=1), current=BLUE)}

    verdict = plan_removal({"orders": values(blue=BLUE), "mail": mail}, {"mail": mail}, observed)

    assert "1 open run would have no workers" in told(verdict)


HERE = Place("temporal:7233", "shop", "orders")


@pytest.mark.parametrize(
    ("there", "told_as"),
    [
        (replace(HERE, address="other:7233"), "address 'temporal:7233' becomes 'other:7233'"),
        (replace(HERE, namespace="shop2"), "namespace 'shop' becomes 'shop2'"),
        (replace(HERE, task_queue="parcels"), "task queue 'orders' becomes 'parcels'"),
    ],
    ids=["address", "namespace", "task-queue"],
)
def test_removal_by_a_move_of_the_workers_is_refused_while_any_run_is_open(
    there: Place, told_as: str
) -> None:
    """Workers that would poll elsewhere are gone where their runs are, though their build stays listed."""
    here, moved = replace(GREEN_ONLY, place=HERE), replace(GREEN_ONLY, place=there)
    green = replace(build(GREEN, CURRENT), open_runs=OpenRuns(2))
    busy, idle = (deployment(each, current=GREEN) for each in (green, build(GREEN, CURRENT)))

    assert removed_builds({"orders": here}, {"orders": moved}) == {NAME: {GREEN}}
    refused = judge(busy, here, moved)
    assert "2 open runs would have no workers" in told(refused)
    assert told_as in told(refused)
    assert not judge(idle, here, moved).is_refused
    assert not judge(busy, here, moved, f"orders/{GREEN}").is_refused


@pytest.mark.parametrize("unknown", ["installed", "wanted"])
def test_removal_where_a_release_does_not_say_where_it_polls_is_none(unknown: str) -> None:
    """What an older release did not write down is no move."""
    known, silent = replace(GREEN_ONLY, place=HERE), GREEN_ONLY
    installed, wanted = (silent, known) if unknown == "installed" else (known, silent)

    assert removed_builds({"orders": installed}, {"orders": wanted}) == {}


BRAIN, MUSCLE = {"brain": "workflows"}, {"muscle": "activities"}


def shared(*keys: str, **workloads: str) -> DesiredDeployment:
    """Return values of a current build whose workers are those of these keys, each with its workload."""
    workers = {key: {**BRAIN, **MUSCLE, **workloads}[key] for key in keys}
    return replace(values(keys[0], blue=BLUE), workers={BLUE: workers})


@pytest.mark.parametrize("left", ["brain", "muscle"])
def test_removal_of_one_of_two_keys_of_a_build_that_works_is_refused(left: str) -> None:
    """The key that stays cannot serve what only the other one did, whichever names the routing."""
    (gone,) = {"brain", "muscle"} - {left}
    observed = deployment(build(BLUE, CURRENT, pinned=1), current=BLUE)

    verdict = judge(observed, shared("brain", "muscle"), shared(left))

    assert [each.name for each in verdict.refused] == [f"{gone}/{BLUE}"]
    assert "1 open pinned run would have no workers: order-0" in told(verdict)
    assert f"run the workload { ({**BRAIN, **MUSCLE}[gone])!r} any more" in told(verdict)


def test_removal_of_one_of_two_keys_can_be_forced_by_its_name() -> None:
    """The key that loses its workers is named to lose them all the same, and no other key."""
    observed = deployment(build(BLUE, CURRENT), current=BLUE)
    change = shared("brain", "muscle"), shared("brain")

    assert judge(observed, *change, f"muscle/{BLUE}").forced
    assert judge(observed, *change, f"brain/{BLUE}").unused_force == (f"brain/{BLUE}",)


def test_removal_of_a_shared_build_can_be_forced_by_either_key() -> None:
    """A build that leaves all of its keys at once is one build, whichever key names it."""
    observed = deployment(build(BLUE, CURRENT, runs=1), current=BLUE)

    for key in ("brain", "muscle"):
        verdict = judge(observed, shared("brain", "muscle"), None, f"{key}/{BLUE}")
        assert [each.build_id for each in verdict.forced] == [BLUE]
        assert verdict.unused_force == ()


@pytest.mark.parametrize(
    ("installed", "wanted"),
    [
        (shared("brain", "muscle", muscle="workflows"), shared("brain")),
        (shared("brain"), shared("muscle", muscle="workflows")),
        (shared("brain", "muscle"), values(blue=BLUE)),
    ],
    ids=["both ran one workload", "another key", "nobody said"],
)
def test_removal_of_a_key_whose_workload_others_run_removes_nothing(
    installed: DesiredDeployment, wanted: DesiredDeployment
) -> None:
    """What counts is whether workers of the build still run a workload, not under which key."""
    assert removed_builds({"brain": installed}, {"brain": wanted}) == {}
