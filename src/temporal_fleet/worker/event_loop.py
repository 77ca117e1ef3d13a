"""Watches the event loop: one activity that blocks it stops every other one, and all heartbeats.

The loop shows by a regular heartbeat that it is alive; a thread notices when the heartbeat is late
and logs what the loop's thread is doing at that moment. It changes nothing and stops nothing.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import FrameType

import structlog

from temporal_fleet.settings import EventLoopSettings

_STACK_DEPTH = 15  # frames; what blocks is at the inner end
_SHORTEST_LOOK = 0.01  # seconds; a lower bound for how often the thread looks
_STOP_TIMEOUT = timedelta(seconds=1)

log = structlog.get_logger(__name__)


class LoopMonitor:
    """Heartbeat of the event loop, lag measurement and a watcher that names what blocks it."""

    def __init__(
        self,
        settings: EventLoopSettings,
        on_heartbeat: Callable[[float], None],
        observe_lag: Callable[[float], None] | None = None,
        on_blocked: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare a monitor.

        Args:
            settings: Interval, threshold and rate limit. With a threshold below twice the interval
                the loop beats more often, every half threshold: a block between two heartbeats
                would go unnoticed.
            on_heartbeat: Called on the loop at every heartbeat with ``time.monotonic()``.
            observe_lag: Called on the loop at every heartbeat with its delay in seconds. None =
                nobody asks.
            on_blocked: Called in the monitor's thread once for every block, reported or not.
        """
        self._on_blocked = on_blocked
        self._threshold = settings.blocked_threshold.total_seconds()
        self._interval = min(settings.heartbeat_interval.total_seconds(), self._threshold / 2)
        self._warning_interval = settings.warning_interval.total_seconds()
        self._on_heartbeat = on_heartbeat
        self._observe_lag = observe_lag
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        # Each written by one thread only: the loop's due time, and the due time that a warning was
        # about.
        self._due = 0.0
        self._warned_due: float | None = None
        self._last_warning: float | None = None
        self._unreported = 0

    def start_heartbeat(self) -> None:
        """Begin to show that the loop is alive, without looking for what blocks it.

        For the start of a process: its imports block the loop by nature. Call it on the event loop.
        """
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        if self._timer is not None:
            self._timer.cancel()
        self._due = time.monotonic()
        self._beat()

    def start(self) -> None:
        """Begin; call it on the event loop that is to be watched."""
        self.start_heartbeat()
        self._thread = threading.Thread(target=self._watch, name="event-loop-monitor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End heartbeat and thread; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_STOP_TIMEOUT.total_seconds())
            if self._thread.is_alive():
                log.warning(
                    "event loop monitor did not stop in time, left behind",
                    timeout_seconds=_STOP_TIMEOUT.total_seconds(),
                )
            self._thread = None

    def _beat(self) -> None:
        assert self._loop is not None, "start() comes first"
        now = time.monotonic()
        lag = max(0.0, now - self._due)
        if self._warned_due == self._due:
            log.warning("event loop free again", blocked_seconds=round(lag, 3))
        self._due = now + self._interval
        # First the next heartbeat, so that an error of an observer does not end them all.
        self._timer = self._loop.call_later(self._interval, self._beat)
        self._on_heartbeat(now)
        if self._observe_lag is not None:
            self._observe_lag(lag)

    def _watch(self) -> None:
        reported_due = 0.0
        while True:
            due = self._due
            late = time.monotonic() - due
            if late < self._threshold:
                wait = self._threshold - late  # the earliest moment at which it can be too late
            else:
                if due != reported_due:
                    reported_due = due
                    self._on_blocked()
                    self._report(due, late)
                wait = self._threshold
            if self._stopping.wait(max(wait, _SHORTEST_LOOK)):
                return

    def _report(self, due: float, late: float) -> None:
        now = time.monotonic()
        if self._last_warning is not None and now - self._last_warning < self._warning_interval:
            self._unreported += 1
            return
        stack = _stack(sys._current_frames().get(self._loop_thread))  # noqa: SLF001 - the documented way to get stacks
        if self._due != due:
            return  # free again meanwhile, so the stack shows something else
        self._last_warning = now
        self._warned_due = due
        unreported, self._unreported = self._unreported, 0
        log.warning(
            "event loop blocked",
            blocked_seconds=round(late, 3),
            threshold_seconds=self._threshold,
            stack=stack or None,
            cause=None
            if stack
            else "not in Python code of a task: the GIL was held, or no CPU was given",
            unreported_before=unreported,
        )


def _stack(frame: FrameType | None) -> str:
    """Return the inner end of what runs below the event loop; empty when the loop waits."""
    frames = [] if frame is None else traceback.extract_stack(frame)
    ours = [index for index, entry in enumerate(frames) if _in_asyncio(entry)]
    callbacks = [index for index in ours if frames[index].name == "_run"]
    # Below a callback everything counts, asyncio's own functions too; otherwise only what is not
    # asyncio.
    first = (callbacks or ours or [-1])[-1] + 1
    inner = frames[first:] or (frames[callbacks[-1] :] if callbacks else [])
    if not inner or (inner[0].name == "select" and not callbacks):
        return ""
    return "".join(traceback.format_list(inner[-_STACK_DEPTH:]))


def _in_asyncio(entry: traceback.FrameSummary) -> bool:
    return Path(entry.filename).parent.name == "asyncio"
