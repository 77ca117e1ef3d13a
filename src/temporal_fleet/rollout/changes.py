"""Changes of several Worker Deployments at once: everything is planned before anything is carried out."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from temporal_fleet.errors import FleetError
from temporal_fleet.rollout.applying import Planner, Rollout
from temporal_fleet.rollout.observe import observe
from temporal_fleet.rollout.server import Server
from temporal_fleet.versioning import (
    UNVERSIONED,
    DesiredDeployment,
    ObservedDeployment,
    Plan,
    Refusal,
)
from temporal_fleet.workload import discover, load_workload


class Say(Protocol):
    """Tells people a line about one subject."""

    def __call__(self, line: str, *, err: bool = False) -> None:
        """Tell a line; *err* = it says what went wrong."""


class Teller(Protocol):
    """Makes what tells about a subject, which is the name of a Worker Deployment."""

    def __call__(self, subject: str) -> Say:
        """Return it."""


@dataclass(frozen=True)
class Change:
    """A Worker Deployment and what plans for it."""

    key: str
    """Key of the task queue in the values; the deployment's name where there are no values."""
    deployment: str
    planner: Planner
    task_queues: tuple[str, ...] = ()
    """Where to look for unversioned workers."""


@dataclass(frozen=True)
class Planned:
    """A change with the plan for it."""

    change: Change
    observed: ObservedDeployment
    plan: Plan | Refusal

    @property
    def is_refused(self) -> bool:
        """Whether it cannot be done."""
        return isinstance(self.plan, Refusal)

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to do, nor to wait for."""
        propagating = self.observed.update_in_progress
        return isinstance(self.plan, Plan) and not self.plan.steps and not propagating


async def make_plans(server: Server, changes: Sequence[Change]) -> list[Planned]:
    """Observe and plan everything before anything is done.

    Raises:
        ConnectionFailedError: The server refuses us or stays away.
    """

    async def make(change: Change) -> Planned:
        observed = await observe(server, change.deployment, task_queues=change.task_queues)
        return Planned(change, observed, change.planner(observed, server.client.identity))

    return list(await asyncio.gather(*(make(change) for change in changes)))


async def carry_out(
    server: Server, plans: Sequence[Planned], *, poller_timeout: timedelta, teller: Teller
) -> int:
    """Carry out what was shown, side by side; what fails is told and does not stop the others.

    Args:
        server: Where the Worker Deployments are.
        plans: What was shown.
        poller_timeout: Longest wait until a build is polled.
        teller: Asked for one teller for each Worker Deployment.

    Returns:
        The exit code: 0, or that of the first failure.
    """

    async def carry(planned: Planned) -> int:
        say = teller(planned.change.deployment)
        try:
            await _carry_out(server, planned, poller_timeout, say)
        except FleetError as error:
            say(f"FAILED: {error}", err=True)
            return int(error.exit_code)
        say("done")
        return 0

    codes = await asyncio.gather(*(carry(planned) for planned in plans))
    return next((code for code in codes if code), 0)


async def _carry_out(server: Server, planned: Planned, poller_timeout: timedelta, say: Say) -> None:
    change = planned.change
    rollout = Rollout(
        server,
        change.deployment,
        poller_timeout=poller_timeout,
        progress=say,
        task_queues=change.task_queues,
    )
    await rollout.carry_out(change.planner, shown=planned.plan)


def unversioned_task_queues(desired: DesiredDeployment, named: Collection[str]) -> tuple[str, ...]:
    """Return where unversioned workers of a key may poll: nobody registers for them.

    Args:
        desired: What the values say.
        named: Further task queues that somebody named.
    """
    names = {desired.queue, *named}
    if desired.task_queue:
        names.add(desired.task_queue)
    # Loading a workload runs its code, so it is done only where it helps.
    elif UNVERSIONED in desired.builds.values() and desired.queue in discover():
        names.add(load_workload(desired.queue).default_task_queue)
    return tuple(sorted(names))
