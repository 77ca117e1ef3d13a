"""Tells people what a workload consists of: the contents of ``fleet list``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from temporal_fleet.registration.definitions import (
    ExecutionModel,
    activity_definitions,
    location_of,
    nexus_service,
    workflow_definitions,
)
from temporal_fleet.workload import Workload, discover

DYNAMIC = "*"
"""Stands for the name of a dynamic workflow, activity or handler, which serves every other name."""


@dataclass(frozen=True, kw_only=True)
class WorkflowDescription:
    """One workflow of a workload."""

    type: str
    """Workflow type; ``*`` when it is dynamic."""
    module: str
    """Module that defines its class."""
    versioning_behavior: str | None
    """``pinned`` or ``auto_upgrade``; None when its class leaves it to the worker's default."""
    sandboxed: bool
    """False when it asks to run without the sandbox, and so without determinism checks."""
    signals: tuple[str, ...]
    queries: tuple[str, ...]
    updates: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ActivityDescription:
    """One activity of a workload."""

    type: str
    """Activity type; ``*`` when it is dynamic."""
    model: ExecutionModel
    """Where it runs: ``async`` on the event loop, ``thread`` or ``process`` on that pool."""
    module: str
    """Module that defines it."""


@dataclass(frozen=True, kw_only=True)
class StartDescription:
    """One way to start workflows of a workload from a file."""

    name: str | None
    """What ``--start`` takes; None when it is the only one and has no name."""
    workflow: str
    """Type of the workflow that a line starts."""


@dataclass(frozen=True, kw_only=True)
class WorkloadDescription:
    """What a workload consists of; ``dataclasses.asdict`` makes it ready for JSON."""

    name: str
    description: str
    task_queue: str
    """Task queue that it serves when no setting overrides it."""
    distribution: str | None
    """Distribution that offers it; None when it is not installed."""
    release: str | None
    """Release of that distribution, as in its metadata."""
    workflows: tuple[WorkflowDescription, ...]
    activities: tuple[ActivityDescription, ...]
    nexus_services: tuple[str, ...]
    served_elsewhere: tuple[str, ...]
    """Activity and workflow types that another workload serves on the same task queue."""
    settings_prefix: str | None
    """Prefix of its own environment variables; None when it has no settings of its own."""
    has_resources: bool
    """Whether it opens resources before it polls."""
    health_checks: tuple[str, ...]
    starts: tuple[StartDescription, ...]
    """What ``fleet start`` can start from a file."""


def describe(workload: Workload[Any, Any]) -> WorkloadDescription:
    """Describe a workload; what is declared wrongly is left out, as ``check_workload`` tells that.

    Workflows and activities are sorted by type.
    """
    entry = discover().get(workload.name)
    distribution = entry.dist if entry else None
    return WorkloadDescription(
        name=workload.name,
        description=workload.description,
        task_queue=workload.default_task_queue,
        distribution=distribution.name if distribution else None,
        release=distribution.version if distribution else None,
        workflows=tuple(sorted(_workflows(workload), key=lambda each: each.type)),
        activities=tuple(sorted(_activities(workload), key=lambda each: each.type)),
        nexus_services=tuple(
            sorted(name for item in workload.nexus_handlers if (name := nexus_service(item)))
        ),
        served_elsewhere=tuple(sorted(str(name) for name in workload.served_elsewhere)),
        settings_prefix=settings_prefix(workload.settings),
        has_resources=workload.resources is not None,
        health_checks=tuple(sorted(workload.health_checks)),
        starts=tuple(_starts(workload)),
    )


def _workflows(workload: Workload[Any, Any]) -> Iterator[WorkflowDescription]:
    for found in workflow_definitions(workload):
        behavior = found.versioning_behavior
        yield WorkflowDescription(
            type=found.type_name or DYNAMIC,
            module=found.location.partition(":")[0],
            versioning_behavior=behavior.name.lower() if behavior else None,
            sandboxed=found.sandboxed,
            signals=_shown(found.signals),
            queries=_shown(found.queries),
            updates=_shown(found.updates),
        )


def _activities(workload: Workload[Any, Any]) -> Iterator[ActivityDescription]:
    for found in activity_definitions(workload):
        yield ActivityDescription(
            type=found.type_name or DYNAMIC,
            model=found.model,
            module=found.location.partition(":")[0],
        )


def _starts(workload: Workload[Any, Any]) -> Iterator[StartDescription]:
    types = {found.location: found.type_name or DYNAMIC for found in workflow_definitions(workload)}
    for name, start in workload.starts.items():
        if (place := location_of(start.workflow)) in types:
            yield StartDescription(name=name, workflow=types[place])


def _shown(names: tuple[str | None, ...]) -> tuple[str, ...]:
    return tuple(name or DYNAMIC for name in names)


def settings_prefix(settings: object) -> str | None:
    """Return the prefix of a settings class; None without a class, or when it is no such class."""
    from pydantic_settings import BaseSettings

    if not isinstance(settings, type) or not issubclass(settings, BaseSettings):
        return None
    return settings.model_config.get("env_prefix", "")
