"""``fleet rollout`` as a person runs it, on a machine that reaches the Temporal server."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from e2e_cluster import Namespace
from e2e_commands import Completed, run
from e2e_temporal import TemporalNamespace

ROLLOUT_TIMEOUT = timedelta(seconds=150)


class Laptop:
    """Somebody's machine: ``fleet`` is installed, the server can be reached, the cluster too."""

    def __init__(self, temporal: TemporalNamespace, namespace: Namespace, folder: Path) -> None:
        self._namespace = namespace
        self._folder = folder
        self._environment = {
            "TEMPORAL_ADDRESS": temporal.client.service_client.config.target_host,
            "TEMPORAL_NAMESPACE": temporal.name,
        }

    async def rollout(self, *arguments: str, check: bool = True) -> Completed:
        """Run ``fleet rollout``."""
        command = (sys.executable, "-m", "temporal_fleet", "rollout", *arguments)
        return await run(
            *command, check=check, timeout=ROLLOUT_TIMEOUT, environment=self._environment
        )

    async def status(self, deployment: str) -> dict[str, Any]:
        """Return what ``fleet rollout status`` tells programs of one Worker Deployment."""
        completed = await self.rollout("status", deployment, "--output", "json")
        (found,) = json.loads(completed.stdout)
        status: dict[str, Any] = found
        return status

    async def routing_file(self) -> str:
        """Fetch the ConfigMap of the release into a file, as the documentation says."""
        path = self._folder / "routing.json"
        completed = await self._namespace.kubectl(
            "get", "configmap", "fleet-routing", "--output", "json"
        )
        path.write_text(completed.stdout)
        return str(path)
