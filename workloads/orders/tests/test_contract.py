from __future__ import annotations

import pytest
from pydantic import BaseModel
from temporalio import activity

import fleet_payments
from fleet_orders import payments_api
from fleet_payments import models
from fleet_payments.activities import PaymentActivities

CHARGE = payments_api.ChargeRequest(
    idempotency_key="ord-1/charge",
    customer="customer-1",
    card_token="tok_visa",
    amount_minor=1250,
    currency="EUR",
)
REFUND = payments_api.RefundRequest(idempotency_key="ord-1/refund", charge_key="ord-1/charge")


@pytest.mark.parametrize(
    ("sent", "model"),
    [(CHARGE, models.ChargeRequest), (REFUND, models.RefundRequest)],
    ids=["charge", "refund"],
)
def test_request_of_orders_is_understood_by_payments(
    sent: BaseModel, model: type[BaseModel]
) -> None:
    """What orders sends is what payments reads."""
    read = model.model_validate_json(sent.model_dump_json())
    assert read.model_dump(exclude_unset=True) == sent.model_dump()


def test_receipt_of_payments_is_understood_by_orders() -> None:
    """What payments answers is what orders reads."""
    receipt = models.Receipt(
        idempotency_key="ord-1/charge",
        status=models.PaymentStatus.SETTLED,
        amount_minor=1250,
        currency="EUR",
        gateway_reference="gw_1",
    )

    read = payments_api.Receipt.model_validate_json(receipt.model_dump_json())
    assert read.amount_minor == 1250


def test_names_of_the_payments_task_queue_exist() -> None:
    """The task queue and the activities that orders calls by name are there."""
    assert fleet_payments.workload.default_task_queue == payments_api.TASK_QUEUE
    names = {
        definition.name
        for method in (PaymentActivities.charge, PaymentActivities.refund)
        if (definition := activity._Definition.from_callable(method))
    }
    assert names == {payments_api.CHARGE, payments_api.REFUND}
