"""Deadlines and log lines of a drain; signals and the watchdog are tested with real processes."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from temporal_fleet.settings import DrainSettings
from temporal_fleet.worker.drain import Drain, stuck_threads, watch_deadlines


@dataclass(frozen=True)
class Napping:
    """An activity that runs."""

    activity_type: str

    def __str__(self) -> str:  # type: ignore[explicit-override]
        """Return its name."""
        return f"{self.activity_type} (ID 1)"


def settings(**seconds: float) -> DrainSettings:
    """Return settings with these durations in seconds."""
    values: dict[str, Any] = {name: timedelta(seconds=s) for name, s in seconds.items()}
    return DrainSettings(**values)


async def drained(**seconds: float) -> tuple[list[tuple[str, str]], list[str]]:
    """Return events and activities that were logged, and what was abandoned or done when the time was over."""
    chosen = settings(**seconds)
    abandoned: list[str] = []
    with capture_logs() as logs:
        await watch_deadlines(
            Drain(chosen, list),
            chosen,
            lambda: [Napping("nap")],
            abandoned.append,
            lambda: abandoned.append("time over"),
        )
    return [(line["event"], line["activity"]) for line in logs], abandoned


async def test_activities_are_named_before_and_when_they_are_cancelled_and_when_they_go_on() -> (
    None
):
    """Whoever reads the log of a drain learns in time what holds it up."""
    lines, abandoned = await drained(timeout=0.1, warning=0.05, force_timeout=0.01, margin=1)

    assert lines == [
        ("activity still running, will be cancelled soon", "nap (ID 1)"),
        ("drain timeout passed, activity cancelled", "nap (ID 1)"),
        ("activity does not end although it was cancelled", "nap (ID 1)"),
    ]
    assert abandoned == ["nap", "time over"]


@pytest.mark.parametrize("timeout", [0.0, 0.05])
async def test_without_warning_time_nothing_is_announced(timeout: float) -> None:
    """A drain without time for a warning says only what it cancels."""
    lines, _ = await drained(timeout=timeout, warning=0, force_timeout=0.01, margin=1)

    assert [event for event, _ in lines] == [
        "drain timeout passed, activity cancelled",
        "activity does not end although it was cancelled",
    ]


async def test_second_request_shortens_and_a_third_changes_nothing() -> None:
    """The first request drains, the second cancels what runs, more do no harm."""
    drain = Drain(settings(timeout=30, margin=10), list)
    drain.install(asyncio.get_running_loop())
    try:
        assert drain.seconds == 0
        drain.begin("SIGTERM")
        await drain.requested.wait()
        assert not drain.shortened.is_set()
        drain.begin("SIGINT")
        await drain.shortened.wait()
        drain.begin("SIGINT")

        assert drain.reason == "SIGTERM"
        assert 0 < drain.seconds < 30
    finally:
        drain.finished()


def test_stacks_name_the_thread_and_the_line_that_hangs() -> None:
    """The report of the watchdog leads to the code that hangs."""
    release = threading.Event()

    def hang_here() -> None:
        release.wait(30)

    thread = threading.Thread(target=hang_here, name="activity-thread-7")
    thread.start()
    try:
        deadline = time.monotonic() + 10
        while "release.wait" not in (text := "\n".join(stuck_threads())):
            assert time.monotonic() < deadline, text
    finally:
        release.set()
        thread.join()

    assert "thread 'activity-thread-7'" in text
    assert "hang_here" in text
