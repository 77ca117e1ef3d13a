"""Failures of activities that the SDK can report: it turns an exception into a message for the server.

Where it cannot (an exception whose text raises, details that no converter takes, causes in a circle), the type
of the error is lost, or the activity never ends and keeps its slot and the drain waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from temporalio.exceptions import ApplicationError


def reportable(error: Exception, convert: Callable[[Sequence[object]], object]) -> Exception:
    """Return *error*, or what can be reported in its place: its type, and what could be read of it.

    Args:
        error: What an activity raised.
        convert: Makes payloads of details, as the worker's payload converter does.
    """
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None:
        problem = "its causes form a circle" if id(each) in seen else _problem(each, convert)
        if problem:
            return _replacement(error, f"{type(each).__name__}: {problem}")
        seen.add(id(each))
        each = each.__cause__
    return error


def _problem(error: BaseException, convert: Callable[[Sequence[object]], object]) -> str | None:
    try:
        str(error)
    except Exception as failed:  # noqa: BLE001 - code of the workload
        return f"its text cannot be read, {type(failed).__name__}"
    try:
        if isinstance(error, ApplicationError) and error.details:
            convert(error.details)
    except Exception as failed:  # noqa: BLE001 - code of the workload
        return f"its details cannot be converted, {type(failed).__name__}"
    return None


def _replacement(error: Exception, problem: str) -> ApplicationError:
    known = error if isinstance(error, ApplicationError) else None
    try:
        text = known.message if known else str(error)
    except Exception:  # noqa: BLE001 - code of the workload
        text = type(error).__name__
    same = ApplicationError(
        f"{text} (cannot be reported whole: {problem})",
        type=(known and known.type) or type(error).__name__,
        non_retryable=known.non_retryable if known else False,
        next_retry_delay=known.next_retry_delay if known else None,
    )
    return same.with_traceback(error.__traceback__)
