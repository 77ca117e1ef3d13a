"""What belongs to the task queue ``e2e``."""

from __future__ import annotations

import os

from fleet_e2e.activities import compute, nap, step
from fleet_e2e.workflows import AutoUpgradeSteps, PinnedSteps
from temporal_fleet import Workload


async def check_dependency(_resources: None) -> None:
    """Fail forever when E2E_DEPENDENCY says that it is away."""
    if os.environ.get("E2E_DEPENDENCY") == "away":
        raise RuntimeError("the dependency is away, as E2E_DEPENDENCY says")


workload: Workload[None, None] = Workload(
    name="e2e",
    description="Steps that tell which build ran them, naps and computations",
    workflows=[PinnedSteps, AutoUpgradeSteps],
    activities=[step, nap, compute],
    health_checks={"dependency": check_dependency},
)
