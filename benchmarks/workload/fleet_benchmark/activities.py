"""The activity that is measured: as little work as possible, and as many log lines as asked for."""

from __future__ import annotations

import os

from temporalio import activity

from .models import Parcel

LOG_LINES = int(os.environ.get("BENCHMARK_LOG_LINES", "1"))


@activity.defn
async def weigh(parcel: Parcel) -> Parcel:
    """Log and return the parcel."""
    for line in range(LOG_LINES):
        activity.logger.info("parcel weighed", extra={"grams": parcel.weight_grams, "line": line})
    return parcel
