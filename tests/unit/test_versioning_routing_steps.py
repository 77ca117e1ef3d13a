"""Steps of plans of routing: the shortest way from where the server is, over polled builds alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from routing_situations import (
    BLUE,
    CURRENT,
    GREEN,
    NOBODY,
    RAMPING,
    RED,
    blue_green,
    short,
    steps_of,
    values,
)
from simulated_server import build, deployment

from temporal_fleet.versioning import (
    UNVERSIONED,
    BuildStatus,
    DesiredDeployment,
    ObservedBuild,
    ObservedDeployment,
    Plan,
    Routing,
    SetRamping,
    describe,
    describe_routing,
    plan_routing,
)
from temporal_fleet.versioning.task_queues import unpolled_by_unversioned

FIVE_MINUTES = timedelta(minutes=5)
UNVERSIONED_ONLY = deployment(build(UNVERSIONED))

ROUTINGS = [
    pytest.param(NOBODY, values(BLUE), ["wait blue", "current blue"], id="first-install"),
    pytest.param(
        NOBODY,
        values(BLUE, GREEN, 10),
        ["wait blue", "wait green", "current blue", "green 10 %"],
        id="first-install-with-ramp",
    ),
    pytest.param(NOBODY, values(UNVERSIONED, builds=[UNVERSIONED]), [], id="never-versioned"),
    pytest.param(
        UNVERSIONED_ONLY,
        values(UNVERSIONED, BLUE, 10, [UNVERSIONED, BLUE]),
        ["wait blue", "blue 10 %"],
        id="migration-by-ramp",
    ),
    pytest.param(
        deployment(build(UNVERSIONED), build(BLUE)),
        values(BLUE, builds=[UNVERSIONED, BLUE]),
        ["current blue"],
        id="migration-at-once",
    ),
    pytest.param(
        deployment(build(UNVERSIONED), build(BLUE, CURRENT), current=BLUE),
        values(UNVERSIONED, builds=[UNVERSIONED, BLUE]),
        ["current unversioned"],
        id="back-to-unversioned",
    ),
    pytest.param(
        deployment(build(BLUE, CURRENT), current=BLUE),
        values(BLUE, UNVERSIONED, 50, [UNVERSIONED, BLUE]),
        ["wait unversioned", "unversioned 50 %"],
        id="back-to-unversioned-by-ramp",
    ),
    pytest.param(blue_green(), values(BLUE), [], id="equal"),
    pytest.param(
        blue_green(33.29999923706055), values(BLUE, GREEN, 33.3), [], id="equal-as-float32"
    ),
    pytest.param(blue_green(), values(BLUE, GREEN, 10), ["green 10 %"], id="ramp"),
    pytest.param(
        blue_green(pollers=0), values(BLUE, GREEN, 10), ["wait green", "green 10 %"], id="unpolled"
    ),
    pytest.param(blue_green(10), values(BLUE, GREEN, 50), ["green 50 %"], id="ramp-up"),
    pytest.param(
        blue_green(10, pollers=0),
        values(BLUE, GREEN, 50),
        ["wait green", "green 50 %"],
        id="ramp-up-unpolled",
    ),
    pytest.param(blue_green(50), values(GREEN), ["current green"], id="promote"),
    pytest.param(blue_green(50), values(BLUE), ["end green"], id="end-of-ramp"),
    pytest.param(blue_green(10), values(BLUE, GREEN, 100), ["green 100 %"], id="ramp-to-100"),
    pytest.param(
        blue_green(50),
        values(RED, builds=[BLUE, GREEN, RED]),
        ["wait red", "end green", "current red"],
        id="another-build",
    ),
    pytest.param(
        blue_green(50),
        values(BLUE, RED, 5, [BLUE, GREEN, RED]),
        ["wait red", "red 5 %"],
        id="another-ramp",
    ),
    pytest.param(
        blue_green(50),
        values(GREEN, RED, 5, [BLUE, GREEN, RED]),
        ["wait red", "current green", "red 5 %"],
        id="promote-and-ramp-the-next",
    ),
    pytest.param(
        deployment(
            build(BLUE, CURRENT),
            build(GREEN, RAMPING),
            build(RED),
            current=BLUE,
            ramping=GREEN,
            percentage=50,
        ),
        values(RED, UNVERSIONED, 5, [BLUE, GREEN, RED, UNVERSIONED]),
        ["wait unversioned", "end green", "current red", "unversioned 5 %"],
        id="another-build-and-another-ramp",
    ),
    pytest.param(
        replace(blue_green(50), builds={**blue_green(50).builds, RED: build(RED)}),
        values(RED, GREEN, 50, [BLUE, GREEN, RED]),
        ["current red"],
        id="another-build-beside-the-same-ramp",
    ),
    pytest.param(
        deployment(build(BLUE, CURRENT), build(GREEN, unpolled="workflow"), current=BLUE),
        values(GREEN),
        ["wait green", "current green"],
        id="partly-polled",
    ),
    pytest.param(
        deployment(build(UNVERSIONED, unpolled="workflow"), build(BLUE, CURRENT), current=BLUE),
        values(UNVERSIONED, builds=[UNVERSIONED, BLUE]),
        ["wait unversioned", "current unversioned"],
        id="back-to-unversioned-workers-for-activities-alone",
    ),
    pytest.param(
        deployment(build(UNVERSIONED), build(BLUE, CURRENT), current=BLUE),
        values(BLUE, UNVERSIONED, 0, [UNVERSIONED, BLUE]),
        [],
        id="unversioned-at-0",
    ),
    pytest.param(
        deployment(
            build(UNVERSIONED, RAMPING, pollers=0),
            build(BLUE, CURRENT),
            current=BLUE,
            ramping=UNVERSIONED,
            percentage=50,
        ),
        replace(values(BLUE, UNVERSIONED, 0, [UNVERSIONED, BLUE]), allow_ramp_down=True),
        ["end unversioned"],
        id="unversioned-down-to-0",
    ),
    pytest.param(
        blue_green(50, pollers=0),
        replace(values(BLUE, GREEN, 5), allow_ramp_down=True),
        ["green 5 %"],
        id="ramp-down-unpolled",
    ),
    pytest.param(
        blue_green(50, pollers=0),
        replace(values(BLUE, GREEN, 0), allow_ramp_down=True),
        ["green 0 %"],
        id="ramp-down-to-0-unpolled",
    ),
]


@pytest.mark.parametrize(("observed", "desired", "expected"), ROUTINGS)
def test_plan_of_routing_is_the_shortest_way_over_polled_builds(
    observed: ObservedDeployment, desired: DesiredDeployment, expected: list[str]
) -> None:
    """Each situation has exactly these steps, in this order."""
    assert [short(each) for each in steps_of(plan_routing(desired, observed))] == expected


PROGRESSIVE = [
    pytest.param(
        blue_green(),
        values(GREEN),
        [10, 50, 100],
        [
            "green 10 %",
            "pause for 5 min",
            "wait green",
            "green 50 %",
            "pause for 5 min",
            "wait green",
            "current green",
        ],
        id="from-the-start",
    ),
    pytest.param(
        blue_green(50),
        values(GREEN),
        [10, 50, 100],
        ["pause for 5 min", "wait green", "current green"],
        id="resumed-at-a-step",
    ),
    pytest.param(
        blue_green(30),
        values(GREEN),
        [10, 50, 100],
        [
            "pause for 5 min",
            "wait green",
            "green 50 %",
            "pause for 5 min",
            "wait green",
            "current green",
        ],
        id="resumed-between-steps",
    ),
    pytest.param(blue_green(), values(GREEN), [100], ["current green"], id="one-step"),
    pytest.param(
        blue_green(),
        values(BLUE, GREEN, 50),
        [10, 50],
        ["green 10 %", "pause for 5 min", "wait green", "green 50 %"],
        id="to-a-share",
    ),
    pytest.param(blue_green(50), values(BLUE, GREEN, 50), [10, 50], [], id="at-the-share"),
    pytest.param(
        blue_green(10),
        values(BLUE, GREEN, 50),
        [10, 50],
        ["pause for 5 min", "wait green", "green 50 %"],
        id="to-a-share-resumed",
    ),
    pytest.param(
        blue_green(10, pollers=0),
        values(BLUE, GREEN, 50),
        [10, 50],
        ["wait green", "pause for 5 min", "wait green", "green 50 %"],
        id="resumed-unpolled",
    ),
    pytest.param(
        blue_green(50),
        replace(values(BLUE, GREEN, 10), allow_ramp_down=True),
        [5, 10],
        ["green 10 %"],
        id="down-to-a-share",
    ),
    pytest.param(
        blue_green(50),
        values(RED, builds=[BLUE, GREEN, RED]),
        [10, 100],
        ["wait red", "red 10 %", "pause for 5 min", "wait red", "current red"],
        id="instead-of-another-ramp",
    ),
    pytest.param(
        deployment(build(GREEN, CURRENT), current=GREEN),
        values(GREEN),
        [10, 50, 100],
        [],
        id="done",
    ),
    pytest.param(NOBODY, values(BLUE), [10, 100], ["wait blue", "current blue"], id="nobody-else"),
    pytest.param(
        UNVERSIONED_ONLY,
        values(BLUE),
        [10, 100],
        ["wait blue", "blue 10 %", "pause for 5 min", "wait blue", "current blue"],
        id="migration",
    ),
]


@pytest.mark.parametrize(("observed", "desired", "ramp_steps", "expected"), PROGRESSIVE)
def test_plan_with_steps_pauses_after_each_and_leaves_out_what_is_reached(
    observed: ObservedDeployment,
    desired: DesiredDeployment,
    ramp_steps: list[float],
    expected: list[str],
) -> None:
    """Steps are the way to the desired routing, from wherever the server is on it."""
    plan = plan_routing(desired, observed, ramp_steps=ramp_steps, pause=FIVE_MINUTES)

    assert [short(each) for each in steps_of(plan)] == expected


def test_plan_with_steps_and_no_pause_goes_straight_on() -> None:
    """Without a pause nothing is awaited between the steps, and workers only once."""
    plan = plan_routing(values(GREEN), blue_green(), ramp_steps=[10, 100])
    unpolled = plan_routing(values(GREEN), blue_green(pollers=0), ramp_steps=[10, 100])

    assert [short(each) for each in steps_of(plan)] == ["green 10 %", "current green"]
    assert [short(each) for each in steps_of(unpolled)] == [
        "wait green",
        "green 10 %",
        "current green",
    ]


@pytest.mark.parametrize(
    ("share", "allowed"), [(5, True), (50, False), (100, False)], ids=["less", "same", "more"]
)
def test_plan_of_a_share_says_whether_it_rises(share: float, allowed: bool) -> None:
    """Who carries a plan out needs workers only for a build that gets more."""
    plan = plan_routing(values(BLUE, GREEN, share), blue_green(50), allow_ramp_down=allowed)

    assert isinstance(plan, Plan)
    assert [step.raises for step in plan.steps if isinstance(step, SetRamping)] == (
        [] if share == 50 else [share > 50]
    )


def test_plan_that_ends_a_ramp_by_values_needs_no_permission() -> None:
    """Leaving routing.ramping empty is the documented way back, whatever the share is."""
    assert [short(each) for each in steps_of(plan_routing(values(BLUE), blue_green(100)))] == [
        "end green"
    ]


@pytest.mark.parametrize(
    ("builds", "expected"),
    [
        pytest.param([build(UNVERSIONED)], [], id="all"),
        pytest.param([build(UNVERSIONED, unpolled="workflow")], ["workflow"], id="activities"),
        pytest.param([build(UNVERSIONED, pollers=0)], ["workflow", "activity"], id="gone"),
        pytest.param([], ["workflow", "activity"], id="never-seen"),
    ],
)
def test_unversioned_workers_have_to_poll_what_the_current_build_has_registered(
    builds: list[ObservedBuild], expected: list[str]
) -> None:
    """Nobody registers for unversioned workers, so the current build says what they take over."""
    observed = deployment(build(BLUE, CURRENT, unpolled="activity"), *builds, current=BLUE)

    assert [each.type for each in unpolled_by_unversioned(observed)] == expected
    assert unpolled_by_unversioned(replace(observed, routing=Routing(None))) == ()
    assert unpolled_by_unversioned(replace(observed, routing=Routing(UNVERSIONED))) == ()


def test_build_is_polled_only_when_all_types_of_its_tasks_are() -> None:
    """A build without workers for workflows is not ready, although it has workers."""
    partly = build(BLUE, unpolled="workflow")

    assert build(BLUE).is_polled
    assert not partly.is_polled
    assert partly.has_pollers
    assert not ObservedBuild(BLUE, BuildStatus.INACTIVE).is_polled


def test_steps_are_described_with_their_reason() -> None:
    """A step is one line that says what is done and why."""
    plan = plan_routing(values(BLUE, GREEN, 10), blue_green(pollers=0))

    assert isinstance(plan, Plan)
    assert [describe(each) for each in plan.steps] == [
        "wait until build ID '1.5.0' is polled: no worker polls task queue 'orders' "
        "(workflow, activity) for it now",
        "send 10 % of new work to build ID '1.5.0': it gets no new work yet",
    ]


@pytest.mark.parametrize(
    ("routing", "expected"),
    [
        (Routing(None), "unversioned is current"),
        (Routing(BLUE), "build ID '1.4.0' is current"),
        (
            Routing(BLUE, GREEN, 33.29999923706055),
            "build ID '1.4.0' is current, build ID '1.5.0' is ramping at 33.3 %",
        ),
    ],
)
def test_routing_is_described_in_one_line(routing: Routing, expected: str) -> None:
    """Routing reads as a sentence."""
    assert describe_routing(routing) == expected
