"""Steps, routings and builds in a few words each, for people."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import assert_never

from temporal_fleet.versioning.model import (
    UNVERSIONED,
    AwaitPollers,
    ClearRamping,
    DeleteBuild,
    OpenRuns,
    Pause,
    PolledTaskQueue,
    Routing,
    SetCurrent,
    SetRamping,
    Step,
)

_NAMED_RUNS = 3
"""How many runs a sentence names; the count says how many more there are."""


def describe(step: Step) -> str:
    """Say in one line what a step does, and why."""
    return f"{_action(step)}: {step.reason}"


def describe_routing(routing: Routing) -> str:
    """Say in one line which build gets new work."""
    current = build_name(routing.current or UNVERSIONED)
    if routing.ramping is None:
        return f"{current} is current"
    share = percent(routing.percentage)
    return f"{current} is current, {build_name(routing.ramping)} is ramping at {share}"


def build_name(build_id: str) -> str:
    """Return how a sentence names a build."""
    return "unversioned" if build_id == UNVERSIONED else f"build ID '{build_id}'"


def percent(share: float) -> str:
    """Return a share of new work: ``10 %``, ``33.3 %``."""
    return f"{share:g} %"


def name_task_queues(task_queues: Iterable[PolledTaskQueue]) -> str:
    """Return task queues and the type of their tasks: ``'orders' (workflow, activity)``."""
    types: dict[str, list[str]] = {}
    for each in task_queues:
        types.setdefault(each.name, []).append(each.type)
    return ", ".join(f"'{name}' ({', '.join(kinds)})" for name, kinds in types.items())


def name_runs(runs: OpenRuns) -> str:
    """Return workflow and run IDs of the oldest runs, and how many there are beside them."""
    shown = [f"{run.workflow_id} (run {run.run_id})" for run in runs.sample[:_NAMED_RUNS]]
    if not shown:
        return ""
    more = runs.count - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def count_runs(count: int, kind: str) -> str:
    """Return a number of runs: ``1 open pinned run``, ``2 open pinned runs``."""
    return f"{count} {kind} run{'' if count == 1 else 's'}"


def _action(step: Step) -> str:
    match step:
        case AwaitPollers():
            return f"wait until {build_name(step.build_id)} is polled"
        case SetRamping():
            return f"send {percent(step.percentage)} of new work to {build_name(step.build_id)}"
        case ClearRamping():
            return f"end the ramp of {build_name(step.build_id)}"
        case SetCurrent():
            return f"make {build_name(step.build_id)} current"
        case Pause():
            return f"pause for {_duration(step.duration)}"
        case DeleteBuild():
            return f"delete the server's record of {build_name(step.build_id)}"
        case _:
            assert_never(step)


def _duration(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} min"
