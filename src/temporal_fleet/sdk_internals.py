"""All private names of the SDK that temporal-fleet uses, each with what it is for.

Nothing else reaches past the SDK's public API. A release of the SDK may move any of these without
notice: :data:`KNOWN_RELEASES` are those that were seen to have them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import temporalio.activity
import temporalio.workflow

if TYPE_CHECKING:
    from temporalio.activity import Info
    from temporalio.common import MetricMeter
    from temporalio.converter import PayloadConverter
    from temporalio.worker import Worker

KNOWN_RELEASES = ("1.35",)
"""Releases of the SDK, by major and minor version, that are known to have all names used here."""

WorkflowDefinition = temporalio.workflow._Definition  # noqa: SLF001
"""What ``@workflow.defn`` wrote down: type name, sandboxing, behaviour, handlers, run method.

Without it nothing is known of a workflow before it runs: no check before polling, no ``fleet list``,
no typed ``fleet start``. When it is gone, importing this module fails and no worker starts.
"""
ActivityDefinition = temporalio.activity._Definition  # noqa: SLF001
"""What ``@activity.defn`` wrote down: the type name and whether it is ``async``.

Used for the same checks; when it is gone, importing this module fails and no worker starts.
"""
CompleteAsyncError = temporalio.activity._CompleteAsyncError  # noqa: SLF001
"""What ``activity.raise_complete_async()`` raises, so that it is not counted as a failure.

When it is gone, importing this module fails and no worker starts.
"""
CancellationDetailsHolder = temporalio.activity._ActivityCancellationDetailsHolder  # noqa: SLF001
"""What ``activity.cancellation_details()`` reads its answer from, here in the process of a CPU-bound activity.

When it is gone, importing this module fails and no worker starts.
"""


@contextmanager
def activity_context(
    info: Info,
    *,
    heartbeat: Callable[..., None],
    cancelled: Any,
    worker_shutdown: Any,
    payload_converter: Callable[[], PayloadConverter],
    metric_meter: MetricMeter,
    cancellation_details: CancellationDetailsHolder,
) -> Iterator[None]:
    """Make the functions of ``temporalio.activity`` work in a process that the SDK does not know.

    When its fields change, calls of CPU-bound activities fail with ``CallNotPossible``.

    Args:
        info: What ``activity.info()`` returns.
        heartbeat: Called by ``activity.heartbeat()`` with its details.
        cancelled: ``is_set()`` and ``wait_sync(timeout)`` answer ``activity.is_cancelled()`` and its wait.
        worker_shutdown: The same for ``activity.is_worker_shutdown()``.
        payload_converter: Makes what ``activity.payload_converter()`` returns.
        metric_meter: What ``activity.metric_meter()`` returns, with attributes of the activity.
        cancellation_details: What ``activity.cancellation_details()`` reads.
    """
    kind = temporalio.activity._Context  # noqa: SLF001
    token = kind.set(
        kind(
            info=lambda: info,
            heartbeat=heartbeat,
            cancelled_event=cancelled,
            worker_shutdown_event=worker_shutdown,
            shield_thread_cancel_exception=None,
            payload_converter_class_or_instance=payload_converter,  # type: ignore[arg-type]
            runtime_metric_meter=metric_meter,
            client=None,
            cancellation_details=cancellation_details,
        )
    )
    try:
        yield
    finally:
        kind.reset(token)


def running_attempt(interceptor: Any) -> Any:
    """Return the SDK's own record of an attempt, which alone can cancel an activity in a thread.

    It hangs on the last interceptor of the chain.

    Returns:
        The record; None when it is not found. Then activities in threads cannot be cancelled when a
        worker stops: the log says so, and the watchdog ends the process.
    """
    while interceptor is not None:
        found = getattr(interceptor, "_running_activity", None)
        if found is not None:
            return found
        interceptor = getattr(interceptor, "next", None)
    return None


def evict_workflow(worker: Worker, run_id: str) -> None:
    """Give up a run's workflow task; the server hands it out again.

    It is the only way to a local activity whose retry waits in the SDK's core. When the name is
    gone, the drain fails with an AttributeError as soon as a local activity waits for its retry.
    """
    worker._bridge_worker.request_workflow_eviction(run_id)  # noqa: SLF001
