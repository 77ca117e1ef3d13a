"""A build that is added to values: its key, its routing, and what is told of other builds."""

from __future__ import annotations

import pytest
from edited_values import changes, document

from temporal_fleet.errors import ValuesRefusedError
from temporal_fleet.rollout_values import NewBuild, add_build


def test_next_adds_the_build_under_the_other_slot_and_ramps_it() -> None:
    """Nothing but the build and its routing changes; every comment stays where it is."""
    values = document()

    told = add_build(values, NewBuild("orders", "1.5.0-def"))

    assert changes(values) == [
        "+      green:",
        '+        buildId: "1.5.0-def"',
        '-      ramping: ""',
        "-      percentage: 0",
        '+      ramping: "green"',
        "+      percentage: 10",
    ]
    assert told == [
        "added build 'green' with build ID '1.5.0-def' to 'orders'",
        "look: build 'blue' has values of its own that 'green' does not have: replicas",
        "ramping 'green' of 'orders' at 10 %",
    ]


def test_next_puts_the_build_directly_behind_the_others() -> None:
    """A comment that is about the next section is not pushed between build and section."""
    values = document()

    add_build(values, NewBuild("orders", "1.5.0-def"))

    lines = values.text.splitlines()
    at = lines.index("      green:")
    assert lines[at - 1] == "        # replicas: 7 on Fridays"
    assert lines[at + 2 : at + 4] == ["", "    # Who gets new work"]


def test_next_that_is_current_takes_the_ramp_away() -> None:
    """With --current the build gets all new work, and a comment beside the value stays."""
    values = document()
    add_build(values, NewBuild("orders", "1.5.0-def"))
    before = values.text

    told = add_build(values, NewBuild("orders", "1.5.0-def", is_current=True))

    assert told == ["made 'green' current of 'orders'"]
    assert changes(values, before) == [
        "-      current: blue      # the good one",
        '-      ramping: "green"',
        "-      percentage: 10",
        "+      current: green      # the good one",
        '+      ramping: ""',
        "+      percentage: 0",
    ]


def test_next_with_an_image_writes_it() -> None:
    """Tag and digest are written only when they were given."""
    values = document()

    add_build(values, NewBuild("orders", "1.5", image_tag="t-1", image_digest="sha256:abc"))

    assert values.get(("queues", "orders", "builds", "green")) == {
        "buildId": "1.5",
        "image": {"tag": "t-1", "digest": "sha256:abc"},
    }


def test_next_without_routing_in_the_values_adds_it_and_names_the_current_build() -> None:
    """With one build nobody has to name the current one; with two somebody has to."""
    values = document()

    add_build(values, NewBuild("reports", "1.1", percentage=5))

    assert changes(values) == [
        '+      "1-1": {buildId: "1.1"}',
        "+    routing:",
        '+      current: "r-1-0"',
        '+      ramping: "1-1"',
        "+      percentage: 5",
    ]


def test_next_twice_changes_nothing_more() -> None:
    """A pipeline may run again."""
    values = document()
    add_build(values, NewBuild("orders", "1.5.0-def"))
    before = values.text

    assert add_build(values, NewBuild("orders", "1.5.0-def")) == ["'orders' is like this already"]
    assert values.text == before


def test_next_with_a_smaller_percentage_tells_what_it_takes() -> None:
    """The values may say so, but the routing does not go back by itself."""
    values = document()
    add_build(values, NewBuild("orders", "1.5", percentage=50))

    told = add_build(values, NewBuild("orders", "1.5", percentage=20))

    assert "goes back from 50" in told[0]
    assert "allowRampDown" in told[0]


def test_next_replaces_another_ramp_and_says_so() -> None:
    """Two builds cannot ramp: the one that loses its share is named."""
    values = document()
    add_build(values, NewBuild("orders", "1.5"))

    told = add_build(values, NewBuild("orders", "1.6", key="red"))

    assert "look: 'green' was ramping and no longer gets new work" in told
    assert values.get(("queues", "orders", "routing", "ramping")) == "red"


@pytest.mark.parametrize(
    ("builds", "build_id", "expected"),
    [
        ("{}", "1.0", "blue"),
        ("{green: {buildId: x}}", "1.0", "blue"),
        ("{blue: {buildId: x}, red: {buildId: y}}", "1.0", "green"),
        ("{v1: {buildId: x}}", "2.0.1-RC_1", "2-0-1-rc-1"),
        ("{v1: {buildId: x}}", "2.0.1-0123456789abcdef", "2-0-1-0123456-5734dc"),
        ("{v1: {buildId: x}, 2-0: {buildId: y}}", "2.0", "2-0-d84bdb"),
        ("{blue: null, v1: {buildId: x}}", "2.0", "2-0"),
    ],
)
def test_next_without_key_takes_a_free_slot_or_the_build_id(
    builds: str, build_id: str, expected: str
) -> None:
    """Blue and green alternate where they are used; otherwise each build has a key of its own."""
    routing = "routing: {current: v1}" if "v1" in builds else "routing: {}"
    values = document(f"queues:\n  a:\n    builds: {builds}\n    {routing}\n")

    add_build(values, NewBuild("a", build_id, is_current=True))

    key = values.get(("queues", "a", "routing", "current"))
    assert key == expected
    assert values.get(("queues", "a", "builds", key, "buildId")) == build_id
    assert len(key) <= 20


def test_next_below_the_key_of_a_subchart_works_alike() -> None:
    """An umbrella chart holds these values under the name of the dependency."""
    text = "apps:\n  fleet:\n    queues:\n      a:\n        builds:\n          blue: {buildId: x}\n"
    values = document(text)

    add_build(values, NewBuild("a", "y"), ("apps", "fleet"))

    assert '          green: {buildId: "y"}\n' in values.text
    with pytest.raises(ValuesRefusedError, match="--path"):
        add_build(values, NewBuild("a", "y"))


def test_next_for_a_task_queue_without_builds_makes_the_first_one_current() -> None:
    """The first build has no current build to share work with, which --current says."""
    values = document("queues:\n  a:\n    image: {repository: x}\n")

    add_build(values, NewBuild("a", "1.0", is_current=True))

    assert values.get(("queues", "a", "builds")) == {"blue": {"buildId": "1.0"}}
    assert values.get(("queues", "a", "routing")) == {"current": "blue"}


@pytest.mark.parametrize("queue", ["orders: {}", "orders:", "orders: {builds: {}}"])
def test_next_for_an_empty_task_queue_adds_the_first_build_when_it_is_to_be_current(
    queue: str,
) -> None:
    """A task queue that is there and empty is found, and its first build is made current."""
    values = document(f"queues:\n  {queue}\n")

    told = add_build(values, NewBuild("orders", "1.0", is_current=True))

    assert values.get(("queues", "orders")) == {
        "builds": {"blue": {"buildId": "1.0"}},
        "routing": {"current": "blue"},
    }
    assert "if another values file has a build 'blue' of 'orders', this one replaces it" in told[1]


def test_next_does_not_take_the_key_of_a_current_build_in_another_file() -> None:
    """The routing may name builds that another values file has; their keys are not free."""
    values = document("queues:\n  orders:\n    routing: {current: blue}\n")

    told = add_build(values, NewBuild("orders", "1.5"))

    assert values.get(("queues", "orders", "builds")) == {"green": {"buildId": "1.5"}}
    assert "if another values file has a build 'green'" in told[1]
