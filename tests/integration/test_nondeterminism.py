"""What a worker tells when new code does not fit the history of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from running_worker import address, running_worker
from temporalio.client import Client, WorkflowHistoryEventFilterType
from written_workload import WORKFLOWS, write_workload

from temporal_fleet.telemetry.nondeterminism import EVENT, plain_cause

pytestmark = pytest.mark.integration


async def test_code_that_does_not_fit_a_history_is_told_with_ids_cause_and_cure(
    client: Client, tmp_path: Path
) -> None:
    """One line names workflow, run, type and build, says in plain words what differs, and what to do."""
    workload = write_workload(tmp_path, "greetings")
    variables = {
        "PYTHONPATH": str(tmp_path),
        "FLEET_DEPLOYMENT_BUILD_ID": "b2",
        "FLEET_DEPLOYMENT_VERSIONING": "false",
    }
    async with running_worker(address(client), "greetings", variables) as worker:
        await worker.logged("polling")
        handle = await client.start_workflow(
            "Greet", {"name": "Ann", "wants": "time"}, id="greet-ann", task_queue="greetings"
        )
        events = handle.fetch_history_events(
            wait_new_event=True, event_filter_type=WorkflowHistoryEventFilterType.ALL_EVENT
        )
        async for event in events:
            if event.HasField("timer_started_event_attributes"):
                break
        worker.signal()
        assert await worker.exit_code() == 0
    workload.write("workflows.py", WORKFLOWS.replace("await asyncio.sleep(600)", "pass"))
    async with running_worker(address(client), "greetings", variables) as worker:
        await worker.logged("polling")
        await handle.signal("nudge")
        line = await worker.logged(EVENT)

    assert line["level"] == "error"
    assert (line["workflow_id"], line["workflow_type"]) == ("greet-ann", "Greet")
    assert (line["workflow_run_id"], line["build_id"]) == (handle.first_execution_run_id, "b2")
    assert line["cause"].startswith(
        "the history continues with TimerStarted (event 5), where the code"
    )
    assert "workflow.patched()" in line["cure"]
    assert "Failure {" not in str(line)


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (
            "Activity machine does not handle this event: HistoryEvent(id: 5, TimerStarted)",
            "the history continues with TimerStarted (event 5), where the code now has this command: "
            "Activity",
        ),
        ("something new", "something new"),
    ],
)
def test_cause_of_a_difference_is_in_plain_words(message: str, cause: str) -> None:
    """What the core says is turned into a sentence; what it never said before is passed on."""
    assert plain_cause(message) == cause
