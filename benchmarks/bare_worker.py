"""A worker with only the SDK and its defaults, which the benchmarks compare with.

It prints ``polling`` once the SDK's worker has been entered, and ends on SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from importlib import import_module

from temporalio.client import Client
from temporalio.converter import DataConverter
from temporalio.worker import Worker

from temporal_fleet.leaving import run_program


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--task-queue", required=True)
    parser.add_argument("--converter", choices=["default", "pydantic"], required=True)
    return parser.parse_args()


def _converter(name: str) -> DataConverter:
    if name == "default":
        return DataConverter.default
    from temporalio.contrib.pydantic import pydantic_data_converter

    return pydantic_data_converter


async def _run(options: argparse.Namespace) -> None:
    # By name, as the workload is on PYTHONPATH and not beside this script.
    workflow = import_module("fleet_benchmark.workflows").SendParcel
    activity = import_module("fleet_benchmark.activities").weigh
    client = await Client.connect(options.address, data_converter=_converter(options.converter))
    worker = Worker(
        client, task_queue=options.task_queue, workflows=[workflow], activities=[activity]
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with worker:
        print("polling", flush=True)
        await stop.wait()


if __name__ == "__main__":
    run_program(lambda: asyncio.run(_run(_arguments())))
