"""Plans on the screen, and carrying them out: what all commands that change the routing do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from temporal_fleet.rollout import Planner, Server
    from temporal_fleet.versioning import (
        ObservedDeployment,
        Plan,
        Refusal,
        Routing,
        Step,
    )


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
        from temporal_fleet.versioning import Refusal

        return isinstance(self.plan, Refusal)

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to do, nor to wait for."""
        from temporal_fleet.versioning import Plan

        spreading = self.observed.update_in_progress
        return isinstance(self.plan, Plan) and not self.plan.steps and not spreading


async def make_plans(server: Server, changes: Sequence[Change]) -> list[Planned]:
    """Observe and plan everything before anything is done."""
    import asyncio

    from temporal_fleet.rollout import look

    async def make(change: Change) -> Planned:
        observed = await look(server, change.deployment, task_queues=change.task_queues)
        return Planned(change, observed, change.planner(observed, server.client.identity))

    return list(await asyncio.gather(*(make(change) for change in changes)))


def print_plan(planned: Planned) -> None:
    """Print the routing before and after, the steps between, and what to know about them."""
    from temporal_fleet.versioning import Refusal, describe

    click.echo(_title(planned))
    if isinstance(planned.plan, Refusal):
        for reason in planned.plan.reasons:
            click.echo(f"  refused: {reason}", err=True)
        return
    for line in _difference(planned.observed.routing, planned.plan.steps):
        click.echo(f"  {line}")
    for number, step in enumerate(planned.plan.steps, 1):
        click.echo(f"  step {number}: {describe(step)}")
    if not planned.plan.steps:
        click.echo("  nothing to do")
    for note in planned.plan.notes:
        click.echo(f"  note: {note}")


def plan_as_json(planned: Planned) -> dict[str, Any]:
    """Return a plan or a refusal ready for JSON."""
    from temporal_fleet.versioning import Refusal, describe
    from temporal_fleet.versioning.outcome import routing_after

    plan = planned.plan
    found: dict[str, Any] = {
        "queue": planned.change.key,
        "deployment": planned.change.deployment,
        "routing": planned.observed.routing,
    }
    if isinstance(plan, Refusal):
        return found | {"refused": plan.reasons, "steps": [], "notes": []}
    steps = [
        {"step": type(step).__name__, **asdict(step), "text": describe(step)} for step in plan.steps
    ]
    after = routing_after(planned.observed.routing, plan.steps)
    return found | {"routing_after": after, "refused": [], "steps": steps, "notes": plan.notes}


async def carry_out(server: Server, plans: Sequence[Planned], *, poller_timeout: timedelta) -> int:
    """Carry out what was shown, side by side; what fails is told and does not stop the others.

    Returns:
        The exit code: 0, or that of the first failure.
    """
    import asyncio

    from temporal_fleet.errors import FleetError

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


def teller(subject: str) -> Callable[..., None]:
    """Return what prints lines about a subject, with the seconds since now."""
    begin = time.monotonic()

    def say(line: str, *, err: bool = False) -> None:
        click.echo(f"{time.monotonic() - begin:6.1f} s  {subject}: {line}", err=err)

    return say


async def _carry_out(
    server: Server, planned: Planned, poller_timeout: timedelta, say: Callable[[str], None]
) -> None:
    from temporal_fleet.rollout import Rollout

    change = planned.change
    rollout = Rollout(
        server,
        change.deployment,
        poller_timeout=poller_timeout,
        progress=say,
        task_queues=change.task_queues,
    )
    await rollout.carry_out(change.planner, shown=planned.plan)


def _title(planned: Planned) -> str:
    change = planned.change
    if change.key == change.deployment:
        return change.key
    return f"{change.key} (Worker Deployment {change.deployment})"


def _difference(before: Routing, steps: Sequence[Step]) -> list[str]:
    from temporal_fleet.versioning.outcome import routing_after

    after = routing_after(before, steps)
    lines = []
    for role, was, will in (
        ("current", _current(before), _current(after)),
        ("ramping", _ramping(before), _ramping(after)),
    ):
        if was == will:
            lines.append(f"  {role}  {was}")
        else:
            lines += [f"- {role}  {was}", f"+ {role}  {will}"]
    return lines


def _current(routing: Routing) -> str:
    from temporal_fleet.versioning import UNVERSIONED

    return _name(routing.current or UNVERSIONED)


def _ramping(routing: Routing) -> str:
    if routing.ramping is None:
        return "nothing"
    return f"{_name(routing.ramping)} at {routing.percentage:g} %"


def _name(build_id: str) -> str:
    from temporal_fleet.versioning import UNVERSIONED

    return "unversioned" if build_id == UNVERSIONED else build_id
