"""Workflows that run any of the sample activities."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy, VersioningBehavior


@workflow.defn(versioning_behavior=VersioningBehavior.PINNED)
class RunActivity:
    """Run one activity by name."""

    @workflow.run
    async def run(self, name: str, folder: str, seconds: float) -> Any:
        """Return what the activity *name* returns."""
        return await workflow.execute_activity(
            name,
            args=[folder, seconds],
            start_to_close_timeout=timedelta(seconds=60),
            heartbeat_timeout=timedelta(seconds=20),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=100)),
        )


@workflow.defn(versioning_behavior=VersioningBehavior.PINNED)
class RunLocalActivity:
    """Run one activity by name, as a local activity."""

    @workflow.run
    async def run(self, name: str, folder: str, seconds: float) -> Any:
        """Return what the local activity *name* returns; it is retried after *seconds*."""
        return await workflow.execute_local_activity(
            name,
            args=[folder, seconds],
            start_to_close_timeout=timedelta(seconds=60),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(seconds=seconds), backoff_coefficient=1.0
            ),
        )
