"""What a CPU-bound function measures in its process, on its way to the metrics of the worker.

Updates of ``activity.metric_meter()`` are sent to the parent while the function runs. What it counts with
``prometheus_client`` is compared with what the parent has heard of, after each call.
"""

from __future__ import annotations

import pickle
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from temporalio.common import (
    MetricAttributes,
    MetricCounter,
    MetricGauge,
    MetricGaugeFloat,
    MetricHistogram,
    MetricHistogramFloat,
    MetricHistogramTimedelta,
    MetricMeter,
)
from typing_extensions import override

if TYPE_CHECKING:
    from temporal_fleet.execution.child import Line, Measured

Value = TypeVar("Value", int, float, timedelta)
Key = tuple[str, str, str | None, str | None, tuple[tuple[str, Any], ...]]
"""An instrument (method that creates it, name, description, unit) with its attributes."""

SEND_INTERVAL = timedelta(seconds=1)
"""An update is sent with those since the last message, once it is this old; the rest at the end of the call."""
MOST_RECORDED = 1000
"""So many values of histograms are sent at once, before they use much memory."""


class Updates:
    """Collects what a function measures: counters are added up, of gauges the latest value counts.

    Args:
        line: Connection to the parent.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._lock = threading.Lock()
        self._merged: dict[Key, Any] = {}
        self._recorded: list[tuple[Key, Any]] = []
        self._sent = time.monotonic()
        self._closed = False

    def put(self, key: Key, value: Any) -> None:
        """Take one update; dropped after the end of the call, when no activity is there to count for."""
        with self._lock:
            if self._closed:
                return
            if key[0] == "create_counter":
                self._merged[key] = self._merged.get(key, 0) + value
            elif key[0].startswith("create_gauge"):
                self._merged[key] = value
            else:
                self._recorded.append((key, value))
            waited = time.monotonic() - self._sent
            if len(self._recorded) >= MOST_RECORDED or waited >= SEND_INTERVAL.total_seconds():
                self._send()

    def close(self) -> None:
        """Send what has not been sent; nothing is sent afterwards."""
        with self._lock:
            self._closed = True
            self._send()

    def _send(self) -> None:
        updates = [*self._merged.items(), *self._recorded]
        if updates:
            self._line.send({"kind": "metrics", "value": pickle.dumps(updates)})
        self._merged.clear()
        self._recorded.clear()
        self._sent = time.monotonic()


class Meter(MetricMeter):
    """What ``activity.metric_meter()`` returns in the process of a CPU-bound function."""

    def __init__(self, updates: Updates, attributes: MetricAttributes | None = None) -> None:
        """Make a meter.

        Args:
            updates: Where updates go.
            attributes: Of all its instruments; None = none.
        """
        self._updates = updates
        self._attributes = {**(attributes or {})}

    def _instrument(self, kind: type[_T], create: str, *described: Any) -> _T:
        return kind(self._updates, (create, *described), self._attributes)

    @override
    def create_counter(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricCounter:
        return self._instrument(_Counter, "create_counter", name, description, unit)

    @override
    def create_histogram(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricHistogram:
        return self._instrument(_Histogram, "create_histogram", name, description, unit)

    @override
    def create_histogram_float(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricHistogramFloat:
        return self._instrument(_HistogramFloat, "create_histogram_float", name, description, unit)

    @override
    def create_histogram_timedelta(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricHistogramTimedelta:
        create = "create_histogram_timedelta"
        return self._instrument(_HistogramTimedelta, create, name, description, unit)

    @override
    def create_gauge(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricGauge:
        return self._instrument(_Gauge, "create_gauge", name, description, unit)

    @override
    def create_gauge_float(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricGaugeFloat:
        return self._instrument(_GaugeFloat, "create_gauge_float", name, description, unit)

    @override
    def with_additional_attributes(self, additional_attributes: MetricAttributes) -> MetricMeter:
        return Meter(self._updates, {**self._attributes, **_checked(additional_attributes)})


class _Instrument:
    def __init__(self, updates: Updates, described: Any, attributes: Mapping[str, Any]) -> None:
        self._updates = updates
        self._described = described
        self._attributes = attributes

    @property
    def name(self) -> str:
        return str(self._described[1])

    @property
    def description(self) -> str | None:
        text: str | None = self._described[2]
        return text

    @property
    def unit(self) -> str | None:
        text: str | None = self._described[3]
        return text

    def with_additional_attributes(self: _T, additional_attributes: MetricAttributes) -> _T:
        attributes = {**self._attributes, **_checked(additional_attributes)}
        return type(self)(self._updates, self._described, attributes)

    def _put(self, value: Value, more: MetricAttributes | None) -> None:
        if value < type(value)():
            raise ValueError("Metric value must be non-negative value")
        attributes = {**self._attributes, **_checked(more or {})}
        self._updates.put((*self._described, tuple(attributes.items())), value)


_T = TypeVar("_T", bound=_Instrument)


class _Counter(_Instrument, MetricCounter):
    @override
    def add(self, value: int, additional_attributes: MetricAttributes | None = None) -> None:
        self._put(value, additional_attributes)


class _Histogram(_Instrument, MetricHistogram):
    @override
    def record(self, value: int, additional_attributes: MetricAttributes | None = None) -> None:
        self._put(value, additional_attributes)


class _HistogramFloat(_Instrument, MetricHistogramFloat):
    @override
    def record(self, value: float, additional_attributes: MetricAttributes | None = None) -> None:
        self._put(value, additional_attributes)


class _HistogramTimedelta(_Instrument, MetricHistogramTimedelta):
    @override
    def record(
        self, value: timedelta, additional_attributes: MetricAttributes | None = None
    ) -> None:
        self._put(value, additional_attributes)


class _Gauge(_Instrument, MetricGauge):
    @override
    def set(self, value: int, additional_attributes: MetricAttributes | None = None) -> None:
        self._put(value, additional_attributes)


class _GaugeFloat(_Instrument, MetricGaugeFloat):
    @override
    def set(self, value: float, additional_attributes: MetricAttributes | None = None) -> None:
        self._put(value, additional_attributes)


def _checked(attributes: MetricAttributes) -> MetricAttributes:
    for name, value in attributes.items():
        if not isinstance(value, (str, int, float, bool)):
            raise TypeError(
                f"Invalid value type for key {name!r}: {type(value).__name__} is not str, int, float or bool"
            )
    return attributes


class Counts:
    """What this process has counted with ``prometheus_client``: counters, histograms and summaries.

    Not gauges, whose values in several processes do not add up, and no collectors of a workload's own, which
    read from somewhere else what the worker reads as well.
    """

    def __init__(self) -> None:
        """Begin after the imports, with what the same imports have counted in the parent."""
        self._sent = {key: value for key, value in _counted() if value}

    def changed(self) -> list[Measured]:
        """Return by how much each sample has grown since the last time, with samples that are new."""
        changes = []
        for key, value in _counted():
            sent = self._sent.get(key)
            if sent is None or value != sent:
                self._sent[key] = value
                changes.append((*key, value - (sent or 0.0)))
        return changes


def _counted() -> Iterator[tuple[Any, float]]:
    prometheus = sys.modules.get("prometheus_client")
    if prometheus is None:
        return
    summed = (prometheus.Counter, prometheus.Histogram, prometheus.Summary)
    for collector in list(prometheus.REGISTRY._collector_to_names):  # noqa: SLF001 - nothing public lists them
        for family in collector.collect() if isinstance(collector, summed) else ():
            for name, labels, value, *_ in family.samples:
                if not name.endswith("_created"):
                    described = (family.name, family.documentation, family.type)
                    yield (*described, name, tuple(labels.items())), value
