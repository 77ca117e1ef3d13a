"""Builds the objects that a workload registers, once its resources are open."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from temporal_fleet.registration.definitions import (
    activity_definition,
    activity_definitions,
    activity_methods,
)
from temporal_fleet.workload import Workload


def build_activities(workload: Workload[Any, Any], resources: object) -> list[Callable[..., Any]]:
    """Return the activities to hand to the SDK's worker.

    Functions are returned as they are. A class is built once, with the resources when its
    constructor takes an argument, and all its ``@activity.defn`` methods are returned bound to
    that object.

    Args:
        workload: A workload that ``check_workload`` found no problem with.
        resources: What the workload's ``resources`` yielded; None when it declares none.
    """
    built: list[Callable[..., Any]] = []
    for item in workload.activities:
        if not isinstance(item, type):
            built.append(item)
            continue
        instance: Any = _build(item, resources)
        built += [
            instance if name == "__call__" else getattr(instance, name)
            for name, _ in activity_methods(item)
        ]
    return built


def build_nexus_handlers(workload: Workload[Any, Any], resources: object) -> list[object]:
    """Return the Nexus service handlers to hand to the SDK's worker; classes are built once.

    Args:
        workload: A workload that ``check_workload`` found no problem with.
        resources: What the workload's ``resources`` yielded; None when it declares none.
    """
    return [
        _build(handler, resources) if isinstance(handler, type) else handler
        for handler in workload.nexus_handlers
    ]


def cpu_bound_modules(workload: Workload[Any, Any]) -> list[str]:
    """Return the modules that define the workload's CPU-bound activities, sorted.

    The processes of the pool import them before they are given work.
    """
    return sorted(
        {
            item.__module__
            for item in workload.activities
            if (definition := activity_definition(item)) and definition.model == "process"
        }
    )


def only_cpu_bound(workload: Workload[Any, Any]) -> bool:
    """Tell whether the workload has activities, and all of them compute in a process of the pool."""
    models = {definition.model for definition in activity_definitions(workload)}
    return models == {"process"}


def constructor_problem(cls: type, has_resources: bool) -> str | None:
    """Tell what keeps ``build_activities`` from building a class; None when nothing does.

    Args:
        cls: Class of activities or of a Nexus service handler.
        has_resources: Whether the workload declares resources.
    """
    required, _ = _parameters(cls)
    if len(required) > 1 or any(name for name, positional in required.items() if not positional):
        return (
            f"its constructor needs {', '.join(required)}, but only the resources are given to it"
        )
    if required and not has_resources:
        return (
            f"its constructor needs {', '.join(required)}, but the workload declares no resources"
        )
    return None


def _build(cls: type, resources: object) -> object:
    required, accepts = _parameters(cls)
    # Without resources, an optional parameter keeps its own default.
    if required or (accepts and resources is not None):
        return cls(resources)
    return cls()


def _parameters(cls: type) -> tuple[dict[str, bool], bool]:
    """Return required parameters (name: is positional), and whether any positional is taken."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    keyword = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(cls).parameters.values()
    required = {
        each.name: each.kind not in keyword
        for each in parameters
        if each.default is inspect.Parameter.empty and each.kind not in variadic
    }
    return required, any(each.kind not in keyword for each in parameters)
