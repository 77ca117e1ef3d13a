"""A workload's own checks and what they do to readiness."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from temporal_fleet.health import checks as health_checks
from temporal_fleet.health.checks import HealthChecks
from temporal_fleet.health.state import HealthState


class Dependency:
    """Something that a check asks."""

    def __init__(self) -> None:
        self.problem: Exception | None = None

    async def ask(self) -> None:
        """Raise what is wrong."""
        if self.problem:
            raise self.problem


async def check(dependency: Dependency) -> None:
    """Pass what the dependency says."""
    await dependency.ask()


async def test_check_that_raises_fails_with_its_reason_until_it_passes() -> None:
    """The reason is shown while a check fails; each change is logged once."""
    dependency, state = Dependency(), HealthState()
    checks = HealthChecks({"database": check}, dependency, state)
    with capture_logs() as logs:
        dependency.problem = RuntimeError("no route to host")
        await checks.run_once()
        await checks.run_once()
        failing = state.failures()
        dependency.problem = None
        await checks.run_once()

    assert failing["workload:database"] == "RuntimeError: no route to host"
    assert "workload:database" not in state.failures()
    assert [line["event"] for line in logs if "check" in line["event"]] == [
        "health check failed",
        "health check passes again",
    ]


async def test_check_without_answer_fails_after_the_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A check that hangs makes the worker not ready and holds nothing up."""
    monkeypatch.setattr(health_checks, "CHECK_TIMEOUT", timedelta(seconds=0.05))
    state = HealthState()

    async def hang(_resources: object) -> None:
        await asyncio.Event().wait()

    await HealthChecks({"slow": hang}, None, state).run_once()

    assert state.failures()["workload:slow"] == "no answer within 0.05 s"


async def test_no_checks_need_no_rounds() -> None:
    """A workload without checks costs nothing."""
    async with asyncio.timeout(1):
        await HealthChecks({}, None, HealthState()).run(timedelta(seconds=60))
