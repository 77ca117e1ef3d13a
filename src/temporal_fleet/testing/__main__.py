"""``python -m temporal_fleet.testing record``: histories of finished workflows for replay tests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import click

from temporal_fleet.errors import FleetError
from temporal_fleet.leaving import run_program
from temporal_fleet.testing import record_histories


@click.group(help="Tools for authors of workloads.")
def tools() -> None:
    """Group the commands."""


@tools.command(
    help="Write the histories of WORKFLOW_IDS to DIRECTORY, for replay tests. Server, credentials and "
    "payload keys are those of the environment, as for every command."
)
@click.option("--address", help="Server; overrides TEMPORAL_ADDRESS.")
@click.option("--namespace", help="Its namespace; overrides TEMPORAL_NAMESPACE.")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.argument("workflow_ids", nargs=-1, required=True)
def record(
    address: str | None, namespace: str | None, directory: Path, workflow_ids: tuple[str, ...]
) -> None:
    """Record histories."""
    overrides = {"address": address, "namespace": namespace}
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        files = asyncio.run(_record(given, workflow_ids, directory))
    except FleetError as error:
        raise click.ClickException(str(error)) from error
    for file in files:
        click.echo(file)


async def _record(
    overrides: dict[str, str], workflow_ids: Sequence[str], directory: Path
) -> list[Path]:
    from temporalio.runtime import Runtime

    from temporal_fleet.client.connection import Connector, default_identity
    from temporal_fleet.payloads import data_converter
    from temporal_fleet.settings import load_settings

    settings = load_settings().settings
    temporal = settings.temporal.model_copy(update=overrides)
    connector = Connector(
        settings=settings.model_copy(update={"temporal": temporal}),
        runtime=Runtime.default(),
        identity=default_identity("fleet"),
        data_converter=data_converter(settings.codec),
    )
    return await record_histories(await connector.connect(), workflow_ids, directory)


if __name__ == "__main__":
    run_program(tools)
