"""What the functions of CPU-bound activities count with ``prometheus_client`` in their processes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_SampleKey = tuple[str, tuple[tuple[str, str], ...]]
Change = tuple[str, str, str, str, tuple[tuple[str, str], ...], float]
"""Family (its name, documentation and type), sample (its name and labels), and what is to be added to it."""


class PoolCounts:
    """The default registry of this process, with what the processes of the pool have counted added."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # By name, documentation and type of the family.
        self._families: dict[tuple[str, str, str], dict[_SampleKey, float]] = {}

    def add(self, changes: Iterable[Change]) -> None:
        """Add what a process of the pool has counted during a call.

        Args:
            changes: Samples with what is to be added to each.
        """
        with self._lock:
            for family, documentation, kind, name, labels, change in changes:
                samples = self._families.setdefault((family, documentation, kind), {})
                samples[name, labels] = samples.get((name, labels), 0.0) + change

    def collect(self) -> Iterator[Metric]:
        """Yield all families with their samples; ``prometheus_client`` calls it at each scrape."""
        from prometheus_client import REGISTRY
        from prometheus_client.metrics_core import Metric

        with self._lock:
            counted = {family: dict(samples) for family, samples in self._families.items()}
        for metric in REGISTRY.collect():
            more = counted.pop((metric.name, metric.documentation, metric.type), None)
            yield _sum(metric, more) if more else metric
        for (
            family,
            samples,
        ) in counted.items():  # made by a call, or by a module that only the pool imports
            yield _sum(Metric(*family), samples)


def _sum(metric: Metric, more: dict[_SampleKey, float]) -> Metric:
    from prometheus_client.samples import Sample

    samples: list[Any] = [
        sample._replace(
            value=sample.value + more.pop((sample.name, tuple(sample.labels.items())), 0.0)
        )
        for sample in metric.samples
    ]
    metric.samples = samples + [
        Sample(name, dict(labels), value) for (name, labels), value in more.items()
    ]
    return metric
