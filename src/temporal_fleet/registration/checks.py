"""Judges, before anything polls, whether a workload can run as it is declared.

Every check returns all problems that it finds and none stops another, so that one start shows
everything there is to mend. A check that cannot know stays silent.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from temporalio.common import VersioningBehavior

from temporal_fleet.errors import Problem
from temporal_fleet.registration.building import constructor_problem
from temporal_fleet.registration.definitions import (
    activity_definition,
    activity_definitions,
    activity_methods,
    location_of,
    nexus_service,
    workflow_definition,
    workflow_definitions,
)
from temporal_fleet.registration.description import settings_prefix
from temporal_fleet.registration.sandbox import passed_through_problem, passing_through
from temporal_fleet.registration.workflow_calls import TypeCall, calls_of
from temporal_fleet.settings.rules import name_mistake
from temporal_fleet.workload import Workload

if TYPE_CHECKING:
    from temporal_fleet.settings import Settings

# A workload names Kubernetes objects, whose names are DNS labels.
# Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

# Unknown FLEET_ variables are refused, and TEMPORAL_ ones are Temporal's own.
_RESERVED_PREFIXES = ("FLEET_", "TEMPORAL_", "OTEL_")

_Check = Callable[[Workload[Any, Any], "Settings"], Iterator[Problem]]


def check_workload(workload: Workload[Any, Any], settings: Settings) -> list[Problem]:
    """Return everything that is wrong with a workload under these settings.

    Nothing of the workload is built or called; its resources need not be open.

    Args:
        workload: The workload, as ``load_workload`` returns it.
        settings: The runtime's settings; task queue, threads and versioning decide some checks.

    Returns:
        All problems; empty when the workload can be run.
    """
    return [problem for check in _CHECKS for problem in check(workload, settings)]


def _task_queue(workload: Workload[Any, Any], settings: Settings) -> str:
    return settings.worker.task_queue or workload.default_task_queue


def _check_name(workload: Workload[Any, Any], _settings: Settings) -> Iterator[Problem]:
    if not _DNS_LABEL.fullmatch(workload.name):
        yield Problem(
            subject=f"workload {workload.name!r}",
            message="its name is not a DNS label, so it cannot name Kubernetes objects",
            cure="Use at most 63 small letters, digits and inner hyphens; "
            "the task queue may be named otherwise by Workload(task_queue=...)",
        )


def _check_task_queue(workload: Workload[Any, Any], _settings: Settings) -> Iterator[Problem]:
    if workload.task_queue is not None and (mistake := name_mistake(workload.task_queue)):
        yield Problem(
            subject=f"workload {workload.name!r}",
            message=f"its task queue {workload.task_queue!r} {mistake[0]}",
            cure=mistake[1],
        )


def _check_registered(workload: Workload[Any, Any], settings: Settings) -> Iterator[Problem]:
    if workload.workflows or workload.activities or workload.nexus_handlers:
        return
    yield Problem(
        subject=f"workload {workload.name!r}",
        message="registers nothing, so its worker would never take a task from the task queue "
        f"{_task_queue(workload, settings)!r}",
        cure="Give Workload(...) workflows, activities or nexus_handlers",
    )


def _check_workflow_classes(workload: Workload[Any, Any], _settings: Settings) -> Iterator[Problem]:
    items: Sequence[object] = workload.workflows
    for item in items:
        if workflow_definition(item) is None:
            kind = "has no @workflow.defn" if isinstance(item, type) else "is not a class"
            yield Problem(
                subject=f"workflow {location_of(item)}",
                message=f"is listed in workload {workload.name!r}, but {kind}",
                cure="List classes that are decorated with @workflow.defn themselves",
            )


def _check_activities(workload: Workload[Any, Any], _settings: Settings) -> Iterator[Problem]:
    has_resources = workload.resources is not None
    for item in workload.activities:
        subject = f"activity {location_of(item)}"
        if isinstance(item, type):
            yield from _check_activity_class(item, has_resources)
        elif activity_definition(item) is None:
            yield Problem(
                subject=subject,
                message=f"is listed in workload {workload.name!r}, but has no @activity.defn",
                cure="Decorate it with @activity.defn",
            )
        elif inspect.isfunction(item) and next(iter(inspect.signature(item).parameters), "") in (
            "self",
            "cls",
        ):
            owner = item.__qualname__.rpartition(".")[0] or "its class"
            yield Problem(
                subject=subject,
                message="is a method without an object to call it on",
                cure=f"List the class {owner} instead: it is built once with the resources",
            )


def _check_activity_class(cls: type, has_resources: bool) -> Iterator[Problem]:
    subject = f"activity class {location_of(cls)}"
    if not any(activity_methods(cls)):
        yield Problem(
            subject=subject,
            message="has no @activity.defn method",
            cure="Decorate the methods that are activities with @activity.defn",
        )
    elif obstacle := constructor_problem(cls, has_resources):
        yield Problem(
            subject=subject,
            message=f"cannot be built: {obstacle}",
            cure="Let the constructor take the resources alone, and declare them by "
            "Workload(resources=...)",
        )


def _check_nexus_handlers(workload: Workload[Any, Any], _settings: Settings) -> Iterator[Problem]:
    for item in workload.nexus_handlers:
        cls = item if isinstance(item, type) else type(item)
        subject = f"Nexus handler {location_of(cls)}"
        if nexus_service(item) is None:
            yield Problem(
                subject=subject,
                message=f"is listed in workload {workload.name!r}, but is not a service handler",
                cure="Decorate the class with @nexusrpc.handler.service_handler",
            )
        elif isinstance(item, type) and (
            obstacle := constructor_problem(item, workload.resources is not None)
        ):
            yield Problem(
                subject=subject,
                message=f"cannot be built: {obstacle}",
                cure="Let the constructor take the resources alone",
            )


def _check_duplicates(workload: Workload[Any, Any], _settings: Settings) -> Iterator[Problem]:
    named = [
        *(("workflow", each.type_name, each.location) for each in workflow_definitions(workload)),
        *(("activity", each.type_name, each.location) for each in activity_definitions(workload)),
        *(
            ("Nexus service", name, location_of(item if isinstance(item, type) else type(item)))
            for item in workload.nexus_handlers
            if (name := nexus_service(item))
        ),
    ]
    places: dict[tuple[str, str | None], list[str]] = {}
    for kind, name, location in named:
        places.setdefault((kind, name), []).append(location)
    for (kind, name), locations in places.items():
        if len(locations) > 1:
            yield Problem(
                subject=f"{kind} {name!r}" if name else f"dynamic {kind}",
                message=f"is registered {len(locations)} times: {' and '.join(locations)}",
                cure="Keep one of them, or give one another name by @...defn(name=...)"
                if name
                else "A worker takes only one",
            )


def _check_threads(workload: Workload[Any, Any], settings: Settings) -> Iterator[Problem]:
    if settings.concurrency.threads > 0:
        return
    for each in activity_definitions(workload):
        if each.model == "thread":
            yield Problem(
                subject=f"activity {each.type_name or '(dynamic)'!r}",
                message=f"is a plain def ({each.location}), but there is no thread to run it on: "
                "FLEET_CONCURRENCY_THREADS is 0",
                cure="Set FLEET_CONCURRENCY_THREADS to at least 1, or write it as async def "
                "when it never blocks",
            )


def _check_versioning(workload: Workload[Any, Any], settings: Settings) -> Iterator[Problem]:
    deployment = settings.deployment
    if not deployment.versioning or deployment.default_versioning_behavior is not None:
        return
    for each in workflow_definitions(workload):
        if (
            each.versioning_behavior is VersioningBehavior.UNSPECIFIED
            and not each.has_dynamic_config
        ):
            yield Problem(
                subject=f"workflow {each.type_name or '(dynamic)'!r}",
                message=f"has no versioning behaviour ({each.location}), but versioning is on",
                cure="Write @workflow.defn(versioning_behavior=VersioningBehavior.PINNED) or "
                ".AUTO_UPGRADE on the class, or set FLEET_DEPLOYMENT_DEFAULT_VERSIONING_BEHAVIOR "
                "to pinned or auto_upgrade for all that have none",
            )


def _check_sandbox(workload: Workload[Any, Any], _settings: Settings) -> Iterator[Problem]:
    for each in workflow_definitions(workload):
        module = each.location.partition(":")[0]
        listed = passing_through(module, workload) if each.sandboxed else None
        if listed is None:
            continue
        cause = f"{listed!r} is passed through"
        if listed in workload.passthrough_modules:
            cause = f"Workload(passthrough_modules=...) lists {listed!r}"
        if listed != module:
            cause += ", and with it everything below that name"
        yield passed_through_problem(f"workflow {each.type_name or each.location!r}", module, cause)


def _check_calls(workload: Workload[Any, Any], settings: Settings) -> Iterator[Problem]:
    task_queue = _task_queue(workload, settings)
    registered = {
        "activity": {each.type_name for each in activity_definitions(workload)},
        "workflow": {each.type_name for each in workflow_definitions(workload)},
    }
    seen: set[TypeCall] = set()
    for item in workload.workflows:
        definition = workflow_definition(item)
        if definition is None:
            continue
        for call in calls_of(item, task_queue):
            names = registered[call.kind]
            # A dynamic activity or workflow serves every type.
            if call in seen or call.type_name in names or None in names:
                continue
            if not call.local and call.type_name in workload.served_elsewhere:
                continue
            seen.add(call)
            subject = f"workflow {definition.type_name or definition.location!r}"
            yield _unserved(subject, call, {name for name in names if name}, task_queue)


def _unserved(subject: str, call: TypeCall, names: set[str], task_queue: str) -> Problem:
    at = f"calls {call.operation}({call.callee}) at {call.location}"
    if call.type_name is None:
        return Problem(
            subject=subject,
            message=f"{at}, but {call.callee} has no @{call.kind}.defn",
            cure=f"Decorate it, and list it in Workload({_listed(call)}=...)",
        )
    close = difflib.get_close_matches(call.type_name, names, n=1)
    hint = f"Did you mean {close[0]!r}? Otherwise list" if close else "List"
    elsewhere = ""
    if not call.local:
        elsewhere = (
            ", name it in Workload(served_elsewhere=...) when another workload serves it on this "
            "task queue, or pass task_queue=... when it is served on another"
        )
    return Problem(
        subject=subject,
        message=f"{at}, but no {call.kind} of type {call.type_name!r} is registered on its task "
        f"queue {task_queue!r}, so it would wait until a timeout",
        cure=f"{hint} it in Workload({_listed(call)}=...){elsewhere}",
    )


def _listed(call: TypeCall) -> str:
    return "activities" if call.kind == "activity" else "workflows"


def _check_served_elsewhere(workload: Workload[Any, Any], _settings: Settings) -> Iterator[Problem]:
    subject = f"workload {workload.name!r}"
    places = {each.type_name: each.location for each in workflow_definitions(workload)}
    places |= {each.type_name: each.location for each in activity_definitions(workload)}
    names: Sequence[object] = workload.served_elsewhere
    for name in names:
        if not isinstance(name, str) or not name:
            yield Problem(
                subject=subject,
                message=f"its served_elsewhere has {name!r}, which is not the name of a type",
                cure="Write the activity or workflow type as a string, as in "
                "served_elsewhere=['charge']",
            )
        elif name in places:
            yield Problem(
                subject=subject,
                message=f"its served_elsewhere has {name!r}, which it serves itself "
                f"({places[name]})",
                cure="Remove the name from served_elsewhere, or stop registering the type here",
            )


def _check_start(workload: Workload[Any, Any], _settings: Settings) -> Iterator[Problem]:
    for name, start in workload.starts.items():
        if start.workflow not in workload.workflows:
            which = "its WorkflowStart" if name is None else f"its WorkflowStart {name!r}"
            yield Problem(
                subject=f"workload {workload.name!r}",
                message=f"{which} starts {location_of(start.workflow)}, which it does not register",
                cure="List it in Workload(workflows=...), as files are started on its own task queue",
            )


def _check_settings(workload: Workload[Any, Any], _settings: Settings) -> Iterator[Problem]:
    if workload.settings is None:
        return
    prefix = settings_prefix(workload.settings)
    obstacle = None
    if prefix is None:
        obstacle = "is not a pydantic-settings class"
    elif not prefix:
        obstacle = "has no env_prefix, so its variables may be anybody's"
    elif prefix.upper().startswith(_RESERVED_PREFIXES):
        obstacle = f"has the env_prefix {prefix!r}, which belongs to the runtime"
    if obstacle:
        yield Problem(
            subject=f"settings {location_of(workload.settings)}",
            message=obstacle,
            cure="Let it extend BaseSettings with model_config = "
            f"SettingsConfigDict(env_prefix={_own_prefix(workload.name)!r})",
        )


def _own_prefix(name: str) -> str:
    return f"{name.upper().replace('-', '_')}_"


_CHECKS: tuple[_Check, ...] = (
    _check_name,
    _check_task_queue,
    _check_registered,
    _check_workflow_classes,
    _check_activities,
    _check_nexus_handlers,
    _check_duplicates,
    _check_threads,
    _check_versioning,
    _check_sandbox,
    _check_calls,
    _check_served_elsewhere,
    _check_start,
    _check_settings,
)
