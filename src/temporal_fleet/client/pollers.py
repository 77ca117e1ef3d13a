"""Asks the server who polls a task queue, in all of its partitions.

The server splits a task queue into partitions (four by default) and lets each poll wait at one of them. When
it describes the task queue it tells of the root partition only, so a worker with few polls may be missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

import structlog
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import PollerInfo, TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeTaskQueueResponse,
    ListTaskQueuePartitionsRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError

log = structlog.get_logger(__name__)

TaskType = Literal["workflow", "activity", "nexus"]

TASK_TYPES: dict[TaskType, TaskQueueType.ValueType] = {
    "workflow": TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    "activity": TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
    "nexus": TaskQueueType.TASK_QUEUE_TYPE_NEXUS,
}
TASK_TYPE_NAMES: dict[int, TaskType] = {value: name for name, value in TASK_TYPES.items()}
"""The other way round; the server may know types that are not in it."""


async def describe_task_queue(
    client: Client,
    name: str,
    kind: TaskType,
    *,
    timeout: timedelta,
    retry: bool = False,
    report_stats: bool = False,
) -> DescribeTaskQueueResponse:
    """Describe one type of tasks of a task queue, or of one of its partitions.

    Args:
        client: Connected to the server and namespace.
        name: Name of the task queue, or of a partition as :func:`other_partitions` returns it.
        kind: Type of tasks.
        timeout: Longest wait for the answer.
        retry: Repeat the call while the server is away or busy.
        report_stats: Ask for backlog and rates, too.

    Raises:
        RPCError: The server refused or did not answer.
    """
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=name),
        task_queue_type=TASK_TYPES[kind],
        report_stats=report_stats,
    )
    return await client.workflow_service.describe_task_queue(request, retry=retry, timeout=timeout)


async def other_partitions(client: Client, task_queue: str, *, timeout: timedelta) -> list[str]:
    """Return the names of a task queue's partitions beside the root.

    A server that does not tell them leaves us with the root: the answer is empty then.
    """
    request = ListTaskQueuePartitionsRequest(
        namespace=client.namespace, task_queue=TaskQueue(name=task_queue)
    )
    try:
        answer = await client.workflow_service.list_task_queue_partitions(request, timeout=timeout)
    except RPCError as error:
        log.debug("partitions are unknown", task_queue=task_queue, reason=error.message)
        return []
    partitions = [*answer.workflow_task_queue_partitions, *answer.activity_task_queue_partitions]
    return sorted({each.key for each in partitions} - {task_queue})


async def pollers_at(
    client: Client, partitions: Sequence[str], kind: TaskType, *, timeout: timedelta
) -> list[PollerInfo]:
    """Return who polls at any of the partitions; a process may be there several times.

    Raises:
        RPCError: The server refused or did not answer.
    """
    answers = await asyncio.gather(
        *(describe_task_queue(client, name, kind, timeout=timeout) for name in partitions)
    )
    return [poller for answer in answers for poller in answer.pollers]
