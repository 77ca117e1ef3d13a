"""The workflow sandbox with which the workers of a fleet run their workflows.

The sandbox imports a workflow's module anew for every run and refuses what is not deterministic. A
module that is passed through is shared instead, which is faster but checked no longer. So what has
no side effects is passed through here, and a module that defines workflows never is: that would
switch off the checks of ``time``, ``random`` and ``datetime`` without a word.
"""

from __future__ import annotations

from typing import Any

from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from typing_extensions import override

from temporal_fleet.errors import Problem, WorkloadError
from temporal_fleet.registration.definitions import location_of
from temporal_fleet.workload import Workload

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


def sandbox_runner(workload: Workload[Any, Any]) -> WorkflowRunner:
    """Return the runner for a workload's workflows, with every determinism check on.

    Preparing or running a workflow whose own module turns out to be passed through (its package
    may do so in ``__init__.py``, out of sight of the static check) raises WorkloadError.
    """
    return _GuardedRunner(restrictions=_restrictions(workload))


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


class _GuardedRunner(SandboxedWorkflowRunner):
    @override
    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        instance = super().create_instance(det)
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
