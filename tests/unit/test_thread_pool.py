"""The thread pool of plain ``def`` activities."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from temporalio.testing import ActivityEnvironment

from temporal_fleet.execution import PoolClosedError, ThreadPool


def test_thread_pool_knows_what_its_threads_do() -> None:
    """A running call is listed with its thread's name, so that one that hangs can be named."""
    pool = ThreadPool(2)
    release, started = threading.Event(), threading.Event()

    def hang() -> str:
        started.set()
        release.wait(10)
        return threading.current_thread().name

    with pool:
        future = pool.submit(hang)
        assert started.wait(10)
        [(ident, call)] = pool.running().items()
        assert pool.in_use == 1
        release.set()
        name = future.result(10)

    assert isinstance(pool, ThreadPoolExecutor)
    assert name == call.thread_name == "activity-thread-0"
    assert call.call.endswith("hang")
    assert ident != threading.get_ident()
    assert (pool.in_use, pool.size) == (0, 2)


def test_thread_pool_names_the_activity() -> None:
    """A call of the SDK is listed as its activity with the IDs, not as the SDK's wrapper."""
    info = replace(ActivityEnvironment().info, activity_type="nap", activity_id="17")
    with ThreadPool(1) as pool:
        assert pool.submit(lambda _: next(iter(pool.running().values())).call, info).result(10) == (
            "activity 'nap' (ID 17, workflow test, attempt 1)"
        )


def test_thread_pool_forgets_failed_calls() -> None:
    """An exception passes to the future and leaves the thread free."""
    with ThreadPool(1) as pool:
        future = pool.submit(int, "x")
        with pytest.raises(ValueError, match="invalid literal"):
            future.result(10)

    assert pool.in_use == 0


async def wait_in_line(pool: ThreadPool, name: str, order: list[str]) -> None:
    """Wait for a thread, and note the name when there is one."""
    async with pool.free_thread():
        order.append(name)


async def test_free_thread_is_given_first_come_first_served() -> None:
    """Who waits longest gets the next thread, and one who gives up costs nobody a turn."""
    order: list[str] = []
    with ThreadPool(1) as pool:
        async with pool.free_thread():
            tasks = [asyncio.create_task(wait_in_line(pool, name, order)) for name in "abc"]
            await asyncio.sleep(0)
            assert pool.waiting == 3
            tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await wait_in_line(pool, "d", order)

    assert order == ["a", "c", "d"]
    assert pool.waiting == 0


async def test_turn_of_one_who_is_cancelled_at_that_moment_is_passed_on() -> None:
    """A thread that was just given to a cancelled call goes to the next in line."""
    order: list[str] = []
    with ThreadPool(1) as pool:
        async with pool.free_thread():
            tasks = [asyncio.create_task(wait_in_line(pool, name, order)) for name in "ab"]
            await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    assert order == ["b"]


async def test_draining_thread_pool_gives_back_what_waits_and_lets_the_rest_end() -> None:
    """From the beginning of a drain on, a call begins only where a thread is free at once."""
    order: list[str] = []
    with ThreadPool(1) as pool:
        async with pool.free_thread():
            waiting = asyncio.create_task(wait_in_line(pool, "waiting", order))
            await asyncio.sleep(0)
            pool.drain()
            for given_back in (waiting, wait_in_line(pool, "late", order)):
                with pytest.raises(PoolClosedError, match="no thread was free"):
                    await given_back
        await wait_in_line(pool, "free", order)

    assert order == ["free"]
    assert pool.waiting == 0
