"""``fleet settings``: what is set, where it was set, and what could be set."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import click

from temporal_fleet.cli.command import Command, Group, complete_workload, output_option

if TYPE_CHECKING:
    from temporal_fleet.settings.reference import SettingRow


@click.group(
    cls=Group,
    examples=[
        ("fleet settings show", "every setting, its value and where it came from"),
        ("fleet settings docs", "the reference of all settings"),
    ],
)
def settings() -> None:
    """Show settings: those in effect, or all that exist."""


@settings.command(
    "show",
    cls=Command,
    examples=[
        ("fleet settings show", "all settings of the runtime"),
        ("fleet settings show payments", "the same, and those of the workload payments"),
        ("fleet settings show --changed", "only those that somebody set"),
        ("fleet settings show --output json", "for programs"),
    ],
)
@click.argument("workload", required=False, shell_complete=complete_workload)
@click.option("--changed", is_flag=True, help="Leave out those that have their default.")
@output_option
def show(workload: str | None, changed: bool, output: str) -> None:
    """Show the value of each setting and where it came from; secrets are masked.

    With WORKLOAD, the settings of that workload follow those of the runtime.
    """
    from temporal_fleet.output import console, print_json, table
    from temporal_fleet.settings import load_settings
    from temporal_fleet.settings.reference import rows

    found = rows(load_settings()) + (_workload_rows(workload) if workload else [])
    if changed:
        found = [row for row in found if not row.source.startswith("default")]
    if output == "json":
        print_json(found)
        return
    columns = ("SETTING", "VALUE", "UNIT", "FROM")
    cells = [(row.env, row.value_masked, row.unit, row.source) for row in found]
    console().print(table(columns, cells))


@settings.command(
    "docs",
    cls=Command,
    examples=[("fleet settings docs > settings.md", "write the reference to a file")],
)
def docs() -> None:
    """Print the reference of all settings as Markdown."""
    from temporal_fleet.settings.reference import reference_markdown

    click.echo(reference_markdown().rstrip())


def _workload_rows(name: str) -> list[SettingRow]:
    from temporal_fleet.settings.fields import setting_fields
    from temporal_fleet.settings.loading import load_model_with_provenance
    from temporal_fleet.settings.reference import SettingRow, description
    from temporal_fleet.workload import load_workload

    model: Any = load_workload(name).settings
    if model is None:
        return []
    loaded, provenance = load_model_with_provenance(model)
    return [
        SettingRow(
            path=path,
            env=field.env,
            value_masked=field.show(reduce(getattr, path.split("."), loaded)),
            source=provenance[path],
            default=field.default_text,
            unit=field.unit,
            description=description(field),
            type=field.type_text,
        )
        for path, field in setting_fields(model).items()
    ]
