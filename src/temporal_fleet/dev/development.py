"""The story of ``fleet dev``: server, workers, watching, and an orderly end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from types import FrameType
from typing import Any

from temporal_fleet import __version__
from temporal_fleet.dev.lock import DEFAULT_DIRECTORY
from temporal_fleet.dev.processes import Environment
from temporal_fleet.dev.server import EmbeddedServer, embedded_server
from temporal_fleet.dev.sources import (
    changes,
    modules_by_distribution,
    require_watching,
    source_directory,
    sources_of,
    third_party_modules,
    unwatched,
)
from temporal_fleet.dev.terminal import Terminal
from temporal_fleet.dev.workers import Workers, prepared_launcher, running_workers
from temporal_fleet.errors import ExitCode, FleetError, WorkloadNotFoundError
from temporal_fleet.stop_signals import stop_signals
from temporal_fleet.workload import ENTRY_POINT_GROUP, declared_search_attributes, discover

_OURSELVES = "temporal_fleet"


@dataclass(frozen=True, kw_only=True)
class DevOptions:
    """What ``fleet dev`` was asked for."""

    workloads: Sequence[str] = ()
    """Names of the workloads to run; empty = all that are installed."""
    reload: bool = True
    """Whether to restart workloads when their code changes."""
    watch: Sequence[Path] = ()
    """Directories whose changes restart all workloads, beside the source of each."""
    server: str | None = None
    """Address of a server to use; None = start one."""
    port: int | None = None
    """Port of the server that is started; None = 7233 or a free one."""
    ui_port: int | None = None
    """Port of its UI; None = 1000 more or a free one."""
    headless: bool = False
    """Whether the server is started without its UI."""
    reset: bool = False
    """Whether that server forgets the workflows of earlier runs."""
    search_attributes: Sequence[str] = ()
    """Search attributes that the server shall have, each as ``NAME=TYPE``."""


def develop(options: DevOptions) -> ExitCode:
    """Run the server and the workloads until SIGINT, SIGTERM or SIGHUP.

    Returns:
        OK when all was drained; ABANDONED when running work had to be given up.

    Raises:
        FleetError: When something cannot be started, or the server ends by itself.
    """
    logging.basicConfig(format="fleet │ %(message)s", level=logging.WARNING)
    return asyncio.run(_develop(options))


async def _develop(options: DevOptions) -> ExitCode:
    if options.reload:
        require_watching()
    entries = _choose(options.workloads)
    stop = _Stop()
    async with AsyncExitStack() as stack:
        opening = asyncio.create_task(_open(options, entries, stack))
        if not await stop.unless_asked(opening):
            return ExitCode.OK
        server, workers, terminal = opening.result()
        watching = asyncio.Event()
        tasks = [
            asyncio.create_task(workers.supervision_ended()),
            asyncio.create_task(stop.asked.wait()),
        ]
        if options.reload:
            tasks.append(
                asyncio.create_task(_reload(workers, entries, options.watch, terminal, watching))
            )
        if server is not None:
            tasks.append(asyncio.create_task(_fail_with(server)))
        tasks.append(asyncio.create_task(_greet(workers, server, options, terminal, watching)))
        try:
            await _until_over(tasks[:-1])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            terminal.say("draining; press Ctrl-C again to hurry")
            stop.then(workers.stop)
            workers.stop()
            code = await workers.stopped()
        terminal.say("stopped" if code is ExitCode.OK else "stopped; running work was abandoned")
        return code


async def _until_over(tasks: Sequence[asyncio.Task[Any]]) -> None:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


class _Stop:
    """Hears the signals that ask to stop."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self._again: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        # The loop's own handlers end with it, and the process does a moment later.
        for number in stop_signals():
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        with suppress(RuntimeError):  # the loop is closed: everything has ended
            self._loop.call_soon_threadsafe(self._hear)

    def _hear(self) -> None:
        if self.asked.is_set():
            self._again()
        self.asked.set()

    def then(self, again: Callable[[], None]) -> None:
        """Call *again* for every further signal."""
        self._again = again

    async def unless_asked(self, task: asyncio.Task[Any]) -> bool:
        """Wait for a task; returns False when a signal came first, and the task is cancelled then."""
        asked = asyncio.create_task(self.asked.wait())
        await asyncio.wait((task, asked), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
            return False
        return True


def _choose(names: Sequence[str]) -> Mapping[str, EntryPoint]:
    installed = discover()
    missing = [name for name in names if name not in installed]
    if missing or not installed:
        raise WorkloadNotFoundError(
            f"no workload named {', '.join(map(repr, missing))} is installed"
            f"; installed: {', '.join(installed) or 'none'}. "
            f"Install its distribution, which has an entry point in the group {ENTRY_POINT_GROUP!r}"
            if missing
            else "no workload is installed, so there is nothing to run. Install a distribution with "
            f"an entry point in the group {ENTRY_POINT_GROUP!r}"
        )
    return {name: entry for name, entry in installed.items() if not names or name in names}


async def _open(
    options: DevOptions, entries: Mapping[str, EntryPoint], stack: AsyncExitStack
) -> tuple[EmbeddedServer | None, Workers, Terminal]:
    terminal = Terminal(list(entries))
    launcher = await stack.enter_async_context(prepared_launcher(entries))
    server = None
    environment: Environment
    if options.server is None:
        server = await stack.enter_async_context(
            embedded_server(
                DEFAULT_DIRECTORY,
                port=options.port,
                ui_port=options.ui_port,
                headless=options.headless,
                reset=options.reset,
                search_attributes=[
                    *declared_search_attributes(entries),
                    *(_search_attribute(text) for text in options.search_attributes),
                ],
            )
        )
        wanted = server.environment()
        removed = {name: None for name in os.environ if name not in wanted}
        environment = {**removed, "TEMPORAL_CONFIG_FILE": wanted["TEMPORAL_CONFIG_FILE"]}
    else:
        environment = {"TEMPORAL_ADDRESS": options.server}
    workers = await stack.enter_async_context(
        running_workers(
            entries,
            environment,
            launcher,
            say=terminal.say,
            print_line=terminal.print_line,
            reloads=options.reload,
        )
    )
    return server, workers, terminal


def _search_attribute(text: str) -> Any:
    from temporalio.common import SearchAttributeIndexedValueType, SearchAttributeKey

    name, _, kind = text.partition("=")
    makers: dict[str, Any] = {
        "text": SearchAttributeKey.for_text,
        "keyword": SearchAttributeKey.for_keyword,
        "int": SearchAttributeKey.for_int,
        "double": SearchAttributeKey.for_float,
        "bool": SearchAttributeKey.for_bool,
        "datetime": SearchAttributeKey.for_datetime,
        "keywordlist": SearchAttributeKey.for_keyword_list,
    }
    if not name or kind.lower() not in makers:
        kinds = ", ".join(each.name for each in SearchAttributeIndexedValueType)
        raise FleetError(f"--search-attribute {text!r} is not NAME=TYPE; types are {kinds}")
    return makers[kind.lower()](name)


async def _fail_with(server: EmbeddedServer) -> None:
    raise await server.ended()


async def _reload(
    workers: Workers,
    entries: Mapping[str, EntryPoint],
    also: Sequence[Path],
    terminal: Terminal,
    watching: asyncio.Event,
) -> None:
    # In a thread, since metadata of everything installed is read.
    watched, warnings = await asyncio.to_thread(_watched, entries, also)
    for text in warnings:
        terminal.say(text)
    ours = source_directory(_OURSELVES)
    assert ours is not None
    watching.set()
    async for found in changes({**watched, _OURSELVES: [ours]}):
        affected = found
        if core := found.pop(_OURSELVES, None):
            await workers.renew_launcher(third_party_modules(entries.values()))
            affected = {name: [Path(_OURSELVES) / file for file in core] for name in entries}
        for name, files in affected.items():
            workers.workloads[name].change(files)


def _watched(
    entries: Mapping[str, EntryPoint], also: Sequence[Path]
) -> tuple[dict[str, list[Path]], list[str]]:
    """Return the sources of each workload, and what to say about those that are not watched."""
    modules = modules_by_distribution()
    everywhere = [path.resolve() for path in also]
    sources = {name: sources_of(entry, modules) + everywhere for name, entry in entries.items()}
    return sources, list(dict.fromkeys(text for e in entries.values() for text in unwatched(e)))


async def _greet(
    workers: Workers,
    server: EmbeddedServer | None,
    options: DevOptions,
    terminal: Terminal,
    watching: asyncio.Event,
) -> None:
    """Print where everything is, once the workloads poll and changes are seen."""
    await workers.ready()
    if options.reload:
        await watching.wait()
    lines = [f"temporal-fleet {__version__}, Python {sys.version.split()[0]}"]
    if server is None:
        lines.append(f"Temporal server  {options.server}")
    else:
        lines.append(f"Temporal server  {server.address}, database {server.database}")
        lines.append(f"Temporal UI      {server.ui_url or 'off'}")
        if not server.address.endswith(":7233"):
            lines.append(f"for other tools  export TEMPORAL_ADDRESS={server.address}")
    offers = await workers.offers()
    for name, workload in workers.workloads.items():
        where = f"http://127.0.0.1:{workload.health_port}/readyz?verbose"
        state = f"health {where}" if workload.ready.is_set() else "does not run"
        offer = offers.get(name)
        lines.append(f"{name:<16} task queue {offer.task_queue if offer else 'unknown'}, {state}")
        for start in offer.starts if offer else ():
            chosen = f" --start {start}" if start else ""
            lines.append(f"{'':<16} fleet start {name} FILE{chosen}")
    lines.append("Ctrl-C           drains and stops everything")
    for line in lines:
        terminal.say(line)
