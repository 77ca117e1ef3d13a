"""Makes calls to the server that survive its bad moments and stay within its limits.

A rollout must not fail because one call of hundreds was answered late, nor keep other people's calls out:
the server limits reads of Worker Deployments (50 per second and namespace by default) and of its list of
runs (10 per second).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

import structlog
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from temporal_fleet.client.connection import check_namespace
from temporal_fleet.errors import ConnectionFailedError
from temporal_fleet.starting.lines import Pace

log = structlog.get_logger(__name__)

CALL_TIMEOUT = timedelta(seconds=10)
"""Longest wait for one answer of the server."""

PATIENCE = timedelta(seconds=30)
"""How long a call is repeated while the server is away or busy, unless somebody says otherwise."""

_READS_PER_SECOND = 25
_LISTS_PER_SECOND = 8
_CALLS_AT_ONCE = 16
_BACKOFF_INITIAL = timedelta(seconds=0.2)
_BACKOFF_MAXIMUM = timedelta(seconds=5)

_TRANSIENT = frozenset(
    {
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.DEADLINE_EXCEEDED,
        # What the SDK makes of our own timeout of a call.
        RPCStatusCode.CANCELLED,
        RPCStatusCode.ABORTED,
        RPCStatusCode.INTERNAL,
        RPCStatusCode.UNKNOWN,
    }
)
_HOPELESS = frozenset(
    {
        RPCStatusCode.PERMISSION_DENIED,
        RPCStatusCode.UNAUTHENTICATED,
        RPCStatusCode.UNIMPLEMENTED,
    }
)

AnswerT = TypeVar("AnswerT")


class Server:
    """The server and namespace of a client, asked patiently.

    Args:
        client: Connected to them.
        patience: How long one call is repeated while the server is away or busy.
    """

    def __init__(self, client: Client, *, patience: timedelta = PATIENCE) -> None:
        self.client = client
        self._patience = patience.total_seconds()
        self._slots = asyncio.Semaphore(_CALLS_AT_ONCE)
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
        """Make a call again and again while the server is away or busy.

        Args:
            make: Makes the call once; harmless when made twice.
            what: Names it in logs and errors, as ``look at ...``.

        Raises:
            ConnectionFailedError: The server refuses us, or is away for longer than our patience.
            RPCError: The call itself is at fault.
        """
        began, backoff = time.monotonic(), _BACKOFF_INITIAL.total_seconds()
        while True:
            try:
                async with self._slots:
                    return await make()
            except RPCError as error:
                waited = time.monotonic() - began
                if error.status in _HOPELESS or waited >= self._patience:
                    if error.status in _HOPELESS | _TRANSIENT:
                        raise self._failed(error, what, waited) from error
                    raise
                if error.status not in _TRANSIENT:
                    raise
                wait = backoff * random.uniform(0.5, 1)  # noqa: S311 - spreads calls, no secret
                log.warning(
                    "the server does not answer",
                    call=what,
                    reason=rpc_text(error),
                    retry_in_seconds=round(wait, 1),
                    patience_left_seconds=round(self._patience - waited),
                )
            await asyncio.sleep(wait)
            backoff = min(backoff * 2, _BACKOFF_MAXIMUM.total_seconds())

    def _failed(self, error: RPCError, what: str, waited: float) -> ConnectionFailedError:
        address = self.client.service_client.config.target_host
        text = (
            f"cannot {what}: {rpc_text(error)} (server {address}, namespace "
            f"{self.client.namespace!r}). "
        )
        if error.status is RPCStatusCode.UNIMPLEMENTED:
            return ConnectionFailedError(f"{text}This server is too old for worker versioning")
        if error.status in _HOPELESS:
            return ConnectionFailedError(f"{text}Check the credentials: fleet settings show")
        return ConnectionFailedError(
            f"{text}Tried again for {waited:.0f} s. Run the same command again when the server is "
            "back: it goes on where it stopped"
        )


def rpc_text(error: RPCError) -> str:
    """Return message and status of an error of a call."""
    return f"{error.message.rstrip('.')} ({error.status.name})"
