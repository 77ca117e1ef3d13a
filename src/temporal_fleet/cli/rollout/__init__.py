"""``fleet rollout``: which build gets new work, and which builds may go."""

from __future__ import annotations

import click

from temporal_fleet.cli.command import Group
from temporal_fleet.cli.rollout.changes import apply, plan, promote, ramp, retire, rollback
from temporal_fleet.cli.rollout.guard import guard
from temporal_fleet.cli.rollout.recover import recover
from temporal_fleet.cli.rollout.status import status
from temporal_fleet.cli.rollout.values import next_build, prune
from temporal_fleet.cli.rollout.wait import wait


@click.group(
    cls=Group,
    examples=[
        ("fleet rollout status", "builds, routing, drainage, pollers and open runs"),
        ("fleet rollout ramp orders 1.5.0 --percentage 10", "a share of new work for a build"),
        ("fleet rollout promote orders", "make the ramping build current"),
        ("fleet rollout rollback orders", "end the ramp, or go back to the build before"),
        ("fleet rollout retire orders 1.4.0", "forget a build that is drained"),
    ],
)
def rollout() -> None:
    """Route work to builds, and find out which builds may go."""


for _command in (
    *(status, plan, apply, ramp, promote, rollback, retire),
    *(recover, wait, guard, next_build, prune),
):
    rollout.add_command(_command)
