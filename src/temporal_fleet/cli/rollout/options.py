"""What the commands of ``fleet rollout`` share: options, files, a server, and asking before a change."""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import click

from temporal_fleet.cli.command import FunctionT
from temporal_fleet.cli.duration import DURATION

if TYPE_CHECKING:
    from temporalio.client import Client

    from temporal_fleet.rollout import Server
    from temporal_fleet.versioning import DesiredDeployment, Place

ResultT = TypeVar("ResultT")

_POLLER_TIMEOUT = timedelta(minutes=4)


def routing_option(*, required: bool) -> Callable[[FunctionT], FunctionT]:
    """Add ``--routing FILE``."""
    return click.option(
        "--routing",
        metavar="FILE",
        required=required,
        help="routing.json of a release, or the ConfigMap that holds it as JSON; - = standard input.",
    )


def task_queue_option(function: FunctionT) -> FunctionT:
    """Add ``--task-queue``."""
    return click.option(
        "--task-queue",
        "task_queues",
        metavar="NAME",
        multiple=True,
        help="Where to look for unversioned workers, beside the task queues that builds have "
        "registered and the one named as the Worker Deployment.",
    )(function)


def change_options(function: FunctionT) -> FunctionT:
    """Add what every command has that changes the routing."""
    function = click.option("--yes", is_flag=True, help="Do not ask.")(function)
    return click.option(
        "--poller-timeout",
        type=DURATION,
        default=_POLLER_TIMEOUT,
        show_default="4m",
        help="Longest wait until a build is polled.",
    )(function)


def risk_options(function: Callable[..., ResultT]) -> Callable[..., ResultT]:
    """Add what lets a change do to task queues what is refused otherwise, as ``accepted``."""

    @click.option(
        "--allow-missing-task-queues",
        "missing",
        is_flag=True,
        help="Route to a build that lacks task queues of the current build.",
    )
    @click.option(
        "--allow-shared-task-queues",
        "shared",
        is_flag=True,
        help="Take new work from another Worker Deployment at the same task queue.",
    )
    @functools.wraps(function)
    def gather(*, missing: bool, shared: bool, **others: object) -> ResultT:
        from temporal_fleet.versioning import Risk

        risks = {Risk.MISSING_TASK_QUEUES: missing, Risk.SHARED_TASK_QUEUES: shared}
        return function(accepted=frozenset(each for each in risks if risks[each]), **others)

    return gather


def require_person(*, yes: bool) -> None:
    """Fail when a question would have to be asked and nobody is there."""
    if not yes and not sys.stdin.isatty():
        raise click.UsageError(
            "confirmation is needed, but standard input is not a terminal; pass --yes"
        )


def confirm(question: str, *, yes: bool) -> bool:
    """Return whether to go on; Ctrl-C ends the command at once."""
    if yes:
        return True
    # The event loop's handler would only cancel a task, which cannot notice while this waits for a key.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return click.confirm(question)
    except click.Abort:
        click.echo("\nnothing was changed", err=True)
        raise
    finally:
        signal.signal(signal.SIGINT, before)


def read_routing_file(path: str, *, may_be_empty: bool = False) -> Mapping[str, DesiredDeployment]:
    """Return what a routing file desires, by key of the task queue; see `read_routing`."""
    from temporal_fleet.rollout.routing_file import read_routing

    return read_routing(path, may_be_empty=may_be_empty)


def with_server(
    use: Callable[[Server], Awaitable[ResultT]],
    *,
    patience: timedelta | None = None,
    place: Place | None = None,
) -> ResultT:
    """Connect as the settings say and run *use* with the server.

    Args:
        use: What to do.
        patience: How long the server may be away or busy; None = as long as a person waits.
        place: Whose server and namespace to use instead of those of the settings.

    Returns:
        What *use* returned.

    Raises:
        SettingsError: When settings are wrong.
        ConnectionFailedError: When the server cannot be reached, refuses us, or has no such namespace.
    """
    from temporalio.service import RPCError

    from temporal_fleet.cli.connecting import with_client
    from temporal_fleet.rollout import PATIENCE, Server

    results: list[ResultT] = []

    async def run(client: Client) -> None:
        server = Server(client, patience=PATIENCE if patience is None else patience)
        await server.check_namespace()
        results.append(await use(server))

    try:
        with_client(run, deadline=patience, place=place)
    except RPCError as error:
        message = f"the server refuses a call: {error.message} ({error.status.name})"
        raise click.ClickException(message) from error
    return results[0]
