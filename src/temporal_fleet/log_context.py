"""The IDs that log lines carry beside what a workload tells.

Those of an activity are kept apart from structlog's context variables, which belong to the workload: it may
bind and clear them as it likes, and the IDs stay.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextvars import ContextVar

activity_ids: ContextVar[Mapping[str, str | int]] = ContextVar("activity_ids", default={})  # noqa: B039 - never changed in place
"""Fields of every line that an activity logs, by name; empty outside of activities."""


class RecentRuns:
    """Which workflows the runs belong to that this process began or read last; safe in all threads.

    The SDK's core names only the run when its history and the workflow's code differ.
    """

    KEPT = 1000
    """How many runs are known; what does not fit its history is found out when it is read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, Mapping[str, str]] = {}

    def note(self, run_id: str, *, workflow_id: str, workflow_type: str) -> None:
        """Note whose run this is."""
        with self._lock:
            self._runs.pop(run_id, None)
            self._runs[run_id] = {"workflow_id": workflow_id, "workflow_type": workflow_type}
            if len(self._runs) > self.KEPT:
                del self._runs[next(iter(self._runs))]

    def ids(self, run_id: str) -> Mapping[str, str]:
        """Return ``workflow_id`` and ``workflow_type`` of a run; nothing when it is not known."""
        with self._lock:
            return self._runs.get(run_id, {})


recent_runs = RecentRuns()
"""The runs of this process."""
