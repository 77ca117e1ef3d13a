"""What a worker counts about itself: plain numbers, exposed through ``prometheus_client``."""

from __future__ import annotations

import platform
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING

from temporal_fleet.telemetry.metrics import families as f
from temporal_fleet.telemetry.metrics.families import Family, deployment_labels
from temporal_fleet.telemetry.metrics.pool_counts import PoolCounts

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

    from temporal_fleet.settings import Settings

Labels = tuple[str, ...]


class Metrics:
    """The metrics of one worker process; all methods are fast and safe in all threads.

    Attributes:
        labels: The labels ``deployment`` and ``build_id``, which the health server puts on every
            sample.
        pool_counts: What workloads count in this process and in those of the process pool.
    """

    def __init__(self, settings: Settings, *, workload: str) -> None:
        self.labels = deployment_labels(settings, workload=workload)
        self.pool_counts = PoolCounts()
        self._workload = workload
        self._lock = threading.Lock()
        self._phase = f.PHASES[0]
        self._counters: dict[Family, dict[Labels, float]] = {
            family: {} if family.labels else {(): 0.0}
            for family in f.WORKER_FAMILIES
            if family.kind == "counter" and family is not f.PROCESS_POOL_RESTARTS
        }
        # Looked up once: the two that every activity touches.
        self._outcomes = self._counters[f.ACTIVITY_OUTCOMES]
        self._seconds = self._counters[f.ACTIVITY_SECONDS]
        self._lag_counts = [0] * (len(f.LAG_BUCKETS) + 1)
        self._lag_sum = 0.0
        self._watched: dict[Family, Callable[[], float]] = {f.DRAIN_DURATION: lambda: 0.0}

    def activity_finished(self, activity_type: str, outcome: str, seconds: float) -> None:
        """Count an attempt of an activity that ended.

        Args:
            activity_type: Its name.
            outcome: How it ended, such as ``completed``, ``failed`` or ``canceled``.
            seconds: How long it ran.
        """
        key = (activity_type, outcome)
        with self._lock:
            self._outcomes[key] = self._outcomes.get(key, 0.0) + 1.0
            self._seconds[key] = self._seconds.get(key, 0.0) + seconds

    def activity_abandoned(self, activity_type: str) -> None:
        """Count an activity that the drain did not wait for."""
        self._count(f.ABANDONED_ACTIVITIES, activity_type)

    def loop_lag(self, seconds: float) -> None:
        """Record how late the event loop was."""
        with self._lock:
            self._lag_counts[bisect_left(f.LAG_BUCKETS, seconds)] += 1
            self._lag_sum += seconds

    def loop_blocked(self) -> None:
        """Count a blockade of the event loop."""
        self._count(f.LOOP_BLOCKED)

    def credential_reload(self, kind: str, outcome: str) -> None:
        """Count credentials that changed.

        Args:
            kind: ``api_key`` or ``tls``.
            outcome: ``ok`` or ``failed``.
        """
        self._count(f.CREDENTIAL_RELOADS, kind, outcome)

    def connect_attempt(self, outcome: str) -> None:
        """Count an attempt to connect: *outcome* is ``ok`` or ``failed``."""
        self._count(f.CONNECT_ATTEMPTS, outcome)

    def health_server_restarted(self) -> None:
        """Count a restart of the health server's process."""
        self._count(f.HEALTH_SERVER_RESTARTS)

    def set_state(self, phase: str) -> None:
        """Say in which of :data:`~temporal_fleet.telemetry.metrics.families.PHASES` the worker is."""
        self._phase = phase

    def watch_drain(self, seconds: Callable[[], float]) -> None:
        """Expose what *seconds* returns at each scrape as the duration of the drain."""
        self._watched[f.DRAIN_DURATION] = seconds

    def watch_thread_pool(
        self, *, size: Callable[[], int], in_use: Callable[[], int], waiting: Callable[[], int]
    ) -> None:
        """Expose the thread pool; all are called at each scrape."""
        self._watched |= {
            f.THREAD_POOL_SIZE: size,
            f.THREAD_POOL_IN_USE: in_use,
            f.THREAD_POOL_WAITING: waiting,
        }

    def watch_process_pool(
        self,
        *,
        size: Callable[[], int],
        in_use: Callable[[], int],
        waiting: Callable[[], int],
        restarts: Callable[[], int],
    ) -> None:
        """Expose the process pool; all are called at each scrape."""
        self._watched |= {
            f.PROCESS_POOL_SIZE: size,
            f.PROCESS_POOL_IN_USE: in_use,
            f.PROCESS_POOL_WAITING: waiting,
            f.PROCESS_POOL_RESTARTS: restarts,
        }

    def render(self) -> bytes:
        """Return everything as Prometheus text, without the labels of the deployment.

        After ours comes ``prometheus_client``'s default registry: the metrics that workloads
        define, and those of the process and the garbage collector.
        """
        from prometheus_client import generate_latest

        return bytes(generate_latest(self._registry) + generate_latest(self.pool_counts))

    def collect(self) -> Iterable[Metric]:
        """Yield all families with their samples; ``prometheus_client`` calls it at each scrape."""
        yield _metric(f.WORKER_STATE, [((p,), float(p == self._phase)) for p in f.PHASES])
        yield _metric(f.BUILD_INFO, [(self._build, 1.0)])
        with self._lock:
            counters = {family: list(values.items()) for family, values in self._counters.items()}
            lag_counts, lag_sum = list(self._lag_counts), self._lag_sum
        for family, samples in counters.items():
            yield _metric(family, samples)
        for family, value in list(self._watched.items()):
            yield _metric(family, [((), float(value()))])
        yield _lag_metric(lag_counts, lag_sum)

    def describe(self) -> Iterable[Metric]:
        """Declare nothing in advance, so that registering collects nothing."""
        return ()

    def _count(self, family: Family, *labels: str) -> None:
        values = self._counters[family]
        with self._lock:
            values[labels] = values.get(labels, 0.0) + 1.0

    @cached_property
    def _build(self) -> Labels:
        python = platform.python_version()
        return (self._workload, version("temporal-fleet"), version("temporalio"), python)

    @cached_property
    def _registry(self) -> CollectorRegistry:
        from prometheus_client import CollectorRegistry, disable_created_metrics

        # Series that say when another series began double their number, and nobody queries them.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return registry


def _metric(family: Family, samples: Sequence[tuple[Labels, float]]) -> Metric:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.labels)
    for labels, value in samples:
        metric.add_metric(labels, value)
    return metric


def _lag_metric(counts: Sequence[int], total: float) -> Metric:
    from prometheus_client.metrics_core import HistogramMetricFamily

    metric = HistogramMetricFamily(f.LOOP_LAG.name, f.LOOP_LAG.help)
    buckets: list[tuple[str, float]] = []
    running = 0
    for bound, count in zip([*map(str, f.LAG_BUCKETS), "+Inf"], counts, strict=True):
        running += count
        buckets.append((bound, float(running)))
    metric.add_metric((), buckets, total)
    return metric
