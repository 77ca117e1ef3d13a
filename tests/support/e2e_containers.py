"""Containers as tests see them: workers from real images, restricted as the chart restricts them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from e2e_commands import COMMAND_TIMEOUT, Completed, run
from running_worker import RunningWorker

RESTRICTED = (
    "--read-only",
    "--tmpfs=/tmp:rw,size=32m,mode=1777",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--pids-limit=256",
)
MEMORY_MB = 384
"""Default limit; enough for a worker with one process for CPU-bound activities."""


class Container:
    """A container that runs; made by :meth:`Engine.worker`."""

    def __init__(self, engine: Engine, name: str, worker: RunningWorker) -> None:
        self._engine = engine
        self.name = name
        self.worker = worker
        """The process of the engine's ``run``: its log and exit code are the container's."""

    async def execute(self, *command: str, check: bool = True) -> Completed:
        """Run a program inside, as the container's user."""
        return await self._engine.call("exec", self.name, *command, check=check)

    async def stop(self, grace: timedelta) -> int:
        """Stop it as Kubernetes does, and return its exit code."""
        seconds = f"{grace.total_seconds():.0f}"
        await self._engine.call("stop", "--time", seconds, self.name, timeout=grace * 2)
        return await self.worker.exit_code()


class Engine:
    """podman or docker."""

    def __init__(self, program: str) -> None:
        self.program = program

    @classmethod
    def find(cls) -> Engine | None:
        """Return the engine of E2E_ENGINE, else one that is installed, else None."""
        found = os.environ.get("E2E_ENGINE") or shutil.which("podman") or shutil.which("docker")
        return cls(found) if found else None

    async def call(
        self, *arguments: str, check: bool = True, timeout: timedelta = COMMAND_TIMEOUT
    ) -> Completed:
        """Run one of its commands to the end."""
        return await run(self.program, *arguments, check=check, timeout=timeout)

    async def config(self, image: str) -> dict[str, Any]:
        """Return the configuration of an image: user, environment, labels, command."""
        shown = await self.call("image", "inspect", "--format", "{{json .Config}}", image)
        config: dict[str, Any] = json.loads(shown.stdout)
        return config

    async def output(
        self, image: str, program: str, *arguments: str, flags: Sequence[str] = ()
    ) -> str:
        """Run a program in a new container, and return what it printed."""
        command = ("run", "--rm", "--pull=never", *RESTRICTED, *flags, f"--entrypoint={program}")
        return (await self.call(*command, image, *arguments)).stdout

    @asynccontextmanager
    async def worker(
        self,
        image: str,
        address: str,
        *,
        memory_mb: int = MEMORY_MB,
        variables: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Container]:
        """Run the worker of an image against the server at *address*; it is removed at the end."""
        name = f"fleet-test-{uuid.uuid4().hex[:8]}"
        environment = {
            "TEMPORAL_ADDRESS": address,
            "FLEET_HEALTH_PORT": "0",
            "FLEET_HEALTH_BIND_ADDRESS": "127.0.0.1",
            "FLEET_LOG_FORMAT": "json",
            "FLEET_CONCURRENCY_PROCESSES": "1",
            **(variables or {}),
        }
        # podman's monitor leaves a file where it was started when a container runs out of memory.
        with tempfile.TemporaryDirectory() as folder:
            process = await asyncio.create_subprocess_exec(
                *(self.program, "run", "--pull=never", "--name", name),
                *("--network=host", *RESTRICTED),
                *(f"--memory={memory_mb}m", f"--memory-swap={memory_mb}m"),
                *(f"--env={key}={value}" for key, value in environment.items()),
                image,
                cwd=folder,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
            worker = RunningWorker(process)
            try:
                yield Container(self, name, worker)
            finally:
                # Killed, as a worker whose test failed has no more use for a drain.
                await self.call("kill", name, check=False)
                await worker.exit_code()
                await self.call("rm", "--force", name)
