"""A workflow and activities that log, for the telemetry tests."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    import structlog


@activity.defn
async def ship(parcel: int) -> int:
    """Log a line and return."""
    activity.logger.info("parcel %d shipped", parcel, extra={"parcel": parcel})
    await asyncio.sleep(0)
    return parcel


@activity.defn
def refuse() -> None:
    """Fail for good, in a thread."""
    raise ApplicationError("declined", type="Declined", non_retryable=True)


@workflow.defn
class Delivery:
    """Logs before and after each activity."""

    @workflow.run
    async def run(self, parcels: int) -> str:
        """Ship parcels one after the other, then survive a failure."""
        workflow.logger.info("delivery began")
        logging.getLogger("parcels").info("said by logging", extra={"attempt": "mine"})
        structlog.get_logger("parcels").info("said by structlog", attempt="mine")
        for parcel in range(parcels):
            await workflow.execute_activity(
                ship, parcel, start_to_close_timeout=timedelta(seconds=10)
            )
            workflow.logger.info("parcel delivered", extra={"parcel": parcel})
        try:
            await workflow.execute_activity(
                refuse,
                start_to_close_timeout=timedelta(seconds=10),
                retry_policy=RetryPolicy(maximum_attempts=1),
            )
        except ActivityError:
            workflow.logger.exception("delivery refused")
        return "done"
