"""What the routing is once steps are done."""

from __future__ import annotations

from collections.abc import Sequence

from temporal_fleet.versioning.model import (
    UNVERSIONED,
    AwaitPollers,
    ClearRamping,
    Pause,
    Plan,
    Routing,
    SetCurrent,
    SetRamping,
    Step,
)
from temporal_fleet.versioning.validation import is_same_share


def routing_after(routing: Routing, steps: Sequence[Step]) -> Routing:
    """Return the routing that the server has when steps are done."""
    for step in steps:
        match step:
            case SetCurrent(build_id) if routing.ramping == build_id:
                routing = Routing(build_id)
            case SetCurrent(build_id):
                routing = Routing(build_id, routing.ramping, routing.percentage)
            case SetRamping(build_id, percentage):
                routing = Routing(routing.current, build_id, percentage)
            case ClearRamping():
                routing = Routing(routing.current)
            case _:
                pass
    return routing


def is_same_routing(one: Routing, other: Routing) -> bool:
    """Whether two routings are the same; the server keeps shares less exactly than they are written."""
    currents = one.current or UNVERSIONED, other.current or UNVERSIONED
    if currents[0] != currents[1] or one.ramping != other.ramping:
        return False
    return is_same_share(one.percentage, other.percentage)


def changes_of(plan: Plan) -> tuple[tuple[type[Step], object], ...]:
    """Return what a plan changes, to be compared with another: without waits, and without reasons."""
    return tuple(
        (type(step), (step.build_id, step.percentage if isinstance(step, SetRamping) else None))
        for step in plan.steps
        if not isinstance(step, AwaitPollers | Pause)
    )
