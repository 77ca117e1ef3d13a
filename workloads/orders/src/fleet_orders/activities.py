"""Activities of the orders task queue, one in each way of running code.

``score_fraud`` computes and runs in the process pool; the stock's blocking calls run in threads;
what only waits runs on the event loop. Each is safe to run again after a crash at any point.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import timedelta

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from fleet_orders.carrier import Carrier, current_status
from fleet_orders.models import (
    Consignment,
    FraudScore,
    Notification,
    Order,
    PackRequest,
    Parcel,
    ParcelStatus,
)
from fleet_orders.stock import (
    AlreadyReleasedError,
    OutOfStockError,
    Stock,
    StockUnavailableError,
)
from temporal_fleet import cpu_bound

_FRAUD_ROUNDS = 20_000  # about 15 ms of one core, enough to hold up an event loop
_FRAUD_THRESHOLD = 0.95
_FRAUD_CUSTOMER = "customer-fraud"


@dataclass(frozen=True)
class OrderResources:
    """What the activities are built from; open as long as the worker polls."""

    stock: Stock
    carrier: Carrier
    packing_time_per_item: timedelta


@activity.defn
@cpu_bound
def score_fraud(order: Order) -> FraudScore:
    """Compute how suspicious an order is; the same order always has the same score."""
    digest = order.customer.encode()
    for _ in range(_FRAUD_ROUNDS):
        digest = hashlib.sha256(digest).digest()
    score = 1.0 if order.customer == _FRAUD_CUSTOMER else digest[0] / 256 * _FRAUD_THRESHOLD
    return FraudScore(score=score, suspicious=score >= _FRAUD_THRESHOLD)


class OrderActivities:
    """Activities that need the workload's resources.

    Args:
        resources: Open stock and carrier.
    """

    def __init__(self, resources: OrderResources) -> None:
        self._stock = resources.stock
        self._carrier = resources.carrier
        self._packing_time_per_item = resources.packing_time_per_item

    @activity.defn
    def reserve_stock(self, order: Order) -> None:
        """Reserve all lines of an order, once for each order.

        Raises:
            ApplicationError: Of type ``OutOfStock`` or ``ReservationReleased``, never retried; or
                ``StockUnavailable``, which is.
        """
        try:
            self._stock.reserve(order.order_id, order.lines)
        except OutOfStockError as error:
            raise ApplicationError(
                str(error),
                type="OutOfStock",
                non_retryable=True,
                # Part of everyday business: no stack trace in the log, no failure in the metrics.
                category=ApplicationErrorCategory.BENIGN,
            ) from error
        except AlreadyReleasedError as error:
            raise ApplicationError(
                str(error), type="ReservationReleased", non_retryable=True
            ) from error
        except StockUnavailableError as error:
            raise ApplicationError(str(error), type="StockUnavailable") from error

    @activity.defn
    def release_stock(self, order_id: str) -> None:
        """Give back what is reserved for an order; a reservation that comes late is refused.

        Raises:
            ApplicationError: Of type ``StockUnavailable``, which is retried.
        """
        try:
            self._stock.release(order_id)
        except StockUnavailableError as error:
            raise ApplicationError(str(error), type="StockUnavailable") from error

    @activity.defn
    async def pack_parcel(self, request: PackRequest) -> Parcel:
        """Pack item by item, with a heartbeat for each; a later attempt goes on where one died."""
        items = sum(line.quantity for line in request.lines)
        details = activity.info().heartbeat_details
        packed = resumed_at = int(details[0]) if details else 0
        while packed < items:
            await asyncio.sleep(self._packing_time_per_item.total_seconds())
            packed += 1
            activity.heartbeat(packed)
        return Parcel(
            tracking_number=_tracking_number(request.order_id), items=items, resumed_at=resumed_at
        )

    @activity.defn
    async def hand_over(self, consignment: Consignment) -> None:
        """Give a parcel to the carrier, which reports to the calling workflow from then on."""
        workflow_id = activity.info().workflow_id
        assert workflow_id is not None, "only workflows hand parcels over"
        self._carrier.accept(workflow_id, consignment)

    @activity.defn
    async def fetch_carrier_status(self, consignment: Consignment) -> ParcelStatus:
        """Ask the carrier where a parcel is."""
        return current_status(consignment)

    @activity.defn
    async def recall_parcel(self, tracking_number: str) -> None:
        """Call a parcel back; the carrier turns it around, wherever it is."""
        activity.logger.info("parcel %s is called back", tracking_number)

    @activity.defn
    async def notify_customer(self, notification: Notification) -> None:
        """Tell the customer how the order ended."""
        activity.logger.info(
            "%s is told: order %s is %s",
            notification.customer,
            notification.order_id,
            notification.state,
        )


def _tracking_number(order_id: str) -> str:
    return "trk-" + hashlib.sha256(order_id.encode()).hexdigest()[:12]
