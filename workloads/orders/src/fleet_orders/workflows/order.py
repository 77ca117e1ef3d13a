"""The life of one order: a saga whose steps are undone in reverse when one of them fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from temporalio import workflow
from temporalio.common import VersioningBehavior
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    FailureError,
    is_cancelled_exception,
)
from temporalio.workflow import ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from fleet_orders import payments_api, policies
    from fleet_orders.activities import OrderActivities, score_fraud
    from fleet_orders.attributes import ORDER_STATE
    from fleet_orders.cancellation import undisturbed
    from fleet_orders.models import (
        Address,
        Notification,
        Order,
        OrderOutcome,
        OrderState,
        OrderView,
        PackRequest,
        ParcelStatus,
        ShipmentOutcome,
        ShipmentRequest,
    )
    from fleet_orders.workflows.shipment import ShipmentWorkflow

_REASONS = {
    "OutOfStock": "out_of_stock",
    payments_api.CARD_DECLINED: "card_declined",
}
"""Error types of activities with a reason of their own; others are named after their activity."""


class _RefusedError(Exception):
    """The order cannot be fulfilled, though no activity failed."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(detail)


@dataclass(frozen=True)
class _Unfulfilled:
    """Why an order is not fulfilled, and which final state that means."""

    state: Literal[OrderState.COMPENSATED, OrderState.CANCELLED]
    reason: str
    detail: str


@dataclass(frozen=True)
class _Compensation:
    name: str
    undo: Callable[[], Awaitable[None]]


@workflow.defn(versioning_behavior=VersioningBehavior.PINNED)
class OrderWorkflow:
    """Validates, reserves, charges, packs, ships and notifies; or undoes what it did of that.

    Business failures and cancellations end as an outcome, never as a failed workflow: a failed
    workflow means that the software is broken.
    """

    @workflow.init
    def __init__(self, order: Order) -> None:
        self._order = order
        self._state = OrderState.VALIDATING
        self._address = order.address
        self._captured_minor = 0
        self._refunded_minor = 0
        self._tracking_number: str | None = None
        self._cancelled_because: str | None = None
        self._unfulfilled: _Unfulfilled | None = None
        self._compensations: list[_Compensation] = []
        self._steps: asyncio.Task[None] | None = None

    @workflow.run
    async def run(self, order: Order) -> OrderOutcome:
        """Process one order to its final state.

        Args:
            order: What is ordered. Kept by ``__init__``, so that signals may come first.
        """
        self._steps = asyncio.create_task(self._fulfil(order))
        try:
            await self._steps
        except (asyncio.CancelledError, FailureError, _RefusedError) as error:
            self._unfulfilled = self._explain(error)
        return await undisturbed(self._finish(order))

    @workflow.signal
    def cancel(self, reason: str = "no reason given") -> None:
        """Cancel the order, until the parcel has arrived; later it has no effect.

        Args:
            reason: For people; part of the outcome.
        """
        cancellable = self._state.is_before_shipping or self._state is OrderState.SHIPPING
        if not cancellable or self._cancelled_because is not None:
            workflow.logger.info("cancellation has no effect, the order is %s", self._state)
            return
        self._cancelled_because = reason
        if self._steps is not None:
            self._steps.cancel()

    @workflow.update
    def change_address(self, address: Address) -> OrderView:
        """Send the parcel elsewhere; refused when it is on its way or the address is not served."""
        self._address = address
        return self.status()

    @change_address.validator
    def _refuse_address(self, address: Address) -> None:
        if not self._state.is_before_shipping or self._cancelled_because is not None:
            message = f"the order is {self._state}: its address can no longer be changed"
            raise ApplicationError(message, type="TooLate")
        problem = address.problem()
        if problem is not None:
            raise ApplicationError(problem, type="InvalidAddress")

    @workflow.query
    def status(self) -> OrderView:
        """Where the order is now."""
        unfulfilled = self._unfulfilled
        return OrderView(
            order_id=self._order.order_id,
            state=self._state,
            address=self._address,
            captured_minor=self._captured_minor,
            refunded_minor=self._refunded_minor,
            tracking_number=self._tracking_number,
            reason=unfulfilled.reason if unfulfilled else None,
            to_compensate=[step.name for step in reversed(self._compensations)],
        )

    async def _fulfil(self, order: Order) -> None:
        """Go through all steps. A step's compensation is noted before the step begins.

        A step that fails or is cancelled may still have happened, or may happen yet. So
        compensations are written to be right in each case.
        """
        self._enter(OrderState.VALIDATING)
        await self._validate(order)
        self._enter(OrderState.REVIEWING)
        await self._wait(order.simulation.review_seconds)
        self._enter(OrderState.RESERVING)
        await self._reserve(order)
        self._enter(OrderState.CHARGING)
        await self._charge(order)
        self._enter(OrderState.PACKING)
        await self._pack(order)
        await self._wait(
            order.simulation.packing_seconds, until=lambda: self._address != order.address
        )
        self._enter(OrderState.SHIPPING, listed=True)
        await self._ship(order)

    async def _finish(self, order: Order) -> OrderOutcome:
        state: Literal[OrderState.FULFILLED, OrderState.COMPENSATED, OrderState.CANCELLED]
        state = OrderState.FULFILLED
        if self._unfulfilled is not None:
            self._enter(OrderState.COMPENSATING, listed=True)
            await self._compensate()
            state = self._unfulfilled.state
        else:
            self._enter(OrderState.NOTIFYING)
        notified = await self._notify(order, state)
        self._enter(state, listed=True)
        # An update that was accepted gets its answer before the workflow is over.
        await workflow.wait_condition(workflow.all_handlers_finished)
        return OrderOutcome(
            order_id=order.order_id,
            state=state,
            reason=self._unfulfilled.reason if self._unfulfilled else None,
            detail=self._unfulfilled.detail if self._unfulfilled else None,
            currency=order.currency,
            captured_minor=self._captured_minor,
            refunded_minor=self._refunded_minor,
            tracking_number=self._tracking_number,
            address=self._address,
            notified=notified,
        )

    async def _validate(self, order: Order) -> None:
        problem = order.address.problem()
        if problem is not None:
            raise _RefusedError("invalid_address", problem)
        try:
            fraud = await workflow.execute_activity(score_fraud, order, **policies.SCORE_FRAUD)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            workflow.logger.warning("the order continues without a fraud score: %s", error.cause)
            return
        if fraud.suspicious:
            raise _RefusedError("fraud_suspected", f"fraud score {fraud.score:.2f}")

    async def _reserve(self, order: Order) -> None:
        self._compensations.append(_Compensation("release_stock", self._release_stock))
        await workflow.execute_activity_method(
            OrderActivities.reserve_stock, order, **policies.RESERVE_STOCK
        )

    async def _charge(self, order: Order) -> None:
        self._compensations.append(_Compensation("refund", self._refund))
        receipt = await workflow.execute_activity(
            payments_api.CHARGE,
            payments_api.ChargeRequest(
                idempotency_key=self._charge_key,
                customer=order.customer,
                card_token=order.card_token,
                amount_minor=order.total_minor,
                currency=order.currency,
            ),
            result_type=payments_api.Receipt,
            **policies.CHARGE,
        )
        self._captured_minor = receipt.amount_minor

    async def _pack(self, order: Order) -> None:
        parcel = await workflow.execute_activity_method(
            OrderActivities.pack_parcel,
            PackRequest(order_id=order.order_id, lines=order.lines),
            **policies.PACK_PARCEL,
        )
        self._tracking_number = parcel.tracking_number

    async def _ship(self, order: Order) -> None:
        assert self._tracking_number is not None, "packing gives the parcel its number"
        self._compensations.append(_Compensation("recall_parcel", self._recall_parcel))
        shipment = await self._run_shipment(order, self._tracking_number)
        # The shipment came to an end of its own: there is nothing on its way to call back.
        self._compensations.pop()
        if shipment.status is ParcelStatus.LOST:
            raise _RefusedError("carrier_lost", f"the carrier lost parcel {self._tracking_number}")
        if shipment.status is ParcelStatus.RECALLED:
            self._stop_if_cancelled()
            raise _RefusedError(
                "shipment_recalled", f"parcel {self._tracking_number} was called back"
            )

    async def _run_shipment(self, order: Order, tracking_number: str) -> ShipmentOutcome:
        return await workflow.execute_child_workflow(
            ShipmentWorkflow.run,
            ShipmentRequest(
                order_id=order.order_id,
                tracking_number=tracking_number,
                address=self._address,
                simulation=order.simulation,
            ),
            id=f"{order.order_id}-shipment",
            # When an operator terminates the order, the parcel is called back and not left alone.
            parent_close_policy=ParentClosePolicy.REQUEST_CANCEL,
        )

    async def _compensate(self) -> None:
        while self._compensations:
            compensation = self._compensations[-1]
            try:
                await compensation.undo()
            except ActivityError as error:
                # Retries have no end, so this is an error marked as not retryable. The money and
                # the goods must still go back: somebody mends what is wrong, and it is tried again.
                workflow.logger.error("%s is stuck: %s", compensation.name, error.cause)
                await workflow.sleep(policies.MENDING_PAUSE)
            else:
                self._compensations.pop()

    async def _release_stock(self) -> None:
        await workflow.execute_activity_method(
            OrderActivities.release_stock, self._order.order_id, **policies.COMPENSATION
        )

    async def _refund(self) -> None:
        receipt = await workflow.execute_activity(
            payments_api.REFUND,
            payments_api.RefundRequest(
                idempotency_key=f"{self._order.order_id}/refund", charge_key=self._charge_key
            ),
            result_type=payments_api.Receipt,
            **policies.REFUND,
        )
        self._refunded_minor = receipt.amount_minor
        # A charge whose answer never came may have been captured all the same.
        self._captured_minor = max(self._captured_minor, receipt.amount_minor)

    async def _recall_parcel(self) -> None:
        assert self._tracking_number is not None, "packing gives the parcel its number"
        await workflow.execute_activity_method(
            OrderActivities.recall_parcel, self._tracking_number, **policies.COMPENSATION
        )

    async def _notify(self, order: Order, state: OrderState) -> bool:
        notification = Notification(
            order_id=order.order_id,
            customer=order.customer,
            state=state,
            reason=self._unfulfilled.reason if self._unfulfilled else None,
        )
        try:
            await workflow.execute_local_activity_method(
                OrderActivities.notify_customer, notification, **policies.NOTIFY_CUSTOMER
            )
        except FailureError as error:  # a local activity's own error is not always wrapped
            # The parcel has arrived, or the money is back: that is not undone for want of a
            # message.
            workflow.logger.warning("the customer could not be told: %s", error.cause or error)
            return False
        return True

    async def _wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        self._stop_if_cancelled()
        if seconds <= 0:
            return
        self._list_state()
        try:
            await workflow.wait_condition(until, timeout=seconds)
        except TimeoutError:
            workflow.logger.debug("waited %s s in state %s", seconds, self._state)

    def _enter(self, state: OrderState, *, listed: bool = False) -> None:
        self._stop_if_cancelled()
        self._state = state
        if listed:
            self._list_state()

    def _list_state(self) -> None:
        """Write the state to its search attribute, for states that may last.

        Each write is an event of the history and a write to the visibility store: too much for a
        state that is over within a second.
        """
        # Attributes that the namespace does not know would block the workflow forever. The starter
        # knows, and gives them only where they are known.
        if workflow.info().typed_search_attributes.get(ORDER_STATE) is not None:
            workflow.upsert_search_attributes([ORDER_STATE.value_set(self._state)])

    def _stop_if_cancelled(self) -> None:
        """Raise when cancelled: a step that ends in the same moment swallows its cancellation."""
        asked = self._cancelled_because is not None or workflow.cancellation_reason() is not None
        if asked and self._unfulfilled is None and self._steps is asyncio.current_task():
            raise asyncio.CancelledError

    def _explain(self, error: BaseException) -> _Unfulfilled:
        if is_cancelled_exception(error):
            if self._cancelled_because is not None:
                return _Unfulfilled(
                    OrderState.CANCELLED, "cancelled_by_customer", self._cancelled_because
                )
            detail = workflow.cancellation_reason() or "the workflow was cancelled"
            return _Unfulfilled(OrderState.CANCELLED, "cancelled_by_operator", detail)
        if isinstance(error, _RefusedError):
            return _Unfulfilled(OrderState.COMPENSATED, error.reason, error.detail)
        cause = error.__cause__ or error
        reason, detail = None, str(cause)
        if isinstance(cause, ApplicationError):
            reason, detail = _REASONS.get(cause.type or ""), cause.message
        if reason is None:
            failed = error.activity_type if isinstance(error, ActivityError) else "shipment"
            reason = f"{failed}_failed"
        return _Unfulfilled(OrderState.COMPENSATED, reason, detail)

    @property
    def _charge_key(self) -> str:
        return f"{self._order.order_id}/charge"
