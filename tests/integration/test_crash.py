"""What a fleet promises when its workers are killed without warning."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from running_worker import RunningWorker, running_worker

from fleet_orders.models import OrderOutcome
from fleet_payments.audit import books
from temporal_fleet.starting import LineResult, read_lines, start_all
from temporal_fleet.starting.lines import TooLong
from temporal_fleet.testing import dev_server
from temporal_fleet.workload import load_workload

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

ORDERS = Path(__file__).parents[2] / "examples" / "orders.jsonl"
FLEET = ("orders", "orders", "payments", "payments")
KILLS = 10


class Mortal:
    """One place of the fleet: a worker that is replaced as soon as it was killed."""

    def __init__(self, address: str, workload: str, environment: dict[str, str]) -> None:
        self._arguments = (address, workload, environment)
        self._up = asyncio.Event()
        self._worker: RunningWorker | None = None
        self.codes: list[int] = []

    async def live(self) -> None:
        """Keep one worker running until cancelled."""
        while True:
            async with running_worker(*self._arguments) as self._worker:
                await self._worker.logged("polling", timeout=60)
                self._up.set()
                self.codes.append(await self._worker.exit_code(timeout=600))
                self._up.clear()

    async def up(self) -> None:
        """Wait until the worker polls."""
        await self._up.wait()

    def kill(self) -> None:
        """Send SIGKILL to the worker."""
        assert self._worker
        self._up.clear()
        self._worker.signal(signal.SIGKILL)


async def some_orders(count: int) -> AsyncIterator[bytes | TooLong]:
    """Yield the first lines of the example, enough for *count* valid orders of all kinds."""
    lines = [line async for line in read_lines(ORDERS)]
    for line in itertools.islice(lines, count):
        yield line


async def kill_at_random(places: list[Mortal]) -> None:
    """Kill a random worker that polls, again and again, a bounded number of times."""
    chance = random.Random(20261122)
    for _ in range(KILLS):
        place = chance.choice(places)
        await place.up()
        await asyncio.sleep(chance.uniform(0.1, 0.6))  # at a moment that nobody can foresee
        place.kill()


async def test_workers_killed_at_random_lose_and_repeat_nothing(tmp_path: Path) -> None:
    """With workers killed at random every order gets final, nothing is charged twice, books balance."""
    database = f"sqlite:///{tmp_path}/payments.db"
    environment = {
        "PAYMENTS_DATABASE_URL": database,
        "ORDERS_DATABASE_URL": f"sqlite:///{tmp_path}/stock.db",
    }
    results: list[LineResult] = []
    async with dev_server() as server, AsyncExitStack() as stack:
        address = str(server.client.service_client.config.target_host)
        places = [Mortal(address, workload, environment) for workload in FLEET]
        lives = [asyncio.create_task(place.live()) for place in places]
        stack.callback(lambda: [life.cancel() for life in lives])
        await asyncio.gather(*(place.up() for place in places))
        killing = asyncio.create_task(kill_at_random(places))
        report = await start_all(
            server.client,
            load_workload("orders"),
            some_orders(101),
            wait=True,
            on_line=results.append,
        )
        await killing
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)

    outcomes = [each.result for each in results if each.outcome]
    audit = await books(database)
    assert len(outcomes) >= 100
    assert not [each for each in outcomes if not isinstance(each, OrderOutcome)]
    assert sum(place.codes.count(-signal.SIGKILL) for place in places) >= KILLS
    assert audit.balanced, audit.problems
    finals = [each for each in outcomes if isinstance(each, OrderOutcome)]
    assert audit.captured_minor == sum(each.captured_minor for each in finals)
    assert audit.refunded_minor == sum(each.refunded_minor for each in finals)
    assert audit.charges == sum(each.captured_minor > 0 for each in finals)
    assert not report.outcomes["failed"]
