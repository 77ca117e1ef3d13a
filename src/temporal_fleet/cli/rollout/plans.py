"""Plans on the screen: what all commands that change the routing show."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from temporal_fleet.rollout.changes import Planned, Say
    from temporal_fleet.versioning import Routing, Step


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


def teller(subject: str) -> Say:
    """Return what prints lines about a subject, with the seconds since now."""
    begin = time.monotonic()

    def say(line: str, *, err: bool = False) -> None:
        click.echo(f"{time.monotonic() - begin:6.1f} s  {subject}: {line}", err=err)

    return say


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
