"""All workloads of this machine as supervised child processes."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import EntryPoint

from temporal_fleet.dev.processes import Environment, Launcher, create_launcher
from temporal_fleet.dev.sources import third_party_modules
from temporal_fleet.dev.supervision import Say, SupervisedWorkload
from temporal_fleet.errors import ExitCode, Problem, SettingsError

DEFAULTS = {
    "FLEET_LOG_FORMAT": "console",
    "FLEET_HEALTH_BIND_ADDRESS": "127.0.0.1",
    "FLEET_EVENT_LOOP_BLOCKED_THRESHOLD_SECONDS": "0.1",
    "FLEET_DRAIN_TIMEOUT_SECONDS": "5",
    "FLEET_DRAIN_MARGIN_SECONDS": "5",
    "FLEET_DRAIN_WARNING_SECONDS": "2",
    "FLEET_CONCURRENCY_PROCESSES": "1",
}
"""Settings of workers under development, where the environment does not say otherwise."""

_KILL_MARGIN = timedelta(seconds=5)


@dataclass(frozen=True)
class Offer:
    """What a running workload offers to other programs."""

    task_queue: str
    """Task queue that it serves."""
    starts: Sequence[str | None]
    """Names of what ``fleet start`` can start; None is the only one, which needs no name."""


class Workers:
    """The running workloads; made by :func:`running_workers`.

    Attributes:
        workloads: The supervised workloads by name.
    """

    def __init__(self, workloads: Mapping[str, SupervisedWorkload], launcher: Launcher) -> None:
        self.workloads = workloads
        self._launcher = launcher
        self._launchers = [launcher]
        self._tasks: list[asyncio.Task[None]] = []

    async def ready(self) -> None:
        """Wait until every workload polls, or has failed to."""
        for workload in self.workloads.values():
            waiting = [
                asyncio.create_task(workload.ready.wait()),
                asyncio.create_task(workload.failed.wait()),
            ]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()

    @property
    def failed(self) -> list[str]:
        """Names of the workloads that do not poll."""
        return [name for name, each in self.workloads.items() if not each.ready.is_set()]

    async def offers(self) -> dict[str, Offer]:
        """Return what each workload that can be imported offers.

        A process of its own asks, as the code of workloads is never imported into this one.
        """
        child = await self._launcher.start(["list", "--output", "json"], {})
        text = (await child.output.read()).decode()
        await child.exited
        found = json.loads(text[text.index("{") :])["workloads"]
        override = os.environ.get("FLEET_WORKER_TASK_QUEUE")
        return {
            each["name"]: Offer(
                override or each["task_queue"], [start["name"] for start in each["starts"]]
            )
            for each in found
        }

    async def renew_launcher(self, modules: Iterable[str]) -> None:
        """Start processes from now on with the newest code of temporal-fleet itself."""
        renewed = await create_launcher(list(modules))
        self._launcher.retire()
        self._launchers.append(renewed)
        self._launcher = renewed

    def supervise(self) -> None:
        """Begin to keep them running."""
        for name, workload in self.workloads.items():
            work = workload.run(lambda: self._launcher)
            self._tasks.append(asyncio.create_task(work, name=f"supervisor of {name}"))

    async def supervision_ended(self) -> None:
        """Wait until a supervisor ends, which only a mistake of ours makes it do; raises that."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    def stop(self) -> None:
        """Drain all; a second call shortens that, a third kills."""
        for task in self._tasks:
            task.cancel()
        for workload in self.workloads.values():
            workload.stop()

    async def stopped(self) -> ExitCode:
        """Wait until all processes have ended.

        Returns:
            ABANDONED when one of them had to give up running work, else OK.
        """
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        codes = await asyncio.gather(*(each.stopped() for each in self.workloads.values()))
        for launcher in self._launchers:
            await launcher.close()
        abandoned = any(code in {ExitCode.ABANDONED, -9} for each in codes for code in each)
        return ExitCode.ABANDONED if abandoned else ExitCode.OK


@asynccontextmanager
async def prepared_launcher(
    entries: Mapping[str, EntryPoint],
) -> AsyncIterator[asyncio.Task[Launcher]]:
    """Prepare what starts the processes of workloads, while the block does other things.

    Args:
        entries: The workloads, as ``discover()`` returns them.
    """
    preparing = asyncio.create_task(create_launcher(third_party_modules(entries.values())))
    try:
        yield preparing
    finally:
        await (await preparing).close()


@asynccontextmanager
async def running_workers(
    entries: Mapping[str, EntryPoint],
    environment: Environment,
    launcher: Awaitable[Launcher],
    *,
    say: Say,
    print_line: Callable[[str, str], None],
    reloads: bool = False,
) -> AsyncIterator[Workers]:
    """Run workloads until the block ends; they are drained then.

    Args:
        entries: The workloads, as ``discover()`` returns them.
        environment: What their processes get beside ours and :data:`DEFAULTS`.
        launcher: From :func:`prepared_launcher`.
        say: Prints what happens to them.
        print_line: Prints a line that the process of a workload wrote: name and line.
        reloads: Whether somebody will tell about changes of their code.

    Raises:
        SettingsError: When one task queue is set for several workloads.
    """
    if len(entries) > 1 and (task_queue := os.environ.get("FLEET_WORKER_TASK_QUEUE")):
        raise SettingsError([_one_task_queue(task_queue)])
    merged = {**{k: v for k, v in DEFAULTS.items() if k not in os.environ}, **environment}
    kill_after = _drain_limit({**merged, **os.environ}) + _KILL_MARGIN
    workers = Workers(
        {
            name: SupervisedWorkload(
                name,
                merged,
                say=say,
                print_line=lambda line, name=name: print_line(name, line),  # type: ignore[misc]
                kill_after=kill_after,
                waits_for_change=reloads,
            )
            for name in entries
        },
        # Who prepares it lets go of it, also when we are cancelled meanwhile.
        await asyncio.shield(launcher),
    )
    workers.supervise()
    try:
        yield workers
    finally:
        workers.stop()
        await workers.stopped()


def _drain_limit(environment: Environment) -> timedelta:
    names = ("FLEET_DRAIN_TIMEOUT_SECONDS", "FLEET_DRAIN_MARGIN_SECONDS")
    # What is not a number is the workers' own error to tell.
    with suppress(ValueError):
        return timedelta(seconds=sum(float(environment[name] or 0) for name in names))
    return timedelta(seconds=60)


def _one_task_queue(task_queue: str) -> Problem:
    return Problem(
        "FLEET_WORKER_TASK_QUEUE",
        f"{task_queue!r} would put all workloads on one task queue",
        "FLEET_WORKER_TASK_QUEUE",
        "Unset it, or choose one workload: fleet dev --workload NAME",
    )
