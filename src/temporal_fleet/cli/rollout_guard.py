"""``fleet rollout guard``: refuses a change that would remove a build that still has work."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from temporal_fleet.cli.command import Command
from temporal_fleet.cli.rollout_options import (
    read_routing_file,
    task_queue_option,
    unversioned_task_queues,
    with_server,
)

if TYPE_CHECKING:
    from temporal_fleet.rollout import Server
    from temporal_fleet.versioning import DesiredDeployment, ObservedDeployment, RemovalVerdict

_PATIENCE = timedelta(minutes=1)
_FORCE = (
    "Nothing was changed. To remove them all the same, and lose that work: list them in "
    "hooks.guard.forceRemoveBuilds (guard --force), or use helm's --no-hooks"
)
_UNINSTALLING = (
    "Helm now shows the release as uninstalling; `helm rollback RELEASE REVISION` with the newest "
    "revision takes that back"
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
    help="That of what is to be installed; none = everything goes.",
)
@click.option(
    "--force",
    "forced",
    metavar="KEY/BUILD_ID",
    multiple=True,
    help="A build that may go whatever it still does.",
)
@task_queue_option
def guard(
    *, installed: str, wanted: str | None, forced: tuple[str, ...], task_queues: tuple[str, ...]
) -> int:
    """Refuse a change that would remove a build that still has work.

    A build must not go while it is current or ramping, or has open pinned runs. Where nothing is left
    of its Worker Deployment, as in an uninstallation, no open run at all may be left.
    """
    from temporal_fleet.versioning import removed_builds

    if installed != "-" and not Path(installed).exists():
        click.echo("nothing is installed, so nothing can be lost")
        return 0
    before = read_routing_file(installed)
    after = read_routing_file(wanted) if wanted else {}
    removed = removed_builds(before, after)
    if not removed:
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

    return with_server(use, patience=_PATIENCE)


async def _observe(
    server: Server,
    removed: Mapping[str, Collection[str]],
    task_queues: Mapping[str, Collection[str]],
) -> dict[str, ObservedDeployment]:
    import asyncio

    from temporal_fleet.rollout import look_twice

    found = await asyncio.gather(
        *(
            look_twice(server, name, build_ids, task_queues=task_queues[name])
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
    click.echo(_FORCE if after else f"{_FORCE}. {_UNINSTALLING}", err=True)
    return 1


def _print(verdict: RemovalVerdict) -> None:
    for each in verdict.allowed:
        click.echo(f"{each.name} may go: {'; '.join(each.reasons)}")
    for each in verdict.forced:
        click.echo(f"{each.name} goes because it is FORCED, although:")
        for reason in each.reasons:
            click.echo(f"  - {reason}")
    for name in verdict.unused_force:
        click.echo(f"--force {name}: it is not removed, or nothing is in its way")
    for each in verdict.refused:
        click.echo(f"{each.name} must not go:", err=True)
        for reason in each.reasons:
            click.echo(f"  - {reason}", err=True)
