"""What plans look like on the screen."""

from __future__ import annotations

from datetime import timedelta

import pytest

from temporal_fleet.cli.rollout.plans import print_plan
from temporal_fleet.rollout.changes import Change, Planned
from temporal_fleet.versioning import (
    UNVERSIONED,
    ClearRamping,
    ObservedDeployment,
    Pause,
    Plan,
    Refusal,
    Routing,
    SetCurrent,
    SetRamping,
    Step,
)
from temporal_fleet.versioning.outcome import is_same_routing, routing_after


def planned(plan: Plan | Refusal, routing: Routing) -> Planned:
    """Return a plan for the Worker Deployment orders-eu of the key orders."""
    change = Change("orders", "orders-eu", lambda _observed, _identity: plan)
    return Planned(change, ObservedDeployment("orders-eu", exists=True, routing=routing), plan)


@pytest.mark.parametrize(
    ("steps", "after"),
    [
        ([], Routing("v1", "v2", 10)),
        ([SetRamping("v2", 50, ""), Pause(timedelta(1), "")], Routing("v1", "v2", 50)),
        ([SetCurrent("v2", "")], Routing("v2")),
        ([SetCurrent("v3", "")], Routing("v3", "v2", 10)),
        ([ClearRamping("v2", ""), SetCurrent(UNVERSIONED, "")], Routing(UNVERSIONED)),
    ],
)
def test_routing_after_steps_is_what_the_server_would_have(
    steps: list[Step], after: Routing
) -> None:
    """The routing at the end follows from the steps as the server takes them."""
    assert routing_after(Routing("v1", "v2", 10), steps) == after


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Routing("v1", "v2", 33.3), Routing("v1", "v2", 33.29999923706055), True),
        (Routing(UNVERSIONED), Routing(None), True),
        (Routing("v1", "v2", 10), Routing("v1", "v2", 11), False),
        (Routing("v1", "v2", 10), Routing("v1", "v3", 10), False),
        (Routing("v1"), Routing("v2"), False),
    ],
)
def test_routing_is_the_same_however_the_server_writes_it(
    one: Routing, other: Routing, same: bool
) -> None:
    """What the server makes of our own change is not taken for a change of somebody else."""
    assert is_same_routing(one, other) == is_same_routing(other, one) == same


def test_print_plan_shows_what_changes_like_a_diff(capsys: pytest.CaptureFixture[str]) -> None:
    """What stays, what goes and what comes is seen at one glance; then the steps and the notes."""
    plan = Plan("orders-eu", (SetRamping("v2", 10, "it has no share"),), ("mind the gap",))

    print_plan(planned(plan, Routing("v1")))

    assert capsys.readouterr().out == (
        "orders (Worker Deployment orders-eu)\n"
        "    current  v1\n"
        "  - ramping  nothing\n"
        "  + ramping  v2 at 10 %\n"
        "  step 1: send 10 % of new work to build ID 'v2': it has no share\n"
        "  note: mind the gap\n"
    )


def test_print_plan_of_a_refusal_shows_every_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """Everything that is in the way is told at once."""
    print_plan(planned(Refusal("orders-eu", ("one", "two")), Routing("v1")))

    assert capsys.readouterr().err == "  refused: one\n  refused: two\n"
