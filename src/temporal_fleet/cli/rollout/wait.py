"""``fleet rollout wait``: for pollers, for the routing, or for a build to be drained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from temporal_fleet.cli.command import Command
from temporal_fleet.cli.duration import DURATION
from temporal_fleet.cli.rollout.options import (
    read_routing_file,
    routing_option,
    task_queue_option,
    with_server,
)
from temporal_fleet.cli.rollout.plans import teller

if TYPE_CHECKING:
    from temporal_fleet.rollout import Check, Server
    from temporal_fleet.versioning import DesiredDeployment

_TIMEOUT = timedelta(minutes=2)
_REACHED = {"pollers": "polled", "routed": "the routing holds", "drained": "drained"}


@click.command(
    cls=Command,
    examples=[
        (
            "fleet rollout wait --routing routing.json --for pollers --timeout 2m",
            "every build of a release is polled",
        ),
        (
            "fleet rollout wait orders --build 1.4.0 --for drained --timeout 1h",
            "nothing needs this build any more",
        ),
    ],
)
@click.argument("deployment", required=False)
@click.option("--build", "build_id", metavar="BUILD_ID", help="The build of DEPLOYMENT.")
@routing_option(required=False)
@click.option(
    "--for",
    "goal",
    type=click.Choice(["pollers", "routed", "drained"]),
    default="pollers",
    show_default=True,
    help="What to wait for.",
)
@click.option("--timeout", type=DURATION, default=_TIMEOUT, show_default="2m", help="Longest wait.")
@task_queue_option
def wait(
    *,
    deployment: str | None,
    build_id: str | None,
    routing: str | None,
    goal: str,
    timeout: timedelta,
    task_queues: tuple[str, ...],
) -> int:
    """Wait until builds are polled, the routing holds, or builds are drained.

    With a routing file: every build is polled; the server's routing is the file's; every build that
    gets no new work by the file is drained. With DEPLOYMENT and a build: the same of this build.

    The exit code is 1 when the time is up.
    """
    import asyncio

    if bool(routing) == bool(deployment) or bool(deployment) != bool(build_id):
        raise click.UsageError("name either --routing FILE, or DEPLOYMENT and --build BUILD_ID")
    desired = read_routing_file(routing) if routing else {}

    async def use(server: Server) -> int:
        if deployment and build_id:
            check = _check_of_build(
                server, deployment, build_id, goal, task_queues, must_be_known=True
            )
            checks = [(deployment, check)]
        else:
            checks = _checks_of_file(server, desired, goal, task_queues)
        codes = await asyncio.gather(*(_wait(name, check, goal, timeout) for name, check in checks))
        return max(codes, default=0)

    return with_server(use, patience=timeout)


async def _wait(name: str, check: Check, goal: str, timeout: timedelta) -> int:
    from temporal_fleet.rollout import PollersCheck, wait_until

    say = teller(name)
    missing = await wait_until(check, timeout=timeout, name="wait timeout", progress=say)
    if not missing:
        say(_REACHED[goal])
        return 0
    cure = f". {check.cure()}" if isinstance(check, PollersCheck) else ""
    say(
        f"timed out after {timeout.total_seconds():g} s (--timeout): {'; '.join(missing)}{cure}",
        err=True,
    )
    return 1


def _check_of_build(
    server: Server,
    deployment: str,
    build_id: str,
    goal: str,
    task_queues: Sequence[str],
    *,
    must_be_known: bool = False,
) -> Check:
    from temporal_fleet.rollout import PollersCheck, drained_check, new_work_check

    if goal == "pollers":
        return PollersCheck(server, deployment, build_id, task_queues=task_queues)
    if goal == "drained":
        return drained_check(
            server, deployment, build_id, task_queues=task_queues, must_be_known=must_be_known
        )
    return new_work_check(server, deployment, build_id)


def _checks_of_file(
    server: Server, desired: Mapping[str, DesiredDeployment], goal: str, named: Sequence[str]
) -> list[tuple[str, Check]]:
    from temporal_fleet.rollout import routed_check
    from temporal_fleet.rollout.changes import unversioned_task_queues

    checks: list[tuple[str, Check]] = []
    for key, each in desired.items():
        names = unversioned_task_queues(each, named)
        if goal == "routed":
            checks.append((key, routed_check(server, each, task_queues=names)))
            continue
        routing = each.routing
        for build_id in each.builds.values():
            if goal == "pollers" or build_id not in (routing.current, routing.ramping):
                check = _check_of_build(server, each.deployment, build_id, goal, names)
                checks.append((f"{key}/{build_id}", check))
    return checks
