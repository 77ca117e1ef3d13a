"""The reference of all metrics, written from the same tables that the code uses."""

from __future__ import annotations

from collections.abc import Iterable

from temporal_fleet.telemetry.metrics.families import (
    DERIVED_FAMILIES,
    WORKER_FAMILIES,
    Family,
    Kind,
)

_TASK_QUEUE = ("task_queue",)
_WORKFLOW = ("task_queue", "workflow_type")
_ACTIVITY = ("activity_type", "workflow_type", "task_queue")
_CALL = ("operation", "task_queue")

_CORE: dict[tuple[Kind, tuple[str, ...]], dict[str, str]] = {
    ("counter", _WORKFLOW): {
        "temporal_workflow_completed_total": "Workflow runs completed.",
        "temporal_workflow_failed_total": "Workflow runs failed.",
        "temporal_workflow_canceled_total": "Workflow runs cancelled.",
        "temporal_workflow_continue_as_new_total": "Workflow runs continued as new.",
        "temporal_sticky_cache_hit_total": "Workflow tasks that found their workflow in memory.",
    },
    ("counter", (*_WORKFLOW, "failure_reason")): {
        "temporal_workflow_task_execution_failed_total": "Workflow tasks failed; the reason "
        "`NonDeterminismError` means that new code does not fit old histories.",
    },
    ("counter", _TASK_QUEUE): {
        "temporal_workflow_task_queue_poll_succeed_total": "Polls that returned a workflow task.",
        "temporal_sticky_cache_miss_total": "Workflow tasks that had to replay the whole history.",
        "temporal_sticky_cache_total_forced_eviction_total": "Workflows put out of memory for want "
        "of room.",
        "temporal_worker_start_total": "Workers started in this process.",
    },
    ("counter", _ACTIVITY): {
        "temporal_local_activity_total_total": "Local activities executed (the SDK doubles the "
        "suffix).",
        "temporal_local_activity_execution_failed_total": "Attempts of local activities failed.",
    },
    ("counter", (*_ACTIVITY, "eager")): {
        "temporal_activity_task_received_total": "Activity tasks received.",
    },
    ("counter", (*_ACTIVITY, "failure_reason")): {
        "temporal_activity_execution_failed_total": "Attempts of activities failed; benign errors "
        "are not counted.",
    },
    ("counter", _CALL): {
        "temporal_request_total": "Calls to the server.",
        "temporal_long_request_total": "Long polls.",
    },
    ("counter", (*_CALL, "status_code")): {
        "temporal_request_failure_total": "Calls to the server that failed.",
        "temporal_long_request_failure_total": "Long polls that failed; `UNAUTHENTICATED` and "
        "`PERMISSION_DENIED` mean revoked credentials.",
    },
    ("gauge", ("worker_type", "task_queue")): {
        "temporal_worker_task_slots_available": "Free slots; absent with the resource-based tuner.",
        "temporal_worker_task_slots_used": "Slots in use.",
    },
    ("gauge", ("poller_type", "task_queue")): {"temporal_num_pollers": "Open polls."},
    ("gauge", _TASK_QUEUE): {"temporal_sticky_cache_size": "Workflows kept in memory."},
    ("gauge", ()): {
        "temporal_resource_slots_cpu_usage": "CPU usage that the resource-based tuner sees.",
        "temporal_resource_slots_mem_usage": "Memory usage that the resource-based tuner sees.",
    },
    ("histogram", _TASK_QUEUE): {
        "temporal_workflow_task_schedule_to_start_latency_seconds": "Time that workflow tasks "
        "waited in the task queue.",
        "temporal_activity_schedule_to_start_latency_seconds": "Time that activity tasks waited "
        "in the task queue; it grows when more workers are needed.",
    },
    ("histogram", _WORKFLOW): {
        "temporal_workflow_endtoend_latency_seconds": "Time from a workflow run's start to its "
        "end.",
        "temporal_workflow_task_execution_latency_seconds": "Time to process a workflow task.",
        "temporal_workflow_task_replay_latency_seconds": "Time to replay history before a "
        "workflow task.",
    },
    ("histogram", _ACTIVITY): {
        "temporal_activity_execution_latency_seconds": "Time that attempts of activities ran.",
        "temporal_activity_succeed_endtoend_latency_seconds": "Time from an activity's first "
        "scheduling to its success, over all attempts.",
        "temporal_local_activity_execution_latency_seconds": "Time that attempts of local "
        "activities ran.",
    },
    ("histogram", _CALL): {
        "temporal_request_latency_seconds": "Time that calls to the server took.",
        "temporal_long_request_latency_seconds": "Time that long polls took.",
    },
}

CORE_FAMILIES = tuple(
    Family(name, kind, meaning, labels)
    for (kind, labels), meanings in _CORE.items()
    for name, meaning in meanings.items()
)
"""What the SDK's core exposes. Source: observed with temporalio 1.35."""
SDK_BUCKETS = ("0.05", "0.1", "0.5", "1", "2.5", "10")
"""Upper bounds of histograms that workloads record. Source: observed with temporalio 1.35."""


def reference_markdown() -> str:
    """Return the text of ``docs/reference/metrics.md``."""
    return _REFERENCE.format(
        worker=_table(WORKER_FAMILIES),
        derived=_table(DERIVED_FAMILIES),
        core=_table(CORE_FAMILIES),
        sdk_buckets=f"{', '.join(SDK_BUCKETS[:-1])} and {SDK_BUCKETS[-1]}",
    )


_REFERENCE = """\
# Metrics

All are served at `/metrics` on the health port, as Prometheus text. All carry the labels
`deployment` and `build_id` (`__unversioned__` when no build ID is set).
`FLEET_METRICS_ENABLED=false` turns them off.

## Of the worker

{worker}

## Added when scraped

{derived}

## Of the SDK's core

Durations are in seconds. The buckets of the waiting times (`schedule_to_start`) come from
`FLEET_METRICS_SCHEDULE_TO_START_BUCKETS`, those of the other histograms below from
`FLEET_METRICS_LATENCY_BUCKETS`, except that the end-to-end latency of workflows keeps the SDK's.
All carry `namespace` as well. A metric appears when it is first updated.

{core}

What workflows and activities record with `metric_meter()` is here too. Such histograms have the
buckets {sdk_buckets} of the SDK, whatever they measure, unless
`FLEET_METRICS_HISTOGRAM_BUCKETS` lists others: `page_bytes=1000,100000 score=0.5,0.9`. A name is the
one given to `metric_meter()`, without a unit, and stands for every histogram whose name contains it;
so a name that contains one of the table above, such as `my_request_latency`, cannot be listed and has
that one's buckets.

## Of the process and of workloads

`process_*`, `python_gc_*` and `python_info` come from `prometheus_client`, and so does every metric
that a workload registers there, such as `prometheus_client.Counter("payments_captured", "...")`.
Use that for what belongs to no single workflow or activity. What `@cpu_bound` functions count in
their processes is added to it, except gauges ([when](../concepts/execution-models.md#processes)).
"""


def _table(families: Iterable[Family]) -> str:
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for family in families:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        rows.append(f"| `{family.name}` | {family.kind} | {labels} | {family.help} |")
    return "\n".join(rows)
