"""What actionlint and zizmor cannot know of the workflows: this repository's verbs and habits."""

from __future__ import annotations

import re
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
NAMES = [path.name for path in WORKFLOWS]

PINNED = re.compile(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


@cache
def jobs(name: str) -> dict[str, Any]:
    """The jobs of a workflow."""
    text = (ROOT / ".github" / "workflows" / name).read_text()
    loaded: dict[str, Any] = yaml.safe_load(text)["jobs"]
    return loaded


def steps(name: str) -> list[dict[str, Any]]:
    """All steps of a workflow."""
    return [step for job in jobs(name).values() for step in job.get("steps", [])]


@pytest.mark.parametrize("name", NAMES)
def test_workflow_commands_are_verbs_of_the_makefile(name: str) -> None:
    """What a workflow runs, a laptop can run: each command is a verb that exists."""
    verbs = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = [step["run"] for step in steps(name) if "run" in step]
    asked = {
        verb for text in commands for verb in re.findall(r"make (?:--silent )?([a-z0-9-]+)", text)
    }

    assert asked <= verbs, f"the Makefile has no {sorted(asked - verbs)}"
    others = [text for text in commands if "make " not in text and "$RESULTS" not in text]
    assert others == []


@pytest.mark.parametrize("name", NAMES)
def test_workflow_actions_are_pinned_with_their_release(name: str) -> None:
    """Every action is named by a commit, with a comment for people that says which release it is."""
    text = (ROOT / ".github" / "workflows" / name).read_text()
    used = [line.strip().removeprefix("- ") for line in text.splitlines() if "uses: " in line]

    assert [line for line in used if "./.github" not in line and not PINNED.fullmatch(line)] == []


def test_workflows_pin_each_action_to_one_commit() -> None:
    """An action that is used in several places is the same one everywhere."""
    found: dict[str, set[str]] = {}
    for name in NAMES:
        for step in steps(name):
            action, _, commit = step.get("uses", "").partition("@")
            found.setdefault(action, set()).add(commit)

    assert {action: commits for action, commits in found.items() if len(commits) > 1} == {}


@pytest.mark.parametrize("name", NAMES)
def test_workflow_jobs_end_by_themselves(name: str) -> None:
    """No job hangs for the six hours that are the default."""
    endless = [
        key for key, job in jobs(name).items() if "uses" not in job and "timeout-minutes" not in job
    ]

    assert endless == []


def test_workflow_ci_needs_every_job_to_be_green() -> None:
    """The one check that is required fails when any job of the workflow does."""
    assert set(jobs("ci.yml")["all-green"]["needs"]) == set(jobs("ci.yml")) - {"all-green"}


def test_workflow_images_publishes_a_tag_only_after_signing_and_scanning() -> None:
    """Nothing can be deployed by name before it was signed and scanned."""
    order = [
        step.get("run", step.get("id", step.get("uses", "")))
        for step in jobs("images.yml")["publish"]["steps"]
    ]
    place = {
        word: next(number for number, text in enumerate(order) if word in text)
        for word in ("make image-push", "make image-sign", "scan", "make image-tag")
    }

    assert list(place.values()) == sorted(place.values())


def test_workflow_images_runs_for_all_that_images_are_made_of() -> None:
    """A change of any source of the images, or of what builds them, builds them anew: on both events."""
    # YAML takes the word "on" for a boolean.
    events = yaml.safe_load((ROOT / ".github" / "workflows" / "images.yml").read_text())[True]
    sources = runpy.run_path(str(ROOT / "scripts" / "build_id.py"))["SOURCES"]
    wanted = {f"{name}/**" if (ROOT / name).is_dir() else name for name in sources}
    wanted |= {".dockerignore", ".github/workflows/images.yml", "Makefile", "docker-bake.hcl"}

    assert events["pull_request"]["paths"] == events["push"]["paths"]
    assert wanted | {"scripts/**"} == set(events["push"]["paths"])


def test_workflow_images_builds_and_publishes_the_dev_server() -> None:
    """The image that the chart runs as a dev server is built and published as those of the workloads are."""
    for key in ("build", "publish"):
        matrix = jobs("images.yml")[key]["strategy"]["matrix"]
        assert matrix["include"] == [{"workload": "dev-server"}]


def test_workflow_images_gives_the_dev_server_the_tag_of_the_chart() -> None:
    """A release, and nothing else, tags the dev server's image with what the chart asks for by default."""
    commands = [step.get("run") for step in jobs("images.yml")["publish"]["steps"]]
    release = 'make image-tag-release RELEASE="$GITHUB_REF_NAME"'
    step = jobs("images.yml")["publish"]["steps"][commands.index(release)]

    assert step["if"] == "matrix.workload == 'dev-server' && startsWith(github.ref, 'refs/tags/v')"
    assert commands.index(release) > commands.index("make image-tag")
