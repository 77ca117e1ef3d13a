from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from simulated_server import build, deployment

from temporal_fleet.cli import rollout_values as command
from temporal_fleet.errors import ValuesFileError, ValuesRefusedError
from temporal_fleet.rollout_values import (
    Document,
    NewBuild,
    add_build,
    diff,
    find_candidates,
    prune_builds,
)
from temporal_fleet.versioning import UNVERSIONED, BuildStatus, ObservedDeployment

CURRENT, DRAINING, DRAINED = BuildStatus.CURRENT, BuildStatus.DRAINING, BuildStatus.DRAINED

VALUES = """\
# Values of production. Owner: platform team
temporal:
  address: "temporal.example.com:7233"   # the frontend
  namespace: 'shop'

queueDefaults:
  resources: {requests: {cpu: 100m, memory: 256Mi}, limits: {memory: 512Mi}}
  env:
    # Nobody may fold this line, since the pipeline compares it with something else, as it is
    LONG: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

queues:
  orders:
    image:
      repository: shop/orders
    builds:
      # The slots. Keep both in mind.
      blue:
        buildId: "1.4.0-abc"   # released on Monday
        replicas: 5
        # replicas: 7 on Fridays

    # Who gets new work
    routing:
      current: blue      # the good one
      ramping: ""
      percentage: 0

  payments:
    builds: {blue: {buildId: '2.0.0'}, green: {buildId: '2.1.0', image: {tag: x}}}
    routing: {current: green, ramping: '', percentage: 0}  # one line

  reports:
    deploymentName: shop-reports
    builds:
      r-1-0: {buildId: "1.0"}

# The end
networkPolicy:
  enabled: true
"""


def document(text: str = VALUES) -> Document:
    """Return the values as a document."""
    return Document(text, "values.yaml")


def changes(made: Document, before: str = VALUES) -> list[str]:
    """Return the lines that were removed and added."""
    lines = diff(before, made.text, Path("values.yaml")).splitlines()[2:]
    return [line for line in lines if line[0] in "+-"]


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


def test_next_in_maps_with_braces_stays_in_its_line() -> None:
    """Values that are written in one line stay in one line, with their quotes."""
    values = document()

    add_build(values, NewBuild("payments", "2.2.0", key="red", percentage=33.3))

    assert changes(values) == [
        "-    builds: {blue: {buildId: '2.0.0'}, green: {buildId: '2.1.0', image: {tag: x}}}",
        "-    routing: {current: green, ramping: '', percentage: 0}  # one line",
        "+    builds: {blue: {buildId: '2.0.0'}, green: {buildId: '2.1.0', image: {tag: x}}, "
        'red: {buildId: "2.2.0"}}',
        "+    routing: {current: green, ramping: 'red', percentage: 33.3}  # one line",
    ]


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

    assert "look: 'green' was to ramp and gets no new work any more" in told
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


def test_next_below_the_key_of_a_subchart_works_alike() -> None:
    """An umbrella chart holds these values under the name of the dependency."""
    text = "apps:\n  fleet:\n    queues:\n      a:\n        builds:\n          blue: {buildId: x}\n"
    values = document(text)

    add_build(values, NewBuild("a", "y"), ("apps", "fleet"))

    assert '          green: {buildId: "y"}\n' in values.text
    with pytest.raises(ValuesRefusedError, match="--path"):
        add_build(values, NewBuild("a", "y"))


THREE = """\
queues:
  orders:
    builds:
      # slots
      blue:
        buildId: "1"

      # the hotfix
      red:
        buildId: "2"

      green:
        buildId: "3"
    routing: {current: green}
"""


def observed(red: BuildStatus = DRAINED, pinned: int = 0) -> dict[str, ObservedDeployment]:
    """Return a server where build 1 is drained, with pollers, and build 3 is current."""
    builds = (build("1", DRAINED), build("2", red, pinned=pinned), build("3", CURRENT))
    return {"orders": deployment(*builds, current="3")}


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


def test_next_for_a_task_queue_without_builds_makes_the_first_one_current() -> None:
    """The first build has nobody to share work with, which --current says."""
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


def test_next_does_not_take_the_key_of_a_current_build_in_another_file() -> None:
    """The routing may name builds that another values file has; their keys are not free."""
    values = document("queues:\n  orders:\n    routing: {current: blue}\n")

    told = add_build(values, NewBuild("orders", "1.5"))

    assert values.get(("queues", "orders", "builds")) == {"green": {"buildId": "1.5"}}
    assert "if another values file has a build 'green'" in told[1]


def test_next_that_is_refused_as_current_leaves_the_values_as_they_were() -> None:
    """A key that the routing makes current cannot ramp, and nothing is added before that is said."""
    text = "queues:\n  orders:\n    routing: {current: blue}\n"
    values = document(text)

    with pytest.raises(ValuesRefusedError, match="is current of 'orders' already"):
        add_build(values, NewBuild("orders", "1.5", key="blue"))

    assert values.text == text


MISREAD = [
    pytest.param("buildId: 1.10", "buildId is read as 1.1, which is no text", "in quotes", id="id"),
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
        assert f"values.yaml: {expected}, which is no map. Write a map, such as" in str(
            caught.value
        )


def drained(text: str) -> str:
    """Return values after all builds that their routing does not name were pruned as drained."""
    values = document(text)
    candidates = find_candidates(values)
    found = deployment(*(build(each.build_id, DRAINED) for each in candidates), current="other")
    prune_builds(values, candidates, dict.fromkeys(["orders"], found))
    return values.text


ALL_PRUNED = [
    pytest.param(
        "    builds:  # slots\n      blue: {buildId: a}\n\n      green:\n        buildId: b\n",
        "    builds: {}  # slots\n",
        id="lines",
    ),
    pytest.param(
        "    builds:\r\n      a: {buildId: a}\r\n      b: {buildId: b}\r\n",
        "    builds: {}\r\n",
        id="crlf",
    ),
    pytest.param(
        "    builds: {\n      a: {buildId: a},\n      b: {buildId: b},\n    }\n",
        "    builds: {\n    }\n",
        id="braces-over-lines",
    ),
    pytest.param(
        "    builds: {a: {buildId: a}, b: {buildId: b},}\n", "    builds: {}\n", id="braces"
    ),
]


@pytest.mark.parametrize(("before", "after"), ALL_PRUNED)
def test_prune_of_all_builds_leaves_an_empty_map(before: str, after: str) -> None:
    """Another file may name the current build; null instead of a map would delete its builds."""
    head, tail = "queues:\n  orders:\n", "    replicas: 3\n"

    assert drained(head + before + tail) == head + after + tail


IN_BRACES = [
    pytest.param(
        "{\n  a: {buildId: a},  # of a\n  # of cur\n  cur: {buildId: c},\n}",
        "{\n  # of cur\n  cur: {buildId: c},\n}",
        id="first",
    ),
    pytest.param(
        "{\n  cur: {buildId: c},  # of cur\n  # of b\n  b: {buildId: b}  # last\n}",
        "{\n  cur: {buildId: c}  # of cur\n}",
        id="last",
    ),
    pytest.param(
        "{\n  x: {buildId: x},\n  a: {buildId: a},\n  # of cur\n  cur: {buildId: c}  # end\n}",
        "{\n  # of cur\n  cur: {buildId: c}  # end\n}",
        id="several",
    ),
    pytest.param(
        "{ a: {buildId: a},\n  cur: {buildId: c} }", "{ cur: {buildId: c} }", id="no-comments"
    ),
]


@pytest.mark.parametrize(("before", "after"), IN_BRACES)
def test_prune_in_braces_over_lines_keeps_the_comments_of_the_others(
    before: str, after: str
) -> None:
    """With a build go its lines and its comments, and nobody else's."""
    text = "queues: {orders: {routing: {current: cur}, builds: %s}}\n"

    assert drained(text % before) == text % after


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


JSON = """\
{
  "queues": {
    "orders": {
      "builds": {
        "blue": {"buildId": "a"}
      },
      "routing": {}
    }
  }
}
"""


def test_next_in_json_writes_json() -> None:
    """A values file that is JSON is read as JSON after the edit as well."""
    values = document(JSON)

    add_build(values, NewBuild("orders", "1.5", image_tag="t"))

    assert json.loads(values.text) == {
        "queues": {
            "orders": {
                "builds": {
                    "blue": {"buildId": "a"},
                    "green": {"buildId": "1.5", "image": {"tag": "t"}},
                },
                "routing": {"current": "blue", "ramping": "green", "percentage": 10},
            }
        }
    }


def test_prune_in_json_leaves_json() -> None:
    """The last of several entries takes the comma before it along."""
    values = JSON.replace('"a"}\n', '"a"},\n        "green": {"buildId": "b"}\n')

    left = drained(values.replace('"routing": {}', '"routing": {"current": "blue"}'))

    assert json.loads(left)["queues"]["orders"]["builds"] == {"blue": {"buildId": "a"}}


def test_next_beside_keys_in_quotes_writes_quotes() -> None:
    """Keys are written like those beside them, in lines as in braces."""
    values = document("queues:\n  orders:\n    'builds':\n      'blue': {'buildId': 'a'}\n")

    add_build(values, NewBuild("orders", "1.5"))

    assert "      'green': {'buildId': \"1.5\"}\n" in values.text


def test_values_with_a_tab_between_tokens_are_read_as_helm_reads_them() -> None:
    """A tab before a comment or behind a colon is a space to Helm; one in the indentation is not."""
    head = "queues:\n  orders:\n    builds: {blue: {buildId: a}}\t# slots\n"
    values = document(f"{head}    routing:\n      current:\tblue\t# the good one\n")

    add_build(values, NewBuild("orders", "1.5"))

    assert values.get(("queues", "orders", "routing", "ramping")) == "green"
    assert "      current:\tblue\t# the good one\n" in values.text
    with pytest.raises(ValuesFileError, match="is not valid YAML"):
        document(f"{head}\trouting: {{}}\n")


def test_prune_keeps_a_ramping_build_whose_key_is_a_number() -> None:
    """A key without quotes is a number where the routing names it, and a build all the same."""
    values = document(
        "queues: {orders: {builds: {1: {buildId: a}, 2: {buildId: b}}, "
        "routing: {current: 1, ramping: 2, percentage: 5}}}\n"
    )

    assert find_candidates(values) == []


@pytest.mark.parametrize("last", ["current: blue", "current: blue\n"])
def test_diff_of_a_file_without_final_newline_can_be_applied(tmp_path: Path, last: str) -> None:
    """What is printed is a patch for git, whether or not the last line has an end."""
    head = 'queues:\n  orders:\n    builds: {blue: {buildId: a}}\n    note: "x\u2028y"\n'
    before = f"{head}    routing:\n      {last}"
    values = document(before)
    add_build(values, NewBuild("orders", "1.5"))

    patch = diff(before, values.text, Path("values.yaml"))

    assert ("\n\\ No newline at end of file\n" in patch) is not last.endswith("\n")
    git = shutil.which("git")
    if git is None:
        pytest.skip("there is no git that could apply the diff")
    (tmp_path / "values.yaml").write_bytes(before.encode())
    subprocess.run([git, "apply", "-"], input=patch.encode(), cwd=tmp_path, check=True)
    assert (tmp_path / "values.yaml").read_bytes().decode() == values.text


def invoke(path: Path, *arguments: str) -> Result:
    """Run ``fleet rollout next`` on a values file."""
    values = ("--values", str(path), "--queue", "orders", "--build", "1.5")
    return CliRunner().invoke(command.next_build, [*values, *arguments])


def test_command_next_writes_the_file_and_prints_the_diff(tmp_path: Path) -> None:
    """The diff is the result; what was done is told beside it."""
    path = tmp_path / "values.yaml"
    path.write_text(VALUES)

    result = invoke(path)

    assert result.exit_code == 0, result.output
    assert '+        buildId: "1.5"' in result.stdout
    assert "ramping 'green' of 'orders' at 10 %" in result.stderr
    assert "is changed: commit it" in result.stderr
    assert 'buildId: "1.5"' in path.read_text()


def test_command_next_as_dry_run_writes_nothing(tmp_path: Path) -> None:
    """With --dry-run the diff is all."""
    path = tmp_path / "values.yaml"
    path.write_text(VALUES)

    result = invoke(path, "--dry-run", "--current")

    assert "+      current: green" in result.stdout
    assert path.read_text() == VALUES


def test_command_next_with_current_and_percentage_is_wrong_usage(tmp_path: Path) -> None:
    """A build is current or it ramps."""
    path = tmp_path / "values.yaml"
    path.write_text(VALUES)

    assert invoke(path, "--current", "--percentage", "5").exit_code == 2


def test_command_prune_prints_what_it_removed_and_what_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removed and kept builds are told, the latter with their reasons."""
    path = tmp_path / "values.yaml"
    path.write_text(THREE)
    monkeypatch.setattr(command, "_observe", lambda _: observed(DRAINING, pinned=1))

    result = CliRunner().invoke(command.prune, ["--values", str(path)])

    assert result.exit_code == 0, result.output
    assert "removed build 'blue' (1) of 'orders': it is drained" in result.stderr
    assert "kept build 'red' (2) of 'orders': 1 open pinned run" in result.stderr
    assert '-        buildId: "1"' in result.stdout
    assert "blue" not in path.read_text()


def test_command_prune_without_candidates_says_how_to_name_the_current_build(
    tmp_path: Path,
) -> None:
    """Who promoted past the values learns that they decide, and which command corrects them."""
    path = tmp_path / "values.yaml"
    path.write_text("queues: {orders: {builds: {blue: {buildId: a}}}}\n")

    result = CliRunner().invoke(command.prune, ["--values", str(path)])

    assert result.exit_code == 0, result.output
    assert "nothing to prune: the routing in the values names every build" in result.stderr
    cure = f"fleet rollout next --values {path} --queue KEY --build BUILD_ID --current"
    assert cure in result.stderr


def test_command_next_never_ignores_a_percentage(tmp_path: Path) -> None:
    """Where the share cannot be given, the file stays and the error says why."""
    path = tmp_path / "prod.yaml"
    path.write_text("queues:\n  orders:\n    replicas: 4\n")

    result = invoke(path, "--percentage", "10")

    assert isinstance(result.exception, ValuesRefusedError)
    assert "nobody to share work with at 10 %" in str(result.exception)
    assert path.read_text() == "queues:\n  orders:\n    replicas: 4\n"


def test_command_without_ruamel_yaml_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker image has no YAML editor; who needs it is told what to install."""
    path = tmp_path / "values.yaml"
    path.write_text(VALUES)
    for name in [name for name in sys.modules if name.startswith("ruamel")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ruamel.yaml", None)

    result = invoke(path)

    assert isinstance(result.exception, ValuesFileError)
    assert "temporal-fleet[gitops]" in str(result.exception)
    assert list(tmp_path.iterdir()) == [path]
