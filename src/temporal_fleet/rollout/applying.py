"""Carries plans out through Temporal's API, one step after the other.

Before every step that gives a build new work, the build's pollers are looked at again. Every change names the
state it is based on; when somebody else changes the routing meanwhile, theirs stays and the rollout ends. What
was shown is what is done, or nothing. An interrupted rollout goes on where it stopped when it is started again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from typing import TypeVar, assert_never

from temporalio.api.deployment.v1 import WorkerDeploymentInfo, WorkerDeploymentVersion
from temporalio.api.workflowservice.v1 import (
    DeleteWorkerDeploymentVersionRequest,
    DescribeWorkerDeploymentResponse,
    SetWorkerDeploymentCurrentVersionRequest,
    SetWorkerDeploymentRampingVersionRequest,
)
from temporalio.service import RPCError, RPCStatusCode

from temporal_fleet.errors import RolloutError
from temporal_fleet.rollout.observe import observe
from temporal_fleet.rollout.propagation import PROPAGATION_TIMEOUT, is_propagating
from temporal_fleet.rollout.records import describe_deployment, routing_of
from temporal_fleet.rollout.runs import LIST_LAG
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
    Routing,
    SetCurrent,
    SetRamping,
    Step,
    describe,
    describe_routing,
    needs,
)
from temporal_fleet.versioning.outcome import changes_of, is_same_routing, routing_after

RECHECK_TIMEOUT = timedelta(seconds=5)
"""How long pollers that were there may be out of sight before a step gives up."""

MOST_CONFLICTS = 10
"""How often a change is made again because something but the routing has changed meanwhile."""

_AGAIN = "to continue from there, look at it and run the same command again"

Planner = Callable[[ObservedDeployment, str], Plan | Refusal]
"""Makes a plan of what is observed, for the identity that carries it out."""
AnswerT = TypeVar("AnswerT")


class _ConflictError(Exception):
    """The Worker Deployment is not in the state that our change was based on."""


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
        self._routing = Routing(None)

    async def carry_out(self, planner: Planner, *, shown: Plan | Refusal | None = None) -> Plan:
        """Observe, plan, and do what the plan says.

        Args:
            planner: Makes the plan.
            shown: What somebody has agreed to; None = whatever the plan is.

        Returns:
            The plan that was carried out.

        Raises:
            RolloutError: The planner or the server refuses, a build is not polled in time, the plan is
                not the one shown, or somebody else changes the routing meanwhile.
            ConnectionFailedError: The server refuses us or stays away.
        """
        plan = planner(await self._look(), self._server.client.identity)
        if isinstance(plan, Refusal):
            raise RolloutError(self._deployment, plan.reasons)
        if isinstance(shown, Plan) and changes_of(plan) != changes_of(shown):
            who = _changed_by((await self._describe()).worker_deployment_info)
            raise self._error(f"{who}. The plan is another one now; {_AGAIN}")
        await self._do_all(plan.steps, planner)
        return plan

    async def _look(self) -> ObservedDeployment:
        seen = await observe(self._server, self._deployment, task_queues=self._task_queues)
        self._token, self._routing = seen.conflict_token, seen.routing
        return seen

    async def _do_all(self, steps: Sequence[Step], planner: Planner) -> None:
        try:
            for step in steps:
                self._progress(describe(step))
                await self._do(step)
                if isinstance(step, AwaitPollers):
                    await self._judge_again(planner)
            await self._await_propagation()
        except asyncio.CancelledError:
            self._progress(
                "interrupted: the routing stays as it is. The same command continues from there; "
                f"`fleet rollout rollback {self._deployment}` ends a ramp"
            )
            raise

    async def _do(self, step: Step) -> None:
        match step:
            case AwaitPollers():
                await self._await_pollers(step.build_id)
            case SetCurrent():
                await self._require_pollers(step.build_id)
                await self._change(step, lambda: self._set_current(step.build_id))
            case SetRamping():
                if step.raises:
                    await self._require_pollers(step.build_id)
                await self._change(step, lambda: self._set_ramping(step.build_id, step.percentage))
            case ClearRamping():
                await self._change(step, lambda: self._set_ramping(None, 0))
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

    async def _judge_again(self, planner: Planner) -> None:
        """Judge builds that have registered their task queues only now: a plan could not know them."""
        seen = await observe(
            self._server, self._deployment, with_runs=False, task_queues=self._task_queues
        )
        plan = planner(seen, self._server.client.identity)
        if isinstance(plan, Refusal):
            raise RolloutError(self._deployment, plan.reasons)

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

    async def _change(self, step: Step, make: Callable[[], Awaitable[bytes]]) -> None:
        """Change the routing as it was when we looked; a change that was made already is made again.

        A conflict although the routing is as we know it comes from something else, such as a new build.
        """
        for _ in range(MOST_CONFLICTS):
            try:
                self._token = await make()
                break
            except _ConflictError:
                self._token = await self._token_of_known_routing()
        else:
            raise self._error(
                f"something else of the Worker Deployment changed {MOST_CONFLICTS} times while its "
                f"routing was to be changed, such as its builds; {_AGAIN}"
            )
        self._routing = routing_after(self._routing, (step,))
        await self._await_propagation()

    async def _token_of_known_routing(self) -> bytes:
        answer = await self._describe()
        info = answer.worker_deployment_info
        if not is_same_routing(routing_of(info.routing_config), self._routing):
            raise self._error(f"{_changed_by(info)}. Their change was kept; {_AGAIN}")
        return answer.conflict_token

    async def _describe(self) -> DescribeWorkerDeploymentResponse:
        answer = await describe_deployment(self._server, self._deployment)
        return answer or DescribeWorkerDeploymentResponse()

    async def _set_current(self, build_id: str) -> bytes:
        request = SetWorkerDeploymentCurrentVersionRequest(
            namespace=self._server.client.namespace,
            deployment_name=self._deployment,
            build_id="" if build_id == UNVERSIONED else build_id,
            identity=self._server.client.identity,
            conflict_token=self._token,
        )
        service = self._server.client.workflow_service
        answer = await self._call(
            lambda: service.set_worker_deployment_current_version(request, timeout=CALL_TIMEOUT),
            "change the routing",
        )
        return answer.conflict_token

    async def _set_ramping(self, build_id: str | None, percentage: float) -> bytes:
        request = SetWorkerDeploymentRampingVersionRequest(
            namespace=self._server.client.namespace,
            deployment_name=self._deployment,
            build_id="" if build_id in (None, UNVERSIONED) else build_id,
            percentage=percentage,
            identity=self._server.client.identity,
            conflict_token=self._token,
        )
        service = self._server.client.workflow_service
        answer = await self._call(
            lambda: service.set_worker_deployment_ramping_version(request, timeout=CALL_TIMEOUT),
            "change the routing",
        )
        return answer.conflict_token

    async def _delete(self, build_id: str) -> None:
        # A drained build can be sent work again, and the list of runs shows that a little later.
        await asyncio.sleep(LIST_LAG.total_seconds())
        if found := needs(await self._look(), build_id):
            raise RolloutError(self._deployment, [need.text for need in found])
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
                raise _ConflictError from error
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

    async def _await_propagation(self) -> None:
        """Wait until the new routing holds everywhere; until then some work goes the old way.

        A server that does not confirm it in time does not stop a rollout: it loses confirmations.
        """

        async def check() -> Sequence[str]:
            info = (await self._describe()).worker_deployment_info
            propagating = await is_propagating(self._server, info)
            return (
                ["the server is propagating the routing to the task queues"] if propagating else []
            )

        missing = await wait_until(
            check, timeout=PROPAGATION_TIMEOUT, name="propagation timeout", progress=self._progress
        )
        if missing:
            waited = PROPAGATION_TIMEOUT.total_seconds()
            self._progress(
                f"warning: the server has not confirmed within {waited:g} s (propagation timeout) that all "
                "task queues have the new routing. The routing was changed and the rollout continues"
            )

    def _error(self, reason: str) -> RolloutError:
        return RolloutError(self._deployment, (reason,))


def _changed_by(info: WorkerDeploymentInfo) -> str:
    who, now = (
        info.last_modifier_identity or "somebody",
        describe_routing(routing_of(info.routing_config)),
    )
    return f"the routing was changed by '{who}' meanwhile: {now}"
