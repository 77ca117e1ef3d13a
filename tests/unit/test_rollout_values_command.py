"""The commands that edit a values file: what they write, what they print, and how they fail."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from edited_values import DRAINING, THREE, VALUES, observed

from temporal_fleet.cli.rollout import values as command
from temporal_fleet.errors import ValuesFileError, ValuesRefusedError


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
    assert "no current build to share work with at 10 %" in str(result.exception)
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
