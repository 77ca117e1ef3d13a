"""How much CPU our worker takes for each 1-activity workflow, against a bare SDK worker.

Three configurations take turns on one Temporal dev server, in the order A B C, then C B A, and so
on, each time in a fresh process on its own task queue:

- ``bare``: the SDK's ``Worker`` with its defaults (see ``bare_worker.py``);
- ``bare again``: the same once more, the A/A control. Its distance from 1 is the noise;
- ``fleet``: the real ``fleet worker`` with its defaults and JSON logs; ``/metrics``, ``/livez`` and
  ``/readyz`` are requested once in each measurement.

Equal on both sides: the code of workflow and activity, the sandbox with all its checks, payload,
data converter (``--converter``), server, client, number of workflows at once. Different, as this is
what is compared: logs (the bare worker drops them, ours writes JSON), metrics, interceptors, pollers (the
bare worker has the SDK's 5, ours autoscale), our probes of the server and the health process.

The figure is the CPU time of the worker process and of all its children, while workflows run:
it includes neither start-up nor drain.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

# Python puts the folder of a script on the path, not the root of its package.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.harness import (
    QUIET,
    BenchmarkError,
    Cpu,
    Spread,
    WorkerProcess,
    as_json,
    bare_command,
    environment,
    fleet_command,
    fleet_environment,
    machine,
    ratios,
    run_benchmark,
    running,
)
from temporalio.client import Client

from temporal_fleet.leaving import run_program
from temporal_fleet.testing import dev_server, free_port

CONFIGURATIONS = ("bare", "bare again", "fleet")
PARCEL = {"parcel_id": "0"}
LOAD_TIMEOUT = 120.0
"""Seconds that one run's workflows may take."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--rounds", type=int, default=10, help="rounds of all configurations (10)")
    add("--workflows", type=int, default=200, help="workflows measured in each run (200)")
    add("--warm-up", type=int, default=40, help="workflows before each measurement (40)")
    add("--at-once", type=int, default=20, help="workflows running at once (20)")
    add("--log-lines", type=int, default=1, help="lines that each activity logs (1)")
    add("--converter", choices=["default", "pydantic"], default="pydantic",
        help="data converter of the bare worker; ours is always pydantic's")  # fmt: skip
    add("--target", type=float, default=1.10, help="largest ratio wanted (1.10)")
    add("--time-limit", type=float, default=1800, help="seconds until it gives up (1800)")
    add("--enforce", action="store_true", help="exit 1 when the median is above the target")
    add("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args()


async def load(client: Client, task_queue: str, count: int, at_once: int) -> None:
    """Run *count* workflows, at most *at_once* together, and wait for all results.

    Raises:
        TimeoutError: When that takes longer than ``LOAD_TIMEOUT``.
    """
    free = asyncio.Semaphore(at_once)

    async def one() -> None:
        async with free:
            await client.execute_workflow(
                "SendParcel", PARCEL, id=f"overhead-{uuid.uuid4()}", task_queue=task_queue
            )

    async with asyncio.timeout(LOAD_TIMEOUT), asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())


@asynccontextmanager
async def started(
    name: str, address: str, task_queue: str, options: argparse.Namespace
) -> AsyncIterator[tuple[WorkerProcess, int | None]]:
    """Start a configuration's worker; yields it and its health port, None for a bare one."""
    lines = {"BENCHMARK_LOG_LINES": str(options.log_lines)}
    if name == "fleet":
        port = free_port()
        variables = fleet_environment(address, task_queue, **lines)
        variables["FLEET_HEALTH_PORT"] = str(port)
        async with running(fleet_command("benchmark"), variables) as worker:
            yield worker, port
    else:
        command = bare_command(address, task_queue, options.converter)
        async with running(command, environment(**lines)) as worker:
            yield worker, None


def scrape(port: int) -> None:
    """Do what Prometheus and the kubelet do, once."""
    for page in ("metrics", "livez", "readyz"):
        with urlopen(f"http://127.0.0.1:{port}/{page}", timeout=10) as answer:
            answer.read()


async def measure(
    name: str, address: str, client: Client, options: argparse.Namespace
) -> tuple[Cpu, float]:
    """Measure one run of one configuration.

    Returns:
        CPU seconds for each 1,000 workflows, and workflows per second.
    """
    task_queue = f"overhead-{uuid.uuid4()}"
    async with started(name, address, task_queue, options) as (worker, port):
        await worker.polling()
        try:
            await load(client, task_queue, options.warm_up, options.at_once)
            before, began = worker.cpu(), time.monotonic()
            await load(client, task_queue, options.workflows, options.at_once)
        except TimeoutError:
            tail = "\n".join(worker.tail)
            raise BenchmarkError(
                f"{name}: workflows do not end; the worker wrote:\n{tail}"
            ) from None
        if port is not None:
            await asyncio.to_thread(scrape, port)
        seconds, used = time.monotonic() - began, worker.cpu().since(before)
        code = await worker.stop()
        if code != 0:
            raise BenchmarkError(f"{name}: exit code {code}\n" + "\n".join(worker.tail))
    scale = 1000 / options.workflows
    return Cpu(used.own * scale, used.children * scale), options.workflows / seconds


async def run_rounds(options: argparse.Namespace) -> dict[str, list[tuple[Cpu, float]]]:
    """Measure all configurations in turn, forwards and backwards."""
    found: dict[str, list[tuple[Cpu, float]]] = {name: [] for name in CONFIGURATIONS}
    async with dev_server(extra_args=QUIET) as server:
        address = server.client.service_client.config.target_host
        for number in range(options.rounds):
            order = CONFIGURATIONS if number % 2 == 0 else CONFIGURATIONS[::-1]
            for name in order:
                found[name].append(await measure(name, address, server.client, options))
            used = "  ".join(f"{name} {found[name][-1][0].total:.1f}" for name in CONFIGURATIONS)
            print(f"round {number + 1}/{options.rounds}: {used} s/1k", file=sys.stderr)
    return found


def report(
    found: dict[str, list[tuple[Cpu, float]]], options: argparse.Namespace
) -> dict[str, Any]:
    """Turn the measurements into the figures of the report."""
    totals = {name: [cpu.total for cpu, _ in runs] for name, runs in found.items()}
    fleet = found["fleet"]
    ratio = ratios(totals["fleet"], totals["bare"])
    own = ratios([cpu.own for cpu, _ in fleet], totals["bare"])
    return {
        "machine": machine(),
        "options": {name: value for name, value in vars(options).items() if name != "json"},
        "cpu_seconds_per_1000_workflows": {n: Spread.of(v) for n, v in totals.items()},
        "fleet_children_cpu_seconds_per_1000_workflows": Spread.of(
            [cpu.children for cpu, _ in fleet]
        ),
        "workflows_per_second": {
            n: Spread.of([rate for _, rate in runs]) for n, runs in found.items()
        },
        "ratio_control": ratios(totals["bare again"], totals["bare"]),
        "ratio_fleet": ratio,
        "ratio_fleet_without_children": own,
        "target": options.target,
        "within_target": ratio.median <= options.target,
    }


def table(figures: dict[str, Any]) -> str:
    """Write the figures for people."""
    cpu, rate = figures["cpu_seconds_per_1000_workflows"], figures["workflows_per_second"]
    children = figures["fleet_children_cpu_seconds_per_1000_workflows"].text()
    ratio = {"bare": "1.00", "bare again": figures["ratio_control"].text()}
    ratio["fleet"] = figures["ratio_fleet"].text()
    lines = [
        f"CPU for each 1-activity workflow, median [q1..q3] ({figures['machine']})",
        f"{'configuration':<14}{'s / 1000 workflows':>22}{'workflows / s':>22}{'ratio':>20}",
        *(
            f"{name:<14}{cpu[name].text():>22}{rate[name].text(1):>22}{ratio[name]:>20}"
            for name in CONFIGURATIONS
        ),
        f"of fleet's, its child processes: {children} s / 1000 workflows; "
        f"ratio without them {figures['ratio_fleet_without_children'].text()}",
        f"target {figures['target']:.2f}: {'met' if figures['within_target'] else 'MISSED'}",
    ]
    return "\n".join(lines)


async def main(options: argparse.Namespace) -> int:
    """Measure and report; returns the exit code."""
    figures = report(await run_rounds(options), options)
    print(as_json(figures) if options.json else table(figures))
    return int(options.enforce and not figures["within_target"])


if __name__ == "__main__":
    chosen = arguments()
    run_program(lambda: run_benchmark(main(chosen), time_limit=chosen.time_limit))
