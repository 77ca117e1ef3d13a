"""``fleet rollout guard``: refuses a change that would remove a build that still has work."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from temporal_fleet.cli.command import Command
from temporal_fleet.cli.rollout.options import (
    read_routing_file,
    task_queue_option,
    with_server,
)
from temporal_fleet.errors import ConnectionFailedError

if TYPE_CHECKING:
    from temporal_fleet.rollout import Server
    from temporal_fleet.versioning import (
        DesiredDeployment,
        ObservedDeployment,
        RemovalVerdict,
    )

_PATIENCE = timedelta(minutes=1)
_UNINSTALLING = (
    "After a refused `helm uninstall` the release is called uninstalling, although nothing was deleted: "
    "`helm upgrade` with the values in use makes it deployed again"
)
_NOT_ASKED = (
    "Temporal could not be asked which builds still have work, so nothing was changed. If this release "
    "never worked, or its work does not matter: helm's --no-hooks, which leaves out every check and the "
    "routing"
)

_LEFT = (
    "The affected runs are on {address}, which the new values no longer use; it was queried with the new "
    "values' credentials. If it needs others, look there yourself, with `fleet rollout status`. "
)


@click.command(
    cls=Command,
    examples=[
        ("fleet rollout guard --installed installed.json --next next.json", "before an upgrade"),
        ("fleet rollout guard --installed installed.json", "before an uninstallation"),
    ],
)
@click.option(
    "--installed",
    metavar="FILE",
    required=True,
    help="routing.json of what is installed; nothing is refused when there is no such file.",
)
@click.option(
    "--next",
    "wanted",
    metavar="FILE",
    help="routing.json of what is to be installed; without it, everything is removed.",
)
@click.option(
    "--force",
    "forced",
    metavar="KEY/BUILD_ID",
    multiple=True,
    help="A build that may be removed even if it still has work.",
)
@task_queue_option
def guard(
    *, installed: str, wanted: str | None, forced: tuple[str, ...], task_queues: tuple[str, ...]
) -> int:
    """Refuse a change that would remove a build that still has work.

    A build must not go while it is current or ramping, or has open pinned runs. Where nothing is left
    of its Worker Deployment, as in an uninstallation, no open run at all may be left. Where several keys share
    a Worker Deployment, one of them must not go while a build needs the workload that only its workers run.
    """
    from temporal_fleet.rollout.changes import unversioned_task_queues
    from temporal_fleet.versioning import place_left, removed_builds

    missing = installed != "-" and not Path(installed).exists()
    before = {} if missing else read_routing_file(installed, may_be_empty=True)
    if not before:
        click.echo("nothing is installed, so nothing can be lost")
        return 0
    after = read_routing_file(wanted) if wanted else {}
    removed = removed_builds(before, after)
    if not removed:
        _print_unused(forced)
        click.echo("no build is removed")
        return 0
    names = {
        each.deployment: unversioned_task_queues(each, task_queues)
        for each in before.values()
        if each.deployment in removed
    }

    async def use(server: Server) -> int:
        observed = await _observe(server, removed, names)
        return _judge(before, after, observed, forced)

    left = place_left(before, after)
    try:
        return with_server(use, patience=_PATIENCE, place=left)
    except ConnectionFailedError as error:
        there = _LEFT.format(address=left.address) if left else ""
        raise ConnectionFailedError(f"{error}. {there}{_NOT_ASKED}") from error


async def _observe(
    server: Server,
    removed: Mapping[str, Collection[str]],
    task_queues: Mapping[str, Collection[str]],
) -> dict[str, ObservedDeployment]:
    import asyncio

    from temporal_fleet.rollout import observe_twice

    found = await asyncio.gather(
        *(
            observe_twice(server, name, build_ids, task_queues=task_queues[name])
            for name, build_ids in removed.items()
        )
    )
    return {each.deployment: each for each in found}


def _judge(
    before: Mapping[str, DesiredDeployment],
    after: Mapping[str, DesiredDeployment],
    observed: Mapping[str, ObservedDeployment],
    forced: Collection[str],
) -> int:
    from temporal_fleet.versioning import plan_removal

    verdict = plan_removal(before, after, observed, forced)
    _print(verdict)
    if not verdict.is_refused:
        return 0
    named = ", ".join(f'"{each.name}"' for each in verdict.refused)
    click.echo(
        "Nothing was changed. To proceed anyway and lose that work: upgrade with "
        f"hooks.guard.forceRemoveBuilds: [{named}] (here: guard --force), or use helm's --no-hooks",
        err=True,
    )
    if not after:
        click.echo(_UNINSTALLING, err=True)
    return 1


def _print(verdict: RemovalVerdict) -> None:
    for each in verdict.allowed:
        click.echo(f"{each.name} may go: {'; '.join(each.reasons)}")
    for each in verdict.forced:
        click.echo(f"{each.name} goes because it is FORCED, although:")
        for reason in each.reasons:
            click.echo(f"  - {reason}")
    _print_unused(verdict.unused_force)
    for each in verdict.refused:
        click.echo(f"{each.name} must not go:", err=True)
        for reason in each.reasons:
            click.echo(f"  - {reason}", err=True)


def _print_unused(names: Collection[str]) -> None:
    for name in names:
        click.echo(f"--force {name}: this build is not removed, or may be removed without it")
