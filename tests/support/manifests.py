"""Renders the chart and the Kustomize overlays, and answers questions about the objects that come out."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
CHART = REPOSITORY / "deploy" / "helm" / "temporal-fleet"
KUSTOMIZE = REPOSITORY / "deploy" / "kustomize"

Object = dict[str, Any]
Values = Mapping[str, Any]

OPTIONAL_APIS = ("monitoring.coreos.com/v1", "keda.sh/v1alpha1")
SMALL: Values = {
    "temporal": {"address": "temporal:7233"},
    "queues": {"orders": {"builds": {"blue": {"buildId": "1.4.0"}}}},
}
"""The least that the chart renders workers from."""
NOTES = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: notes
data:
  notes: {{ tpl (.Files.Get "notes.txt") . | toJson }}
"""
"""A template that shows the notes of the chart, once they are a file beside the templates."""


def require_tool(name: str, *, verb: str = "tools") -> str:
    """Return the path of a program; skip without it, or fail in CI, where it has to be there.

    Args:
        name: Its name.
        verb: What installs it.
    """
    found = shutil.which(name)
    if found:
        return found
    reason = f"{name} is not on PATH; `make {verb}` installs it"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@functools.cache
def parse(text: str) -> tuple[Object, ...]:
    """Return the objects of a stream of YAML documents, without empty ones; nobody may change them."""
    # The C parser is ten times faster than `safe_load_all`, and the whole folder is meant to take seconds.
    return tuple(each for each in yaml.load_all(text, Loader=yaml.CSafeLoader) if each)


@dataclass(frozen=True)
class Objects:
    """What was rendered."""

    all: tuple[Object, ...]

    def of_kind(self, *kinds: str) -> list[Object]:
        """Return the objects of some kinds."""
        return [each for each in self.all if each["kind"] in kinds]

    def named(self, kind: str, name: str) -> Object:
        """Return the one object of this kind and name; an assertion fails when there is none."""
        found = [each for each in self.of_kind(kind) if name_of(each) == name]
        names = [name_of(each) for each in self.of_kind(kind)]
        assert len(found) == 1, f"{kind} {name}: {len(found)} of {names}"
        return found[0]

    def only(self, kind: str) -> Object:
        """Return the one object of this kind; an assertion fails when there are none or several."""
        found = self.of_kind(kind)
        assert len(found) == 1, f"{kind}: {[name_of(each) for each in found]}"
        return found[0]

    def pods(self) -> Iterator[tuple[str, Object]]:
        """Yield a name and the pod (metadata and spec) of everything that makes pods."""
        for each in self.of_kind("Deployment", "Job", "StatefulSet", "DaemonSet"):
            yield f"{each['kind']} {name_of(each)}", each["spec"]["template"]
        for each in self.of_kind("Pod"):
            yield f"Pod {name_of(each)}", each

    def variables(self, deployment: str) -> dict[str, str]:
        """Return the variables of a worker that manifests hold: of ConfigMaps, Secrets, and plain."""
        container = worker_of(self.named("Deployment", deployment))
        found: dict[str, str] = {}
        for source in container.get("envFrom", []):
            kind, reference = ("ConfigMap", source.get("configMapRef"))
            if reference is None:
                kind, reference = ("Secret", source["secretRef"])
            held = self.named(kind, reference["name"])
            found.update(held.get("data") or held.get("stringData") or {})
        for variable in container.get("env", []):
            if "value" in variable:
                found[variable["name"]] = variable["value"]
        return found


def name_of(thing: Object) -> str:
    """Return the name of an object."""
    return str(thing["metadata"]["name"])


def worker_of(deployment: Object) -> Object:
    """Return the container `worker` of a Deployment."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return next(each for each in containers if each["name"] == "worker")


class Chart:
    """The chart; every rendering is kept, since tests ask many things about the same values."""

    def __init__(self, helm: str, scratch: Path) -> None:
        """Take the path of helm and a folder for values files."""
        self._helm = helm
        self._scratch = scratch
        self._kept: dict[str, subprocess.CompletedProcess[str]] = {}

    def render(
        self,
        values: Values = SMALL,
        *,
        release: str = "fleet",
        apis: Sequence[str] = (),
        kubernetes: str | None = None,
    ) -> Objects:
        """Return what the chart makes of values.

        Args:
            values: What a values file would hold, over the chart's own.
            release: Name of the release.
            apis: API versions that the cluster is said to have beside Kubernetes' own.
            kubernetes: Version of Kubernetes; None = helm's default.
        """
        arguments = [f"--api-versions={api}" for api in apis]
        if kubernetes:
            arguments.append(f"--kube-version={kubernetes}")
        result = self.run("template", release, values, *arguments)
        assert result.returncode == 0, result.stderr
        return Objects(parse(result.stdout))

    def refuse(self, values: Values) -> str:
        """Return the error with which the chart refuses values; an assertion fails when it takes them."""
        result = self.run("template", "fleet", values)
        assert result.returncode, "the chart took the values"
        return result.stderr

    def notes(self, values: Values, *, apis: Sequence[str] = ()) -> str:
        """Return the notes that helm prints after an installation.

        Args:
            values: What a values file would hold, over the chart's own.
            apis: API versions that the cluster is said to have beside Kubernetes' own.
        """
        arguments = [f"--api-versions={api}" for api in apis]
        arguments.append("--show-only=templates/notes.yaml")
        result = self.run("template", "fleet", values, *arguments, chart=self._showing_notes())
        assert result.returncode == 0, result.stderr
        return str(Objects(parse(result.stdout)).only("ConfigMap")["data"]["notes"])

    def _showing_notes(self) -> Path:
        """Return a copy of the chart that renders its notes into a ConfigMap.

        Only `helm install` prints notes, and Helm 3 asks a cluster for that, also in a dry run.
        """
        copied = self._scratch / "showing-notes"
        if not copied.exists():
            shutil.copytree(CHART, copied)
            (copied / "templates" / "NOTES.txt").rename(copied / "notes.txt")
            (copied / "templates" / "notes.yaml").write_text(NOTES, encoding="utf-8")
        return copied

    def run(
        self, verb: str, release: str, values: Values, *arguments: str, chart: Path = CHART
    ) -> subprocess.CompletedProcess[str]:
        """Run helm with values as JSON, which is YAML too; *release* is empty for `lint`."""
        text = json.dumps(values)
        key = json.dumps([verb, release, text, str(chart), *arguments])
        if key not in self._kept:
            file = self._scratch / f"{len(self._kept)}.json"
            file.write_text(text, encoding="utf-8")
            command = [self._helm, verb, *([release] if release else []), str(chart)]
            command += ["--namespace=fleet", f"--values={file}", *arguments]
            self._kept[key] = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=30
            )
        return self._kept[key]


class Kustomize:
    """The overlays; each is built once."""

    def __init__(self, kubectl: str) -> None:
        """Take the path of kubectl."""
        self._kubectl = kubectl
        self._kept: dict[Path, Objects] = {}

    def build(self, folder: Path) -> Objects:
        """Return the objects of a folder with a kustomization."""
        if folder not in self._kept:
            result = subprocess.run(
                [self._kubectl, "kustomize", str(folder)],
                capture_output=True,
                text=True,
                check=False,
                timeout=30,
            )
            assert result.returncode == 0, result.stderr
            assert not result.stderr, result.stderr
            self._kept[folder] = Objects(parse(result.stdout))
        return self._kept[folder]

    def overlay(self, name: str) -> Objects:
        """Return the objects of one of our overlays."""
        return self.build(KUSTOMIZE / "overlays" / name)
