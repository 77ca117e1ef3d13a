"""What a workload registers with its worker: checked, built and described.

``check_workload`` finds everything that is wrong before anything polls; ``build_worker`` makes the SDK's worker
once the resources are open; ``describe`` tells the same to people.
"""

from temporal_fleet.registration.building import cpu_bound_modules, only_cpu_bound
from temporal_fleet.registration.checks import check_workload
from temporal_fleet.registration.description import (
    StartDescription,
    WorkloadDescription,
    describe,
)
from temporal_fleet.registration.worker import build_worker, workflow_arguments

__all__ = [
    "StartDescription",
    "WorkloadDescription",
    "build_worker",
    "check_workload",
    "cpu_bound_modules",
    "describe",
    "only_cpu_bound",
    "workflow_arguments",
]
