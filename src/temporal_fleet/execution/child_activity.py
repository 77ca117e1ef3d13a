"""What ``temporalio.activity`` tells the function of a CPU-bound activity, inside its child process.

The child reads what its parent has to say only when the function asks, so a function that never asks costs
nothing.
"""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from temporalio import activity
from temporalio.exceptions import CancelledError

from temporal_fleet.execution.child_metrics import Meter, Updates
from temporal_fleet.sdk_internals import CancellationDetailsHolder, activity_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from temporalio.converter import PayloadConverter

    from temporal_fleet.execution.child import Line, Notice


HEARTBEATS_PER_SECOND = 20
"""Heartbeats beyond that wait for the next second, and only the latest of them is sent: the event loop of the
worker handles each, and the SDK throttles what it sends to the server anyway."""


class Attempt:
    """The attempt that one call belongs to.

    Args:
        line: Connection to the parent.
        info: Pickle of its ``activity.Info``.
        worker_shutdown: Whether the worker is stopping already.
    """

    def __init__(self, line: Line, info: bytes, *, worker_shutdown: bool) -> None:
        self._line = line
        self._info: activity.Info = pickle.loads(info)  # noqa: S301 - from our own parent
        self._details = CancellationDetailsHolder()
        self._heartbeats = _Heartbeats(line)
        self._updates = Updates(line)
        self._reading = threading.Lock()
        self._has_asked = False
        self._has_raised = False
        self.is_cancelled = False
        self.is_worker_shutdown = worker_shutdown

    @contextmanager
    def context(self) -> Iterator[None]:
        """Make the functions of ``temporalio.activity`` work for as long as the block lasts."""
        with activity_context(
            self._info,
            heartbeat=self._heartbeat,
            cancelled=_Question(self, lambda: self.is_cancelled),
            worker_shutdown=_Question(self, lambda: self.is_worker_shutdown),
            payload_converter=_payload_converter,
            metric_meter=Meter(self._updates),
            cancellation_details=self._details,
        ):
            try:
                yield
            finally:
                self._heartbeats.close()
                self._updates.close()

    def ask(self, seconds: float | None = 0) -> None:
        """Read what the parent has said; wait up to *seconds* for something, None = as long as it takes."""
        if not self._has_asked:
            self._has_asked = True
            self._line.send({"kind": "asks"})
        if self._line.waits(seconds):
            with self._reading:  # another thread of the call may have been faster
                while self._line.waits(0):
                    self._note(self._line.receive())

    def _note(self, notice: Notice | None) -> None:
        if notice is None:  # the worker is gone, and this process with it
            raise SystemExit
        if notice["kind"] == "worker_shutdown":
            self.is_worker_shutdown = True
            return
        self.is_cancelled = True
        if notice["details"] is not None:
            self._details.details = pickle.loads(notice["details"])  # noqa: S301 - from our own parent

    def _heartbeat(self, *details: Any) -> None:
        self._heartbeats.put(pickle.dumps(details))
        self.ask()
        # As the SDK does in threads, but only here: a computation cannot be interrupted just anywhere.
        if self.is_cancelled and not self._has_raised:
            self._has_raised = True
            raise CancelledError("Cancelled")


class _Heartbeats:
    """Sends heartbeats to the parent: at once, unless there are too many."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._lock = threading.Lock()
        self._second = 0.0
        self._sent = 0
        self._unsent: bytes | None = None
        self._timer: threading.Timer | None = None

    def put(self, details: bytes) -> None:
        with self._lock:
            self._unsent = details
            now = time.monotonic()
            if now - self._second >= 1:
                self._second, self._sent = now, 0
            if self._sent < HEARTBEATS_PER_SECOND:
                self._sent += 1
                self._flush()
            elif self._timer is None:
                self._timer = threading.Timer(self._second + 1 - now, self._end_of_second)
                self._timer.daemon = True
                self._timer.start()

    def close(self) -> None:
        """Send what has not been sent; nothing is sent afterwards."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._flush()

    def _end_of_second(self) -> None:
        with self._lock:
            self._timer = None
            self._flush()

    def _flush(self) -> None:
        if self._unsent is not None:
            self._line.send({"kind": "heartbeat", "value": self._unsent})
            self._unsent = None


class _Question:
    """Stands for an event of the SDK: each look at it asks the parent."""

    def __init__(self, attempt: Attempt, answer: Callable[[], bool]) -> None:
        self._attempt = attempt
        self._answer = answer

    def is_set(self) -> bool:
        self._attempt.ask()
        return self._answer()

    def wait_sync(self, timeout: float | None = None) -> None:
        end = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return
            self._attempt.ask(left)

    async def wait(self) -> None:
        raise RuntimeError("not in an async activity")


def _payload_converter() -> PayloadConverter:
    # The worker's own. Imported only when a function asks for it, since it brings pydantic.
    from temporalio.contrib.pydantic import PydanticPayloadConverter

    return PydanticPayloadConverter()
