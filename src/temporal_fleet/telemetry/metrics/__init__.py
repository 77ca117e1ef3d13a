"""Everything on ``/metrics``: what this worker counts about itself, and what the SDK's core counts.

Ours are kept as plain numbers (:class:`Metrics`) and become ``prometheus_client`` families only
when somebody asks, so that counting costs less than a microsecond and start-up nothing. The core
keeps its own (:func:`build_runtime`); the health server merges both.
"""

from temporal_fleet.telemetry.metrics.core import build_runtime
from temporal_fleet.telemetry.metrics.families import deployment_labels
from temporal_fleet.telemetry.metrics.reference import reference_markdown
from temporal_fleet.telemetry.metrics.worker_metrics import Metrics

__all__ = ["Metrics", "build_runtime", "deployment_labels", "reference_markdown"]
