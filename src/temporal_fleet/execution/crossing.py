"""How calls and their results cross between the worker and a process of its pool: as pickles."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from temporalio.exceptions import ApplicationError

from temporal_fleet.errors import FleetError
from temporal_fleet.execution.child import Answer, Call
from temporal_fleet.log_context import activity_ids


class CallNotPossibleError(FleetError):
    """A call could not cross to the child or back: not importable or not picklable."""


class ChildTracebackError(Exception):
    """Carries the child's traceback of an error; the cause of the error that is raised again."""


def call_message(module: str, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
    """Return the message that calls a function.

    Raises:
        CallNotPossibleError: An argument cannot be pickled.
    """
    try:
        arguments = pickle.dumps((args, kwargs), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        kinds = ", ".join(type(value).__qualname__ for value in (*args, *kwargs.values()))
        raise CallNotPossibleError(
            f"cannot pickle the arguments of {module}.{name}, of types {kinds}: {error}"
        ) from error
    # Other fields than these simple ones may be unpicklable, and are of no use in a log line.
    fields = {
        key: value
        for key, value in structlog.contextvars.get_contextvars().items()
        if isinstance(value, (str, int, float, bool))
    }
    return {
        "kind": "call",
        "module": module,
        "name": name,
        "arguments": arguments,
        "log_ids": activity_ids.get(),
        "log_context": fields,
        "activity": None,
        "worker_shutdown": False,
    }


def result_of(answer: Answer, function: str) -> Any:
    """Return what a function returned, or raise what it raised, as its child answers.

    Raises:
        CallNotPossibleError: The function was not called, or its result cannot cross.
        ApplicationError: The function raised what cannot be pickled.
    """
    if answer["kind"] == "impossible":
        raise CallNotPossibleError(
            f"the process of the pool {answer['message']} (function {function}):\n"
            f"{answer['trace'].rstrip()}"
        )
    value = answer["value"]
    if value is None:
        raise ApplicationError(
            answer["message"], type=answer["error_type"]
        ) from ChildTracebackError(answer["trace"])
    try:
        result = pickle.loads(value)  # noqa: S301 - from our own child
    except Exception as error:
        raise CallNotPossibleError(
            f"cannot unpickle what {function} {answer['kind']}: {error}"
        ) from error
    if answer["kind"] == "returned":
        return result
    raise result from ChildTracebackError(answer["trace"])
