"""Opens a workload's resources: patient while a database is away, at once about what trying cannot mend."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack
from typing import Any

import structlog

from temporal_fleet.errors import FleetError
from temporal_fleet.settings.connection import ConnectionSettings
from temporal_fleet.workload import ResourceContext, Workload

log = structlog.get_logger(__name__)

_PERMANENT = (
    FleetError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
)


def may_pass(error: Exception) -> bool:
    """Tell whether opening resources again can help.

    Mistakes in code and settings stay. All else may pass, since every library has its own exceptions for a
    server that is away; a refused password too, as a secret may be updated later than this process starts.

    Args:
        error: What the workload's ``resources`` raised.
    """
    if isinstance(error, ExceptionGroup):
        return all(may_pass(each) for each in error.exceptions)
    # First, as a certificate that is not accepted is both an OSError and a ValueError.
    return isinstance(error, OSError) or not isinstance(error, _PERMANENT)


async def open_resources(
    stack: AsyncExitStack,
    workload: Workload[Any, Any],
    context: ResourceContext[Any],
    *,
    began: float,
) -> object:
    """Open the resources of *workload*; *stack* closes them.

    Args:
        stack: What closes them.
        workload: Whose resources they are.
        context: What they are opened with; ``context.fleet.connection`` says how long to try.
        began: When the start of the worker began, by ``time.monotonic()``; the deadline counts from then, so
            that a pod gives up before its startup probe does.

    Returns:
        The resources; None when the workload declares none.

    Raises:
        Exception: What the last attempt raised, when the deadline passed or trying again cannot help.
    """
    if workload.resources is None:
        return None
    patience = context.fleet.connection
    attempt, wait = 0, patience.backoff_initial.total_seconds()
    while True:
        attempt += 1
        try:
            resources: object = await stack.enter_async_context(workload.resources(context))
        except Exception as error:
            # Full jitter: workers that lost the same database do not come back all at once.
            pause = random.uniform(0, wait)  # noqa: S311 - no secret
            if not may_pass(error):
                raise
            if time.monotonic() - began + pause >= patience.deadline.total_seconds():
                error.add_note(_given_up(attempt, patience))
                raise
            log.warning(
                "resources could not be opened",
                attempt=attempt,
                reason=" ".join(f"{type(error).__name__}: {error}".split()),
                retry_in_seconds=round(pause, 2),
            )
        else:
            stack.callback(log.info, "closing resources")
            return resources
        await asyncio.sleep(pause)
        wait = min(wait * 2, patience.backoff_maximum.total_seconds())


def _given_up(attempts: int, patience: ConnectionSettings) -> str:
    noun = "attempt" if attempts == 1 else "attempts"
    return (
        f"The workload's resources could not be opened; given up after {attempts} {noun}, as the worker has "
        f"{patience.deadline.total_seconds():g} s to start (FLEET_CONNECTION_DEADLINE_SECONDS)"
    )
