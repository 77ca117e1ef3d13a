"""What a workload registers with its worker: checked, built and described.

``check_workload`` finds everything that is wrong before anything polls; ``build_activities`` and
``build_nexus_handlers`` make the objects that poll once the resources are open; ``describe`` tells
the same to people.
"""

from temporal_fleet.registration.building import (
    build_activities,
    build_nexus_handlers,
    cpu_bound_modules,
    only_cpu_bound,
)
from temporal_fleet.registration.checks import check_workload
from temporal_fleet.registration.description import (
    StartDescription,
    WorkloadDescription,
    describe,
)
from temporal_fleet.registration.sandbox import sandbox_runner, workload_error_of

__all__ = [
    "StartDescription",
    "WorkloadDescription",
    "build_activities",
    "build_nexus_handlers",
    "check_workload",
    "cpu_bound_modules",
    "describe",
    "only_cpu_bound",
    "sandbox_runner",
    "workload_error_of",
]
