"""Makes the SDK's worker of a workload: the one place that says what a declaration becomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from temporalio.client import Client
from temporalio.worker import Interceptor, UnsandboxedWorkflowRunner, Worker

from temporal_fleet.errors import WorkloadError
from temporal_fleet.registration.building import build_activities, build_nexus_handlers
from temporal_fleet.registration.sandbox import ignore_import, sandbox_runner
from temporal_fleet.registration.unversioned import UnversionedRunner, without_versioning
from temporal_fleet.workload import Workload


def build_worker(
    client: Client,
    workload: Workload[Any, Any],
    resources: object,
    *,
    task_queue: str | None = None,
    threads: ThreadPoolExecutor | None,
    versioning: bool,
    interceptors: Sequence[Interceptor] = (),
    after_import: Callable[[str], None] = ignore_import,
    **options: Any,
) -> Worker:
    """Return the SDK's worker that runs a workload; it does not poll yet.

    Args:
        client: Connected to the server to poll.
        workload: A workload that ``check_workload`` found no problem with.
        resources: What the workload's ``resources`` yielded; None when it declares none.
        task_queue: Task queue to poll; None = the workload's own.
        threads: Runs synchronous activities and Nexus operations; None when there are none.
        versioning: Whether workflows report their versioning behavior. A worker without Worker Deployment
            versioning must not: the server would refuse each of its workflow tasks.
        interceptors: Called before those of the workload.
        after_import: As for ``sandbox_runner``.
        options: More arguments of the SDK's ``Worker``.

    Raises:
        WorkloadError: When workflows cannot be imported in the sandbox; carries the problems of all of them.
    """
    handlers = build_nexus_handlers(workload, resources)
    arguments = workflow_arguments(workload, versioning=versioning, after_import=after_import)
    try:
        return Worker(
            client,
            task_queue=task_queue or workload.default_task_queue,
            activities=build_activities(workload, resources),
            nexus_service_handlers=handlers,
            activity_executor=threads,
            nexus_task_executor=threads if handlers else None,
            interceptors=[*interceptors, *workload.interceptors],
            **arguments,
            **options,
        )
    except RuntimeError as error:
        if isinstance(error.__cause__, WorkloadError):
            raise error.__cause__ from None
        raise


def workflow_arguments(
    workload: Workload[Any, Any],
    *,
    versioning: bool,
    after_import: Callable[[str], None] = ignore_import,
) -> dict[str, Any]:
    """Return the arguments that make the SDK's ``Worker`` and ``Replayer`` run workflows in the same way.

    Args:
        workload: Whose workflows they are.
        versioning: As for :func:`build_worker`.
        after_import: As for ``sandbox_runner``.
    """
    runner = sandbox_runner(workload, after_import=after_import)
    return {
        "workflows": workload.workflows,
        "workflow_runner": runner if versioning else without_versioning(runner),
        "unsandboxed_workflow_runner": (
            UnsandboxedWorkflowRunner() if versioning else UnversionedRunner()
        ),
        "workflow_failure_exception_types": workload.workflow_failure_exception_types,
    }
