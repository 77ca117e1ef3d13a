"""The workload that is drained: one workflow, and an activity of each execution model."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from temporalio import activity

from temporal_fleet import Workload, cpu_bound

from .drained_workflow import RunNap


@activity.defn
async def nap_async(marker: str, seconds: float) -> None:
    """Sleep on the event loop."""
    Path(marker).touch()
    await asyncio.sleep(seconds)


@activity.defn
def nap_thread(marker: str, seconds: float) -> None:
    """Sleep on a thread of the pool."""
    Path(marker).touch()
    time.sleep(seconds)


@activity.defn
@cpu_bound
def nap_process(marker: str, seconds: float) -> None:
    """Sleep in a process of the pool; computing would only make the measurement slower."""
    Path(marker).touch()
    time.sleep(seconds)


workload: Workload[None, None] = Workload(
    name="benchmark-drain",
    description="One activity of each execution model, to be running when the worker stops",
    workflows=[RunNap],
    activities=[nap_async, nap_thread, nap_process],
)
