"""The Temporal server of the cluster tests, and what it can tell of the work that was done."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from e2e_cluster import JsonObject
from google.protobuf.duration_pb2 import Duration
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.deployment.v1 import RoutingConfig, WorkerDeploymentVersion
from temporalio.api.enums.v1 import TimeoutType, VersionDrainageStatus
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeWorkerDeploymentRequest,
    DescribeWorkerDeploymentVersionRequest,
    GetWorkflowExecutionHistoryRequest,
    RegisterNamespaceRequest,
)
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError, RPCStatusCode

SERVER = "temporal"
"""Name of its Deployment and its Service."""
PORT = 7233

NAMESPACE_TIMEOUT = timedelta(seconds=30)
DRAINAGE_TIMEOUT = timedelta(seconds=60)
POLL_INTERVAL = timedelta(milliseconds=200)
AUDITS_AT_ONCE = 20

# Production's minutes would be the length of every test of a drainage. Who polls is noted when a poll begins,
# so the note has to be kept longer than a poll takes, which is a minute.
FAST = (
    'matching.wv.VersionDrainageStatusVisibilityGracePeriod="3s"',
    'matching.wv.VersionDrainageStatusRefreshInterval="2s"',
    'matching.PollerHistoryTTL="65s"',
    "frontend.workerDeploymentReadRPS=1000",
    # Without this, a task that the server hands out at the moment of a shutdown is lost until it times out.
    "frontend.enableCancelWorkerPollsOnShutdown=true",
)
# A file in memory: a disk is slow, and without a file the server has one connection that everything waits for.
DATABASE = (
    "--db-filename=/tmp/temporal.db",
    "--sqlite-pragma=journal_mode=wal",
    "--sqlite-pragma=synchronous=off",
)


@dataclass(frozen=True)
class TemporalNamespace:
    """A namespace of the server, for one test."""

    name: str
    address: str
    """``host:port`` as pods reach it."""
    client: Client

    async def routing(self, deployment: str) -> RoutingConfig:
        """Return where the server sends new work of a Worker Deployment."""
        answer = await self.client.workflow_service.describe_worker_deployment(
            DescribeWorkerDeploymentRequest(namespace=self.name, deployment_name=deployment)
        )
        return answer.worker_deployment_info.routing_config

    async def build_ids(self, deployment: str) -> set[str]:
        """Return the build IDs that the server knows of a Worker Deployment."""
        answer = await self.client.workflow_service.describe_worker_deployment(
            DescribeWorkerDeploymentRequest(namespace=self.name, deployment_name=deployment)
        )
        summaries = answer.worker_deployment_info.version_summaries
        return {each.deployment_version.build_id for each in summaries}

    async def drained(self, deployment: str, build_id: str) -> None:
        """Wait until the server says that a build has no open pinned workflows any more."""
        request = DescribeWorkerDeploymentVersionRequest(
            namespace=self.name,
            deployment_version=WorkerDeploymentVersion(
                deployment_name=deployment, build_id=build_id
            ),
        )
        async with asyncio.timeout(DRAINAGE_TIMEOUT.total_seconds()):
            while True:
                service = self.client.workflow_service
                answer = await service.describe_worker_deployment_version(request)
                status = answer.worker_deployment_version_info.drainage_info.status
                if status == VersionDrainageStatus.VERSION_DRAINAGE_STATUS_DRAINED:
                    return
                await asyncio.sleep(POLL_INTERVAL.total_seconds())


async def connect(local_port: int, name: str, address: str) -> TemporalNamespace:
    """Register a namespace and return it as soon as it can be used."""
    client = await Client.connect(
        f"127.0.0.1:{local_port}", namespace=name, data_converter=pydantic_data_converter
    )
    try:
        await client.workflow_service.register_namespace(
            RegisterNamespaceRequest(
                namespace=name, workflow_execution_retention_period=Duration(seconds=86400)
            )
        )
    except RPCError as error:
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            raise
    async with asyncio.timeout(NAMESPACE_TIMEOUT.total_seconds()):
        while not await _is_known(client):
            await asyncio.sleep(POLL_INTERVAL.total_seconds())
    return TemporalNamespace(name, address, client)


async def _is_known(client: Client) -> bool:
    """Whether the server's caches know the namespace, so that workers can poll it and runs be listed."""
    try:
        await client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=client.namespace)
        )
        async for _ in client.list_workflows("WorkflowId = 'nobody'"):
            pass
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return False
    return True


@dataclass
class Audit:
    """What histories tell of work that was lost or done twice."""

    runs: int = 0
    attempts: int = 0
    """Executions of activities."""
    problems: list[str] = field(default_factory=list)
    """Each failed, timed out or repeated piece of work."""
    redelivered: list[str] = field(default_factory=list)
    """Workflow tasks that got no answer and were handed out again: those given to a poll that had just
    ended, or given too late by a server that is too slow. They cost time, but no work."""
    builds: dict[str, set[str]] = field(default_factory=dict)
    """Workflow ID → build IDs that completed any of its workflow tasks."""


async def audit(client: Client, workflow_ids: Iterable[str]) -> Audit:
    """Read the histories of workflows and note everything that failed, timed out or was repeated.

    A workflow task that waited in vain for the pod that had it last is no repeated work: nobody had begun it.
    """
    found = Audit()
    limit = asyncio.Semaphore(AUDITS_AT_ONCE)

    async def read(workflow_id: str) -> None:
        async with limit:
            events = await _events(client, workflow_id)
        found.runs += 1
        for event in events:
            _note(found, workflow_id, event, events)
        if not events[-1].HasField("workflow_execution_completed_event_attributes"):
            found.problems.append(f"{workflow_id}: not completed")

    await asyncio.gather(*map(read, workflow_ids))
    return found


async def _events(client: Client, workflow_id: str) -> list[HistoryEvent]:
    answer = await client.workflow_service.get_workflow_execution_history(
        GetWorkflowExecutionHistoryRequest(
            namespace=client.namespace, execution=WorkflowExecution(workflow_id=workflow_id)
        )
    )
    assert not answer.next_page_token, f"{workflow_id} has more than one page of history"
    return list(answer.history.events)


def _note(
    found: Audit, workflow_id: str, event: HistoryEvent, events: Sequence[HistoryEvent]
) -> None:
    kind = event.WhichOneof("attributes")
    if kind == "activity_task_started_event_attributes":
        found.attempts += 1
        attempt = event.activity_task_started_event_attributes.attempt
        if attempt > 1:
            found.problems.append(f"{workflow_id}: attempt {attempt} of an activity")
    elif kind == "workflow_task_completed_event_attributes":
        version = event.workflow_task_completed_event_attributes.deployment_version.build_id
        found.builds.setdefault(workflow_id, set()).add(version)
    elif kind == "workflow_task_timed_out_event_attributes":
        timed_out = event.workflow_task_timed_out_event_attributes
        if timed_out.timeout_type != TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START:
            begun = events[timed_out.started_event_id - 1]
            worker = begun.workflow_task_started_event_attributes.identity
            found.redelivered.append(
                f"{workflow_id}: the workflow task that {worker} was given at "
                f"{begun.event_time.ToDatetime():%H:%M:%S.%f} timed out"
            )
    elif kind and any(word in kind for word in ("failed", "timed_out", "canceled", "terminated")):
        found.problems.append(f"{workflow_id}: {kind.removesuffix('_event_attributes')}")


def server_objects(
    image: str, labels: Mapping[str, str], extra: Iterable[str] = ()
) -> list[JsonObject]:
    """Return the objects of a Temporal server with fast drainage."""
    arguments = [f"--dynamic-config-value={each}" for each in FAST]
    selector = {"app": SERVER}
    pod: dict[str, Any] = {
        "securityContext": pod_security(),
        "containers": [
            {
                "name": "server",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "args": ["--headless", "--log-level=warn", *DATABASE, *arguments, *extra],
                "ports": [{"name": "grpc", "containerPort": PORT}],
                "readinessProbe": {"tcpSocket": {"port": "grpc"}, "periodSeconds": 1},
                "resources": {"requests": {"cpu": "300m", "memory": "256Mi"}},
                "securityContext": container_security(),
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory"}}],
    }
    deployment: JsonObject = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": SERVER, "labels": labels},
        "spec": {
            "selector": {"matchLabels": selector},
            "template": {"metadata": {"labels": selector}, "spec": pod},
        },
    }
    service: JsonObject = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": SERVER, "labels": labels},
        "spec": {"selector": selector, "ports": [{"name": "grpc", "port": PORT}]},
    }
    return [deployment, service]


def pod_security() -> JsonObject:
    """Return the security context that Pod Security "restricted" wants of a pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> JsonObject:
    """Return the security context that Pod Security "restricted" wants of a container."""
    capabilities: dict[Literal["drop"], list[str]] = {"drop": ["ALL"]}
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": capabilities,
    }
