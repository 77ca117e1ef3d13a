"""The declaration of the payments workload: what its worker registers, opens and checks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fleet_payments.activities import PaymentActivities, PaymentResources
from fleet_payments.database import build_engine, create_schema, parse_database_url
from fleet_payments.gateway import SimulatedGateway
from fleet_payments.ledger import Ledger
from fleet_payments.settings import PaymentSettings
from temporal_fleet import ResourceContext, Workload

_LARGEST_POOL = {"sqlite": 4, "postgresql": 20}


@asynccontextmanager
async def open_resources(
    context: ResourceContext[PaymentSettings],
) -> AsyncIterator[PaymentResources]:
    """Open the ledger, creating its schema when the database is new.

    Args:
        context: Settings of the workload and of the worker.

    Raises:
        OSError: When the database cannot be reached.
    """
    settings = context.settings
    url = parse_database_url(settings.database_url)
    pool_size = settings.pool_size or min(
        context.fleet.concurrency.activities, _LARGEST_POOL[url.get_backend_name()]
    )
    engine = build_engine(
        url,
        pool_size=pool_size,
        pool_timeout=settings.pool_timeout,
        lock_timeout=settings.lock_timeout,
    )
    try:
        await create_schema(engine, settings.lock_timeout)
        gateway = SimulatedGateway(
            engine,
            latency=settings.gateway_latency,
            overload_delay=settings.gateway_overload_delay,
        )
        yield PaymentResources(
            engine=engine, ledger=Ledger(engine, settings.currency), gateway=gateway
        )
    finally:
        await engine.dispose()


async def check_database(resources: PaymentResources) -> None:
    """Fail when the ledger's database does not answer; the worker is then not ready."""
    await resources.ledger.ping()


workload: Workload[PaymentSettings, PaymentResources] = Workload(
    name="payments",
    description="Charges and refunds on a double-entry ledger, idempotent by key",
    activities=[PaymentActivities],
    settings=PaymentSettings,
    resources=open_resources,
    health_checks={"database": check_database},
)
