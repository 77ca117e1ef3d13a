"""Reads ``routing.json``, in which a release writes down its builds and its routing.

The chart and the Kustomize base put that file into a ConfigMap; hook Jobs mount it, people pipe it in.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from temporal_fleet.errors import Problem, RoutingFileError
from temporal_fleet.versioning import (
    UNVERSIONED,
    DesiredDeployment,
    Place,
    Risk,
    RolloutMode,
    Routing,
)

STDIN = "-"
"""Stands for standard input where a file is named."""

ROUTING_KEY = "routing.json"
"""Name of the file in the ConfigMap that holds it."""


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, alias_generator=to_camel)


class _Build(_Part):
    build_id: str = ""
    versioned: bool = True
    workers: dict[str, str] = {}

    @property
    def identity(self) -> str:
        return self.build_id if self.versioned else UNVERSIONED


class _Routing(_Part):
    current: str | None = None
    ramping: str | None = None
    percentage: float = Field(0, ge=0, le=100, allow_inf_nan=False)


class _Rollout(_Part):
    mode: RolloutMode = RolloutMode.ALL_AT_ONCE
    allow_ramp_down: bool = False
    allow_missing_task_queues: bool = False
    allow_shared_task_queues: bool = False

    @property
    def accepted(self) -> frozenset[Risk]:
        risks = {
            Risk.MISSING_TASK_QUEUES: self.allow_missing_task_queues,
            Risk.SHARED_TASK_QUEUES: self.allow_shared_task_queues,
        }
        return frozenset(risk for risk, allowed in risks.items() if allowed)


class _Temporal(_Part):
    address: str = Field(min_length=1)
    namespace: str = Field(min_length=1)


class _Queue(_Part):
    deployment: str = Field(min_length=1)
    workload: str | None = None
    task_queue: str | None = None
    builds: dict[str, _Build] = Field(min_length=1)
    routing: _Routing = _Routing()
    rollout: _Rollout = _Rollout()


class _File(_Part):
    api_version: Literal["temporal-fleet/v1"]
    release: str = ""
    temporal: _Temporal | None = None
    queues: dict[str, _Queue]


def read_routing(
    path: Path | str, *, may_be_empty: bool = False
) -> Mapping[str, DesiredDeployment]:
    """Read a routing file.

    Args:
        path: ``routing.json``, or a Kubernetes ConfigMap as JSON that holds it; ``-`` = standard input.
        may_be_empty: Whether nothing at all stands for no task queues, as ``kubectl get --ignore-not-found``
            prints it for what is not installed.

    Returns:
        What is desired, by key of the task queue; build keys are resolved to build IDs.

    Raises:
        RoutingFileError: The file cannot be read or is wrong; carries every problem.
    """
    source = "standard input" if str(path) == STDIN else str(path)
    text = _read(path, source)
    if may_be_empty and not text.strip():
        return {}
    return parse_routing(text, source)


def parse_routing(text: str, source: str) -> Mapping[str, DesiredDeployment]:
    """Read the content of a routing file, as `read_routing` does.

    Args:
        text: The content.
        source: Where it came from, for problems.

    Returns:
        What is desired, by key of the task queue.

    Raises:
        RoutingFileError: The content is wrong; carries every problem.
    """
    document = _unwrap(_load(text, source), source)
    problems: list[Problem] = []
    queues, temporal = {}, None
    try:
        file = _File.model_validate_json(json.dumps(document))
        queues, temporal = file.queues, file.temporal
    except ValidationError as exc:
        problems.extend(_explain(error, source) for error in exc.errors())
        queues = _valid_queues(document)
    for key, queue in queues.items():
        problems.extend(_check(f"queues.{key}", queue, source))
    problems.extend(_check_deployments(queues, source))
    if problems:
        raise RoutingFileError(problems)
    return {key: _desired(key, queue, temporal) for key, queue in queues.items()}


def _read(path: Path | str, source: str) -> str:
    try:
        if str(path) == STDIN:
            return sys.stdin.read()
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise RoutingFileError([Problem(source, f"cannot be read: {reason}")]) from exc


def _load(text: str, source: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as exc:
        message = f"is not JSON: {exc.msg} at line {exc.lineno}, column {exc.colno}"
        cure = "Print a ConfigMap with kubectl get configmap NAME -o json."
        raise RoutingFileError([Problem(source, message, None, cure)]) from exc


def _unwrap(document: object, source: str) -> dict[str, Any]:
    """Return the routing itself, which may be inside a ConfigMap."""
    if not isinstance(document, dict):
        message = "is not a JSON object"
        raise RoutingFileError([Problem(source, message, None, f"Use {ROUTING_KEY} of a release.")])
    if "kind" not in document:
        return document
    data = document.get("data") or {}
    if document["kind"] != "ConfigMap" or ROUTING_KEY not in data:
        kind = document["kind"]
        message = f"is an object of kind {kind} and does not hold {ROUTING_KEY}"
        cure = "Name the ConfigMap that ends with -routing."
        raise RoutingFileError([Problem(source, message, None, cure)])
    return _unwrap(_load(data[ROUTING_KEY], f"{ROUTING_KEY} in {source}"), source)


def _valid_queues(document: dict[str, Any]) -> dict[str, _Queue]:
    """Return the task queues without mistakes of form, so that their other mistakes are told too."""
    queues = document.get("queues")
    valid = {}
    for key, queue in queues.items() if isinstance(queues, dict) else ():
        try:
            valid[key] = _Queue.model_validate_json(json.dumps(queue))
        except ValidationError:
            continue  # told already
    return valid


def _explain(error: ErrorDetails, source: str) -> Problem:
    *parents, key = (str(part) for part in error["loc"] or ("",))
    subject = ".".join((*parents, key))
    if error["type"] == "extra_forbidden":
        known = _keys_at(parents)
        close = difflib.get_close_matches(key, known, n=1)
        cure = f"Did you mean {close[0]}?" if close else f"Known here: {', '.join(known)}."
        return Problem(subject, "is not a key of a routing file", source, cure)
    if error["type"] == "missing":
        return Problem(subject, "is missing", source)
    shown = json.dumps(error["input"])
    return Problem(subject, f"{shown} is wrong: {error['msg']}", source)


def _keys_at(parents: list[str]) -> list[str]:
    inner: dict[str, type[_Part]] = {"builds": _Build, "routing": _Routing, "rollout": _Rollout}
    model: type[_Part] = _Queue if parents else _File
    if parents == ["temporal"]:
        model = _Temporal
    if len(parents) > 2:
        model = inner[parents[2]]
    return [field.alias or name for name, field in model.model_fields.items()]


def _check(path: str, queue: _Queue, source: str) -> Iterator[Problem]:
    yield from _check_builds(f"{path}.builds", queue.builds, source)
    yield from _check_routing(f"{path}.routing", queue, source)


def _check_builds(path: str, builds: Mapping[str, _Build], source: str) -> Iterator[Problem]:
    unversioned = [key for key, build in builds.items() if not build.versioned]
    if len(unversioned) > 1:
        names = ", ".join(unversioned)
        message = f"{names} all have versioned: false, and Temporal cannot tell them apart"
        yield Problem(path, message, source, "Keep one of them.")
    keys: dict[str, str] = {}
    for key, build in builds.items():
        if not build.versioned:
            continue
        if build.build_id in ("", UNVERSIONED):
            message = f"'{build.build_id}' is not a build ID"
            cure = "Name one, or set versioned: false for workers without versioning."
            yield Problem(f"{path}.{key}.buildId", message, source, cure)
        elif build.build_id in keys:
            message = f"'{build.build_id}' is also the build ID of '{keys[build.build_id]}'"
            yield Problem(f"{path}.{key}.buildId", message, source, "A build ID names one build.")
        keys.setdefault(build.build_id, key)


def _check_routing(path: str, queue: _Queue, source: str) -> Iterator[Problem]:
    routing, keys = queue.routing, list(queue.builds)
    named = ", ".join(keys)
    if not routing.current and len(keys) > 1:
        message = "is not set, and there are several builds"
        yield Problem(f"{path}.current", message, source, f"Set it to one of {named}.")
    for role, key in (("current", routing.current), ("ramping", routing.ramping)):
        if key and key not in queue.builds:
            close = difflib.get_close_matches(key, keys, n=1)
            cure = f"Did you mean {close[0]}?" if close else f"Use one of {named}."
            yield Problem(f"{path}.{role}", f"'{key}' is not a key of the builds", source, cure)
    if routing.ramping and routing.ramping == _current_key(queue):
        message = f"'{routing.ramping}' is current already"
        yield Problem(f"{path}.ramping", message, source, "Leave it empty, or name another build.")
    if routing.percentage and not routing.ramping:
        message = f"is {routing.percentage:g}, but nothing is ramping"
        yield Problem(f"{path}.percentage", message, source, "Set it to 0, or set ramping.")


def _check_deployments(queues: Mapping[str, _Queue], source: str) -> Iterator[Problem]:
    owners: dict[str, str] = {}
    for key, queue in queues.items():
        owner = owners.setdefault(queue.deployment, key)
        if owner != key:
            message = f"'{queue.deployment}' is also the Worker Deployment of '{owner}'"
            cure = "Each key has routing of its own and needs a Worker Deployment of its own."
            yield Problem(f"queues.{key}.deployment", message, source, cure)


def _current_key(queue: _Queue) -> str:
    if queue.routing.current:
        return queue.routing.current
    return next(iter(queue.builds)) if len(queue.builds) == 1 else ""


def _desired(key: str, queue: _Queue, temporal: _Temporal | None) -> DesiredDeployment:
    builds = {name: build.identity for name, build in queue.builds.items()}
    ramping = builds[queue.routing.ramping] if queue.routing.ramping else None
    return DesiredDeployment(
        queue=key,
        deployment=queue.deployment,
        builds=builds,
        routing=Routing(builds[_current_key(queue)], ramping, queue.routing.percentage),
        mode=queue.rollout.mode,
        allow_ramp_down=queue.rollout.allow_ramp_down,
        accepted=queue.rollout.accepted,
        task_queue=queue.task_queue or None,
        place=_place(key, queue, temporal),
        workers={
            build.identity: build.workers or {key: queue.workload or key}
            for build in queue.builds.values()
        },
    )


def _place(key: str, queue: _Queue, temporal: _Temporal | None) -> Place | None:
    if temporal is None:
        return None
    task_queue = queue.task_queue or queue.workload or key
    return Place(temporal.address, temporal.namespace, task_queue)
