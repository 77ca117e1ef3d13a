from __future__ import annotations

from dataclasses import replace

import pytest
from edited_values import document
from simulated_server import NAME, build, deployment

from temporal_fleet.rollout.waiting import what_needs
from temporal_fleet.rollout_values import find_candidates, prune_builds
from temporal_fleet.versioning import (
    BuildStatus,
    DesiredDeployment,
    NeedKind,
    ObservedDeployment,
    Plan,
    Routing,
    needs,
    plan_removal,
    plan_retire,
)

OLD, NEW = "1.4.0", "1.5.0"
DRAINING, DRAINED = BuildStatus.DRAINING, BuildStatus.DRAINED
VALUES = f"""\
queues:
  orders:
    builds:
      blue: {{buildId: {OLD}}}
      green: {{buildId: {NEW}}}
    routing: {{current: green}}
"""


def beside(status: BuildStatus, **more: int) -> ObservedDeployment:
    """Return a server where a new build is current beside an old one in this condition."""
    old = build(OLD, status, pollers=0, **more)  # type: ignore[arg-type]
    return deployment(old, build(NEW, BuildStatus.CURRENT), current=NEW)


SITUATIONS = [
    pytest.param(beside(DRAINED), (), id="drained"),
    pytest.param(beside(DRAINED, runs=2), (), id="drained-with-auto-upgrade-runs"),
    pytest.param(beside(DRAINED, pinned=1), (NeedKind.RUNS,), id="drained-with-a-pinned-run"),
    pytest.param(beside(DRAINING), (NeedKind.DRAINAGE,), id="draining"),
    pytest.param(
        beside(DRAINING, pinned=1), (NeedKind.RUNS, NeedKind.DRAINAGE), id="draining-with-a-run"
    ),
    pytest.param(
        beside(BuildStatus.INACTIVE, last_current=1),
        (NeedKind.DRAINAGE,),
        id="inactive-once-current",
    ),
    pytest.param(beside(BuildStatus.INACTIVE, runs=1), (NeedKind.RUNS,), id="inactive-with-a-run"),
    pytest.param(beside(BuildStatus.CURRENT), (NeedKind.ROUTING,), id="current-a-moment-ago"),
    pytest.param(
        replace(beside(BuildStatus.CURRENT), routing=Routing(OLD)),
        (NeedKind.ROUTING,),
        id="current",
    ),
    pytest.param(
        replace(beside(BuildStatus.RAMPING), routing=Routing(NEW, OLD, 5)),
        (NeedKind.ROUTING,),
        id="ramping",
    ),
    pytest.param(
        replace(beside(DRAINED), update_in_progress=True), (NeedKind.DRAINAGE,), id="propagating"
    ),
]


@pytest.mark.parametrize(("observed", "expected"), SITUATIONS)
def test_whether_a_build_is_needed_is_answered_alike_by_guard_retire_prune_and_wait(
    observed: ObservedDeployment, expected: tuple[NeedKind, ...]
) -> None:
    """What one of the four lets go, the others let go as well."""
    both = DesiredDeployment("orders", NAME, {"blue": OLD, "green": NEW}, Routing(NEW))
    after = replace(both, builds={"green": NEW})
    values = document(VALUES)

    guard = not plan_removal({"orders": both}, {"orders": after}, {NAME: observed}).is_refused
    retire = isinstance(plan_retire(observed, OLD), Plan)
    prune = not prune_builds(values, find_candidates(values), {NAME: observed}).kept
    wait = not what_needs(observed, OLD)

    assert tuple(need.kind for need in needs(observed, OLD)) == expected
    assert {guard, retire, prune, wait} == {not expected}
