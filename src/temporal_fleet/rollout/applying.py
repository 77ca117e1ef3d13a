"""Carries plans out through Temporal's API, one step after the other.

Before every step that gives a build new work, the build's pollers are looked at again. Every change names the
state it is based on; whoever else changes the routing meanwhile wins, and the plan is made anew from what the
server then says. So an interrupted rollout goes on where it stopped when it is started again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from typing import TypeVar, assert_never

from temporalio.api.deployment.v1 import WorkerDeploymentVersion
from temporalio.api.workflowservice.v1 import (
    DeleteWorkerDeploymentVersionRequest,
    SetWorkerDeploymentCurrentVersionRequest,
    SetWorkerDeploymentCurrentVersionResponse,
    SetWorkerDeploymentRampingVersionRequest,
    SetWorkerDeploymentRampingVersionResponse,
)
from temporalio.service import RPCError, RPCStatusCode

from temporal_fleet.errors import RolloutError
from temporal_fleet.rollout.observe import describe_deployment, is_spreading, look
from temporal_fleet.rollout.server import CALL_TIMEOUT, Server
from temporal_fleet.rollout.waiting import SAY_INTERVAL, PollersCheck, Progress, wait_until
from temporal_fleet.versioning import (
    UNVERSIONED,
    AwaitPollers,
    ClearRamping,
    DeleteBuild,
    ObservedDeployment,
    Pause,
    Plan,
    Refusal,
    SetCurrent,
    SetRamping,
    Step,
    describe,
    describe_routing,
)

SPREAD_TIMEOUT = timedelta(seconds=60)
"""How long the server may take to tell all task queues of a change of the routing."""
RECHECK_TIMEOUT = timedelta(seconds=5)
"""How long pollers that were there may be out of sight before a step gives up."""

_ATTEMPTS = 5

Planner = Callable[[ObservedDeployment, str], Plan | Refusal]
"""Makes a plan of what is observed, for the identity that carries it out."""
AnswerT = TypeVar("AnswerT")


class _RoutingChangedError(Exception):
    """Somebody else changed the routing between our looking and our call."""


class Rollout:
    """Carries out plans for one Worker Deployment.

    Args:
        server: Where it is.
        deployment: Name of the Worker Deployment.
        poller_timeout: Longest wait until a build is polled.
        progress: Called with one line for each thing that is done.
        task_queues: Where to look for unversioned workers, beside the one named as the deployment.
    """

    def __init__(
        self,
        server: Server,
        deployment: str,
        *,
        poller_timeout: timedelta,
        progress: Progress,
        task_queues: Collection[str] = (),
    ) -> None:
        self._server = server
        self._deployment = deployment
        self._poller_timeout = poller_timeout
        self._progress = progress
        self._task_queues = task_queues
        self._token = b""

    async def carry_out(self, planner: Planner) -> Plan:
        """Observe, plan, and do what the plan says, until there is nothing left to do.

        Args:
            planner: Called again when others change the routing.

        Returns:
            The plan that was made first.

        Raises:
            RolloutError: The planner or the server refuses, a build is not polled in time, or
                others keep changing the routing.
            ConnectionFailedError: The server refuses us or stays away.
        """
        first: Plan | None = None
        for _ in range(_ATTEMPTS):
            plan = planner(await self._look(), self._server.client.identity)
            if isinstance(plan, Refusal):
                raise RolloutError(self._deployment, plan.reasons)
            first = first or plan
            try:
                await self._do_all(plan.steps)
            except _RoutingChangedError as error:
                self._progress(f"{error}; planning anew")
            else:
                return first
        reason = f"others changed the routing {_ATTEMPTS} times while it was being changed"
        raise self._error(f"{reason}. {await self._last_modifier()}")

    async def _look(self) -> ObservedDeployment:
        seen = await look(self._server, self._deployment, task_queues=self._task_queues)
        self._token = seen.conflict_token
        return seen

    async def _do_all(self, steps: Sequence[Step]) -> None:
        try:
            for step in steps:
                self._progress(describe(step))
                await self._do(step)
            await self._await_spread()
        except asyncio.CancelledError:
            self._progress(
                "interrupted: the routing stays as it is. The same command goes on from there; "
                f"`fleet rollout rollback {self._deployment}` ends a ramp"
            )
            raise

    async def _do(self, step: Step) -> None:
        match step:
            case AwaitPollers():
                await self._await_pollers(step.build_id)
            case SetCurrent():
                await self._require_pollers(step.build_id)
                await self._set_current(step.build_id)
            case SetRamping():
                await self._require_pollers(step.build_id)
                await self._set_ramping(step.build_id, step.percentage)
            case ClearRamping():
                await self._set_ramping(None, 0)
            case Pause():
                await self._pause(step.duration)
            case DeleteBuild():
                await self._delete(step.build_id)
            case _:
                assert_never(step)

    async def _await_pollers(self, build_id: str) -> None:
        check = self._pollers_of(build_id)
        missing = await wait_until(
            check, timeout=self._poller_timeout, name="poller timeout", progress=self._progress
        )
        if missing:
            waited = self._poller_timeout.total_seconds()
            raise self._error(
                f"{'; '.join(missing)}, after {waited:g} s (poller timeout). It gets no new work "
                f"before that. {check.cure()}"
            )

    async def _require_pollers(self, build_id: str) -> None:
        check = self._pollers_of(build_id)
        missing = await wait_until(
            check, timeout=RECHECK_TIMEOUT, name="recheck timeout", progress=self._progress
        )
        if missing:
            raise self._error(
                f"{'; '.join(missing)}: its workers were there and are gone, so it gets no more new "
                f"work. The routing stays as it is. {check.cure()}"
            )

    def _pollers_of(self, build_id: str) -> PollersCheck:
        return PollersCheck(self._server, self._deployment, build_id, task_queues=self._task_queues)

    async def _set_current(self, build_id: str) -> None:
        request = SetWorkerDeploymentCurrentVersionRequest(
            namespace=self._server.client.namespace,
            deployment_name=self._deployment,
            build_id="" if build_id == UNVERSIONED else build_id,
            identity=self._server.client.identity,
            conflict_token=self._token,
        )
        service = self._server.client.workflow_service
        await self._change(
            lambda: service.set_worker_deployment_current_version(request, timeout=CALL_TIMEOUT)
        )

    async def _set_ramping(self, build_id: str | None, percentage: float) -> None:
        request = SetWorkerDeploymentRampingVersionRequest(
            namespace=self._server.client.namespace,
            deployment_name=self._deployment,
            build_id="" if build_id in (None, UNVERSIONED) else build_id,
            percentage=percentage,
            identity=self._server.client.identity,
            conflict_token=self._token,
        )
        service = self._server.client.workflow_service
        await self._change(
            lambda: service.set_worker_deployment_ramping_version(request, timeout=CALL_TIMEOUT)
        )

    async def _change(
        self,
        make: Callable[
            [],
            Awaitable[
                SetWorkerDeploymentCurrentVersionResponse
                | SetWorkerDeploymentRampingVersionResponse
            ],
        ],
    ) -> None:
        """Change the routing as it was when we looked; after a lost answer this is a conflict, too."""
        self._token = (await self._call(make, "change the routing")).conflict_token
        await self._await_spread()

    async def _delete(self, build_id: str) -> None:
        version = WorkerDeploymentVersion(deployment_name=self._deployment, build_id=build_id)
        request = DeleteWorkerDeploymentVersionRequest(
            namespace=self._server.client.namespace,
            deployment_version=version,
            identity=self._server.client.identity,
        )
        service = self._server.client.workflow_service
        await self._call(
            lambda: service.delete_worker_deployment_version(request, timeout=CALL_TIMEOUT),
            "delete a build's record",
        )

    async def _call(self, make: Callable[[], Awaitable[AnswerT]], what: str) -> AnswerT:
        try:
            return await self._server.call(make, what)
        except RPCError as error:
            if error.status is not RPCStatusCode.FAILED_PRECONDITION:
                raise self._error(f"cannot {what}: {error.message}") from error
            if "conflict token" in error.message:
                raise _RoutingChangedError(await self._last_modifier()) from error
            hint = ""
            if "active pollers" in error.message:
                hint = ". It remembers pollers for 5 minutes after their last poll: try again then"
            raise self._error(f"the server refuses: {error.message}{hint}") from error

    async def _pause(self, duration: timedelta) -> None:
        end = time.monotonic() + duration.total_seconds()
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, SAY_INTERVAL.total_seconds()))
            if left > SAY_INTERVAL.total_seconds():
                self._progress(f"{end - time.monotonic():.0f} s of the pause are left")

    async def _last_modifier(self) -> str:
        answer = await describe_deployment(self._server, self._deployment)
        who = answer.worker_deployment_info.last_modifier_identity if answer else ""
        now = describe_routing((await self._look()).routing)
        return f"the routing was changed by '{who or 'somebody'}' meanwhile: {now}"

    async def _await_spread(self) -> None:
        """Wait until the new routing holds everywhere; until then some work goes the old way."""

        async def check() -> Sequence[str]:
            spreading = await is_spreading(self._server, self._deployment)
            return ["the server has not told all task queues of the routing"] if spreading else []

        missing = await wait_until(
            check, timeout=SPREAD_TIMEOUT, name="spread timeout", progress=self._progress
        )
        if missing:
            waited = SPREAD_TIMEOUT.total_seconds()
            raise self._error(
                f"the routing was changed, but {missing[0]} within {waited:g} s (spread timeout). "
                "Run the same command again: it waits on"
            )

    def _error(self, reason: str) -> RolloutError:
        return RolloutError(self._deployment, (reason,))
