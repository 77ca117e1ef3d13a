"""Reads single records of the server: Worker Deployments, their builds, their routing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from temporalio.api.deployment.v1 import (
    RoutingConfig,
    WorkerDeploymentVersion,
)
from temporalio.api.taskqueue.v1 import TaskQueueVersioningInfo
from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    DescribeWorkerDeploymentResponse,
    DescribeWorkerDeploymentVersionRequest,
    DescribeWorkerDeploymentVersionResponse,
    ListWorkerDeploymentsRequest,
)
from temporalio.service import RPCError, RPCStatusCode

from temporal_fleet.rollout.server import CALL_TIMEOUT, Server
from temporal_fleet.versioning import UNVERSIONED, Routing

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp


async def list_deployments(server: Server) -> list[str]:
    """Return the names of all Worker Deployments of the namespace, sorted.

    Raises:
        ConnectionFailedError: The server refuses us or stays away.
    """
    names: list[str] = []
    token = b""
    while True:
        request = ListWorkerDeploymentsRequest(
            namespace=server.client.namespace, next_page_token=token
        )
        answer = await server.read(
            lambda request=request: server.client.workflow_service.list_worker_deployments(  # type: ignore[misc]
                request, timeout=CALL_TIMEOUT
            ),
            "list Worker Deployments",
        )
        names += [each.name for each in answer.worker_deployments]
        token = answer.next_page_token
        if not token:
            return sorted(names)


async def describe_deployment(
    server: Server, deployment: str
) -> DescribeWorkerDeploymentResponse | None:
    """Return what the server says of a Worker Deployment; None when it knows none of this name.

    Raises:
        ConnectionFailedError: The server refuses us or stays away.
    """
    request = DescribeWorkerDeploymentRequest(
        namespace=server.client.namespace, deployment_name=deployment
    )
    service = server.client.workflow_service
    try:
        return await server.read(
            lambda: service.describe_worker_deployment(request, timeout=CALL_TIMEOUT),
            f"look at Worker Deployment {deployment!r}",
        )
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


async def describe_build(
    server: Server, deployment: str, build_id: str
) -> DescribeWorkerDeploymentVersionResponse | None:
    """Return what the server says of a build; None when it has never seen it, or has deleted it.

    Raises:
        ConnectionFailedError: The server refuses us or stays away.
    """
    version = WorkerDeploymentVersion(deployment_name=deployment, build_id=build_id)
    request = DescribeWorkerDeploymentVersionRequest(
        namespace=server.client.namespace,
        deployment_version=version,
        report_task_queue_stats=True,
    )
    service = server.client.workflow_service
    try:
        return await server.read(
            lambda: service.describe_worker_deployment_version(request, timeout=CALL_TIMEOUT),
            f"look at build ID {build_id!r} of Worker Deployment {deployment!r}",
        )
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


def routing_of(config: RoutingConfig | TaskQueueVersioningInfo) -> Routing:
    """Return the routing in the record of a Worker Deployment, or of one of its task queues."""
    current = config.current_deployment_version.build_id or None
    if config.HasField("ramping_deployment_version"):
        ramping = config.ramping_deployment_version.build_id
        return Routing(current, ramping, config.ramping_version_percentage)
    if config.ramping_version_percentage:
        return Routing(current, UNVERSIONED, config.ramping_version_percentage)
    return Routing(current)


def routing_changed(config: RoutingConfig) -> datetime | None:
    """Return when current or ramp were last changed; None = never."""
    changes = (
        time_of(config.current_version_changed_time),
        time_of(config.ramping_version_changed_time),
        time_of(config.ramping_version_percentage_changed_time),
    )
    return max((each for each in changes if each), default=None)


def time_of(stamp: Timestamp) -> datetime | None:
    """Return a time of the server; None where it tells none."""
    return stamp.ToDatetime(UTC) if stamp.seconds else None
