"""Values of the chart for cluster tests: the tests' own workload, small and quick to react."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e_temporal import TemporalNamespace

Values = dict[str, Any]

QUEUE = "e2e"
"""Key of the task queue, name of the Worker Deployment and of the workload."""
DRAIN_SECONDS = 20

# Small, and asked every second: most of a test is waiting for pods.
DEFAULTS: Values = {
    "replicas": 1,
    "resources": {
        "requests": {"cpu": "50m", "memory": "96Mi"},
        "limits": {"memory": "384Mi"},
    },
    "probes": {
        "startup": {"periodSeconds": 1, "failureThreshold": 120},
        "readiness": {"periodSeconds": 1},
    },
    "settings": {"drainTimeoutSeconds": DRAIN_SECONDS},
}
HOOKS: Values = {
    "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}
}


@dataclass(frozen=True)
class Images:
    """The images that ``make e2e-images`` has built and loaded."""

    registry: str
    prefix: str
    tags: Mapping[str, list[str]]

    @classmethod
    def read(cls, path: Path) -> Images:
        """Read what ``scripts/e2e_images.py`` wrote."""
        written = json.loads(path.read_text())
        return cls(written["registry"], written["repositoryPrefix"], written["tags"])

    def reference(self, name: str, number: int = 0) -> str:
        """Return the reference of an image."""
        return f"{self.registry}/{self.prefix}{name}:{self.tags[name][number]}"

    @property
    def first(self) -> str:
        """Build ID of the first build of the tests' workload."""
        return self.tags[QUEUE][0]

    @property
    def second(self) -> str:
        """Build ID of the second build of the tests' workload."""
        return self.tags[QUEUE][1]


class FleetValues:
    """Makes values of releases that connect to one namespace of one server."""

    def __init__(self, images: Images, temporal: TemporalNamespace) -> None:
        self.images = images
        self._temporal = temporal

    @property
    def address(self) -> str:
        """``host:port`` of the Temporal server as pods reach it."""
        return self._temporal.address

    def one(self, **queue: Any) -> Values:
        """Return values with the first build alone, under the key ``blue``."""
        return self.of({"blue": self.blue}, **queue)

    def both(self, current: str, ramping: str = "", percentage: float = 0, **queue: Any) -> Values:
        """Return values with both builds, under the keys ``blue`` and ``green``."""
        routing = {"current": current, "ramping": ramping, "percentage": percentage}
        return self.of({"blue": self.blue, "green": self.green}, **{"routing": routing, **queue})

    def of(self, builds: Mapping[str, Any], **queue: Any) -> Values:
        """Return values with given builds and further values of their task queue."""
        return {
            "temporal": {"address": self._temporal.address, "namespace": self._temporal.name},
            "hooks": copy.deepcopy(HOOKS),
            "queueDefaults": merged(DEFAULTS, {"image": {"registry": self.images.registry}}),
            "queues": {QUEUE: {"builds": dict(builds), **queue}},
        }

    @property
    def blue(self) -> Values:
        """The first build."""
        return {"buildId": self.images.first}

    @property
    def green(self) -> Values:
        """The second build."""
        return {"buildId": self.images.second}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Values:
    """Merge values over values, maps key by key."""
    result = copy.deepcopy(dict(base))
    for key, value in over.items():
        below = result.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            result[key] = merged(below, value)
        else:
            result[key] = copy.deepcopy(value)
    return result
