"""The workflow of the drain cycles."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow


@workflow.defn
class RunNap:
    """Run one of the activities by name."""

    @workflow.run
    async def run(self, name: str, marker: str, seconds: float) -> None:
        """Wait for the activity *name* to end."""
        await workflow.execute_activity(
            name, args=[marker, seconds], start_to_close_timeout=timedelta(seconds=60)
        )
