"""Activities that report where they ran: at once, after a while, or after computing."""

from __future__ import annotations

import asyncio
import math
import os
import time

from temporalio import activity

from fleet_e2e.models import StepReport
from temporal_fleet import cpu_bound

HEARTBEAT_INTERVAL_SECONDS = 0.5
ROUNDS_BETWEEN_LOOKS_AT_THE_CLOCK = 10_000


@activity.defn
async def step(seconds: float) -> StepReport:
    """Report at once; *seconds* is not used, so that all activities are called alike."""
    return _report(activity.info().attempt)


@activity.defn
async def nap(seconds: float) -> StepReport:
    """Sleep, and tell the server from time to time that it goes on."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        activity.heartbeat()
        await asyncio.sleep(min(left, HEARTBEAT_INTERVAL_SECONDS))
    return _report(activity.info().attempt)


@activity.defn
@cpu_bound
def compute(seconds: float) -> StepReport:
    """Use a whole CPU; the attempt is not known in the child process and reported as 0."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        math.fsum(math.sqrt(number) for number in range(ROUNDS_BETWEEN_LOOKS_AT_THE_CLOCK))
    return _report(attempt=0)


def _report(attempt: int) -> StepReport:
    return StepReport(
        build_id=os.environ["FLEET_DEPLOYMENT_BUILD_ID"], pod=os.uname().nodename, attempt=attempt
    )
