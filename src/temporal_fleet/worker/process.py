"""The life of one worker process: start, poll, drain, exit.

:meth:`WorkerProcess.run` tells the life in order. What it puts together is opened in
:mod:`temporal_fleet.worker.assembly`; what is decided here is what ends the process, and with which exit code.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import reduce
from typing import Any

import structlog
from temporalio.client import Client
from temporalio.worker import Worker

from temporal_fleet.client.connection import default_identity
from temporal_fleet.errors import ExitCode, FleetError
from temporal_fleet.execution import current_pool
from temporal_fleet.health.state import HealthState, Phase
from temporal_fleet.sdk_internals import evict_workflow
from temporal_fleet.settings import LoadedSettings, Settings
from temporal_fleet.settings.fields import setting_fields
from temporal_fleet.telemetry.logs import configure_logging
from temporal_fleet.telemetry.metrics import Metrics
from temporal_fleet.worker.activity_tracking import ActivityTracker
from temporal_fleet.worker.assembly import Assembly, Parts
from temporal_fleet.worker.drain import Drain, watch_deadlines

log = structlog.get_logger(__name__)


def run_worker(name: str, loaded: LoadedSettings) -> ExitCode:
    """Live the whole life of a worker process for the workload *name*; blocks until it ends.

    Args:
        name: Name of an installed workload.
        loaded: Settings with their provenance, as ``load_settings()`` returns them.

    Returns:
        The exit code. Hand it to :func:`temporal_fleet.leaving.leave`.
    """
    settings = loaded.settings
    configure_logging(
        settings.log,
        workload=name,
        deployment=settings.deployment.name_for(name),
        build_id=settings.deployment.build_id,
    )
    log.info("settings", **_not_default(loaded))
    life = WorkerProcess(name, loaded)
    with asyncio.Runner() as runner:
        code = runner.run(life.run())
    life.drain.finished()
    log.info("worker ended", exit_code=int(code))
    return code


class WorkerProcess:
    """One worker process for one workload.

    Attributes:
        drain: The stop of this process; ``drain.begin(reason)`` starts it from inside.
    """

    def __init__(self, name: str, loaded: LoadedSettings) -> None:
        """Prepare the process; nothing is opened.

        Args:
            name: Name of an installed workload.
            loaded: The settings.
        """
        settings = loaded.settings
        self._began = time.monotonic()
        self._settings = settings
        self._metrics = Metrics(settings, workload=name)
        self._tracker = ActivityTracker(_Outcomes(self._metrics))
        self._health = HealthState()
        self._failure: BaseException | None = None
        self._assembly = Assembly(
            name=name,
            identity=settings.connection.identity or default_identity(name),
            settings=settings,
            tracing_source=loaded.provenance["tracing.otlp_endpoint"],
            metrics=self._metrics,
            tracker=self._tracker,
            health=self._health,
            on_fatal_error=lambda error: self._fail("worker", error),
        )
        self.drain = Drain(settings.drain, self._tracker.describe_running)
        self._metrics.watch_drain(lambda: self.drain.seconds)

    async def run(self) -> ExitCode:
        """Start, poll until a signal or a fatal error, drain, close; returns the exit code."""
        self.drain.install(asyncio.get_running_loop())
        async with AsyncExitStack() as stack:
            try:
                parts = await self._unless_stopped(self._assembly.open(stack))
            except FleetError as error:
                log.error("worker could not start", error=str(error))  # noqa: TRY400 - its text says it all
                return error.exit_code
            except Exception:
                log.exception("worker could not start")
                return ExitCode.STARTUP
            if parts is None:
                log.info("stopped before polling began", reason=self.drain.reason)
                return ExitCode.OK
            await self._poll_until_drained(parts)
            self._enter(Phase.STOPPED)
        return ExitCode.CRASH if self._failure else ExitCode.OK

    async def _unless_stopped(self, opening: Coroutine[Any, Any, Parts]) -> Parts | None:
        """Return what *opening* returns, or None when a signal came first and it was cancelled."""
        opened = asyncio.create_task(opening)
        stopped = asyncio.create_task(self.drain.requested.wait())
        await asyncio.wait({opened, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not opened.done():
            opened.cancel()
            await asyncio.wait({opened})
        return None if opened.cancelled() else opened.result()

    async def _poll_until_drained(self, parts: Parts) -> None:
        """Poll until the drain is asked for, then let running work end."""
        await parts.probe.remember_former_pollers()
        polling = self._guard("worker", parts.worker.run())
        watching = [
            self._guard("readiness", self._become_ready(parts)),
            self._guard("credentials", parts.credentials.run(_swap(parts.worker))),
        ]
        await self.drain.requested.wait()
        self._enter(Phase.DRAINING)
        log.info(
            "draining",
            reason=self.drain.reason,
            running=len(self._tracker.running()),
            drain_timeout_seconds=self._settings.drain.timeout.total_seconds(),
        )
        self._tracker.local_retries.give_back()
        if pool := current_pool():
            pool.drain()
        if parts.threads:
            parts.threads.drain()
        deadlines = watch_deadlines(
            self.drain,
            self._settings.drain,
            self._tracker.running,
            self._metrics.activity_abandoned,
            lambda: self._cancel_local(parts.worker, "drain timeout passed"),
        )
        watching += [
            self._guard("deadlines", deadlines),
            self._guard("second signal", self._cancel_when_shortened(parts.worker)),
        ]
        await parts.worker.shutdown()
        await polling
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching)
        log.info("drained", seconds=round(self.drain.seconds, 3))

    def _guard(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run *work* as a task whose failure is never silent: it ends the process with code 1."""

        async def guarded() -> None:
            try:
                await work
            except asyncio.CancelledError:
                log.debug("task cancelled", task=name)
            except Exception as error:  # noqa: BLE001 - whatever it is, it ends the process and is logged
                self._fail(name, error)

        return asyncio.create_task(guarded(), name=name)

    def _fail(self, name: str, error: BaseException) -> None:
        """Log a fatal error once and begin the drain."""
        if self._failure is error:
            return
        self._failure = error
        log.error("fatal error, worker stops", task=name, exc_info=error)
        if not self.drain.requested.is_set():
            self.drain.begin(f"{name} failed")

    async def _become_ready(self, parts: Parts) -> None:
        """Turn ready once the server sees our pollers, then keep asking and checking."""
        await parts.checks.run_once()
        await parts.probe.confirm_pollers()
        self._enter(Phase.POLLING)
        log.info(
            "polling",
            task_queue=parts.task_queue,
            started_after_seconds=round(time.monotonic() - self._began, 3),
        )
        interval = self._settings.connection.probe_interval
        await asyncio.gather(parts.probe.run(), parts.checks.run(interval))

    async def _cancel_when_shortened(self, worker: Worker) -> None:
        await self.drain.shortened.wait()
        log.warning(
            "second signal, cancelling running activities",
            running=len(self._tracker.running()),
            force_timeout_seconds=self._settings.drain.force_timeout.total_seconds(),
        )
        reason = "second signal during the drain"
        for activity in self._tracker.cancel_all(reason):
            self._metrics.activity_abandoned(activity.activity_type)
        self._cancel_local(worker, reason)

    def _cancel_local(self, worker: Worker, reason: str) -> None:
        self._tracker.cancel_local(reason)
        for run_id in self._tracker.local_retries.waiting():
            log.warning("workflow task of a local activity given up", workflow_run_id=run_id)
            evict_workflow(worker, run_id)

    def _enter(self, phase: Phase) -> None:
        self._health.set_phase(phase)
        self._metrics.set_state(phase)


def _swap(worker: Worker) -> Callable[[Client], None]:
    def take(client: Client) -> None:
        worker.client = client

    return take


class _Outcomes:
    """Hands the outcomes of activities on to the metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self.on_finished = metrics.activity_finished

    def on_started(self, _activity_type: str) -> None:
        """Count nothing: the SDK's own metrics count starts."""


def _not_default(loaded: LoadedSettings) -> dict[str, str]:
    """Return the settings that differ from the defaults or depend on the machine; secrets masked."""
    return {
        path: field.show(reduce(getattr, path.split("."), loaded.settings))
        for path, field in setting_fields(Settings).items()
        if loaded.provenance[path] != "default"
    }
