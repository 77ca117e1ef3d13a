"""The declaration of the orders workload: what its worker registers, opens and checks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fleet_orders.activities import OrderActivities, OrderResources, score_fraud
from fleet_orders.attributes import CUSTOMER, ORDER_STATE, search_attributes
from fleet_orders.carrier import Carrier
from fleet_orders.customers import play_customer
from fleet_orders.models import Order
from fleet_orders.settings import OrderSettings
from fleet_orders.stock import Stock
from fleet_orders.stock_database import parse_database_url
from fleet_orders.workflows.order import OrderWorkflow
from fleet_orders.workflows.shipment import ShipmentWorkflow
from temporal_fleet import ResourceContext, WorkflowStart, Workload

_LARGEST_POOL = {"sqlite": 4, "postgresql": 20}


@asynccontextmanager
async def open_resources(
    context: ResourceContext[OrderSettings],
) -> AsyncIterator[OrderResources]:
    """Open the stock, creating it when it is new, and the line to the carrier.

    Args:
        context: Settings of the workload, and the client that the carrier reports through.

    Raises:
        StockUnavailableError: When the stock's database does not answer.
    """
    settings = context.settings
    backend = parse_database_url(settings.database_url).get_backend_name()
    stock = Stock(
        settings.database_url,
        pool_size=settings.pool_size
        or min(max(1, context.fleet.concurrency.threads), _LARGEST_POOL[backend]),
        pool_timeout=settings.pool_timeout,
        lock_timeout=settings.lock_timeout,
    )
    carrier = Carrier(context.client)
    try:
        await asyncio.to_thread(stock.open)
        yield OrderResources(
            stock=stock,
            carrier=carrier,
            packing_time_per_item=settings.packing_time_per_item,
        )
    finally:
        await carrier.close()
        await asyncio.to_thread(stock.close)


async def check_stock(resources: OrderResources) -> None:
    """Fail when the stock does not answer; the worker is then not ready."""
    await asyncio.to_thread(resources.stock.check)


workload: Workload[OrderSettings, OrderResources] = Workload(
    name="orders",
    description="Orders as a saga: reserve, charge, pack, ship, notify, or undo it all",
    workflows=[OrderWorkflow, ShipmentWorkflow],
    activities=[OrderActivities, score_fraud],
    settings=OrderSettings,
    resources=open_resources,
    health_checks={"stock": check_stock},
    search_attributes=[CUSTOMER, ORDER_STATE],
    start=WorkflowStart(
        workflow=OrderWorkflow,
        model=Order,
        workflow_id=lambda order: order.order_id,
        search_attributes=search_attributes,
        follow_up=play_customer,
    ),
)
