"""A steady load of workflows, and what became of each."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from e2e_temporal import POLL_INTERVAL, Audit, audit
from temporalio.client import Client, WorkflowHandle

TASK_QUEUE = "e2e"
FINISH_TIMEOUT = timedelta(seconds=90)
"""How long workflows may still run after the last was started."""
RUN_TIMEOUT = timedelta(minutes=10)
STEP_TIMEOUT = timedelta(seconds=60)
TASK_TIMEOUT = timedelta(seconds=60)
"""Longer than by default, so that a slow machine is not taken for a lost workflow task."""


@dataclass
class Started:
    """One workflow of the load."""

    workflow_id: str
    at: float
    """Seconds since the load began."""


@dataclass(frozen=True)
class Result:
    """What became of a load."""

    all: tuple[Started, ...]
    audit: Audit

    def builds(self, since: float = 0, until: float = float("inf")) -> Counter[str]:
        """Return how many workflows that started in a span of time each build has finished.

        A workflow that several builds worked on counts under all their names, joined.
        """
        counts: Counter[str] = Counter()
        for each in self.all:
            if since <= each.at < until:
                counts["+".join(sorted(self.audit.builds[each.workflow_id]))] += 1
        return counts


class Load:
    """Starts workflows at a fixed rate; made by :func:`load`."""

    def __init__(self, client: Client, rate: float, work: Mapping[str, Any]) -> None:
        self._client = client
        self._rate = rate
        self._work = work
        self._prefix = f"load-{uuid.uuid4().hex[:8]}"
        self._begin = time.monotonic()
        self._starts: list[asyncio.Task[Any]] = []
        self._all: list[Started] = []
        self.late = 0.0
        """Most seconds that a start was behind its time."""

    @property
    def now(self) -> float:
        """Seconds since the load began."""
        return time.monotonic() - self._begin

    async def keep_starting(self) -> None:
        """Start workflows until cancelled; one that is late does not delay the next."""
        for number in itertools.count():
            due = number / self._rate
            await asyncio.sleep(max(0.0, due - self.now))
            self.late = max(self.late, self.now - due)
            started = Started(f"{self._prefix}-{number:05}", self.now)
            self._all.append(started)
            self._starts.append(asyncio.create_task(self._start(started.workflow_id)))

    async def _start(self, workflow_id: str) -> None:
        await self._client.start_workflow(
            "PinnedSteps",
            dict(self._work),
            id=workflow_id,
            task_queue=TASK_QUEUE,
            execution_timeout=RUN_TIMEOUT,
            task_timeout=TASK_TIMEOUT,
        )

    async def more(self, count: int) -> None:
        """Wait until *count* more workflows have been started."""
        due = len(self._all) + count
        while len(self._all) < due:
            await asyncio.sleep(1 / self._rate)

    async def finish(self) -> Result:
        """Wait until everything that was started has ended, then read all histories."""
        await asyncio.gather(*self._starts)
        running = f"WorkflowId STARTS_WITH '{self._prefix}' AND ExecutionStatus = 'Running'"
        open_runs = len(self._all)
        try:
            async with asyncio.timeout(FINISH_TIMEOUT.total_seconds()):
                while open_runs:
                    open_runs = (await self._client.count_workflows(running)).count
                    await asyncio.sleep(POLL_INTERVAL.total_seconds())
        except TimeoutError:
            raise AssertionError(
                f"{open_runs} of {len(self._all)} workflows were still open "
                f"{FINISH_TIMEOUT.total_seconds():.0f} s after the last start"
            ) from None
        found = await audit(self._client, [each.workflow_id for each in self._all])
        return Result(tuple(self._all), found)


@asynccontextmanager
async def load(client: Client, *, rate: float, **work: Any) -> AsyncIterator[Load]:
    """Start workflows for as long as the block lasts; ``finish`` afterwards tells what became of them."""
    running = Load(client, rate, work)
    starting = asyncio.create_task(running.keep_starting())
    try:
        yield running
        assert not starting.done(), f"the load ended early: {starting.exception()!r}"
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)


async def start(
    client: Client, workflow: str = "PinnedSteps", **work: Any
) -> WorkflowHandle[Any, dict[str, Any]]:
    """Start one workflow of the tests' workload."""
    handle: WorkflowHandle[Any, dict[str, Any]] = await client.start_workflow(
        workflow,
        work,
        id=f"one-{uuid.uuid4().hex[:12]}",
        task_queue=TASK_QUEUE,
        execution_timeout=RUN_TIMEOUT,
        result_type=dict,
    )
    return handle


async def first_step_done(
    handle: WorkflowHandle[Any, Any], timeout: timedelta = STEP_TIMEOUT
) -> None:
    """Wait until a workflow has finished its first step."""
    async with asyncio.timeout(timeout.total_seconds()):
        while not (await handle.query("report", result_type=dict))["steps"]:
            await asyncio.sleep(0.2)  # a query is the only way to look into a workflow


async def activity_running(
    handle: WorkflowHandle[Any, Any], timeout: timedelta = STEP_TIMEOUT
) -> None:
    """Wait until an activity of a workflow is being executed and has sent a heartbeat."""
    async with asyncio.timeout(timeout.total_seconds()):
        while True:
            pending = (await handle.describe()).raw_description.pending_activities
            if any(each.HasField("last_heartbeat_time") for each in pending):
                return
            await asyncio.sleep(0.1)  # the server offers no event for it
