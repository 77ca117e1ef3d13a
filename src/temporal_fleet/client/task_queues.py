"""What the server knows about task queues: backlog, rates, who polls, and where tasks are routed.

It only reads, for people and dashboards: a worker finds out by its own probe whether it polls.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.api.taskqueue.v1 import PollerInfo
from temporalio.api.workflowservice.v1 import DescribeTaskQueueResponse
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from temporal_fleet.client.pollers import (
    TASK_TYPES,
    TaskType,
    describe_task_queue,
    other_partitions,
    pollers_at,
)
from temporal_fleet.errors import ConnectionFailedError

DESCRIBE_TIMEOUT = timedelta(seconds=10)
"""Longest wait for the server's answer about one type of tasks of one task queue."""
CALLS_AT_ONCE = 16
"""Most calls under way at once: a fleet may have hundreds of task queues, and servers limit rates."""

_POLLER_SEEN = timedelta(seconds=70)
"""The server names pollers for five minutes after their last poll, but a poll lasts a minute at most,
so one that was not seen for longer has stopped."""

_ACCESS = "Check the credentials: `fleet settings show` says which are in use"
_CURES = {
    RPCStatusCode.NOT_FOUND: "Set TEMPORAL_NAMESPACE to a namespace that exists on this server",
    RPCStatusCode.UNAUTHENTICATED: _ACCESS,
    RPCStatusCode.PERMISSION_DENIED: _ACCESS,
    RPCStatusCode.RESOURCE_EXHAUSTED: "The server limits calls: ask less often, or for fewer",
    RPCStatusCode.INVALID_ARGUMENT: "Check the names of the task queues",
}
_UNREACHABLE = "Check TEMPORAL_ADDRESS, and that a Temporal server runs there"


@dataclass(frozen=True)
class Poller:
    """One process that polls a task queue."""

    identity: str
    build_id: str | None
    """None when it is not versioned."""
    last_seen: timedelta
    """Time since its last poll began or ended."""


@dataclass(frozen=True)
class TaskQueueStatus:
    """One type of tasks of one task queue at one moment."""

    task_queue: str
    type: TaskType
    backlog: int
    """Tasks waiting, approximately; without those kept for one worker's sticky cache."""
    backlog_age: timedelta
    """How long the oldest waits."""
    added_per_second: float
    """Tasks that went through the task queue: sticky and eager ones do not, so it may be 0 while it is busy."""
    dispatched_per_second: float
    rate_limited: bool
    """Whether the server holds tasks back because of a rate limit."""
    pollers: tuple[Poller, ...]
    """Who has polled within the last minute."""
    current_build_id: str | None = None
    """Build ID that gets the worker deployment's new work; None = workers that are not versioned."""
    ramping_build_id: str | None = None
    """Build ID that gets a share of new work on trial; None = workers that are not versioned."""
    ramping_percentage: float = 0
    """The share of new work, 0 to 100, that goes there; 0 also when nothing is ramping."""

    @property
    def build_ids(self) -> tuple[str, ...]:
        """Build IDs of the pollers, sorted; empty when none is versioned."""
        return tuple(sorted({each.build_id for each in self.pollers if each.build_id}))

    @property
    def is_in_use(self) -> bool:
        """Whether anybody polls it or anything waits in it."""
        return bool(self.pollers or self.backlog or self.added_per_second)


async def read_task_queues(client: Client, names: Sequence[str]) -> list[TaskQueueStatus]:
    """Ask the server about task queues.

    Args:
        client: Connected to the server and namespace.
        names: Task queues; one that nobody ever used is empty: the server knows no difference.

    Returns:
        For each name, workflow and activity tasks; Nexus tasks when anybody polls for them.

    Raises:
        ConnectionFailedError: When the server refuses, cannot be reached or answers too late.
    """
    calls = asyncio.Semaphore(CALLS_AT_ONCE)
    try:
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(_read(client, name, kind, calls))
                for name in names
                for kind in TASK_TYPES
            ]
    except ExceptionGroup as failures:
        # All fail for the same reason, so one speaks for all; the group has ended the other calls.
        first = failures.exceptions[0]
        raise first from first.__cause__
    found = [task.result() for task in asked]
    return [status for status in found if status.type != "nexus" or status.is_in_use]


async def watch(
    client: Client, names: Sequence[str], interval: timedelta
) -> AsyncIterator[list[TaskQueueStatus]]:
    """Read task queues again and again, forever.

    Args:
        client: Connected to the server and namespace.
        names: Task queues.
        interval: Time from the start of a reading to the next; a longer reading delays it.

    Yields:
        What :func:`read_task_queues` returns; for the first time at once.

    Raises:
        ConnectionFailedError: As soon as a reading fails.
    """
    loop = asyncio.get_running_loop()
    while True:
        begin = loop.time()
        yield await read_task_queues(client, names)
        await asyncio.sleep(begin + interval.total_seconds() - loop.time())


async def _read(
    client: Client, name: str, kind: TaskType, calls: asyncio.Semaphore
) -> TaskQueueStatus:
    async with calls:
        try:
            answer = await describe_task_queue(
                client, name, kind, timeout=DESCRIBE_TIMEOUT, retry=True, report_stats=True
            )
            others = await other_partitions(client, name, timeout=DESCRIBE_TIMEOUT)
            answer.pollers.extend(await pollers_at(client, others, kind, timeout=DESCRIBE_TIMEOUT))
        except RPCError as error:
            raise refusal(
                error,
                task_queue=name,
                namespace=client.namespace,
                address=client.service_client.config.target_host,
            ) from error
    return status_from(answer, task_queue=name, kind=kind, now=datetime.now(UTC))


def refusal(
    error: RPCError, *, task_queue: str, namespace: str, address: str
) -> ConnectionFailedError:
    """Say why a task queue could not be described, and what to do about it.

    Args:
        error: What the call ended with.
        task_queue: The task queue that was asked about.
        namespace: The client's namespace.
        address: Host and port of the server.
    """
    reason = f"{error.message.rstrip('.')} ({error.status.name})"
    if error.status is RPCStatusCode.DEADLINE_EXCEEDED:
        reason = f"no answer within {DESCRIBE_TIMEOUT.total_seconds():g} s ({error.status.name})"
    return ConnectionFailedError(
        f"task queue {task_queue!r} of namespace {namespace!r} cannot be described by the server "
        f"{address}: {reason}. {_CURES.get(error.status, _UNREACHABLE)}"
    )


def status_from(
    answer: DescribeTaskQueueResponse, *, task_queue: str, kind: TaskType, now: datetime
) -> TaskQueueStatus:
    """Convert the server's answer.

    Args:
        answer: What the server said, asked with ``report_stats``.
        task_queue: The task queue that was asked about.
        kind: The type of tasks that was asked about.
        now: The time of the answer, with a time zone.
    """
    stats, routing = answer.stats, answer.versioning_info
    return TaskQueueStatus(
        task_queue=task_queue,
        type=kind,
        backlog=stats.approximate_backlog_count,
        backlog_age=stats.approximate_backlog_age.ToTimedelta(),
        added_per_second=stats.tasks_add_rate,
        dispatched_per_second=stats.tasks_dispatch_rate,
        rate_limited=stats.rate_limiting_active,
        pollers=_pollers(answer.pollers, now),
        current_build_id=routing.current_deployment_version.build_id or None,
        ramping_build_id=routing.ramping_deployment_version.build_id or None,
        ramping_percentage=routing.ramping_version_percentage,
    )


def _pollers(found: Sequence[PollerInfo], now: datetime) -> tuple[Poller, ...]:
    """Return each process once, as it was seen last at any partition."""
    newest: dict[tuple[str, str], timedelta] = {}
    for each in found:
        key = (each.identity, each.deployment_options.build_id)
        seen = max(now - each.last_access_time.ToDatetime(UTC), timedelta(0))
        newest[key] = min(seen, newest.get(key, seen))
    return tuple(
        Poller(identity=identity, build_id=build_id or None, last_seen=seen)
        for (identity, build_id), seen in sorted(newest.items())
        if seen < _POLLER_SEEN
    )


def as_json(status: TaskQueueStatus) -> dict[str, Any]:
    """Return a status ready for JSON; durations in seconds."""
    return {
        "task_queue": status.task_queue,
        "type": status.type,
        "backlog": status.backlog,
        "backlog_age_seconds": round(status.backlog_age.total_seconds(), 3),
        "added_per_second": round(status.added_per_second, 3),
        "dispatched_per_second": round(status.dispatched_per_second, 3),
        "rate_limited": status.rate_limited,
        "current_build_id": status.current_build_id,
        "ramping_build_id": status.ramping_build_id,
        "ramping_percentage": round(status.ramping_percentage, 3),
        "pollers": [
            {
                "identity": each.identity,
                "build_id": each.build_id,
                "last_seen_seconds": round(each.last_seen.total_seconds(), 3),
            }
            for each in status.pollers
        ],
    }
