from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from temporalio.client import Client, WorkflowHandle

import fleet_orders
import fleet_payments
from fleet_orders.attributes import CUSTOMER, ORDER_STATE, search_attributes
from fleet_orders.customers import play_customer
from fleet_orders.models import (
    CancelAction,
    ChangeAddressAction,
    Order,
    OrderOutcome,
    OrderState,
)
from fleet_orders.settings import OrderSettings
from fleet_orders.stock import Stock
from fleet_payments.audit import books
from fleet_payments.settings import PaymentSettings
from temporal_fleet.testing import running

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).parents[3] / "examples" / "orders.jsonl"


def examples() -> list[Order]:
    """The valid orders of the examples."""
    orders = []
    for line in EXAMPLES.read_text().splitlines():
        try:
            orders.append(Order.model_validate_json(line))
        except ValidationError:
            continue
    return orders


def expected(order: Order) -> tuple[OrderState, str | None]:
    """How an order of the examples must end, read off its data."""
    if any(isinstance(action, CancelAction) for action in order.actions):
        return OrderState.CANCELLED, "cancelled_by_customer"
    if any(line.sku == "limited-print" for line in order.lines):
        return OrderState.COMPENSATED, "out_of_stock"
    if order.card_token.startswith("tok_declined"):
        return OrderState.COMPENSATED, "card_declined"
    if order.simulation.carrier == "loses":
        return OrderState.COMPENSATED, "carrier_lost"
    return OrderState.FULFILLED, None


def some_of_each_kind(per_kind: int) -> list[Order]:
    """A few orders of each kind of the examples."""
    taken: Counter[str] = Counter()
    chosen = []
    for order in examples():
        actions = [(action.kind, action.when) for action in order.actions]
        events = order.simulation.carrier_events
        kind = f"{expected(order)} {actions} {events} {order.card_token.startswith('tok_flaky')}"
        taken[kind] += 1
        if taken[kind] <= per_kind:
            chosen.append(order)
    return chosen


@asynccontextmanager
async def fleet(client: Client, database_url: str) -> AsyncIterator[None]:
    """Both reference workloads on one server and one database."""
    payments = PaymentSettings(database_url=SecretStr(database_url))
    orders = OrderSettings(database_url=SecretStr(database_url))
    async with (
        running(fleet_payments.workload, client, settings=payments),
        running(fleet_orders.workload, client, settings=orders),
    ):
        yield


async def start(client: Client, order: Order) -> WorkflowHandle[Any, OrderOutcome]:
    """Start an order as ``fleet start`` does."""
    return await client.start_workflow(
        "OrderWorkflow",
        order,
        id=order.order_id,
        task_queue="orders",
        result_type=OrderOutcome,
        search_attributes=search_attributes(order),
    )


async def process(client: Client, order: Order) -> OrderOutcome:
    """Start an order, play its customer and wait for its end."""
    handle = await start(client, order)
    await play_customer(handle, order)
    return await handle.result()


async def test_orders_of_every_kind_end_as_they_must(client: Client, database_url: str) -> None:
    """Orders of every kind end in the state their data asks for, and all books add up."""
    orders = some_of_each_kind(2)
    async with fleet(client, database_url):
        outcomes = await asyncio.gather(*(process(client, order) for order in orders))

    assert {o.order_id: (o.state, o.reason) for o in outcomes} == {
        order.order_id: expected(order) for order in orders
    }
    ledger = await books(database_url)
    assert ledger.problems == []
    assert ledger.pending == 0
    assert ledger.captured_minor == sum(outcome.captured_minor for outcome in outcomes)
    assert ledger.refunded_minor == sum(outcome.refunded_minor for outcome in outcomes)
    assert ledger.net_minor == sum(
        order.total_minor
        for order, outcome in zip(orders, outcomes, strict=True)
        if outcome.state is OrderState.FULFILLED
    )
    with closing(Stock(database_url)) as stock:
        assert stock.problems() == []
        for order, outcome in zip(orders, outcomes, strict=True):
            kept = bool(stock.reserved_for(order.order_id))
            assert kept == (outcome.state is OrderState.FULFILLED)


async def test_order_changed_address_is_in_the_outcome(client: Client, tmp_path: Path) -> None:
    """Only an address that is delivered to takes the place of the first one."""
    moving = [order for order in examples() if order.actions and expected(order)[1] is None]
    url = f"sqlite:///{tmp_path / 'fleet.db'}"
    async with fleet(client, url):
        outcomes = await asyncio.gather(*(process(client, order) for order in moving))

    assert len({outcome.address.city for outcome in outcomes}) > 1
    for order, outcome in zip(moving, outcomes, strict=True):
        (action,) = order.actions
        assert isinstance(action, ChangeAddressAction)
        served = action.address.problem() is None
        assert outcome.address == (action.address if served else order.address)


async def test_play_customer_twice_delivers_once(client: Client, tmp_path: Path) -> None:
    """Delivering the same actions again, during the order or after it, changes nothing."""
    order = next(order for order in examples() if expected(order)[0] is OrderState.CANCELLED)
    url = f"sqlite:///{tmp_path / 'fleet.db'}"
    async with fleet(client, url):
        handle = await start(client, order)
        await asyncio.gather(play_customer(handle, order), play_customer(handle, order))
        outcome = await handle.result()
        await play_customer(handle, order)

    assert outcome.reason == "cancelled_by_customer"
    assert (await books(url)).refunds <= 1


async def test_search_attributes_follow_the_order(client: Client, tmp_path: Path) -> None:
    """Customer and state of an order can be searched for where the server knows the attributes."""
    order = next(order for order in examples() if expected(order)[1] == "card_declined")
    async with fleet(client, f"sqlite:///{tmp_path / 'fleet.db'}"):
        handle = await start(client, order)
        await handle.result()
        attributes = (await handle.describe()).typed_search_attributes

    assert attributes[CUSTOMER] == order.customer
    assert attributes[ORDER_STATE] == "compensated"
