"""A workload's worker inside the process of a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from temporalio.client import Client

from temporal_fleet.execution import ThreadPool, running_process_pool
from temporal_fleet.registration import build_worker, cpu_bound_modules
from temporal_fleet.settings import Settings
from temporal_fleet.workload import ResourceContext, Workload

ResourcesT = TypeVar("ResourcesT")
SettingsT = TypeVar("SettingsT")


@asynccontextmanager
async def running(
    workload: Workload[SettingsT, ResourcesT],
    client: Client,
    *,
    settings: SettingsT,
    fleet: Settings | None = None,
    **worker_options: Any,
) -> AsyncIterator[ResourcesT]:
    """Run a workload's worker inside this process, with its real resources, activities and sandbox.

    Everything around it that a worker process has (health, metrics, signals, drain) is left out.

    Args:
        workload: What to run. Only one with CPU-bound activities can run at a time.
        client: Connected to the server to poll.
        settings: The workload's own settings; None when it declares none.
        fleet: Runtime settings; None means the defaults.
        worker_options: More arguments of the SDK's ``Worker``.

    Yields:
        The open resources; None when the workload declares none.
    """
    fleet = fleet or Settings()
    async with AsyncExitStack() as stack:
        resources: Any = None
        if workload.resources is not None:
            context = ResourceContext(settings=settings, fleet=fleet, client=lambda: client)
            resources = await stack.enter_async_context(workload.resources(context))
        if modules := cpu_bound_modules(workload):
            await stack.enter_async_context(running_process_pool(1, modules))
        threads = stack.enter_context(ThreadPool(10))
        worker = build_worker(
            client, workload, resources, threads=threads, versioning=False, **worker_options
        )
        await stack.enter_async_context(worker)
        yield resources
