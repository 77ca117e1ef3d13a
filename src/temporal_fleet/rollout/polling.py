"""Who polls task queues now, with which Worker Deployment and build ID.

A worker without versioning may show a build ID as well, which the server does not route by; so the mode of each
poller decides, not whether it has a build ID.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import WorkerVersioningMode
from temporalio.api.taskqueue.v1 import PollerInfo

from temporal_fleet.client.pollers import TASK_TYPES, TaskType, other_partitions, pollers_at
from temporal_fleet.rollout.server import CALL_TIMEOUT, Server
from temporal_fleet.versioning import PolledTaskQueue

POLLER_SEEN = timedelta(seconds=70)
"""The server names pollers for five minutes after their last poll, but a poll lasts a minute at most,
so one that was not seen for longer has stopped."""

_VERSIONED = WorkerVersioningMode.WORKER_VERSIONING_MODE_VERSIONED


@dataclass(frozen=True)
class Polling:
    """Who polls some task queues at one moment."""

    pollers: Mapping[tuple[str, TaskType], Collection[PollerInfo]]
    """By task queue and type of tasks; those seen within the last minute."""

    def count(self, task_queue: str, kind: TaskType, deployment: str, build_id: str) -> int:
        """Return how many processes of a build poll one type of tasks of a task queue."""
        found = self.pollers.get((task_queue, kind), ())
        return len(
            {
                each.identity
                for each in found
                if each.deployment_options.worker_versioning_mode == _VERSIONED
                and each.deployment_options.deployment_name == deployment
                and each.deployment_options.build_id == build_id
            }
        )

    def others(self, deployment: str) -> Mapping[str, tuple[str, ...]]:
        """Return other Worker Deployments whose workers poll, each with the task queues, sorted."""
        names: dict[str, set[str]] = {}
        for (task_queue, _), found in self.pollers.items():
            for each in found:
                options = each.deployment_options
                is_other = options.deployment_name != deployment
                if is_other and options.worker_versioning_mode == _VERSIONED:
                    names.setdefault(options.deployment_name, set()).add(task_queue)
        return {name: tuple(sorted(names[name])) for name in sorted(names)}

    def unversioned(self) -> tuple[PolledTaskQueue, ...]:
        """Return what workers without versioning poll."""
        counts = {
            key: {
                each.identity
                for each in found
                if each.deployment_options.worker_versioning_mode != _VERSIONED
            }
            for key, found in sorted(self.pollers.items())
        }
        return tuple(
            PolledTaskQueue(name, kind, len(identities))
            for (name, kind), identities in counts.items()
            if identities
        )


async def read_polling(server: Server, task_queues: Collection[str]) -> Polling:
    """Ask who polls task queues, in all of their partitions.

    Raises:
        ConnectionFailedError: The server refuses us or stays away.
    """
    names = sorted(task_queues)
    found = await asyncio.gather(*(_read(server, name) for name in names))
    pollers: dict[tuple[str, TaskType], Collection[PollerInfo]] = {}
    for name, kinds in zip(names, found, strict=True):
        pollers |= {(name, kind): fresh for kind, fresh in kinds.items()}
    return Polling(pollers)


async def _read(server: Server, task_queue: str) -> Mapping[TaskType, Collection[PollerInfo]]:
    what = f"find out who polls task queue {task_queue!r}"
    others = await other_partitions(server.client, task_queue, timeout=CALL_TIMEOUT)
    partitions = [task_queue, *others]

    async def read(kind: TaskType) -> Collection[PollerInfo]:
        found = await server.call(
            lambda: pollers_at(server.client, partitions, kind, timeout=CALL_TIMEOUT), what
        )
        now = datetime.now(UTC)
        return [each for each in found if now - each.last_access_time.ToDatetime(UTC) < POLLER_SEEN]

    kinds = list(TASK_TYPES)
    return dict(zip(kinds, await asyncio.gather(*(read(kind) for kind in kinds)), strict=True))
