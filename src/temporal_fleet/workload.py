"""What a workload is, and how installed workloads are found.

A workload is the code of one task queue: workflows, activities and the resources they need. It is
plain ``temporalio`` code; this contract only says what belongs together. A distribution offers it
as an entry point in the group ``temporal_fleet.workloads``, so that installing is registering.
Whether a workload can run as it is declared is judged in :mod:`temporal_fleet.registration`, all
at once, before polling.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

from temporal_fleet.errors import (
    FleetError,
    Problem,
    WorkloadError,
    WorkloadImportError,
    WorkloadNotFoundError,
)

if TYPE_CHECKING:
    from temporalio.client import Client, WorkflowHandle
    from temporalio.common import SearchAttributeKey, TypedSearchAttributes
    from temporalio.worker import Interceptor

    from temporal_fleet.settings import Settings

ENTRY_POINT_GROUP = "temporal_fleet.workloads"
"""Entry point group in which distributions offer their workloads."""

SettingsT = TypeVar("SettingsT", default=None)
ResourcesT = TypeVar("ResourcesT", default=None)
ModelT = TypeVar("ModelT")


def _identity(model: object) -> object:
    return model


@dataclass(frozen=True, kw_only=True)
class ResourceContext(Generic[SettingsT]):
    """What a workload's resources are opened with."""

    settings: SettingsT
    """The workload's own settings, already loaded; None when it declares none."""
    fleet: Settings
    """The runtime's settings, e.g. to size a database pool by ``fleet.concurrency.activities``."""
    client: Callable[[], Client]
    """Returns the worker's current Temporal client. Call it at every use and keep no client: when
    certificates are renewed, a new client takes the place of the old one."""


@dataclass(frozen=True, kw_only=True)
class WorkflowStart(Generic[ModelT]):
    """How ``fleet start`` starts one workflow for each line of a JSONL file."""

    workflow: type
    """Class with ``@workflow.defn``."""
    model: type[ModelT]
    """pydantic model that validates one line."""
    workflow_id: Callable[[ModelT], str]
    """Makes the workflow ID from a line, always the same for the same line: a second run of the
    same file then resumes instead of starting everything again."""
    argument: Callable[[ModelT], object] = _identity
    """Makes the workflow's argument from a line; by default the line's model itself."""
    search_attributes: Callable[[ModelT], TypedSearchAttributes] | None = None
    """Makes the search attributes from a line; None starts without any."""
    follow_up: Callable[[WorkflowHandle[Any, Any], ModelT], Awaitable[None]] | None = None
    """Awaited after a workflow was started, e.g. to deliver signals that the line describes; None
    when nothing follows."""


@dataclass(frozen=True, kw_only=True)
class Workload(Generic[SettingsT, ResourcesT]):
    """The code of one task queue, offered as an entry point in ``temporal_fleet.workloads``.

    Raises:
        TypeError: When a single class, function or string is given where a sequence is wanted.
    """

    name: str
    """Name of the workload and of its entry point; a DNS label, as it also names Kubernetes
    objects."""
    task_queue: str | None = None
    """Task queue that the workload serves; None means its name. ``FLEET_WORKER_TASK_QUEUE``
    overrides."""
    description: str = ""
    """One sentence for ``fleet list``."""
    workflows: Sequence[type] = ()
    """Classes with ``@workflow.defn``. Versioning behaviour is the SDK's own
    ``versioning_behavior``."""
    activities: Sequence[Callable[..., Any] | type] = ()
    """Functions with ``@activity.defn``, or classes: a class is built once as ``cls(resources)``
    after the resources are open, and each of its ``@activity.defn`` methods is registered."""
    nexus_handlers: Sequence[object] = ()
    """Nexus service handlers; a class is built once as ``cls(resources)``."""
    served_elsewhere: Sequence[str] = ()
    """Types of activities and child workflows that workers of another workload serve on the same task
    queue, e.g. activities that need a machine of their own."""
    settings: type[SettingsT] | None = None
    """pydantic-settings class of the workload's own, with its own ``env_prefix``; None when it has
    none."""
    resources: (
        Callable[[ResourceContext[SettingsT]], AbstractAsyncContextManager[ResourcesT]] | None
    ) = None
    """Opens what activities need (database pools, HTTP clients) before polling starts; it is closed
    after the drain. None when nothing is needed."""
    health_checks: Mapping[str, Callable[[ResourcesT], Awaitable[None]]] = field(
        default_factory=dict
    )
    """Checks by name, given the resources; one that raises makes the worker not ready."""
    start: WorkflowStart[Any] | Mapping[str, WorkflowStart[Any]] | None = None
    """What ``fleet start`` starts; several by name, chosen with ``--start NAME``. None when files cannot be
    started."""
    search_attributes: Sequence[SearchAttributeKey[Any]] = ()
    """Search attributes that its workflows use. ``fleet dev`` registers them in its server's namespace;
    elsewhere whoever owns the namespace does."""
    interceptors: Sequence[Interceptor] = ()
    """Worker interceptors of the workload's own, run inside those of the runtime."""
    passthrough_modules: Sequence[str] = ()
    """Modules that workflows import without a copy per run, with everything below them. Fit for
    models and other code without side effects, never for a module that defines workflows."""
    workflow_failure_exception_types: Sequence[type[BaseException]] = ()
    """Exceptions that fail the workflow instead of its task; empty means the SDK's own rule."""

    def __post_init__(self) -> None:
        """Refuse single objects in place of sequences: later they only show as odd elements."""
        for name in (
            "workflows",
            "activities",
            "nexus_handlers",
            "served_elsewhere",
            "search_attributes",
            "interceptors",
            "passthrough_modules",
            "workflow_failure_exception_types",
        ):
            value = getattr(self, name)
            if isinstance(value, str) or not isinstance(value, Sequence):
                raise TypeError(
                    f"workload {self.name!r}: {name} must be a list or tuple, not {value!r}. "
                    f"Write {name}=[...]"
                )

    @property
    def starts(self) -> Mapping[str | None, WorkflowStart[Any]]:
        """What ``fleet start`` starts, by name; a single one that was declared without has the name None."""
        if self.start is None:
            return {}
        return (
            {None: self.start}
            if isinstance(self.start, WorkflowStart)
            else dict(self.start.items())
        )

    @property
    def default_task_queue(self) -> str:
        """Task queue when no setting overrides it."""
        return self.task_queue or self.name


def discover() -> dict[str, EntryPoint]:
    """Return the entry points of all installed workloads by name, without importing any of them.

    Returns:
        Name to entry point, sorted by name.

    Raises:
        WorkloadError: When two distributions offer the same name.
    """
    found: dict[str, EntryPoint] = {}
    problems = []
    for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda e: (e.name, e.value)):
        other = found.setdefault(entry.name, entry)
        # One distribution may be seen twice: an editable install beside its source directory.
        if other.value != entry.value:
            problems.append(_offered_twice(other, entry))
    if problems:
        raise WorkloadError(problems)
    return found


def _offered_twice(first: EntryPoint, second: EntryPoint) -> Problem:
    return Problem(
        subject=f"workload {first.name!r}",
        message=f"is offered twice: {_origin(first)} and {_origin(second)}",
        cure="Uninstall one of the distributions or rename its entry point",
    )


def _origin(entry: EntryPoint) -> str:
    distribution = f"distribution {entry.dist.name}" if entry.dist else "an unknown distribution"
    return f"{entry.value} of {distribution}"


def load_workload(name: str) -> Workload[Any, Any]:
    """Import an installed workload.

    Args:
        name: Name of its entry point.

    Raises:
        WorkloadNotFoundError: When no installed distribution offers the name.
        WorkloadImportError: When its code raises while it is imported; the cause is chained.
        WorkloadError: When the entry point leads to nothing, or to something other than a workload.
    """
    installed = discover()
    entry = installed.get(name)
    if entry is None:
        raise WorkloadNotFoundError(_not_found(name, installed))
    target = _resolve(entry)
    if not isinstance(target, Workload):
        raise WorkloadError([_not_a_workload(entry, target)])
    if target.name != entry.name:
        raise WorkloadError([_other_name(entry, target)])
    return target


def _not_found(name: str, installed: Mapping[str, EntryPoint]) -> str:
    text = f"no installed distribution offers a workload named {name!r}; installed: "
    text += ", ".join(installed) or "none"
    close = difflib.get_close_matches(name, installed, n=1)
    if close:
        return f"{text}. Did you mean {close[0]!r}?"
    return (
        f"{text}. Install the distribution of the workload into this environment, or add an entry "
        f"point {name!r} to its group {ENTRY_POINT_GROUP!r} and install it again"
    )


def _resolve(entry: EntryPoint) -> object:
    if EntryPoint.pattern.match(entry.value) is None:
        raise WorkloadError([_malformed(entry)])
    try:
        target: Any = import_module(entry.module)
    except ModuleNotFoundError as exc:
        # Only a module that is missing itself leads nowhere; one missing further in is the code's
        # fault.
        if (
            exc.name
            and f"{entry.module}.".startswith(f"{exc.name}.")
            and _frame_of(exc, entry) is None
        ):
            raise WorkloadError([_no_module(entry, exc.name)]) from exc
        raise WorkloadImportError(_import_failure(entry, exc)) from exc
    except (Exception, SystemExit) as exc:
        raise WorkloadImportError(_import_failure(entry, exc)) from exc
    for attribute in entry.attr.split(".") if entry.attr else ():
        target = _attribute(entry, target, attribute)
    return target


def _attribute(entry: EntryPoint, owner: object, attribute: str) -> object:
    try:
        return getattr(owner, attribute)
    except AttributeError as exc:
        # A module may offer the attribute lazily (PEP 562); an AttributeError from deeper is a
        # failure.
        frame = _frame_of(exc, entry)
        if frame is None or frame.name == "__getattr__":
            raise WorkloadError([_no_attribute(entry, attribute, owner)]) from exc
        raise WorkloadImportError(_import_failure(entry, exc)) from exc
    except (Exception, SystemExit) as exc:
        raise WorkloadImportError(_import_failure(entry, exc)) from exc


def _import_failure(entry: EntryPoint, exc: BaseException) -> str:
    text = f"workload {entry.name!r} is installed ({_origin(entry)}), but importing it failed: "
    if isinstance(exc, SyntaxError) and exc.filename:
        # No frame of the module was ever entered, and the text has only the file's last name.
        return f"{text}{type(exc).__name__}: {exc.msg} (at {exc.filename}:{exc.lineno})"
    text += f"{type(exc).__name__}: {exc}"
    frame = _frame_of(exc, entry)
    return f"{text} (at {frame.filename}:{frame.lineno})" if frame else text


def _frame_of(exc: BaseException, entry: EntryPoint) -> traceback.FrameSummary | None:
    """Find the innermost frame in the workload's own code: the line that its author can mend."""
    roots = _roots(entry.module)
    for frame in reversed(traceback.extract_tb(exc.__traceback__)):
        if any(Path(frame.filename).is_relative_to(root) for root in roots):
            return frame
    return None


def _roots(module: str) -> list[Path]:
    spec = find_spec(module.partition(".")[0])
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(location) for location in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.origin else []


def _malformed(entry: EntryPoint) -> Problem:
    return Problem(
        subject=f"workload {entry.name!r}",
        message=f"its entry point {entry.value!r} cannot be read",
        source=_where(entry),
        cure="Write it as 'package.module:attribute' and install the distribution again",
    )


def _no_module(entry: EntryPoint, missing: str) -> Problem:
    return Problem(
        subject=f"workload {entry.name!r}",
        message=f"its entry point {entry.value!r} leads to the module {missing!r}, "
        "which does not exist",
        source=_where(entry),
        cure="Correct the entry point, or install the distribution again if its modules were moved",
    )


def _no_attribute(entry: EntryPoint, attribute: str, owner: object) -> Problem:
    close = difflib.get_close_matches(attribute, dir(owner), n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return Problem(
        subject=f"workload {entry.name!r}",
        message=f"its entry point {entry.value!r} leads to {attribute!r}, "
        f"which {entry.module!r} does not define",
        source=_where(entry),
        cure=f"{hint}Correct the entry point and install the distribution again",
    )


def _not_a_workload(entry: EntryPoint, target: object) -> Problem:
    kind = (
        "a module" if isinstance(target, ModuleType) else f"{type(target).__name__} {target!r:.80}"
    )
    return Problem(
        subject=f"workload {entry.name!r}",
        message=f"its entry point {entry.value!r} leads to {kind} "
        "instead of a temporal_fleet.Workload",
        source=_where(entry),
        cure="Point it to the module-level Workload object, as in 'package.workload:workload'",
    )


def _other_name(entry: EntryPoint, workload: Workload[Any, Any]) -> Problem:
    return Problem(
        subject=f"workload {entry.name!r}",
        message=f"the Workload at {entry.value!r} is named {workload.name!r}, "
        "not like its entry point",
        source=_where(entry),
        cure=f"Write Workload(name={entry.name!r}, ...) or rename the entry point; "
        "set task_queue when only the task queue has another name",
    )


def _where(entry: EntryPoint) -> str:
    owner = f" of distribution {entry.dist.name}" if entry.dist else ""
    return f"entry point group {ENTRY_POINT_GROUP!r}{owner}"


def declared_search_attributes(names: Iterable[str]) -> list[SearchAttributeKey[Any]]:
    """Return the search attributes that installed workloads declare, each once.

    A workload that cannot be imported declares none here: its own worker says what is wrong with it.

    Args:
        names: Names of installed workloads.
    """
    found: dict[str, SearchAttributeKey[Any]] = {}
    for name in names:
        try:
            workload = load_workload(name)
        except FleetError:
            continue
        found |= {key.name: key for key in workload.search_attributes}
    return list(found.values())
