"""Asks the server whether it accepts us and sees our pollers: what readiness is made of.

A worker process may be up while no worker polls: credentials were revoked, the server is away, or the pollers
wait for a slot. The SDK only warns. So the server itself is asked, with the worker's own client.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta

import structlog
from temporalio.api.taskqueue.v1 import PollerInfo
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from temporal_fleet.client.pollers import (
    TaskType,
    describe_task_queue,
    other_partitions,
    pollers_at,
)
from temporal_fleet.health.routing_notice import RoutingNotice
from temporal_fleet.health.state import HealthState
from temporal_fleet.settings import Settings

log = structlog.get_logger(__name__)

CALL_TIMEOUT = timedelta(seconds=5)
"""How long the server may take to answer one question."""
FIRST_PROBE_INTERVAL = timedelta(seconds=0.05)
"""Wait between the first questions; pollers are usually confirmed within a few of these."""
SLOW_START = timedelta(seconds=10)
"""After this time without confirmed pollers a warning says so, and questions become as rare as later."""

_REFUSALS = {RPCStatusCode.UNAUTHENTICATED, RPCStatusCode.PERMISSION_DENIED}


class ServerProbe:
    """Keeps the checks ``temporal`` and ``pollers`` of the health state true to what the server says."""

    def __init__(
        self,
        settings: Settings,
        *,
        client: Callable[[], Client],
        task_queue: str,
        kinds: Collection[TaskType],
        identity: str,
        state: HealthState,
    ) -> None:
        """Prepare a probe.

        Args:
            settings: Interval, and the build ID that pollers must show while versioning is on.
            client: Returns the client that the worker uses now.
            task_queue: Task queue that is polled.
            kinds: Kinds of tasks that are polled: ``workflow``, ``activity``, ``nexus``.
            identity: Identity under which this worker polls.
            state: Where the results go.
        """
        self._interval = settings.connection.probe_interval.total_seconds()
        self._build_id = settings.deployment.build_id if settings.deployment.versioning else None
        self._client = client
        self._task_queue = task_queue
        self._kinds = tuple(kinds)
        self._identity = identity
        self._state = state
        self._routing = RoutingNotice(self._build_id, task_queue)
        self._failures = 0
        self._former: dict[str, datetime] = {}
        # Asked for once: their number changes only by the server's configuration.
        self._partitions: list[str] | None = None

    async def remember_former_pollers(self) -> None:
        """Note who polled under this identity before; to be called before polling begins.

        The server names pollers for five minutes after they have gone, and a container that is
        restarted in its pod has the identity of the one before. Without this its pollers would count as
        ours. A server that does not answer is no error here: the next question tells.
        """
        try:
            for kind in self._kinds:
                pollers = [*await self._at_root(kind), *await self._elsewhere(kind)]
                seen = [_last_seen(each) for each in pollers if each.identity == self._identity]
                if seen:
                    self._former[kind] = max(seen)
        except RPCError as error:
            log.debug("former pollers are unknown", reason=error.message)

    async def confirm_pollers(self) -> None:
        """Return when the server sees every kind of poller of this worker; warns when that takes long."""
        began, wait = time.monotonic(), FIRST_PROBE_INTERVAL.total_seconds()
        while not await self.ask():
            if wait < self._interval and time.monotonic() - began > SLOW_START.total_seconds():
                wait = self._interval
                log.warning(
                    "the server does not see our pollers yet",
                    waited_seconds=SLOW_START.total_seconds(),
                    task_queue=self._task_queue,
                    failing=self._state.failures(),
                )
            await asyncio.sleep(wait)

    async def run(self) -> None:
        """Ask at every interval until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            await self.ask()

    async def ask(self) -> bool:
        """Ask once and record the answer; returns whether the server accepts us and sees all pollers."""
        try:
            found = await asyncio.gather(*(self._is_polled(kind) for kind in self._kinds))
        except RPCError as error:
            self._record_failure(error)
            return False
        self._failures = 0
        self._state.set_check("temporal", ok=True)
        missing = [kind for kind, polled in zip(self._kinds, found, strict=True) if not polled]
        build = f" with build ID {self._build_id}" if self._build_id else ""
        reason = f"the server sees no {' and no '.join(missing)} poller of {self._identity}{build}"
        self._state.set_check("pollers", ok=not missing, reason=reason if missing else "")
        return not missing

    async def _is_polled(self, kind: TaskType) -> bool:
        """Look at the root partition, and at the others only when we are not there."""
        if self._is_among(kind, await self._at_root(kind)):
            return True
        return self._is_among(kind, await self._elsewhere(kind))

    async def _at_root(self, kind: TaskType) -> Sequence[PollerInfo]:
        answer = await describe_task_queue(
            self._client(), self._task_queue, kind, timeout=CALL_TIMEOUT
        )
        if kind == self._kinds[0]:
            self._routing.look(answer.versioning_info, time.monotonic())
        return answer.pollers

    async def _elsewhere(self, kind: TaskType) -> Sequence[PollerInfo]:
        client = self._client()
        if self._partitions is None:
            self._partitions = await other_partitions(
                client, self._task_queue, timeout=CALL_TIMEOUT
            )
        return await pollers_at(client, self._partitions, kind, timeout=CALL_TIMEOUT)

    def _is_among(self, kind: TaskType, pollers: Sequence[PollerInfo]) -> bool:
        former = self._former.get(kind)
        return any(
            poller.identity == self._identity
            and (former is None or _last_seen(poller) > former)
            and (self._build_id is None or poller.deployment_options.build_id == self._build_id)
            for poller in pollers
        )

    def _record_failure(self, error: RPCError) -> None:
        """Count a failed question; a refusal counts at once, anything else the second time in a row."""
        self._failures += 1
        refused = error.status in _REFUSALS
        if not refused and self._failures < 2:
            return
        word = "refuses our credentials" if refused else "does not answer"
        reason = f"the server {word}: {error.message} ({error.status.name})"
        self._state.set_check("temporal", ok=False, reason=reason)


def _last_seen(poller: PollerInfo) -> datetime:
    return poller.last_access_time.ToDatetime(UTC)


def kinds_of(
    workflows: Sequence[object], activities: Sequence[object], nexus: Sequence[object]
) -> list[TaskType]:
    """Return the kinds of tasks that a worker with these registrations polls."""
    registered: dict[TaskType, Sequence[object]] = {
        "workflow": workflows,
        "activity": activities,
        "nexus": nexus,
    }
    return [kind for kind, objects in registered.items() if objects]
