from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from temporalio import activity
from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from fleet_orders import workload
from fleet_orders.models import (
    Address,
    CarrierEvent,
    Consignment,
    FraudScore,
    Notification,
    Order,
    OrderOutcome,
    OrderState,
    OrderView,
    PackRequest,
    Parcel,
    ParcelStatus,
)
from fleet_orders.payments_api import ChargeRequest, Receipt, RefundRequest
from fleet_orders.settings import OrderSettings
from temporal_fleet.testing import MissingToolError, running, time_skipping

TASK_QUEUE = "orders"
ADDRESS = Address(
    name="Ada Brandt", street="Gartenweg 1", postcode="10115", city="Berlin", country="DE"
)
ELSEWHERE = ADDRESS.model_copy(update={"street": "Neue Gasse 5", "postcode": "50667"})


class Shop:
    """Every activity that an order calls, by name: notes its calls and fails where a test wants."""

    def __init__(self, environment: WorkflowEnvironment) -> None:
        self.environment = environment
        self.client = environment.client
        self.calls: list[str] = []
        self.failures: dict[str, list[Exception]] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.suspicious = False
        self.cancels_when_notified = False
        self.carrier_says: ParcelStatus | None = ParcelStatus.DELIVERED
        self.packed_for: list[Address] = []

    async def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.failures.get(name):
            raise self.failures[name].pop(0)
        if name in self.gates:
            await self.gates[name].wait()

    @activity.defn(name="score_fraud")
    async def score_fraud(self, order: Order) -> FraudScore:
        await self._called("score_fraud")
        return FraudScore(score=0.99 if self.suspicious else 0.1, suspicious=self.suspicious)

    @activity.defn(name="reserve_stock")
    async def reserve_stock(self, order: Order) -> None:
        await self._called("reserve_stock")

    @activity.defn(name="release_stock")
    async def release_stock(self, order_id: str) -> None:
        await self._called("release_stock")

    @activity.defn(name="charge")
    async def charge(self, request: ChargeRequest) -> Receipt:
        await self._called("charge")
        return Receipt(amount_minor=request.amount_minor)

    @activity.defn(name="refund")
    async def refund(self, request: RefundRequest) -> Receipt:
        await self._called("refund")
        return Receipt(amount_minor=2500)

    @activity.defn(name="pack_parcel")
    async def pack_parcel(self, request: PackRequest) -> Parcel:
        await self._called("pack_parcel")
        return Parcel(tracking_number="trk-1", items=2, resumed_at=0)

    @activity.defn(name="hand_over")
    async def hand_over(self, consignment: Consignment) -> None:
        await self._called("hand_over")
        workflow_id = activity.info().workflow_id
        if self.carrier_says is not None and workflow_id is not None:
            event = CarrierEvent(tracking_number="trk-1", status=self.carrier_says)
            await self.client.get_workflow_handle(workflow_id).signal("carrier_event", event)

    @activity.defn(name="fetch_carrier_status")
    async def fetch_carrier_status(self, consignment: Consignment) -> ParcelStatus:
        await self._called("fetch_carrier_status")
        polls = self.calls.count("fetch_carrier_status")
        return ParcelStatus.DELIVERED if polls > 2 else ParcelStatus.IN_TRANSIT

    @activity.defn(name="recall_parcel")
    async def recall_parcel(self, tracking_number: str) -> None:
        await self._called("recall_parcel")

    @activity.defn(name="notify_customer")
    async def notify_customer(self, notification: Notification) -> None:
        await self._called("notify_customer")
        if self.cancels_when_notified:
            # Once: each signal makes the workflow task, and with it this local activity, run again.
            self.cancels_when_notified = False
            order = self.client.get_workflow_handle(notification.order_id)
            await order.signal("cancel", "too late")


@pytest.fixture
async def environment() -> AsyncIterator[WorkflowEnvironment]:
    """Temporal's test server, which skips time."""
    try:
        async with time_skipping() as server:
            yield server
    except MissingToolError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@asynccontextmanager
async def workers(shop: Shop, *, sticky_cache: int = 100) -> AsyncIterator[None]:
    """Workers of both task queues with the shop's activities."""
    payments = Worker(shop.client, task_queue="payments", activities=[shop.charge, shop.refund])
    simulated = replace(
        workload,
        activities=[
            shop.score_fraud,
            shop.reserve_stock,
            shop.release_stock,
            shop.pack_parcel,
            shop.hand_over,
            shop.fetch_carrier_status,
            shop.recall_parcel,
            shop.notify_customer,
        ],
        resources=None,
    )
    orders = running(
        simulated, shop.client, settings=OrderSettings(), max_cached_workflows=sticky_cache
    )
    async with payments, orders:
        yield


@pytest.fixture
async def shop(environment: WorkflowEnvironment) -> AsyncIterator[Shop]:
    """A shop with running workers."""
    open_shop = Shop(environment)
    async with workers(open_shop):
        yield open_shop


async def start(shop: Shop, **values: Any) -> WorkflowHandle[Any, OrderOutcome]:
    """Start an order of two mugs at 12.50 EUR."""
    order = Order.model_validate(
        {
            "order_id": f"ord-{uuid4().hex[:8]}",
            "customer": "customer-1",
            "card_token": "tok_visa",
            "lines": [{"sku": "mug", "quantity": 2, "unit_price_minor": 1250}],
            "address": ADDRESS,
        }
        | values
    )
    return await shop.client.start_workflow(
        "OrderWorkflow",
        order,
        id=order.order_id,
        task_queue=TASK_QUEUE,
        result_type=OrderOutcome,
    )


async def reach(handle: WorkflowHandle[Any, Any], state: OrderState) -> OrderView:
    """Wait until an order is in a state."""
    while True:
        view: OrderView = await handle.query("status", result_type=OrderView)
        if view.state is state:
            return view
        await asyncio.sleep(0.01)


async def reach_packed(handle: WorkflowHandle[Any, Any]) -> OrderView:
    """Wait until a parcel is packed and waits to be shipped: no activity is under way.

    The test server fails a workflow task that cancels an activity which has just completed, and
    then never gives that task out again. A real server goes on.
    """
    while True:
        view = await reach(handle, OrderState.PACKING)
        if view.tracking_number is not None:
            return view
        await asyncio.sleep(0.01)


async def outcome_without_skipping(
    shop: Shop, handle: WorkflowHandle[Any, OrderOutcome]
) -> OrderOutcome:
    """Wait for the outcome of a cancelled order in real time.

    Where time is skipped, the wait that the cancellation shall end may be over before it arrives.
    """
    with shop.environment.auto_time_skipping_disabled():
        return await handle.result()


FORWARD = ["score_fraud", "reserve_stock", "charge", "pack_parcel", "hand_over", "notify_customer"]


async def test_order_without_trouble_is_fulfilled(shop: Shop) -> None:
    """An order goes through all steps in order and nothing is undone."""
    outcome = await (await start(shop)).result()

    assert shop.calls == FORWARD
    assert (outcome.state, outcome.reason) == (OrderState.FULFILLED, None)
    assert (outcome.captured_minor, outcome.refunded_minor) == (2500, 0)
    assert (outcome.tracking_number, outcome.notified) == ("trk-1", True)


@pytest.mark.parametrize(
    ("failing", "error_type", "reason", "undone"),
    [
        ("reserve_stock", "OutOfStock", "out_of_stock", ["release_stock"]),
        ("charge", "CardDeclined", "card_declined", ["refund", "release_stock"]),
        ("charge", "IdempotencyConflict", "charge_failed", ["refund", "release_stock"]),
        ("pack_parcel", "NoBoxes", "pack_parcel_failed", ["refund", "release_stock"]),
        ("hand_over", "OnStrike", "shipment_failed", ["recall_parcel", "refund", "release_stock"]),
    ],
    ids=["out-of-stock", "declined", "conflict", "packing", "hand-over"],
)
async def test_order_failing_step_undoes_in_reverse(
    shop: Shop, failing: str, error_type: str, reason: str, undone: list[str]
) -> None:
    """A step that fails for good ends as compensated, with all steps so far undone in reverse."""
    shop.failures[failing] = [ApplicationError("no", type=error_type, non_retryable=True)]
    outcome = await (await start(shop)).result()

    assert shop.calls == [*FORWARD[: FORWARD.index(failing) + 1], *undone, "notify_customer"]
    assert (outcome.state, outcome.reason) == (OrderState.COMPENSATED, reason)


async def test_order_lost_parcel_gives_money_back(shop: Shop) -> None:
    """A lost parcel is not called back, but its money and its stock are."""
    shop.carrier_says = ParcelStatus.LOST
    outcome = await (await start(shop)).result()

    assert shop.calls[5:] == ["refund", "release_stock", "notify_customer"]
    assert (outcome.state, outcome.reason) == (OrderState.COMPENSATED, "carrier_lost")
    assert (outcome.captured_minor, outcome.refunded_minor) == (2500, 2500)


async def test_order_silent_carrier_is_asked(shop: Shop) -> None:
    """A shipment whose events are lost asks the carrier, again and again, until it knows."""
    shop.carrier_says = None
    outcome = await (await start(shop)).result()

    assert shop.calls.count("fetch_carrier_status") == 3
    assert outcome.state is OrderState.FULFILLED


async def test_order_compensation_retries_until_done(shop: Shop) -> None:
    """A refund that fails many times is retried for as long as it takes."""
    shop.carrier_says = ParcelStatus.LOST
    shop.failures["refund"] = [ApplicationError(f"down {n}") for n in range(20)]
    outcome = await (await start(shop)).result()

    assert shop.calls.count("refund") == 21
    assert outcome.refunded_minor == 2500


async def test_order_stuck_compensation_is_tried_again_when_mended(shop: Shop) -> None:
    """Even an error that is marked as not retryable does not make an order forget the money."""
    shop.carrier_says = ParcelStatus.LOST
    shop.failures["refund"] = [ApplicationError("ledger closed", non_retryable=True)] * 3
    outcome = await (await start(shop)).result()

    assert shop.calls[-3:] == ["refund", "release_stock", "notify_customer"]
    assert (outcome.state, outcome.refunded_minor) == (OrderState.COMPENSATED, 2500)


async def test_order_charge_without_answer_counts_what_was_refunded(shop: Shop) -> None:
    """Money that a failed charge took after all appears as captured and as refunded."""
    shop.failures["charge"] = [ApplicationError("answer lost", type="Odd", non_retryable=True)]
    outcome = await (await start(shop)).result()

    assert (outcome.captured_minor, outcome.refunded_minor) == (2500, 2500)


async def test_order_suspicious_is_refused_before_anything_happens(shop: Shop) -> None:
    """A suspicious order is refused; nothing was reserved or charged."""
    shop.suspicious = True
    outcome = await (await start(shop)).result()

    assert shop.calls == ["score_fraud", "notify_customer"]
    assert (outcome.state, outcome.reason) == (OrderState.COMPENSATED, "fraud_suspected")


async def test_order_address_not_served_is_refused(shop: Shop) -> None:
    """An order to where nothing is delivered is refused with the reason."""
    outcome = await (
        await start(shop, address=ADDRESS.model_copy(update={"country": "XX"}))
    ).result()

    assert outcome.reason == "invalid_address"
    assert "'XX'" in (outcome.detail or "")


async def test_order_fraud_score_unavailable_goes_on(shop: Shop) -> None:
    """An order does not wait for a score that cannot be had."""
    shop.failures["score_fraud"] = [ApplicationError("no pool")] * 2
    outcome = await (await start(shop)).result()

    assert outcome.state is OrderState.FULFILLED


async def test_order_customer_not_reachable_is_final_all_the_same(shop: Shop) -> None:
    """A message that cannot be sent undoes nothing; the outcome says that it was not sent."""
    shop.failures["notify_customer"] = [ApplicationError("no mail", non_retryable=True)]
    outcome = await (await start(shop)).result()

    assert (outcome.state, outcome.notified) == (OrderState.FULFILLED, False)


async def cancel_by_signal(handle: WorkflowHandle[Any, Any]) -> None:
    """Cancel as a customer does."""
    await handle.signal("cancel", "found it cheaper")


async def cancel_by_request(handle: WorkflowHandle[Any, Any]) -> None:
    """Cancel as an operator does."""
    await handle.cancel()


WAYS = pytest.mark.parametrize(
    ("cancel", "reason"),
    [
        (cancel_by_signal, "cancelled_by_customer"),
        (cancel_by_request, "cancelled_by_operator"),
    ],
    ids=["signal", "request"],
)


@WAYS
async def test_order_cancelled_in_review_has_nothing_to_undo(
    shop: Shop, cancel: Callable[[WorkflowHandle[Any, Any]], Any], reason: str
) -> None:
    """An order that is cancelled before anything happened ends without compensations."""
    handle = await start(shop, simulation={"review_seconds": 3600})
    await reach(handle, OrderState.REVIEWING)
    await cancel(handle)
    outcome = await outcome_without_skipping(shop, handle)

    assert shop.calls == ["score_fraud", "notify_customer"]
    assert (outcome.state, outcome.reason) == (OrderState.CANCELLED, reason)


@WAYS
async def test_order_cancelled_after_charge_undoes_everything(
    shop: Shop, cancel: Callable[[WorkflowHandle[Any, Any]], Any], reason: str
) -> None:
    """An order that is cancelled while it is packed gets its money and goods back."""
    handle = await start(shop, simulation={"packing_seconds": 3600})
    view = await reach_packed(handle)
    assert view.to_compensate == ["refund", "release_stock"]
    await cancel(handle)
    outcome = await outcome_without_skipping(shop, handle)

    assert shop.calls[-3:] == ["refund", "release_stock", "notify_customer"]
    assert (outcome.state, outcome.reason) == (OrderState.CANCELLED, reason)
    assert (outcome.captured_minor, outcome.refunded_minor) == (2500, 2500)


@WAYS
async def test_order_cancelled_while_charging_is_refunded(
    shop: Shop, cancel: Callable[[WorkflowHandle[Any, Any]], Any], reason: str
) -> None:
    """A charge under way when the order is cancelled is refunded, whatever becomes of it."""
    shop.gates["charge"] = asyncio.Event()
    handle = await start(shop)
    while "charge" not in shop.calls:
        await asyncio.sleep(0.01)
    await cancel(handle)
    outcome = await outcome_without_skipping(shop, handle)
    shop.gates["charge"].set()

    assert shop.calls[-3:] == ["refund", "release_stock", "notify_customer"]
    assert (outcome.state, outcome.reason) == (OrderState.CANCELLED, reason)


@WAYS
async def test_order_cancelled_on_its_way_is_called_back(
    shop: Shop, cancel: Callable[[WorkflowHandle[Any, Any]], Any], reason: str
) -> None:
    """A parcel on its way is called back once, by its shipment, before the money goes back."""
    shop.carrier_says = None
    handle = await start(shop, simulation={"transit_seconds": 3600})
    await reach(handle, OrderState.SHIPPING)
    while "hand_over" not in shop.calls:
        await asyncio.sleep(0.01)
    await cancel(handle)
    outcome = await outcome_without_skipping(shop, handle)

    assert shop.calls[5:] == ["recall_parcel", "refund", "release_stock", "notify_customer"]
    assert (outcome.state, outcome.reason) == (OrderState.CANCELLED, reason)


async def test_order_cancel_request_during_compensation_changes_nothing(shop: Shop) -> None:
    """Compensations survive a cancellation request that comes while they run."""
    shop.gates["refund"] = asyncio.Event()
    handle = await start(shop, simulation={"packing_seconds": 3600})
    await reach_packed(handle)
    await handle.signal("cancel", "first")
    await reach(handle, OrderState.COMPENSATING)
    await handle.cancel()
    await handle.signal("cancel", "second")
    shop.gates["refund"].set()
    outcome = await outcome_without_skipping(shop, handle)

    assert shop.calls[-3:] == ["refund", "release_stock", "notify_customer"]
    assert (outcome.reason, outcome.detail) == ("cancelled_by_customer", "first")


async def test_order_cancel_too_late_has_no_effect(shop: Shop) -> None:
    """An order whose parcel has arrived is not cancelled any more."""
    shop.cancels_when_notified = True
    outcome = await (await start(shop)).result()

    assert (outcome.state, outcome.refunded_minor) == (OrderState.FULFILLED, 0)


async def test_change_address_before_shipping_is_used(shop: Shop) -> None:
    """A new address before shipping ends the wait and is where the parcel goes."""
    handle = await start(shop, simulation={"packing_seconds": 3600})
    await reach(handle, OrderState.PACKING)
    view = await handle.execute_update("change_address", ELSEWHERE, result_type=OrderView)
    outcome = await handle.result()

    assert view.address == outcome.address == ELSEWHERE
    assert outcome.state is OrderState.FULFILLED


async def refusal(handle: WorkflowHandle[Any, Any], address: Address) -> ApplicationError:
    """Ask for another address and return why it is refused."""
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await handle.execute_update("change_address", address)
    assert isinstance(caught.value.cause, ApplicationError)
    return caught.value.cause


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"country": "XX"}, "country 'XX' is not delivered to; use one of AT, CH, DE, FR"),
        ({"postcode": "123"}, "postcode '123' must have 5 digits in DE"),
        ({"postcode": "1a345"}, "postcode '1a345' must be of digits only"),
    ],
    ids=["country", "length", "letters"],
)
async def test_change_address_not_served_is_refused(
    shop: Shop, change: dict[str, str], message: str
) -> None:
    """An address that cannot be delivered to is refused with the reason, and nothing changes."""
    handle = await start(shop, simulation={"packing_seconds": 3600})
    await reach(handle, OrderState.PACKING)
    error = await refusal(handle, ADDRESS.model_copy(update=change))

    assert (error.type, error.message) == ("InvalidAddress", message)
    assert (await handle.query("status", result_type=OrderView)).address == ADDRESS


async def test_change_address_while_shipping_is_refused(shop: Shop) -> None:
    """A parcel on its way keeps its address."""
    shop.carrier_says = None
    handle = await start(shop, simulation={"transit_seconds": 3600})
    await reach(handle, OrderState.SHIPPING)
    error = await refusal(handle, ELSEWHERE)

    assert error.type == "TooLate"
    assert "shipping" in error.message


async def test_order_evicted_at_every_step_goes_on(environment: WorkflowEnvironment) -> None:
    """Without any cache every step replays the history, through a cancellation too."""
    shop = Shop(environment)
    async with workers(shop, sticky_cache=0):
        handle = await start(shop, simulation={"packing_seconds": 3600})
        await reach_packed(handle)
        await handle.cancel()
        outcome = await outcome_without_skipping(shop, handle)

    assert (outcome.state, outcome.refunded_minor) == (OrderState.CANCELLED, 2500)
