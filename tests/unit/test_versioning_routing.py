from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from simulated_server import NAME, build, deployment

from temporal_fleet.versioning import (
    UNVERSIONED,
    BuildStatus,
    DesiredDeployment,
    ObservedBuild,
    ObservedDeployment,
    Plan,
    Refusal,
    Routing,
    SetRamping,
    describe,
    describe_routing,
    plan_routing,
)
from temporal_fleet.versioning.readiness import unpolled_by_unversioned

BLUE, GREEN, RED = "1.4.0", "1.5.0", "1.6.0"
CURRENT, RAMPING, DRAINED = BuildStatus.CURRENT, BuildStatus.RAMPING, BuildStatus.DRAINED
FIVE_MINUTES = timedelta(minutes=5)


def values(
    current: str | None,
    ramping: str | None = None,
    percentage: float = 0,
    builds: Sequence[str] = (BLUE, GREEN),
) -> DesiredDeployment:
    """Return what values say."""
    return DesiredDeployment(
        queue="orders",
        deployment=NAME,
        builds={f"key-{build_id}": build_id for build_id in builds},
        routing=Routing(current, ramping, percentage),
    )


def blue_green(share: float | None = None, pollers: int = 1) -> ObservedDeployment:
    """Return a server where blue is current, and green ramps unless *share* is None."""
    green = build(GREEN, BuildStatus.INACTIVE if share is None else RAMPING, pollers=pollers)
    blue = build(BLUE, CURRENT, last_current=1)
    ramping = None if share is None else GREEN
    return deployment(blue, green, current=BLUE, ramping=ramping, percentage=share or 0)


def steps_of(plan: Plan | Refusal) -> list[str]:
    """Return the steps without their reasons."""
    assert isinstance(plan, Plan), plan
    return [describe(step).partition(":")[0] for step in plan.steps]


def reasons_of(plan: Plan | Refusal) -> str:
    """Return all reasons of a refusal."""
    assert isinstance(plan, Refusal), plan
    return "\n".join(plan.reasons)


def notes_of(plan: Plan | Refusal) -> str:
    """Return all notes of a plan."""
    assert isinstance(plan, Plan), plan
    return "\n".join(plan.notes)


NOBODY = deployment()
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


def short(step: str) -> str:
    """Return a step in the words of the tables."""
    for build_id, colour in ((BLUE, "blue"), (GREEN, "green"), (RED, "red")):
        step = step.replace(f"build ID '{build_id}'", colour)
    words = step.split()
    match words[0]:
        case "send":
            return f"{words[-1]} {words[1]} %"
        case "wait":
            return f"wait {words[2]}"
        case "make":
            return f"current {words[1]}"
        case "end":
            return f"end {words[-1]}"
        case _:
            return step


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


REFUSED = [
    pytest.param(
        values(RED), {}, "'1.6.0' is to be current, but is none of", id="current-unlisted"
    ),
    pytest.param(
        values(BLUE, RED, 5), {}, "'1.6.0' is to be ramping, but is none of", id="ramping-unlisted"
    ),
    pytest.param(values(None), {}, "Set routing.current", id="no-current"),
    pytest.param(values(BLUE, BLUE, 5), {}, "both current and ramping", id="ramping-is-current"),
    pytest.param(values(BLUE, GREEN, -1), {}, "percentage -1 is not", id="percentage-negative"),
    pytest.param(values(BLUE, GREEN, 101), {}, "from 0 to 100", id="percentage-too-large"),
    pytest.param(values(BLUE, GREEN, float("nan")), {}, "nan is not", id="percentage-nan"),
    pytest.param(values(BLUE, None, 5), {}, "but nothing is to ramp", id="percentage-of-nobody"),
    pytest.param(values(GREEN), {"ramp_steps": [0, 100]}, "above 0", id="step-zero"),
    pytest.param(values(GREEN), {"ramp_steps": [10, 101]}, "up to 100", id="step-too-large"),
    pytest.param(values(GREEN), {"ramp_steps": [50, 10, 100]}, "do not rise", id="steps-falling"),
    pytest.param(values(GREEN), {"ramp_steps": [10, 10, 100]}, "do not rise", id="steps-equal"),
    pytest.param(
        values(GREEN), {"ramp_steps": [10, 50]}, "End them with 100", id="steps-too-short"
    ),
    pytest.param(
        values(BLUE, GREEN, 10),
        {"ramp_steps": [10, 100]},
        "is to ramp at 10 %. End them with 10, or set routing.current",
        id="steps-beyond-the-values",
    ),
    pytest.param(
        values(GREEN, RED, 10, [GREEN, RED]),
        {"ramp_steps": [5, 10]},
        "Do one after the other",
        id="steps-for-two",
    ),
    pytest.param(values(GREEN), {"pause": timedelta(seconds=-1)}, "negative", id="pause-negative"),
]


@pytest.mark.parametrize(("desired", "options", "expected"), REFUSED)
def test_plan_of_what_makes_no_sense_is_refused_with_what_to_do(
    desired: DesiredDeployment, options: dict[str, object], expected: str
) -> None:
    """Each mistake is refused in words that say how to mend it."""
    refusal = plan_routing(desired, blue_green(), **options)  # type: ignore[arg-type]

    assert expected in reasons_of(refusal)


def test_plan_of_several_mistakes_names_all_of_them() -> None:
    """Nobody has to mend one to learn of the next."""
    refusal = plan_routing(values(RED, RED, 101), blue_green(), ramp_steps=[50, 10])

    assert isinstance(refusal, Refusal)
    assert len(refusal.reasons) == 5


def test_plan_with_smaller_percentage_is_refused_until_allowed() -> None:
    """A ramp goes back only when a flag, or the values, say so."""
    desired, observed = values(BLUE, GREEN, 10), blue_green(50)

    assert "--allow-ramp-down" in reasons_of(plan_routing(desired, observed))
    assert steps_of(plan_routing(desired, observed, allow_ramp_down=True))
    assert steps_of(plan_routing(replace(desired, allow_ramp_down=True), observed))


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


def test_plan_that_ramps_the_current_build_is_refused_until_allowed() -> None:
    """Values from before a promotion do not undo it."""
    observed = deployment(
        build(BLUE, DRAINED, last_current=1), build(GREEN, CURRENT), current=GREEN
    )
    desired = values(BLUE, GREEN, 50)

    assert "is current, with all new work" in reasons_of(plan_routing(desired, observed))
    allowed = plan_routing(desired, observed, allow_ramp_down=True)
    assert [short(each) for each in steps_of(allowed)] == ["current blue", "green 50 %"]


def test_plan_under_a_manager_is_refused_unless_it_is_us_or_nothing_is_to_be_done() -> None:
    """Somebody else's routing is left alone, and the refusal says whose it is."""
    observed = replace(blue_green(), manager_identity="controller@cluster")

    assert "'controller@cluster' manages" in reasons_of(plan_routing(values(GREEN), observed))
    assert steps_of(plan_routing(values(GREEN), observed, identity="controller@cluster"))
    assert steps_of(plan_routing(values(BLUE), observed)) == []


def full(*done: ObservedBuild, polled: bool = False) -> ObservedDeployment:
    """Return a server at its cap of 10, with these builds and others that are still needed."""
    pollers, pinned = (1, 0) if polled else (0, 1)
    busy = [
        build(f"busy-{number}", DRAINED, pollers=pollers, pinned=pinned)
        for number in range(9 - len(done))
    ]
    return deployment(build(BLUE, CURRENT), *done, *busy, current=BLUE, version_cap=10)


OLD = build("old", DRAINED, pollers=0, drained=7)
OLDER = build("older", DRAINED, pollers=0, drained=3)
NEVER_USED = build("unused", pollers=0, created=5)


@pytest.mark.parametrize(
    ("done", "named"),
    [
        pytest.param([OLD, OLDER], "(older, old)", id="drained"),
        pytest.param([NEVER_USED], "(unused)", id="inactive"),
        pytest.param([OLD, NEVER_USED, OLDER], "(older, unused, old)", id="both"),
    ],
)
def test_plan_beyond_the_version_cap_notes_which_builds_the_server_may_delete_by_itself(
    done: list[ObservedBuild], named: str
) -> None:
    """What the server does by itself is no reason to refuse, but people hear of it."""
    notes = notes_of(plan_routing(values(GREEN), full(*done)))

    assert (
        "would have 11 versions, and the server takes 10 at most. It makes room by itself" in notes
    )
    assert named in notes


NEEDED = [
    pytest.param(full(), [GREEN], "No build can be deleted now", id="open-pinned-runs"),
    pytest.param(full(polled=True), [GREEN], "No build can be deleted now", id="polled"),
    pytest.param(
        full(build("draining", BuildStatus.DRAINING, pollers=0)),
        [GREEN],
        "No build can be deleted now",
        id="draining",
    ),
    pytest.param(
        full(build("inactive", pollers=0, pinned=1)), [GREEN], "No build can", id="inactive-pinned"
    ),
    pytest.param(
        replace(full(), builds={**full().builds, UNVERSIONED: build(UNVERSIONED, pollers=0)}),
        [GREEN],
        "No build can be deleted now",
        id="unversioned-has-no-record",
    ),
    pytest.param(full(NEVER_USED), [GREEN, "unused"], "No build can be deleted", id="wanted"),
    pytest.param(full(OLD), [GREEN, RED], "No build but old can be deleted now", id="too-few"),
]


@pytest.mark.parametrize(("observed", "builds", "expected"), NEEDED)
def test_plan_beyond_the_version_cap_without_enough_to_delete_is_refused(
    observed: ObservedDeployment, builds: list[str], expected: str
) -> None:
    """A build that could not register is refused before it is deployed; what is needed makes no room."""
    reasons = reasons_of(plan_routing(values(BLUE, builds=[BLUE, *builds]), observed))

    assert "keeps 10 versions" in reasons
    assert "takes 10 at most, so that the workers of '1.5.0'" in reasons
    assert expected in reasons
    assert "busy-" not in reasons


def test_plan_near_the_version_cap_has_a_note() -> None:
    """People hear of the cap before it stops them."""
    observed = replace(full(OLD), version_cap=11)
    desired = values(BLUE, builds=[BLUE])

    notes = notes_of(plan_routing(desired, observed))
    assert "10 of 11 versions. Could be deleted (old): fleet rollout retire" in notes
    busy = notes_of(plan_routing(desired, replace(full(), version_cap=11)))
    assert "10 of 11 versions, and no build can be deleted now" in busy
    roomy = replace(observed, version_cap=100)
    assert "versions" not in notes_of(plan_routing(values(BLUE, builds=[BLUE]), roomy))


def test_plan_back_to_a_build_that_was_current_is_called_a_rollback() -> None:
    """Auto-upgrade runs go back to old code: that must not go unnoticed."""
    observed = deployment(
        build(BLUE, DRAINED, last_current=1), build(GREEN, CURRENT), current=GREEN
    )

    assert "ROLLBACK: build ID '1.4.0' was current" in notes_of(
        plan_routing(values(BLUE), observed)
    )
    assert "ROLLBACK" not in notes_of(plan_routing(values(GREEN), blue_green()))


NOTES = [
    pytest.param(
        deployment(build(UNVERSIONED, runs=3), build(BLUE)),
        values(BLUE),
        "FROM UNVERSIONED to build ID '1.4.0'",
        id="migration",
    ),
    pytest.param(
        deployment(build(UNVERSIONED), build(BLUE, CURRENT), current=BLUE),
        values(UNVERSIONED, builds=[BLUE, UNVERSIONED]),
        "BACK TO UNVERSIONED from build ID '1.4.0'",
        id="back-to-unversioned",
    ),
    pytest.param(
        deployment(build(RED, CURRENT, pinned=2), build(BLUE), current=RED),
        values(BLUE),
        "'1.6.0' is current and loses its new work, but is none of the builds of 'orders'",
        id="current-of-others",
    ),
    pytest.param(
        deployment(build(RED, CURRENT, pinned=2), build(BLUE), current=RED),
        values(BLUE),
        "(2 open pinned runs)",
        id="current-of-others-runs",
    ),
    pytest.param(
        replace(blue_green(20), routing=Routing(BLUE, GREEN, 20)),
        values(BLUE, builds=[BLUE]),
        "'1.5.0' is ramping at 20 % and loses its new work",
        id="ramping-of-others",
    ),
    pytest.param(
        deployment(build(BLUE, CURRENT, pollers=0), build(GREEN), current=BLUE),
        values(BLUE, GREEN, 5),
        "nobody polls task queue 'orders' (workflow, activity) for it: new work waits",
        id="current-unpolled",
    ),
    pytest.param(
        deployment(
            build(BLUE, CURRENT, task_queues=("orders", "mail")), build(GREEN), current=BLUE
        ),
        values(GREEN),
        "'1.5.0' does not know task queue 'mail' (workflow, activity)",
        id="task-queue-dropped",
    ),
    pytest.param(blue_green(), values(BLUE, GREEN, 100), "does not make it current", id="ramp-100"),
    pytest.param(
        blue_green(50),
        values(BLUE, RED, 5, [BLUE, GREEN, RED]),
        "build ID '1.5.0' loses its 50 % of new work: the server lets one build ramp at a time, and "
        "build ID '1.6.0' takes its place at 5 %",
        id="another-ramp",
    ),
    pytest.param(
        blue_green(0), values(BLUE, RED, 5, [BLUE, GREEN, RED]), "", id="another-ramp-at-0"
    ),
    pytest.param(
        deployment(build(UNVERSIONED), build(BLUE, CURRENT), current=BLUE),
        values(BLUE, UNVERSIONED, 0, [BLUE, UNVERSIONED]),
        "unversioned is to ramp at 0 %: to the server this means that nothing ramps",
        id="unversioned-at-0",
    ),
    pytest.param(
        deployment(build(UNVERSIONED, unpolled="workflow"), build(BLUE, CURRENT), current=BLUE),
        values(BLUE, UNVERSIONED, 10, [BLUE, UNVERSIONED]),
        "unversioned workers do not poll task queue 'orders' (workflow), which build ID '1.4.0' has",
        id="unversioned-partly",
    ),
    pytest.param(
        deployment(build(UNVERSIONED, pollers=0), build(BLUE, CURRENT), current=BLUE),
        values(BLUE, UNVERSIONED, 10, [BLUE, UNVERSIONED]),
        "",
        id="unversioned-not-at-all-is-a-wait",
    ),
    pytest.param(
        replace(blue_green(), update_in_progress=True),
        values(BLUE),
        "still spreading the last change",
        id="update-in-progress",
    ),
    pytest.param(NOBODY, values(BLUE), "", id="nothing-to-say"),
]


@pytest.mark.parametrize(("observed", "desired", "expected"), NOTES)
def test_plan_of_routing_notes_what_people_should_know(
    observed: ObservedDeployment, desired: DesiredDeployment, expected: str
) -> None:
    """Consequences that nothing is done about are told."""
    notes = notes_of(plan_routing(desired, observed))

    assert expected in notes
    assert bool(notes) == bool(expected)


def test_steps_are_described_with_their_reason() -> None:
    """A step is one line that says what is done and why."""
    plan = plan_routing(values(BLUE, GREEN, 10), blue_green(pollers=0))

    assert isinstance(plan, Plan)
    assert [describe(each) for each in plan.steps] == [
        "wait until build ID '1.5.0' is polled: nobody polls task queue 'orders' "
        "(workflow, activity) for it now",
        "send 10 % of new work to build ID '1.5.0': it has no share of new work now",
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
