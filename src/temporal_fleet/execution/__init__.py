"""Where activities run that do not run on the event loop: in threads and in child processes.

A plain ``def`` activity runs in the :class:`ThreadPool`. A function marked with :func:`cpu_bound`
is an ``async def`` activity to the SDK and runs in a child process of the :class:`ProcessPool`. The
SDK's own process executor is not used: there, one killed child ends the whole worker.
"""

from temporal_fleet.execution.child_process import ProcessDiedError
from temporal_fleet.execution.cpu_activities import (
    cpu_bound,
    current_pool,
    install_pool,
    running_process_pool,
    uninstall_pool,
)
from temporal_fleet.execution.crossing import CallNotPossibleError
from temporal_fleet.execution.processes import (
    PoolClosedError,
    ProcessPool,
)
from temporal_fleet.execution.threads import RunningCall, ThreadPool

__all__ = [
    "CallNotPossibleError",
    "PoolClosedError",
    "ProcessDiedError",
    "ProcessPool",
    "RunningCall",
    "ThreadPool",
    "cpu_bound",
    "current_pool",
    "install_pool",
    "running_process_pool",
    "uninstall_pool",
]
