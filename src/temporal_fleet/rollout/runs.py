"""Finds the open runs of a build in the server's list of runs.

The list lags behind by up to a second or so. Who relies on there being no run, reads it again a little later;
:data:`LIST_LAG` says how much.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from temporalio.client import WorkflowExecution

from temporal_fleet.rollout.server import CALL_TIMEOUT, Server
from temporal_fleet.versioning import OpenRun, OpenRuns

LIST_LAG = timedelta(seconds=3)
"""After this time the server's list of runs shows what happened before."""

_LISTED_RUNS = 100
_NAMED_RUNS = 10


def runs_of(deployment: str, build_id: str) -> str:
    """Return the filter for runs that a build worked on last, or that an override sends to it."""
    return f"TemporalWorkerDeploymentVersion = {quoted(f'{deployment}:{build_id}')}"


def pinned_runs_of(deployment: str, build_id: str) -> str:
    """Return the filter for runs that are pinned to a build, by their workflow or by an override."""
    return f"{runs_of(deployment, build_id)} AND TemporalWorkflowVersioningBehavior = 'Pinned'"


def unversioned_runs_on(task_queues: Collection[str]) -> str:
    """Return the filter for runs on task queues that no versioned worker has worked on yet."""
    names = ", ".join(quoted(name) for name in sorted(task_queues))
    return f"TemporalWorkerDeploymentVersion IS NULL AND TaskQueue IN ({names})"


def quoted(text: str) -> str:
    """Return a text as a literal of Temporal's list filter."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


async def count_runs(server: Server, condition: str) -> int:
    """Return how many open runs match a list filter."""
    found = await server.list_runs(
        lambda: server.client.count_workflows(_open(condition), rpc_timeout=CALL_TIMEOUT),
        "count open runs",
    )
    return found.count


async def list_runs(server: Server, condition: str, *, at_most: int | None) -> list[OpenRun]:
    """Return open runs that match a list filter, the oldest first.

    Args:
        server: Whom to ask.
        condition: Temporal's list filter; that the run is open is added.
        at_most: Most runs to read; those started last are read first. None = all.
    """

    async def read() -> list[WorkflowExecution]:
        found = server.client.list_workflows(
            _open(condition), limit=at_most, page_size=at_most or 1000, rpc_timeout=CALL_TIMEOUT
        )
        return [each async for each in found]

    runs = [
        OpenRun(each.id, each.run_id, each.workflow_type, each.start_time)
        for each in await server.list_runs(read, "list open runs")
    ]
    return sorted(runs, key=lambda run: (run.started, run.workflow_id))


async def read_open_runs(server: Server, condition: str) -> OpenRuns:
    """Count open runs that match a list filter and name the oldest, as far as they are read."""
    found = await list_runs(server, condition, at_most=_LISTED_RUNS)
    count = len(found)
    if count == _LISTED_RUNS:
        count = max(count, await count_runs(server, condition))
    return OpenRuns(count, tuple(found[:_NAMED_RUNS]))


def _open(condition: str) -> str:
    return f"({condition}) AND ExecutionStatus = 'Running'"
