"""Edits that are refused: nothing is changed, and the message names the place and the cure."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from edited_values import VALUES, document, drained

from temporal_fleet.errors import ValuesFileError, ValuesRefusedError
from temporal_fleet.rollout_values import NewBuild, add_build, find_candidates

REFUSED = [
    pytest.param(NewBuild("order", "1"), "Did you mean 'orders'?", id="queue"),
    pytest.param(NewBuild("x", "1"), "There are: orders, payments, reports.", id="queue-unknown"),
    pytest.param(NewBuild("payments", "3"), "no free slot: blue (2.0.0), green (2.1.0)", id="slot"),
    pytest.param(
        NewBuild("payments", "3", key="blue"), "holds build ID '2.0.0', whose workers", id="taken"
    ),
    pytest.param(
        NewBuild("payments", "2.0.0", key="red"),
        "is build 'blue' of 'payments' already",
        id="twice",
    ),
    pytest.param(NewBuild("orders", "1.4.0-abc"), "is current of 'orders' already", id="current"),
    pytest.param(NewBuild("orders", "a b"), "build ID 'a b' is not possible", id="build-id"),
    pytest.param(NewBuild("orders", "1", key="A_b"), "key 'A_b' is not possible", id="key"),
]


@pytest.mark.parametrize(("new", "expected"), REFUSED)
def test_next_that_would_replace_workers_or_is_impossible_is_refused(
    new: NewBuild, expected: str
) -> None:
    """Nothing is changed, and the message says what to do instead."""
    values = document()

    with pytest.raises(ValuesRefusedError) as caught:
        add_build(values, new)

    assert expected in str(caught.value)
    assert values.text == VALUES


NO_CURRENT = [
    pytest.param("{replicas: 4}", "has no builds and no routing.current", id="other-file"),
    pytest.param("{}", "has no builds", id="empty"),
    pytest.param("", "has no builds", id="null"),
    pytest.param("{builds: {blue: null}}", "has no builds", id="switched-off"),
    pytest.param(
        "{builds: {blue: {buildId: a}, green: {buildId: b}}}", "the builds blue, green", id="two"
    ),
    pytest.param("{builds: {blue: {replicas: 4}}}", "has the builds blue", id="addition"),
]


@pytest.mark.parametrize(("queue", "expected"), NO_CURRENT)
def test_next_that_ramps_beside_an_unknown_build_is_refused(queue: str, expected: str) -> None:
    """A share is never turned into all new work because the file does not say who has the rest."""
    text = f"queues:\n  orders: {queue}\n"
    values = document(text)

    with pytest.raises(ValuesRefusedError) as caught:
        add_build(values, NewBuild("orders", "1.5.0", key="red", percentage=5))

    assert expected in str(caught.value)
    assert "names no current build of 'orders'" in str(caught.value)
    assert "edit that file" in str(caught.value)
    assert "pass --current" in str(caught.value)
    assert values.text == text


def test_next_that_is_refused_as_current_leaves_the_values_as_they_were() -> None:
    """A key that the routing makes current cannot ramp, and nothing is added before that is said."""
    text = "queues:\n  orders:\n    routing: {current: blue}\n"
    values = document(text)

    with pytest.raises(ValuesRefusedError, match="is current of 'orders' already"):
        add_build(values, NewBuild("orders", "1.5", key="blue"))

    assert values.text == text


MISREAD = [
    pytest.param(
        "buildId: 1.10", "buildId is read as 1.1, which is not text", "in quotes", id="id"
    ),
    pytest.param(
        "buildId: x, versioned: no", "versioned is read as 'no'", "Write true or false", id="no"
    ),
    pytest.param(
        "buildId: x, versioned: 'false'",
        "versioned is read as 'false'",
        "Write true or false",
        id="text",
    ),
]


@pytest.mark.parametrize(("build", "expected", "cure"), MISREAD)
def test_builds_that_helm_reads_otherwise_are_refused_with_their_place(
    build: str, expected: str, cure: str
) -> None:
    """Neither command acts on a build ID or a word that means something else to Helm."""
    text = (
        f"queues:\n  orders:\n    builds: {{blue: {{{build}}}, red: {{buildId: y}}}}\n"
        "    routing: {current: red}\n"
    )
    values = document(text)

    with pytest.raises(ValuesRefusedError) as added:
        add_build(values, NewBuild("orders", "2"))
    with pytest.raises(ValuesRefusedError) as found:
        find_candidates(values)

    assert f"values.yaml: queues.orders.builds.blue.{expected}" in str(added.value)
    assert cure in str(added.value)
    assert str(found.value) == str(added.value)
    assert values.text == text


def test_builds_that_helm_reads_otherwise_are_told_together() -> None:
    """Mistakes of one kind take one run to find, over all task queues."""
    values = document(
        "queues:\n  a: {builds: {x: {buildId: 1.10}}}\n  b: {builds: {y: {versioned: off}}}\n"
    )

    with pytest.raises(ValuesRefusedError) as caught:
        find_candidates(values)

    assert [line.split(" is ")[0] for line in str(caught.value).splitlines()] == [
        "values.yaml: queues.a.builds.x.buildId",
        "values.yaml: queues.b.builds.y.versioned",
    ]


NO_MAPS = [
    pytest.param("queues: [orders]", "queues is ['orders']", id="queues"),
    pytest.param("queues: {orders: hello}", "queues.orders is 'hello'", id="queue"),
    pytest.param("queues: {orders: {builds: [a]}}", "queues.orders.builds is ['a']", id="builds"),
    pytest.param(
        "queues: {orders: {builds: {blue: a}}}", "queues.orders.builds.blue is 'a'", id="build"
    ),
    pytest.param(
        "queues: {orders: {builds: {blue: {}, red: {}}, routing: cur}}",
        "queues.orders.routing is 'cur'",
        id="routing",
    ),
]


@pytest.mark.parametrize(("text", "expected"), NO_MAPS)
def test_values_that_are_no_map_are_refused_with_their_place(text: str, expected: str) -> None:
    """Values of a wrong shape are an error with a place, not a traceback, for both commands."""
    values = document(f"{text}\n")

    for act in (
        lambda: find_candidates(values),
        lambda: add_build(values, NewBuild("orders", "1", is_current=True)),
    ):
        with pytest.raises(ValuesFileError) as caught:
            act()
        assert f"values.yaml: {expected}, which is not a map. Write a map, such as" in str(
            caught.value
        )


def add(text: str) -> None:
    """Add a build to values."""
    add_build(document(text), NewBuild("orders", "1.5"))


OBSTACLES = [
    pytest.param(
        drained,
        "{ a: {buildId: a},  # whose?\n  cur: {buildId: c} }",
        "a comment between entries in the braces that begin in line 4",
        id="comment",
    ),
    pytest.param(
        add,
        "\n      ? cur\n      : buildId: c",
        "the key '? cur' in line 5 (write 'cur:')",
        id="explicit-key",
    ),
    pytest.param(
        add,
        "\n      cur:\n        note: |+\n          x\n\n      # no builds below\n",
        "the text in line 6 whose '+' makes the blank lines behind it part of it (write '|')",
        id="kept-lines",
    ),
    pytest.param(
        drained,
        "\n      a: &a {buildId: a}\n      cur: {<<: *a, buildId: c}",
        "the anchor '&a' in line 5",
        id="anchor",
    ),
    pytest.param(
        drained,
        "\n      <<: {a: {buildId: a}}\n      cur: {buildId: c}",
        "the merge key '<<' in line 5",
        id="merge-key",
    ),
]


@pytest.mark.parametrize(("edit", "builds", "expected"), OBSTACLES)
def test_edit_that_would_change_something_else_names_what_is_in_the_way(
    edit: Callable[[str], object], builds: str, expected: str
) -> None:
    """A refusal says what is written in a way that is not handled, and where; nothing else."""
    text = f"queues:\n  orders:\n    routing: {{current: cur}}\n    builds: {builds}\n"

    with pytest.raises(ValuesFileError) as caught:
        edit(text)

    assert f"What may be in the way: {expected}. Edit it by hand" in str(caught.value)
