"""How long our worker takes from process start until it polls, against a minimal SDK worker.

Configurations take turns on one Temporal dev server, forwards and backwards, each time in a fresh
process:

- ``bare``: the SDK's ``Worker`` with its defaults and the same workload (see ``bare_worker.py``);
- ``bare again``: the same once more, the A/A control. Its distance from 1 is the noise;
- ``bare + pydantic``: with the pydantic data converter, which our worker always uses;
- ``fleet``: the real ``fleet worker`` with its defaults, metrics and JSON logs on.

*Polling* is the moment at which the server sees the first poll for workflow tasks: this script asks
it every 10 ms, in the same way for all. Bytecode is compiled in a first start of each that is not
counted. How long ours takes until ``/readyz`` answers 200 is reported separately.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

# Python puts the folder of a script on the path, not the root of its package.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.harness import (
    POLLING_TIMEOUT,
    QUIET,
    BenchmarkError,
    Cpu,
    Spread,
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
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from temporal_fleet.leaving import run_program
from temporal_fleet.testing import dev_server, free_port

CONFIGURATIONS = ("bare", "bare again", "bare + pydantic", "fleet")


@dataclass(frozen=True)
class Start:
    """One start of one worker."""

    wall: float
    """Seconds from process start until the server sees its first poll."""
    cpu: Cpu
    """CPU used until then."""
    ready: float | None
    """Seconds from process start until ``/readyz`` answers 200; None for a bare worker."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--rounds", type=int, default=10, help="rounds of all configurations (10)")
    add("--target", type=float, default=1.30, help="largest ratio wanted (1.30)")
    add("--time-limit", type=float, default=900, help="seconds until the benchmark gives up (900)")
    add("--enforce", action="store_true", help="exit 1 when the median is above the target")
    add("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args()


async def first_poll(client: Client, task_queue: str) -> None:
    """Wait until the server sees a poll for workflow tasks on *task_queue*.

    Raises:
        TimeoutError: When that takes longer than ``POLLING_TIMEOUT``.
    """
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=task_queue),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    )
    async with asyncio.timeout(POLLING_TIMEOUT):
        while not (await client.workflow_service.describe_task_queue(request)).pollers:
            await asyncio.sleep(0.01)


async def ready_after(port: int, started: float) -> float:
    """Return the seconds since *started* at which ``/readyz`` answers 200."""

    def answers() -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except URLError:  # 503 while it is not ready
            return False

    async with asyncio.timeout(POLLING_TIMEOUT):
        while not await asyncio.to_thread(answers):
            await asyncio.sleep(0.02)
    return time.monotonic() - started


async def start(name: str, client: Client) -> Start:
    """Start the worker of a configuration once, and stop it when it polls."""
    address = client.service_client.config.target_host
    task_queue = f"startup-{uuid.uuid4()}"
    if name == "fleet":
        port = free_port()
        variables = fleet_environment(address, task_queue)
        variables["FLEET_HEALTH_PORT"] = str(port)
        command = fleet_command("benchmark")
    else:
        port = None
        variables = environment()
        command = bare_command(address, task_queue, "pydantic" if "+" in name else "default")
    async with running(command, variables) as worker:
        await first_poll(client, task_queue)
        wall, cpu = time.monotonic() - worker.started, worker.cpu()
        await worker.polling()
        ready = None if port is None else await ready_after(port, worker.started)
        code = await worker.stop()
        if code != 0:
            raise BenchmarkError(f"{name}: exit code {code}\n" + "\n".join(worker.tail))
        return Start(wall, cpu, ready)


async def run_rounds(options: argparse.Namespace) -> dict[str, list[Start]]:
    """Start all configurations in turn, forwards and backwards."""
    found: dict[str, list[Start]] = {name: [] for name in CONFIGURATIONS}
    async with dev_server(extra_args=QUIET) as server:
        for name in CONFIGURATIONS:
            await start(name, server.client)
        for number in range(options.rounds):
            order = CONFIGURATIONS if number % 2 == 0 else CONFIGURATIONS[::-1]
            for name in order:
                found[name].append(await start(name, server.client))
            took = "  ".join(f"{name} {found[name][-1].wall:.2f}" for name in CONFIGURATIONS)
            print(f"round {number + 1}/{options.rounds}: {took} s", file=sys.stderr)
    return found


def report(found: dict[str, list[Start]], options: argparse.Namespace) -> dict[str, Any]:
    """Turn the measurements into the figures of the report."""
    bare = found["bare"]
    wall_ratio = ratios([s.wall for s in found["fleet"]], [s.wall for s in bare])
    return {
        "machine": machine(),
        "rounds": options.rounds,
        "configurations": {
            name: {
                "wall_seconds": Spread.of([s.wall for s in starts]),
                "cpu_seconds": Spread.of([s.cpu.own for s in starts]),
                "children_cpu_seconds": Spread.of([s.cpu.children for s in starts]),
                "wall_ratio": ratios([s.wall for s in starts], [s.wall for s in bare]),
                "cpu_ratio": ratios([s.cpu.total for s in starts], [s.cpu.total for s in bare]),
            }
            for name, starts in found.items()
        },
        "fleet_ready_seconds": Spread.of([s.ready or 0.0 for s in found["fleet"]]),
        "target": options.target,
        "within_target": wall_ratio.median <= options.target,
    }


def table(figures: dict[str, Any]) -> str:
    """Write the figures for people."""
    columns = ("wall_seconds", "wall_ratio", "cpu_seconds", "children_cpu_seconds", "cpu_ratio")
    heads = ("wall s", "ratio", "CPU s", "children's CPU s", "CPU ratio, all")
    lines = [
        f"process start to first poll, median [q1..q3] ({figures['machine']})",
        f"{'configuration':<17}" + "".join(f"{head:>20}" for head in heads),
    ]
    for name, row in figures["configurations"].items():
        lines.append(f"{name:<17}" + "".join(f"{row[column].text():>20}" for column in columns))
    lines.append(f"fleet ready (/readyz 200) after {figures['fleet_ready_seconds'].text()} s")
    verdict = "met" if figures["within_target"] else "MISSED"
    lines.append(f"target {figures['target']:.2f} (wall, against bare): {verdict}")
    return "\n".join(lines)


async def main(options: argparse.Namespace) -> int:
    """Measure and report; returns the exit code."""
    figures = report(await run_rounds(options), options)
    print(as_json(figures) if options.json else table(figures))
    return int(options.enforce and not figures["within_target"])


if __name__ == "__main__":
    chosen = arguments()
    run_program(lambda: run_benchmark(main(chosen), time_limit=chosen.time_limit))
