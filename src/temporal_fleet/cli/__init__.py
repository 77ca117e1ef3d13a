"""The ``fleet`` command: arguments in, one call, exit code out.

Each command imports what it needs when it runs: ``fleet --help`` must answer at once, and a worker
must not carry what only people look at.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from temporal_fleet.cli.command import Group, Invocation
from temporal_fleet.cli.completion import completion
from temporal_fleet.cli.dev import dev
from temporal_fleet.cli.listing import list_workloads
from temporal_fleet.cli.rollout import rollout
from temporal_fleet.cli.settings import settings
from temporal_fleet.cli.start import start
from temporal_fleet.cli.task_queue import queue
from temporal_fleet.cli.worker import worker
from temporal_fleet.errors import ExitCode, FleetError
from temporal_fleet.leaving import leave
from temporal_fleet.stop_signals import INTERRUPTED

__all__ = ["fleet", "main"]


def _print_version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if not value:
        return
    from importlib.metadata import version

    from temporal_fleet import __version__

    python = ".".join(str(part) for part in sys.version_info[:3])
    click.echo(
        f"temporal-fleet {__version__} (temporalio {version('temporalio')}, Python {python})"
    )
    context.exit()


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    examples=[
        ("fleet dev", "Temporal server and all workloads, restarted when their code changes"),
        (
            "fleet start orders orders.jsonl --wait",
            "start one workflow per line, show the outcomes",
        ),
        ("fleet worker orders", "one worker, as it runs in production"),
    ],
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the versions of temporal-fleet, temporalio and Python.",
)
@click.pass_obj
def fleet(invocation: Invocation, debug: bool) -> None:
    """Run Temporal Python workers as a fleet."""
    invocation.debug = debug


for _command in (dev, worker, list_workloads, start, queue, rollout, settings, completion):
    fleet.add_command(_command)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command and end the process with its exit code.

    Args:
        args: Command line without the program's name; None = that of this process.
    """
    leave(run(args))


def run(args: Sequence[str] | None = None) -> int:
    """Run the command; errors are printed.

    Args:
        args: Command line without the program's name; None = that of this process.

    Returns:
        The exit code.
    """
    invocation = Invocation()
    try:
        arguments = None if args is None else list(args)
        code = fleet.main(arguments, prog_name="fleet", standalone_mode=False, obj=invocation)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.exceptions.Abort:
        return INTERRUPTED
    except FleetError as error:
        if invocation.debug:
            traceback.print_exc()
        click.echo(f"fleet: {error}", err=True)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has seen enough, as in `fleet list | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.CRASH
    except Exception:  # noqa: BLE001 - a mistake of ours: the traceback is what a report needs
        traceback.print_exc()
        return ExitCode.CRASH
    return int(code or ExitCode.OK)
