"""CPU-bound functions that behave well and badly in their process."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel
from temporalio import activity
from temporalio.exceptions import ApplicationError
from typing_extensions import override

from temporal_fleet import cpu_bound


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
    return structlog.contextvars.get_contextvars()


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
