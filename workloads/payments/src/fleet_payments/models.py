"""What callers of the payments task queue send and get back.

Amounts are integers in minor units (cents) and never floats, so that sums are exact. Cards are
named by tokens and never by number: workflow histories are readable to everybody who may read the
namespace.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MinorUnits = Annotated[int, Field(strict=True, gt=0, le=10**12)]
"""Amount of money in minor units, e.g. 1250 for 12.50 EUR; above zero."""

Key = Annotated[str, Field(min_length=1, max_length=200)]
"""Idempotency key: the same key means the same operation, however often it is asked for."""


class PaymentStatus(StrEnum):
    """How far a charge or refund has come; ``pending`` is the only one that can still change."""

    PENDING = "pending"
    SETTLED = "settled"
    DECLINED = "declined"
    VOIDED = "voided"


class ChargeRequest(BaseModel):
    """Ask for money once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    idempotency_key: Key
    """The same key returns the first receipt; with another amount it is refused."""
    customer: str
    """Who pays."""
    card_token: str
    """Token of the card at the gateway."""
    amount_minor: MinorUnits
    """Amount in minor units of *currency*."""
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    """ISO 4217 code."""


class RefundRequest(BaseModel):
    """Give back what a charge took, even when nobody knows whether the charge went through."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    idempotency_key: Key
    """Key of this refund, not of the charge."""
    charge_key: Key
    """Idempotency key of the charge. One that never went through is voided: it cannot succeed
    later."""
    amount_minor: MinorUnits | None = None
    """Amount in minor units; None means all that is left of the charge."""


class Receipt(BaseModel):
    """Proof of a charge or refund; asking again with the same key returns the same one."""

    model_config = ConfigDict(frozen=True)

    idempotency_key: str
    status: PaymentStatus
    amount_minor: int
    """Money moved, in minor units; 0 for the refund of a charge that never went through."""
    currency: str
    gateway_reference: str | None
    """The gateway's own number; None when no money moved."""


class Books(BaseModel):
    """What the ledger of one database says, and whether it can be right. Amounts in minor units."""

    model_config = ConfigDict(frozen=True)

    currency: str
    charges: int
    """Number of settled charges."""
    refunds: int
    """Number of settled refunds."""
    pending: int
    """Charges and refunds begun but not settled; not wrong by itself, a retry will settle them."""
    captured_minor: int
    refunded_minor: int
    net_minor: int
    """Money held at the gateway according to the ledger."""
    problems: list[str]
    """Every way in which the books do not add up; empty when they do."""

    @property
    def balanced(self) -> bool:
        """Whether every check of the books passed."""
        return not self.problems
