"""The way of one parcel, from the hand-over to its end."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Literal

from temporalio import workflow
from temporalio.common import VersioningBehavior
from temporalio.exceptions import ActivityError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from fleet_orders import policies
    from fleet_orders.activities import OrderActivities
    from fleet_orders.cancellation import undisturbed
    from fleet_orders.models import (
        CarrierEvent,
        Consignment,
        ParcelStatus,
        ShipmentOutcome,
        ShipmentRequest,
    )


@workflow.defn(versioning_behavior=VersioningBehavior.PINNED)
class ShipmentWorkflow:
    """Hands a parcel over and waits for the carrier's events, asking itself when they stay away.

    Cancelling it calls the parcel back. It then ends with the status ``recalled``, not as
    cancelled, because its caller must know which of the two came first.
    """

    @workflow.init
    def __init__(self, request: ShipmentRequest) -> None:
        self._consignment = Consignment(
            tracking_number=request.tracking_number,
            handed_over_at=workflow.now(),
            simulation=request.simulation,
        )
        self._status = ParcelStatus.IN_TRANSIT
        self._learned_by: Literal["event", "poll", "recall"] = "event"

    @workflow.run
    async def run(self, request: ShipmentRequest) -> ShipmentOutcome:
        """Ship one parcel.

        Args:
            request: The parcel and where it goes.
        """
        del request  # kept by __init__, so that a signal may come first
        try:
            await self._deliver()
        except (asyncio.CancelledError, FailureError) as error:
            if not is_cancelled_exception(error):
                raise
        if not self._status.is_final:
            await undisturbed(self._recall())
        return ShipmentOutcome(status=self._status, learned_by=self._learned_by)

    @workflow.signal
    def carrier_event(self, event: CarrierEvent) -> None:
        """Take note of what the carrier says; the first final word counts."""
        if event.tracking_number != self._consignment.tracking_number or self._status.is_final:
            workflow.logger.warning("carrier event %s is not for this parcel or too late", event)
            return
        self._status = event.status

    async def _deliver(self) -> None:
        await workflow.execute_local_activity_method(
            OrderActivities.hand_over, self._consignment, **policies.HAND_OVER
        )
        pause = policies.FIRST_POLL
        patience = self._consignment.transit_time + pause
        while not await self._arrives_within(patience):
            await self._ask_carrier()
            pause = min(pause * 2, policies.LONGEST_POLL)
            patience = pause

    async def _arrives_within(self, patience: timedelta) -> bool:
        if self._status.is_final:
            return True
        try:
            await workflow.wait_condition(lambda: self._status.is_final, timeout=patience)
        except TimeoutError:
            workflow.logger.info("no word from the carrier for %s, asking it", patience)
            return False
        return True

    async def _ask_carrier(self) -> None:
        try:
            status = await workflow.execute_activity_method(
                OrderActivities.fetch_carrier_status,
                self._consignment,
                **policies.FETCH_CARRIER_STATUS,
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            workflow.logger.warning("the carrier does not answer: %s", error.cause)
            return
        if status.is_final and not self._status.is_final:
            self._status, self._learned_by = status, "poll"

    async def _recall(self) -> None:
        await workflow.execute_activity_method(
            OrderActivities.recall_parcel,
            self._consignment.tracking_number,
            **policies.COMPENSATION,
        )
        self._status, self._learned_by = ParcelStatus.RECALLED, "recall"
