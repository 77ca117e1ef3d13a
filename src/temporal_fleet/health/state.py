"""Whether this worker is started, alive and ready, as far as it knows itself.

Anybody may set a check from any thread. Nothing here looks after the server or the pollers itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from temporal_fleet.health.process.probes import Check

log = structlog.get_logger(__name__)

_LONGEST_REASON = 500


class Phase(StrEnum):
    """Where in its life a worker is."""

    STARTING = "starting"
    POLLING = "polling"
    DRAINING = "draining"
    STOPPED = "stopped"


class HealthState:
    """What is known about this worker's health; safe in all threads.

    The checks ``temporal`` (the server accepts us) and ``pollers`` (the server sees us poll) exist
    from the beginning and fail until somebody says otherwise, so a worker that forgets to look is
    never ready.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._phase = Phase.STARTING
        self._since = time.monotonic()
        self._started = False
        self._was_ready = False
        self._checks: dict[str, Check] = {
            name: {"ok": False, "reason": "not confirmed yet", "since": self._since}
            for name in ("temporal", "pollers")
        }
        self._publish: Callable[[dict[str, Any]], None] = lambda _document: None

    @property
    def phase(self) -> Phase:
        """The phase this worker is in."""
        return self._phase

    @property
    def started(self) -> bool:
        """Whether pollers were confirmed once; stays true."""
        return self._started

    @property
    def ready(self) -> bool:
        """Whether the worker polls and every check is ok."""
        return self._phase is Phase.POLLING and not self.failures()

    def failures(self) -> dict[str, str]:
        """Return the reasons of the checks that fail, by name."""
        with self._lock:
            return {name: c["reason"] for name, c in self._checks.items() if not c["ok"]}

    def set_phase(self, phase: Phase) -> None:
        """Enter *phase*."""
        with self._lock:
            if phase is not self._phase:
                self._phase, self._since = phase, time.monotonic()
                self._changed()
        self._log_readiness()

    def set_check(self, name: str, ok: bool, reason: str = "") -> None:
        """Say whether the check *name* holds; a name seen for the first time adds a check.

        Args:
            name: ``temporal``, ``pollers``, ``workload:<check>`` or any other.
            ok: Whether it holds.
            reason: Why, shown by ``/readyz``; cut after 500 characters. It is shown to everyone who
                can reach the port, so it must hold no secrets.
        """
        reason = " ".join(reason.split())[:_LONGEST_REASON]
        with self._lock:
            before = self._checks.get(name)
            if before and before["ok"] == ok and before["reason"] == reason:
                return
            unchanged = before is not None and before["ok"] == ok
            since = before["since"] if before and unchanged else time.monotonic()
            self._checks[name] = {"ok": ok, "reason": reason, "since": since}
            self._changed()
        self._log_readiness()

    def publish_to(self, publish: Callable[[dict[str, Any]], None]) -> None:
        """Call *publish* with the state now and whenever it changes, never twice at a time."""
        with self._lock:
            self._publish = publish
            self._changed()

    def _changed(self) -> None:
        if self._phase is Phase.POLLING and self._checks["pollers"]["ok"]:
            self._started = True
        self._publish(
            {
                "phase": self._phase,
                "since": self._since,
                "started": self._started,
                "checks": self._checks,
            }
        )

    def _log_readiness(self) -> None:
        with self._lock:
            failing = {name: c["reason"] for name, c in self._checks.items() if not c["ok"]}
            ready = self._phase is Phase.POLLING and not failing
            if ready == self._was_ready:
                return
            self._was_ready = ready
            polling = self._phase is Phase.POLLING
        if ready:
            log.info("worker is ready")
        elif polling:
            log.warning("worker is not ready", failing=failing)
        else:
            log.info("worker is not ready", phase=str(self._phase))
