"""``fleet start``: one workflow for each line of a file."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from temporal_fleet.cli.command import Command, output_option, workload_argument
from temporal_fleet.cli.duration import DURATION

if TYPE_CHECKING:
    from temporalio.client import Client

    from temporal_fleet.starting import LineResult, StartReport
    from temporal_fleet.workload import Workload

_REJECTED_SHOWN = 20

TERMINATED = 143
"""Exit code after SIGTERM, as shells have it: 128 and the number of the signal."""


@dataclass(frozen=True, kw_only=True)
class _Options:
    start: str | None
    rate: float | None
    concurrency: int
    wait: bool
    timeout: timedelta | None
    output: str


@click.command(
    cls=Command,
    examples=[
        (
            "fleet start orders orders.jsonl --wait",
            "start every line, show how the workflows ended",
        ),
        ("fleet start orders orders.jsonl --rate 50", "at most 50 starts per second"),
        ("fleet start orders refunds.jsonl --start refund", "one of several starts, by its name"),
        ("zcat old.gz | fleet start orders -", "read standard input"),
        ("fleet start orders orders.jsonl --output json", "one JSON object per line, summary last"),
    ],
)
@workload_argument
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--start",
    metavar="NAME",
    help="Which of the workload's starts; `fleet list` shows their names. Omit it for the only one.",
)
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Most starts per second.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1000),
    default=50,
    show_default=True,
    help="Most starts under way at once.",
)
@click.option("--wait", is_flag=True, help="Wait for the results and count the outcomes.")
@click.option(
    "--timeout",
    type=DURATION,
    help="Longest wait for results after the last start; with --wait.",
)
@output_option
def start(workload: str, file: str, **options: Any) -> int:
    """Start one workflow for each line of FILE, as WORKLOAD declares it.

    FILE holds one JSON object per line; `-` is standard input. A line that is not what the workload
    takes is reported with its number, and the other lines are started. Starting a file again continues where it
    was interrupted: a workflow that is already there, running or finished, is left alone.

    The exit code is 1 when a line was rejected or a workflow failed.
    """
    import asyncio

    from temporal_fleet.cli.connecting import with_client
    from temporal_fleet.errors import ExitCode
    from temporal_fleet.starting import StartReport, choose_start
    from temporal_fleet.workload import load_workload

    wanted = _Options(**options)
    if wanted.timeout is not None and not wanted.wait:
        raise click.UsageError("--timeout limits the wait for results: add --wait")
    loaded = load_workload(workload)
    choose_start(loaded, wanted.start)
    path = None if file == "-" else Path(file)
    report = StartReport()
    reached = False

    async def use(client: Client) -> None:
        nonlocal reached
        reached = True
        task = asyncio.current_task()
        assert task
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await _run(client, loaded, path, wanted, report)

    try:
        with_client(use)
    except asyncio.CancelledError:
        return TERMINATED
    finally:
        # After a signal or a lost server, too: what was started stays started.
        if reached:
            _print_summary(report, wanted)
    return ExitCode.OK if report.ok else ExitCode.CRASH


async def _run(
    client: Client,
    workload: Workload[Any, Any],
    path: Path | None,
    options: _Options,
    report: StartReport,
) -> None:
    from temporal_fleet.output import ProgressLine
    from temporal_fleet.settings import load_settings
    from temporal_fleet.starting import read_lines, start_all

    total = path.stat().st_size if path else None  # noqa: ASYNC240 - once, before anything runs
    with ProgressLine(total) as progress:
        await start_all(
            client,
            workload,
            read_lines(path),
            start=options.start,
            task_queue=load_settings().settings.worker.task_queue,
            rate=options.rate,
            concurrency=options.concurrency,
            wait=options.wait,
            wait_timeout=options.timeout,
            on_line=_on_line(report, progress.update, options.output),
            report=report,
        )


def _on_line(
    report: StartReport, show: Callable[[int, str], None], output: str
) -> Callable[[LineResult], None]:
    from temporal_fleet.output import print_json

    def on_line(result: LineResult) -> None:
        if output == "json":
            print_json({k: v for k, v in vars(result).items() if v is not None}, indent=None)
        show(report.bytes_read, _counts(report))

    return on_line


def _counts(report: StartReport) -> str:
    shown = [f"{count} {status.value}" for status, count in report.counts.items() if count]
    shown += [f"{count} {outcome}" for outcome, count in report.outcomes.items()]
    return ", ".join(shown)


def _print_summary(report: StartReport, options: _Options) -> None:
    from temporal_fleet.output import console, print_json, short_duration

    if options.output == "json":
        print_json({"summary": report.summary()}, indent=None)
        return
    screen = console()
    for result in report.rejected[:_REJECTED_SHOWN]:
        screen.print(f"line {result.line} {result.status}: {result.reason}", markup=False)
    if (more := len(report.rejected) - _REJECTED_SHOWN) > 0:
        screen.print(f"and {more} more; --output json lists all")
    facts = [_counts(report) or "nothing to start", f"in {short_duration(report.elapsed)}"]
    if latency := report.summary()["start_latency_seconds"]:
        p50, p95 = (short_duration(timedelta(seconds=latency[name])) for name in ("p50", "p95"))
        facts.append(f"start latency p50 {p50}, p95 {p95}")
    screen.print("; ".join(facts), markup=False)
