"""The workload whose overhead and start-up are measured."""

from __future__ import annotations

from temporal_fleet import Workload

from .activities import weigh
from .workflows import SendParcel

workload: Workload[None, None] = Workload(
    name="benchmark",
    description="One workflow with one activity",
    workflows=[SendParcel],
    activities=[weigh],
)
