"""Runs a workload's own health checks regularly and keeps their results in the health state."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

import structlog

from temporal_fleet.health.state import HealthState

log = structlog.get_logger(__name__)

CHECK_TIMEOUT = timedelta(seconds=5)
"""How long one check may take before it counts as failed; half a usual interval between two rounds."""


class HealthChecks:
    """The checks of one workload; one that raises or takes too long makes the worker not ready."""

    def __init__(
        self,
        checks: Mapping[str, Callable[[Any], Awaitable[None]]],
        resources: object,
        state: HealthState,
    ) -> None:
        """Prepare the checks.

        Args:
            checks: Checks by name, as the workload declares them.
            resources: What each check is given.
            state: Where results go, as ``workload:<name>``.
        """
        self._checks = checks
        self._resources = resources
        self._state = state
        self._failing: set[str] = set()

    async def run_once(self) -> None:
        """Run all checks at the same time and record what they say."""
        await asyncio.gather(*(self._run(name, check) for name, check in self._checks.items()))

    async def run(self, interval: timedelta) -> None:
        """Run all checks every *interval* until cancelled; returns at once when there are none."""
        while self._checks:
            await asyncio.sleep(interval.total_seconds())
            await self.run_once()

    async def _run(self, name: str, check: Callable[[Any], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT.total_seconds()):
                await check(self._resources)
        except TimeoutError:
            self._failed(name, f"no answer within {CHECK_TIMEOUT.total_seconds():g} s")
        except Exception as error:  # noqa: BLE001 - whatever a check raises means "not ready"
            self._failed(name, f"{type(error).__name__}: {error}")
        else:
            self._state.set_check(f"workload:{name}", ok=True)
            if name in self._failing:
                self._failing.discard(name)
                log.info("health check passes again", check=name)

    def _failed(self, name: str, reason: str) -> None:
        self._state.set_check(f"workload:{name}", ok=False, reason=reason)
        if name not in self._failing:
            self._failing.add(name)
            log.warning("health check failed", check=name, reason=reason)
