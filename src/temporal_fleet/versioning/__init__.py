"""Decisions about routing and removal, as pure functions: what is wanted and what Temporal says in, a plan out.

Nothing here has a clock, waits or talks to anybody; :mod:`temporal_fleet.rollout` observes and acts.
"""

from temporal_fleet.versioning.commands import plan_promote, plan_ramp, plan_rollback
from temporal_fleet.versioning.describing import describe, describe_routing
from temporal_fleet.versioning.model import (
    UNVERSIONED,
    VERSION_CAP,
    AwaitPollers,
    BuildStatus,
    ClearRamping,
    DeleteBuild,
    DesiredDeployment,
    ObservedBuild,
    ObservedDeployment,
    OpenRun,
    OpenRuns,
    Pause,
    Place,
    Plan,
    PolledTaskQueue,
    Refusal,
    Risk,
    RolloutMode,
    Routing,
    SetCurrent,
    SetRamping,
    Step,
)
from temporal_fleet.versioning.removal import (
    BuildRemoval,
    RemovalVerdict,
    place_left,
    plan_removal,
    removed_builds,
)
from temporal_fleet.versioning.retirement import Need, NeedKind, needs, plan_retire
from temporal_fleet.versioning.routing import plan_routing
from temporal_fleet.versioning.task_queues import not_ready

__all__ = [
    "UNVERSIONED",
    "VERSION_CAP",
    "AwaitPollers",
    "BuildRemoval",
    "BuildStatus",
    "ClearRamping",
    "DeleteBuild",
    "DesiredDeployment",
    "Need",
    "NeedKind",
    "ObservedBuild",
    "ObservedDeployment",
    "OpenRun",
    "OpenRuns",
    "Pause",
    "Place",
    "Plan",
    "PolledTaskQueue",
    "Refusal",
    "RemovalVerdict",
    "Risk",
    "RolloutMode",
    "Routing",
    "SetCurrent",
    "SetRamping",
    "Step",
    "describe",
    "describe_routing",
    "needs",
    "not_ready",
    "place_left",
    "plan_promote",
    "plan_ramp",
    "plan_removal",
    "plan_retire",
    "plan_rollback",
    "plan_routing",
    "removed_builds",
]
