"""CPU-bound functions that behave well and badly in their process."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel
from temporalio import activity
from temporalio.exceptions import ApplicationError
from typing_extensions import override

from temporal_fleet import cpu_bound
from temporal_fleet.log_context import activity_ids


class Batch(BaseModel):
    """Argument of an activity."""

    numbers: list[int]


class Total(BaseModel):
    """Result of an activity."""

    total: int
    pid: int


class ForeignError(Exception):
    """An exception that pickles but cannot be made again from its pickle."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"{reason} ({code})")


class MuteError(Exception):
    """An exception whose text cannot be read, and that cannot be pickled."""

    @override
    def __str__(self) -> str:
        """Fail."""
        raise ZeroDivisionError

    @override
    def __reduce__(self) -> Any:
        """Fail."""
        raise TypeError


class DiesWhenPickled:
    """A result whose pickling kills the process, as running out of memory would."""

    @override
    def __reduce__(self) -> Any:
        """Kill this process in the middle of pickling."""
        os.kill(os.getpid(), signal.SIGKILL)


@activity.defn
@cpu_bound
def add_up(batch: Batch) -> Total:
    """Add numbers up."""
    return Total(total=sum(batch.numbers), pid=os.getpid())


@activity.defn
@cpu_bound
def compute(folder: str, seconds: float) -> int:
    """Leave a file that is named after this process, then be busy for a while."""
    Path(folder, f"computing.{os.getpid()}").touch()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return os.getpid()


@activity.defn
@cpu_bound
def count(folder: str, last: int, dies_after: int) -> list[int]:
    """Count from where the last attempt stopped; the first attempt is killed on its way."""
    info = activity.info()
    [begin] = info.heartbeat_details or [0]
    for number in range(begin, last):
        activity.heartbeat(number + 1)
        if info.attempt == 1 and number == dies_after:
            os.kill(os.getpid(), signal.SIGKILL)
    Path(folder, f"computing.{os.getpid()}").touch()
    return [begin, last, info.attempt]


@activity.defn
@cpu_bound
def flood(beats: int, seconds: float) -> None:
    """Heartbeat much too often, then compute without a heartbeat."""
    for number in range(beats):
        activity.heartbeat(number)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@activity.defn
@cpu_bound
def stop_when_asked(folder: str, way: str) -> str:
    """Compute until this process is told to stop, in one of the ways to hear of it."""

    def wait() -> bool:
        activity.wait_for_cancelled_sync(60)
        return activity.is_cancelled()

    ask: dict[str, Callable[[], object]] = {
        "heartbeat": lambda: activity.heartbeat("so far"),
        "is_cancelled": activity.is_cancelled,
        "wait": wait,
        "shutdown": activity.is_worker_shutdown,
    }
    ask["heartbeat"]()
    Path(folder, f"computing.{os.getpid()}").touch()
    try:
        while not ask[way]():
            pass
    finally:
        Path(folder, "tidied").touch()
    details = activity.cancellation_details()
    return f"{os.getpid()} {activity.is_cancelled()} {details and details.worker_shutdown}"


@activity.defn
@cpu_bound
def never_stop(folder: str) -> None:
    """Ask whether to stop, and do not care."""
    Path(folder, f"computing.{os.getpid()}").touch()
    while True:
        activity.is_cancelled()


@cpu_bound
def heartbeat_strangely(kind: str) -> None:
    """Heartbeat with details that cannot cross to the worker."""
    activity.heartbeat((lambda: None) if kind == "lambda" else ForeignError(7, reason="far away"))


@activity.defn
@cpu_bound
def start_program(folder: str) -> None:
    """Start a program, leave a file that is named after its process, and wait for it."""
    with subprocess.Popen(["sleep", "60"]) as program:
        Path(folder, f"computing.{program.pid}").touch()


@cpu_bound
def die_with_heirs(folder: str) -> None:
    """Start a program, fork a process that outlives its group, and be killed."""
    program = subprocess.Popen(["sleep", "60"])
    Path(folder, f"computing.{program.pid}").touch()
    if os.fork() == 0:
        os.setsid()
        time.sleep(5)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


@cpu_bound
def fail(kind: str) -> Any:
    """Raise or return something difficult."""
    if kind == "application":
        raise ApplicationError(
            "no stock", {"sku": 7}, type="OutOfStock", non_retryable=True,
            next_retry_delay=timedelta(seconds=3),
        )  # fmt: skip
    if kind == "value":
        raise ValueError("three is not a colour")
    if kind == "foreign":
        raise ForeignError(7, reason="made elsewhere")
    if kind == "stop":
        raise StopIteration("the end")
    if kind == "exit":
        raise SystemExit(5)
    if kind == "hard exit":
        os._exit(5)
    if kind == "result":
        return lambda: None
    if kind == "pickling":
        return DiesWhenPickled()
    raise AssertionError(kind)


@cpu_bound
def survive(number: int) -> str:
    """Send this process a signal."""
    os.kill(os.getpid(), number)
    return "still here"


@cpu_bound
def read_log_context() -> dict[str, Any]:
    """Return the log context that this process sees."""
    return {**structlog.contextvars.get_contextvars(), **activity_ids.get()}


@cpu_bound
def read_log_level() -> int:
    """Return the level of the root logger."""
    return logging.getLogger().level


def prepare_logging() -> None:
    """Initialise a child; what it did can be seen by ``read_log_level``."""
    logging.getLogger().setLevel(37)


def die_at_once() -> None:
    """Initialise a child in a way that ends it."""
    os._exit(9)


def take_long() -> None:
    """Initialise a child for longer than anybody waits."""
    time.sleep(60)


@cpu_bound
def close_all_descriptors() -> None:
    """Close the connection to the worker among others, as daemons do, and live on."""
    os.closerange(3, 256)
    time.sleep(60)


@cpu_bound
def raise_mute() -> None:
    """Raise what has no text."""
    raise MuteError


@activity.defn
@cpu_bound
def context_process() -> dict[str, Any]:
    """Count in the SDK's metrics and return the log context."""
    activity.metric_meter().create_counter("steps_taken").add(1, {"model": "process"})
    return dict(activity_ids.get())
