"""Which of the starts that a workload declares is meant."""

from __future__ import annotations

import difflib
from typing import Any

from temporal_fleet.errors import Problem, WorkloadError
from temporal_fleet.workload import WorkflowStart, Workload


def choose_start(workload: Workload[Any, Any], name: str | None = None) -> WorkflowStart[Any]:
    """Return the start of a workload that has this name.

    Args:
        workload: Declares the starts.
        name: One of their names; None = the only one.

    Raises:
        WorkloadError: When there is no such start, or no name was given and there are several; names those that
            there are.
    """
    starts = workload.starts
    if name is None and len(starts) == 1:
        return next(iter(starts.values()))
    if name is not None and name in starts:
        return starts[name]
    raise WorkloadError([_not_found(workload, name)])


def _not_found(workload: Workload[Any, Any], name: str | None) -> Problem:
    subject = f"workload {workload.name!r}"
    names = [each for each in workload.starts if each is not None]
    if not workload.starts:
        return Problem(
            subject,
            "does not say how to start workflows from a file",
            cure="Declare Workload(start=WorkflowStart(workflow=..., model=..., workflow_id=...))",
        )
    if not names:
        return Problem(
            subject, f"has no start named {name!r}: its only one has no name", cure="Omit --start"
        )
    listed = ", ".join(names)
    if name is None:
        return Problem(
            subject, f"has several starts: {listed}", cure="Choose one with --start NAME"
        )
    close = difflib.get_close_matches(name, names, n=1)
    return Problem(
        subject,
        f"has no start named {name!r}; it has: {listed}",
        cure=f"Did you mean {close[0]!r}?" if close else "Choose one of these with --start NAME",
    )
