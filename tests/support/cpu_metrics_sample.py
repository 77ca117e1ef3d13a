"""CPU-bound functions that measure what they do."""

from __future__ import annotations

import os
from datetime import timedelta

from prometheus_client import Counter, Gauge, Histogram
from temporalio import activity

from temporal_fleet import cpu_bound

PAGES = Counter("cpu_sample_pages", "Pages done.", ["kind"])
SIZES = Histogram("cpu_sample_sizes", "Sizes of pages.", buckets=[1, 10])
LEVEL = Gauge("cpu_sample_level", "A level of one process.")


@activity.defn
@cpu_bound
def measure() -> None:
    """Use every instrument of the SDK's metric meter."""
    meter = activity.metric_meter().with_additional_attributes({"own": True})
    counter = meter.create_counter("pages", "Pages done.", "p")
    counter.with_additional_attributes({"kind": "a"}).add(2)
    counter.add(3, {"kind": "b"})
    meter.create_histogram("bytes").record(7)
    meter.create_histogram_float("score").record(0.5)
    meter.create_histogram_timedelta("time").record(timedelta(seconds=2))
    meter.create_gauge("left").set(9)
    meter.create_gauge_float("share").set(0.25)


@activity.defn
@cpu_bound
def measure_forever() -> None:
    """Count the rounds of a loop that does not end."""
    counter = activity.metric_meter().create_counter("rounds")
    while True:
        counter.add(1)


@activity.defn
@cpu_bound
def measure_often(times: int) -> None:
    """Count one by one."""
    counter = activity.metric_meter().create_counter("rounds")
    for _ in range(times):
        counter.add(1)


@activity.defn
@cpu_bound
def measure_wrongly() -> str:
    """Return what the SDK's metric meter says to a negative number."""
    try:
        activity.metric_meter().create_counter("rounds").add(-1)
    except ValueError as error:
        return str(error)
    return "nothing"


@activity.defn
@cpu_bound
def measure_strangely(value: int) -> None:
    """Count by what no counter can take."""
    activity.metric_meter().create_counter("rounds").add(value)


@activity.defn
@cpu_bound
def count_pages(pages: int, fails: bool = False) -> int:
    """Count with prometheus_client, return the process ID or fail."""
    PAGES.labels("read").inc(pages)
    SIZES.observe(5)
    LEVEL.set(1)
    if fails:
        raise ValueError("failed after counting")
    return os.getpid()
