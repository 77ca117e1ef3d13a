"""What values want and what a server has, for tests of plans, and what plans say in short."""

from __future__ import annotations

from collections.abc import Sequence

from simulated_server import NAME, build, deployment

from temporal_fleet.versioning import (
    BuildStatus,
    DesiredDeployment,
    ObservedDeployment,
    Plan,
    Refusal,
    Routing,
    describe,
)

BLUE, GREEN, RED = "1.4.0", "1.5.0", "1.6.0"
CURRENT, RAMPING, DRAINED = BuildStatus.CURRENT, BuildStatus.RAMPING, BuildStatus.DRAINED


def values(
    current: str | None,
    ramping: str | None = None,
    percentage: float = 0,
    builds: Sequence[str] = (BLUE, GREEN),
) -> DesiredDeployment:
    """Return what values say."""
    return DesiredDeployment(
        queue="orders",
        deployment=NAME,
        builds={f"key-{build_id}": build_id for build_id in builds},
        routing=Routing(current, ramping, percentage),
    )


def blue_green(share: float | None = None, pollers: int = 1) -> ObservedDeployment:
    """Return a server where blue is current, and green ramps unless *share* is None."""
    green = build(GREEN, BuildStatus.INACTIVE if share is None else RAMPING, pollers=pollers)
    blue = build(BLUE, CURRENT, last_current=1)
    ramping = None if share is None else GREEN
    return deployment(blue, green, current=BLUE, ramping=ramping, percentage=share or 0)


NOBODY = deployment()


def steps_of(plan: Plan | Refusal) -> list[str]:
    """Return the steps without their reasons."""
    assert isinstance(plan, Plan), plan
    return [describe(step).partition(":")[0] for step in plan.steps]


def short(step: str) -> str:
    """Return a step in the words of the tables."""
    for build_id, colour in ((BLUE, "blue"), (GREEN, "green"), (RED, "red")):
        step = step.replace(f"build ID '{build_id}'", colour)
    words = step.split()
    match words[0]:
        case "send":
            return f"{words[-1]} {words[1]} %"
        case "wait":
            return f"wait {words[2]}"
        case "make":
            return f"current {words[1]}"
        case "end":
            return f"end {words[-1]}"
        case _:
            return step


def notes_of(plan: Plan | Refusal) -> str:
    """Return all notes of a plan."""
    assert isinstance(plan, Plan), plan
    return "\n".join(plan.notes)
