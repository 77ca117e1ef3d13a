"""What goes into an order, what comes out of it, and what its workflows tell each other.

Plain data without side effects: workflows import it without a copy for each run. Amounts are
integers in minor units (cents).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

_POSTCODES = {"AT": 4, "CH": 4, "DE": 5, "FR": 5}
"""Countries that are delivered to, and how many digits their postcodes have."""

Name = Annotated[str, Field(min_length=1, max_length=120)]
Seconds = Annotated[float, Field(ge=0, le=3600)]


class Model(BaseModel):
    """Base of all models: immutable, and unknown fields are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Address(Model):
    """Where a parcel goes."""

    name: Name
    street: Name
    postcode: Name
    city: Name
    country: Name
    """ISO 3166 code of two letters."""

    def problem(self) -> str | None:
        """Say why nothing can be delivered there; None when it can."""
        digits = _POSTCODES.get(self.country)
        if digits is None:
            countries = ", ".join(_POSTCODES)
            return f"country {self.country!r} is not delivered to; use one of {countries}"
        if not (self.postcode.isascii() and self.postcode.isdigit()):
            return f"postcode {self.postcode!r} must be of digits only"
        if len(self.postcode) != digits:
            return f"postcode {self.postcode!r} must have {digits} digits in {self.country}"
        return None


class OrderLine(Model):
    """One product of an order."""

    sku: Name
    quantity: Annotated[int, Field(strict=True, ge=1, le=100)]
    unit_price_minor: Annotated[int, Field(strict=True, ge=1, le=10**9)]


class OrderState(StrEnum):
    """Where an order is; the last three are final."""

    VALIDATING = "validating"
    REVIEWING = "reviewing"
    RESERVING = "reserving"
    CHARGING = "charging"
    PACKING = "packing"
    SHIPPING = "shipping"
    NOTIFYING = "notifying"
    COMPENSATING = "compensating"
    FULFILLED = "fulfilled"
    COMPENSATED = "compensated"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing happens to the order any more."""
        return self in FINAL_STATES

    @property
    def is_before_shipping(self) -> bool:
        """Whether the parcel is still in the house: its address may change."""
        return self in BEFORE_SHIPPING


FINAL_STATES = frozenset({OrderState.FULFILLED, OrderState.COMPENSATED, OrderState.CANCELLED})
BEFORE_SHIPPING = frozenset(
    {
        OrderState.VALIDATING,
        OrderState.REVIEWING,
        OrderState.RESERVING,
        OrderState.CHARGING,
        OrderState.PACKING,
    }
)


class CancelAction(Model):
    """The customer cancels as soon as the order is in a state."""

    kind: Literal["cancel"] = "cancel"
    when: OrderState
    reason: Name = "changed their mind"


class ChangeAddressAction(Model):
    """The customer gives another address as soon as the order is in a state."""

    kind: Literal["change_address"] = "change_address"
    when: OrderState
    address: Address


Action = Annotated[CancelAction | ChangeAddressAction, Field(discriminator="kind")]


class Simulation(Model):
    """How the world around an order behaves; for examples and tests. Times in seconds."""

    review_seconds: Seconds = 0
    """The order waits this long for a review before anything is reserved or charged. A cancellation
    ends the wait."""
    packing_seconds: Seconds = 0
    """The charged and packed order waits this long for the carrier. A cancellation or another
    address ends the wait."""
    transit_seconds: Seconds = 0.3
    """How long the carrier is on its way."""
    carrier: Literal["delivers", "loses"] = "delivers"
    """What the carrier makes of the parcel."""
    carrier_events: Literal["sent", "missing"] = "sent"
    """Whether the carrier's events arrive; when they are missing, asking the carrier is all there
    is."""


class Order(Model):
    """One line of the orders file, and the argument of ``OrderWorkflow``."""

    order_id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{2,60}$")]
    """Also the workflow ID: the same order cannot be processed twice."""
    customer: Name
    card_token: Name
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "EUR"
    lines: Annotated[list[OrderLine], Field(min_length=1, max_length=50)]
    address: Address
    actions: list[Action] = []
    """What the customer does later; delivered from outside while the order is on its way."""
    simulation: Simulation = Simulation()

    @property
    def total_minor(self) -> int:
        """Price of all lines in minor units."""
        return sum(line.quantity * line.unit_price_minor for line in self.lines)


class OrderView(Model):
    """What the query ``status`` answers."""

    order_id: str
    state: OrderState
    address: Address
    captured_minor: int
    refunded_minor: int
    tracking_number: str | None
    reason: str | None
    """Why the order is not or will not be fulfilled; None while all is well."""
    to_compensate: list[str]
    """Compensations that would run, or still have to run, last step first."""


class OrderOutcome(Model):
    """How an order ended. Business failures are outcomes, not workflow failures."""

    order_id: str
    state: Literal[OrderState.FULFILLED, OrderState.COMPENSATED, OrderState.CANCELLED]
    reason: str | None
    """``out_of_stock``, ``card_declined``, ``carrier_lost``, ``cancelled_by_customer`` and so on;
    None when fulfilled."""
    detail: str | None
    """The same for people, with the values."""
    currency: str
    captured_minor: int
    refunded_minor: int
    tracking_number: str | None
    address: Address
    notified: bool
    """Whether the customer was told how it ended."""


class FraudScore(Model):
    """How suspicious an order is."""

    score: Annotated[float, Field(ge=0, le=1)]
    suspicious: bool


class PackRequest(Model):
    """Pack a parcel."""

    order_id: str
    lines: list[OrderLine]


class Parcel(Model):
    """A packed parcel."""

    tracking_number: str
    items: int
    resumed_at: int
    """How many items a crashed attempt had packed before; 0 when the first attempt packed all."""


class ParcelStatus(StrEnum):
    """Where a parcel is; the last three are final."""

    IN_TRANSIT = "in_transit"
    DELIVERED = "delivered"
    LOST = "lost"
    RECALLED = "recalled"

    @property
    def is_final(self) -> bool:
        """Whether the carrier has no more to do."""
        return self is not ParcelStatus.IN_TRANSIT


class ShipmentRequest(Model):
    """Argument of ``ShipmentWorkflow``."""

    order_id: str
    tracking_number: str
    address: Address
    simulation: Simulation


class Consignment(Model):
    """A parcel that the carrier has, or had."""

    tracking_number: str
    handed_over_at: datetime
    """By the workflow's clock, so that every attempt says the same."""
    simulation: Simulation

    @property
    def transit_time(self) -> timedelta:
        """How long the carrier is on its way."""
        return timedelta(seconds=self.simulation.transit_seconds)


class CarrierEvent(Model):
    """What the carrier tells; the argument of the signal ``carrier_event``."""

    tracking_number: str
    status: ParcelStatus


class ShipmentOutcome(Model):
    """How a shipment ended."""

    status: ParcelStatus
    learned_by: Literal["event", "poll", "recall"]
    """Whether the carrier told, had to be asked, or was called back."""


class Notification(Model):
    """Tell the customer how the order ended."""

    order_id: str
    customer: str
    state: OrderState
    reason: str | None
