"""Whether what is asked for makes sense, before it is compared with anything: one reason for each mistake."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from datetime import timedelta

from temporal_fleet.versioning.describing import build_name, percent
from temporal_fleet.versioning.model import (
    UNVERSIONED,
    DesiredDeployment,
    ObservedDeployment,
    Routing,
)

SAME_SHARE = 0.001
"""Percentages closer than this are equal: the server keeps them as 32-bit numbers."""


def check_routing(desired: DesiredDeployment) -> list[str]:
    """Return what is wrong with the routing that is asked for."""
    routing, listed = desired.routing, set(desired.builds.values())
    reasons = []
    if routing.current is None:
        reasons.append("no build is to be current. Set routing.current to the key of one")
    for role, build_id in (("current", routing.current), ("ramping", routing.ramping)):
        if build_id is not None and build_id not in listed:
            reasons.append(
                f"{build_name(build_id)} is to be {role}, but is none of the builds of "
                f"'{desired.queue}': {', '.join(sorted(listed)) or 'there are none'}. Add it to "
                "the builds, or route to one of them"
            )
    if routing.ramping is not None and routing.ramping == routing.current:
        reasons.append(
            f"{build_name(routing.ramping)} is to be both current and ramping. Leave "
            "routing.ramping empty, or name another build"
        )
    reasons.extend(check_percentage(routing.percentage))
    if routing.ramping is None and routing.percentage:
        reasons.append(
            f"routing.percentage is {routing.percentage:g}, but nothing is to ramp. Set "
            "routing.ramping to the key of a build, or percentage to 0"
        )
    return reasons


def reachable_routing(wanted: Routing) -> Routing:
    """Return what the server makes of a routing.

    It knows workers without versioning by an empty build ID, and so cannot tell their share of 0 from no ramp.
    """
    is_lost = wanted.ramping == UNVERSIONED and wanted.percentage == 0
    return Routing(wanted.current) if is_lost else wanted


def note_unreachable(wanted: Routing) -> list[str]:
    """Return a note when the server makes something else of a routing."""
    if reachable_routing(wanted) == wanted:
        return []
    return [
        f"{build_name(UNVERSIONED)} is to ramp at 0 %: to the server this means that nothing ramps"
    ]


def check_percentage(percentage: float) -> list[str]:
    """Return what is wrong with a share of new work."""
    if math.isfinite(percentage) and 0 <= percentage <= 100:
        return []
    return [f"the percentage {percentage:g} is not possible. Use a number from 0 to 100"]


def check_steps(
    desired: DesiredDeployment,
    observed: ObservedDeployment,
    ramp_steps: Sequence[float],
    pause: timedelta,
) -> list[str]:
    """Return what is wrong with steps: they are the way, and the desired routing is where it ends."""
    reasons = []
    shown = ", ".join(f"{step:g}" for step in ramp_steps)
    if any(not math.isfinite(step) or not 0 < step <= 100 for step in ramp_steps):
        reasons.append(f"the steps {shown} are not possible. Use numbers above 0, up to 100")
    elif any(later <= sooner for sooner, later in itertools.pairwise(ramp_steps)):
        reasons.append(f"the steps {shown} do not rise. Name each once, the smallest first")
    elif ramp_steps:
        reasons.extend(_check_end(desired, observed, ramp_steps))
    if pause < timedelta(0):
        reasons.append(f"the pause of {pause.total_seconds():g} s is negative. Use 0 or more")
    return reasons


def is_same_share(one: float, other: float) -> bool:
    """Return whether two percentages are the same for the server."""
    return abs(one - other) < SAME_SHARE


def _check_end(
    desired: DesiredDeployment, observed: ObservedDeployment, ramp_steps: Sequence[float]
) -> list[str]:
    wanted, last = desired.routing, ramp_steps[-1]
    if wanted.current is None:
        return []
    if wanted.ramping is None:
        if last == 100:
            return []
        return [
            f"the steps end at {percent(last)}, but {build_name(wanted.current)} is to be current. "
            "End them with 100"
        ]
    if wanted.current != (observed.routing.current or UNVERSIONED):
        return [
            f"steps lead one build to its share, but {build_name(wanted.current)} is to become "
            f"current and {build_name(wanted.ramping)} to ramp. Do one after the other: leave "
            "routing.ramping empty first"
        ]
    if is_same_share(last, wanted.percentage):
        return []
    return [
        f"the steps end at {percent(last)}, but {build_name(wanted.ramping)} is to ramp at "
        f"{percent(wanted.percentage)}. End them with {wanted.percentage:g}, or set "
        'routing.current to its key and routing.ramping to "" for steps that end with 100'
    ]
