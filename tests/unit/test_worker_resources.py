"""What happens when the resources of a workload cannot be opened at the first attempt."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from temporal_fleet.errors import SettingsError
from temporal_fleet.settings import Settings
from temporal_fleet.settings.connection import ConnectionSettings
from temporal_fleet.worker.resources import may_pass, open_resources
from temporal_fleet.workload import ResourceContext, Workload


def no_client() -> Any:
    """Stand for a client that nothing here asks for."""
    raise AssertionError("no client is needed")


def context(*, deadline: float) -> ResourceContext[None]:
    """Return what resources are opened with, and how long that may be tried."""
    settings = Settings(
        connection=ConnectionSettings(
            deadline=timedelta(seconds=deadline),
            backoff_initial=timedelta(seconds=0.01),
            backoff_maximum=timedelta(seconds=0.02),
        )
    )
    return ResourceContext(settings=None, fleet=settings, client=no_client)


def opened_by(read: Callable[[], str]) -> Workload[None, str]:
    """Return a workload whose resource is what *read* returns."""

    @asynccontextmanager
    async def resources(_context: ResourceContext[None]) -> AsyncIterator[str]:
        yield read()

    return Workload(name="sample", resources=resources)


async def test_resource_that_comes_late_is_opened_and_each_retry_is_told(tmp_path: Path) -> None:
    """A file that appears after two failed attempts is used; two lines say why and when next."""
    path, attempts = tmp_path / "key", 0

    def read() -> str:
        nonlocal attempts
        attempts += 1
        if attempts == 3:
            path.write_text("secret")
        return path.read_text()

    async with AsyncExitStack() as stack:
        with capture_logs() as logs:
            opened = await open_resources(
                stack, opened_by(read), context(deadline=60), began=time.monotonic()
            )

    assert opened == "secret"
    assert [(line["event"], line.get("attempt")) for line in logs] == [
        ("resources could not be opened", 1),
        ("resources could not be opened", 2),
    ]
    assert logs[0]["reason"].startswith("FileNotFoundError: ")
    assert 0 <= logs[0]["retry_in_seconds"] <= 0.01


async def test_resource_that_stays_away_fails_with_its_own_error(tmp_path: Path) -> None:
    """At the deadline the last error is raised, with how often it was tried and which setting says so."""
    workload = opened_by((tmp_path / "key").read_text)

    async with AsyncExitStack() as stack:
        with pytest.raises(FileNotFoundError) as failed:
            await open_resources(stack, workload, context(deadline=0.2), began=time.monotonic())

    assert "0.2 s to start (FLEET_CONNECTION_DEADLINE_SECONDS)" in failed.value.__notes__[0]


async def test_mistake_in_the_code_that_opens_is_not_tried_again() -> None:
    """A TypeError is raised at once, and no retry is announced."""
    workload = opened_by(lambda: 7 + "")  # type: ignore[operator,arg-type,return-value]

    async with AsyncExitStack() as stack:
        with capture_logs() as logs, pytest.raises(TypeError):
            await open_resources(stack, workload, context(deadline=60), began=time.monotonic())

    assert logs == []


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (ConnectionRefusedError(), True),
        (TimeoutError(), True),
        (ssl.SSLCertVerificationError(), True),
        (Exception("the library's own"), True),
        (ExceptionGroup("", [OSError(), OSError()]), True),
        (ExceptionGroup("", [OSError(), TypeError()]), False),
        (ValueError("no URL"), False),
        (KeyError("DATABASE"), False),
        (ModuleNotFoundError("driver"), False),
        (NotImplementedError(), False),
        (SettingsError([]), False),
    ],
)
def test_mistakes_stay_and_servers_that_are_away_may_come(error: Exception, passes: bool) -> None:
    """What is tried again is what is not a mistake in code or settings."""
    assert may_pass(error) is passes
