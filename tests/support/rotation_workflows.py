"""Workflows that are under way while credentials are rotated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from temporalio import activity, workflow


class Work:
    """Activities that count themselves and can be held.

    Attributes:
        finished: How many short activities have finished.
        attempts: Attempts of all activities that were more than the first.
        beating: Set once the long activity runs.
        released: Lets the long activity end.
    """

    def __init__(self) -> None:
        self.finished = 0
        self.attempts: list[int] = []
        self.beating = asyncio.Event()
        self.released = asyncio.Event()
        self._changed = asyncio.Condition()

    @activity.defn
    async def short(self, number: int) -> int:
        """Finish soon."""
        self._note_attempt()
        await asyncio.sleep(0.01)
        self.finished += 1
        async with self._changed:
            self._changed.notify_all()
        return number

    @activity.defn
    async def long(self) -> str:
        """Send heartbeats until released."""
        self._note_attempt()
        self.beating.set()
        while not self.released.is_set():
            activity.heartbeat()
            await asyncio.sleep(0.05)
        return "released"

    async def reached(self, count: int) -> None:
        """Wait until *count* short activities have finished."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: self.finished >= count)

    def _note_attempt(self) -> None:
        if activity.info().attempt > 1:
            self.attempts.append(activity.info().attempt)

    @property
    def all(self) -> list[Callable[..., object]]:
        """The activities, to be registered."""
        return [self.short, self.long]


@workflow.defn
class ManyShort:
    """Runs short activities one after the other."""

    @workflow.run
    async def run(self, count: int) -> int:
        """Return how many ran."""
        total = 0
        for number in range(count):
            await workflow.execute_activity(
                "short", number, start_to_close_timeout=timedelta(seconds=20)
            )
            total += 1
        return total


@workflow.defn
class OneLong:
    """Runs the long activity."""

    @workflow.run
    async def run(self) -> str:
        """Return what it returns."""
        answer: str = await workflow.execute_activity(
            "long",
            result_type=str,
            start_to_close_timeout=timedelta(seconds=60),
            heartbeat_timeout=timedelta(seconds=5),
        )
        return answer
