"""``fleet list``: which workloads are installed and what they consist of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from temporal_fleet.cli.command import Command, output_option

if TYPE_CHECKING:
    from rich.console import RenderableType

    from temporal_fleet.registration import StartDescription, WorkloadDescription


@click.command(
    "list",
    cls=Command,
    examples=[
        ("fleet list", "workloads with their workflows and activities"),
        ("fleet list --output json | jq '.workloads[].task_queue'", "their task queues"),
    ],
)
@output_option
def list_workloads(output: str) -> int:
    """Show the installed workloads: workflows, signals, queries, updates, activities.

    A workload that cannot be imported is shown with the cause; the exit code is then 3.
    """
    from temporal_fleet.errors import ExitCode, FleetError
    from temporal_fleet.output import print_json
    from temporal_fleet.registration import describe
    from temporal_fleet.workload import discover, load_workload

    found: list[WorkloadDescription] = []
    broken: dict[str, str] = {}
    for name in discover():
        try:
            found.append(describe(load_workload(name)))
        except FleetError as error:
            broken[name] = str(error)
    if output == "json":
        failures = [{"name": name, "error": error} for name, error in broken.items()]
        print_json({"workloads": found, "broken": failures})
    else:
        _print_text(found, broken)
    return ExitCode.STARTUP if broken else ExitCode.OK


def _print_text(found: list[WorkloadDescription], broken: dict[str, str]) -> None:
    from rich.padding import Padding
    from rich.text import Text

    from temporal_fleet.output import console
    from temporal_fleet.workload import ENTRY_POINT_GROUP

    screen = console()
    if not found and not broken:
        screen.print(
            f"No workload is installed. Install a distribution with an entry point in the group "
            f"{ENTRY_POINT_GROUP!r}."
        )
    for workload in found:
        screen.print(_heading(workload))
        for part in _parts(workload):
            screen.print(Padding(part, (0, 0, 0, 2), expand=False))
        screen.print()
    for name, error in broken.items():
        screen.print(Text.assemble((name, "bold red"), " cannot be loaded"))
        screen.print(Padding(Text(error), (0, 0, 1, 2), expand=False))


def _heading(workload: WorkloadDescription) -> RenderableType:
    from rich.text import Text

    facts = [f"task queue {workload.task_queue}"]
    if workload.distribution:
        facts.append(f"{workload.distribution} {workload.release}")
    return Text.assemble((workload.name, "bold"), f"  {' · '.join(facts)}")


def _start(start: StartDescription) -> str:
    return start.workflow if start.name is None else f"{start.workflow} (--start {start.name})"


def _parts(workload: WorkloadDescription) -> Iterator[RenderableType]:
    from rich.text import Text

    from temporal_fleet.output import table

    if workload.description:
        yield Text(workload.description, "dim")
    if workload.workflows:
        yield table(
            ("WORKFLOW", "VERSIONING", "SIGNALS", "QUERIES", "UPDATES"),
            [
                (
                    each.type if each.sandboxed else f"{each.type} (no sandbox)",
                    each.versioning_behavior,
                    *(", ".join(names) or None for names in (each.signals, each.queries)),
                    ", ".join(each.updates) or None,
                )
                for each in workload.workflows
            ],
        )
    if workload.activities:
        rows = [(each.type, each.model) for each in workload.activities]
        yield table(("ACTIVITY", "RUNS ON"), rows)
    for what, names in (
        ("Nexus services", workload.nexus_services),
        ("Served elsewhere", workload.served_elsewhere),
        ("Health checks", workload.health_checks),
        ("Started from files", [_start(each) for each in workload.starts]),
    ):
        if names:
            yield Text(f"{what}: {', '.join(names)}")
