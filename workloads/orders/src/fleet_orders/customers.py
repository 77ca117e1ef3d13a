"""Plays the customers: delivers what they do after ordering, as signals and updates."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

from temporalio.client import (
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowUpdateFailedError,
)
from temporalio.service import RPCError, RPCStatusCode

from fleet_orders.models import CancelAction, ChangeAddressAction, Order, OrderState, OrderView

_FIRST_LOOK = timedelta(milliseconds=100)
_LONGEST_PAUSE = timedelta(seconds=1)
_ANSWER_TIMEOUT = timedelta(seconds=5)
_ORDER_OF_STATES = list(OrderState)

logger = logging.getLogger(__name__)


async def play_customer(handle: WorkflowHandle[Any, Any], order: Order) -> None:
    """Deliver the actions of an order, each when the order has reached the action's state.

    It may be called again for the same order, at any time: updates have IDs of their own, a second
    cancellation has no effect, and nothing is sent to an order that is over.

    Args:
        handle: The order's workflow.
        order: With the actions to deliver.
    """
    for number, action in enumerate(order.actions):
        if not await _has_reached(handle, action.when):
            return
        if isinstance(action, CancelAction):
            await _cancel(handle, action)
        else:
            await _change_address(handle, action, update_id=f"change-address-{number}")


async def _has_reached(handle: WorkflowHandle[Any, Any], state: OrderState) -> bool:
    """Wait until an order is in a state, or beyond it; False when it is over."""
    pause = _FIRST_LOOK
    while True:
        try:
            description = await handle.describe()
            # A closed workflow would answer queries too, at the price of a replay.
            if description.status is not WorkflowExecutionStatus.RUNNING:
                return False
            view: OrderView = await handle.query(
                "status", result_type=OrderView, rpc_timeout=_ANSWER_TIMEOUT
            )
        except RPCError as error:
            # No worker polls at the moment, or the server is busy: the order is looked at again.
            logger.info("order %s does not answer yet: %s", handle.id, error)
        else:
            if view.state.is_final:
                return False
            if _ORDER_OF_STATES.index(view.state) >= _ORDER_OF_STATES.index(state):
                return True
        await asyncio.sleep(pause.total_seconds())
        pause = min(pause * 1.5, _LONGEST_PAUSE)


async def _cancel(handle: WorkflowHandle[Any, Any], action: CancelAction) -> None:
    try:
        await handle.signal("cancel", action.reason)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        logger.info("order %s was over before it could be cancelled", handle.id)


async def _change_address(
    handle: WorkflowHandle[Any, Any], action: ChangeAddressAction, *, update_id: str
) -> None:
    try:
        await handle.execute_update("change_address", action.address, id=update_id)
    except WorkflowUpdateFailedError as error:
        logger.info("order %s refuses the new address: %s", handle.id, error.cause)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        logger.info("order %s was over before its address could be changed", handle.id)
