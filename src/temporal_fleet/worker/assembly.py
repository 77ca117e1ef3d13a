"""Opens everything that a worker needs before it polls, in the order in which it is closed backwards."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from temporalio.runtime import Runtime
from temporalio.worker import Worker

from temporal_fleet.client.connection import Connector, check_namespace
from temporal_fleet.client.credentials import CredentialWatcher
from temporal_fleet.errors import WorkloadError
from temporal_fleet.execution import ThreadPool, running_process_pool
from temporal_fleet.health.checks import HealthChecks
from temporal_fleet.health.probe import ServerProbe, kinds_of
from temporal_fleet.health.server import HealthServer
from temporal_fleet.health.state import HealthState
from temporal_fleet.payloads import data_converter
from temporal_fleet.registration import (
    build_worker,
    check_workload,
    cpu_bound_modules,
    only_cpu_bound,
)
from temporal_fleet.settings import Settings, load_model
from temporal_fleet.telemetry.foreign_logging import take_logging_back
from temporal_fleet.telemetry.logs import configure_logging
from temporal_fleet.telemetry.metrics import Metrics, build_runtime
from temporal_fleet.telemetry.tracing import start_tracing
from temporal_fleet.worker.activity_tracking import ActivityTracker
from temporal_fleet.worker.event_loop import LoopMonitor
from temporal_fleet.worker.options import worker_options
from temporal_fleet.worker.resources import open_resources
from temporal_fleet.workload import ResourceContext, Workload, discover, load_workload

log = structlog.get_logger(__name__)

TRACE_FLUSH_TIMEOUT = timedelta(seconds=3)
"""How long the last spans may take to be sent; well within the default drain margin of 10 s."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What was opened for polling."""

    worker: Worker
    probe: ServerProbe
    credentials: CredentialWatcher
    checks: HealthChecks
    threads: ThreadPool | None
    task_queue: str


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """Makes the parts of one worker process."""

    name: str
    """Name of the installed workload."""
    identity: str
    """Identity of this worker in Temporal."""
    settings: Settings
    """The runtime's settings."""
    tracing_source: str
    """Where the endpoint for traces was found."""
    metrics: Metrics
    tracker: ActivityTracker
    health: HealthState
    on_fatal_error: Callable[[BaseException], None]
    """Called when polling cannot go on; the SDK then stops the worker by itself."""

    async def open(self, stack: AsyncExitStack) -> Parts:
        """Open all that polling needs; *stack* closes it backwards."""
        settings, began = self.settings, time.monotonic()
        health = self._open_health(stack)
        monitor = self._open_loop_monitor(stack, health)
        runtime, core_port = build_runtime(settings, workload=self.name)
        if core_port is not None:
            health.set_core_metrics_port(core_port)
        connecting = asyncio.create_task(self._connect(stack, runtime))
        warming = None
        try:
            # The connection is made by other threads while this one imports the workload.
            await asyncio.sleep(0)
            workload, own_settings = self._load_workload()
            warming = asyncio.create_task(self._open_process_pool(stack, workload))
            credentials = await connecting
            await warming
        except BaseException:
            await _cancelled(connecting, warming)
            raise
        context = ResourceContext(
            settings=own_settings, fleet=settings, client=lambda: credentials.client
        )
        resources = await open_resources(stack, workload, context, began=began)
        take_logging_back(discover()[self.name].module)
        parts = self._assemble(stack, workload, resources, credentials)
        monitor.start()
        # What lives as long as the process is the garbage collector's burden no more, and fewer collections
        # of short-lived protobuf objects cost up to a tenth less CPU per workflow.
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        gc.enable()  # `fleet worker` switches it off for the imports of the start
        return parts

    def _load_workload(self) -> tuple[Workload[Any, Any], Any]:
        """Return the workload, checked, and its own settings."""
        workload = load_workload(self.name)
        take_logging_back(discover()[self.name].module)
        if problems := check_workload(workload, self.settings):
            raise WorkloadError(problems)
        return workload, load_model(workload.settings) if workload.settings else None

    def _open_health(self, stack: AsyncExitStack) -> HealthServer:
        settings, metrics = self.settings, self.metrics
        return stack.enter_context(
            HealthServer(
                settings.health,
                self.health,
                render_metrics=metrics.render if settings.metrics.enabled else None,
                labels=metrics.labels,
                on_restart=metrics.health_server_restarted,
            )
        )

    def _open_loop_monitor(self, stack: AsyncExitStack, health: HealthServer) -> LoopMonitor:
        monitor = LoopMonitor(
            self.settings.event_loop,
            on_heartbeat=lambda _now: health.beat(),
            observe_lag=self.metrics.loop_lag,
            on_blocked=self.metrics.loop_blocked,
        )
        monitor.start_heartbeat()
        stack.callback(monitor.stop)
        return monitor

    async def _connect(self, stack: AsyncExitStack, runtime: Runtime) -> CredentialWatcher:
        tracing = start_tracing(
            self.settings,
            workload=self.name,
            identity=self.identity,
            source=self.tracing_source,
        )
        stack.push_async_callback(asyncio.to_thread, tracing.flush, TRACE_FLUSH_TIMEOUT)
        connector = Connector(
            settings=self.settings,
            runtime=runtime,
            identity=self.identity,
            data_converter=data_converter(self.settings.codec),
            interceptors=tracing.interceptors,
            on_attempt=self.metrics.connect_attempt,
        )
        client = await connector.connect()
        await check_namespace(client)
        proxy = self.settings.connection.proxy_for(self.settings.temporal.address)
        log.info(
            "connected",
            address=self.settings.temporal.address,
            proxy=proxy.address if proxy else "none",
            namespace=client.namespace,
            tls=self.settings.temporal.uses_tls,
            identity=self.identity,
        )
        return CredentialWatcher(connector, client, on_reload=self.metrics.credential_reload)

    async def _open_process_pool(self, stack: AsyncExitStack, workload: Workload[Any, Any]) -> None:
        modules = cpu_bound_modules(workload)
        if not modules:
            return
        pool = await stack.enter_async_context(
            running_process_pool(
                self.settings.concurrency.processes,
                modules,
                initializer=partial(
                    configure_logging,
                    self.settings.log,
                    workload=self.name,
                    deployment=self.settings.deployment.name_for(self.name),
                    build_id=self.settings.deployment.build_id,
                ),
                after_imports=partial(take_logging_back, discover()[self.name].module),
                stop_grace=self.settings.drain.force_timeout / 2,
                on_counted=self.metrics.pool_counts.add,
            )
        )
        self.metrics.watch_process_pool(
            size=lambda: pool.size,
            in_use=lambda: pool.in_use,
            waiting=lambda: pool.waiting,
            restarts=lambda: pool.restarts,
        )

    def _assemble(
        self,
        stack: AsyncExitStack,
        workload: Workload[Any, Any],
        resources: object,
        credentials: CredentialWatcher,
    ) -> Parts:
        """Build the SDK's worker and what watches it."""
        settings = self.settings
        threads = self._thread_pool(stack)
        task_queue = settings.worker.task_queue or workload.default_task_queue
        worker = build_worker(
            credentials.client,
            workload,
            resources,
            task_queue=task_queue,
            threads=threads,
            versioning=settings.deployment.versioning,
            interceptors=[self.tracker],
            after_import=take_logging_back,
            identity=self.identity,
            on_fatal_error=self._fatal,
            **worker_options(
                settings,
                deployment_name=settings.deployment.name_for(self.name),
                only_cpu_bound=only_cpu_bound(workload),
            ),
        )
        return Parts(
            worker=worker,
            probe=ServerProbe(
                settings,
                client=lambda: credentials.client,
                task_queue=task_queue,
                kinds=kinds_of(workload.workflows, workload.activities, workload.nexus_handlers),
                identity=self.identity,
                state=self.health,
            ),
            credentials=credentials,
            checks=HealthChecks(workload.health_checks, resources, self.health),
            threads=threads,
            task_queue=task_queue,
        )

    def _thread_pool(self, stack: AsyncExitStack) -> ThreadPool | None:
        size = self.settings.concurrency.threads
        if size == 0:
            return None
        threads = ThreadPool(size)
        # Never waited for: a thread that hangs is the watchdog's business.
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)
        self.metrics.watch_thread_pool(
            size=lambda: threads.size,
            in_use=lambda: threads.in_use,
            waiting=lambda: threads.waiting,
        )
        return threads

    async def _fatal(self, error: BaseException) -> None:
        self.on_fatal_error(error)


async def _cancelled(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel what still runs and wait for its end; its errors are those of an attempt given up."""
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    for outcome in await asyncio.gather(*running, return_exceptions=True):
        if isinstance(outcome, Exception):
            log.debug("gave up together with the start", error=str(outcome))
