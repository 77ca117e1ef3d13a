"""Known weaknesses that checkov finds in manifests, Dockerfile and workflows are mended, or are none.

It has an environment of its own, which `make policy-tools` makes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifests import (
    CHART,
    KUSTOMIZE,
    OPTIONAL_APIS,
    REPOSITORY,
    Chart,
    Kustomize,
    Objects,
    require_tool,
)

LONGEST_SECONDS = 170
pytestmark = pytest.mark.timeout(LONGEST_SECONDS + 10)


@dataclass(frozen=True)
class Exempt:
    """What does not pass a check, and why that is no weakness."""

    check: str
    reason: str
    place: str = "*"
    """Where: `<file> <object>`, with wildcards."""


SIDECAR = "chart-everything.yaml Deployment.fleet.fleet-workers-orders-*"
IN_MANIFESTS = (
    Exempt(
        "CKV_K8S_11",
        "A CPU limit throttles the event loop until it looks as if it stood still, and the worker is "
        "restarted; requests are what nodes are shared by, and `resources` takes a limit, too.",
    ),
    Exempt(
        "CKV_K8S_15",
        "A tag is a build ID or a release and never names two images, so a node pulls it once; "
        "`image.pullPolicy` takes Always.",
    ),
    Exempt(
        "CKV_K8S_43",
        "A tag is the build ID that Temporal knows the workers by; what a digest adds is the user's "
        "choice, by `image.digest`.",
    ),
    # It takes the policies of all files and namespaces together, so it does not find every pod without one.
    Exempt(
        "CKV2_K8S_6",
        "Only users know what their workers have to reach: they switch policies on, by "
        "`networkPolicy.enabled` or the component `network-policy`.",
    ),
    Exempt("CKV_K8S_8", "The pod of `helm test` ends by itself.", "* Pod.fleet.*-test-pollers"),
    Exempt(
        "CKV_K8S_9",
        "Helm waits for the end of its test, nothing waits for the pod to be ready.",
        "* Pod.fleet.*-test-pollers",
    ),
    Exempt(
        "CKV_K8S_35",
        "These values ask for a secret variable, by `secretEnv`; what connects to Temporal is always "
        "mounted as files.",
        "chart-tls-api-key.yaml *",
    ),
    Exempt(
        "CKV_K8S_35",
        "These values ask for secret variables, by `secretEnv` and `hooks.envFrom`.",
        "chart-everything.yaml *",
    ),
    Exempt(
        "CKV_K8S_8",
        "These values turn this probe of these workers off.",
        "chart-everything.yaml *-payments-a-rather-long-build1",
    ),
    Exempt("CKV_K8S_8", "A sidecar is rendered as values have it: no liveness probe.", SIDECAR),
    Exempt("CKV_K8S_9", "A sidecar is rendered as values have it: no readiness probe.", SIDECAR),
)
IN_SOURCES = (
    Exempt("CKV_DOCKER_2", "Kubernetes ignores HEALTHCHECK and asks the health port instead."),
    Exempt("CKV_DOCKER_7", "The tag is there, in the default of PYTHON_IMAGE, which is not read."),
)


@dataclass(frozen=True)
class Finding:
    """One object that does not pass one check."""

    check: str
    title: str
    place: str
    """`<file> <object>`."""


@dataclass(frozen=True)
class Verdict:
    """What checkov says of some files."""

    files: frozenset[str]
    """Those that any check was about."""
    findings: Sequence[Finding]


@pytest.fixture
def checkov() -> str:
    """The path of checkov."""
    return require_tool("checkov", verb="policy-tools")


def test_manifests_have_no_known_weakness(
    checkov: str, chart: Chart, kustomize: Kustomize, tmp_path: Path
) -> None:
    """What the chart's cases and the overlays render passes checkov's checks, but for those with a reason."""
    rendered = {
        **{f"chart-{name}.yaml": _case(chart, file) for name, file in _cases()},
        **{f"kustomize-{name}.yaml": kustomize.overlay(name) for name in _overlays()},
    }
    for name, objects in rendered.items():
        text = yaml.dump_all(objects.all, Dumper=yaml.CSafeDumper)
        (tmp_path / name).write_text(text, encoding="utf-8")

    verdict = _ask(checkov, tmp_path, ["kubernetes"], sorted(rendered))

    assert verdict.files == rendered.keys()
    _judge(verdict, IN_MANIFESTS)


def test_dockerfile_and_workflows_have_no_known_weakness(checkov: str, tmp_path: Path) -> None:
    """The Dockerfile and the workflows pass checkov's checks, but for those with a reason."""
    workflows = (REPOSITORY / ".github" / "workflows").glob("*.yml")
    files = ["Dockerfile", *sorted(str(each.relative_to(REPOSITORY)) for each in workflows)]
    (tmp_path / ".github" / "workflows").mkdir(parents=True)
    for name in files:
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        # It knows of no expression there, and passes over the whole file without a word.
        known = re.sub(r"(cancel-in-progress:) \$\{\{.*\}\}", r"\1 true", text)
        (tmp_path / name).write_text(known, encoding="utf-8")

    verdict = _ask(checkov, tmp_path, ["dockerfile", "github_actions"], files)

    assert verdict.files == set(files)
    _judge(verdict, IN_SOURCES)


def _cases() -> list[tuple[str, Path]]:
    files = sorted((CHART / "ci").glob("*-values.yaml"))
    return [(file.name.removesuffix("-values.yaml"), file) for file in files]


def _case(chart: Chart, file: Path) -> Objects:
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    return chart.render(values, apis=OPTIONAL_APIS)


def _overlays() -> list[str]:
    return sorted(path.name for path in (KUSTOMIZE / "overlays").iterdir())


def _ask(checkov: str, folder: Path, frameworks: list[str], files: list[str]) -> Verdict:
    command = [checkov, "--framework", *frameworks]
    # Not --quiet: which files passed is told as well, so that none is left out unnoticed.
    command += ["--compact", "--skip-download", "--output", "json", "--file", *files]
    environment = {
        "PATH": os.environ["PATH"],
        # Nobody's own settings, such as ~/.checkov.yaml.
        "HOME": str(folder),
        # The only thing that would be asked for over the network without an account.
        "CKV_SKIP_PACKAGE_UPDATE_CHECK": "true",
        # Forked processes are no faster for so few files.
        "CHECKOV_PARALLELIZATION_TYPE": "none",
    }
    result = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST_SECONDS,
    )
    assert result.returncode in {0, 1}, result.stderr
    answer = json.loads(result.stdout)
    reports: list[dict[str, Any]] = answer if isinstance(answer, list) else [answer]
    assert {report.get("check_type") for report in reports} == set(frameworks), result.stdout[:500]
    results = [report["results"] for report in reports]
    assert not [file for each in results for file in each["parsing_errors"]]
    looked_at = [each for kind in results for each in kind["passed_checks"] + kind["failed_checks"]]
    return Verdict(
        files=frozenset(_file(each) for each in looked_at),
        findings=[
            Finding(each["check_id"], each["check_name"], f"{_file(each)} {each['resource']}")
            for kind in results
            for each in kind["failed_checks"]
        ],
    )


def _file(record: dict[str, Any]) -> str:
    return str(record["file_path"]).lstrip("/")


def _judge(verdict: Verdict, exempt: Sequence[Exempt]) -> None:
    """Fail with every finding that nothing exempts, and everything that is exempt for nothing."""
    unused = list(exempt)
    problems = []
    for finding in verdict.findings:
        matching = [each for each in exempt if _covers(each, finding)]
        unused = [each for each in unused if each not in matching]
        if not matching:
            problems.append(f"{finding.check} ({finding.title}): {finding.place}")
    if problems:
        problems.append(
            "Mend these, or exempt them in this test with the reason why they are no weakness."
        )
    problems += [
        f"{each.check}: nothing in {each.place!r} fails it any more. Remove the exemption."
        for each in unused
    ]
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


def _covers(exempt: Exempt, finding: Finding) -> bool:
    return finding.check == exempt.check and fnmatchcase(finding.place, exempt.place)
