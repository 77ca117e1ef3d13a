"""Activities that behave well and badly when their worker stops."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from prometheus_client import Counter
from temporalio import activity
from typing_extensions import override

from temporal_fleet import cpu_bound

SPINS = Counter("sample_spins", "Times that spin() has begun.")


def _mark(folder: str, name: str) -> None:
    Path(folder, f"{name}.{activity.info().attempt}").touch()


class SampleActivities:
    """Activities that share the workload's resources."""

    def __init__(self, resources: dict[str, Any]) -> None:
        self._resources = resources

    @activity.defn
    async def nap_async(self, folder: str, seconds: float) -> str:
        """Sleep on the event loop and finish if the worker lets it."""
        _mark(folder, "started")
        await asyncio.sleep(seconds)
        assert self._resources["open"], "resources were closed while an activity ran"
        return f"attempt {activity.info().attempt}"

    @activity.defn
    async def leave_early(self, folder: str, seconds: float) -> str:
        """Return as soon as the worker says that it stops."""
        _mark(folder, "started")
        await asyncio.wait_for(activity.wait_for_worker_shutdown(), seconds)
        return "left early"

    @activity.defn
    async def block_loop(self, folder: str, seconds: float) -> str:
        """Block the event loop, as a mistaken synchronous call does."""
        _mark(folder, "started")
        time.sleep(seconds)
        return "unblocked"


@activity.defn
async def fail(folder: str, _seconds: float) -> None:
    """Fail in every attempt."""
    _mark(folder, "failed")
    raise RuntimeError("the sample's database is away")


class MuteError(Exception):
    """An exception whose text cannot be read."""

    @override
    def __str__(self) -> str:
        """Fail."""
        raise ZeroDivisionError


@activity.defn
async def fail_mutely(folder: str, _seconds: float) -> None:
    """Fail with what the SDK cannot report."""
    _mark(folder, "failed")
    raise MuteError


@activity.defn
def nap_thread(folder: str, seconds: float) -> str:
    """Sleep in short steps in a thread, so that a cancellation can reach it."""
    _mark(folder, "started")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.02)
    return f"attempt {activity.info().attempt}"


@activity.defn
def stubborn_thread(folder: str, seconds: float) -> str:
    """Sleep in one system call that no cancellation reaches."""
    _mark(folder, "started")
    time.sleep(seconds)
    return "slept through"


def _spin(seconds: float) -> int:
    end, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        rounds += 1
    return os.getpid() if rounds else 0


@activity.defn
@cpu_bound
def spin(folder: str, seconds: float) -> int:
    """Compute in a child process; returns the child's process ID."""
    SPINS.inc()
    activity.metric_meter().create_counter("sample_metered_spins").add(1)
    Path(folder, f"spinning.{os.getpid()}").touch()
    return _spin(seconds)
