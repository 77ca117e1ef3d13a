"""Servers and open resources for the tests of the payments workload."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import asyncpg  # type: ignore[import-untyped]  # it has no type information
import pytest
from pydantic import SecretStr
from temporalio.client import Client

from fleet_payments.activities import PaymentResources
from fleet_payments.declaration import open_resources
from fleet_payments.settings import PaymentSettings
from temporal_fleet.settings import Settings
from temporal_fleet.testing import MissingToolError, postgres_server
from temporal_fleet.workload import ResourceContext

OpenResources = Callable[[], AbstractAsyncContextManager[PaymentResources]]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server of this test session."""
    try:
        with postgres_server() as url:
            yield url
    except MissingToolError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'payments.db'}"
    server: str = request.getfixturevalue("postgres_url")
    name = f"test_{uuid4().hex}"
    connection = await asyncpg.connect(server)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture
def open_payments(database_url: str) -> OpenResources:
    """Opens the workload's resources on the database, as a worker process would."""

    @asynccontextmanager
    async def open_once() -> AsyncIterator[PaymentResources]:
        settings = PaymentSettings(
            database_url=SecretStr(database_url),
            gateway_latency=timedelta(0),
            gateway_overload_delay=timedelta(milliseconds=1),
        )
        context = ResourceContext(settings=settings, fleet=Settings(), client=_no_client)
        async with open_resources(context) as resources:
            yield resources

    return open_once


@pytest.fixture
async def resources(open_payments: OpenResources) -> AsyncIterator[PaymentResources]:
    """Open resources on an empty database."""
    async with open_payments() as opened:
        yield opened


def _no_client() -> Client:
    raise AssertionError("payments needs no Temporal client")
