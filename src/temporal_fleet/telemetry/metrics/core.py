"""The SDK's runtime with its own telemetry: metrics on loopback, logs into Python's logging."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    PrometheusConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)

from temporal_fleet.errors import PortInUseError
from temporal_fleet.ports import free_port
from temporal_fleet.settings.observability import (
    LATENCY_HISTOGRAMS,
    SCHEDULE_TO_START_HISTOGRAMS,
)
from temporal_fleet.telemetry.metrics.families import deployment_labels

if TYPE_CHECKING:
    from temporal_fleet.settings import MetricsSettings, Settings

CORE_LOGGER = "temporalio.core"
"""Logger that gets the lines of the SDK's Rust core."""
_PORT_ATTEMPTS = 10


def build_runtime(settings: Settings, *, workload: str) -> tuple[Runtime, int | None]:
    """Make the one SDK runtime of this process.

    Its metrics have seconds as unit, the names that Prometheus expects, and the labels
    ``deployment`` and
    ``build_id``. Its logs go to the logger ``temporalio.core``.

    Args:
        settings: Buckets, log level and heartbeat interval.
        workload: Name of the workload.

    Returns:
        The runtime, and the loopback port of its metrics (None when metrics are off).

    Raises:
        PortInUseError: No free port was found on loopback.
    """
    if not settings.metrics.enabled:
        return _runtime(settings, workload, None), None
    for _attempt in range(_PORT_ATTEMPTS):
        port = free_port()
        metrics = _prometheus(settings.metrics, port)
        try:
            return _runtime(settings, workload, metrics), port
        except ValueError as error:
            # The SDK binds the port itself, so somebody may be faster.
            if "in use" not in str(error):
                raise
    raise PortInUseError(
        f"the SDK's metrics endpoint found no free port on 127.0.0.1 in {_PORT_ATTEMPTS} attempts. "
        "Free some ports, or set FLEET_METRICS_ENABLED=false."
    )


def _runtime(settings: Settings, workload: str, metrics: PrometheusConfig | None) -> Runtime:
    logger = logging.getLogger(CORE_LOGGER)
    # The core filters by its own setting before a line gets here.
    logger.setLevel(1)
    return Runtime(
        telemetry=TelemetryConfig(
            logging=LoggingConfig(
                filter=TelemetryFilter(core_level=settings.log.core_level, other_level="ERROR"),
                forwarding=LogForwardingConfig(
                    logger=logger,
                    append_target_to_name=False,
                    prepend_target_on_message=False,
                    append_log_fields_to_message=False,
                ),
            ),
            metrics=metrics,
            global_tags=deployment_labels(settings, workload=workload),
            attach_service_name=False,
        ),
        worker_heartbeat_interval=settings.worker.heartbeat_interval,
    )


def _prometheus(settings: MetricsSettings, port: int) -> PrometheusConfig:
    return PrometheusConfig(
        bind_address=f"127.0.0.1:{port}",
        counters_total_suffix=True,
        unit_suffix=True,
        durations_as_seconds=True,
        histogram_bucket_overrides={
            **dict.fromkeys(SCHEDULE_TO_START_HISTOGRAMS, settings.schedule_to_start_buckets),
            **dict.fromkeys(LATENCY_HISTOGRAMS, settings.latency_buckets),
            **settings.own_histograms,
        },
    )
