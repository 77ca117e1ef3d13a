"""How the failure of a local activity is given back; with a server see the integration tests."""

from __future__ import annotations

from datetime import timedelta

import pytest
from temporalio import activity
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from temporal_fleet.worker.local_activities import RETRY_ELSEWHERE, LocalRetries, given_back


def info(policy: RetryPolicy | None = None) -> activity.Info:
    """Return an attempt, the first, with a retry policy."""
    given = ActivityEnvironment.default_info()
    return activity.Info(**{**vars(given), "retry_policy": policy, "attempt": 1})


def test_failure_that_is_given_back_stays_what_it_was() -> None:
    """Type, message, details and stack of a failure are those of the activity; only the delay is ours."""
    error = ApplicationError("no card", {"card": 7}, type="Declined").with_traceback(None)
    ours = given_back(error)
    assert isinstance(ours, ApplicationError)
    assert (ours.message, ours.details, ours.type) == ("no card", ({"card": 7},), "Declined")
    assert ours.next_retry_delay == RETRY_ELSEWHERE

    with pytest.raises(KeyError) as plain:
        raise KeyError("order")
    ours = given_back(plain.value)
    assert ours.__traceback__ is plain.value.__traceback__
    assert isinstance(ours, ApplicationError)
    assert (ours.message, ours.type) == ("'order'", "KeyError")


@pytest.mark.parametrize(
    "error",
    [
        ApplicationError("never", non_retryable=True),
        ApplicationError("later", next_retry_delay=timedelta(hours=1)),
    ],
)
def test_failure_that_leaves_the_worker_anyway_is_not_changed(error: ApplicationError) -> None:
    """A failure that is not retried, or whose own delay is longer, is given back as it is."""
    assert given_back(error) is error


@pytest.mark.parametrize(
    ("error", "policy", "waits"),
    [
        (ValueError("no"), None, True),
        (ValueError("no"), RetryPolicy(maximum_attempts=1), False),
        (ValueError("no"), RetryPolicy(non_retryable_error_types=["ValueError"]), False),
        (ApplicationError("no", type="X"), RetryPolicy(non_retryable_error_types=["X"]), False),
        (ApplicationError("no", non_retryable=True), None, False),
    ],
)
def test_only_a_failure_with_a_retry_to_come_waits(
    error: Exception, policy: RetryPolicy | None, waits: bool
) -> None:
    """A workflow task is given up at the drain timeout only where the SDK's core holds a retry."""
    retries, attempt = LocalRetries(), info(policy)

    assert retries.failure(error, attempt) is error
    assert retries.waiting() == ([attempt.workflow_run_id] if waits else [])


def test_attempt_after_the_drain_timeout_is_refused() -> None:
    """No local activity begins when the time is over; its retry leaves the worker, too."""
    retries = LocalRetries()
    retries.refuse("drain timeout passed")

    with pytest.raises(ApplicationError, match="drain timeout passed") as refused:
        retries.begin("run")
    assert refused.value.next_retry_delay == RETRY_ELSEWHERE
