"""Calls that survive a server's bad moments: one patience for everything that asks a Temporal server.

What is worth another try, what is hopeless, how long to wait in between, and what to tell in the end are
decided here and nowhere else.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

import structlog
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from temporal_fleet.errors import ConnectionFailedError

log = structlog.get_logger(__name__)

AnswerT = TypeVar("AnswerT")

_BACKOFF_INITIAL = timedelta(seconds=0.2)
_BACKOFF_MAXIMUM = timedelta(seconds=5)
_SAY_INTERVAL = timedelta(seconds=1)
"""Hundreds of calls fail together when a server goes away; one line tells of all of them."""
# A pause of the loop shorter than this is made up for; a longer one must not lead to a burst.
_CATCH_UP = timedelta(milliseconds=100)

# Source: the codes that the SDK's core retries itself, for at most 10 s:
# https://github.com/temporalio/sdk-core/blob/master/client/src/retry.rs
TRANSIENT = frozenset(
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
"""The server is busy or away: the same call may succeed later."""
HOPELESS = frozenset(
    {
        RPCStatusCode.PERMISSION_DENIED,
        RPCStatusCode.UNAUTHENTICATED,
        RPCStatusCode.UNIMPLEMENTED,
    }
)
"""The server refuses us: every other call would be refused, too."""
# Source: gRPC's limit on a message, 4 MiB unless the server sets another. It is told as
# RESOURCE_EXHAUSTED, as a busy server is, and no later try can succeed.
_TOO_LARGE = "larger than max"


class PatientCalls:
    """Makes calls that may be repeated without harm.

    Args:
        client: Connected to the server and namespace.
        patience: How long one call is repeated while the server is away or busy.
        at_once: How many calls may be under way; None = as many as are made.
        on_retry: Called before each wait for another try.
    """

    def __init__(
        self,
        client: Client,
        *,
        patience: timedelta,
        at_once: int | None = None,
        on_retry: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._patience = patience.total_seconds()
        self._slots = asyncio.Semaphore(at_once) if at_once else None
        self._on_retry = on_retry
        self._said = float("-inf")

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
                return await self._make(make)
            except RPCError as error:
                waited = time.monotonic() - began
                if error.status in HOPELESS:
                    raise self.refused(error, what) from error
                if error.status not in TRANSIENT or _TOO_LARGE in error.message:
                    raise
                if waited >= self._patience:
                    raise self._gone(error, what, waited) from error
                wait = backoff * random.uniform(0.5, 1)  # noqa: S311 - spreads calls, no secret
                self._say(error, what, wait, self._patience - waited)
            self._on_retry()
            await asyncio.sleep(wait)
            backoff = min(backoff * 2, _BACKOFF_MAXIMUM.total_seconds())

    async def _make(self, make: Callable[[], Awaitable[AnswerT]]) -> AnswerT:
        if self._slots is None:
            return await make()
        async with self._slots:
            return await make()

    def _say(self, error: RPCError, what: str, wait: float, left: float) -> None:
        now = time.monotonic()
        if now - self._said < _SAY_INTERVAL.total_seconds():
            return
        self._said = now
        log.warning(
            "the server does not answer",
            call=what,
            reason=rpc_text(error),
            retry_in_seconds=round(wait, 1),
            patience_left_seconds=round(left),
        )

    def refused(self, error: RPCError, what: str) -> ConnectionFailedError:
        """Return the error for a call after which every other one would be refused, too."""
        cure = "Check address, namespace and credentials: fleet settings show"
        if error.status is RPCStatusCode.UNIMPLEMENTED:
            cure = "This server is too old: it does not know the call"
        return ConnectionFailedError(f"{self._failed(error, what)}. {cure}")

    def _gone(self, error: RPCError, what: str, waited: float) -> ConnectionFailedError:
        return ConnectionFailedError(
            f"{self._failed(error, what)}. Tried again for {waited:.0f} s. Run the same command again "
            "when the server is back: it continues where it stopped"
        )

    def _failed(self, error: RPCError, what: str) -> str:
        address = self._client.service_client.config.target_host
        return (
            f"cannot {what}: {rpc_text(error)} "
            f"(server {address}, namespace {self._client.namespace!r})"
        )


class Pace:
    """Lets one caller through each 1/rate seconds; with no rate, everybody at once."""

    def __init__(self, rate: float | None) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._next = 0.0

    def reserve(self, now: float) -> float:
        """Return how many seconds after *now* (seconds on any clock) the caller may go on."""
        earliest = now - _CATCH_UP.total_seconds()
        turn = max(self._next, earliest)
        self._next = turn + self._interval
        return max(0.0, turn - now)


def rpc_text(error: RPCError) -> str:
    """Return message and status of an error of a call."""
    return f"{error.message.rstrip('.')} ({error.status.name})"
