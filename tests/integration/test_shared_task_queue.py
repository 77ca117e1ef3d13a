"""Two workloads on one task queue: one serves the workflows, the other the activities."""

from __future__ import annotations

import asyncio
import textwrap
from pathlib import Path

import pytest
from running_worker import running_worker

from temporal_fleet.testing import dev_server

pytestmark = pytest.mark.integration

WORK = """
    from datetime import timedelta

    from temporalio import activity, workflow


    @activity.defn
    async def render(name: str) -> str:
        return f"page of {name}"


    @workflow.defn
    class Publish:
        @workflow.run
        async def run(self, name: str) -> str:
            return await workflow.execute_activity(
                render, name, start_to_close_timeout=timedelta(seconds=20)
            )
"""

DECLARATIONS = """
    from temporal_fleet import Workload
    from publish.work import Publish, render

    workflows = Workload(
        name="publish-workflows",
        task_queue="publish",
        workflows=[Publish],
        served_elsewhere=["render"],
    )
    activities = Workload(name="publish-activities", task_queue="publish", activities=[render])
"""

ENTRY_POINTS = """
    [temporal_fleet.workloads]
    publish-workflows = publish.declarations:workflows
    publish-activities = publish.declarations:activities
"""


def write_site(site: Path) -> None:
    """Write a distribution that offers both workloads."""
    for file, text in {
        "publish/__init__.py": "",
        "publish/work.py": WORK,
        "publish/declarations.py": DECLARATIONS,
        "publish-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: publish\nVersion: 1.0\n",
        "publish-1.0.dist-info/entry_points.txt": ENTRY_POINTS,
    }.items():
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).write_text(textwrap.dedent(text))


async def test_workflow_runs_an_activity_that_another_worker_serves(tmp_path: Path) -> None:
    """A workflow's activity reaches the worker of the other workload by their one task queue."""
    write_site(tmp_path)
    path = {"PYTHONPATH": str(tmp_path)}
    async with dev_server() as environment:
        client = environment.client
        address = str(client.service_client.config.target_host)
        async with (
            running_worker(address, "publish-workflows", path) as workflows,
            running_worker(address, "publish-activities", path) as activities,
        ):
            await asyncio.gather(workflows.logged("polling"), activities.logged("polling"))
            result = await client.execute_workflow(
                "Publish", "plans", id="publish", task_queue="publish"
            )

            assert result == "page of plans"
            for worker in (workflows, activities):
                worker.signal()
                assert await worker.exit_code() == 0
