"""Servers for the tests of the orders workload."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg  # type: ignore[import-untyped]  # it has no type information
import pytest
from temporalio.client import Client

from fleet_orders.attributes import CUSTOMER, ORDER_STATE
from temporal_fleet.testing import MissingToolError, dev_server, postgres_server


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """Client of a dev server where the search attributes of orders are registered."""
    try:
        async with dev_server(search_attributes=[CUSTOMER, ORDER_STATE]) as environment:
            yield environment.client
    except MissingToolError as error:
        _skip(error)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server of this test session."""
    try:
        with postgres_server() as url:
            yield url
    except MissingToolError as error:
        _skip(error)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind; orders and payments may share it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shop' / 'fleet.db'}"
    server: str = request.getfixturevalue("postgres_url")
    name = f"test_{uuid4().hex}"
    connection = await asyncpg.connect(server)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return server.replace("/postgres?", f"/{name}?")


def _skip(error: MissingToolError) -> None:
    if os.environ.get("CI") == "true":
        raise error
    pytest.skip(str(error))
