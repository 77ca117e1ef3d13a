"""What is made of the server's answers about task queues, and of its refusals."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.deployment.v1 import WorkerDeploymentOptions, WorkerDeploymentVersion
from temporalio.api.taskqueue.v1 import PollerInfo, TaskQueueStats, TaskQueueVersioningInfo
from temporalio.api.workflowservice.v1 import DescribeTaskQueueResponse
from temporalio.service import RPCError, RPCStatusCode

from temporal_fleet.client.task_queues import TaskQueueStatus, as_json, refusal, status_from

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def poller(identity: str, *, seconds_ago: float, build_id: str = "") -> PollerInfo:
    """A poller as the server describes it."""
    seen = Timestamp()
    seen.FromDatetime(NOW - timedelta(seconds=seconds_ago))
    options = WorkerDeploymentOptions(build_id=build_id) if build_id else None
    return PollerInfo(identity=identity, last_access_time=seen, deployment_options=options)


def status(answer: DescribeTaskQueueResponse) -> TaskQueueStatus:
    """The status of the workflow tasks of the task queue ``orders``."""
    return status_from(answer, task_queue="orders", kind="workflow", now=NOW)


def test_status_from_an_empty_answer_is_a_task_queue_that_nobody_uses() -> None:
    """The server answers for names that it has never seen; that is neither backlog nor poller."""
    found = status(DescribeTaskQueueResponse())

    assert found == TaskQueueStatus(
        task_queue="orders",
        type="workflow",
        backlog=0,
        backlog_age=timedelta(0),
        added_per_second=0,
        dispatched_per_second=0,
        rate_limited=False,
        pollers=(),
    )
    assert not found.is_in_use


def test_status_from_statistics_keeps_their_units() -> None:
    """Backlog, its age as a duration, and both rates arrive where they belong."""
    found = status(
        DescribeTaskQueueResponse(
            stats=TaskQueueStats(
                approximate_backlog_count=30,
                approximate_backlog_age=Duration(seconds=2, nanos=250_000_000),
                tasks_add_rate=13.5,
                tasks_dispatch_rate=4.5,
                rate_limiting_active=True,
            )
        )
    )

    assert (found.backlog, found.backlog_age) == (30, timedelta(seconds=2.25))
    assert (found.added_per_second, found.dispatched_per_second) == (13.5, 4.5)
    assert found.rate_limited
    assert found.is_in_use


def test_status_from_pollers_leaves_out_those_that_have_stopped() -> None:
    """The server names a poller for minutes after its last poll; we do not."""
    found = status(
        DescribeTaskQueueResponse(
            pollers=[
                poller("pod-b", seconds_ago=5, build_id="build-8"),
                poller("gone", seconds_ago=120),
                poller("pod-a", seconds_ago=61),
                poller("pod-b", seconds_ago=7, build_id="build-7"),
            ]
        )
    )

    assert [(each.identity, each.build_id) for each in found.pollers] == [
        ("pod-a", None),
        ("pod-b", "build-7"),
        ("pod-b", "build-8"),
    ]
    assert found.pollers[0].last_seen == timedelta(seconds=61)
    assert found.build_ids == ("build-7", "build-8")


def test_status_from_a_clock_behind_the_server_never_says_a_negative_time() -> None:
    """Clocks of two machines differ; a poll from the future was a moment ago."""
    found = status(DescribeTaskQueueResponse(pollers=[poller("pod-a", seconds_ago=-3)]))

    assert found.pollers[0].last_seen == timedelta(0)


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (TaskQueueVersioningInfo(), (None, None, 0)),
        (
            TaskQueueVersioningInfo(
                current_deployment_version=WorkerDeploymentVersion(build_id="build-7"),
            ),
            ("build-7", None, 0),
        ),
        (
            TaskQueueVersioningInfo(
                current_deployment_version=WorkerDeploymentVersion(build_id="build-7"),
                ramping_deployment_version=WorkerDeploymentVersion(build_id="build-8"),
                ramping_version_percentage=25,
            ),
            ("build-7", "build-8", 25),
        ),
    ],
    ids=["unversioned", "current", "ramping"],
)
def test_status_from_routing_names_current_and_ramping_build_id(
    info: TaskQueueVersioningInfo, expected: tuple[str | None, str | None, float]
) -> None:
    """One sees which build ID gets new work, and which gets how much of it on trial."""
    found = status(DescribeTaskQueueResponse(versioning_info=info))

    assert (found.current_build_id, found.ramping_build_id, found.ramping_percentage) == expected


def test_as_json_of_a_full_status_survives_json() -> None:
    """Everything that is known is there, with durations in seconds."""
    found = status(
        DescribeTaskQueueResponse(
            stats=TaskQueueStats(
                approximate_backlog_count=3, approximate_backlog_age=Duration(seconds=90)
            ),
            pollers=[poller("pod-a", seconds_ago=1.5, build_id="build-7")],
            versioning_info=TaskQueueVersioningInfo(
                current_deployment_version=WorkerDeploymentVersion(build_id="build-7")
            ),
        )
    )

    assert json.loads(json.dumps(as_json(found))) == {
        "task_queue": "orders",
        "type": "workflow",
        "backlog": 3,
        "backlog_age_seconds": 90,
        "added_per_second": 0,
        "dispatched_per_second": 0,
        "rate_limited": False,
        "current_build_id": "build-7",
        "ramping_build_id": None,
        "ramping_percentage": 0,
        "pollers": [{"identity": "pod-a", "build_id": "build-7", "last_seen_seconds": 1.5}],
    }


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (RPCStatusCode.NOT_FOUND, "refused (NOT_FOUND). Set TEMPORAL_NAMESPACE"),
        (RPCStatusCode.PERMISSION_DENIED, "refused (PERMISSION_DENIED). Check the credentials"),
        (RPCStatusCode.UNAUTHENTICATED, "refused (UNAUTHENTICATED). Check the credentials"),
        (RPCStatusCode.RESOURCE_EXHAUSTED, "(RESOURCE_EXHAUSTED). The server limits calls"),
        (RPCStatusCode.UNAVAILABLE, "refused (UNAVAILABLE). Check TEMPORAL_ADDRESS"),
        (RPCStatusCode.DEADLINE_EXCEEDED, "no answer within 10 s (DEADLINE_EXCEEDED)"),
    ],
)
def test_refusal_names_server_namespace_task_queue_and_cure(code: RPCStatusCode, told: str) -> None:
    """Each kind of refusal says what was asked, of whom, why it failed and what to do."""
    error = refusal(
        RPCError("refused.", code, b""), task_queue="orders", namespace="shop", address="host:7233"
    )

    start = "task queue 'orders' of namespace 'shop' cannot be described by the server host:7233: "
    assert str(error).startswith(start)
    assert told in str(error)
