"""Says in plain words what the SDK's core logs when code no longer fits the history of a run.

The core logs the failure as a Rust structure with nothing but the run ID. The workflow ID and type are those
that were noted when the run was read from its history.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from temporal_fleet.log_context import recent_runs

EVENT = "workflow task failed: the workflow's code does not fit the history of this run"

_CURE = (
    "Run this workflow on the build that began it, or put the change behind workflow.patched(). "
    "The server repeats the task until one of them is done"
)
# The code of this failure, and what stands behind it in the core's messages (SDK 1.35).
_FAILURE = re.compile(r"\[TMPRL1100\] (?:Nondeterminism error: )?(.*?)\\?\"")
_OTHER_COMMAND = re.compile(
    r"(\w+) machine does not handle this event: HistoryEvent\(id: (\d+), (\w+)\)"
)
_NO_COMMAND = re.compile(r"No command scheduled for event HistoryEvent\(id: (\d+), (\w+)\)")


def nondeterminism(core_fields: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the fields of a line about a run that its workflow's code does not fit.

    Args:
        core_fields: Fields of a line that the SDK's core logged.

    Returns:
        IDs, cause and cure; None when the line is about something else.
    """
    found = _FAILURE.search(str(core_fields.get("failure", "")))
    if found is None:
        return None
    run_id = str(core_fields.get("run_id", ""))
    return {
        **recent_runs.ids(run_id),
        "workflow_run_id": run_id,
        "cause": plain_cause(found[1]),
        "cure": _CURE,
    }


def plain_cause(message: str) -> str:
    """Return the core's message in plain words; the message itself when it has another form."""
    if other := _OTHER_COMMAND.search(message):
        machine, event_id, event = other.groups()
        return (
            f"the history continues with {event} (event {event_id}), "
            f"where the code now has this command: {machine}"
        )
    if missing := _NO_COMMAND.search(message):
        event_id, event = missing.groups()
        return (
            f"the history continues with {event} (event {event_id}), where the code has no command"
        )
    return message
