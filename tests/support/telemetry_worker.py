"""A worker made of the telemetry parts and the bare SDK; runs one workflow and prints its metrics.

Settings come from the environment. Log lines go to standard error, the metrics to standard output.
"""

from __future__ import annotations

import asyncio
import os
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from telemetry_workflow import Delivery, refuse, ship
from temporalio.client import Client
from temporalio.worker import Worker

from temporal_fleet.health.server import HealthServer
from temporal_fleet.health.state import HealthState, Phase
from temporal_fleet.leaving import run_program
from temporal_fleet.settings import load_settings
from temporal_fleet.telemetry.logs import configure_logging
from temporal_fleet.telemetry.metrics import Metrics, build_runtime
from temporal_fleet.telemetry.tracing import start_tracing

WORKLOAD = "parcels"


async def main() -> None:
    """Live."""
    settings = load_settings().settings
    metrics = Metrics(settings, workload=WORKLOAD)
    configure_logging(settings.log, workload=WORKLOAD, **metrics.labels)
    tracing = start_tracing(settings, workload=WORKLOAD, identity="pod-1")
    runtime, core_port = build_runtime(settings, workload=WORKLOAD)
    state = HealthState()
    with HealthServer(
        settings.health, state, render_metrics=metrics.render, labels=metrics.labels
    ) as server:
        assert core_port is not None
        server.set_core_metrics_port(core_port)
        client = await Client.connect(
            settings.temporal.address, runtime=runtime, interceptors=tracing.interceptors
        )
        with ThreadPoolExecutor() as threads:
            async with Worker(
                client,
                task_queue=WORKLOAD,
                workflows=[Delivery],
                activities=[ship, refuse],
                activity_executor=threads,
                max_cached_workflows=0,
            ):
                state.set_phase(Phase.POLLING)
                await client.execute_workflow(Delivery.run, 3, id="delivery-1", task_queue=WORKLOAD)
        url = f"http://127.0.0.1:{server.port}/metrics"
        with await asyncio.to_thread(urllib.request.urlopen, url) as answer:
            sys.stdout.buffer.write(answer.read())
        sys.stdout.flush()
    timeout = timedelta(seconds=float(os.environ["TEST_FLUSH_SECONDS"]))
    await asyncio.to_thread(tracing.flush, timeout)


run_program(lambda: asyncio.run(main()))
