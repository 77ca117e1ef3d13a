"""Repeats calls while the server is busy or away, and says what is wrong when that is no use."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from temporalio.service import RPCError, RPCStatusCode

from temporal_fleet.errors import ConnectionFailedError
from temporal_fleet.starting.lines import StartReport

log = logging.getLogger(__name__)

AnswerT = TypeVar("AnswerT")

_BACKOFF_INITIAL = timedelta(seconds=0.1)
_BACKOFF_MAXIMUM = timedelta(seconds=5)
_GIVE_UP_AFTER = timedelta(seconds=60)

# Source: the codes that the SDK's core retries itself, for at most 10 s:
# https://github.com/temporalio/sdk-core/blob/master/client/src/retry.rs
_RETRYABLE = frozenset(
    {
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.ABORTED,
        RPCStatusCode.INTERNAL,
        RPCStatusCode.UNKNOWN,
    }
)
# What every other line would run into, too.
_HOPELESS = frozenset(
    {
        RPCStatusCode.PERMISSION_DENIED,
        RPCStatusCode.UNAUTHENTICATED,
        RPCStatusCode.UNIMPLEMENTED,
    }
)


class PatientCalls:
    """Makes calls that may be repeated without harm."""

    def __init__(self, namespace: str, report: StartReport) -> None:
        self._namespace = namespace
        self._report = report

    async def call(self, call: Callable[[], Awaitable[AnswerT]], what: str) -> AnswerT:
        """Make a call again and again while the server is busy or away, for at most a minute.

        Args:
            call: Makes the call once.
            what: Names it in logs and errors.

        Raises:
            ConnectionFailedError: When the server refuses us or stays away.
            RPCError: When the call itself is at fault.
        """
        give_up_at = time.monotonic() + _GIVE_UP_AFTER.total_seconds()
        backoff = _BACKOFF_INITIAL.total_seconds()
        while True:
            try:
                return await call()
            except RPCError as error:
                if error.status in _HOPELESS:
                    raise ConnectionFailedError(refused(error, self._namespace)) from error
                if error.status not in _RETRYABLE:
                    raise
                if time.monotonic() >= give_up_at:
                    raise ConnectionFailedError(_gone(error, what)) from error
                wait = backoff * random.uniform(0.8, 1.2)  # noqa: S311 - spreads calls, no secret
                self._report.retries += 1
                log.info("%s failed (%s); again in %.1f s", what, rpc_text(error), wait)
            await asyncio.sleep(wait)
            backoff = min(backoff * 2, _BACKOFF_MAXIMUM.total_seconds())


def rpc_text(error: RPCError) -> str:
    """Return status and message of an error of a call."""
    return f"{error.status.name}: {error.message}"


def refused(error: RPCError, namespace: str) -> str:
    """Return what to tell when every further call would be refused, too."""
    return (
        f"the server refused it (namespace {namespace!r}): {rpc_text(error)}. "
        "Check address, namespace and credentials: fleet settings show"
    )


def _gone(error: RPCError, what: str) -> str:
    return (
        f"{what} failed for {_GIVE_UP_AFTER.total_seconds():g} s, last with {rpc_text(error)}. "
        "Run the same command again when the server is back: it goes on where it stopped"
    )
