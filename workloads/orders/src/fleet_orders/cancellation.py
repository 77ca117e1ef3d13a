"""Work that a workflow finishes although it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from temporalio import workflow

ResultT = TypeVar("ResultT")


async def undisturbed(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Await work to its end, however often the workflow is asked to cancel meanwhile.

    Args:
        work: Runs in a task of its own, which no cancellation request reaches.
    """
    task = asyncio.create_task(work)
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # Eviction from the cache cancels the task itself, and that must not be held up.
            if task.done():
                raise
            workflow.logger.info("cancellation waits until what was begun is finished")
