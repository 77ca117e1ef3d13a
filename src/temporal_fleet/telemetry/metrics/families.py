"""Names, kinds, labels and meanings of the metrics that temporal-fleet defines itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from temporal_fleet.telemetry.logs import UNVERSIONED

if TYPE_CHECKING:
    from temporal_fleet.settings import Settings

Kind = Literal["counter", "gauge", "histogram"]

PHASES = ("starting", "polling", "draining", "stopped")
"""Values of the label ``state`` of ``fleet_worker_state``."""
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds of the event loop's lag: from a busy loop's to a dead worker's."""


def deployment_labels(settings: Settings, *, workload: str) -> dict[str, str]:
    """Return the labels that every metric carries: ``deployment`` and ``build_id``.

    Args:
        settings: Where the two come from.
        workload: Name of the workload, which is the deployment's name when none is set.
    """
    return {
        "deployment": settings.deployment.name_for(workload),
        "build_id": settings.deployment.build_id or UNVERSIONED,
    }


@dataclass(frozen=True)
class Family:
    """One metric, as Prometheus sees it."""

    name: str
    kind: Kind
    help: str
    """One sentence: what one unit of it is."""
    labels: tuple[str, ...] = ()
    """Labels besides ``deployment`` and ``build_id``."""


WORKER_STATE = Family(
    "fleet_worker_state",
    "gauge",
    f"1 for the state this worker is in ({', '.join(PHASES)}), 0 for the others.",
    ("state",),
)
BUILD_INFO = Family(
    "fleet_build_info",
    "gauge",
    "Always 1; what this worker is made of.",
    ("workload", "temporal_fleet", "temporalio", "python"),
)
DRAIN_DURATION = Family(
    "fleet_drain_duration_seconds",
    "gauge",
    "Seconds since the drain began; 0 before it.",
)
ABANDONED_ACTIVITIES = Family(
    "fleet_abandoned_activities_total",
    "counter",
    "Activities that were cancelled because the drain timeout had passed or a second signal came.",
    ("activity_type",),
)
LOOP_LAG = Family(
    "fleet_event_loop_lag_seconds",
    "histogram",
    "How much later than planned the event loop ran its heartbeat.",
)
LOOP_BLOCKED = Family(
    "fleet_event_loop_blocked_total",
    "counter",
    "Times that the event loop was blocked for longer than the threshold.",
)
THREAD_POOL_SIZE = Family(
    "fleet_thread_pool_size", "gauge", "Threads for activities that are plain functions."
)
THREAD_POOL_IN_USE = Family(
    "fleet_thread_pool_in_use", "gauge", "Threads of the thread pool that run an activity."
)
THREAD_POOL_WAITING = Family(
    "fleet_thread_pool_waiting",
    "gauge",
    "Activities that this worker has accepted and that wait for a free thread.",
)
PROCESS_POOL_SIZE = Family(
    "fleet_process_pool_size", "gauge", "Processes for CPU-bound activities."
)
PROCESS_POOL_IN_USE = Family(
    "fleet_process_pool_in_use", "gauge", "Processes of the process pool that run an activity."
)
PROCESS_POOL_WAITING = Family(
    "fleet_process_pool_waiting",
    "gauge",
    "CPU-bound activities that this worker has accepted and that wait for a free process.",
)
PROCESS_POOL_RESTARTS = Family(
    "fleet_process_pool_restarts_total", "counter", "Processes of the process pool that had died."
)
ACTIVITY_OUTCOMES = Family(
    "fleet_activity_outcomes_total",
    "counter",
    "Attempts of activities that ended on this worker, by outcome (completed, failed, canceled, "
    "will_complete_async).",
    ("activity_type", "outcome"),
)
ACTIVITY_SECONDS = Family(
    "fleet_activity_seconds_total",
    "counter",
    "Time that attempts of activities took, by outcome: what failed attempts cost.",
    ("activity_type", "outcome"),
)
CREDENTIAL_RELOADS = Family(
    "fleet_credential_reloads_total",
    "counter",
    "Times that changed credentials were taken over, by kind and outcome.",
    ("kind", "outcome"),
)
CONNECT_ATTEMPTS = Family(
    "fleet_connect_attempts_total",
    "counter",
    "Attempts to connect to the Temporal server, by outcome.",
    ("outcome",),
)
HEALTH_SERVER_RESTARTS = Family(
    "fleet_health_server_restarts_total",
    "counter",
    "Times that the process serving probes and metrics had died and was started again.",
)

WORKER_FAMILIES = (
    WORKER_STATE,
    BUILD_INFO,
    DRAIN_DURATION,
    ABANDONED_ACTIVITIES,
    ACTIVITY_OUTCOMES,
    ACTIVITY_SECONDS,
    LOOP_LAG,
    LOOP_BLOCKED,
    THREAD_POOL_SIZE,
    THREAD_POOL_IN_USE,
    THREAD_POOL_WAITING,
    PROCESS_POOL_SIZE,
    PROCESS_POOL_IN_USE,
    PROCESS_POOL_WAITING,
    PROCESS_POOL_RESTARTS,
    CREDENTIAL_RELOADS,
    CONNECT_ATTEMPTS,
    HEALTH_SERVER_RESTARTS,
)
"""What the worker itself counts."""

WORKFLOW_OUTCOMES = Family(
    "fleet_workflow_outcomes_total",
    "counter",
    "Workflow runs that ended on this worker, by outcome (completed, failed, canceled, "
    "continued_as_new). Timeouts and terminations happen on the server and are not in it.",
    ("workflow_type", "outcome", "task_queue", "namespace"),
)
METRICS_STALE = Family(
    "fleet_metrics_stale",
    "gauge",
    "1 when metrics of this source (core, worker) are those of an earlier scrape, because it did "
    "not answer in time, or not well.",
    ("source",),
)

DERIVED_FAMILIES = (WORKFLOW_OUTCOMES, METRICS_STALE)
"""What the health server adds."""
