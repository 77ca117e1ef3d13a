"""Runs the whole reference fleet on this machine and processes ``examples/orders.jsonl``.

It starts a Temporal server, the workers of all installed workloads as separate processes, and one workflow
per order; then it prints the outcome of the orders and whether the money adds up. In a terminal it stays
up until Ctrl-C, so you can look at the workflows; otherwise it drains and ends.

Exit codes: 0 = every order is final and the books balance, 1 = they do not, 3 = something could not be
started, 130 = interrupted.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import IO

from temporalio.client import Client, WorkflowExecutionStatus

from fleet_orders.models import OrderOutcome
from fleet_payments.audit import books
from fleet_payments.models import Books
from fleet_payments.settings import PaymentSettings
from temporal_fleet.dev import Launcher, Workers, prepared_launcher, running_workers
from temporal_fleet.dev.lock import DEFAULT_DIRECTORY
from temporal_fleet.dev.server import EmbeddedServer, embedded_server
from temporal_fleet.errors import ExitCode, FleetError
from temporal_fleet.leaving import run_program
from temporal_fleet.output import ProgressLine, console, short_duration, table
from temporal_fleet.settings import load_model
from temporal_fleet.starting import LineResult, StartReport, read_lines, start_all
from temporal_fleet.workload import declared_search_attributes, discover, load_workload

ORDERS = Path(__file__).with_name("orders.jsonl")
ALL_FINAL_WITHIN = timedelta(seconds=180)
"""Orders that are not final this long after the last start count as failed."""
INTERRUPTED = 130


@dataclass
class Group:
    """Orders with the same outcome."""

    durations: list[float] = field(default_factory=list)
    captured: int = 0
    refunded: int = 0


def main() -> int:
    """Run everything; returns the exit code."""
    try:
        return asyncio.run(_run())
    except FleetError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


async def _run() -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        story = asyncio.create_task(_process(stack))
        asked = asyncio.create_task(stop.wait())
        await asyncio.wait((story, asked), return_when=asyncio.FIRST_COMPLETED)
        if not story.done():
            story.cancel()
            await asyncio.wait((story,))
            sys.stderr.write("interrupted; draining. Run it again to go on\n")
            return INTERRUPTED
        code = story.result()
        if sys.stdout.isatty():
            console().print("\nThe fleet stays up. [bold]Ctrl-C[/bold] drains and stops it.")
            await asked
        return code


async def _process(stack: AsyncExitStack) -> int:
    entries = discover()
    launcher = await stack.enter_async_context(prepared_launcher(entries))
    server = await stack.enter_async_context(
        embedded_server(search_attributes=declared_search_attributes(discover()))
    )
    workers = await _start_workers(stack, entries, launcher, server)
    found: list[LineResult] = []
    report = await _start_orders(server.client, found)
    outcomes = {each.workflow_id or "": each.result for each in found if each.outcome}
    others = await _other_orders(server.client, set(outcomes))
    audit = await books(load_model(PaymentSettings).database_url)

    _print_outcomes(found)
    balanced = _print_money([*outcomes.values(), *others], audit)
    _print_lines(found)
    _print_places(server, workers)
    final = all(isinstance(each, OrderOutcome) for each in outcomes.values())
    return ExitCode.OK if final and outcomes and report_ok(report) and balanced else ExitCode.CRASH


def report_ok(report: StartReport) -> bool:
    """Say whether every order that was accepted has ended; rejected lines are expected here."""
    return report.lines - report.counts.total() == 0 and not report.outcomes["still running"]


async def _start_workers(
    stack: AsyncExitStack,
    entries: Mapping[str, EntryPoint],
    launcher: Awaitable[Launcher],
    server: EmbeddedServer,
) -> Workers:
    wanted = server.environment()
    environment: dict[str, str | None] = {name: None for name in os.environ if name not in wanted}
    environment["TEMPORAL_CONFIG_FILE"] = wanted["TEMPORAL_CONFIG_FILE"]
    logs = DEFAULT_DIRECTORY / "logs"
    write_log = stack.enter_context(_worker_logs(logs))
    workers = await stack.enter_async_context(
        running_workers(
            entries,
            environment,
            launcher,
            say=lambda text: _warn(text) if text.startswith("✗") else None,
            print_line=write_log,
        )
    )
    await workers.ready()
    if workers.failed:
        name = workers.failed[0]
        log = (logs / f"{name}.log").read_text()[-2000:]
        raise FleetError(f"the worker of {name} did not start; the end of its log:\n{log}")
    return workers


def _warn(text: str) -> None:
    sys.stderr.write(f"{text}\n")


@contextmanager
def _worker_logs(directory: Path) -> Iterator[Callable[[str, str], None]]:
    """Yield what writes a line of a worker into the file of its own."""
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        files: dict[str, IO[str]] = {}

        def write(name: str, line: str) -> None:
            if name not in files:
                files[name] = stack.enter_context((directory / f"{name}.log").open("w"))
            files[name].write(line)
            files[name].flush()

        yield write


async def _start_orders(client: Client, found: list[LineResult]) -> StartReport:
    workload = load_workload("orders")
    report = StartReport()
    total = len(ORDERS.read_bytes().splitlines())
    with ProgressLine(total) as progress:

        def on_line(result: LineResult) -> None:
            found.append(result)
            counted = ", ".join(f"{n} {name}" for name, n in sorted(report.outcomes.items()))
            progress.update(len(found), f"{len(found)} of {total} orders  {counted}")

        return await start_all(
            client,
            workload,
            read_lines(ORDERS),
            wait=True,
            wait_timeout=ALL_FINAL_WITHIN,
            on_line=on_line,
            report=report,
        )


async def _other_orders(client: Client, known: set[str]) -> list[object]:
    """Return outcomes of orders that somebody else started: their money is in the ledger, too."""
    others = []
    async for each in client.list_workflows("WorkflowType = 'OrderWorkflow'"):
        if each.id not in known and each.status is WorkflowExecutionStatus.COMPLETED:
            handle = client.get_workflow_handle(each.id, result_type=OrderOutcome)
            others.append(await handle.result())
    return others


def _print_outcomes(found: Sequence[LineResult]) -> None:
    groups: dict[str, Group] = defaultdict(Group)
    for each in found:
        if each.outcome is None:
            continue
        group = groups[_name(each)]
        if each.duration is not None:
            group.durations.append(each.duration.total_seconds())
        if isinstance(each.result, OrderOutcome):
            group.captured += each.result.captured_minor
            group.refunded += each.result.refunded_minor
    columns = ("OUTCOME", "ORDERS", "MEDIAN", "LONGEST", "CAPTURED", "REFUNDED")
    rows = [_row(name, groups[name]) for name in sorted(groups, key=_rank)]
    rows.append(_row("all", _sum(groups)))
    console().print(table(columns, rows, right=columns[1:]))


def _name(each: LineResult) -> str:
    reason = each.result.reason if isinstance(each.result, OrderOutcome) else None
    return f"{each.outcome}: {reason.replace('_', ' ')}" if reason else str(each.outcome)


def _rank(name: str) -> tuple[bool, str]:
    return (name != "fulfilled", name)


def _sum(groups: Mapping[str, Group]) -> Group:
    return Group(
        [duration for group in groups.values() for duration in group.durations],
        sum(group.captured for group in groups.values()),
        sum(group.refunded for group in groups.values()),
    )


def _row(name: str, group: Group) -> tuple[str, ...]:
    durations = group.durations
    return (
        name,
        str(len(durations)),
        short_duration(timedelta(seconds=statistics.median(durations))) if durations else "-",
        short_duration(timedelta(seconds=max(durations))) if durations else "-",
        _money(group.captured),
        _money(group.refunded),
    )


def _money(minor: int) -> str:
    return f"{minor / 100:,.2f}"


def _print_money(outcomes: Sequence[object], audit: Books) -> bool:
    """Print whether orders and ledger agree about the money; returns that."""
    orders = [each for each in outcomes if isinstance(each, OrderOutcome)]
    captured = sum(order.captured_minor for order in orders)
    refunded = sum(order.refunded_minor for order in orders)
    problems = list(audit.problems)
    if (captured, refunded) != (audit.captured_minor, audit.refunded_minor):
        problems.append(
            f"orders say captured {_money(captured)} and refunded {_money(refunded)}, the ledger says "
            f"{_money(audit.captured_minor)} and {_money(audit.refunded_minor)}"
        )
    screen = console()
    screen.print(
        f"\nLedger ({audit.currency}): captured {_money(audit.captured_minor)} in {audit.charges} charges"
        f" - refunded {_money(audit.refunded_minor)} in {audit.refunds}"
        f" = net {_money(audit.net_minor)}"
    )
    if not problems:
        screen.print("Books balance: [bold green]yes[/bold green], orders and ledger agree")
    else:
        screen.print("Books balance: [bold red]no[/bold red]")
    for problem in problems:
        screen.print(f"  {problem}", markup=False)
    return not problems


def _print_lines(found: Sequence[LineResult]) -> None:
    screen = console()
    already = sum(each.status == "already there" for each in found)
    if already:
        screen.print(f"{already} orders were there from an earlier run and were not started again")
    for each in sorted(found, key=lambda result: result.line):
        if each.reason is not None:
            text = f"Line {each.line} {each.status}: {each.reason}"
            screen.print(text, markup=False, style="yellow")


def _print_places(server: EmbeddedServer, workers: Workers) -> None:
    screen = console()
    if server.ui_url:
        screen.print(f"\nTemporal UI      {server.ui_url}/namespaces/default/workflows")
    screen.print(f"Temporal server  {server.address}")
    for name, workload in workers.workloads.items():
        screen.print(
            f"Worker {name:<9} http://127.0.0.1:{workload.health_port}/readyz?verbose"
            f"  log {DEFAULT_DIRECTORY}/logs/{name}.log"
        )


if __name__ == "__main__":
    run_program(main)
