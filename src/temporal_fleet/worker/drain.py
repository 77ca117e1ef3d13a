"""When a worker stops: signals, deadlines, and the watchdog that keeps the last one.

The deadlines do not depend on the event loop. A signal only puts a number into a queue; a thread of its own
waits for it, so a drain that hangs because the loop hangs still ends, with the names of what hung.
"""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn, Protocol

import structlog

from temporal_fleet.errors import ExitCode
from temporal_fleet.settings import DrainSettings
from temporal_fleet.stop_signals import stop_signals

log = structlog.get_logger(__name__)


class Drain:
    """The stop of one worker process: at most one, shortened by a second signal.

    Attributes:
        requested: Set (on the loop) when the worker must stop polling and drain.
        shortened: Set (on the loop) when what still runs must be cancelled now.
        reason: Why the drain began, for the log; None before it began.
    """

    def __init__(self, settings: DrainSettings, running: Callable[[], Sequence[str]]) -> None:
        """Prepare a drain.

        Args:
            settings: Timeouts; see ``DrainSettings``.
            running: Names what still runs, one line each; called by the watchdog's thread.
        """
        self._settings = settings
        self._running = running
        self._loop: asyncio.AbstractEventLoop | None = None
        # put() of a SimpleQueue is reentrant, so a signal handler may call it at any time; an Event is not.
        self._deadlines: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self._watchdog: threading.Thread | None = None
        self._previous: dict[int, signal._HANDLER] = {}
        self._began: float | None = None
        self._shortened_at: float | None = None
        self.requested = asyncio.Event()
        self.shortened = asyncio.Event()
        self.reason: str | None = None

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take SIGTERM, SIGINT and SIGHUP and start the watchdog's thread; call it in the main thread.

        ``signal.signal`` is used, not the loop's handlers: those run only when the loop does, and a blocked
        loop is just the case in which the watchdog is needed.
        """
        self._loop = loop
        for number in stop_signals():
            self._previous[number] = signal.signal(number, self._on_signal)
        self._watchdog = threading.Thread(target=self._watch, name="drain-watchdog", daemon=True)
        self._watchdog.start()

    def begin(self, reason: str) -> None:
        """Begin the drain, or shorten the one that runs; safe in signal handlers.

        Args:
            reason: Why, for the log, such as ``SIGTERM``.
        """
        assert self._loop is not None, "install() comes first"
        now = time.monotonic()
        if self._began is None:
            self._began, self.reason = now, reason
            self._deadlines.put(now + self.allowed_seconds)
            self._loop.call_soon_threadsafe(self.requested.set)
        elif self._shortened_at is None:
            self._shortened_at = now
            left = self._settings.force_timeout + self._settings.margin
            self._deadlines.put(now + left.total_seconds())
            self._loop.call_soon_threadsafe(self.shortened.set)

    @property
    def allowed_seconds(self) -> float:
        """Seconds from the first signal to the watchdog: drain timeout plus margin."""
        return (self._settings.timeout + self._settings.margin).total_seconds()

    @property
    def seconds(self) -> float:
        """Seconds since the drain began; 0 before it began."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    def finished(self) -> None:
        """Stand the watchdog down and give the signals back; idempotent."""
        self._deadlines.put(None)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.begin(signal.Signals(number).name)

    def _watch(self) -> None:
        deadline: float | None = None
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                wanted = self._deadlines.get(timeout=left)
            except queue.Empty:
                break
            if wanted is None:
                return
            # The queue may hold a later deadline behind an earlier one; the earliest counts.
            deadline = wanted if deadline is None else min(deadline, wanted)
        self._give_up()

    def _give_up(self) -> NoReturn:
        running = list(self._running())
        report = [
            f"drain watchdog: still not stopped {self.seconds:.1f} s after {self.reason} "
            f"(drain timeout {self._settings.timeout.total_seconds():g} s + margin "
            f"{self._settings.margin.total_seconds():g} s); exit {ExitCode.ABANDONED.value}",
            f"abandoned activities: {len(running)}",
            *(f"  - {name}" for name in running),
            *stuck_threads(),
        ]
        # Not through logging: the thread that hangs may hold its lock.
        os.write(2, ("\n".join(report) + "\n").encode())
        os._exit(ExitCode.ABANDONED)


def stuck_threads() -> list[str]:
    """Return the stacks of all threads that do something, as lines of text.

    Threads that wait for work in a thread pool are left out, and so is the calling thread.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    lines: list[str] = []
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 - the documented way to get stacks
        idle = frame.f_code.co_filename.endswith(
            ("concurrent/futures/thread.py", "queue.py", "selectors.py")
        )
        if ident == threading.get_ident() or idle:
            continue
        lines.append(f"thread {names.get(ident, ident)!r}:")
        lines += [line.rstrip() for line in traceback.format_stack(frame)[-8:]]
    return lines


class Running(Protocol):
    """An activity that runs; as text it names itself."""

    @property
    def activity_type(self) -> str:
        """Its type."""


async def watch_deadlines(
    drain: Drain,
    settings: DrainSettings,
    running: Callable[[], Sequence[Running]],
    on_abandoned: Callable[[str], None],
    on_timeout: Callable[[], None],
) -> None:
    """Log what still runs as a drain goes on: at the early warning, and by name when it is cancelled.

    The cancelling itself is the SDK's (its grace period is the drain timeout). Ends after the last line.

    Args:
        drain: The drain that began just now.
        settings: Its timeouts.
        running: Returns what runs now.
        on_abandoned: Told the type of each activity that is cancelled because the time is over.
        on_timeout: Called when the time is over, to cancel what the SDK does not cancel.
    """
    if settings.warning:
        await asyncio.sleep((settings.timeout - settings.warning).total_seconds())
        for activity in running():
            log.warning(
                "activity still running, will be cancelled soon",
                activity=str(activity),
                seconds_left=settings.warning.total_seconds(),
            )
    await asyncio.sleep((settings.warning or settings.timeout).total_seconds())
    for activity in running():
        on_abandoned(activity.activity_type)
        log.warning(
            "drain timeout passed, activity cancelled",
            activity=str(activity),
            drain_timeout_seconds=settings.timeout.total_seconds(),
            reason=drain.reason,
        )
    on_timeout()
    await asyncio.sleep(settings.force_timeout.total_seconds())
    for activity in running():
        log.error(
            "activity does not end although it was cancelled",
            activity=str(activity),
            force_timeout_seconds=settings.force_timeout.total_seconds(),
            process_ends_in_seconds=(settings.margin - settings.force_timeout).total_seconds(),
        )
