"""What ``fleet rollout`` does to Temporal: look at Worker Deployments, carry out plans, move runs.

Decisions are made in :mod:`temporal_fleet.versioning`; here are the calls.
"""

from temporal_fleet.rollout.applying import Planner, Rollout
from temporal_fleet.rollout.observe import observe, observe_twice
from temporal_fleet.rollout.records import list_deployments
from temporal_fleet.rollout.recovery import (
    Outcome,
    Recovery,
    RecoveryReport,
    ResetTo,
    RunResult,
    check_recovery,
    find_runs,
    recover_runs,
)
from temporal_fleet.rollout.runs import LIST_LAG
from temporal_fleet.rollout.server import PATIENCE, Server
from temporal_fleet.rollout.waiting import (
    Check,
    PollersCheck,
    drained_check,
    new_work_check,
    routed_check,
    wait_until,
)

__all__ = [
    "LIST_LAG",
    "PATIENCE",
    "Check",
    "Outcome",
    "Planner",
    "PollersCheck",
    "Recovery",
    "RecoveryReport",
    "ResetTo",
    "Rollout",
    "RunResult",
    "Server",
    "check_recovery",
    "drained_check",
    "find_runs",
    "list_deployments",
    "new_work_check",
    "observe",
    "observe_twice",
    "recover_runs",
    "routed_check",
    "wait_until",
]
