"""Reports a worker that is ready and polls, but to which the server routes no new work."""

from __future__ import annotations

from datetime import timedelta

import structlog
from temporalio.api.taskqueue.v1 import TaskQueueVersioningInfo

log = structlog.get_logger(__name__)

UNROUTED_LIMIT = timedelta(minutes=5)
"""How long a worker may poll without being routed new work before the log says so. A rollout makes a build
current within a minute or two of its pods becoming ready."""

_VERSIONED_CURE = "If it should, make its build current: fleet rollout promote"
_UNVERSIONED_CURE = (
    "If it should, set its build ID in FLEET_DEPLOYMENT_BUILD_ID and make that build current: "
    "fleet rollout promote"
)


class RoutingNotice:
    """Watches where new work of a task queue goes, and says once when it never goes to this worker.

    A build that was routed work and then replaced is no news, so it is not reported.
    """

    def __init__(self, build_id: str | None, task_queue: str) -> None:
        """Begin to watch.

        Args:
            build_id: Build ID that this worker polls with; None without versioning.
            task_queue: Task queue that it polls.
        """
        self._build_id = build_id
        self._task_queue = task_queue
        self._since: float | None = None
        self._settled = False

    def look(self, routing: TaskQueueVersioningInfo, now: float) -> None:
        """Take note of the routing.

        Args:
            routing: What the server says about the task queue.
            now: Seconds of a monotonic clock.
        """
        if self._settled:
            return
        receivers = routed_to(routing)
        if self._build_id in receivers:
            self._settled = True
            return
        if self._since is None:
            self._since = now
        if now - self._since >= UNROUTED_LIMIT.total_seconds():
            self._settled = True
            self._say(receivers)

    def _say(self, receivers: list[str | None]) -> None:
        # A pod of an old build may be restarted while it drains: then another build is current, rightly.
        report = log.warning if self._build_id and receivers == [None] else log.info
        report(
            "ready, but the server routes no new work to this worker",
            task_queue=self._task_queue,
            build_id=self._build_id,
            routed_to=[receiver or "workers without versioning" for receiver in receivers],
            waited_seconds=UNROUTED_LIMIT.total_seconds(),
            cure=_VERSIONED_CURE if self._build_id else _UNVERSIONED_CURE,
        )


def routed_to(routing: TaskQueueVersioningInfo) -> list[str | None]:
    """Return the build IDs that get new work: the current one, then one that ramps.

    Args:
        routing: What the server says about a task queue; it names no version for workers without versioning.

    Returns:
        None stands for workers without versioning.
    """
    receivers = [routing.current_deployment_version.build_id or None]
    if routing.ramping_version_percentage > 0:
        receivers.append(routing.ramping_deployment_version.build_id or None)
    return receivers
