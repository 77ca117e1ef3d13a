"""Workflows that declare a versioning behaviour, run by a worker without versioning.

``@workflow.defn(versioning_behavior=...)`` is right for production and breaks every other worker:
the server refuses each of its workflow tasks with "versioning behavior cannot be specified without
deployment options being set with versioned mode", and the workflow hangs (SDK 1.35, server 1.32).
So a worker without versioning leaves the behaviour out of what it tells the server, and nothing
else.
"""

from __future__ import annotations

import dataclasses

from temporalio.common import VersioningBehavior
from temporalio.worker import (
    UnsandboxedWorkflowRunner,
    WorkflowInstance,
    WorkflowInstanceDetails,
    WorkflowRunner,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner
from typing_extensions import override


class UnversionedRunner(UnsandboxedWorkflowRunner):
    """Runs a workflow as if its class declared no versioning behaviour.

    Inside the sandbox it takes the place of the runner that the sandbox wraps; it is also the
    worker's ``unsandboxed_workflow_runner``.
    """

    @override
    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """Create the instance of one run."""
        definition = dataclasses.replace(
            det.defn, versioning_behavior=VersioningBehavior.UNSPECIFIED
        )
        return super().create_instance(dataclasses.replace(det, defn=definition))


def without_versioning(runner: WorkflowRunner) -> WorkflowRunner:
    """Return a runner with the same sandbox for a worker without versioning.

    Args:
        runner: As ``sandbox_runner`` returns it.
    """
    assert isinstance(runner, SandboxedWorkflowRunner), "every workload runs in the sandbox"
    return dataclasses.replace(runner, runner_class=UnversionedRunner)
