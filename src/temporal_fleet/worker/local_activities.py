"""What becomes of local activities when their worker stops.

A local activity belongs to a workflow task of this worker, and the SDK's core retries it here, again and
again. A worker that stops gives the retries back to the workflow: its next worker makes them.
"""

from __future__ import annotations

import time
from datetime import timedelta

from temporalio import activity
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError, FailureError

RETRY_ELSEWHERE = timedelta(seconds=61)
"""Delay of a retry that is given back. The SDK's core keeps a retry whose delay is at most the local retry
threshold, by default 1 minute (``temporalio.workflow.execute_local_activity``); a longer delay becomes a
timer of the workflow, and so the business of whichever worker has it then."""


def stopped(reason: str, *, is_local: bool) -> ApplicationError:
    """Return the failure of an attempt that ends because its worker stops.

    Args:
        reason: Why the worker stops the attempt.
        is_local: Whether it is a local activity, whose retry must leave this worker.
    """
    return ApplicationError(
        f"worker stops before the activity is done: {reason}",
        type="WorkerShutdown",
        next_retry_delay=RETRY_ELSEWHERE if is_local else None,
    )


def given_back(error: Exception) -> Exception:
    """Return the failure of a local activity with a delay that lets another worker retry it.

    What the server and the workflow see of it (type, message, details, cause, stack) stays the same.

    Args:
        error: What the activity raised.
    """
    if isinstance(error, ApplicationError):
        if error.non_retryable or (error.next_retry_delay or timedelta()) > RETRY_ELSEWHERE:
            return error
        kind, details, category = error.type, error.details, error.category
        same = ApplicationError(
            error.message, *details, type=kind, next_retry_delay=RETRY_ELSEWHERE, category=category
        )
    elif isinstance(error, FailureError):
        return error
    else:
        same = ApplicationError(
            str(error), type=type(error).__name__, next_retry_delay=RETRY_ELSEWHERE
        )
    same.__cause__ = error.__cause__
    return same.with_traceback(error.__traceback__)


def _is_last(error: Exception, info: activity.Info) -> bool:
    policy = info.retry_policy or RetryPolicy()
    kind = type(error).__name__
    if isinstance(error, ApplicationError):
        if error.non_retryable:
            return True
        kind = error.type or kind
    if kind in (policy.non_retryable_error_types or ()):
        return True
    return 0 < policy.maximum_attempts <= info.attempt


class LocalRetries:
    """Decides about attempts of local activities: run here, given back, or refused."""

    def __init__(self) -> None:
        self._gives_back = False
        self._refusal: str | None = None
        # When a run's last attempt failed, on the clock of time.monotonic(). Its retry may wait in the core.
        self._failed: dict[str, float] = {}

    def give_back(self) -> None:
        """From now on a failed attempt is retried by another worker."""
        self._gives_back = True

    def refuse(self, reason: str) -> None:
        """From now on no attempt begins.

        Args:
            reason: Why, for the error.
        """
        self._gives_back = True
        self._refusal = reason

    def begin(self, run_id: str | None) -> None:
        """Take note of an attempt.

        Raises:
            ApplicationError: It must not begin: the worker stops.
        """
        self._failed.pop(run_id or "", None)
        if self._refusal is not None:
            raise stopped(self._refusal, is_local=True)

    def failure(self, error: Exception, info: activity.Info) -> Exception:
        """Return the error with which a failed attempt ends.

        Args:
            error: What the activity raised.
            info: The attempt.
        """
        if self._gives_back:
            return given_back(error)
        now = time.monotonic()
        for known, failed in list(self._failed.items()):
            if now - failed > RETRY_ELSEWHERE.total_seconds():
                del self._failed[known]
        if not _is_last(error, info):
            self._failed[info.workflow_run_id or ""] = now
        return error

    def waiting(self) -> list[str]:
        """Return the run IDs of workflows whose local activity failed and has not been tried again."""
        return list(self._failed)
