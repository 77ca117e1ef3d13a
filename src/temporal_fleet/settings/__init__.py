"""Settings of a worker: what exists, where values come from, and what is wrong with them.

``Settings`` reads nothing by itself; ``load_settings`` reads the environment, files and the
container's limits, and reports every problem at once.
"""

from temporal_fleet.settings.codec import CodecSettings
from temporal_fleet.settings.connection import ConnectionSettings
from temporal_fleet.settings.loading import LoadedSettings, load_model, load_settings
from temporal_fleet.settings.model import (
    ConcurrencySettings,
    DeploymentSettings,
    DrainSettings,
    EventLoopSettings,
    HealthSettings,
    Settings,
    WorkerSettings,
)
from temporal_fleet.settings.observability import LogSettings, MetricsSettings, TracingSettings
from temporal_fleet.settings.server import TemporalSettings

__all__ = [
    "CodecSettings",
    "ConcurrencySettings",
    "ConnectionSettings",
    "DeploymentSettings",
    "DrainSettings",
    "EventLoopSettings",
    "HealthSettings",
    "LoadedSettings",
    "LogSettings",
    "MetricsSettings",
    "Settings",
    "TemporalSettings",
    "TracingSettings",
    "WorkerSettings",
    "load_model",
    "load_settings",
]
