"""Waits until a build is polled, routed to or drained, and says what it waits for.

Every wait asks the server again and again and ends with what is still missing, in words that lead to the cause.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from datetime import timedelta

import structlog

from temporal_fleet.rollout.observe import observe, observe_build
from temporal_fleet.rollout.server import Server
from temporal_fleet.versioning import (
    UNVERSIONED,
    DesiredDeployment,
    ObservedBuild,
    ObservedDeployment,
    Refusal,
    Risk,
    describe,
    describe_routing,
    needs,
    plan_routing,
)
from temporal_fleet.versioning.task_queues import missing_pollers

log = structlog.get_logger(__name__)

ASK_INTERVAL = timedelta(seconds=0.5)
"""Time between two questions of a wait."""
SAY_INTERVAL = timedelta(seconds=15)
"""A wait says this often what it still waits for."""
REGISTRATION = timedelta(seconds=1.5)
"""A worker that has just started registers its task queues one after the other within this time."""

Check = Callable[[], Awaitable[Sequence[str]]]
"""Returns what is still missing, one line for each; nothing when the wait is over."""
Progress = Callable[[str], None]
"""Called with one line for people."""


async def wait_until(
    check: Check, *, timeout: timedelta, name: str, progress: Progress
) -> Sequence[str]:
    """Check again and again until nothing is missing or the time is up.

    Args:
        check: What is waited for.
        timeout: Longest wait; the first check is made in any case.
        name: Name of the timeout, for the log.
        progress: Told now and then what is still missing.

    Returns:
        What is missing when the time is up; nothing when all is well.
    """
    begin = said = time.monotonic()
    while missing := await check():
        now = time.monotonic()
        if now - begin >= timeout.total_seconds():
            log.info("timeout", timeout=name, timeout_seconds=timeout.total_seconds())
            return missing
        if now - said >= SAY_INTERVAL.total_seconds():
            said = now
            left = timeout.total_seconds() - (now - begin)
            progress(f"still waiting, {left:.0f} s of the {name} are left: {'; '.join(missing)}")
        await asyncio.sleep(ASK_INTERVAL.total_seconds())
    return ()


class PollersCheck:
    """Whether every task queue of a build is polled with its build ID.

    Args:
        server: Whom to ask.
        deployment: Name of the Worker Deployment.
        build_id: Build ID or ``UNVERSIONED``.
        task_queues: Where to look for unversioned workers, beside the one named as the deployment.
    """

    def __init__(
        self,
        server: Server,
        deployment: str,
        build_id: str,
        *,
        task_queues: Collection[str] = (),
    ) -> None:
        self._server = server
        self._deployment = deployment
        self._build_id = build_id
        self._task_queues = {deployment, *task_queues}
        self._waited = False
        self._registered: tuple[set[tuple[str, str]], float] = (set(), 0.0)

    async def __call__(self) -> Sequence[str]:
        """Return what is not polled."""
        seen = await observe_build(
            self._server, self._deployment, self._build_id, task_queues=self._task_queues
        )
        build = seen.builds.get(self._build_id)
        missing = self._missing(seen, build)
        if missing or build is None:
            self._waited = True
            return missing
        if self._waited and not self._is_settled(build):
            return [f"build ID '{self._build_id}' is still registering its task queues"]
        return ()

    def _missing(self, seen: ObservedDeployment, build: ObservedBuild | None) -> list[str]:
        if self._build_id == UNVERSIONED:
            if build is None or not build.has_pollers:
                names = ", ".join(f"'{name}'" for name in sorted(self._task_queues))
                return [f"no worker polls without versioning at task queue {names}"]
            return [
                f"no worker polls {each.type} tasks of task queue '{each.name}' without versioning, which "
                "the current build does"
                for each in missing_pollers(seen, build)
            ]
        if build is None or not build.task_queues:
            return [
                f"the server has not seen any worker of Worker Deployment '{self._deployment}' with "
                f"build ID '{self._build_id}'"
            ]
        return [
            f"no worker polls {each.type} tasks of task queue '{each.name}' with build ID "
            f"'{self._build_id}'"
            for each in missing_pollers(seen, build)
        ]

    def _is_settled(self, build: ObservedBuild) -> bool:
        known, since = self._registered
        now = time.monotonic()
        task_queues: set[tuple[str, str]] = {(each.name, each.type) for each in build.task_queues}
        if task_queues != known:
            self._registered = (task_queues, now)
            return False
        return now - since >= REGISTRATION.total_seconds()

    def cure(self) -> str:
        """Say where to look for the reason."""
        labels = f"temporal.io/deployment-name={self._deployment}"
        if self._build_id != UNVERSIONED:
            labels += f",temporal.io/build-id={self._build_id}"
        return (
            f"Look at its pods and their logs: kubectl get pods -l {labels}; their "
            "TEMPORAL_NAMESPACE must be ours, and their FLEET_DEPLOYMENT_BUILD_ID and "
            "FLEET_DEPLOYMENT_VERSIONING what the routing says"
        )


def routed_check(
    server: Server, desired: DesiredDeployment, *, task_queues: Collection[str] = ()
) -> Check:
    """Return a check of whether the server's routing is the desired one, at all task queues."""

    async def check() -> Sequence[str]:
        seen = await observe(
            server, desired.deployment, with_runs=False, task_queues=(desired.queue, *task_queues)
        )
        plan = plan_routing(replace(desired, accepted=frozenset(Risk)), seen, allow_ramp_down=True)
        if isinstance(plan, Refusal):
            return plan.reasons
        if plan.steps:
            return [f"{desired.queue}: still to do: {describe(step)}" for step in plan.steps]
        if seen.update_in_progress:
            return [f"{desired.queue}: the server is still telling its task queues of the routing"]
        return ()

    return check


def new_work_check(server: Server, deployment: str, build_id: str) -> Check:
    """Return a check of whether a build gets new work, at all task queues."""

    async def check() -> Sequence[str]:
        seen = await observe(server, deployment, with_runs=False)
        routing = seen.routing
        ramps = routing.ramping == build_id and routing.percentage > 0
        keeps = build_id == (routing.current or UNVERSIONED) and routing.percentage < 100
        if not (ramps or keeps):
            return [f"build ID '{build_id}' gets no new work: {describe_routing(routing)}"]
        if seen.update_in_progress:
            return ["the server is still telling its task queues of the routing"]
        return ()

    return check


def drained_check(
    server: Server,
    deployment: str,
    build_id: str,
    *,
    task_queues: Collection[str] = (),
    must_be_known: bool = False,
) -> Check:
    """Return a check of whether nothing needs a build's workers any more, as the server sees it.

    Args:
        server: Whom to ask.
        deployment: Name of the Worker Deployment.
        build_id: Build ID or ``UNVERSIONED``.
        task_queues: Where to look for unversioned workers, beside the one named as the deployment.
        must_be_known: Whether a build that the server does not know counts as missing, not as drained.
    """

    async def check() -> Sequence[str]:
        seen = await observe(server, deployment, task_queues=task_queues)
        return what_needs(seen, build_id, must_be_known=must_be_known)

    return check


def what_needs(
    observed: ObservedDeployment, build_id: str, *, must_be_known: bool = False
) -> Sequence[str]:
    """Return, in one line, what still needs a build's workers; nothing when they may go."""
    name = f"build ID '{build_id}' of Worker Deployment '{observed.deployment}'"
    if must_be_known and build_id not in observed.builds:
        return [f"the server knows no {name}"]
    found = needs(observed, build_id)
    return [f"{name}: {'; '.join(need.what for need in found)}"] if found else ()
