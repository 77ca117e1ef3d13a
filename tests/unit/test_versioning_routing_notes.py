"""Notes of plans of routing: what people should know, although nothing is refused for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from routing_situations import (
    BLUE,
    CURRENT,
    DRAINED,
    GREEN,
    NOBODY,
    RED,
    blue_green,
    notes_of,
    values,
)
from simulated_server import build, deployment

from temporal_fleet.versioning import (
    UNVERSIONED,
    DesiredDeployment,
    ObservedDeployment,
    Risk,
    Routing,
    plan_routing,
)


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
        "no worker polls task queue 'orders' (workflow, activity) for it: new work waits",
        id="current-unpolled",
    ),
    pytest.param(
        deployment(
            build(BLUE, CURRENT, task_queues=("orders", "mail")), build(GREEN), current=BLUE
        ),
        replace(values(GREEN), accepted=frozenset({Risk.MISSING_TASK_QUEUES})),
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
        "still propagating the last",
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
