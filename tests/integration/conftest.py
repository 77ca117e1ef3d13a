"""What tests of real processes share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from temporalio.client import Client

from temporal_fleet.testing import dev_server


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A client of a dev server of the test alone."""
    async with dev_server() as environment:
        yield environment.client
