from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from fleet_orders.activities import OrderActivities, OrderResources
from fleet_orders.carrier import Carrier
from fleet_orders.models import (
    Consignment,
    Order,
    OrderLine,
    PackRequest,
    ParcelStatus,
    Simulation,
)
from fleet_orders.stock import Stock


def _no_client() -> Client:
    raise AssertionError("no event is sent in these tests")


@pytest.fixture
def activities(tmp_path: Path) -> Iterator[OrderActivities]:
    """The workload's activities on a new stock."""
    with closing(Stock(f"sqlite:///{tmp_path / 'stock.db'}")) as stock:
        stock.open()
        resources = OrderResources(
            stock=stock, carrier=Carrier(_no_client), packing_time_per_item=timedelta(0)
        )
        yield OrderActivities(resources)


@pytest.fixture
def heartbeats() -> list[Any]:
    """Details of the heartbeats that an activity sent."""
    return []


@pytest.fixture
def environment(heartbeats: list[Any]) -> ActivityEnvironment:
    """Surroundings of one activity attempt."""
    surroundings = ActivityEnvironment()
    surroundings.on_heartbeat = heartbeats.append
    return surroundings


def order(**values: Any) -> Order:
    """An order of two mugs."""
    return Order.model_validate(
        {
            "order_id": "ord-1",
            "customer": "customer-1",
            "card_token": "tok_visa",
            "lines": [{"sku": "mug", "quantity": 2, "unit_price_minor": 1250}],
            "address": {
                "name": "Ada Brandt",
                "street": "Gartenweg 1",
                "postcode": "10115",
                "city": "Berlin",
                "country": "DE",
            },
        }
        | values
    )


def pack_request(quantity: int) -> PackRequest:
    """A parcel of so many mugs."""
    line = OrderLine(sku="mug", quantity=quantity, unit_price_minor=1250)
    return PackRequest(order_id="ord-1", lines=[line])


async def test_pack_parcel_heartbeats_for_each_item(
    activities: OrderActivities, environment: ActivityEnvironment, heartbeats: list[Any]
) -> None:
    """Packing tells after each item how many are packed."""
    parcel = await environment.run(activities.pack_parcel, pack_request(4))

    assert heartbeats == [1, 2, 3, 4]
    assert (parcel.items, parcel.resumed_at) == (4, 0)


async def test_pack_parcel_second_attempt_goes_on_where_the_first_died(
    activities: OrderActivities, environment: ActivityEnvironment, heartbeats: list[Any]
) -> None:
    """An attempt with heartbeat details packs only what is left."""
    environment.info = ActivityEnvironment.default_info()
    object.__setattr__(environment.info, "heartbeat_details", [3])
    parcel = await environment.run(activities.pack_parcel, pack_request(5))

    assert heartbeats == [4, 5]
    assert (parcel.items, parcel.resumed_at) == (5, 3)


async def test_pack_parcel_same_order_has_the_same_tracking_number(
    activities: OrderActivities, environment: ActivityEnvironment
) -> None:
    """A repeated packing does not make another parcel."""
    first = await environment.run(activities.pack_parcel, pack_request(1))
    second = await environment.run(activities.pack_parcel, pack_request(1))

    assert first == second


async def test_pack_parcel_cancelled_stops_at_once(
    activities: OrderActivities, environment: ActivityEnvironment, heartbeats: list[Any]
) -> None:
    """A cancelled packing ends as cancelled, with the items packed so far in its heartbeats."""
    begun = asyncio.Event()

    def note(packed: int) -> None:
        heartbeats.append(packed)
        begun.set()

    environment.on_heartbeat = note
    running = asyncio.create_task(environment.run(activities.pack_parcel, pack_request(100)))
    await begun.wait()
    environment.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert 1 <= len(heartbeats) < 100


async def test_reserve_stock_sold_out_fails_for_good(
    activities: OrderActivities, environment: ActivityEnvironment
) -> None:
    """A sold-out product is a non-retryable OutOfStock that names the product."""
    line = {"sku": "limited-print", "quantity": 1, "unit_price_minor": 100}

    with pytest.raises(ApplicationError, match="limited-print") as caught:
        environment.run(activities.reserve_stock, order(lines=[line]))
    assert (caught.value.type, caught.value.non_retryable) == ("OutOfStock", True)


async def test_reserve_stock_after_release_fails_for_good(
    activities: OrderActivities, environment: ActivityEnvironment
) -> None:
    """A reservation that comes after its compensation is refused."""
    environment.run(activities.release_stock, "ord-1")

    with pytest.raises(ApplicationError) as caught:
        environment.run(activities.reserve_stock, order())
    assert (caught.value.type, caught.value.non_retryable) == ("ReservationReleased", True)


@pytest.mark.parametrize(
    ("carrier", "since", "status"),
    [
        ("delivers", timedelta(seconds=1), ParcelStatus.IN_TRANSIT),
        ("delivers", timedelta(seconds=90), ParcelStatus.DELIVERED),
        ("loses", timedelta(seconds=90), ParcelStatus.LOST),
    ],
    ids=["young", "arrived", "lost"],
)
async def test_fetch_carrier_status_follows_from_the_consignment(
    activities: OrderActivities,
    environment: ActivityEnvironment,
    carrier: str,
    since: timedelta,
    status: ParcelStatus,
) -> None:
    """The carrier's answer needs no memory: every process gives the same."""
    consignment = Consignment(
        tracking_number="trk-1",
        handed_over_at=datetime.now(UTC) - since,
        simulation=Simulation.model_validate({"transit_seconds": 60, "carrier": carrier}),
    )

    assert await environment.run(activities.fetch_carrier_status, consignment) == status
