"""The workflow sandbox with which the workers of a fleet run their workflows.

The sandbox imports a workflow's module anew for every run and refuses what is not deterministic. A
module that is passed through is shared instead, which is faster but checked no longer. So what has
no side effects is passed through here, and a module that defines workflows never is: that would
switch off the checks of ``time``, ``random`` and ``datetime`` without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from typing_extensions import override

from temporal_fleet.errors import Problem, WorkloadError
from temporal_fleet.log_context import recent_runs
from temporal_fleet.registration.definitions import location_of
from temporal_fleet.registration.sandbox_imports import SLOW_IMPORT, ImportCosts, explain_failure
from temporal_fleet.sdk_internals import WorkflowDefinition
from temporal_fleet.workload import Workload

log = structlog.get_logger(__name__)

PASSED_THROUGH = (
    "temporal_fleet",
    "structlog",
    # The SDK passes these too; named here because a worker is slow and warns without them.
    "annotated_types",
    "pydantic",
    "pydantic_core",
    "typing_extensions",
)
"""Modules that are passed through for every workload, with everything below them."""


def ignore_import(_module: str) -> None:
    """Do nothing after the import of a module."""


def sandbox_runner(
    workload: Workload[Any, Any], *, after_import: Callable[[str], None] = ignore_import
) -> WorkflowRunner:
    """Return the runner for a workload's workflows, with every determinism check on.

    Preparing a workflow raises WorkloadError when its module cannot be imported in the sandbox, or
    turns out to be passed through (its package may do so in ``__init__.py``, out of sight of the
    static check). The error carries the problems of all the workload's workflows; the SDK's ``Worker``
    wraps it, and ``build_worker`` takes it out again. A module that is slow to import is named in the
    log, once.

    Args:
        workload: Whose workflows they are.
        after_import: Called with the name of a workflow's module whenever the sandbox has imported it, which
            it does for every run; by default nothing happens then.
    """
    return _GuardedRunner(
        restrictions=_restrictions(workload),
        workflows=tuple(workload.workflows),
        after_import=after_import,
    )


def passing_through(module: str, workload: Workload[Any, Any]) -> str | None:
    """Return the name that passes *module* through: its own or that of a package above it.

    Returns:
        The name as it stands in the list of passed-through modules; None when none covers *module*.
    """
    listed = _restrictions(workload).passthrough_modules
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return next((name for name in names if name in listed), None)


def passed_through_problem(subject: str, module: str, cause: str) -> Problem:
    """Return the problem of a workflow whose own module is passed through the sandbox.

    Args:
        subject: The workflow.
        module: Its module.
        cause: What passes the module through, as a sentence without its end.
    """
    return Problem(
        subject=subject,
        message=f"its own module {module!r} is passed through the sandbox: {cause}. That silently "
        "turns off the determinism checks of time, random and datetime in the workflow",
        cure="Pass only modules without workflows through, such as the models; a workflow that "
        "must run without the checks says so itself by @workflow.defn(sandboxed=False)",
    )


def _restrictions(workload: Workload[Any, Any]) -> SandboxRestrictions:
    return SandboxRestrictions.default.with_passthrough_modules(
        *PASSED_THROUGH, *workload.passthrough_modules
    )


@dataclass(frozen=True)
class _GuardedRunner(SandboxedWorkflowRunner):
    workflows: tuple[type, ...] = ()
    after_import: Callable[[str], None] = ignore_import
    _told_slow: set[str] = field(default_factory=set)

    @override
    def prepare_workflow(self, defn: WorkflowDefinition) -> None:
        try:
            self._prepare(defn)
        except Exception as error:
            # The SDK stops at the first; an operator wants to know all.
            raise WorkloadError(self._all_problems(defn, error)) from error

    def _prepare(self, defn: WorkflowDefinition) -> None:
        module = defn.cls.__module__
        costs = ImportCosts(module)
        with costs.watched():
            super().prepare_workflow(defn)
        self.after_import(module)
        if costs.duration <= SLOW_IMPORT or module in self._told_slow:
            return
        self._told_slow.add(module)
        log.warning(
            "importing the module of a workflow in the sandbox is slow, and is repeated for every "
            "run: pass the modules it imports through, by Workload(passthrough_modules=[...])",
            workflow_type=defn.name,
            module=module,
            seconds=round(costs.duration.total_seconds(), 3),
            slowest_imports={
                name: round(cost.total_seconds(), 3) for name, cost in costs.heaviest()
            },
        )

    def _all_problems(self, first: WorkflowDefinition, error: Exception) -> list[Problem]:
        problems = list(self._problems(first, error))
        for workflow in self.workflows:
            defn = WorkflowDefinition.from_class(workflow)
            if defn is None or defn.cls is first.cls or not defn.sandboxed:
                continue
            try:
                self._prepare(defn)
            except Exception as another:  # noqa: BLE001 - whatever it is, it is reported
                problems.extend(self._problems(defn, another))
        return problems

    def _problems(self, defn: WorkflowDefinition, error: Exception) -> Sequence[Problem]:
        if isinstance(error, WorkloadError):
            return error.problems
        modules = {workflow.__module__ for workflow in (defn.cls, *self.workflows)}
        message, cure = explain_failure(error, defn.cls.__module__, modules)
        return [
            Problem(subject=f"workflow {defn.name or '(dynamic)'!r}", message=message, cure=cure)
        ]

    @override
    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        instance = super().create_instance(det)
        recent_runs.note(
            det.info.run_id,
            workflow_id=det.info.workflow_id,
            workflow_type=det.info.workflow_type,
        )
        self.after_import(det.defn.cls.__module__)
        workflow = det.defn.cls
        # The SDK keeps what it imported inside the sandbox under this name. The same class as
        # outside means that the module was not imported anew, so its imports are the unrestricted
        # ones.
        names: dict[str, object] = getattr(instance, "globals_and_locals", {})
        if names.get("__temporal_workflow_class") is workflow:
            module = workflow.__module__
            cause = "code that imports it under workflow.unsafe.imports_passed_through(), "
            cause += f"most likely in an __init__.py of {module.partition('.')[0]!r}"
            subject = f"workflow {location_of(workflow)}"
            raise WorkloadError([passed_through_problem(subject, module, cause)])
        return instance
