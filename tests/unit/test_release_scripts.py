"""What the release workflow asks: which workloads there are, whether numbers agree, what the notes are."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CHANGELOG = """\
# Changelog

## [Unreleased]

### Added

- Something for the next release.

## [1.4.0] - 2026-11-02

### Added

- A *new* thing ([docs](docs/thing.md)).

## [1.3.0] - 2026-10-01

[1.4.0]: https://example.com/compare
"""


@dataclass
class Repository:
    """A small repository with everything that tells a release number."""

    root: Path

    def write(self, path: str, text: str) -> None:
        """Write one of its files."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def change(self, path: str, old: str, new: str) -> None:
        """Replace text that is there."""
        text = (self.root / path).read_text()
        assert old in text
        self.write(path, text.replace(old, new))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository whose places all say 1.4.0, with two workloads and a member that is none."""
    made = Repository(tmp_path)
    made.write(
        "pyproject.toml",
        '[project]\nversion = "1.4.0"\n[tool.uv.workspace]\nmembers = ["workloads/*", "tools/*"]\n',
    )
    made.write("src/temporal_fleet/__init__.py", '__version__ = "1.4.0"\n')
    for name in ("parcels", "invoices"):
        made.write(
            f"workloads/{name}/pyproject.toml",
            f'[project]\nname = "acme-{name}"\nversion = "1.4.0"\n'
            f'[project.entry-points."temporal_fleet.workloads"]\n{name} = "acme:{name}"\n',
        )
    made.write("tools/report/pyproject.toml", '[project]\nname = "report"\nversion = "0.1"\n')
    made.write(
        "deploy/helm/temporal-fleet/Chart.yaml",
        'apiVersion: v2\nname: temporal-fleet\nversion: 1.4.0\nappVersion: "1.4.0" # the runtime\n',
    )
    made.write("CHANGELOG.md", CHANGELOG)
    return made


def run(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a script of the repository."""
    command = [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)


def test_versions_all_the_same_are_accepted(repository: Repository) -> None:
    """Numbers that agree pass, before and at the release."""
    for arguments in ((), ("--release", "v1.4.0")):
        answer = run("verify_versions.py", "--root", repository.root, *arguments)
        assert (answer.returncode, answer.stdout) == (0, "all places say 1.4.0\n")


@pytest.mark.parametrize(
    ("path", "old", "new", "text"),
    [
        (
            "workloads/parcels/pyproject.toml",
            "1.4.0",
            "1.3.9",
            "workloads/parcels/pyproject.toml says '1.3.9', pyproject.toml says '1.4.0'",
        ),
        (
            "deploy/helm/temporal-fleet/Chart.yaml",
            "version: 1.4.0",
            "version: 1.5.0",
            "Chart.yaml (version) says '1.5.0'",
        ),
        (
            "deploy/helm/temporal-fleet/Chart.yaml",
            'appVersion: "1.4.0"',
            "",
            "Chart.yaml (appVersion) says None",
        ),
        ("src/temporal_fleet/__init__.py", "1.4.0", "1.4", "(__version__) says '1.4'"),
        ("CHANGELOG.md", "## [1.4.0]", "## [1.5.0]", "CHANGELOG.md already has '1.5.0'"),
        ("CHANGELOG.md", "## [1.4.0] - 2026-11-02", "## [1.4.0]", "has no date"),
        ("CHANGELOG.md", "## [1.3.0] -", "## [1.4.0] -", "more than one section '1.4.0'"),
    ],
    ids=["workload", "chart", "app", "package", "number-behind", "undated", "same-twice"],
)
def test_versions_one_place_differs_is_named(
    repository: Repository, path: str, old: str, new: str, text: str
) -> None:
    """A place that differs is named, with what it says and what it should say."""
    repository.change(path, old, new)
    answer = run("verify_versions.py", "--root", repository.root)

    assert answer.returncode == 1
    assert text in answer.stdout


def test_versions_several_differences_are_reported_together(repository: Repository) -> None:
    """One run tells everything that has to be changed."""
    repository.change("pyproject.toml", "1.4.0", "1.5.0")
    answer = run("verify_versions.py", "--root", repository.root)

    assert answer.returncode == 1
    assert len(answer.stdout.splitlines()) == 5


def test_versions_not_released_yet_pass_but_not_at_the_release(repository: Repository) -> None:
    """Before a release its changes stand under Unreleased; at the release they must have its number."""
    repository.change("CHANGELOG.md", "## [1.4.0] - 2026-11-02\n", "")
    assert run("verify_versions.py", "--root", repository.root).returncode == 0
    answer = run("verify_versions.py", "--root", repository.root, "--release", "v1.4.0")

    assert answer.returncode == 1
    assert "CHANGELOG.md has no section for '1.4.0'" in answer.stdout


def test_versions_other_tag_is_refused(repository: Repository) -> None:
    """A tag that says another number than the project stops the release."""
    answer = run("verify_versions.py", "--root", repository.root, "--release", "v1.4.1")

    assert answer.returncode == 1
    assert "the tag is 'v1.4.1', pyproject.toml says '1.4.0'" in answer.stdout


def test_versions_number_that_the_chart_cannot_carry_is_refused(repository: Repository) -> None:
    """Python's and Helm's ideas of a number differ, so only three plain numbers are taken."""
    repository.change("pyproject.toml", "1.4.0", "1.4.0rc1")
    answer = run("verify_versions.py", "--root", repository.root)

    assert "'1.4.0rc1' is no release number" in answer.stdout


@pytest.mark.parametrize("release", ["v1.4.0", "1.4.0"])
def test_release_notes_are_the_section_of_the_release(repository: Repository, release: str) -> None:
    """The notes are what stands under the release's heading, and nothing else."""
    answer = run("release_notes.py", release, "--changelog", repository.root / "CHANGELOG.md")

    assert answer.returncode == 0
    assert answer.stdout == "### Added\n\n- A *new* thing ([docs](docs/thing.md)).\n"


@pytest.mark.parametrize(
    ("release", "text"),
    [
        ("v9.9.9", "has no section '9.9.9'; it has: Unreleased, 1.4.0, 1.3.0"),
        ("v1.3.0", "the section '1.3.0' is empty"),
    ],
    ids=["unknown", "empty"],
)
def test_release_notes_missing_are_an_error(
    repository: Repository, release: str, text: str
) -> None:
    """A release without notes is not published by accident."""
    answer = run("release_notes.py", release, "--changelog", repository.root / "CHANGELOG.md")

    assert (answer.returncode, answer.stdout) == (1, "")
    assert text in answer.stderr


def test_workloads_are_the_members_with_an_entry_point(repository: Repository) -> None:
    """Only members of the workspace that offer a workload get an image."""
    lines = run("workloads.py", "--root", repository.root)
    matrix = run("workloads.py", "--root", repository.root, "--output", "json")

    assert lines.stdout == "invoices\nparcels\n"
    assert json.loads(matrix.stdout) == ["invoices", "parcels"]


def test_workloads_none_is_an_error(repository: Repository) -> None:
    """An empty matrix would publish nothing and look like success."""
    for name in ("parcels", "invoices"):
        (repository.root / "workloads" / name / "pyproject.toml").unlink()
    answer = run("workloads.py", "--root", repository.root)

    assert answer.returncode == 1
    assert "no workspace member offers an entry point" in answer.stderr


def test_workloads_of_this_repository_are_found() -> None:
    """Every workload that comes with the repository gets an image."""
    assert json.loads(run("workloads.py", "--output", "json").stdout) == ["orders", "payments"]
