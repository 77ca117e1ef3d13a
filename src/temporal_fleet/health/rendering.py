"""Renders the worker's metrics in a thread of its own, so that a collector that hangs stops nothing else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import structlog

from temporal_fleet.health.process.answers import pack_answer

log = structlog.get_logger(__name__)


class MetricsRenderer:
    """Answers the health process's questions for metrics, one at a time, and always the latest one.

    How long a question may take is for the health process to say: it serves the last metrics when no
    answer comes in time, and takes a late answer for the next ones.

    Args:
        render: Returns this process's metrics as Prometheus text. It may take any time.
    """

    def __init__(self, render: Callable[[], bytes]) -> None:
        self._render = render
        self._changed = threading.Condition()
        self._asked: tuple[socket.socket, int] | None = None
        self._closed = False
        # Never waited for: a collector may hang until the process ends.
        threading.Thread(target=self._run, name="health-metrics", daemon=True).start()

    def ask(self, control: socket.socket, question: int) -> None:
        """Answer *question* on *control* soon; one that still waits is forgotten."""
        with self._changed:
            self._asked = control, question
            self._changed.notify()

    def close(self) -> None:
        """End the thread after what it renders now; idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while asked := self._next():
            control, question = asked
            try:
                text: bytes | None = self._render()
            except Exception:
                # A broken collector of a workload must not take the probes down.
                log.exception("metrics could not be rendered")
                text = None
            try:
                control.sendall(pack_answer(question, text))
            except OSError as error:
                log.debug("the health server that asked for metrics is gone", error=str(error))

    def _next(self) -> tuple[socket.socket, int] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._asked or self._closed)
            asked, self._asked = self._asked, None
            return None if self._closed else asked
