"""When a worker that is routed no new work says so."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs
from temporalio.api.deployment.v1 import WorkerDeploymentVersion
from temporalio.api.taskqueue.v1 import TaskQueueVersioningInfo

from temporal_fleet.health.routing_notice import UNROUTED_LIMIT, RoutingNotice

LIMIT = UNROUTED_LIMIT.total_seconds()


def routing(
    current: str | None = None, ramping: str | None = None, percentage: float = 0
) -> TaskQueueVersioningInfo:
    """Return what the server says; None stands for workers without versioning."""
    return TaskQueueVersioningInfo(
        current_deployment_version=version(current),
        ramping_deployment_version=version(ramping),
        ramping_version_percentage=percentage,
    )


def version(build_id: str | None) -> WorkerDeploymentVersion | None:
    """Return the version of a build; the server leaves out that of workers without versioning."""
    return (
        WorkerDeploymentVersion(deployment_name="orders", build_id=build_id) if build_id else None
    )


def reported(
    build_id: str | None, *seen: tuple[float, TaskQueueVersioningInfo]
) -> list[tuple[str, Any]]:
    """Return level and receivers of each line that a worker logs when it sees this routing at these seconds."""
    notice = RoutingNotice(build_id, "orders")
    with capture_logs() as lines:
        for now, info in seen:
            notice.look(info, now)
    return [(line["log_level"], line["routed_to"]) for line in lines]


def test_worker_never_routed_to_says_so_once_after_the_limit() -> None:
    """Not before the limit, and not again later."""
    seen = [(0, routing()), (LIMIT - 1, routing()), (LIMIT, routing()), (9 * LIMIT, routing())]

    assert reported("1.0", *seen[:2]) == []
    assert reported("1.0", *seen) == [("warning", ["workers without versioning"])]


@pytest.mark.parametrize(
    ("build_id", "info", "level"),
    [
        ("1.0", routing("2.0"), "info"),
        ("1.0", routing("2.0", "3.0", 5), "info"),
        (None, routing("2.0"), "info"),
        ("1.0", routing("1.0"), None),
        ("1.0", routing("2.0", "1.0", 5), None),
        (None, routing(), None),
        (None, routing("2.0", None, 5), None),
    ],
    ids=[
        "another is current",
        "others are current and ramping",
        "none of its own",
        "current",
        "ramping",
        "unversioned",
        "ramp to unversioned",
    ],
)
def test_current_and_ramping_builds_get_work(
    build_id: str | None, info: TaskQueueVersioningInfo, level: str | None
) -> None:
    """A build in the lead is named; workers without versioning count as one."""
    lines = reported(build_id, (0, info), (LIMIT, info))

    assert [line[0] for line in lines] == ([level] if level else [])


def test_build_that_was_replaced_is_no_news() -> None:
    """A worker that was routed work says nothing when another build takes over."""
    assert (
        reported("1.0", (0, routing("1.0")), (1, routing("2.0")), (9 * LIMIT, routing("2.0"))) == []
    )
