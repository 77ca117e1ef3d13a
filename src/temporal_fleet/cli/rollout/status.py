"""``fleet rollout status``: a row for each build of each Worker Deployment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import click

from temporal_fleet.cli.command import Command, output_option
from temporal_fleet.cli.rollout.options import (
    read_routing_file,
    routing_option,
    task_queue_option,
    with_server,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from temporal_fleet.rollout import Server
    from temporal_fleet.versioning import ObservedBuild, ObservedDeployment

_WATCH_INTERVAL = timedelta(seconds=2)
_NUMBERS = ("POLLERS", "BACKLOG", "PINNED", "OPEN")
_COLUMNS = ("DEPLOYMENT", "BUILD ID", "STATUS", "NEW WORK", "DRAINAGE", *_NUMBERS, "AGE")
_LESS_IMPORTANT = ("AGE", "BACKLOG", "DRAINAGE", "OPEN")


@click.command(
    cls=Command,
    examples=[
        ("fleet rollout status", "all Worker Deployments of the namespace"),
        ("fleet rollout status orders --watch", "one, redrawn every two seconds"),
        ("fleet rollout status orders --output json", "for programs, with task queues and runs"),
    ],
)
@click.argument("deployments", metavar="[DEPLOYMENT]...", nargs=-1)
@routing_option(required=False)
@task_queue_option
@click.option("--watch", is_flag=True, help="Redraw every two seconds until Ctrl-C.")
@output_option
def status(
    *,
    deployments: tuple[str, ...],
    routing: str | None,
    task_queues: tuple[str, ...],
    watch: bool,
    output: str,
) -> int:
    """Show builds, routing, drainage, pollers, backlog, open runs and age.

    PINNED counts open runs that only this build can continue, OPEN all runs that it worked on last. The
    list of runs lags behind by about a second. In a narrow terminal AGE, BACKLOG, DRAINAGE and OPEN
    are left out, in this order. The exit code is 1 when a Worker Deployment that is named is unknown.
    """
    if watch and output == "json":
        raise click.UsageError("--watch draws for people; leave it out with --output json")
    names = list(deployments)
    if routing:
        names += [each.deployment for each in read_routing_file(routing).values()]

    async def use(server: Server) -> int:
        if watch:
            await _watch(server, names, task_queues)
        found = await _look(server, names, task_queues)
        _print(found, output)
        return int(any(not each.exists for each in found if each.deployment in deployments))

    return with_server(use)


async def _look(
    server: Server, names: Sequence[str], task_queues: Sequence[str]
) -> list[ObservedDeployment]:
    import asyncio

    from temporal_fleet.rollout import list_deployments, observe

    names = names or await list_deployments(server)
    found = await asyncio.gather(
        *(observe(server, each, task_queues=task_queues) for each in names)
    )
    return list(found)


def _print(found: Sequence[ObservedDeployment], output: str) -> None:
    from temporal_fleet.output import console, print_json

    if output == "json":
        print_json([_as_json(each) for each in found])
    elif found:
        console().print(_draw(found))
    else:
        click.echo("there is no Worker Deployment in this namespace yet", err=True)


async def _watch(server: Server, names: Sequence[str], task_queues: Sequence[str]) -> NoReturn:
    import asyncio

    from temporal_fleet.output import live

    found = await _look(server, names, task_queues)
    with live(lambda: _draw(found)) as redraw:
        while True:
            await asyncio.sleep(_WATCH_INTERVAL.total_seconds())
            found = await _look(server, names, task_queues)
            redraw()


def _as_json(observed: ObservedDeployment) -> dict[str, Any]:
    shown = {key: value for key, value in vars(observed).items() if key != "conflict_token"}
    return shown | {"builds": [vars(build) for build in _shown_builds(observed)]}


def _draw(found: Iterable[ObservedDeployment]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from temporal_fleet.output import console, fitting_table

    found = list(found)
    now = datetime.now(UTC)
    rows = [_row(each, build, now) for each in found for build in _shown_builds(each)]
    notes = [Text(note) for each in found for note in _notes(each)]
    drawn = fitting_table(
        _COLUMNS, rows, right=_NUMBERS, less=_LESS_IMPORTANT, width=console().width
    )
    return Group(drawn, *notes)


def _shown_builds(observed: ObservedDeployment) -> list[ObservedBuild]:
    """Return builds, the newest first; unversioned workers only where there is something to say."""
    from temporal_fleet.versioning import UNVERSIONED, BuildStatus

    shown = [
        build
        for build in observed.builds.values()
        if build.build_id != UNVERSIONED
        or build.has_pollers
        or (build.status is not BuildStatus.INACTIVE and observed.exists)
    ]
    oldest = datetime.min.replace(tzinfo=UTC)
    return sorted(shown, key=lambda build: build.created or oldest, reverse=True)


def _row(observed: ObservedDeployment, build: ObservedBuild, now: datetime) -> tuple[object, ...]:
    from temporal_fleet.output import short_duration
    from temporal_fleet.versioning import UNVERSIONED

    name = "unversioned" if build.build_id == UNVERSIONED else build.build_id
    return (
        observed.deployment,
        name,
        build.status.value,
        _new_work(observed, build),
        _drainage(build, now),
        _pollers(build),
        sum(each.backlog for each in build.task_queues),
        build.open_pinned.count,
        build.open_runs.count,
        short_duration(now - build.created) if build.created else None,
    )


def _new_work(observed: ObservedDeployment, build: ObservedBuild) -> str | None:
    from temporal_fleet.versioning import UNVERSIONED

    routing = observed.routing
    if build.build_id == routing.ramping:
        return f"{routing.percentage:g} %"
    if build.build_id == (routing.current or UNVERSIONED):
        return f"{100 - routing.percentage:g} %"
    return None


def _drainage(build: ObservedBuild, now: datetime) -> str | None:
    from temporal_fleet.output import short_duration
    from temporal_fleet.versioning import BuildStatus

    if build.drainage_changed is None:
        return None
    since = short_duration(now - build.drainage_changed)
    return f"{since} ago" if build.status is BuildStatus.DRAINED else f"for {since}"


def _pollers(build: ObservedBuild) -> str:
    most = str(max((each.pollers for each in build.task_queues), default=0))
    missing = [each.type for each in build.missing_pollers] if build.has_pollers else []
    return f"{most}, no {' '.join(missing)}" if missing else most


def _notes(observed: ObservedDeployment) -> list[str]:
    notes = []
    name = observed.deployment
    if not observed.exists:
        notes.append(f"{name}: no such Worker Deployment; no versioned worker has ever polled")
    if observed.update_in_progress:
        notes.append(f"{name}: the server is still telling its task queues of the last change")
    if observed.manager_identity:
        notes.append(f"{name}: only '{observed.manager_identity}' may change the routing")
    return notes
