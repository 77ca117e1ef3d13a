"""Run Temporal Python workers as a fleet.

The names below are the whole public surface for workload authors. They are loaded when first used, so that
importing a single module of this package costs nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from temporal_fleet.execution import cpu_bound
    from temporal_fleet.settings import Settings, load_settings
    from temporal_fleet.workload import ResourceContext, WorkflowStart, Workload

__version__ = "0.1.0"

__all__ = [
    "ResourceContext",
    "Settings",
    "WorkflowStart",
    "Workload",
    "__version__",
    "cpu_bound",
    "load_settings",
]

_HOMES = {
    "ResourceContext": "workload",
    "Settings": "settings",
    "WorkflowStart": "workload",
    "Workload": "workload",
    "cpu_bound": "execution",
    "load_settings": "settings",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its module when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
