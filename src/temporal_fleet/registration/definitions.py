"""What the SDK's decorators recorded about workflows, activities and Nexus services.

``@workflow.defn`` and ``@activity.defn`` leave a definition on what they decorate, and the SDK
offers no public way to read it. Every access to those private names is here, so that an SDK
release that moves them breaks one module, and its test, rather than the whole package.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import nexusrpc
from temporalio.common import VersioningBehavior

from temporal_fleet.sdk_internals import ActivityDefinition as SdkActivityDefinition
from temporal_fleet.sdk_internals import WorkflowDefinition as SdkWorkflowDefinition
from temporal_fleet.workload import Workload

ExecutionModel = Literal["async", "thread", "process"]
"""Where an activity runs: on the event loop, on the thread pool, or on the process pool."""

CPU_BOUND_ATTRIBUTE = "__temporal_fleet_cpu_bound__"
"""Set to True by ``temporal_fleet.cpu_bound`` on the asynchronous function that it returns."""


@dataclass(frozen=True)
class WorkflowDefinition:
    """What ``@workflow.defn`` recorded on a class."""

    type_name: str | None
    """Workflow type; None when the workflow is dynamic and serves every type that has none of its
    own."""
    location: str
    """``module:qualified name`` of the class."""
    sandboxed: bool
    """Whether the workflow asks to run in the sandbox."""
    versioning_behavior: VersioningBehavior
    """UNSPECIFIED when the class sets none."""
    has_dynamic_config: bool
    """Whether ``@workflow.dynamic_config`` decides the versioning behaviour while it runs."""
    signals: tuple[str | None, ...]
    """Signal names, sorted; None for a dynamic handler."""
    queries: tuple[str | None, ...]
    """Query names, sorted; None for a dynamic handler."""
    updates: tuple[str | None, ...]
    """Update names, sorted; None for a dynamic handler."""


@dataclass(frozen=True)
class ActivityDefinition:
    """What ``@activity.defn`` recorded on a function, a method or a class with ``__call__``."""

    type_name: str | None
    """Activity type; None when the activity is dynamic and serves every type that has none of its
    own."""
    location: str
    """``module:qualified name`` of the function, method or class."""
    model: ExecutionModel
    """Where it runs."""


def location_of(target: object) -> str:
    """Return ``module:qualified name`` of a class or function; its repr when it has none."""
    name = getattr(target, "__qualname__", None)
    return f"{getattr(target, '__module__', '?')}:{name}" if name else repr(target)


def workflow_definition(target: object) -> WorkflowDefinition | None:
    """Read a workflow class' definition.

    Returns:
        The definition; None when *target* itself has no ``@workflow.defn`` (one on a base class
        does not count for the SDK either).
    """
    if not isinstance(target, type):
        return None
    found = SdkWorkflowDefinition.from_class(target)
    if found is None:
        return None
    return WorkflowDefinition(
        type_name=found.name,
        location=location_of(target),
        sandboxed=found.sandboxed,
        versioning_behavior=found.versioning_behavior or VersioningBehavior.UNSPECIFIED,
        has_dynamic_config=found.dynamic_config_fn is not None,
        signals=_names(found.signals),
        queries=_names(found.queries),
        updates=_names(found.updates),
    )


def _names(handlers: Mapping[str | None, object]) -> tuple[str | None, ...]:
    return tuple(sorted(handlers, key=lambda name: name or ""))


def called_workflow(target: object) -> WorkflowDefinition | None:
    """Read the definition of what a child-workflow call names: a class or its ``run`` method."""
    if isinstance(target, type) or not callable(target):
        return workflow_definition(target)
    found = SdkWorkflowDefinition.from_run_fn(target)
    return workflow_definition(found.cls) if found else None


def activity_definition(target: object) -> ActivityDefinition | None:
    """Read an activity's definition; None when *target* has no ``@activity.defn``."""
    if not callable(target):
        return None
    found = SdkActivityDefinition.from_callable(target)
    if found is None:
        return None
    model: ExecutionModel = "async" if found.is_async else "thread"
    if getattr(target, CPU_BOUND_ATTRIBUTE, False):
        model = "process"
    return ActivityDefinition(found.name, location_of(target), model)


def activity_methods(cls: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield name and function of each ``@activity.defn`` method of a class.

    Inherited methods are included. A class that is an activity itself (``@activity.defn`` on the
    class) yields its ``__call__``.
    """
    if activity_definition(cls) is not None:
        yield "__call__", cls
    for name, member in inspect.getmembers_static(cls):
        function = member.__func__ if isinstance(member, staticmethod | classmethod) else member
        # An attribute that merely holds an activity class would otherwise count as a method.
        if not isinstance(function, type) and activity_definition(function) is not None:
            yield name, function


def activity_definitions(workload: Workload[Any, Any]) -> Iterator[ActivityDefinition]:
    """Yield the definitions of all activities of a workload, without building any class."""
    for item in workload.activities:
        if isinstance(item, type):
            functions = [function for _, function in activity_methods(item)]
        else:
            functions = [item]
        for function in functions:
            definition = activity_definition(function)
            if definition is not None:
                yield definition


def workflow_definitions(workload: Workload[Any, Any]) -> Iterator[WorkflowDefinition]:
    """Yield the definitions of all workflows of a workload."""
    for item in workload.workflows:
        definition = workflow_definition(item)
        if definition is not None:
            yield definition


def nexus_service(handler: object) -> str | None:
    """Return the name of the service that a Nexus handler serves; None when it serves none."""
    cls = handler if isinstance(handler, type) else type(handler)
    service = nexusrpc.get_service_definition(cls)
    return service.name if service else None
