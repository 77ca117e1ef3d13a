"""The payload that is measured."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Parcel:
    """About 300 bytes of JSON, as in an ordinary workflow.

    A dataclass, as the SDK's default converter and the pydantic one both take it.
    """

    parcel_id: str
    weight_grams: int = 1250
    address: str = "12 Harbour Street, 4th floor, 20457 Hamburg, Germany"
    notes: list[str] = field(default_factory=lambda: ["fragile", "leave at the door", "ring twice"])
    reference: str = "r" * 128
