"""For authors of workloads: real servers for tests, and replay of recorded histories.

Nothing here is a stand-in for Temporal or a database: the servers are real ones from Python wheels,
each in a process of its own on a free port. Production code never imports this package, and it needs
none of the test tools to be importable. ``python -m temporal_fleet.testing record`` writes
histories to replay.
"""

from temporal_fleet.ports import free_port
from temporal_fleet.testing.histories import record_histories, replay_histories
from temporal_fleet.testing.servers import (
    MissingToolError,
    dev_server,
    find_program,
    postgres_server,
    time_skipping,
)
from temporal_fleet.testing.workers import running

__all__ = [
    "MissingToolError",
    "dev_server",
    "find_program",
    "free_port",
    "postgres_server",
    "record_histories",
    "replay_histories",
    "running",
    "time_skipping",
]
