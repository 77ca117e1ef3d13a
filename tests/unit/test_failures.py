"""What is reported when an activity raises something that the SDK cannot turn into a failure."""

from __future__ import annotations

from datetime import timedelta

import pytest
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError
from typing_extensions import override

from temporal_fleet.worker.failures import reportable

convert = DataConverter.default.payload_converter.to_payloads


class Mute(Exception):
    """An exception whose text cannot be read."""

    @override
    def __str__(self) -> str:
        """Fail."""
        raise ZeroDivisionError


def circle() -> Exception:
    """Return an exception that is the cause of its cause."""
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def with_cause(cause: Exception) -> Exception:
    """Return an exception with this cause."""
    error = ValueError("outer")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error", [ValueError("no"), ApplicationError("no", {"card": 7}), with_cause(KeyError("x"))]
)
def test_failure_that_can_be_reported_is_not_changed(error: Exception) -> None:
    """An exception without a flaw reaches the SDK as it is."""
    assert reportable(error, convert) is error


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (Mute(), "Mute", "Mute: its text cannot be read, ZeroDivisionError"),
        (with_cause(Mute()), "ValueError", "outer (cannot be reported whole: Mute: its text"),
        (circle(), "ValueError", "first (cannot be reported whole: ValueError: its causes form"),
        (ApplicationError("no", object(), type="Declined"), "Declined", "its details cannot be"),
    ],
)
def test_failure_that_cannot_be_reported_keeps_type_and_text(
    error: Exception, kind: str, text: str
) -> None:
    """What stands in for it has its type, what could be read of it, and why it is not whole."""
    ours = reportable(error, convert)

    assert isinstance(ours, ApplicationError)
    assert ours.type == kind
    assert text in ours.message
    assert ours.__cause__ is None
    assert not ours.non_retryable


def test_failure_that_cannot_be_reported_keeps_its_retry() -> None:
    """Whether and when it is retried stays the activity's choice."""
    delay = timedelta(seconds=9)
    later = reportable(ApplicationError("no", object(), next_retry_delay=delay), convert)
    never = reportable(ApplicationError("no", object(), non_retryable=True), convert)

    assert isinstance(later, ApplicationError)
    assert later.next_retry_delay == delay
    assert isinstance(never, ApplicationError)
    assert never.non_retryable
