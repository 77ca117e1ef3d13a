"""Moves open pinned runs off a bad build: as they are, or reset to where they were still good.

A run that is moved goes on with its history on another build, whose code must fit that history. A reset run
starts anew from an earlier workflow task, in a new run; signals and updates that came later are applied again.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from google.protobuf.field_mask_pb2 import FieldMask
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.deployment.v1 import WorkerDeploymentVersion
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflow.v1 import (
    PostResetOperation,
    VersioningOverride,
    WorkflowExecutionInfo,
    WorkflowExecutionOptions,
)
from temporalio.api.workflowservice.v1 import (
    GetWorkflowExecutionHistoryRequest,
    GetWorkflowExecutionHistoryReverseRequest,
    ResetWorkflowExecutionRequest,
    UpdateWorkflowExecutionOptionsRequest,
)
from temporalio.service import RPCError, RPCStatusCode

from temporal_fleet.client.calls import rpc_text
from temporal_fleet.errors import RolloutError
from temporal_fleet.rollout.handover import await_handover, describe_run
from temporal_fleet.rollout.observe import observe
from temporal_fleet.rollout.runs import (
    in_order,
    is_open,
    is_pinned_to,
    list_rows,
    open_run,
    pinned_runs_of,
)
from temporal_fleet.rollout.server import CALL_TIMEOUT, Server
from temporal_fleet.versioning import UNVERSIONED, ObservedDeployment, OpenRun, not_ready

_MOVES_AT_ONCE = 10
_NAMED = 3
_PAGE = 100
"""Events of a history that are read at once."""
_PINNED = VersioningOverride.PinnedOverrideBehavior.PINNED_OVERRIDE_BEHAVIOR_PINNED
_OVERRIDE = FieldMask(paths=["versioning_override"])
_TASK_COMPLETED = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED


class ResetTo(StrEnum):
    """Where a reset run starts anew."""

    FIRST_WORKFLOW_TASK = "first-workflow-task"
    """From its beginning, with the same arguments."""
    LAST_WORKFLOW_TASK = "last-workflow-task"
    """From the last workflow task that a worker completed."""


class Outcome(StrEnum):
    """What became of a run."""

    MOVED = "moved"
    """A worker of the other build has completed a workflow task of it."""
    HANDED_OVER = "handed-over"
    """The server sends it to the other build, which has not completed a workflow task of it yet."""
    ENDED = "ended"
    """It had ended before it was moved."""
    FAILED = "failed"


@dataclass(frozen=True)
class Recovery:
    """What to do to the runs of a bad build."""

    deployment: str
    bad_build: str
    """Build ID whose open pinned runs are moved."""
    to: str | None
    """Build ID they are pinned to instead; None = they follow the routing from now on (auto-upgrade)."""
    reset: ResetTo | None = None
    """None = they go on where they are."""
    query: str | None = None
    """Temporal's list filter for some of them; None = all."""

    @property
    def description(self) -> str:
        """What is done, in a few words."""
        where = f"pin to build ID '{self.to}'" if self.to else "let follow the routing"
        return f"reset to the {self.reset.replace('-', ' ')} and {where}" if self.reset else where


@dataclass(frozen=True)
class RunResult:
    """What became of one run."""

    run: OpenRun
    outcome: Outcome
    new_run_id: str | None = None
    """Of the run that a reset started."""
    reason: str | None = None
    """Why it failed, or why it has not moved yet."""


@dataclass(kw_only=True)
class RecoveryReport:
    """What became of all runs."""

    results: list[RunResult] = field(default_factory=list)

    @property
    def counts(self) -> Counter[Outcome]:
        """How many runs had which outcome."""
        return Counter(result.outcome for result in self.results)

    @property
    def failures(self) -> list[RunResult]:
        """Those that are still where they were."""
        return [result for result in self.results if result.outcome is Outcome.FAILED]


async def find_runs(server: Server, recovery: Recovery) -> list[OpenRun]:
    """Return the runs that a recovery is about, the oldest first.

    Raises:
        RolloutError: The server does not understand the query, or it finds other runs as well.
        ConnectionFailedError: The server refuses us or stays away.
    """
    condition = pinned_runs_of(recovery.deployment, recovery.bad_build)
    if recovery.query is not None:
        condition += f" AND ({recovery.query})"
    try:
        rows = await list_rows(server, condition, at_most=None)
    except RPCError as error:
        reason = f"the query {recovery.query!r} is refused by the server: {error.message}"
        raise RolloutError(recovery.deployment, (reason,)) from error
    if strays := [row for row in rows if not _is_meant(row, recovery)]:
        raise RolloutError(recovery.deployment, (_stray_reason(recovery, strays),))
    return in_order(open_run(row) for row in rows)


def _is_meant(row: WorkflowExecutionInfo, recovery: Recovery) -> bool:
    return is_open(row) and is_pinned_to(row, recovery.deployment, recovery.bad_build)


def _stray_reason(recovery: Recovery, strays: Sequence[WorkflowExecutionInfo]) -> str:
    """Say that a query has closed the brackets that it is put into."""
    names = ", ".join(repr(row.execution.workflow_id) for row in strays[:_NAMED])
    return (
        f"the query {recovery.query!r} also finds runs that are not open and pinned to build ID "
        f"'{recovery.bad_build}', {len(strays)} of them, such as {names}: its brackets do not match. "
        "Close each bracket that it opens, and no other"
    )


async def check_recovery(server: Server, recovery: Recovery) -> ObservedDeployment:
    """Make sure that the runs would not be moved to where nobody works on them.

    Returns:
        The Worker Deployment.

    Raises:
        RolloutError: There is no such build, or the other build is not polled.
        ConnectionFailedError: The server refuses us or stays away.
    """
    seen = await observe(server, recovery.deployment, with_runs=False)
    reasons = _obstacles(seen, recovery)
    if reasons:
        raise RolloutError(recovery.deployment, reasons)
    return seen


def _obstacles(seen: ObservedDeployment, recovery: Recovery) -> Sequence[str]:
    if not seen.exists:
        return [
            "there is no such Worker Deployment in this namespace: fleet rollout status lists them"
        ]
    known = ", ".join(sorted(set(seen.builds) - {UNVERSIONED})) or "none"
    if recovery.bad_build not in seen.builds:
        return [f"the server knows no build ID '{recovery.bad_build}'; it knows: {known}"]
    if recovery.to == UNVERSIONED:
        return [
            "runs cannot be pinned to workers without versioning. With --auto-upgrade they follow the "
            "routing"
        ]
    target = recovery.to or seen.routing.current or UNVERSIONED
    if target == recovery.bad_build:
        what = "is where the runs are" if recovery.to else "is current, so runs would stay there"
        return [
            f"build ID '{target}' {what}. Roll back first (fleet rollout rollback "
            f"{recovery.deployment}), or name another build with --to"
        ]
    build = seen.builds.get(target)
    if build is None:
        return [f"the server knows no build ID '{target}'; it knows: {known}"]
    waits = not_ready(seen, build)
    cure = "Start its workers first, or name another build with --to"
    return [f"{waits}, so the runs would wait there. {cure}"] if waits else []


async def recover_runs(
    server: Server,
    recovery: Recovery,
    runs: Sequence[OpenRun],
    on_result: Callable[[RunResult], None],
) -> None:
    """Move runs, a few at once; one that cannot be moved does not stop the others.

    Args:
        server: Where they are.
        recovery: What to do to them.
        runs: The runs.
        on_result: Told of each.

    Raises:
        ConnectionFailedError: The server refuses us or stays away.
    """
    slots = asyncio.Semaphore(_MOVES_AT_ONCE)

    async def move(run: OpenRun) -> None:
        async with slots:
            result = await _move(server, recovery, run)
        # Beside the moves of others, which must not wait for this.
        on_result(await _confirmed(server, recovery, result))

    try:
        async with asyncio.TaskGroup() as group:
            for run in runs:
                group.create_task(move(run))
    except ExceptionGroup as failures:
        # The server is away for all of them; the group has ended the other calls.
        raise failures.exceptions[0] from None


async def _confirmed(server: Server, recovery: Recovery, result: RunResult) -> RunResult:
    """Return a run that was handed over as moved once the other build has worked on it."""
    if result.outcome is not Outcome.HANDED_OVER:
        return result
    execution = WorkflowExecution(
        workflow_id=result.run.workflow_id, run_id=result.new_run_id or result.run.run_id
    )
    try:
        reason = await await_handover(
            server, execution, bad_build=recovery.bad_build, to=recovery.to
        )
    except RPCError as error:
        reason = f"whether it has moved is unknown: {rpc_text(error)}"
    return replace(result, reason=reason) if reason else replace(result, outcome=Outcome.MOVED)


async def _move(server: Server, recovery: Recovery, run: OpenRun) -> RunResult:
    try:
        if recovery.reset is None:
            await _override(server, recovery, run)
            return RunResult(run, Outcome.HANDED_OVER)
        return await _start_anew(server, recovery, run, recovery.reset)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND or "already completed" in error.message:
            return RunResult(run, Outcome.ENDED)
        return RunResult(run, Outcome.FAILED, reason=rpc_text(error))


async def _start_anew(server: Server, recovery: Recovery, run: OpenRun, to: ResetTo) -> RunResult:
    execution = WorkflowExecution(workflow_id=run.workflow_id, run_id=run.run_id)
    event_id = await _reset_point(server, execution, to)
    # As late as possible: the server resets a closed run as well, and ends whatever runs under its ID for it.
    if not await _is_last_and_open(server, execution):
        return RunResult(run, Outcome.ENDED)
    if event_id is None:
        reason = "no worker has completed a workflow task of it yet: there is nothing to reset to"
        return RunResult(run, Outcome.FAILED, reason=reason)
    new_run_id = await _reset(server, recovery, execution, event_id)
    return RunResult(run, Outcome.HANDED_OVER, new_run_id=new_run_id)


async def _is_last_and_open(server: Server, execution: WorkflowExecution) -> bool:
    """Return whether a run is open and no other one has taken its place."""
    answer = await describe_run(server, WorkflowExecution(workflow_id=execution.workflow_id))
    last = answer.workflow_execution_info
    return last.execution.run_id == execution.run_id and is_open(last)


def _options(recovery: Recovery) -> WorkflowExecutionOptions:
    if recovery.to is None:
        return WorkflowExecutionOptions(versioning_override=VersioningOverride(auto_upgrade=True))
    version = WorkerDeploymentVersion(deployment_name=recovery.deployment, build_id=recovery.to)
    pinned = VersioningOverride.PinnedOverride(behavior=_PINNED, version=version)
    return WorkflowExecutionOptions(versioning_override=VersioningOverride(pinned=pinned))


async def _override(server: Server, recovery: Recovery, run: OpenRun) -> None:
    request = UpdateWorkflowExecutionOptionsRequest(
        namespace=server.client.namespace,
        workflow_execution=WorkflowExecution(workflow_id=run.workflow_id, run_id=run.run_id),
        workflow_execution_options=_options(recovery),
        update_mask=_OVERRIDE,
        identity=server.client.identity,
    )
    service = server.client.workflow_service
    await server.call(
        lambda: service.update_workflow_execution_options(request, timeout=CALL_TIMEOUT),
        f"move {run.workflow_id}",
    )


async def _reset(
    server: Server, recovery: Recovery, execution: WorkflowExecution, event_id: int
) -> str:
    """Return the ID of the new run."""
    operation = PostResetOperation.UpdateWorkflowOptions(
        workflow_execution_options=_options(recovery), update_mask=_OVERRIDE
    )
    request = ResetWorkflowExecutionRequest(
        namespace=server.client.namespace,
        workflow_execution=execution,
        reason=f"fleet rollout recover: off build ID {recovery.bad_build}",
        workflow_task_finish_event_id=event_id,
        # The same for every attempt: a repeated call must not reset the run that the first one made.
        request_id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{execution.run_id}/{event_id}")),
        # Part of the reset itself: without it the new run would be pinned to the bad build again
        # wherever the event that it starts from is later than the first workflow task.
        post_reset_operations=[PostResetOperation(update_workflow_options=operation)],
        identity=server.client.identity,
    )
    service = server.client.workflow_service
    answer = await server.call(
        lambda: service.reset_workflow_execution(request, timeout=CALL_TIMEOUT),
        f"reset {execution.workflow_id}",
    )
    return answer.run_id


async def _reset_point(server: Server, execution: WorkflowExecution, to: ResetTo) -> int | None:
    """Return the event ID of the first or the last completed workflow task."""
    token = b""
    while True:
        events, token = await _page(server, execution, to, token)
        for event in events:
            if event.event_type == _TASK_COMPLETED:
                return int(event.event_id)
        if not token:
            return None


async def _page(
    server: Server, execution: WorkflowExecution, to: ResetTo, token: bytes
) -> tuple[Sequence[HistoryEvent], bytes]:
    service = server.client.workflow_service
    what = f"read the history of {execution.workflow_id}"
    if to is ResetTo.FIRST_WORKFLOW_TASK:
        forward = GetWorkflowExecutionHistoryRequest(
            namespace=server.client.namespace,
            execution=execution,
            maximum_page_size=_PAGE,
            next_page_token=token,
        )
        answer = await server.call(
            lambda: service.get_workflow_execution_history(forward, timeout=CALL_TIMEOUT), what
        )
        return answer.history.events, answer.next_page_token
    reverse = GetWorkflowExecutionHistoryReverseRequest(
        namespace=server.client.namespace,
        execution=execution,
        maximum_page_size=_PAGE,
        next_page_token=token,
    )
    found = await server.call(
        lambda: service.get_workflow_execution_history_reverse(reverse, timeout=CALL_TIMEOUT), what
    )
    return found.history.events, found.next_page_token
