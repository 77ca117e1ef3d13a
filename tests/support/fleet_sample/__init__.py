"""Workload of the tests; found through the dist-info folder beside it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fleet_sample.activities import (
    SampleActivities,
    fail,
    fail_mutely,
    nap_thread,
    spin,
    stubborn_thread,
)
from fleet_sample.workflows import RunActivity, RunLocalActivity
from temporal_fleet import ResourceContext, Workload


@asynccontextmanager
async def open_resources(_context: ResourceContext[None]) -> AsyncIterator[dict[str, Any]]:
    """Yield a resource that leaves a file behind when it is closed in order.

    It needs the server that listens on the Unix socket SAMPLE_DEPENDENCY, if that is set.
    """
    if dependency := os.environ.get("SAMPLE_DEPENDENCY"):
        _, writer = await asyncio.open_unix_connection(dependency)
        writer.close()
    resources = {"open": True}
    yield resources
    resources["open"] = False
    if marker := os.environ.get("SAMPLE_CLOSED_MARKER"):
        Path(marker).touch()


async def check_marker(_resources: dict[str, Any]) -> None:
    """Fail while the file that SAMPLE_UNHEALTHY names exists."""
    marker = os.environ.get("SAMPLE_UNHEALTHY")
    if marker and Path(marker).exists():
        raise RuntimeError("the sample's dependency is away")


workload: Workload[None, dict[str, Any]] = Workload(
    name="sample",
    description="Activities that behave well and badly when their worker stops",
    workflows=[RunActivity, RunLocalActivity],
    activities=[SampleActivities, fail, fail_mutely, nap_thread, stubborn_thread, spin],
    passthrough_modules=["fleet_sample.activities"],
    resources=open_resources,
    health_checks={"marker": check_marker},
)

computing: Workload[None, None] = Workload(
    name="computing",
    description="Activities that all compute in processes",
    workflows=[RunActivity],
    activities=[spin],
    passthrough_modules=["fleet_sample.activities"],
)
