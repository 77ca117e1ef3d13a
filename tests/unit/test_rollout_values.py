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
    read_document,
    write_atomically,
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


EDITED = [
    pytest.param("a:\n  b: 1\n", "a:\n  b: 1\n  c: 7\n", id="block"),
    pytest.param("a:\n  b: 1", "a:\n  b: 1\n  c: 7\n", id="no-newline-at-the-end"),
    pytest.param("a:\r\n  b: 1\r\nd: 2\r\n", "a:\r\n  b: 1\r\n  c: 7\r\nd: 2\r\n", id="crlf"),
    pytest.param("a: {}\n", "a: {c: 7}\n", id="empty-braces"),
    pytest.param("a: {b: 1,}  # c\n", "a: {b: 1, c: 7,}  # c\n", id="trailing-comma"),
    pytest.param("a:   # nothing\nd: 2\n", "a: {c: 7}   # nothing\nd: 2\n", id="null"),
    pytest.param("a:\n  b:\n\n\nd: 2\n", "a:\n  b:\n  c: 7\n\n\nd: 2\n", id="null-before"),
    pytest.param("a:\n  b: |\n    t\n\nd: 2\n", "a:\n  b: |\n    t\n  c: 7\n\nd: 2\n", id="text"),
    pytest.param("a:\n  b:\n  - 1\n  -\nd: 2\n", "a:\n  b:\n  - 1\n  -\n  c: 7\nd: 2\n", id="list"),
    pytest.param(
        "z: &z {q: 1}\na:\n  b: *z  # it\nd: 2\n",
        "z: &z {q: 1}\na:\n  b: *z  # it\n  c: 7\nd: 2\n",
        id="alias-before",
    ),
    pytest.param("d: 2\n", "d: 2\na:\n  c: 7\n", id="parent-missing"),
    pytest.param("a:\n  c: >-\n    y\n    y\nd: 2\n", "a:\n  c: 7\nd: 2\n", id="folded"),
]


@pytest.mark.parametrize(("before", "after"), EDITED)
def test_document_is_changed_at_one_place_only(before: str, after: str) -> None:
    """Whatever way a map is written, an entry is set in that way and the rest stays."""
    made = document(before)

    made.set(("a", "c"), 7)

    assert made.text == after


@pytest.mark.parametrize("quotes", ["", "'", '"'])
def test_document_keeps_the_quotes_of_a_text(quotes: str) -> None:
    """A replaced text is written as the former one was."""
    made = document(f"a:\n  c: {quotes}old{quotes}  # d\n")

    made.set(("a", "c"), "x")

    assert made.text == f"a:\n  c: {quotes}x{quotes}  # d\n"


REMOVED = [
    pytest.param("a:\n  c: 1\n  b: 2\n", "a:\n  b: 2\n", id="first"),
    pytest.param("a:\n  b: 2\n  c:\n    d: 1\n    # e\nz: 1\n", "a:\n  b: 2\nz: 1\n", id="last"),
    pytest.param("a:\n  b: 2\n  # of c\n  c: 1\n", "a:\n  b: 2\n", id="its-comment"),
    pytest.param(
        "a:\n  # of all\n  c: 1\n  b: 2\n", "a:\n  # of all\n  b: 2\n", id="a-comment-of-all"
    ),
    pytest.param(
        "a:\n  b: 2\n\n  # of c\n  c: 1\n\n  # of d\n  d: 1\n",
        "a:\n  b: 2\n\n  # of d\n  d: 1\n",
        id="between-blank-lines",
    ),
    pytest.param("a: {c: 1, b: 2}\n", "a: {b: 2}\n", id="first-in-braces"),
    pytest.param("a: {b: 2, c: {d: 1}} # x\n", "a: {b: 2} # x\n", id="last-in-braces"),
    pytest.param("a: {c: 1}\n", "a: {}\n", id="only-in-braces"),
]


@pytest.mark.parametrize(("before", "after"), REMOVED)
def test_document_loses_an_entry_and_what_belongs_to_it(before: str, after: str) -> None:
    """With an entry go its own comments, and nobody else's."""
    made = document(before)

    made.remove(("a", "c"))

    assert made.text == after


SHARED = [
    pytest.param("x: &x\n  c: 1\na: *x\n", id="alias"),
    pytest.param("x: &x\n  c: 1\na:\n  <<: *x\n", id="merge-key"),
    pytest.param("a: &x\n  c: 1\nx: *x\n", id="anchor"),
]


@pytest.mark.parametrize("text", SHARED)
def test_document_that_shares_the_place_is_not_changed(text: str) -> None:
    """An edit that would change something else as well is refused."""
    made = document(text)

    with pytest.raises(ValuesFileError, match="Edit it by hand"):
        made.remove(("a", "c"))

    assert made.text == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [", "is not valid YAML"),
        ("a: 1\na: 2\n", "is not valid YAML"),
        ("a: 1\n---\nb: 1\n", "is not valid YAML"),
        ("- a\n", "is no map"),
        ("", "is no map"),
    ],
)
def test_document_that_is_no_map_is_told(text: str, expected: str) -> None:
    """A broken file is named together with what is wrong."""
    with pytest.raises(ValuesFileError, match=f"values.yaml.*{expected}"):
        document(text)


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


def test_written_file_keeps_its_mode_and_its_link(tmp_path: Path) -> None:
    """A values file that is a link stays one, and nobody loses the right to read it."""
    file, link = tmp_path / "real.yaml", tmp_path / "values.yaml"
    file.write_text("a: 1\n")
    file.chmod(0o640)
    link.symlink_to(file)

    write_atomically(link, "a: 2\n")

    assert link.is_symlink()
    assert file.read_text() == "a: 2\n"
    assert file.stat().st_mode & 0o777 == 0o640
    assert sorted(tmp_path.iterdir()) == [file, link]


def test_document_that_would_lose_an_anchor_is_not_changed() -> None:
    """What others refer to stays."""
    made = document("a:\n  c: &c {d: 1}\nx: *c\n")

    with pytest.raises(ValuesFileError, match="Edit it by hand"):
        made.remove(("a", "c"))


def test_next_for_a_task_queue_without_builds_makes_the_first_one_current() -> None:
    """The first build has nobody to share work with."""
    values = document("queues:\n  a:\n    image: {repository: x}\n")

    add_build(values, NewBuild("a", "1.0"))

    assert values.get(("queues", "a", "builds")) == {"blue": {"buildId": "1.0"}}
    assert values.get(("queues", "a", "routing")) == {"current": "blue"}


def test_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A wrong path or encoding is no traceback."""
    with pytest.raises(ValuesFileError, match="cannot be read: No such file"):
        read_document(tmp_path / "values.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"\xff")
    with pytest.raises(ValuesFileError, match="not UTF-8"):
        read_document(tmp_path / "latin.yaml")


def test_file_that_cannot_be_written_is_told_and_stays(tmp_path: Path) -> None:
    """A failed write leaves the old content and no debris."""
    with pytest.raises(ValuesFileError, match="cannot be written"):
        write_atomically(tmp_path / "nowhere" / "values.yaml", "a: 2\n")

    assert list(tmp_path.iterdir()) == []


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
