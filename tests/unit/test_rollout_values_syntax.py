"""Edits keep to the way in which a file is written: braces, comments, quotes, tabs, JSON, line ends."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from edited_values import changes, document, drained

from temporal_fleet.errors import ValuesFileError
from temporal_fleet.rollout_values import NewBuild, add_build, diff


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
