"""``fleet dev``: everything on one machine, restarted when code changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from temporal_fleet.cli.command import Command, complete_workload

_OF_OUR_SERVER = ("port", "ui_port", "headless", "reset", "search_attributes")
_PORT = click.IntRange(1, 65535)


@click.command(
    cls=Command,
    examples=[
        ("fleet dev", "a Temporal server, its UI and every installed workload"),
        ("fleet dev --workload orders", "only this workload"),
        ("fleet dev --server localhost:7233", "use a server that already runs"),
        ("fleet dev --search-attribute Customer=Keyword", "known to the server's namespace"),
    ],
)
@click.option("--no-reload", is_flag=True, help="Do not restart workloads when their code changes.")
@click.option(
    "--watch",
    metavar="DIRECTORY",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Also restart all workloads when something in this directory changes; may be given several times.",
)
@click.option(
    "--server",
    metavar="ADDRESS",
    help="Use the Temporal server at ADDRESS instead of starting one.",
)
@click.option(
    "--workload",
    "workloads",
    metavar="NAME",
    multiple=True,
    shell_complete=complete_workload,
    help="Run only this workload; may be given several times.",
)
@click.option(
    "--port", type=_PORT, help="Port of the server; 7233, or a free one if that is taken."
)
@click.option("--ui-port", type=_PORT, help="Port of its UI; 1000 more, or a free one.")
@click.option("--headless", is_flag=True, help="Start the server without its UI.")
@click.option("--reset", is_flag=True, help="Forget the workflows of earlier runs.")
@click.option(
    "--search-attribute",
    "search_attributes",
    metavar="NAME=TYPE",
    multiple=True,
    help="Search attribute to register on the server; may be given several times.",
)
def dev(no_reload: bool, **options: Any) -> int:
    """Run a Temporal server and all installed workloads; restart what changes.

    Each workload runs in a process of its own, as `fleet worker` does in production. When a file of
    a workload or of a local library that it requires changes, that workload is restarted within a
    second; if the new code cannot be imported, the old code keeps running.
    Workflows are kept in .fleet/temporal.db. Ctrl-C drains and stops everything.
    """
    from temporal_fleet.dev import DevOptions, develop

    if options["server"] and any(options[name] for name in _OF_OUR_SERVER):
        raise click.UsageError(
            "--port, --ui-port, --headless, --reset and --search-attribute are for the server that "
            "is started; leave them out with --server"
        )
    return develop(DevOptions(reload=not no_reload, **options))
