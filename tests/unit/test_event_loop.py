"""The event loop's heartbeat, its lag, and the thread that names what blocks it."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from structlog.testing import capture_logs

from temporal_fleet.settings import EventLoopSettings
from temporal_fleet.worker.event_loop import LoopMonitor


def settings(
    threshold: float = 0.1, interval: float = 0.05, warning_interval: float = 0
) -> EventLoopSettings:
    """Return settings of so many seconds."""
    return EventLoopSettings(
        blocked_threshold=timedelta(seconds=threshold),
        heartbeat_interval=timedelta(seconds=interval),
        warning_interval=timedelta(seconds=warning_interval),
    )


@contextmanager
def watched(
    chosen: EventLoopSettings,
    on_heartbeat: Callable[[float], Any] = lambda _: None,
    observe_lag: Callable[[float], Any] | None = None,
) -> Iterator[None]:
    """Watch the running event loop."""
    monitor = LoopMonitor(chosen, on_heartbeat, observe_lag)
    monitor.start()
    try:
        yield
    finally:
        monitor.stop()


def block_for(seconds: float) -> None:
    """Block the event loop, as a mistaken synchronous call in an activity does."""
    time.sleep(seconds)


def warnings_of(lines: Any, event: str = "event loop blocked") -> list[Any]:
    """Return the log lines with this event."""
    return [line for line in lines if line["event"] == event]


async def test_running_loop_beats_regularly_without_warning() -> None:
    """A loop that runs shows heartbeats with monotonic times and small lags, and no warning."""
    beats: list[float] = []
    lags: list[float] = []
    enough = asyncio.Event()

    def beat(moment: float) -> None:
        beats.append(moment)
        if len(beats) == 4:
            enough.set()

    with capture_logs() as lines, watched(settings(threshold=5), beat, lags.append):
        await asyncio.wait_for(enough.wait(), 20)

    assert beats == sorted(beats)
    assert time.monotonic() - beats[0] < 20
    assert len(lags) >= 3
    assert all(lag >= 0 for lag in lags)
    assert warnings_of(lines) == []


async def test_blocked_loop_is_logged_with_the_stack_of_what_blocks() -> None:
    """While the loop is blocked, one warning shows the function that blocks, then the end of it."""
    lags: list[float] = []
    with capture_logs() as lines, watched(settings(), observe_lag=lags.append):
        await asyncio.sleep(0)
        block_for(0.6)
        during = list(lines)
        await asyncio.sleep(0.06)

    [warning] = warnings_of(during)
    assert warning["log_level"] == "warning"
    assert "block_for" in warning["stack"]
    assert "time.sleep(seconds)" in warning["stack"]
    assert "asyncio/runners.py" not in warning["stack"], "the outer end is of no interest"
    assert 0.1 <= warning["blocked_seconds"] < 0.6
    [over] = warnings_of(lines, "event loop free again")
    assert 0.4 <= over["blocked_seconds"] < 5
    assert max(lags) >= 0.4


async def test_short_delay_is_no_warning() -> None:
    """A delay below the threshold shows in the lag only."""
    with capture_logs() as lines, watched(settings(threshold=20)):
        block_for(0.2)
        await asyncio.sleep(0.06)

    assert warnings_of(lines) == []


async def test_warnings_are_rate_limited() -> None:
    """Within the warning interval a second blockage is not logged, neither begin nor end."""
    with capture_logs() as lines, watched(settings(warning_interval=60)):
        for _ in range(2):
            block_for(0.4)
            await asyncio.sleep(0.06)

    assert len(warnings_of(lines)) == 1
    assert len(warnings_of(lines, "event loop free again")) == 1


async def test_block_between_heartbeats_is_noticed() -> None:
    """A low threshold makes the heartbeat faster: a block shorter than the interval is noticed."""
    with capture_logs() as lines, watched(settings(threshold=0.1, interval=30)):
        await asyncio.sleep(0.06)
        block_for(0.4)

    assert len(warnings_of(lines)) == 1


async def test_held_gil_is_told_apart() -> None:
    """When another thread holds the interpreter, the log does not blame an innocent task."""
    before = sys.getswitchinterval()
    lags: list[float] = []
    numbers = list(range(6_000_000))
    numbers.reverse()

    def hold() -> None:
        # One call into C that does not let go of the interpreter.
        began = time.monotonic()
        sys.setswitchinterval(100)
        while time.monotonic() - began < 0.5:
            sorted(numbers)
            sum(numbers)

    try:
        with capture_logs() as lines, watched(settings(), observe_lag=lags.append):
            await asyncio.sleep(0.06)
            thread = threading.Thread(target=hold)
            thread.start()
            await asyncio.sleep(0.1)
            await asyncio.to_thread(thread.join)
    finally:
        sys.setswitchinterval(before)

    assert max(lags) >= 0.2
    # Whether the watcher or the loop goes on first is up to the operating system.
    for warning in warnings_of(lines):
        assert warning["stack"] is None
        assert "GIL" in warning["cause"]


async def test_failing_observer_does_not_end_the_heartbeat() -> None:
    """An error in an observer reaches the loop's handler, and the heartbeat goes on."""
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    beats: list[float] = []

    def observe(_: float) -> None:
        if len(beats) == 2:
            raise ValueError("broken observer")

    with watched(settings(), beats.append, observe):
        async with asyncio.timeout(20):
            while len(beats) < 4:
                await asyncio.sleep(0.01)

    assert [str(error["exception"]) for error in errors] == ["broken observer"]


async def test_stopped_monitor_leaves_nothing() -> None:
    """After stop() the thread is gone and the loop beats no more; stopping twice is harmless."""
    beats: list[float] = []
    monitor = LoopMonitor(settings(), beats.append)
    monitor.start()
    assert "event-loop-monitor" in [thread.name for thread in threading.enumerate()]
    monitor.stop()
    monitor.stop()
    count = len(beats)
    await asyncio.sleep(0.12)

    assert len(beats) == count
    assert "event-loop-monitor" not in [thread.name for thread in threading.enumerate()]


async def test_heartbeat_of_a_start_beats_but_warns_of_nothing() -> None:
    """While a process starts, its loop shows that it is alive, and blocking imports are no news."""
    beats: list[float] = []
    monitor = LoopMonitor(settings(threshold=0.05), beats.append)
    with capture_logs() as lines:
        monitor.start_heartbeat()
        block_for(0.2)
        async with asyncio.timeout(10):
            while len(beats) < 3:
                await asyncio.sleep(0.01)
        monitor.stop()

    assert warnings_of(lines) == []
