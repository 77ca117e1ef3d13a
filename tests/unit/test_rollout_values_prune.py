"""Builds that are removed from values: those that the server calls drained, and no others."""

from __future__ import annotations

import pytest
from edited_values import CURRENT, DRAINING, THREE, document, observed
from simulated_server import build, deployment

from temporal_fleet.rollout_values import NewBuild, add_build, find_candidates, prune_builds
from temporal_fleet.versioning import UNVERSIONED, BuildStatus


def test_prune_removes_drained_builds_with_their_comments() -> None:
    """Pollers are no obstacle: they are the workers that go with the entry."""
    values = document(THREE)

    pruned = prune_builds(values, find_candidates(values), observed())

    assert [each.key for each in pruned.removed] == ["blue", "red"]
    assert pruned.kept == ()
    assert values.text == THREE[: THREE.index("      blue")] + THREE[THREE.index("      green") :]


def test_prune_keeps_builds_with_work_and_says_why() -> None:
    """A build with open pinned runs stays until they end."""
    values = document(THREE)

    pruned = prune_builds(values, find_candidates(values), observed(DRAINING, pinned=2))

    assert [each.key for each in pruned.removed] == ["blue"]
    (kept,) = pruned.kept
    assert kept.candidate.key == "red"
    assert "2 open pinned runs" in kept.reasons[0]
    assert "draining" in kept.reasons[1]


def test_prune_never_looks_at_builds_that_the_routing_names() -> None:
    """What the values route to stays, whatever the server says."""
    values = document(THREE.replace("{current: green}", "{current: green, ramping: red}"))

    assert [each.key for each in find_candidates(values, "orders")] == ["blue"]
    assert find_candidates(document("queues: {a: {builds: {x: {buildId: q}}}}\n")) == []


@pytest.mark.parametrize(
    ("builds", "expected"),
    [
        ((), "was not installed yet"),
        ((build("1", BuildStatus.INACTIVE),), "never got new work"),
        ((build("1", CURRENT),), "a moment ago"),
    ],
)
def test_prune_keeps_builds_that_may_be_about_to_get_work(
    builds: tuple[object, ...], expected: str
) -> None:
    """Only what the server calls drained is done."""
    values = document("queues: {orders: {builds: {x: {buildId: '1'}, y: {buildId: '2'}}, "
                      "routing: {current: y}}}\n")  # fmt: skip
    before = values.text

    pruned = prune_builds(
        values,
        find_candidates(values),
        {"orders": deployment(*builds, current="2")},  # type: ignore[arg-type]
    )

    assert expected in pruned.kept[0].reasons[0]
    assert values.text == before


def test_prune_keeps_unversioned_builds() -> None:
    """The server does not know when unversioned workers are done."""
    values = document("queues: {orders: {builds: {x: {buildId: '1', versioned: false}, "
                      "y: {buildId: '2'}}, routing: {current: y}}}\n")  # fmt: skip

    pruned = prune_builds(
        values, find_candidates(values), {"orders": deployment(build(UNVERSIONED), current="2")}
    )

    assert "by hand" in pruned.kept[0].reasons[0]


def test_prune_asks_for_the_worker_deployment_that_the_values_name() -> None:
    """A task queue may have another name in Temporal."""
    values = document()
    add_build(values, NewBuild("reports", "1.1", is_current=True))

    assert {each.deployment for each in find_candidates(values, "reports")} == {"shop-reports"}


def test_prune_keeps_a_ramping_build_whose_key_is_a_number() -> None:
    """A key without quotes is a number where the routing names it, and a build all the same."""
    values = document(
        "queues: {orders: {builds: {1: {buildId: a}, 2: {buildId: b}}, "
        "routing: {current: 1, ramping: 2, percentage: 5}}}\n"
    )

    assert find_candidates(values) == []
