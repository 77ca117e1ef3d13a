"""Finds the open runs of a build in the server's list of runs; a run that is paused is open, too.

The list lags behind by up to a second or so. Who relies on there being no run, reads it again a little later;
:data:`LIST_LAG` says how much.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from datetime import UTC, timedelta
from typing import TypeVar

from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import (
    ListWorkflowExecutionsRequest,
    ListWorkflowExecutionsResponse,
)
from temporalio.converter import DataConverter
from temporalio.service import RPCError, RPCStatusCode

from temporal_fleet.rollout.server import CALL_TIMEOUT, Server
from temporal_fleet.versioning import OpenRun, OpenRuns

LIST_LAG = timedelta(seconds=3)
"""After this time the server's list of runs shows what happened before."""

_LISTED_RUNS = 100
_NAMED_RUNS = 10
_PAGE = 1000

_OPEN = "ExecutionStatus IN ('Running', 'Paused')"
_OPEN_UNLESS_PAUSED = "ExecutionStatus = 'Running'"
_OPEN_STATUSES = (
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING,
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_PAUSED,
)
_BUILD = "TemporalWorkerDeploymentVersion"
_BEHAVIOR = "TemporalWorkflowVersioningBehavior"
_CONVERTER = DataConverter.default.payload_converter  # the server's own, whatever the workflows use

AnswerT = TypeVar("AnswerT")


def runs_of(deployment: str, build_id: str) -> str:
    """Return the filter for runs that a build worked on last, or that an override sends to it."""
    return f"{_BUILD} = {quoted(f'{deployment}:{build_id}')}"


def pinned_runs_of(deployment: str, build_id: str) -> str:
    """Return the filter for runs that are pinned to a build, by their workflow or by an override."""
    return f"{runs_of(deployment, build_id)} AND {_BEHAVIOR} = 'Pinned'"


def unversioned_runs_on(task_queues: Collection[str]) -> str:
    """Return the filter for runs on task queues that no versioned worker has worked on yet."""
    names = ", ".join(quoted(name) for name in sorted(task_queues))
    return f"{_BUILD} IS NULL AND TaskQueue IN ({names})"


def quoted(text: str) -> str:
    """Return a text as a literal of Temporal's list filter."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


async def count_runs(server: Server, condition: str) -> int:
    """Return how many open runs match a list filter."""

    async def count(query: str) -> int:
        found = await server.list_runs(
            lambda: server.client.count_workflows(query, rpc_timeout=CALL_TIMEOUT),
            "count open runs",
        )
        return found.count

    return await _among_open(condition, count)


async def list_runs(server: Server, condition: str, *, at_most: int | None) -> list[OpenRun]:
    """Return open runs that match a list filter, the oldest first.

    Args:
        server: Whom to ask.
        condition: Temporal's list filter; that the run is open is added.
        at_most: Most runs to read; those started last are read first. None = all.
    """
    rows = await list_rows(server, condition, at_most=at_most)
    return in_order(open_run(each) for each in rows)


async def list_rows(
    server: Server, condition: str, *, at_most: int | None
) -> list[WorkflowExecutionInfo]:
    """Return what :func:`list_runs` returns, as the server describes it, in the server's order."""

    async def read(query: str) -> list[WorkflowExecutionInfo]:
        rows: list[WorkflowExecutionInfo] = []
        token = b""
        while at_most is None or len(rows) < at_most:
            page = await _page(server, query, at_most or _PAGE, token)
            rows += page.executions
            token = page.next_page_token
            if not token:
                break
        return rows[:at_most]

    return await _among_open(condition, read)


async def _page(
    server: Server, query: str, size: int, token: bytes
) -> ListWorkflowExecutionsResponse:
    # Not the client's own `list_workflows`: it fails at a run that is paused, whose status it does not know.
    request = ListWorkflowExecutionsRequest(
        namespace=server.client.namespace, query=query, page_size=size, next_page_token=token
    )
    service = server.client.workflow_service
    return await server.list_runs(
        lambda: service.list_workflow_executions(request, timeout=CALL_TIMEOUT), "list open runs"
    )


async def _among_open(condition: str, ask: Callable[[str], Awaitable[AnswerT]]) -> AnswerT:
    """Ask for open runs that match a list filter."""
    try:
        return await ask(f"({condition}) AND {_OPEN}")
    except RPCError as error:
        if error.status is not RPCStatusCode.INVALID_ARGUMENT:
            raise
        # A server from before runs could be paused refuses a status that it does not know. Where it is
        # the condition that is wrong, the same error comes again.
        return await ask(f"({condition}) AND {_OPEN_UNLESS_PAUSED}")


def in_order(runs: Iterable[OpenRun]) -> list[OpenRun]:
    """Return runs, the oldest first."""
    return sorted(runs, key=lambda run: (run.started, run.workflow_id))


def open_run(row: WorkflowExecutionInfo) -> OpenRun:
    """Return a run that the server's list names."""
    started = row.start_time.ToDatetime(tzinfo=UTC)
    return OpenRun(row.execution.workflow_id, row.execution.run_id, row.type.name, started)


def is_open(row: WorkflowExecutionInfo) -> bool:
    """Return whether a run is open: running, or paused."""
    return row.status in _OPEN_STATUSES


def is_pinned_to(row: WorkflowExecutionInfo, deployment: str, build_id: str) -> bool:
    """Return whether the server's list shows a run as pinned to a build; see :func:`pinned_runs_of`."""
    build, behavior = _attribute(row, _BUILD), _attribute(row, _BEHAVIOR)
    return build == f"{deployment}:{build_id}" and behavior == "Pinned"


def _attribute(row: WorkflowExecutionInfo, name: str) -> object:
    payload = row.search_attributes.indexed_fields.get(name)
    return None if payload is None else _CONVERTER.from_payload(payload)


async def read_open_runs(server: Server, condition: str) -> OpenRuns:
    """Count open runs that match a list filter and name the oldest, as far as they are read."""
    found = await list_runs(server, condition, at_most=_LISTED_RUNS)
    count = len(found)
    if count == _LISTED_RUNS:
        count = max(count, await count_runs(server, condition))
    return OpenRuns(count, tuple(found[:_NAMED_RUNS]))


async def read_runs_of_builds(
    server: Server, deployment: str, build_ids: Collection[str]
) -> dict[str, tuple[OpenRuns, OpenRuns]]:
    """Return the open runs of builds: those that are pinned to it, and all; in one call where they are few."""
    names = {build_id: f"{deployment}:{build_id}" for build_id in build_ids}
    if not names:
        return {}
    condition = f"{_BUILD} IN ({', '.join(map(quoted, names.values()))})"
    rows = await list_rows(server, condition, at_most=_PAGE)
    if len(rows) == _PAGE:
        found = await asyncio.gather(*(_read_one(server, deployment, each) for each in names))
        return dict(zip(names, found, strict=True))
    return {
        build_id: (
            _all_of(row for row in rows if is_pinned_to(row, deployment, build_id)),
            _all_of(row for row in rows if _attribute(row, _BUILD) == name),
        )
        for build_id, name in names.items()
    }


async def _read_one(server: Server, deployment: str, build_id: str) -> tuple[OpenRuns, OpenRuns]:
    everything = await read_open_runs(server, runs_of(deployment, build_id))
    if not everything.count:
        return everything, everything
    return await read_open_runs(server, pinned_runs_of(deployment, build_id)), everything


def _all_of(rows: Iterable[WorkflowExecutionInfo]) -> OpenRuns:
    runs = in_order(map(open_run, rows))
    return OpenRuns(len(runs), tuple(runs[:_NAMED_RUNS]))
