"""The payments task queue as orders see it: names and messages, no code of the payments workload.

The two workloads live in different images and are released apart; what joins them is this contract,
which a test compares with the payments workload's own models.
"""

from __future__ import annotations

from fleet_orders.models import Model

TASK_QUEUE = "payments"
CHARGE = "charge"
REFUND = "refund"

CARD_DECLINED = "CardDeclined"
"""Error type: the bank refuses; asking again is no use."""


class ChargeRequest(Model):
    """Argument of the activity ``charge``."""

    idempotency_key: str
    customer: str
    card_token: str
    amount_minor: int
    currency: str


class RefundRequest(Model):
    """Argument of the activity ``refund``; no amount means all that the charge took."""

    idempotency_key: str
    charge_key: str


class Receipt(Model, extra="ignore"):
    """Result of both activities; fields that payments adds later are ignored."""

    amount_minor: int
    """Money moved; 0 for the refund of a charge that never went through."""
