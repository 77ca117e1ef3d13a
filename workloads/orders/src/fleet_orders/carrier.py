"""The carrier: a simulation of somebody else's service that reports by events.

It sends its events as signals to the shipment's workflow from background tasks, and these die with
the process: that is how events get lost in real life. Asking the carrier always works, because its
answer follows from the consignment alone. So no shipment depends on an event.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from temporalio.service import RPCError

from fleet_orders.models import CarrierEvent, Consignment, ParcelStatus

if TYPE_CHECKING:
    from temporalio.client import Client

CARRIER_EVENT = "carrier_event"
"""Name of the signal that events arrive by."""

logger = logging.getLogger(__name__)


class Carrier:
    """The carrier as one worker process knows it.

    Args:
        client: Returns the current Temporal client, to send events with.
    """

    def __init__(self, client: Callable[[], Client]) -> None:
        self._client = client
        self._deliveries: dict[str, asyncio.Task[None]] = {}

    def accept(self, workflow_id: str, consignment: Consignment) -> None:
        """Take a parcel and send its events to the workflow; taking it again changes nothing."""
        number = consignment.tracking_number
        if consignment.simulation.carrier_events == "missing" or number in self._deliveries:
            return
        delivery = asyncio.create_task(self._deliver(workflow_id, consignment), name=number)
        self._deliveries[number] = delivery
        delivery.add_done_callback(lambda _: self._deliveries.pop(number, None))

    async def close(self) -> None:
        """Forget all parcels: events that were not sent yet never will be."""
        deliveries = list(self._deliveries.values())
        for delivery in deliveries:
            delivery.cancel()
        await asyncio.gather(*deliveries, return_exceptions=True)

    async def _deliver(self, workflow_id: str, consignment: Consignment) -> None:
        await asyncio.sleep(consignment.transit_time.total_seconds())
        event = CarrierEvent(
            tracking_number=consignment.tracking_number, status=final_status(consignment)
        )
        shipment = self._client().get_workflow_handle(workflow_id)
        try:
            await shipment.signal(CARRIER_EVENT, event)
        except RPCError as error:
            # The shipment may be over, and it asks by itself when it hears nothing.
            logger.info("carrier event for %s was not delivered: %s", workflow_id, error)


def final_status(consignment: Consignment) -> ParcelStatus:
    """Return how the carrier's way with a parcel ends."""
    lost = consignment.simulation.carrier == "loses"
    return ParcelStatus.LOST if lost else ParcelStatus.DELIVERED


def current_status(consignment: Consignment) -> ParcelStatus:
    """Return where a parcel is now; every process gives the same answer."""
    on_its_way = datetime.now(UTC) - consignment.handed_over_at
    if on_its_way < consignment.transit_time:
        return ParcelStatus.IN_TRANSIT
    return final_status(consignment)
