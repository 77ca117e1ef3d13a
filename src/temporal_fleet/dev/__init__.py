"""``fleet dev``: a Temporal server and every workload on one machine, restarted as code changes."""

from temporal_fleet.dev.development import DevOptions, develop
from temporal_fleet.dev.processes import Launcher
from temporal_fleet.dev.workers import Workers, prepared_launcher, running_workers

__all__ = ["DevOptions", "Launcher", "Workers", "develop", "prepared_launcher", "running_workers"]
