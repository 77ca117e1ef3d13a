"""Repeatedly start a worker, stop it with SIGTERM while an activity runs, and check how it ends.

Each cycle is a fresh ``fleet worker`` process. SIGTERM is sent when its activity has started; the
activity needs much less time than the drain allows. So every cycle must end with exit code 0, and
the server must have got the result of the activity's first attempt. Execution models take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

# Python puts the folder of a script on the path, not the root of its package.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.harness import (
    POLLING_TIMEOUT,
    QUIET,
    BenchmarkError,
    Spread,
    WorkerProcess,
    as_json,
    fleet_command,
    fleet_environment,
    machine,
    run_benchmark,
    running,
)
from temporalio.client import Client, WorkflowHandle

from temporal_fleet.leaving import run_program
from temporal_fleet.testing import dev_server

MODELS = ("async", "thread", "process")


@dataclass(frozen=True)
class Outcome:
    """How one cycle ended."""

    model: str
    code: int | None
    """Exit code, negative for a signal; None when the worker did not get that far."""
    completed: bool
    """Whether the server has the result of the activity's first attempt."""
    stopped_after: float
    """Seconds from SIGTERM until the end of the process."""
    output: str
    """The end of what the worker wrote; empty when all went well."""

    @property
    def well(self) -> bool:
        """Whether the cycle went as it must."""
        return self.code == 0 and self.completed

    @property
    def name(self) -> str:
        """The exit code as the table tells it."""
        if self.code is None:
            return "did not end"
        return str(self.code) if self.code >= 0 else signal.Signals(-self.code).name


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--cycles", type=int, default=200, help="number of cycles (200)")
    add("--parallel", type=int, default=2, help="cycles running at once (2)")
    add("--model", choices=MODELS, action="append",
        help="execution model of the activity; may be repeated (all, in turn)")  # fmt: skip
    add("--left", type=float, default=0.4, help="seconds that activities take (0.4)")
    add("--time-limit", type=float, default=3600, help="seconds until it gives up (3600)")
    add("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args()


async def activity_started(marker: Path, worker: WorkerProcess) -> None:
    """Wait for the file that the activity touches first.

    Raises:
        BenchmarkError: When it does not appear in time.
    """
    deadline = time.monotonic() + POLLING_TIMEOUT
    while not marker.exists():
        if time.monotonic() > deadline or worker.process.returncode is not None:
            raise BenchmarkError("the activity did not start")
        await asyncio.sleep(0.01)


async def first_attempt_completed(handle: WorkflowHandle[Any, Any]) -> bool:
    """Tell whether the history holds the activity's completion, of attempt 1."""
    history = await handle.fetch_history()
    attempts = [
        event.activity_task_started_event_attributes.attempt
        for event in history.events
        if event.HasField("activity_task_started_event_attributes")
    ]
    results = [
        event
        for event in history.events
        if event.HasField("activity_task_completed_event_attributes")
    ]
    return attempts == [1] and len(results) == 1


async def one_cycle(model: str, client: Client, folder: Path, left: float) -> Outcome:
    """Start, stop and judge one worker."""
    name = f"drain-{uuid.uuid4()}"
    marker = folder / name
    variables = fleet_environment(
        client.service_client.config.target_host, name, FLEET_CONCURRENCY_PROCESSES="1"
    )
    handle = await client.start_workflow(
        "RunNap", args=[f"nap_{model}", str(marker), left], id=name, task_queue=name
    )
    async with running(fleet_command("benchmark-drain"), variables) as worker:
        began = time.monotonic()
        code: int | None = None
        try:
            await activity_started(marker, worker)
            began = time.monotonic()
            code = await worker.stop()
        except BenchmarkError as error:
            worker.tail.append(str(error))
        took = time.monotonic() - began
        completed = await first_attempt_completed(handle)
        output = "" if code == 0 and completed else "\n".join(worker.tail)
    # Nobody polls its task queue any more; left open, the workflow would only burden the server.
    await handle.terminate("drain cycle is over")
    return Outcome(model, code, completed, took, output)


async def run_cycles(options: argparse.Namespace) -> list[Outcome]:
    """Run all cycles, some at once; prints a line of progress now and then."""
    outcomes: list[Outcome] = []
    waiting = islice(cycle(options.model or MODELS), options.cycles)

    async def lane(client: Client, folder: Path) -> None:
        for model in waiting:  # shared by all lanes: each takes the next one
            outcomes.append(await one_cycle(model, client, folder, options.left))
            if len(outcomes) % 10 == 0 or len(outcomes) == options.cycles:
                well = sum(outcome.well for outcome in outcomes)
                print(f"{len(outcomes)}/{options.cycles} cycles, {well} well", file=sys.stderr)

    with tempfile.TemporaryDirectory() as folder:
        async with dev_server(extra_args=QUIET) as server, asyncio.TaskGroup() as group:
            for _ in range(options.parallel):
                group.create_task(lane(server.client, Path(folder)))
    return outcomes


def report(outcomes: list[Outcome]) -> dict[str, Any]:
    """Turn the outcomes into the figures of the report."""
    return {
        "machine": machine(),
        "cycles": len(outcomes),
        "well": sum(outcome.well for outcome in outcomes),
        "exit_codes": dict(Counter(outcome.name for outcome in outcomes)),
        "models": {
            model: {
                "cycles": len(of_model),
                "well": sum(outcome.well for outcome in of_model),
                "work_lost": sum(not outcome.completed for outcome in of_model),
                "stop_seconds": Spread.of([o.stopped_after for o in of_model]),
                "longest_stop_seconds": max(outcome.stopped_after for outcome in of_model),
            }
            for model in MODELS
            if (of_model := [outcome for outcome in outcomes if outcome.model == model])
        },
    }


def table(figures: dict[str, Any], outcomes: list[Outcome]) -> str:
    """Write the figures for people, with the output of the first cycles that went wrong."""
    codes = ", ".join(f"{code}: {count}" for code, count in figures["exit_codes"].items())
    heads = ("cycles", "well", "work lost", "SIGTERM to exit, s")
    lines = [
        f"exit codes of {figures['cycles']} drained workers: {codes} ({figures['machine']})",
        "activity".ljust(10) + "".join(head.rjust(20) for head in heads),
    ]
    for model, row in figures["models"].items():
        cells = (row["cycles"], row["well"], row["work_lost"], row["stop_seconds"].text())
        longest = f"  longest {row['longest_stop_seconds']:.2f}"
        lines.append(model.ljust(10) + "".join(str(cell).rjust(20) for cell in cells) + longest)
    bad = [outcome for outcome in outcomes if not outcome.well]
    lines += [f"\n--- {outcome.model}: {outcome.name}\n{outcome.output}" for outcome in bad[:3]]
    return "\n".join(lines)


async def main(options: argparse.Namespace) -> int:
    """Run and report; returns the exit code."""
    outcomes = await run_cycles(options)
    figures = report(outcomes)
    print(as_json(figures) if options.json else table(figures, outcomes))
    return int(figures["well"] != options.cycles)


if __name__ == "__main__":
    chosen = arguments()
    run_program(lambda: run_benchmark(main(chosen), time_limit=chosen.time_limit))
