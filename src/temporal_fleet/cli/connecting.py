"""A client for commands that look at the server or start something, and go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from temporalio.client import Client

    from temporal_fleet.settings import LoadedSettings, Settings
    from temporal_fleet.versioning import Place

_DEADLINE = timedelta(seconds=10)
"""How long a person waits for a server; a worker waits longer for one that is being started."""
_SAY_INTERVAL = timedelta(seconds=30)


def with_client(
    use: Callable[[Client], Awaitable[None]],
    *,
    deadline: timedelta | None = None,
    place: Place | None = None,
) -> None:
    """Connect as the settings say and run *use* with the client.

    Args:
        use: What to do with the client.
        deadline: How long to try to connect, unless the settings say; None = as long as a person waits.
        place: Whose server and namespace to use instead of those of the settings.

    Raises:
        SettingsError: When settings are wrong.
        ConnectionFailedError: When the server cannot be reached.
    """
    from temporal_fleet.settings import load_settings
    from temporal_fleet.telemetry.logs import configure_logging

    loaded = load_settings()
    settings = _for_commands(loaded, _DEADLINE if deadline is None else deadline)
    there = None
    if place:
        there = {"address": place.address, "namespace": place.namespace}
    elif loaded.provenance["temporal.address"] == "default":
        there = {"address": _address_here(settings.temporal.address)}
    if there:
        settings = settings.model_copy(
            update={"temporal": settings.temporal.model_copy(update=there)}
        )
    configure_logging(settings.log, workload="fleet", deployment="fleet", build_id=None)
    asyncio.run(_use(settings, use))


def _address_here(default: str) -> str:
    """Return the address of the server of `fleet dev` in this directory, else the default; says which."""
    from temporal_fleet.dev.lock import running_server

    found = running_server()
    why = "of fleet dev in this directory" if found else "the default: TEMPORAL_ADDRESS is not set"
    click.echo(f"Temporal server {found or default} ({why})", err=True)
    return found or default


async def _use(settings: Settings, use: Callable[[Client], Awaitable[None]]) -> None:
    from temporal_fleet.client.connection import Connector, default_identity
    from temporal_fleet.payloads import data_converter
    from temporal_fleet.telemetry.metrics.core import build_runtime

    # Not the SDK's default, whose core logs to standard output, in the midst of results.
    runtime, _ = build_runtime(settings, workload="fleet")
    connector = Connector(
        settings=settings,
        runtime=runtime,
        identity=settings.connection.identity or default_identity("fleet"),
        data_converter=data_converter(settings.codec),
        on_failure=_Waiting(settings.temporal.address),
    )
    await use(await connector.connect())


class _Waiting:
    """Tells people what is waited for: at once when the reason changes, and now and then after that."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._began = time.monotonic()
        self._reason, self._said = "", 0.0

    def __call__(self, reason: str) -> None:
        now = time.monotonic()
        if reason == self._reason and now - self._said < _SAY_INTERVAL.total_seconds():
            return
        self._reason, self._said = reason, now
        click.echo(
            f"{now - self._began:6.1f} s  waiting for Temporal at {self._address}: {reason}",
            err=True,
        )


def _for_commands(loaded: LoadedSettings, deadline: timedelta) -> Settings:
    """Return the settings with other defaults where nobody has set them, and without metrics."""
    settings = loaded.settings
    connection, log = settings.connection, settings.log
    if loaded.provenance["connection.deadline"] == "default":
        tried = max(deadline, connection.attempt_timeout)
        connection = connection.model_copy(update={"deadline": tried})
    if loaded.provenance["log.level"] == "default":
        log = log.model_copy(update={"level": "WARNING"})
    metrics = settings.metrics.model_copy(update={"enabled": False})
    changed = {"connection": connection, "log": log, "metrics": metrics}
    return settings.model_copy(update=changed)
