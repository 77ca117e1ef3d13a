"""``fleet worker``: one worker, as it runs in production."""

from __future__ import annotations

import click

from temporal_fleet.cli.command import Command, complete_workload


@click.command(
    cls=Command,
    examples=[
        ("fleet worker orders", "serve the task queue of the workload orders"),
        ("TEMPORAL_ADDRESS=temporal:7233 fleet worker orders", "connect to another server"),
        ("FLEET_HEALTH_PORT=0 fleet worker orders", "any free port for probes and metrics"),
    ],
)
@click.argument("workload", required=False, shell_complete=complete_workload)
def worker(workload: str | None) -> None:
    """Run the worker of one workload until SIGTERM or SIGINT.

    WORKLOAD is the name of an installed workload; `fleet list` shows them. It may be left out where
    only one is installed, as in an image. Settings come from environment variables;
    `fleet settings show` lists them. The first signal drains: no new work, running activities may
    finish. A second one shortens that.
    """
    from temporal_fleet.worker.first_process import reap_as_process_1

    reap_as_process_1()
    import gc

    # Imports make much that lives forever; looking through it again and again is a tenth of a start.
    gc.disable()
    import temporal_fleet.telemetry.logs  # noqa: F401 - first: it keeps structlog from importing rich
    from temporal_fleet.leaving import leave
    from temporal_fleet.settings import load_settings
    from temporal_fleet.worker.process import run_worker

    leave(run_worker(workload or _only_workload(), load_settings()))


def _only_workload() -> str:
    from temporal_fleet.workload import discover

    installed = list(discover())
    if len(installed) != 1:
        raise click.UsageError(
            "WORKLOAD may be left out only where one workload is installed; installed: "
            f"{', '.join(installed) or 'none'}"
        )
    return installed[0]
