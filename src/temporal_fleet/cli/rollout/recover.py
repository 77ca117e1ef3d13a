"""``fleet rollout recover``: moves open pinned runs off a bad build."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from temporal_fleet.cli.command import Command, output_option
from temporal_fleet.cli.rollout.options import confirm, require_person, with_server

if TYPE_CHECKING:
    from temporal_fleet.rollout import Recovery, RecoveryReport, RunResult, Server
    from temporal_fleet.versioning import ObservedDeployment, OpenRun

_SHOWN = 20


@click.command(
    cls=Command,
    examples=[
        (
            "fleet rollout recover orders --from 1.5.0 --to 1.4.0 --dry-run",
            "show what would be moved",
        ),
        (
            "fleet rollout recover orders --from 1.5.0 --reset last-workflow-task",
            "restart on the current build, from the last workflow task that was completed",
        ),
        (
            "fleet rollout recover orders --from 1.5.0 --auto-upgrade "
            "--query \"WorkflowType = 'Order'\"",
            "only some; they follow the routing from now on",
        ),
    ],
)
@click.argument("deployment")
@click.option("--from", "bad_build", metavar="BUILD_ID", required=True, help="The bad build.")
@click.option("--to", metavar="BUILD_ID", help="Pin the runs to this build instead.")
@click.option("--auto-upgrade", is_flag=True, help="Let the runs follow the routing instead.")
@click.option(
    "--reset",
    type=click.Choice(["first-workflow-task", "last-workflow-task"]),
    help="Restart the runs from there, on the current build unless --to names another; "
    "activities after that point run again.",
)
@click.option("--query", metavar="FILTER", help="Only runs that match Temporal's list filter.")
@click.option("--dry-run", is_flag=True, help="Show what would be moved, and stop.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_option
def recover(
    *,
    deployment: str,
    bad_build: str,
    to: str | None,
    auto_upgrade: bool,
    reset: str | None,
    query: str | None,
    dry_run: bool,
    yes: bool,
    output: str,
) -> int:
    """Move open pinned runs off a bad build.

    Route new work away from it first: fleet rollout rollback. Runs continue unchanged on the other
    build, whose code must fit their history; or they are reset. A run counts as moved once that build
    has completed a workflow task of it; an idle run is handed over and moves with its next task. The
    exit code is 1 when a run could not be moved.
    """
    from temporal_fleet.rollout import Recovery, ResetTo

    if to and auto_upgrade:
        raise click.UsageError("--to and --auto-upgrade exclude each other")
    if not (to or auto_upgrade or reset):
        raise click.UsageError("say where to: --to BUILD_ID, --auto-upgrade, or --reset WHERE")
    require_person(yes=yes or dry_run)
    wanted = Recovery(
        deployment=deployment,
        bad_build=bad_build,
        to=to,
        reset=ResetTo(reset) if reset else None,
        query=query,
    )
    pins = not auto_upgrade

    async def use(server: Server) -> int:
        return await _recover(server, wanted, pins=pins, dry_run=dry_run, yes=yes, output=output)

    return with_server(use)


async def _recover(
    server: Server, wanted: Recovery, *, pins: bool, dry_run: bool, yes: bool, output: str
) -> int:
    from temporal_fleet.rollout import check_recovery, find_runs

    seen = await check_recovery(server, wanted)
    _warn_of_new_work(seen, wanted.bad_build)
    recovery = _completed(wanted, seen, pins=pins)
    runs = await find_runs(server, recovery)
    if output == "text":
        _print_runs(recovery, runs)
    if dry_run or not runs:
        if output == "json":
            _print_json(recovery, runs, None)
        elif runs:
            click.echo("dry run: nothing was changed")
        return 0
    if not confirm(f"Move {_number(len(runs))}?", yes=yes):
        click.echo("nothing was changed", err=True)
        return 1
    report = await _move(server, recovery, runs)
    if output == "json":
        _print_json(recovery, runs, report)
    else:
        await _print_report(server, recovery, report)
    return 1 if report.failures else 0


def _warn_of_new_work(seen: ObservedDeployment, bad_build: str) -> None:
    """Say so when runs are moved off a build that goes on getting new ones."""
    if bad_build == seen.routing.current:
        share = "is current, so new work still lands there"
    elif bad_build == seen.routing.ramping:
        share = f"is ramping, so {seen.routing.percentage:g} % of new work still lands there"
    else:
        return
    click.echo(
        f"warning: build ID '{bad_build}' {share}. Route it away first: "
        f"fleet rollout rollback {seen.deployment}",
        err=True,
    )


def _completed(wanted: Recovery, seen: ObservedDeployment, *, pins: bool) -> Recovery:
    """Return what is wanted, with the current build where a reset names none."""
    from dataclasses import replace

    if wanted.to is None and pins:
        return replace(wanted, to=seen.routing.current)
    return wanted


async def _move(server: Server, recovery: Recovery, runs: Sequence[OpenRun]) -> RecoveryReport:
    import asyncio

    from temporal_fleet.output import ProgressLine
    from temporal_fleet.rollout import RecoveryReport, recover_runs

    report = RecoveryReport()
    with ProgressLine(len(runs)) as progress:

        def on_result(result: RunResult) -> None:
            report.results.append(result)
            progress.update(len(report.results), _counts(report))

        try:
            await recover_runs(server, recovery, runs, on_result)
        except asyncio.CancelledError:
            click.echo(f"interrupted: {_counts(report)}; the same command continues", err=True)
            raise
    return report


def _print_runs(recovery: Recovery, runs: Sequence[OpenRun]) -> None:
    from temporal_fleet.output import console, table

    source = f"build ID '{recovery.bad_build}' of Worker Deployment '{recovery.deployment}'"
    if not runs:
        click.echo(f"no open run is pinned to {source}, as far as the list of runs knows")
        return
    click.echo(f"{_number(len(runs))} pinned to {source}; to do: {recovery.description}")
    rows = [
        (run.workflow_id, run.run_id, run.workflow_type, f"{run.started:%Y-%m-%d %H:%M:%S}")
        for run in runs[:_SHOWN]
    ]
    console().print(table(("WORKFLOW ID", "RUN ID", "TYPE", "STARTED (UTC)"), rows))
    if len(runs) > _SHOWN:
        types = Counter(run.workflow_type for run in runs)
        named = ", ".join(f"{count} {name}" for name, count in types.most_common())
        click.echo(f"and {len(runs) - _SHOWN} more; by type: {named}")


async def _print_report(server: Server, recovery: Recovery, report: RecoveryReport) -> None:
    import asyncio

    from temporal_fleet.rollout import LIST_LAG, Outcome, find_runs

    for result in report.failures[:_SHOWN]:
        run = result.run
        click.echo(f"{run.workflow_id} (run {run.run_id}) FAILED: {result.reason}", err=True)
    if (more := len(report.failures) - _SHOWN) > 0:
        click.echo(f"and {more} more; --output json lists all", err=True)
    click.echo(_counts(report))
    waiting = [each for each in report.results if each.outcome is Outcome.HANDED_OVER]
    for reason, count in Counter(each.reason for each in waiting).items():
        click.echo(f"{_number(count)} handed over, not moved yet: {reason}")
    await asyncio.sleep(LIST_LAG.total_seconds())
    left = await find_runs(server, recovery)
    click.echo(f"{_number(len(left))} left there")


def _print_json(recovery: Recovery, runs: Sequence[OpenRun], report: RecoveryReport | None) -> None:
    from temporal_fleet.output import print_json

    found: dict[str, Any] = {"recovery": recovery, "runs": runs, "results": [], "counts": {}}
    if report is not None:
        found |= {"results": report.results, "counts": report.counts}
    print_json(found)


def _counts(report: RecoveryReport) -> str:
    counts = report.counts.items()
    return ", ".join(f"{count} {outcome.replace('-', ' ')}" for outcome, count in counts)


def _number(count: int) -> str:
    return f"{count} open run{'' if count == 1 else 's'}"
