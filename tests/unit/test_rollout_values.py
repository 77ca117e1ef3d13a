from __future__ import annotations

import sys
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
    """The first build has nobody to share work with."""
    values = document("queues:\n  a:\n    image: {repository: x}\n")

    add_build(values, NewBuild("a", "1.0"))

    assert values.get(("queues", "a", "builds")) == {"blue": {"buildId": "1.0"}}
    assert values.get(("queues", "a", "routing")) == {"current": "blue"}


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
