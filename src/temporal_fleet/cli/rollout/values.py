"""``fleet rollout next`` and ``fleet rollout prune``: edit the values file that a repository holds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from temporal_fleet.cli.command import Command, FunctionT

if TYPE_CHECKING:
    from temporal_fleet.rollout_values import Document, Kept
    from temporal_fleet.versioning import ObservedDeployment

_DEFAULT_PERCENTAGE = 10.0


def _file_options(function: FunctionT) -> FunctionT:
    options = (
        click.option(
            "--values",
            required=True,
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Values file to edit; comments, order and quotes stay.",
        ),
        click.option(
            "--path",
            "prefix",
            default="",
            metavar="KEYS",
            help="Keys above `queues`, such as the name of a subchart: fleet, or apps.fleet.",
        ),
        click.option("--dry-run", is_flag=True, help="Show the change without writing it."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command(
    "next",
    cls=Command,
    examples=[
        (
            "fleet rollout next --values values.yaml --queue orders --build 1.5.0-def",
            "add the build under a free key and let it ramp at 10 %",
        ),
        (
            "fleet rollout next --values values.yaml --queue orders --build 1.5.0-def --current",
            "add the build, or take the one that is there, and make it current",
        ),
    ],
)
@_file_options
@click.option("--queue", required=True, help="Key of the task queue in the values.")
@click.option("--build", "build_id", required=True, help="Build ID.")
@click.option("--key", help="Key of the build; otherwise blue or green in turn, or its build ID.")
@click.option(
    "--percentage",
    type=click.FloatRange(0, 100),
    help=f"Share of new work while it ramps; {_DEFAULT_PERCENTAGE:g} unless given.",
)
@click.option(
    "--current",
    "is_current",
    is_flag=True,
    help="Make it current, without a ramp; needed for the first build of a task queue.",
)
@click.option("--image-tag", help="Tag of its image; the build ID unless given.")
@click.option("--image-digest", help="Digest of its image.")
def next_build(
    *,
    values: Path,
    prefix: str,
    dry_run: bool,
    queue: str,
    build_id: str,
    key: str | None,
    percentage: float | None,
    is_current: bool,
    image_tag: str | None,
    image_digest: str | None,
) -> None:
    """Add a build to a values file and route new work to it.

    Nothing is asked of a server and nothing is installed: commit the file, and upgrade the release.
    """
    if is_current and percentage is not None:
        raise click.UsageError("--current and --percentage exclude each other")
    from temporal_fleet.rollout_values import NewBuild, add_build, read_document

    document = read_document(values)
    before = document.text
    new = NewBuild(
        queue=queue,
        build_id=build_id,
        key=key,
        percentage=_DEFAULT_PERCENTAGE if percentage is None else percentage,
        is_current=is_current,
        image_tag=image_tag,
        image_digest=image_digest,
    )
    told = add_build(document, new, _keys(prefix))
    _finish(document, before, values, told, dry_run=dry_run)


@click.command(
    "prune",
    cls=Command,
    examples=[
        ("fleet rollout prune --values values.yaml --dry-run", "show what could go, and what not"),
        ("fleet rollout prune --values values.yaml --queue orders", "one task queue only"),
    ],
)
@_file_options
@click.option("--queue", help="Key of the only task queue to look at; all unless given.")
def prune(values: Path, prefix: str, dry_run: bool, queue: str | None) -> None:
    """Remove builds from a values file that are drained.

    Builds that the routing in the file names stay, whatever the server says of them.
    """
    from temporal_fleet.rollout_values import find_candidates, prune_builds, read_document

    document = read_document(values)
    before = document.text
    candidates = find_candidates(document, queue, _keys(prefix))
    if not candidates:
        click.echo(
            "nothing to prune: the routing in the values names every build. If another build has since "
            "become current, update the values first: fleet rollout next --values "
            f"{values} --queue KEY --build BUILD_ID --current",
            err=True,
        )
        return
    observed = _observe({each.deployment for each in candidates})
    pruned = prune_builds(document, candidates, observed)
    told = [
        f"removed build '{each.key}' ({each.build_id}) of '{each.queue}': it is drained"
        for each in pruned.removed
    ]
    told.extend(line for each in pruned.kept for line in _explain(each))
    _finish(document, before, values, told, dry_run=dry_run)


def _keys(prefix: str) -> tuple[str, ...]:
    return tuple(key for key in prefix.split(".") if key)


def _observe(deployments: Collection[str]) -> Mapping[str, ObservedDeployment]:
    from temporalio.client import Client

    from temporal_fleet.cli.connecting import with_client
    from temporal_fleet.rollout import Server, observe

    found: dict[str, ObservedDeployment] = {}

    async def read(client: Client) -> None:
        server = Server(client)
        for deployment in sorted(deployments):
            found[deployment] = await observe(server, deployment)

    with_client(read)
    return found


def _explain(kept: Kept) -> list[str]:
    build = kept.candidate
    name = f"kept build '{build.key}' ({build.build_id}) of '{build.queue}'"
    return [f"{name}: {reason}" for reason in kept.reasons]


def _finish(
    document: Document, before: str, path: Path, told: Collection[str], *, dry_run: bool
) -> None:
    from temporal_fleet.rollout_values import diff, write_atomically

    for line in told:
        click.echo(line, err=True)
    click.echo(diff(before, document.text, path), nl=False)
    if document.text == before:
        return
    if dry_run:
        click.echo(f"{path} is not changed: this is a dry run", err=True)
    else:
        write_atomically(path, document.text)
        click.echo(f"{path} is changed: commit it and upgrade the release", err=True)
