"""``fleet queue``: what waits in task queues and who polls them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from temporal_fleet.cli.command import Command, output_option

if TYPE_CHECKING:
    from rich.table import Table
    from temporalio.client import Client

    from temporal_fleet.client.task_queues import TaskQueueStatus

_WATCH_INTERVAL = timedelta(seconds=1)


@click.command(
    "queue",
    cls=Command,
    examples=[
        ("fleet queue", "the task queues of all installed workloads"),
        ("fleet queue orders payments --watch", "these two, redrawn every second"),
        ("fleet queue orders --output json", "for programs, with every poller"),
    ],
)
@click.argument("task_queues", metavar="[TASK_QUEUE]...", nargs=-1)
@click.option("--watch", is_flag=True, help="Redraw every second until Ctrl-C.")
@output_option
def queue(task_queues: tuple[str, ...], watch: bool, output: str) -> int:
    """Show backlog, its age, rates and pollers of task queues.

    Without TASK_QUEUE, those of the installed workloads are shown. The backlog is the server's
    approximation. Rates are per second over about the last half minute; the server leaves sticky and
    eager tasks out, so a busy task queue may read 0.0.
    """
    from temporal_fleet.cli.connecting import with_client
    from temporal_fleet.errors import ExitCode

    if watch and output == "json":
        raise click.UsageError("--watch draws for people; leave it out with --output json")
    names, all_loaded = (task_queues, True) if task_queues else _installed()
    with_client(lambda client: _watch(client, names) if watch else _once(client, names, output))
    return ExitCode.OK if all_loaded else ExitCode.STARTUP


def _installed() -> tuple[tuple[str, ...], bool]:
    from temporal_fleet.errors import FleetError
    from temporal_fleet.workload import discover, load_workload

    names = set()
    all_loaded = True
    for name in discover():
        try:
            names.add(load_workload(name).default_task_queue)
        except FleetError as error:
            all_loaded = False
            click.echo(f"fleet: {error}", err=True)
    if not names and all_loaded:
        raise click.UsageError("no workload is installed: name the task queues to show")
    return tuple(sorted(names)), all_loaded


async def _once(client: Client, names: Sequence[str], output: str) -> None:
    from temporal_fleet.client.task_queues import as_json, read_task_queues
    from temporal_fleet.output import console, print_json

    found = await read_task_queues(client, names)
    if output == "json":
        print_json([as_json(status) for status in found])
    else:
        console().print(_draw(found))


async def _watch(client: Client, names: Sequence[str]) -> None:

    from temporal_fleet.client.task_queues import watch
    from temporal_fleet.output import live

    readings = watch(client, names, _WATCH_INTERVAL)
    found = await anext(readings)
    with live(lambda: _draw(found)) as redraw:
        async for found in readings:  # noqa: B007 - the lambda draws it
            redraw()


def _draw(found: Sequence[TaskQueueStatus]) -> Table:
    from temporal_fleet.output import short_duration, table

    numbers = ("BACKLOG", "OLDEST", "ADDED/S", "TAKEN/S")
    rows = [
        (
            status.task_queue,
            f"{status.type}, rate-limited" if status.rate_limited else status.type,
            status.backlog,
            short_duration(status.backlog_age) if status.backlog else None,
            f"{status.added_per_second:.1f}",
            f"{status.dispatched_per_second:.1f}",
            _routing(status),
            len(status.pollers),
            _who(status),
        )
        for status in found
    ]
    columns = ("TASK QUEUE", "TASKS", *numbers, "ROUTED TO", "POLLERS", "BY")
    return table(columns, rows, right=(*numbers, "POLLERS"))


def _routing(status: TaskQueueStatus) -> str | None:
    if not (status.ramping_build_id or status.ramping_percentage):
        return status.current_build_id
    current, ramping = (
        build_id or "unversioned" for build_id in (status.current_build_id, status.ramping_build_id)
    )
    return f"{current}, {status.ramping_percentage:g} % {ramping}"


def _who(status: TaskQueueStatus) -> str | None:
    shown = [
        f"{each.identity} ({each.build_id})" if each.build_id else each.identity
        for each in status.pollers[:3]
    ]
    more = len(status.pollers) - len(shown)
    return ", ".join([*shown, *([f"{more} more"] if more > 0 else [])]) or None
