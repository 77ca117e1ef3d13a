"""Makes calls to the server that survive its bad moments and stay within its limits.

A rollout must not fail because one call of hundreds was answered late, nor keep other people's calls out:
the server limits reads of Worker Deployments (50 per second and namespace by default) and of its list of
runs (10 per second).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from temporal_fleet.client.calls import Pace, PatientCalls
from temporal_fleet.client.connection import check_namespace

CALL_TIMEOUT = timedelta(seconds=10)
"""Longest wait for one answer of the server."""

PATIENCE = timedelta(seconds=30)
"""How long a call is repeated while the server is away or busy, unless somebody says otherwise."""

_READS_PER_SECOND = 25
_LISTS_PER_SECOND = 8
_CALLS_AT_ONCE = 16

AnswerT = TypeVar("AnswerT")


class Server:
    """The server and namespace of a client, asked patiently.

    Args:
        client: Connected to them.
        patience: How long one call is repeated while the server is away or busy.
    """

    def __init__(self, client: Client, *, patience: timedelta = PATIENCE) -> None:
        self.client = client
        self._calls = PatientCalls(client, patience=patience, at_once=_CALLS_AT_ONCE)
        self._reads = Pace(_READS_PER_SECOND)
        self._lists = Pace(_LISTS_PER_SECOND)

    async def check_namespace(self) -> None:
        """Make sure that the namespace exists; otherwise it would seem to have no Worker Deployments.

        Raises:
            ConnectionFailedError: It does not exist, or the server refuses us or stays away.
        """
        request = DescribeNamespaceRequest(namespace=self.client.namespace)
        service = self.client.workflow_service
        try:
            await self.call(
                lambda: service.describe_namespace(request, timeout=CALL_TIMEOUT),
                "look at the namespace",
            )
        except RPCError:
            await check_namespace(self.client)  # says it in full, with similar names

    async def read(self, make: Callable[[], Awaitable[AnswerT]], what: str) -> AnswerT:
        """Make a call that reads a Worker Deployment; see :meth:`call`."""
        await asyncio.sleep(self._reads.reserve(time.monotonic()))
        return await self.call(make, what)

    async def list_runs(self, make: Callable[[], Awaitable[AnswerT]], what: str) -> AnswerT:
        """Make a call to the server's list of runs; see :meth:`call`."""
        await asyncio.sleep(self._lists.reserve(time.monotonic()))
        return await self.call(make, what)

    async def call(self, make: Callable[[], Awaitable[AnswerT]], what: str) -> AnswerT:
        """Make any other call; see :meth:`~temporal_fleet.client.calls.PatientCalls.call`."""
        return await self._calls.call(make, what)
